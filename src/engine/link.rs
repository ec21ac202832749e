//! Links: which record belongs to which, and what both sides last agreed on.

use super::labels;
use super::plan::Plan;
use super::queue::mark;
use super::references;
use super::shapes::Shapes;
use super::store::{self, Finder, Found, Row, Table};
use crate::log::segments;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use change::image::{self, Value};
use change::shape::{self, Shape};
use merge::{Base, Side};
use pgrx::pg_sys;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Columns of a link partition, in order.
const LAYOUT: usize = 1;
const DELETED_AT: usize = 2;
const KEY: usize = 3;
const REMOTE: usize = 4;
const BASE: usize = 5;
const STANDING: usize = 6;

/// A link as it was found.
#[derive(Clone, Debug)]
pub struct Link<'b> {
    pub tid: pg_sys::ItemPointerData,
    /// The source's key.
    pub key: &'b [u8],
    /// The target's key.
    pub remote: &'b [u8],
    /// Both records are gone, or the delete of one was discarded: nothing is paired any more, the
    /// row only remembers that they were there.
    pub deleted: bool,
    pub base: Option<Base<'b>>,
    /// How its rows stood when they were last asked; see [`super::screen`].
    pub standing: i16,
}

impl<'b> Link<'b> {
    pub fn key_of(&self, side: Side) -> &'b [u8] {
        match side {
            Side::Source => self.key,
            Side::Target => self.remote,
        }
    }
}

/// Where links were last seen, so that most are found without an index. A hint: what lies there is
/// checked to be the link that is looked for.
#[derive(Default)]
pub struct Places {
    known: HashMap<u64, pg_sys::ItemPointerData, BuildHasherDefault<Marked>>,
}

/// Most links whose places are remembered: about 24 bytes each.
const MOST_PLACES: usize = 500_000;

impl Places {
    /// Is it worth reading all links once, before a batch of so many changes?
    pub fn wants_all(&self, changes: usize) -> bool {
        changes >= 20_000 && self.known.len() < changes / 2
    }

    /// Notes where all links of a sync lie, in one pass over them: a tenth of what as many descents
    /// of the index cost.
    pub fn read_all(&mut self, plan: &Plan) {
        if estimate(plan) > MOST_PLACES as u64 {
            return;
        }
        let table = Table::open(store::relation(&partition(plan.id)));
        table.scan(|found| {
            if found.is_null(DELETED_AT) {
                let place = found.tid();
                found.with_bytes(KEY, |key| self.note(mark(Side::Source, key), place));
                if !plan.same_key {
                    found.with_bytes(REMOTE, |remote| self.note(mark(Side::Target, remote), place));
                }
            }
        });
        table.close();
    }

    fn note(&mut self, mark: u64, tid: pg_sys::ItemPointerData) {
        if self.known.len() >= MOST_PLACES {
            self.known.clear();
        }
        self.known.insert(mark, tid);
    }
}

/// Marks are hashes already.
#[derive(Default)]
pub struct Marked(u64);

impl Hasher for Marked {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }
}

/// The links of one sync, open for one transaction.
pub struct Links<'p> {
    plan: &'p Plan,
    places: &'p mut Places,
    table: Table,
    by_key: Finder,
    by_remote: Option<Finder>,
    layout: i64,
    row: Row,
}

/// Where a row lies, as a number that rises with its place.
pub fn place(tid: pg_sys::ItemPointerData) -> u64 {
    let block = u64::from(tid.ip_blkid.bi_hi) << 16 | u64::from(tid.ip_blkid.bi_lo);
    block << 16 | u64::from(tid.ip_posid)
}

/// Name of a sync's partition.
pub fn partition(sync: i32) -> String {
    format!("_link_{sync}")
}

/// Refuses a plan whose keys are paired otherwise than when the sync was made: its links could not be
/// found any more.
///
/// # Errors
/// Says what to do about it.
pub fn check_key(plan: &Plan) -> Result<(), Failure> {
    let name = partition(plan.id);
    if segments::named(&name).is_none() || is_same(&name).is_none_or(|same| same == plan.same_key) {
        return Ok(());
    }
    let [source, target] = &plan.sides;
    Err(Failure {
        sqlstate: "0A000".into(),
        message: format!(
            "the key of {} is no longer paired with the key of {} as when the sync was made",
            source.name, target.name
        ),
        detail: Some("A key column was renamed or replaced, or its mapping was changed; the links between the records are kept by it.".into()),
        hint: Some("Rename the column back, say in \"field_mappings\" which column it is now, or create a new sync and end this one with sync.drop_sync.".into()),
    })
}

