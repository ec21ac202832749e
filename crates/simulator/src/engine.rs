//! The steps of the worker for one sync: what a batch says of each record, the merge, and one transaction in which rows,
//! links, what is to leave and the cursor are written. As in the server, but for what PostgreSQL does there.

use crate::bug::Bug;
use crate::case::SyncSpec;
use crate::remote::{Intent, Remote};
use crate::value::{Row, as_value, held, id, rounded};
use crate::world::{Place, World};
use change::image::Value;
use change::order;
use change::snapshot::{Snapshot, Span};
use merge::{Base, Conflict, Decision, Edits, Now, Row as Merged, Side, Write};
use std::collections::{BTreeMap, BTreeSet};

/// What both sides last agreed on; `None`: the record is gone, and that is remembered.
pub(crate) type Link = Option<Base<'static>>;

/// A value that lost, and where a person is to decide.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub key: u32,
    pub field: usize,
    pub values: Vec<u32>,
    /// Nobody has won yet.
    pub open: bool,
    /// One side deleted the record.
    pub of_delete: bool,
}

pub(crate) struct Sync {
    pub spec: SyncSpec,
    pub number: usize,
    // What the tables have.
    pub cursor: Snapshot,
    pub links: BTreeMap<u32, Link>,
    /// Records that have to be looked at again, with the time of their change.
    pub queue: BTreeMap<u32, i64>,
    pub lost: Vec<Lost>,
    pub remote: Option<Remote>,
}

/// What is known of a record of one side.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Nothing,
    Unread,
    Gone,
    Row(Row),
}

#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub seen: [Seen; 2],
    pub at: [i64; 2],
    /// All that is known of a side this sync has written itself.
    pub own: [bool; 2],
    /// The row of a side was deleted and made anew.
    pub remade: [bool; 2],
}

impl Known {
    pub(crate) fn nothing() -> Self {
        Self {
            seen: [Seen::Nothing, Seen::Nothing],
            at: [i64::MIN; 2],
            own: [false; 2],
            remade: [false; 2],
        }
    }

    fn edits(&self) -> Edits {
        Edits { at: self.at, own: self.own }
    }
}

impl Sync {
    pub(crate) fn new(number: usize, spec: SyncSpec, world: &World) -> Self {
        let remote = Side::BOTH
            .into_iter()
            .find(|&side| world.sides[spec.sides[side as usize]].remote)
            .map(Remote::new);
        Self {
            spec,
            number,
            cursor: Snapshot::empty(),
            links: BTreeMap::new(),
            queue: BTreeMap::new(),
            lost: Vec::new(),
            remote,
        }
    }

    pub(crate) fn side(&self, side: Side) -> usize {
        self.spec.sides[side as usize]
    }

    pub(crate) fn flows_from(&self, side: Side) -> bool {
        self.spec.flows.iter().any(|flow| match side {
            Side::Source => flow.to_target,
            Side::Target => flow.to_source,
        })
    }

