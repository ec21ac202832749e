//! A piece of work: tried whole, and narrowed down to the record that fails.

use super::{Cursor, Sync, Verdict, flush, write_cursor};
use crate::engine::apply;
use crate::engine::choose;
use crate::engine::classify::{Class, class};
use crate::engine::collect::{Half, Seen};
use crate::engine::conflicts;
use crate::engine::departed;
use crate::engine::exits;
use crate::engine::fan_out;
use crate::engine::link;
use crate::engine::load::Load;
use crate::engine::loops;
use crate::engine::pace;
use crate::engine::plan::Plan;
use crate::engine::queue::{self, Marks, Parked};
use crate::engine::references;
use crate::engine::remote::push;
use crate::engine::repair::{self, Keep};
use crate::engine::resolve::{self, Record};
use crate::engine::screen;
use crate::engine::settle::{self, Origin};
use crate::engine::shapes::Shapes;
use crate::engine::target_edit;
use crate::log::batch::Images;
use crate::sql;
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::Value;
use document::OnDifference;
use foldhash::{HashMap, HashMapExt};
use merge::{Decision, Now, Row, Side, Write};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

impl Sync {
    /// Carries out a piece of work and moves the cursor with it. What fails is narrowed down to the
    /// record that fails, and that one is put aside.
    pub fn work<'b>(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        bump: &'b Bump,
        halves: Vec<Half<'b>>,
        origin: Origin<'_>,
        moved: Option<&Cursor>,
    ) -> Result<(), Failure> {
        let mut bundles = bundle(halves);
        if bundles.is_empty() {
            if let Some(moved) = moved {
                self.save_cursor(moved)?;
            }
            return Ok(());
        }
        // What comes from the queue has been waited for already.
        let hurried = moved.is_none() && self.loads.is_empty();
        match self.attempt(epoch, shapes, bump, &bundles, origin, moved, hurried) {
            Ok(()) => {
                if let Some(moved) = moved {
                    self.cursor = moved.clone();
                    self.unsaved = false;
                }
                self.stamp();
                return Ok(());
            }
            Err(failure) => {
                self.narrow(epoch, shapes, bump, &mut bundles, origin, failure)?;
            }
        }
        if let Some(moved) = moved {
            self.save_cursor(moved)?;
        }
        self.stamp();
        Ok(())
    }

    /// The same for records that do not come from the log, such as those of the queue and of loads.
    ///
    /// # Errors
    /// As [`Sync::work`].
    pub fn merge_anew<'b>(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        bump: &'b Bump,
        halves: Vec<Half<'b>>,
    ) -> Result<(), Failure> {
        let images = Images::default();
        self.work(epoch, shapes, bump, halves, Origin { entries: &[], images: &images }, None)
    }

    /// Puts what users changed aside until nothing more has happened to it for a while; returns what came of our own
    /// writes. Done again after a crash it comes to the same.
    pub(super) fn put_off<'b>(
        &mut self,
        epoch: i32,
        halves: Vec<Half<'b>>,
        origin: Origin<'_>,
        pause: Duration,
    ) -> Result<Vec<Half<'b>>, Failure> {
        let (own, others): (Vec<Half<'b>>, Vec<Half<'b>>) =
            halves.into_iter().partition(|half| half.echo);
        if others.is_empty() {
            return Ok(own);
        }
        let Self { plan, queued, .. } = self;
        let done = transaction(|| {
            let mut history = crate::log::history::Writer::new(epoch, plan.id);
            for half in &others {
                queue::put_off(plan, half.side, half.key, half.before, half.at, pause, queued);
                for &n in &half.entries {
                    history.add(&crate::log::history::Line::of(
                        &origin.entries[n],
                        half.side,
                        crate::log::history::AGAIN,
                        origin.images.old(n),
                        origin.images.new(n),
                    ));
                }
            }
            history.finish();
            Ok(())
        });
        queued.finish(done.is_ok());
        done?;
        let soon = Instant::now() + pause;
        self.next_due = Some(self.next_due.map_or(soon, |due| due.min(soon)));
        Ok(own)
    }

    fn narrow<'b>(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        bump: &'b Bump,
        bundles: &mut [Vec<Half<'b>>],
        origin: Origin<'_>,
        failure: Failure,
    ) -> Result<(), Failure> {
        if class(&failure) == Class::Server {
            return Err(failure);
        }
        if class(&failure) == Class::Sync
            && let Some(wide) = self.sync_wide(&failure)
        {
            return Err(wide);
        }
        if let [bundle] = bundles {
            return self.set_aside(epoch, bundle, origin, &failure);
        }
        let middle = bundles.len() / 2;
        let (left, right) = bundles.split_at_mut(middle);
        for part in [left, right] {
            if let Err(failure) = self.attempt(epoch, shapes, bump, part, origin, None, true) {
                self.narrow(epoch, shapes, bump, part, origin, failure)?;
            }
        }
        Ok(())
    }

    /// The failure, in better words if there are, if it says that nothing of this sync can work.
    /// Judged by the rights and tables themselves, because a user's trigger may raise the same code
    /// for one record.
    fn sync_wide(&self, failure: &Failure) -> Option<Failure> {
        let plan = &self.plan;
        let check = transaction(|| {
            for side in Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side)) {
                let table = plan.side(side);
                let current = table.read_again(side.name())?;
                let intact = current.name == table.name
                    && table.columns.iter().all(|c| {
                        current.columns.iter().any(|n| n.name == c.name && n.type_oid == c.type_oid)
                    });
                if !intact {
                    return Ok(Some(failure.clone()));
                }
            }
            Ok(crate::engine::plan::missing_rights(plan))
        });
        match check {
            Ok(None) if failure.sqlstate != "42P10" => None,
            Ok(Some(reason)) => Some(reason),
            _ => Some(failure.clone()),
        }
    }

    /// Puts a record aside whose work failed.
    fn set_aside(
        &mut self,
        epoch: i32,
        halves: &[Half<'_>],
        origin: Origin<'_>,
        failure: &Failure,
    ) -> Result<(), Failure> {
        let plan = &self.plan;
        let queued = &mut self.queued;
        as_owner(plan.owner, &plan.search_path, false, || {
            let mut history = crate::log::history::Writer::new(epoch, plan.id);
            let bump = Bump::new();
            for half in halves {
                let (side, key) = waits_as(plan, &bump, half, queued);
                queue::park(
                    plan,
                    side,
                    key,
                    half.before.filter(|_| side == half.side),
                    half.at,
                    &Parked::Failed(failure.clone()),
                    queued,
                );
                if class(failure) != Class::Busy {
                    for &n in &half.entries {
                        history.add(&crate::log::history::Line::of(
                            &origin.entries[n],
                            half.side,
                            crate::log::history::PARKED,
                            origin.images.old(n),
                            origin.images.new(n),
                        ));
                    }
                }
            }
            history.finish();
            Ok(())
        })?;
        self.next_due = Some(Instant::now());
        Ok(())
    }

    /// One try: resolve, merge, apply, settle, move the cursor. `hurried`: waits for no lock.
    #[allow(clippy::too_many_arguments)]
    fn attempt<'b>(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        bump: &'b Bump,
        bundles: &[Vec<Half<'b>>],
        origin: Origin<'_>,
        moved: Option<&Cursor>,
        hurried: bool,
    ) -> Result<(), Failure> {
        let Self {
            plan,
            readers,
            writers,
            places,
            queued,
            known,
            loads,
            loading,
            verdict,
            pulled,
            remote,
            fan,
            pace: pace_of,
            ..
        } = self;
        let halves: Vec<Half<'b>> = bundles.iter().flatten().cloned().collect();
        let tick = known.tick;
        let match_only = loading.as_ref().is_some_and(|l| l.match_only);
        let discards = Some(Verdict::Discarded);
        let discard = match loading {
            Some(load) => load.discarded,
            None if origin.entries.is_empty() && remote.is_some() => {
                *pulled == Some(Verdict::Discarded)
            }
            None => *verdict == Some(Verdict::Discarded),
        };
        let peers = plan.remote_side().is_none();
        // What becomes of values that were emptied on a side.
        let emptied = Side::BOTH.map(|side| {
            let of_side = loads.iter().find(|load| load.side == side && load.counts_rows());
            match (&loading, of_side.map(|load| load.blanks)) {
                (_, Some(answer)) if answer == discards => Emptied::Stay,
                // The other side's load, which reads these rows as well, is not the one to send them unasked.
                (Some(load), Some(None)) if peers && load.side != side => Emptied::Wait,
                (None, _) if discard => Emptied::Stay,
                _ => Emptied::Travel,
            }
        });
        // Rows outside the filter are let go, and take nothing along; so do those that the load has not come to.
        let release = Side::BOTH.map(|side| {
            let speaks = |load: &Load| peers || load.side == side;
            loading.as_ref().map_or(discard, |load| load.match_only)
                || loads.iter().any(|load| load.left == discards && speaks(load))
        });
        if plan.row_function.is_some() {
            transaction(|| {
                link::index(plan);
                Ok(())
            })?;
            let settle = || {
                if let Some(moved) = moved {
                    write_cursor(plan.id, moved, verdict.is_some());
                }
            };
            // What comes from the queue is to be looked at, changed or not.
            let asked = loading.is_none() && origin.entries.is_empty();
            let how = (asked, discard);
            let (more, written) = fan_out::attempt(
                bump, plan, epoch, shapes, readers, fan, &halves, how, origin, queued, settle,
            )?;
            pace_of.take(written);
            if more {
                self.next_due = Some(Instant::now());
            }
            // SAFETY: inside a transaction.
            let now = transaction(|| Ok(unsafe { pg_sys::ReadNextFullTransactionId().value }))?;
            for half in halves.iter().filter(|h| h.both || h.seen == Seen::Unread) {
                known.note(queue::mark(half.side, half.key), now, 0);
            }
            return Ok(());
        }
        let (mut again, mut unread) = (false, false);
        let mut applied = 0;
        let mut read_at = 0;
        let mut marks: Vec<u64> = Vec::new();
        let mut written: Vec<(u64, i64)> = Vec::new();
        let mut records: Option<Vec<Record<'b>>> = None;
        let mut leaving = Vec::new();
        if plan.evaluates() || plan.polled().is_some() {
            transaction(|| {
                link::index(plan);
                Ok(())
            })?;
            // The user's expressions, and what a view calls, run where they can write nothing and keep nothing.
            records = Some(as_owner(plan.owner, &plan.search_path, true, || {
                let mut records =
                    resolve::resolve(bump, plan, shapes, readers, places, queued, &halves);
                choose::choose(bump, plan, readers, &mut records);
                Ok(records)
            })?);
        }
        let done = as_owner(plan.owner, &plan.search_path, false, || {
            if hurried {
                sql::set_local("lock_timeout", "10ms");
            }
            let mut records = match records {
                Some(records) => records,
                None => resolve::resolve(bump, plan, shapes, readers, places, queued, &halves),
            };
            if let Some(state) = remote.as_ref() {
                state.hold_taken(&mut records);
                hold_doubtful(plan, queued, &mut records);
            }
            conflicts::look_up(plan, queued, &mut records);
            for record in &mut records {
                record.leaves =
                    exits::leaving(plan, record).filter(|&side| !release[side as usize]);
            }
            records.iter_mut().for_each(|record| wait_for_parent(plan, record));
            unread = repair::look_up(plan, queued, &mut records);
            unread |= hold_returning(plan, &mut records);
            let mut decisions: Vec<Decision<'b>> =
                records.iter().map(|r| decide(plan, r, match_only, discard, emptied)).collect();
            records.iter_mut().for_each(choose::send_chosen);
            for (record, decision) in records.iter_mut().zip(&mut decisions) {
                departed::depart(bump, plan, record, decision);
                exits::settle(plan, record, decision);
                target_edit::judge(plan, record, decision);
            }
            unread |= hold_unread(plan, &mut records, &mut decisions);
            for (record, decision) in records.iter_mut().zip(&mut decisions) {
                screen::complete(bump, plan, record, decision);
            }
            loops::check(plan, &mut records, &mut decisions);
            let mut outcomes = apply::apply(bump, plan, writers, &records, &decisions)?;
            if let Some(state) = remote.as_mut() {
                leaving = push::intend(plan, state, &records, &decisions, &mut outcomes);
            }
            if remote.is_none() {
                applied = decisions.iter().filter(|decision| !decision.writes_nothing()).count();
                pace::note(plan, applied);
            }
            loops::note(plan, &records, &outcomes, &decisions);
            again = settle::settle(
                plan, epoch, &records, &decisions, &outcomes, origin, places, queued,
            );
            if halves.iter().any(|h| h.both || h.seen == Seen::Unread) {
                for record in &records {
                    let keys = Side::BOTH.into_iter().zip(record.keys);
                    marks.extend(keys.filter_map(|(side, key)| Some(queue::mark(side, key?))));
                }
            }
            if !marks.is_empty() {
                // SAFETY: inside a transaction.
                read_at = unsafe { pg_sys::ReadNextFullTransactionId().value };
            }
            for (record, outcome) in records.iter().zip(&outcomes) {
                for side in Side::BOTH.into_iter().filter(|&s| plan.captured(s)) {
                    let s = side as usize;
                    if outcome.first[s] > 0 {
                        let keys = [record.keys[s], outcome.created[s], outcome.rekeyed[s]];
                        written.extend(
                            keys.into_iter()
                                .flatten()
                                .map(|key| (queue::mark(side, key), outcome.first[s])),
                        );
                    }
                }
            }
            if let Some(moved) = moved {
                write_cursor(plan.id, moved, verdict.is_some());
            }
            Ok(())
        });
        // What was settled in vain still waits.
        queued.finish(done.is_ok());
        done?;
        if let Some(state) = remote
            && !leaving.is_empty()
        {
            // What a failover could take back must not have left.
            flush();
            push::dispatch(plan, state, leaving, None);
        }
        for mark in marks {
            known.note(mark, read_at, 0);
        }
        for (mark, seq) in written {
            known.note(mark, 0, seq);
        }
        pace_of.take(applied);
        if unread {
            self.next_due = Some(Instant::now());
        }
        if again {
            self.next_due = Some(Instant::now());
            self.again_from = tick + 1;
        }
        Ok(())
    }
}

