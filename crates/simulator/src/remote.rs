//! The other system's side: what is to leave is written down first, calls are answered late, twice or never, and what
//! changes there is asked for.

use crate::bug::Bug;
use crate::case::Fate;
use crate::engine::{Known, Seen, Sync};
use crate::value::{Held, as_value, held, id};
use crate::world::{Record, World};
use merge::{Base, Rule, Side, Write};
use std::collections::{BTreeMap, BTreeSet};

/// What has been decided to be written there.
#[derive(Clone, Debug)]
pub(crate) struct Intent {
    pub key: u32,
    pub write: Write,
    pub sent: Vec<Option<Held>>,
    pub meant: Option<Base<'static>>,
    /// When the row was changed.
    pub at: i64,
    /// It left, and nobody knows what became of it.
    pub lost: bool,
    /// What nobody knows: it was carried out.
    pub done: bool,
}

/// The answer to a question for changes.
struct Page {
    records: BTreeMap<u32, Record>,
    /// When it was asked for.
    asked: u64,
    mark: i64,
}

pub(crate) struct Remote {
    pub side: Side,
    /// Written down before they leave; and, in memory, those that wait to leave.
    pub intents: Vec<Intent>,
    /// Keys of which something is on its way.
    pub lanes: BTreeSet<u32>,
    /// Records to be read.
    pub again: BTreeSet<u32>,
    mark: i64,
    page: Option<Page>,
    /// Counts what was settled, and when each record was last.
    moment: u64,
    settled: BTreeMap<u32, u64>,
    /// Values that were written over by a call whose answer was lost: nobody can know of them.
    pub unknown: Vec<u32>,
    /// Records that were made by a call whose answer was lost, and deleted there before that was found out: they are made
    /// once more.
    pub made_again: BTreeSet<u32>,
}

/// How far behind the newest change it is asked from: clocks and commits are not that exact.
const OVERLAP: i64 = 40;

impl Remote {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            intents: Vec::new(),
            lanes: BTreeSet::new(),
            again: BTreeSet::new(),
            mark: i64::MIN,
            page: None,
            moment: 0,
            settled: BTreeMap::new(),
            unknown: Vec::new(),
            made_again: BTreeSet::new(),
        }
    }

    pub(crate) fn intend(&mut self, intent: Intent) {
        self.lanes.insert(intent.key);
        self.intents.push(intent);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.intents.is_empty() && self.again.is_empty() && self.page.is_none()
    }
}

impl Sync {
    /// The worker is started anew: what it had in memory is gone, what it had written down is not.
    pub(crate) fn restart(&mut self, bug: Option<Bug>) {
        let Some(remote) = &mut self.remote else { return };
        remote.page = None;
        remote.settled.clear();
        for intent in &mut remote.intents {
            // Whether it had left is not known.
            intent.lost = true;
        }
        if bug == Some(Bug::ForgottenIntents) {
            remote.intents.clear();
        }
        remote.lanes = remote.intents.iter().map(|intent| intent.key).collect();
    }

    /// The oldest call leaves, and this becomes of it; one of which nobody knows is looked up first.
    pub(crate) fn call(&mut self, world: &mut World, fate: Fate) {
        let Some(remote) = &mut self.remote else { return };
        if remote.intents.is_empty() {
            return;
        }
        let intent = remote.intents.remove(0);
        let side = self.spec.sides[remote.side as usize];
        if intent.lost && world.bug != Some(Bug::BlindRepeat) {
            self.recover(world, intent);
            return;
        }
        if fate == Fate::LostBefore {
            remote.intents.push(Intent { lost: true, ..intent });
            return;
        }
        let before = world.row(side, intent.key).cloned();
        let done = match &intent.write {
            Write::Update(fields) => match &before {
                Some(row) => {
                    let mut row = row.clone();
                    for &field in fields {
                        if let Some(value) = intent.sent[field] {
                            row[field] = value;
                        }
                    }
                    world.writes += 1;
                    world.put_there(side, intent.key, Some(row));
                    true
                }
                None => false,
            },
            Write::Insert => {
                // Somebody has made it there since it was last asked for.
                remote.unknown.extend(before.iter().flatten().flatten().map(|value| id(*value)));
                let row = intent.sent.iter().map(|value| value.unwrap_or(None)).collect();
                world.writes += 1;
                world.put_there(side, intent.key, Some(row));
                true
            }
            Write::Delete => {
                if before.is_some() {
                    world.writes += 1;
                    world.put_there(side, intent.key, None);
                }
                true
            }
            Write::Nothing => true,
        };
        if fate == Fate::LostAfter {
            let known = self.links.get(&intent.key).cloned().flatten();
            let remote_side = remote.side;
            let over = before.iter().flatten().enumerate().filter_map(|(field, value)| {
                let agreed = known.as_ref().map(|base| base.side(remote_side)[field]);
                (agreed != Some(as_value(*value))).then_some(id((*value)?))
            });
            remote.unknown.extend(over);
            remote.intents.push(Intent { lost: true, done: true, ..intent });
            return;
        }
        self.answered(world, intent, before, done);
    }

