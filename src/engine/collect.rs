//! Step 1: what a stretch of a batch says of each record of each side. Changes of one key are
//! coalesced: only the last image counts, because it is compared with the base and not with the
//! image before it.

use super::plan::{Column, Plan};
use super::shapes::Shapes;
use crate::capture::row;
use crate::log::batch::{Entry, Images};
use bumpalo::Bump;
use change::image::{self, Value};
use change::shape::Shape;
use foldhash::{HashMap, HashMapExt};
use merge::Side;
use std::rc::Rc;

/// What is known of one side of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<'b> {
    /// Nothing happened that we know of.
    Nothing,
    /// Something happened; the row has to be read.
    Unread,
    Gone,
    /// The row, one value a column of the plan's table.
    Row(&'b [Value<'b>]),
}

/// What happened to one key of one side.
#[derive(Clone, Debug)]
pub struct Half<'b> {
    pub side: Side,
    pub key: &'b [u8],
    pub seen: Seen<'b>,
    /// When the last change was captured (microseconds since 2000-01-01).
    pub at: i64,
    /// The key this row had before the batch, when its key was changed.
    pub before: Option<&'b [u8]>,
    /// The last change took the row away from this key, whatever the row is read to be now.
    pub left: bool,
    /// All changes came from this sync itself.
    pub echo: bool,
    /// Who applied the last of them, if no user made any; 0: a user did, or nobody knows.
    pub origin: i32,
    /// Look at the other side's row too, whatever the link says.
    pub both: bool,
    /// The row was deleted and made anew.
    pub remade: bool,
    /// What a record that is gone held last, one value a column, where that is told.
    pub last: Option<&'b [Value<'b>]>,
    /// The changes it was made of: numbers of entries.
    pub entries: Vec<usize>,
}

impl<'b> Half<'b> {
    /// A record that has to be read on this side, and on the other if it is linked.
    pub fn unread(side: Side, key: &'b [u8], at: i64) -> Self {
        Self {
            side,
            key,
            seen: Seen::Unread,
            at,
            before: None,
            left: false,
            echo: false,
            origin: 0,
            both: true,
            remade: false,
            last: None,
            entries: Vec::new(),
        }
    }

    /// One change more: what came of our own write is later than no user's edit.
    fn note_time(&mut self, at: i64, echo: bool) {
        if self.echo || !echo {
            self.at = at;
        }
        self.echo &= echo;
    }
}

/// Whole-table events among the changes.
#[derive(Clone, Debug, PartialEq)]
pub struct TableEvent {
    pub side: Side,
    /// [`row::TRUNCATE`] or [`row::BYPASS`].
    pub op: u8,
}

/// What a stretch of changes means for one sync.
#[derive(Default)]
pub struct Collected<'b> {
    pub halves: Vec<Half<'b>>,
    pub events: Vec<TableEvent>,
}

/// How the columns of a shape lie in a plan's table: for each column of the plan its place in the
/// image. `None`: the image lacks one, or holds it as another type, so the row has to be read.
struct Reading {
    lengths: Vec<i16>,
    places: Option<Vec<usize>>,
    key: Option<Vec<usize>>,
    key_lengths: Vec<i16>,
    /// The columns of the image whose values travel to the other side.
    travelling: Vec<usize>,
    /// The table the rows lie in.
    leaf: u32,
}

/// How images of a shape are read; see [`Collector::travelling`].
pub struct Travelling(Rc<Reading>);

impl Travelling {
    pub fn columns(&self) -> &[usize] {
        &self.0.travelling
    }

    /// The key of an image's row.
    pub fn key_of(&self, image: &[u8]) -> Option<Vec<u8>> {
        let mut values = Vec::new();
        image::decode(image, &self.0.lengths, &mut values).ok()?;
        let places = self.0.key.as_ref()?;
        image::encode_key(places.iter().map(|&p| values[p]), &self.0.key_lengths)
    }
}

/// Turns changes into halves; keeps what it learned of shapes for one plan.
pub struct Collector {
    readings: HashMap<i64, Option<(Side, Rc<Reading>)>>,
}

impl Collector {
    pub fn new() -> Self {
        Self { readings: HashMap::new() }
    }

    /// Which side of the sync a change belongs to, if any.
    pub fn side_of(&mut self, plan: &Plan, shapes: &mut Shapes, shape: i64) -> Option<Side> {
        self.reading(plan, shapes, shape).map(|r| r.0)
    }