/// What a half is called in the queue: by its key, unless nothing changed it and the record waits under the key of its
/// other side. It is one record, and waits once.
fn waits_as<'b>(plan: &Plan, bump: &'b Bump, half: &Half<'b>, queued: &Marks) -> (Side, &'b [u8]) {
    let own = (half.side, half.key);
    let other = half.side.other();
    if !half.entries.is_empty()
        || queued.is_empty()
        || queued.contains(queue::mark(half.side, half.key))
        || plan.remote_side().is_some()
    {
        return own;
    }
    let Some(mut links) = link::Translator::open(plan.id) else { return own };
    let key = links.other(bump, half.side, half.key);
    links.close();
    key.filter(|key| queued.contains(queue::mark(other, key))).map_or(own, |key| (other, key))
}

/// A record that points to one that is not there yet waits for it, unless nothing of it is sent.
fn wait_for_parent(plan: &Plan, record: &mut Record<'_>) {
    if record.trouble.is_none() && !record.held && !record.takes_no_part(plan) {
        record.held = !references::may_go(plan, record);
    }
}

/// Records that would be written over unread, and may not be: they wait in the queue, and are read for it. True if there
/// are any.
fn hold_unread<'b>(
    plan: &Plan,
    records: &mut [Record<'b>],
    decisions: &mut [Decision<'b>],
) -> bool {
    let Some(remote) = plan.remote_side().filter(|_| plan.reads_first()) else { return false };
    let mut any = false;
    for (record, decision) in records.iter_mut().zip(decisions) {
        let base = record.linked().and_then(|link| link.base.clone());
        let unread = record.seen[remote as usize] == Seen::Nothing;
        if unread && base.is_some() && decision.write[remote as usize] != Write::Nothing {
            (record.held, record.unread) = (true, true);
            *decision = Decision { write: Default::default(), conflicts: Vec::new(), base };
            any = true;
        }
    }
    any
}

/// Rows that may have a record already of which nobody knows go to review again instead of being sent.
fn hold_doubtful(plan: &Plan, queued: &Marks, records: &mut [Record<'_>]) {
    let Some(local) = plan.remote_side().map(Side::other).filter(|_| !queued.is_empty()) else {
        return;
    };
    for record in records.iter_mut().filter(|r| r.linked().is_none() && r.trouble.is_none()) {
        if let (Some(key), Seen::Row(_)) =
            (record.keys[local as usize], &record.seen[local as usize])
            && queued.contains(queue::mark(local, key))
        {
            record.trouble = queue::doubt(plan, local, key);
        }
    }
}

/// Records that come back into the filter, or are to be made again, while the other system's side of them is not known:
/// it is read first. True if there are any.
fn hold_returning(plan: &Plan, records: &mut [Record<'_>]) -> bool {
    let Some(remote) = plan.remote_side() else { return false };
    let mut any = false;
    for record in records.iter_mut().filter(|r| r.trouble.is_none() && !r.held) {
        let unknown = record.seen[remote as usize] == Seen::Nothing;
        // It may be outside of its own filter, and stay.
        let asked = record.leaves.is_some() && plan.screens.filters[remote as usize].is_some();
        let restored = remote == Side::Source && target_edit::wants_source(plan, record);
        // What was edited there is still to be decided about.
        let edited = record.leaves.is_some()
            && record.linked().is_some_and(|link| link.standing & exits::UNDECIDED != 0);
        if unknown && (screen::returns(plan, record) || restored || edited || asked) {
            (record.held, record.unread) = (true, true);
            any = true;
        }
    }
    any
}

/// What becomes of values that were emptied on a side.
#[derive(Clone, Copy, PartialEq)]
enum Emptied {
    Travel,
    /// They stay there: the other side keeps what it has.
    Stay,
    /// Nothing is decided about them yet.
    Wait,
}

/// `discard`: deletes stay where they were made.
fn decide<'b>(
    plan: &Plan,
    record: &Record<'b>,
    match_only: bool,
    discard: bool,
    emptied: [Emptied; 2],
) -> Decision<'b> {
    let now = [record.now(plan, Side::Source), record.now(plan, Side::Target)];
    if record.trouble.is_some() || record.held {
        let base = record.linked().and_then(|l| l.base.clone());
        return Decision { write: Default::default(), conflicts: Vec::new(), base };
    }
    if let Some(decision) = screen::outside(plan, record).or_else(|| departed::stayed(record)) {
        return decision;
    }
    let base = record.linked().and_then(|l| l.base.as_ref());
    if match_only && base.is_none() {
        // Only pairs what is there: nothing is written, nothing is decided.
        let base = match &now {
            [Now::Row(source), Now::Row(target)] => {
                Some(merge::Base { source: source.own.clone(), target: target.own.clone() })
            }
            _ => None,
        };
        return Decision { write: Default::default(), conflicts: Vec::new(), base };
    }
    let told = matches!(record.repair, Some(Keep::Side(_)));
    if base.is_none()
        && !told
        && let [Now::Row(source), Now::Row(target)] = &now
        && let Some(decision) = pair(plan, source, target)
    {
        return decision;
    }
    let gone = record.seen.each_ref().map(|seen| *seen == Seen::Gone);
    if discard && base.is_some() && gone[0] != gone[1] {
        // The delete stays where it was made; without a base the record is no longer linked.
        return Decision { write: Default::default(), conflicts: Vec::new(), base: None };
    }
    let seen = base.and_then(|base| {
        conflicts::undone(base, record)
            .or_else(|| under_a_delete(plan, base, record, &now))
            .or_else(|| made_anew(plan, base, record, &now))
    });
    let base = seen.as_ref().or(base);
    let deletes = record.deletes(plan);
    let flows = screen::flows(plan, record);
    if let Some(mut decision) = repair::decide(plan, record, &flows, &now) {
        references::leave_out(record, &mut decision);
        return decision;
    }
    let mut decision = merge::merge(&flows, deletes, base, &now, record.edits(), &record.chosen);
    if let Some(base) = record.linked().and_then(|link| link.base.as_ref()) {
        keep_values(&mut decision, base, record, emptied);
    }
    references::leave_out(record, &mut decision);
    decision
}

/// Rows that are there on both sides as they become one record, where the document says what of their differences.
fn pair<'b>(plan: &Plan, source: &Row<'b>, target: &Row<'b>) -> Option<Decision<'b>> {
    let policy = plan.config.on_difference?;
    let mut decision = Decision {
        write: Default::default(),
        conflicts: Vec::new(),
        base: Some(merge::Base { source: source.own.clone(), target: target.own.clone() }),
    };
    let winner = match policy {
        OnDifference::Source => Some(Side::Source),
        OnDifference::Target => Some(Side::Target),
        OnDifference::Report => None,
    };
    let rows = [source, target];
    let mut fields: [Vec<usize>; 2] = Default::default();
    for (n, field) in plan.fields.iter().enumerate() {
        let goes = Side::BOTH.map(|side| field.how[side as usize].is_some());
        // What it is sent is what it has.
        let alike = Side::BOTH.into_iter().any(|side| {
            goes[side as usize] && rows[side as usize].sent[n] == rows[side.other() as usize].own[n]
        });
        if alike || goes == [false, false] {
            continue;
        }
        // What another system computes is nobody's to decide.
        let computed = Side::BOTH.into_iter().find(|&side| {
            let column = field.column[side as usize];
            plan.is_remote(side) && column.is_some_and(|c| plan.side(side).columns[c].generated)
        });
        if computed.is_none() {
            decision.conflicts.push(merge::Conflict { field: n, winner, chosen: false });
        }
        let winner = computed.or(winner);
        // Where it goes the other way only, each keeps its own.
        if let Some(winner) = winner.filter(|&winner| goes[winner as usize]) {
            let sent = rows[winner as usize].sent[n];
            fields[winner.other() as usize].push(n);
            if let Some(agreed) = &mut decision.base {
                agreed.set(winner.other(), n, sent);
            }
        }
    }
    for (write, fields) in decision.write.iter_mut().zip(fields) {
        if !fields.is_empty() {
            *write = Write::Update(fields);
        }
    }
    Some(decision)
}

/// Values that were emptied on one side stay on the other; both agree to differ until one of them edits the field, or
/// until it is decided.
fn keep_values<'b>(
    decision: &mut Decision<'b>,
    base: &merge::Base<'b>,
    record: &Record<'b>,
    emptied: [Emptied; 2],
) {
    for side in Side::BOTH {
        let there = emptied[side.other() as usize];
        if there == Emptied::Travel {
            continue;
        }
        let Write::Update(fields) = &mut decision.write[side as usize] else { continue };
        let sent = &record.sent[side.other() as usize];
        let held = base.side(side);
        let empties =
            |field: usize| sent[field] == Value::Null && matches!(held[field], Value::Bytes(_));
        for &field in fields.iter().filter(|&&field| empties(field)) {
            if let Some(agreed) = &mut decision.base {
                agreed.set(side, field, held[field]);
                let waits = there == Emptied::Wait;
                let own = if waits { base.side(side.other())[field] } else { Value::Null };
                agreed.set(side.other(), field, own);
            }
        }
        fields.retain(|&field| !empties(field));
        if fields.is_empty() {
            decision.write[side as usize] = Write::Nothing;
        }
    }
}