/// Do the links of this partition hold one key for both sides? `None`: there are none yet.
pub fn is_same(name: &str) -> Option<bool> {
    if segments::named(&format!("{name}_key")).is_some() {
        return Some(segments::named(&format!("{name}_remote")).is_none());
    }
    // A plan is made as the sync's owner, who may not read links.
    let text = format!("SELECT (remote_id IS NULL)::pg_catalog.text FROM sync.{name} LIMIT 1");
    sql::as_extension(|| sql::one(&text, &[])).map(|same| same == "true")
}

/// Can links be looked up, or are they only being gathered?
pub fn is_indexed(plan: &Plan) -> bool {
    segments::named(&format!("{}_key", partition(plan.id))).is_some()
}

/// Makes the indexes of a sync's links unless they are there: nobody needs them before something is looked up, and
/// a first load is quicker without (DECISIONS D5). In a transaction that may write.
pub fn index(plan: &Plan) {
    if is_indexed(plan) {
        return;
    }
    let name = partition(plan.id);
    sql::as_extension(|| {
        if !plan.same_key {
            sql::query(&format!("CREATE INDEX {name}_remote ON sync.{name} (remote_id)"), &[]);
        }
        sql::query(&format!("CREATE INDEX {name}_key ON sync.{name} (key)"), &[]);
    });
}

/// Is there no link at all, nor was one?
pub fn is_empty(plan: &Plan) -> bool {
    let table = Table::open(store::relation(&partition(plan.id)));
    let empty = table.is_empty();
    table.close();
    empty
}

impl<'p> Links<'p> {
    pub fn open(plan: &'p Plan, places: &'p mut Places) -> Self {
        index(plan);
        let name = partition(plan.id);
        let table = Table::open(store::relation(&name));
        let by_key = table.finder(store::relation(&format!("{name}_key")), 1);
        let by_remote =
            (!plan.same_key).then(|| table.finder(store::relation(&format!("{name}_remote")), 1));
        Self { plan, places, table, by_key, by_remote, layout: plan.base.id(), row: Row::default() }
    }

    pub fn close(self) {
        self.by_key.close();
        if let Some(by_remote) = self.by_remote {
            by_remote.close();
        }
        self.table.close();
    }