    /// The side of a shape, and which columns of its images travel to the other side.
    pub fn travelling(
        &mut self,
        plan: &Plan,
        shapes: &mut Shapes,
        shape: i64,
    ) -> Option<(Side, Travelling)> {
        let (side, reading) = self.reading(plan, shapes, shape)?;
        plan.captured(side).then_some((side, Travelling(reading)))
    }

    fn reading(
        &mut self,
        plan: &Plan,
        shapes: &mut Shapes,
        id: i64,
    ) -> Option<(Side, Rc<Reading>)> {
        if let Some(known) = self.readings.get(&id) {
            return known.clone();
        }
        // One that is not there is not remembered: it may come.
        let shape = shapes.get(id)?;
        let side = Side::BOTH.into_iter().find(|&s| plan.side(s).oid.to_u32() == shape.relation);
        let found = side.map(|side| (side, Rc::new(reading(&shape, plan, side))));
        self.readings.insert(id, found.clone());
        found
    }

    /// Coalesces the changes that concern the sync. `unread` says for which entries the image must
    /// not be trusted, because the row has been read at a later moment already.
    pub fn collect<'b>(
        &mut self,
        bump: &'b Bump,
        plan: &Plan,
        shapes: &mut Shapes,
        entries: &[Entry],
        images: &Images,
        unread: &dyn Fn(&Entry, Side, &[u8]) -> bool,
    ) -> Collected<'b> {
        let mut collected = Collected::default();
        let mut places: HashMap<(Side, &'b [u8]), usize> = HashMap::new();
        let mut values = Vec::new();
        // The last delete of each transaction: PostgreSQL moves a row to another partition by a delete
        // and an insert right after it, in one command.
        let mut deleted: HashMap<u64, (u32, u32, &'b [u8])> = HashMap::new();
        for (n, entry) in entries.iter().enumerate().take(images.count()) {
            let Some((side, reading)) = self.reading(plan, shapes, entry.shape) else { continue };
            if !plan.captured(side) {
                continue;
            }
            if entry.op == row::TRUNCATE || entry.op == row::BYPASS {
                collected.events.push(TableEvent { side, op: entry.op });
                continue;
            }
            let echo = entry.origin == plan.origin(side);
            let mut read = |bytes: Option<&[u8]>| -> Option<(Option<&'b [u8]>, Seen<'b>)> {
                let bytes = bump.alloc_slice_copy(bytes?);
                image::decode(bytes, &reading.lengths, &mut values).ok()?;
                let key = reading.key.as_ref().and_then(|places| {
                    image::encode_key(places.iter().map(|&p| values[p]), &reading.key_lengths)
                });
                let key = key.map(|k| &*bump.alloc_slice_copy(&k));
                let row = match &reading.places {
                    Some(places) if places.iter().all(|&p| values[p] != Value::Marker) => {
                        Seen::Row(bump.alloc_slice_fill_iter(places.iter().map(|&p| values[p])))
                    }
                    _ => Seen::Unread,
                };
                Some((key, row))
            };
            let old = read(images.old(n));
            let new = read(images.new(n));
            let old_key = old.as_ref().and_then(|o| o.0);
            let new_key = new.as_ref().and_then(|o| o.0);
            let mut put = |key: &'b [u8], seen: Seen<'b>, before: Option<&'b [u8]>| {
                let left = seen == Seen::Gone;
                let seen = if unread(entry, side, key) { Seen::Unread } else { seen };
                match places.get(&(side, key)) {
                    Some(&place) => {
                        let half: &mut Half<'b> = &mut collected.halves[place];
                        half.seen = follow(bump, &half.seen, seen);
                        half.remade |= half.left && !left;
                        half.left = left;
                        half.note_time(entry.at, echo);
                        half.origin = later_origin(half.origin, entry.origin);
                        half.entries.push(n);
                        if half.before.is_none() {
                            half.before = before;
                        }
                    }
                    None => {
                        places.insert((side, key), collected.halves.len());
                        collected.halves.push(Half {
                            side,
                            key,
                            seen,
                            at: entry.at,
                            before,
                            left,
                            echo,
                            origin: entry.origin,
                            both: false,
                            remade: false,
                            last: None,
                            entries: vec![n],
                        });
                    }
                }
            };
            let left = if deleted.is_empty() { None } else { deleted.remove(&entry.xid) };
            // The key that the row had before, where it was changed.
            let from = match (entry.op, old_key, new_key, left) {
                (row::UPDATE, Some(old), Some(key), _) if old != key => {
                    put(old, Seen::Gone, None);
                    Some(old)
                }
                (row::INSERT, _, Some(key), Some((command, leaf, old)))
                    if command == entry.command && leaf != reading.leaf && old != key =>
                {
                    Some(old)
                }
                _ => None,
            };
            match (entry.op, old_key, new_key) {
                (row::DELETE, Some(key), _) => {
                    put(key, Seen::Gone, None);
                    deleted.insert(entry.xid, (entry.command, reading.leaf, key));
                }
                (row::INSERT | row::UPDATE, _, Some(key)) => {
                    let row = new.map_or(Seen::Unread, |n| n.1);
                    match from {
                        Some(old) => {
                            let row = if unread(entry, side, key) { Seen::Unread } else { row };
                            // Where the row began, if it was renamed more than once.
                            let first = collected_before(&places, &collected.halves, side, old)
                                .unwrap_or(old);
                            rename(
                                &mut places,
                                &mut collected.halves,
                                entry,
                                side,
                                echo,
                                n,
                                key,
                                row,
                                Some(first),
                            );
                        }
                        None => put(key, row, None),
                    }
                }
                // An image whose key cannot be read says nothing about which row it was: the table
                // is reconciled.
                _ => collected.events.push(TableEvent { side, op: row::BYPASS }),
            }
        }
        // A name that the row only passed through says nothing of the record: the name it has now does.
        for half in collected.halves.iter_mut().filter(|h| h.left) {
            half.before = None;
        }
        collected
    }
}