/// The agreement as it is to be seen where a row has been made anew: what it gets from the other side only is given to it
/// once more.
fn made_anew<'b>(
    plan: &Plan,
    base: &merge::Base<'b>,
    record: &Record<'b>,
    now: &[Now<'b>; 2],
) -> Option<merge::Base<'b>> {
    let side = Side::BOTH.into_iter().find(|&side| record.remade[side as usize])?;
    let [Now::Row(source), Now::Row(target)] = now else { return None };
    let row = if side == Side::Source { source } else { target };
    let mut seen = base.clone();
    for (i, flow) in plan.flows.iter().enumerate() {
        let given = if side == Side::Source { !flow.to_target } else { !flow.to_source };
        if given && row.own[i] != base.side(side)[i] {
            seen.set(side.other(), i, Value::Marker);
        }
    }
    Some(seen)
}

/// The agreement as it is to be seen where one side is gone: what nobody has edited since is no edit by which the
/// other side's row would outlive the delete. That it was given its key when we made it is none, nor is what
/// another system computes by itself, such as the time of the last change, nor what of our row the other
/// system's record held when it was deleted: that had arrived there, also if we never heard so.
fn under_a_delete<'b>(
    plan: &Plan,
    base: &merge::Base<'b>,
    record: &Record<'b>,
    now: &[Now<'b>; 2],
) -> Option<merge::Base<'b>> {
    let (side, row) = match now {
        [Now::Row(row), Now::Gone] => (Side::Source, row),
        [Now::Gone, Now::Row(row)] => (Side::Target, row),
        _ => return None,
    };
    let mut base = base.clone();
    let values = if side == Side::Source { &mut base.source } else { &mut base.target };
    for (i, field) in plan.fields.iter().enumerate() {
        let [own, other] = [side, side.other()].map(|s| field.column[s as usize]);
        let table = plan.side(side);
        // A key is never null but in what was agreed on before there was one.
        let given = own.is_some_and(|c| table.key.contains(&c)) && values[i] == Value::Null;
        let computed = own.is_some_and(|c| plan.is_remote(side) && table.columns[c].generated);
        let held = record.last.filter(|_| plan.is_remote(side.other())).zip(other);
        let arrived = field.how[side as usize].is_some()
            && held.is_some_and(|(last, c)| last[c] == row.sent[i]);
        if given || computed || arrived {
            values[i] = row.own[i];
        }
    }
    Some(base)
}

/// Halves that must not be parted: the same key, and a key with the one it was changed from.
fn bundle(halves: Vec<Half<'_>>) -> Vec<Vec<Half<'_>>> {
    let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(halves.len());
    let mut bundles: Vec<Vec<Half<'_>>> = Vec::with_capacity(halves.len());
    for half in halves {
        let known =
            places.get(half.key).or_else(|| half.before.and_then(|b| places.get(b))).copied();
        let place = known.unwrap_or(bundles.len());
        places.insert(half.key, place);
        if let Some(before) = half.before {
            places.insert(before, place);
        }
        match bundles.get_mut(place) {
            Some(bundle) => bundle.push(half),
            None => bundles.push(vec![half]),
        }
    }
    bundles
}