    /// The links of many records, one for each key. They are read in the order in which they lie.
    pub fn find_all<'b>(
        &mut self,
        bump: &'b Bump,
        shapes: &mut Shapes,
        keys: &[(Side, &[u8])],
    ) -> Vec<Option<Link<'b>>> {
        let mut order: Vec<(u64, usize)> = keys
            .iter()
            .enumerate()
            .map(|(n, &(side, key))| {
                let known = self.places.known.get(&self.mark(side, key));
                (known.map_or(u64::MAX, |&tid| place(tid)), n)
            })
            .collect();
        order.sort_unstable();
        let mut links = vec![None; keys.len()];
        for (_, n) in order {
            let (side, key) = keys[n];
            links[n] = self.find(bump, shapes, side, key);
        }
        links
    }

    /// The link of the record that has this key on this side. A tombstone is returned only where
    /// nothing living has the key.
    pub fn find<'b>(
        &mut self,
        bump: &'b Bump,
        shapes: &mut Shapes,
        side: Side,
        key: &[u8],
    ) -> Option<Link<'b>> {
        let plan = self.plan;
        let layout = self.layout;
        let mark = self.mark(side, key);
        let mut link: Option<Link<'b>> = None;
        let mut read = |found: &Found| -> Option<Link<'b>> {
            let key = found.bytes(bump, KEY)?;
            let remote = found.bytes(bump, REMOTE).unwrap_or(key);
            let deleted = !found.is_null(DELETED_AT);
            let base = if deleted {
                None
            } else {
                found
                    .bytes(bump, BASE)
                    .and_then(|b| decode(bump, plan, shapes, found.int8(LAYOUT), layout, b))
            };
            let standing = if found.is_null(STANDING) { 0 } else { found.int2(STANDING) };
            Some(Link { tid: found.tid(), key, remote, deleted, base, standing })
        };
        if let Some(&place) = self.places.known.get(&mark) {
            self.table.at(place, |found| link = read(found));
            if let Some(found) = &link
                && found.key_of(side) == key
                && !found.deleted
            {
                return link;
            }
            link = None;
        }
        let finder = self.finder(side);
        finder.each(key, |found| {
            link = read(found);
            link.as_ref().is_none_or(|l| l.deleted)
        });
        if let Some(found) = &link {
            self.places.note(mark, found.tid);
        }
        link
    }

    /// Is there a link, living or not, that has one of these keys on this side? They are in their order. Keys beyond
    /// all that are known, which is what a load reads as a rule, cost one look.
    pub fn any(&mut self, side: Side, keys: &[&[u8]]) -> bool {
        let Some(first) = keys.first() else { return false };
        let same_key = self.plan.same_key;
        let column = if side == Side::Source || same_key { KEY } else { REMOTE };
        let finder = self.finder(side);
        let mut beyond = true;
        finder.last(|found| found.with_bytes(column, |last| beyond = *first > last));
        if beyond {
            return false;
        }
        let mut found = false;
        for key in keys {
            finder.each(key, |_| {
                found = true;
                false
            });
        }
        found
    }

    /// How many of these keys of the source have a living link.
    pub fn living(&mut self, keys: &[&[u8]]) -> usize {
        let finder = self.finder(Side::Source);
        let is_living = |key: &&&[u8]| {
            let mut living = false;
            finder.each(key, |found| {
                living = found.is_null(DELETED_AT);
                !living
            });
            living
        };
        keys.iter().filter(is_living).count()
    }

    /// Writes a link: a new one, or over the one found.
    pub fn put(
        &mut self,
        over: Option<&Link<'_>>,
        key: &[u8],
        remote: &[u8],
        base: &Base<'_>,
        standing: i16,
    ) {
        let mut row = std::mem::take(&mut self.row);
        let lengths = self.plan.base.lengths();
        columns(&mut row, self.plan, &lengths, self.layout, key, remote, base);
        row.datum((standing != 0).then(|| pg_sys::Datum::from(standing)));
        let tid = self.write(over, row);
        self.places.note(self.mark(Side::Source, key), tid);
        if !self.plan.same_key {
            self.places.note(self.mark(Side::Target, remote), tid);
        }
        if over.is_none_or(|link| link.deleted || link.key != key || link.remote != remote) {
            references::arrived(self.plan.id, key, remote);
        }
    }

    /// Looks links up by the key that they have on this side.
    fn finder(&mut self, side: Side) -> &mut Finder {
        match (side, &mut self.by_remote) {
            (Side::Target, Some(by_remote)) => by_remote,
            _ => &mut self.by_key,
        }
    }

    /// By what a link's place is remembered.
    fn mark(&self, side: Side, key: &[u8]) -> u64 {
        mark(if self.plan.same_key { Side::Source } else { side }, key)
    }

    /// Notes that the records are no longer paired, and what there is to remember of the one that stays.
    pub fn bury(&mut self, link: &Link<'_>, standing: i16) {
        let mut row = std::mem::take(&mut self.row);
        let now = crate::capture::row::now();
        row.datum(Some(pg_sys::Datum::from(self.plan.id)))
            .datum(Some(pg_sys::Datum::from(self.layout)))
            .datum(Some(pg_sys::Datum::from(now)))
            .bytes(Some(link.key))
            .bytes((!self.plan.same_key).then_some(link.remote))
            .datum(None)
            .datum((standing != 0).then(|| pg_sys::Datum::from(standing)));
        self.write(Some(link), row);
    }

    fn write(&mut self, over: Option<&Link<'_>>, mut row: Row) -> pg_sys::ItemPointerData {
        let tid = match over {
            Some(link) => self.table.update(link.tid, &mut row),
            None => self.table.insert(&mut row),
        };
        row.clear();
        self.row = row;
        tid
    }
}

/// Says by the links of a sync which record of its other side belongs to one of this.
pub struct Translator {
    table: Table,
    by_key: Finder,
    by_remote: Option<Finder>,
}

impl Translator {
    /// `None`: that sync has no links yet that could be looked up.
    pub fn open(sync: i32) -> Option<Self> {
        let name = partition(sync);
        let by_key = segments::named(&format!("{name}_key"))?;
        let table = Table::open(segments::named(&name)?);
        let by_remote = segments::named(&format!("{name}_remote")).map(|i| table.finder(i, 1));
        Some(Self { by_key: table.finder(by_key, 1), by_remote, table })
    }

