//! The world that a worker works in: one database with its tables, transactions and log, and other systems. What users
//! have done is remembered apart, to be held against what came of it.

use crate::bug::Bug;
use crate::case::{Case, Deed, KEYS, OPEN, SideSpec};
use crate::value::{Held, Row, id, made, rounded};
use change::order::Ordered;
use change::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};

/// A change as the log has it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub seq: i64,
    pub xid: u64,
    pub command: u32,
    pub side: usize,
    pub key: u32,
    pub new: Option<Row>,
    /// The sync that wrote, plus one; 0: a user.
    pub origin: usize,
    pub at: i64,
    /// Its transaction, or the part of it, was rolled back.
    dead: bool,
    /// Its transaction has ended.
    committed: bool,
}

impl Entry {
    /// Does whoever reads now find the row?
    pub(crate) fn is_there(&self) -> bool {
        self.committed && !self.dead
    }
}

/// A place of the log, to be sorted.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub seq: i64,
    pub xid: u64,
    pub command: u32,
}

impl Ordered for Place {
    fn xid(&self) -> u64 {
        self.xid
    }
    fn command(&self) -> u32 {
        self.command
    }
    fn sequence(&self) -> i64 {
        self.seq
    }
}

/// A record of another system.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub row: Option<Row>,
    /// When it was last touched, by that system's clock.
    pub version: i64,
}

/// Rows of tables as a transaction sees them.
type Rows = BTreeMap<(usize, u32), Option<Row>>;

#[derive(Clone, Default)]
struct Transaction {
    xid: u64,
    commands: u32,
    /// Places in the log.
    entries: Vec<usize>,
    locks: BTreeSet<(usize, u32)>,
    /// Rows as it sees them.
    rows: Rows,
    saved: Option<(usize, Rows, usize)>,
    told: Vec<Told>,
}

/// What a user has written, for the reckoning.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub step: usize,
    pub key: u32,
    /// The value that was written; `None`: null, or a delete.
    pub wrote: Option<u32>,
    /// The values that were there, and are not any more.
    pub over: Vec<u32>,
    pub delete: bool,
}

pub struct World {
    pub(crate) sides: Vec<SideSpec>,
    pub(crate) fields: usize,
    /// The fields that users may write on each side: what goes from there to all others. What somebody writes where
    /// another side has the say may be written over by that side, and is nobody's loss.
    writable: Vec<Vec<bool>>,
    tables: Vec<BTreeMap<u32, Row>>,
    pub(crate) records: Vec<BTreeMap<u32, Record>>,
    open: Vec<Option<Transaction>>,
    pub(crate) log: Vec<Entry>,
    next_xid: u64,
    next_id: u32,
    /// Rises with each step; clocks are this and what they differ by.
    pub(crate) now: i64,
    pub(crate) step: usize,
    pub(crate) bug: Option<Bug>,
    pub(crate) users: Vec<Told>,
    /// What the worker has written.
    pub(crate) writes: u64,
    /// Which values each field of each row has held on each side.
    past: BTreeMap<(usize, u32, usize), BTreeSet<u32>>,
    /// A value that came back where a later one had been: side, key, field and number.
    pub(crate) went_back: Vec<(usize, u32, usize, u32)>,
}

impl World {
    pub(crate) fn new(case: &Case, bug: Option<Bug>) -> Self {
        let count = case.sides.len();
        let writable = (0..count)
            .map(|side| (0..case.fields).map(|field| reaches_all(case, side, field)).collect())
            .collect();
        Self {
            sides: case.sides.clone(),
            fields: case.fields,
            writable,
            tables: vec![BTreeMap::new(); count],
            records: vec![BTreeMap::new(); count],
            open: vec![None; OPEN],
            log: Vec::new(),
            next_xid: 100,
            next_id: 1,
            now: 1000,
            step: 0,
            bug,
            users: Vec::new(),
            writes: 0,
            past: BTreeMap::new(),
            went_back: Vec::new(),
        }
    }

    pub(crate) fn clock(&self, side: usize) -> i64 {
        // Coarse, so that two changes often have the same time.
        (self.now + self.sides[side].skew) / 4
    }

    /// A row as whoever begins to look now sees it.
    pub(crate) fn row(&self, side: usize, key: u32) -> Option<&Row> {
        if self.sides[side].remote {
            self.records[side].get(&key)?.row.as_ref()
        } else {
            self.tables[side].get(&key)
        }
    }

    pub(crate) fn rows(&self, side: usize) -> BTreeMap<u32, Row> {
        if self.sides[side].remote {
            let there = |(key, record): (&u32, &Record)| Some((*key, record.row.clone()?));
            self.records[side].iter().filter_map(there).collect()
        } else {
            self.tables[side].clone()
        }
    }