    pub(crate) fn is_remote(&self, side: Side) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.side == side)
    }

    fn captured(&self, side: Side) -> bool {
        self.flows_from(side) && !self.is_remote(side)
    }

    /// Takes up what was committed, and what waits. `killed`: before it could commit.
    pub(crate) fn work(&mut self, world: &mut World, killed: bool) {
        let mut tick = world.snapshot();
        if world.bug == Some(Bug::TickWhileWriting) {
            // Its own number counts as seen, and what is committed while it writes does not.
            tick = Snapshot { xmax: tick.xmax + 2, ..tick };
        }
        let span = Span::new(self.cursor.clone(), tick.clone());
        let mut known = self.collect(world, &span);
        for (&key, &at) in &self.queue {
            let known = known.entry(key).or_insert_with(Known::nothing);
            for side in Side::BOTH.into_iter().filter(|&side| !self.is_remote(side)) {
                known.seen[side as usize] = Seen::Unread;
                known.at[side as usize] = known.at[side as usize].max(at);
                known.own[side as usize] = false;
            }
        }
        if killed {
            if world.bug == Some(Bug::CursorFirst) {
                self.cursor = tick;
            }
            return;
        }
        self.cursor = tick;
        self.queue.clear();
        self.merge(world, known);
    }

    /// Of each key the last image, as a batch has it.
    fn collect(&self, world: &World, span: &Span) -> BTreeMap<u32, Known> {
        let side_of = |of: usize| {
            Side::BOTH.into_iter().find(|&side| self.side(side) == of && self.captured(side))
        };
        let mut places: Vec<(Place, usize)> = world
            .log
            .iter()
            .enumerate()
            .filter(|(_, e)| e.is_there() && span.contains(e.xid) && side_of(e.side).is_some())
            .map(|(n, e)| (Place { seq: e.seq, xid: e.xid, command: e.command }, n))
            .collect();
        places.sort_by_key(|(place, _)| place.seq);
        let numbers: BTreeMap<i64, usize> = places.iter().map(|(p, n)| (p.seq, *n)).collect();
        let mut order: Vec<Place> = places.iter().map(|(place, _)| *place).collect();
        if world.bug != Some(Bug::OrderBySequence) {
            order::sort(&mut order);
        }
        let mut known: BTreeMap<u32, Known> = BTreeMap::new();
        for place in order {
            let entry = &world.log[numbers[&place.seq]];
            let Some(side) = side_of(entry.side) else { continue };
            let s = side as usize;
            let echo = entry.origin == self.number + 1;
            if echo && world.bug == Some(Bug::SkipOwnWrites) {
                continue;
            }
            let record = known.entry(entry.key).or_insert_with(Known::nothing);
            let first = record.seen[s] == Seen::Nothing;
            if !echo || record.own[s] || first {
                record.at[s] = entry.at;
            }
            record.own[s] = echo && (record.own[s] || first);
            if record.seen[s] == Seen::Gone && entry.new.is_some() {
                record.remade[s] = true;
            }
            record.seen[s] = entry.new.clone().map_or(Seen::Gone, Seen::Row);
        }
        known
    }

    /// Decides on records and carries that out, in one transaction.
    pub(crate) fn merge(&mut self, world: &mut World, known: BTreeMap<u32, Known>) {
        let xid = world.new_xid();
        let mut command = 0;
        for (key, mut record) in known {
            if self.remote.as_ref().is_some_and(|remote| remote.lanes.contains(&key)) {
                // Something of it is on its way: it waits for the answer.
                self.queue.insert(key, record.at[0].max(record.at[1]));
                if let Some(remote) = &mut self.remote
                    && record.seen[remote.side as usize] != Seen::Nothing
                {
                    remote.again.insert(key);
                }
                continue;
            }
            self.resolve(world, key, &mut record);
            command += 1;
            if !self.one(world, xid, command, key, &record) {
                self.queue.insert(key, record.at[0].max(record.at[1]));
                if let Some(remote) = &mut self.remote {
                    remote.again.insert(key);
                }
            }
        }
    }

    /// Reads what is not known from the log.
    fn resolve(&self, world: &World, key: u32, record: &mut Known) {
        let base = self.links.get(&key).and_then(Option::as_ref);
        let mut logged = [Seen::Nothing, Seen::Nothing];
        for side in Side::BOTH {
            let s = side as usize;
            if record.own[s] {
                // What we wrote comes back later than what we wrote after it: where it differs the row tells why.
                if !self.agrees(base, side, &record.seen[s]) {
                    logged[s] = std::mem::replace(&mut record.seen[s], Seen::Unread);
                }
                // An edit of a user beats what a trigger made of an older value.
                record.at[s] = i64::MIN;
            }
        }
        for side in Side::BOTH {
            let other = side.other();
            if record.remade[side as usize]
                && !self.is_remote(other)
                && record.seen[other as usize] == Seen::Nothing
            {
                record.seen[other as usize] = Seen::Unread;
            }
        }
        for side in Side::BOTH {
            let s = side as usize;
            // Rows that exist on both sides and were never linked are one record.
            let unlinked = base.is_none() && record.seen[s] == Seen::Nothing;
            if self.is_remote(side) || record.seen[s] != Seen::Unread && !unlinked {
                continue;
            }
            record.seen[s] = match world.row(self.side(side), key) {
                Some(row) => Seen::Row(row.clone()),
                None if record.seen[s] == Seen::Unread => Seen::Gone,
                None => Seen::Nothing,
            };
            // Else somebody has changed it since.
            record.own[s] &= record.seen[s] == logged[s];
        }
    }

    fn agrees(&self, base: Option<&Base<'static>>, side: Side, seen: &Seen) -> bool {
        match (seen, base) {
            (Seen::Row(row), Some(base)) => {
                row.iter().zip(base.side(side)).all(|(&value, &agreed)| as_value(value) == agreed)
            }
            (Seen::Gone, None) | (Seen::Nothing | Seen::Unread, _) => true,
            _ => false,
        }
    }

    /// A row as the merge takes it.
    pub(crate) fn merged(&self, side: Side, row: &Row) -> Merged<'static> {
        let own = row.iter().map(|&value| as_value(value)).collect();
        let sent = row
            .iter()
            .zip(&self.spec.flows)
            .map(|(&value, flow)| {
                let travels = if side == Side::Source { flow.to_target } else { flow.to_source };
                let there = if self.is_remote(side.other()) { rounded(value) } else { value };
                if travels { as_value(there) } else { Value::Absent }
            })
            .collect();
        Merged { own, sent }
    }

    /// One record. False where a row is no longer what it was taken for, and nothing has been done.
    fn one(&mut self, world: &mut World, xid: u64, command: u32, key: u32, record: &Known) -> bool {
        let link = self.links.get(&key).cloned();
        let base = link.clone().flatten();
        let now: [Now<'static>; 2] = Side::BOTH.map(|side| match &record.seen[side as usize] {
            Seen::Nothing | Seen::Unread => Now::Unchanged,
            Seen::Gone => Now::Gone,
            Seen::Row(row) => Now::Row(self.merged(side, row)),
        });
        let base = match (world.bug, &base) {
            (Some(Bug::MergeIgnoresBase), Some(_)) => {
                let Some(side) =
                    Side::BOTH.into_iter().find(|&s| now[s as usize] != Now::Unchanged)
                else {
                    return true;
                };
                let mut own = now.clone();
                own[side.other() as usize] = Now::Unchanged;
                let merged = merge::merge(
                    &self.spec.flows,
                    self.spec.deletes,
                    base.as_ref(),
                    &own,
                    record.edits(),
                    &[],
                );
                return self.carry_out(world, xid, command, key, record, &now, merged);
            }
            (Some(Bug::LostTombstone), None) => None,
            _ => base,
        };
        if world.bug == Some(Bug::LostTombstone) && now.contains(&Now::Gone) {
            self.links.remove(&key);
            return true;
        }
        if world.bug == Some(Bug::TieWithoutOrder) && record.at[0] == record.at[1] {
            // Whoever is asked takes its own side for the later one, today this one and tomorrow the other.
            let times = if key.is_multiple_of(2) { [1, 2] } else { [2, 1] };
            let edits = Edits { at: times, ..record.edits() };
            let mut decision =
                merge::merge(&self.spec.flows, self.spec.deletes, base.as_ref(), &now, edits, &[]);
            decision.base = decision.base.or_else(|| base.clone());
            if !decision.conflicts.is_empty() {
                decision.base = base.clone();
                return self.carry_out(world, xid, command, key, record, &now, swapped(decision));
            }
        }
        let base = base.map(|base| self.made_anew(base, record, &now));
        let edits = record.edits();
        let decision =
            merge::merge(&self.spec.flows, self.spec.deletes, base.as_ref(), &now, edits, &[]);
        self.carry_out(world, xid, command, key, record, &now, decision)
    }

    /// A row that was made anew is given once more what it gets from the other side only.
    fn made_anew(
        &self,
        mut base: Base<'static>,
        record: &Known,
        now: &[Now<'static>; 2],
    ) -> Base<'static> {
        let [Now::Row(source), Now::Row(target)] = now else { return base };
        for (field, flow) in self.spec.flows.iter().enumerate() {
            for (side, row, gives) in
                [(Side::Source, source, flow.to_target), (Side::Target, target, flow.to_source)]
            {
                if record.remade[side as usize]
                    && !gives
                    && row.own[field] != base.side(side)[field]
                {
                    base.set(side.other(), field, Value::Marker);
                }
            }
        }
        base
    }

    #[allow(clippy::too_many_arguments)]
    fn carry_out(
        &mut self,
        world: &mut World,
        xid: u64,
        command: u32,
        key: u32,
        record: &Known,
        now: &[Now<'static>; 2],
        decision: Decision<'static>,
    ) -> bool {
        let base = self.links.get(&key).cloned().flatten();
        let mut rows: [Option<Option<Row>>; 2] = [None, None];
        for side in Side::BOTH {
            let write = &decision.write[side as usize];
            if *write == Write::Nothing || self.is_remote(side) {
                continue;
            }
            let there = world.row(self.side(side), key).cloned();
            if world.is_locked(self.side(side), key) {
                return false;
            }
            let believed =
                self.believed(base.as_ref(), side, &record.seen[side as usize], there.as_ref());
            if !believed && world.bug != Some(Bug::NoExpectedValue) {
                return false;
            }
            let Now::Row(other) = &now[side.other() as usize] else {
                rows[side as usize] = Some(None);
                continue;
            };
            let mut row = there.unwrap_or_else(|| vec![None; world.fields]);
            let fields: Vec<usize> = match write {
                Write::Update(fields) => fields.clone(),
                Write::Insert => (0..world.fields).collect(),
                _ => {
                    rows[side as usize] = Some(None);
                    continue;
                }
            };
            for field in fields {
                if let Some(value) = held(other.sent[field]) {
                    row[field] = value;
                }
            }
            rows[side as usize] = Some(Some(row));
        }
        for conflict in &decision.conflicts {
            self.note(key, conflict, base.as_ref(), now);
        }
        for side in Side::BOTH {
            if let Some(row) = rows[side as usize].take() {
                world.apply(xid, command, self.number, self.side(side), key, row);
            }
        }
        self.settle(world, key, record, now, decision);
        true
    }

    /// Is the row what it was taken for? Where the side is not watched, nobody's edit of it counts.
    fn believed(
        &self,
        base: Option<&Base<'static>>,
        side: Side,
        seen: &Seen,
        there: Option<&Row>,
    ) -> bool {
        if !self.captured(side) {
            return true;
        }
        match (seen, base, there) {
            (Seen::Row(row), _, there) => there == Some(row),
            (Seen::Gone, _, there) => there.is_none(),
            (_, Some(base), Some(row)) => {
                row.iter().zip(base.side(side)).all(|(&value, &agreed)| as_value(value) == agreed)
            }
            (_, Some(_), None) => false,
            (_, None, there) => there.is_none(),
        }
    }

    fn settle(
        &mut self,
        world: &mut World,
        key: u32,
        record: &Known,
        now: &[Now<'static>; 2],
        decision: Decision<'static>,
    ) {
        let leaving = self
            .remote
            .as_ref()
            .map(|remote| remote.side)
            .filter(|&side| decision.write[side as usize] != Write::Nothing);
        let Some(side) = leaving else {
            match decision.base {
                Some(base) => drop(self.links.insert(key, Some(base))),
                None if self.links.contains_key(&key) => drop(self.links.insert(key, None)),
                None => {}
            }
            return;
        };
        let old = self.links.get(&key).cloned().flatten();
        let write = decision.write[side as usize].clone();
        if let (Write::Update(fields), Some(agreed), Some(old)) = (&write, &decision.base, &old) {
            // Until it is answered nothing has been agreed on about what was sent.
            let mut base = agreed.clone();
            for &field in fields {
                base.set(Side::Source, field, old.source[field]);
                base.set(Side::Target, field, old.target[field]);
                let own = side.other();
                // What is known to be there is known, and our value is not agreed on any more.
                if let Seen::Row(row) = &record.seen[side as usize] {
                    base.set(side, field, as_value(row[field]));
                    if as_value(row[field]) != old.side(side)[field] {
                        base.set(own, field, Value::Marker);
                    }
                }
                // Sent with its group, a value may be as it was agreed on: until it has arrived it is not any more.
                if let Seen::Row(row) = &record.seen[own as usize]
                    && as_value(row[field]) == old.side(own)[field]
                {
                    base.set(own, field, Value::Marker);
                }
            }
            self.links.insert(key, Some(base));
        }
        let sent = match &now[side.other() as usize] {
            Now::Row(row) => row.sent.iter().map(|&value| held(value)).collect(),
            _ => vec![None; world.fields],
        };
        let intent = Intent {
            key,
            write,
            sent,
            meant: decision.base,
            at: record.at[side.other() as usize],
            lost: false,
            done: false,
        };
        if let Some(remote) = &mut self.remote {
            remote.intend(intent);
        }
    }

    fn note(
        &mut self,
        key: u32,
        conflict: &Conflict,
        base: Option<&Base<'static>>,
        now: &[Now<'static>; 2],
    ) {
        let field = conflict.field;
        let mut values: Vec<u32> = now
            .iter()
            .filter_map(|now| match now {
                Now::Row(row) => held(row.own[field]).flatten(),
                _ => None,
            })
            .map(id)
            .collect();
        values.extend(
            base.into_iter()
                .flat_map(|b| [b.source[field], b.target[field]])
                .filter_map(|v| held(v)?.map(id)),
        );
        let of_delete = now.contains(&Now::Gone);
        self.lost.push(Lost { key, field, values, open: conflict.winner.is_none(), of_delete });
    }

    /// Does a person still have to decide about a field of a record?
    pub(crate) fn is_open(&self, key: u32, field: usize) -> bool {
        self.lost
            .iter()
            .any(|lost| lost.open && lost.key == key && (lost.of_delete || lost.field == field))
    }

    /// A record that was deleted on one side and made again from the other has nothing there in the fields that do not
    /// travel that way. That is what both sides have agreed on, until the field is written.
    pub(crate) fn is_left_empty(&self, key: u32, field: usize, rows: [&Row; 2]) -> bool {
        let flow = self.spec.flows[field];
        let from = match (flow.to_target, flow.to_source) {
            (true, false) => Side::Source,
            (false, true) => Side::Target,
            _ => return false,
        };
        let agreed = self.links.get(&key).and_then(Option::as_ref).is_some_and(|base| {
            Side::BOTH.iter().all(|&s| base.side(s)[field] == as_value(rows[s as usize][field]))
        });
        agreed && rows[from as usize][field].is_none()
    }

    /// All keys of records that it has met.
    pub(crate) fn keys(&self) -> BTreeSet<u32> {
        self.links.keys().copied().collect()
    }
}

/// The same decision with the winners taken for the losers.
fn swapped(mut decision: Decision<'static>) -> Decision<'static> {
    for conflict in &mut decision.conflicts {
        conflict.winner = conflict.winner.map(Side::other);
    }
    decision.write.swap(0, 1);
    decision
}