    /// It was carried out, over what was there before.
    fn answered(
        &mut self,
        world: &mut World,
        intent: Intent,
        before: Option<Vec<Held>>,
        done: bool,
    ) {
        let key = intent.key;
        let Some(remote) = &mut self.remote else { return };
        let side = remote.side;
        remote.lanes.remove(&key);
        remote.moment += 1;
        remote.settled.insert(key, remote.moment);
        if !done {
            // The record is not there any more: its delete is found by reading it.
            remote.again.insert(key);
            self.queue.insert(key, intent.at);
            return;
        }
        let old = self.links.get(&key).cloned().flatten();
        match (&intent.write, &intent.meant) {
            (Write::Delete, _) => {
                if let (Some(before), Some(old)) = (&before, &old) {
                    self.note_deleted_over(key, before, old, side);
                }
                self.links.insert(key, None);
            }
            (Write::Update(fields), Some(meant)) => {
                let mut base = old.clone().unwrap_or_else(|| meant.clone());
                let mut restored = Vec::new();
                for &field in fields {
                    base.set(Side::Source, field, meant.source[field]);
                    base.set(Side::Target, field, meant.target[field]);
                    // Of a call that was lost nobody knows what it wrote over.
                    let Some(was) = before.as_ref().map(|row| row[field]) else { continue };
                    let known = old.as_ref().map(|old| old.side(side)[field]);
                    if known.is_some_and(|known| {
                        as_value(was) != known && as_value(was) != meant.side(side)[field]
                    }) {
                        // Somebody changed over there what has just been written over.
                        let theirs = was.map(id).into_iter();
                        let ours = held(meant.side(side)[field]).flatten().map(id);
                        let rule = self.spec.flows[field].rule;
                        self.lost.push(crate::engine::Lost {
                            key,
                            field,
                            values: theirs.chain(ours).collect(),
                            open: rule == Rule::Review,
                            of_delete: false,
                        });
                        let back = match side {
                            Side::Source => self.spec.flows[field].to_target,
                            Side::Target => self.spec.flows[field].to_source,
                        };
                        if back && rule == Rule::Prefer(side) {
                            restored.push((field, was));
                        }
                    }
                }
                self.links.insert(key, Some(base));
                self.restore(world, key, side, &restored);
                if let Some(remote) = &mut self.remote {
                    // What else was changed there is news.
                    remote.again.insert(key);
                }
            }
            (_, Some(meant)) => {
                self.links.insert(key, Some(meant.clone()));
                if let Some(remote) = &mut self.remote {
                    remote.again.insert(key);
                }
            }
            _ => {}
        }
    }

    /// A value that was written over there, and should have stood, becomes our row's, and goes out again from there.
    fn restore(&mut self, world: &mut World, key: u32, side: Side, fields: &[(usize, Held)]) {
        let own = self.side(side.other());
        if fields.is_empty() || world.is_locked(own, key) {
            return;
        }
        let Some(mut row) = world.row(own, key).cloned() else { return };
        let base = self.links.get(&key).cloned().flatten();
        for &(field, value) in fields {
            // A row that has moved is left alone: its own change decides.
            if base.as_ref().is_none_or(|b| as_value(row[field]) != b.side(side.other())[field]) {
                return;
            }
            row[field] = value;
        }
        let xid = world.new_xid();
        world.apply(xid, 1, self.number, own, key, Some(row));
    }