    pub(crate) fn is_locked(&self, side: usize, key: u32) -> bool {
        self.open.iter().flatten().any(|t| t.locks.contains(&(side, key)))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut running: Vec<u64> = self.open.iter().flatten().map(|t| t.xid).collect();
        running.sort_unstable();
        let xmin = running.first().copied().unwrap_or(self.next_xid);
        Snapshot { xmin, xmax: self.next_xid, running }
    }

    pub(crate) fn new_xid(&mut self) -> u64 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    fn new_value(&mut self, bits: u32) -> u32 {
        self.next_id += 1;
        made(self.next_id - 1, bits)
    }

    /// A row as a table keeps it.
    fn stored(&self, side: usize, mut row: Row) -> Row {
        let spec = &self.sides[side];
        for value in &mut row {
            if spec.normalises {
                *value = value.map(|n| n | 1);
            }
            if spec.remote {
                *value = rounded(*value);
            }
        }
        row
    }

    /// A user's deed in a transaction of the database.
    pub(crate) fn user(&mut self, slot: usize, side: usize, key: u32, deed: Deed) {
        if self.sides[side].remote {
            return;
        }
        let mine = self.open[slot].as_ref().map(|t| t.locks.clone()).unwrap_or_default();
        let keys: &[u32] = if matches!(deed, Deed::Statement { .. }) { &[0, 1] } else { &[0] };
        let keys: Vec<u32> = keys.iter().map(|n| (key + n) % KEYS).collect();
        // Whoever would have to wait does nothing instead.
        if keys.iter().any(|&k| self.is_locked(side, k) && !mine.contains(&(side, k))) {
            return;
        }
        let mut transaction = match self.open[slot].take() {
            Some(transaction) => transaction,
            None => Transaction { xid: self.new_xid(), ..Transaction::default() },
        };
        transaction.commands += 2;
        let command = transaction.commands;
        match deed {
            Deed::Delete => self.change(&mut transaction, side, key, command, None),
            Deed::Write { field, null } => {
                self.change(&mut transaction, side, key, command, Some((field, null)));
            }
            Deed::Statement { field } => {
                let (first, second) = (keys[0], keys[1]);
                self.change(&mut transaction, side, first, command, Some((field, false)));
                let before = transaction.entries.len();
                // The statement's own change of the second row is older than the trigger's, and is logged after it.
                self.change(&mut transaction, side, second, command, Some((field, false)));
                self.change(&mut transaction, side, second, command + 1, Some((field, false)));
                let last = transaction.entries.len();
                if last == before + 2 {
                    let (a, b) = (transaction.entries[last - 2], transaction.entries[last - 1]);
                    let (first, second) = (self.log[a].seq, self.log[b].seq);
                    (self.log[a].seq, self.log[b].seq) = (second, first);
                }
            }
        }
        self.open[slot] = Some(transaction);
    }

    fn change(
        &mut self,
        transaction: &mut Transaction,
        side: usize,
        key: u32,
        command: u32,
        write: Option<(usize, bool)>,
    ) {
        let before = match transaction.rows.get(&(side, key)) {
            Some(row) => row.clone(),
            None => self.tables[side].get(&key).cloned(),
        };
        let Some((new, told)) = self.deed(side, key, before, write) else { return };
        let new = new.map(|row| self.stored(side, row));
        transaction.locks.insert((side, key));
        transaction.rows.insert((side, key), new.clone());
        transaction.told.push(told);
        let xid = match (&transaction.saved, self.bug) {
            // The subtransaction has a number of its own, which no snapshot lists.
            (Some(_), Some(Bug::SubtransactionId)) => self.new_xid(),
            _ => transaction.xid,
        };
        let at = self.clock(side);
        transaction.entries.push(self.log.len());
        let seq = self.log.len() as i64;
        self.log.push(Entry {
            seq,
            xid,
            command,
            side,
            key,
            new,
            origin: 0,
            at,
            dead: false,
            committed: false,
        });
    }

    /// What a deed makes of a row, and what there is to tell of it; nothing where it changes nothing.
    fn deed(
        &mut self,
        side: usize,
        key: u32,
        before: Option<Row>,
        write: Option<(usize, bool)>,
    ) -> Option<(Option<Row>, Told)> {
        let step = self.step;
        let ids = |row: &Row| row.iter().flatten().map(|&v| id(v)).collect::<Vec<u32>>();
        let Some((field, null)) = write else {
            let row = before?;
            // A copy that decides nothing is left alone.
            if !self.writable[side].iter().any(|&may| may) {
                return None;
            }
            return Some((None, Told { step, key, wrote: None, over: ids(&row), delete: true }));
        };
        // A row that is made anew would empty the fields in which others have the say.
        let may = if before.is_some() {
            self.writable[side][field]
        } else {
            self.writable[side].iter().all(|&may| may)
        };
        if !may {
            return None;
        }
        let bits = (self.next_id % 3) & 2;
        let value = if null { None } else { Some(self.new_value(bits)) };
        let mut row = before.unwrap_or_else(|| vec![None; self.fields]);
        let over = row[field].map(id).into_iter().collect();
        row[field] = value;
        Some((Some(row), Told { step, key, wrote: value.map(id), over, delete: false }))
    }