    /// The key on the other side of the record that has this key on this side.
    pub fn other<'b>(&mut self, bump: &'b Bump, side: Side, key: &[u8]) -> Option<&'b [u8]> {
        let (finder, column) = match (side, &mut self.by_remote) {
            (Side::Source, Some(_)) => (&mut self.by_key, REMOTE),
            (Side::Target, Some(by_remote)) => (by_remote, KEY),
            // Both sides have the same key.
            (_, None) => (&mut self.by_key, KEY),
        };
        let mut other = None;
        finder.each(key, |found| {
            if found.is_null(DELETED_AT) {
                other = found.bytes(bump, column);
            }
            other.is_none()
        });
        other
    }

    pub fn close(self) {
        self.by_key.close();
        if let Some(by_remote) = self.by_remote {
            by_remote.close();
        }
        self.table.close();
    }
}

/// New links, written many at a time.
pub struct Writer<'p> {
    plan: &'p Plan,
    table: store::Inserter,
    layout: i64,
    lengths: Vec<i16>,
    row: Row,
}

impl<'p> Writer<'p> {
    pub fn open(plan: &'p Plan) -> Self {
        let table = store::Inserter::open(store::relation(&partition(plan.id)));
        let lengths = plan.base.lengths();
        Self { plan, table, layout: plan.base.id(), lengths, row: Row::default() }
    }

    /// The keys of source and target, and what is agreed on.
    pub fn add(&mut self, key: &[u8], remote: &[u8], base: &Base<'_>) {
        columns(&mut self.row, self.plan, &self.lengths, self.layout, key, remote, base);
        self.row.datum(None);
        self.table.add(&mut self.row);
        self.row.clear();
    }

    pub fn finish(self) {
        self.table.finish();
    }
}

/// The columns of a living link but the last.
fn columns(
    row: &mut Row,
    plan: &Plan,
    lengths: &[i16],
    layout: i64,
    key: &[u8],
    remote: &[u8],
    base: &Base<'_>,
) {
    let mut image = Vec::with_capacity(256);
    encode_as(plan, lengths, base, &mut image);
    row.datum(Some(pg_sys::Datum::from(plan.id)))
        .datum(Some(pg_sys::Datum::from(layout)))
        .datum(None)
        .bytes(Some(key))
        .bytes((!plan.same_key).then_some(remote))
        .bytes(Some(&image));
}

/// The source's key and the target's.
type Keys = (Vec<u8>, Vec<u8>);

/// What [`both_keys`] reads of a link.
const BOTH_KEYS: &str =
    "pg_catalog.encode(key, 'hex'), pg_catalog.encode(COALESCE(remote_id, key), 'hex')";

fn both_keys(row: &[Option<String>]) -> Option<Keys> {
    Some((sql::from_hex(row[0].as_deref()?)?, sql::from_hex(row[1].as_deref()?)?))
}

/// The keys of source and target of the living link that has this key on this side, for those who have
/// no plan at hand.
pub fn keys(sync: i32, side: Side, key: &[u8]) -> Option<Keys> {
    let name = partition(sync);
    // Where both sides have the same key there is no key of the target's own.
    let same = is_same(&name)?;
    let column = if side == Side::Source || same { "key" } else { "remote_id" };
    let rows = sql::read(
        &format!("SELECT {BOTH_KEYS} FROM sync.{name} WHERE {column} = $1 AND deleted_at IS NULL"),
        &[Arg::Bytes(key)],
    );
    both_keys(rows.first()?)
}

/// The image of a base.
pub fn encode(plan: &Plan, base: &Base<'_>, out: &mut Vec<u8>) {
    encode_as(plan, &plan.base.lengths(), base, out);
}

/// The same for many, whose lengths are asked for once.
fn encode_as(plan: &Plan, lengths: &[i16], base: &Base<'_>, out: &mut Vec<u8>) {
    let mut values = vec![Value::Absent; plan.base.columns.len()];
    for (field, places) in plan.base_places.iter().enumerate() {
        for side in Side::BOTH {
            if let Some(place) = places[side as usize]
                && values[place] == Value::Absent
            {
                values[place] = base.side(side)[field];
            }
        }
        if let [Some(source), Some(target)] = *places
            && source != target
            && plan.fields[field].is_copied()
            && values[source] == values[target]
        {
            values[target] = Value::Absent;
        }
    }
    let mut labelled: Vec<(usize, Vec<u8>)> = Vec::new();
    for (n, value) in values.iter().enumerate() {
        if let (Some(_), Value::Bytes(number)) = (plan.base_enums[n], value) {
            labelled.push((n, labels::with_label(number)));
        }
    }
    for (n, bytes) in &labelled {
        values[*n] = Value::Bytes(bytes);
    }
    image::encode(&values, lengths, out);
}