    /// Finds out what became of a call that was not answered, before anything is sent again.
    fn recover(&mut self, world: &mut World, intent: Intent) {
        let Some(remote) = &mut self.remote else { return };
        let (side, key) = (remote.side, intent.key);
        let there = world.row(self.spec.sides[side as usize], key).cloned();
        let old = self.links.get(&key).cloned().flatten();
        let holds = |base: Option<&Base<'static>>, fields: &[usize]| match (&there, base) {
            (Some(row), Some(base)) => {
                fields.iter().all(|&field| as_value(row[field]) == base.side(side)[field])
            }
            _ => false,
        };
        let all: Vec<usize> = (0..world.fields).collect();
        let (arrived, untouched) = match &intent.write {
            Write::Update(fields) => {
                (holds(intent.meant.as_ref(), fields), holds(old.as_ref(), &all))
            }
            Write::Insert => (holds(intent.meant.as_ref(), &all), there.is_none()),
            Write::Delete => (there.is_none(), holds(old.as_ref(), &all)),
            Write::Nothing => (true, false),
        };
        if arrived {
            self.answered(world, intent, None, true);
        } else if untouched {
            if intent.write == Write::Insert
                && world.records[self.spec.sides[side as usize]].contains_key(&key)
            {
                remote.made_again.insert(key);
            }
            if intent.done {
                // Somebody has set it back to what it was: it looks as if the call had never arrived.
                remote.unknown.extend(there.iter().flatten().flatten().map(|value| id(*value)));
                remote.unknown.push(0);
            }
            remote.intents.push(Intent { lost: false, ..intent });
        } else {
            // Merged anew, with what is there now.
            remote.lanes.remove(&key);
            remote.moment += 1;
            remote.settled.insert(key, remote.moment);
            remote.again.insert(key);
            if matches!(intent.write, Write::Insert)
                && let Some(meant) = intent.meant
            {
                // It was made by us, and has been changed since.
                self.links.insert(key, Some(meant));
            }
            self.queue.insert(key, intent.at);
        }
    }

    fn note_deleted_over(&mut self, key: u32, before: &[Held], old: &Base<'static>, side: Side) {
        for (field, value) in before.iter().enumerate() {
            if as_value(*value) != old.side(side)[field] {
                let values = value.map(id).into_iter().collect();
                self.lost.push(crate::engine::Lost {
                    key,
                    field,
                    values,
                    open: false,
                    of_delete: true,
                });
            }
        }
    }

    /// Asks what has changed there.
    pub(crate) fn ask(&mut self, world: &World) {
        let Some(remote) = &mut self.remote else { return };
        if remote.page.is_some() {
            return;
        }
        let side = self.spec.sides[remote.side as usize];
        let records: BTreeMap<u32, Record> = world.records[side]
            .iter()
            .filter(|(_, record)| record.version >= remote.mark)
            .map(|(key, record)| (*key, record.clone()))
            .collect();
        let newest = records.values().map(|record| record.version).max();
        let mark = newest.map_or(remote.mark, |newest| newest - OVERLAP);
        remote.page = Some(Page { records, asked: remote.moment, mark });
    }

    /// What was asked for is there, however long ago that was.
    pub(crate) fn told(&mut self, world: &mut World, twice: bool) {
        let flows = self.remote.as_ref().is_some_and(|remote| self.flows_from(remote.side));
        let Some(remote) = &mut self.remote else { return };
        let Some(page) = remote.page.take() else { return };
        remote.mark = page.mark;
        let mut known = BTreeMap::new();
        for (key, record) in page.records {
            let settled = remote.settled.get(&key).is_some_and(|&settled| settled > page.asked);
            if remote.lanes.contains(&key) || settled && world.bug != Some(Bug::StalePages) {
                remote.again.insert(key);
            } else if flows {
                known.insert(key, of_record(remote.side, &record));
            }
        }
        if twice {
            self.merge(world, known.clone());
        }
        self.merge(world, known);
    }

    /// Reads the records that have to be read.
    pub(crate) fn fetch(&mut self, world: &mut World) {
        let flows = self.remote.as_ref().is_some_and(|remote| self.flows_from(remote.side));
        let Some(remote) = &mut self.remote else { return };
        let side = self.spec.sides[remote.side as usize];
        let free: Vec<u32> = remote.again.difference(&remote.lanes).copied().collect();
        let mut known = BTreeMap::new();
        for key in free {
            remote.again.remove(&key);
            let Some(record) = world.records[side].get(&key).filter(|_| flows) else { continue };
            // What was asked for earlier says nothing of it any more.
            remote.moment += 1;
            remote.settled.insert(key, remote.moment);
            let mut read = of_record(remote.side, record);
            if let Some(at) = self.queue.remove(&key) {
                // Its row waits too, and is merged with it.
                let own = remote.side.other() as usize;
                (read.seen[own], read.at[own]) = (Seen::Unread, at);
            }
            known.insert(key, read);
        }
        self.merge(world, known);
    }
}

fn of_record(side: Side, record: &Record) -> Known {
    let mut known = Known::nothing();
    known.seen[side as usize] = record.row.clone().map_or(Seen::Gone, Seen::Row);
    known.at[side as usize] = record.version;
    known
}