    /// A user's deed in another system.
    pub(crate) fn there(&mut self, side: usize, key: u32, deed: Deed) {
        if !self.sides[side].remote {
            return;
        }
        let before = self.row(side, key).cloned();
        let write = match deed {
            Deed::Write { field, null } => Some((field, null)),
            _ => None,
        };
        // Keys of the tables are given out there only by the sync.
        if before.is_none() && key < KEYS {
            return;
        }
        let Some((new, told)) = self.deed(side, key, before, write) else { return };
        self.users.push(told);
        self.put_there(side, key, new);
    }

    /// Stores a record of another system.
    pub(crate) fn put_there(&mut self, side: usize, key: u32, row: Option<Row>) {
        let row = row.map(|row| self.stored(side, row));
        self.remember(side, key, row.as_ref());
        let version = self.clock(side);
        self.records[side].insert(key, Record { row, version });
    }

    pub(crate) fn commit(&mut self, slot: usize) {
        let Some(transaction) = self.open[slot].take() else { return };
        for &place in &transaction.entries {
            self.log[place].committed = true;
        }
        for ((side, key), row) in transaction.rows {
            self.put(side, key, row);
        }
        self.users.extend(transaction.told);
    }

    pub(crate) fn abort(&mut self, slot: usize) {
        let Some(transaction) = self.open[slot].take() else { return };
        for &place in &transaction.entries {
            self.log[place].dead = true;
        }
    }

    pub(crate) fn savepoint(&mut self, slot: usize) {
        if let Some(t) = &mut self.open[slot]
            && t.saved.is_none()
        {
            t.saved = Some((t.entries.len(), t.rows.clone(), t.told.len()));
        }
    }

    pub(crate) fn roll_back_to(&mut self, slot: usize) {
        if let Some(t) = &mut self.open[slot]
            && let Some((entries, rows, told)) = t.saved.take()
        {
            for &place in &t.entries[entries..] {
                self.log[place].dead = true;
            }
            t.entries.truncate(entries);
            t.told.truncate(told);
            t.rows = rows;
        }
    }

    fn put(&mut self, side: usize, key: u32, row: Option<Row>) {
        self.remember(side, key, row.as_ref());
        match row {
            Some(row) => drop(self.tables[side].insert(key, row)),
            None => drop(self.tables[side].remove(&key)),
        }
    }

    /// What a row has held: nothing comes back there but by a user, or by a conflict.
    fn remember(&mut self, side: usize, key: u32, row: Option<&Row>) {
        let before = self.row(side, key).cloned();
        let (Some(row), Some(before)) = (row, before) else { return };
        for field in 0..self.fields {
            let (was, is) = (before[field].map(id), row[field].map(id));
            if was == is {
                continue;
            }
            let past = self.past.entry((side, key, field)).or_default();
            past.extend(was);
            if let Some(is) = is.filter(|is| past.contains(is)) {
                self.went_back.push((side, key, field, is));
            }
        }
    }

    /// The worker writes a row of a table, in a transaction of its own.
    pub(crate) fn apply(
        &mut self,
        xid: u64,
        command: u32,
        sync: usize,
        side: usize,
        key: u32,
        row: Option<Row>,
    ) -> Option<Row> {
        let row = row.map(|row| self.stored(side, row));
        let at = self.clock(side);
        self.writes += 1;
        self.log.push(Entry {
            seq: self.log.len() as i64,
            xid,
            command,
            side,
            key,
            new: row.clone(),
            origin: sync + 1,
            at,
            dead: false,
            committed: true,
        });
        self.put(side, key, row.clone());
        row
    }

    pub(crate) fn value_at(row: Option<&Row>, field: usize) -> Held {
        row.and_then(|row| row[field])
    }
}

/// Does what is written in a field of a side go to all other sides?
fn reaches_all(case: &Case, from: usize, field: usize) -> bool {
    let mut reached = vec![from];
    let mut at = 0;
    while let Some(&side) = reached.get(at) {
        at += 1;
        for sync in &case.syncs {
            let flow = sync.flows[field];
            let ways = [(0, flow.to_target), (1, flow.to_source)];
            for (own, goes) in ways {
                let other = sync.sides[1 - own];
                if sync.sides[own] == side && goes && !reached.contains(&other) {
                    reached.push(other);
                }
            }
        }
    }
    reached.len() == case.sides.len()
}