/// Reads a base image. In one of an older layout each column is looked for; a field that it lacks was not synced then, and
/// one of another type counts as never agreed on.
pub fn decode<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut Shapes,
    layout: i64,
    current: i64,
    bytes: &'b [u8],
) -> Option<Base<'b>> {
    let mut values = Vec::new();
    if layout == current {
        image::decode(bytes, &plan.base.lengths(), &mut values).ok()?;
    } else {
        let shape = shapes.get(layout)?;
        let mut old = Vec::new();
        image::decode(bytes, &shape.lengths(), &mut old).ok()?;
        values = plan
            .base
            .columns
            .iter()
            .map(|c| match place_in(plan, &shape, c) {
                None => Value::Absent,
                Some(p) if shape.columns[p].type_oid == c.type_oid => old[p],
                Some(_) => Value::Marker,
            })
            .collect();
    }
    // What is alike is stored once.
    for (field, places) in plan.fields.iter().zip(&plan.base_places) {
        if let [Some(source), Some(target)] = *places
            && values[target] == Value::Absent
            && field.is_copied()
        {
            values[target] = values[source];
        }
    }
    for (n, value) in values.iter_mut().enumerate() {
        if let (Some(enum_type), Value::Bytes(stored)) = (plan.base_enums[n], *value) {
            *value = labels::number_here(enum_type, stored)
                .map_or(Value::Marker, |number| Value::Bytes(bump.alloc_slice_copy(&number)));
        }
    }
    let side = |side: Side| {
        plan.base_places
            .iter()
            .map(|p| p[side as usize].map_or(Value::Null, |p| values[p]))
            .collect()
    };
    Some(Base { source: side(Side::Source), target: side(Side::Target) })
}

/// How the names of the source's columns begin in a base.
const OF_SOURCE: &str = "source.";

/// Where a column of the base lies in an older layout.
fn place_in(plan: &Plan, old: &Shape, column: &shape::Column) -> Option<usize> {
    let is_of_source = |column: &shape::Column| column.name.starts_with(OF_SOURCE);
    let of_source = is_of_source(column);
    let same_table =
        if of_source { old.relation == plan.base.relation } else { old.leaf == plan.base.leaf };
    let side = if of_source { Side::Source } else { Side::Target };
    let here = |attnum: i16| plan.side(side).numbers.contains(&attnum);
    let attnum = if same_table { column.attnum } else { 0 };
    old.place_of(&column.name, attnum, here, |c| is_of_source(c) == of_source)
}

/// The keys of both sides of the next living links, in the order of the source's.
///
/// # Errors
/// What reading them raised.
pub fn after(plan: &Plan, key: &[u8], limit: usize) -> Result<Vec<Keys>, Failure> {
    transaction(|| Ok(next(plan, key, limit)))
}

/// The same for who is in a transaction.
pub fn next(plan: &Plan, key: &[u8], limit: usize) -> Vec<Keys> {
    let name = partition(plan.id);
    let text = format!(
        "SELECT {BOTH_KEYS} FROM sync.{name}
          WHERE deleted_at IS NULL AND key > $1 ORDER BY key LIMIT {limit}"
    );
    let rows = sql::as_extension(|| sql::read(&text, &[Arg::Bytes(key)]));
    rows.iter().filter_map(|row| both_keys(row)).collect()
}

/// How many living links there are.
pub fn count(plan: &Plan) -> u64 {
    let mut links = 0;
    let table = Table::open(store::relation(&partition(plan.id)));
    table.scan(|found| links += u64::from(found.is_null(DELETED_AT)));
    table.close();
    links
}

/// Number of living links: counted where they are few, else as the planner's statistics have it.
pub fn estimate(plan: &Plan) -> u64 {
    let name = partition(plan.id);
    sql::one(
        &format!(
            "SELECT CASE WHEN pg_catalog.pg_relation_size(c.oid) < 1048576
                         THEN (SELECT pg_catalog.count(*) FROM sync.{name} WHERE deleted_at IS NULL)
                         ELSE GREATEST(c.reltuples::pg_catalog.int8, pg_catalog.pg_relation_size(c.oid) / 400) END
               FROM pg_catalog.pg_class c WHERE c.oid = $1"
        ),
        &[Arg::Oid(store::relation(&name))],
    )
    .and_then(|n| n.parse().ok())
    .unwrap_or(0)
}