fn collected_before<'b>(
    places: &HashMap<(Side, &'b [u8]), usize>,
    halves: &[Half<'b>],
    side: Side,
    key: &'b [u8],
) -> Option<&'b [u8]> {
    places.get(&(side, key)).and_then(|&p| halves[p].before)
}

#[allow(clippy::too_many_arguments)]
fn rename<'b>(
    places: &mut HashMap<(Side, &'b [u8]), usize>,
    halves: &mut Vec<Half<'b>>,
    entry: &Entry,
    side: Side,
    echo: bool,
    n: usize,
    key: &'b [u8],
    seen: Seen<'b>,
    before: Option<&'b [u8]>,
) {
    if let Some(&place) = places.get(&(side, key)) {
        let half = &mut halves[place];
        half.seen = seen;
        half.left = false;
        half.note_time(entry.at, echo);
        half.origin = later_origin(half.origin, entry.origin);
        half.before = before.filter(|b| *b != key);
        half.entries.push(n);
    } else {
        places.insert((side, key), halves.len());
        halves.push(Half {
            side,
            key,
            seen,
            at: entry.at,
            before,
            left: false,
            echo,
            origin: entry.origin,
            both: false,
            remade: false,
            last: None,
            entries: vec![n],
        });
    }
}

/// Who applied two changes, if no user made either.
fn later_origin(before: i32, now: i32) -> i32 {
    if before == 0 { 0 } else { now }
}

/// The later of two sightings of a row. A value that the later image leaves out is the earlier's.
fn follow<'b>(bump: &'b Bump, before: &Seen<'b>, now: Seen<'b>) -> Seen<'b> {
    match (before, now) {
        (Seen::Row(before), Seen::Row(now)) if now.contains(&Value::Absent) => {
            let later = |(&now, &before)| if now == Value::Absent { before } else { now };
            Seen::Row(bump.alloc_slice_fill_iter(now.iter().zip(*before).map(later)))
        }
        (Seen::Unread, Seen::Row(now)) if now.contains(&Value::Absent) => Seen::Unread,
        (_, now) => now,
    }
}

fn reading(shape: &Shape, plan: &Plan, side: Side) -> Reading {
    let table = plan.side(side);
    // A partition numbers its columns in its own way.
    let same_table = shape.leaf == shape.relation && shape.relation == table.oid.to_u32();
    let here = |attnum: i16| table.numbers.contains(&attnum);
    let place = |column: &Column| {
        let attnum = if same_table { column.attnum } else { 0 };
        let place = shape.place_of(&column.name, attnum, here, |_| true)?;
        let c = &shape.columns[place];
        let type_oids = [column.type_oid.to_u32(), column.base_type.to_u32()];
        (type_oids.contains(&c.type_oid) && c.length == column.length).then_some(place)
    };
    Reading {
        lengths: shape.lengths(),
        places: table.columns.iter().map(place).collect(),
        key: table.key_columns().map(place).collect(),
        key_lengths: table.key_lengths(),
        travelling: plan
            .fields
            .iter()
            .filter(|field| field.how[side as usize].is_some())
            .filter_map(|field| place(&table.columns[field.column[side as usize]?]))
            .collect(),
        leaf: shape.leaf,
    }
}
