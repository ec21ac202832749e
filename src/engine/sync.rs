//! One running sync: where it stands in the log, and how a piece of work is carried out whole or
//! narrowed down to the record that fails.

use super::apply::{self, Writers};
use super::classify::{Class, class};
use super::collect::{Collected, Collector, Half, Seen};
use super::guard;
use super::link::Places;
use super::load::Load;
use super::plan::Plan;
use super::queue::{self, Parked};
use super::remote::{State, push};
use super::resolve::{self, Readers, Record};
use super::settle::{self, Origin};
use super::shapes::Shapes;
use crate::capture::row;
use crate::log::batch::{Entry, Images};
use crate::sql::{self, Arg};
use crate::worker::notify::Settled;
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::Value;
use change::snapshot::{Snapshot, Span};
use foldhash::{HashMap, HashMapExt};
use merge::{Decision, Now, Side};
use pgrx::pg_sys;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Where a sync stands in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Cursor {
    /// Everything in it is settled.
    pub seen: Snapshot,
    /// The end of the batch that is being worked through, and the last change of it settled.
    pub frozen: Option<Snapshot>,
    pub seq: i64,
}

/// A sync the worker runs.
pub struct Sync {
    pub plan: Plan,
    pub cursor: Cursor,
    /// The cursor in the table lags behind the one in memory.
    pub unsaved: bool,
    pub loads: Vec<Load>,
    pub collector: Collector,
    pub queued: queue::Marks,
    pub next_due: Option<Instant>,
    pub known: Known,
    pub readers: Readers,
    pub places: Places,
    pub writers: Writers,
    /// Trouble of the sync as a whole: not before then, and how often so far.
    pub held_until: Option<(Instant, u32)>,
    /// The batch that is being worked through, and how far.
    pub batch: Option<Rc<Batch>>,
    place: usize,
    /// Some of its changes cannot be read, and all is going to be compared.
    lost: bool,
    /// Changes worked on in one transaction.
    chunk: Chunk,
    /// The tick that its end was, as far as this process took it.
    batch_tick: u64,
    /// What was missed is looked at again with what the log has of it by then: not before this tick.
    again_from: u64,
    /// What a person decided about the batch that made the sync stop and ask.
    pub verdict: Option<Verdict>,
    /// The table being gone through, while its rows are worked on.
    pub loading: Option<Load>,
    pub trouble: Option<Failure>,
    pub effort: Effort,
    /// Where a side is an object of another system: what goes on there.
    pub remote: Option<State>,
    /// What of the batch is settled, for listeners.
    pub settled: Settled,
}

/// How much of its worker's time a sync takes.
#[derive(Default)]
pub struct Effort {
    /// Time spent since it last had nothing to do.
    busy: Duration,
    /// When a piece of its work last took too long for the others to wait for it.
    slow: Option<Instant>,
}

/// A sync that has been at work for so long is better served by a worker of its own.
const LONG_WORK: Duration = Duration::from_millis(500);
/// So is one of which a single piece takes longer than this.
const SLOW_PIECE: Duration = Duration::from_millis(100);

impl Effort {
    /// A piece of work took so long; `more`: and is not the last.
    pub fn note(&mut self, took: Duration, more: bool) {
        self.busy = if more { self.busy + took } else { Duration::ZERO };
        if took > SLOW_PIECE {
            self.slow = Some(Instant::now());
        }
    }

    /// Does it keep other syncs waiting, or has in the last `time`?
    pub fn is_heavy(&self, time: Duration) -> bool {
        self.busy > LONG_WORK || self.was_slow(time)
    }

    /// Was a piece of its work slow in the last `time`?
    pub fn was_slow(&self, time: Duration) -> bool {
        self.slow.is_some_and(|at| at.elapsed() < time)
    }
}

/// What a person decided about the deletes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are sent.
    Confirmed,
    /// They are not sent; the rows of the other side stay and are no longer linked.
    Discarded,
}

/// What is known of records beyond the cursor, because their rows were read or written since. Images
/// of older changes, which may still be in the log, would set them back.
#[derive(Default)]
pub struct Known {
    rows: HashMap<u64, Newer>,
    /// Changes by transactions below these ids are not to be trusted at all, on each side: after a
    /// load, and after a start, when nobody remembers what was read.
    pub below: [u64; 2],
    /// The number of the last tick taken.
    pub tick: u64,
}

/// A record that is known at a later moment than the cursor stands at.
#[derive(Clone, Copy, Default)]
struct Newer {
    /// It was read when these ids were not yet given.
    xid: u64,
    /// It was written with this number.
    seq: i64,
    /// The tick it happened after: the next one sees whatever came before it.
    tick: u64,
}

impl Known {
    /// Is the row known at a later moment than this change?
    fn outdates(&self, entry: &Entry, side: Side, key: &[u8]) -> bool {
        entry.xid < self.below[side as usize]
            || !self.rows.is_empty()
                && self
                    .rows
                    .get(&queue::mark(side, key))
                    .is_some_and(|n| entry.xid < n.xid || entry.seq < n.seq)
    }

    fn note(&mut self, mark: u64, xid: u64, seq: i64) {
        let newer = self.rows.entry(mark).or_default();
        newer.xid = newer.xid.max(xid);
        newer.seq = newer.seq.max(seq);
        newer.tick = self.tick;
    }

    /// Everything up to a tick is settled.
    fn settled(&mut self, tick: u64, seen: &Snapshot) {
        self.rows.retain(|_, newer| newer.tick >= tick);
        for below in &mut self.below {
            if *below <= seen.xmin {
                *below = 0;
            }
        }
    }
}

/// How far `step` came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything up to the tick is settled.
    Done,
    /// There is more of the batch.
    More,
    /// Stopped: in need of a decision.
    Stopped,
}

/// How many changes one transaction works on: as many as the document says, and up to ten times as
/// many of a long backlog while that takes no longer than users may have to wait for a row. More at
/// once are cheaper, because rows that lie side by side are written together.
struct Chunk(usize);

/// Longest time that a transaction of ours is meant to hold rows.
const HOLD: Duration = Duration::from_millis(50);

impl Chunk {
    fn size(&mut self, least: usize) -> usize {
        self.0 = self.0.clamp(least, least.saturating_mul(10));
        self.0
    }

    fn learn(&mut self, worked_on: usize, took: Duration) {
        if took > HOLD {
            self.0 /= 2;
        } else if worked_on >= self.0 && took < HOLD / 3 {
            self.0 *= 2;
        }
    }
}

/// Bytes of images worked on at once.
const CHUNK_BYTES: usize = 8 << 20;

/// A batch read from the log, in order, shared by the syncs that stand at the same place.
pub struct Batch {
    pub span: Span,
    /// Only changes with a number above this one were read.
    pub after: i64,
    pub entries: Vec<Entry>,
    /// There is more in the log than was read.
    pub cut: bool,
    /// The lowest number from each place on; empty while numbers rise with the places.
    lowest: Vec<i64>,
}

impl Batch {
    pub fn new(span: Span, after: i64, entries: Vec<Entry>, cut: bool) -> Self {
        let mut lowest = Vec::new();
        if !entries.is_sorted_by_key(|e| e.seq) {
            lowest = entries.iter().map(|e| e.seq).collect();
            for n in (1..lowest.len()).rev() {
                lowest[n - 1] = lowest[n - 1].min(lowest[n]);
            }
        }
        Self { span, after, entries, cut, lowest }
    }

    /// The number below which everything is settled once the places before `place` are.
    fn settled_at(&self, place: usize) -> i64 {
        match self.lowest.get(place).copied().or_else(|| self.entries.get(place).map(|e| e.seq)) {
            Some(seq) => seq - 1,
            None => self.entries.iter().map(|e| e.seq).max().unwrap_or(self.after),
        }
    }
}

impl Sync {
    pub fn new(plan: Plan, cursor: Cursor, loads: Vec<Load>, queued: queue::Marks) -> Self {
        Self {
            plan,
            cursor,
            unsaved: false,
            loads,
            collector: Collector::new(),
            next_due: (!queued.is_empty()).then(Instant::now),
            queued,
            known: Known::default(),
            readers: Readers::default(),
            places: Places::default(),
            writers: Writers::default(),
            held_until: None,
            batch: None,
            place: 0,
            lost: false,
            chunk: Chunk(0),
            batch_tick: 0,
            again_from: 0,
            verdict: None,
            loading: None,
            trouble: None,
            effort: Effort::default(),
            remote: None,
            settled: Settled::default(),
        }
    }

    /// Takes over what an earlier plan of the same sync has learned and the tables do not say.
    pub fn inherit(&mut self, mut old: Self) {
        if let Some(fresh) = &self.remote
            && self.plan.speaks_alike(&old.plan)
            && let Some(mut state) = old.remote.take()
        {
            state.poll.ask_every(fresh.poll.interval());
            self.remote = Some(state);
        }
        self.known = old.known;
        super::load::inherit(&mut self.loads, old.loads);
        self.again_from = old.again_from;
        self.places = old.places;
        self.held_until = old.held_until;
        self.trouble = old.trouble;
        self.effort = old.effort;
        self.settled = old.settled;
        if old.unsaved && old.cursor.frozen.is_none() {
            // Where it stands in memory is at least as far as in the table.
            self.cursor = old.cursor;
            self.unsaved = true;
        }
    }

    /// Forgets the batch that was being worked through; it is read again from the cursor.
    pub fn drop_batch(&mut self) {
        self.batch = None;
        self.place = 0;
    }

    /// Works on the next piece of the current batch.
    ///
    /// # Errors
    /// Trouble of the sync as a whole; a record's own trouble puts that record aside.
    pub fn step(&mut self, epoch: i32, shapes: &mut Shapes) -> Result<Step, Failure> {
        let Some(batch) = self.batch.clone() else { return Ok(Step::Done) };
        if self.place == 0 && self.verdict.is_none() {
            let asked = transaction(|| {
                guard::examine(&self.plan, &mut self.collector, shapes, &batch.entries)
            })?;
            if let Some(decision) = asked {
                self.ask(&decision, &batch)?;
                return Ok(Step::Stopped);
            }
        }
        let mut next = self.place;
        if self.place == 0 && self.places.wants_all(batch.entries.len()) {
            let Self { plan, places, .. } = &mut *self;
            transaction(|| {
                places.read_all(plan);
                Ok(())
            })?;
        }
        let begun = Instant::now();
        let chunk = self.chunk.size(self.plan.config.batch_size as usize);
        let Self { plan, collector, .. } = &mut *self;
        // Only what concerns this sync counts as work.
        let mut mine: Vec<Entry> = Vec::new();
        let mut places: Vec<usize> = Vec::new();
        let mut lost = false;
        transaction(|| {
            for (n, entry) in batch.entries.iter().enumerate().skip(next) {
                next = n + 1;
                if collector.side_of(plan, shapes, entry.shape).is_some() {
                    mine.push(*entry);
                    places.push(n);
                    if mine.len() >= chunk && !goes_on(entry, batch.entries.get(next)) {
                        break;
                    }
                } else {
                    lost |= shapes.is_lost(entry.shape);
                }
            }
            Ok(())
        })?;
        if lost && !self.lost {
            // Before the cursor passes them.
            super::gaps::unreadable(self)?;
            self.lost = true;
        }
        if mine.is_empty() {
            let moved = self.cursor_at(&batch, next);
            if self.verdict.is_some() {
                self.save_cursor(&moved)?;
            } else {
                self.cursor = moved;
                self.unsaved = true;
            }
            return Ok(self.arrive(&batch, next));
        }
        let bump = Bump::new();
        let (known, queued, loading) = (&self.known, &self.queued, !self.loads.is_empty());
        let collector = &mut self.collector;
        let plan = &self.plan;
        let mut images = Images::default();
        let mut collected = Collected::default();
        transaction(|| {
            let Some(log) = crate::log::segments::relations() else {
                return Err(Failure::new("55000", "the log of changes is missing"));
            };
            images = crate::log::batch::fetch(&log, &mine, CHUNK_BYTES);
            let unread = |entry: &Entry, side: Side, key: &[u8]| {
                loading
                    || entry.stale
                    || known.outdates(entry, side, key)
                    || !queued.is_empty() && queued.contains(queue::mark(side, key))
            };
            collected = collector.collect(&bump, plan, shapes, &mine, &images, &unread);
            Ok(())
        })?;
        if images.count() < mine.len() {
            next = places[images.count()];
        }
        let moved = self.cursor_at(&batch, next);
        for event in &collected.events {
            super::gaps::bypassed(self, event)?;
        }
        if let Some(state) = &mut self.remote {
            state.note_backlog(batch.entries.len() - next);
        }
        let origin = Origin { entries: &mine, images: &images };
        self.work(epoch, shapes, &bump, collected.halves, origin, Some(&moved))?;
        for entry in &mine[..images.count()] {
            if let Some(side) = self.collector.side_of(&self.plan, shapes, entry.shape) {
                self.settled.add(&self.plan, side, entry);
            }
        }
        self.chunk.learn(mine.len(), begun.elapsed());
        Ok(self.arrive(&batch, next))
    }

    /// The cursor once everything before a place of the batch is settled.
    fn cursor_at(&self, batch: &Batch, place: usize) -> Cursor {
        if place >= batch.entries.len() && !batch.cut {
            Cursor { seen: batch.span.to.clone(), frozen: None, seq: 0 }
        } else {
            Cursor {
                seen: batch.span.from.clone(),
                frozen: Some(batch.span.to.clone()),
                seq: batch.settled_at(place),
            }
        }
    }

    /// How many changes of the batch at hand have not been looked at.
    pub fn backlog(&self) -> usize {
        self.batch.as_ref().map_or(0, |batch| batch.entries.len().saturating_sub(self.place))
    }

    /// Takes up a batch, whose end is a new tick or one from before.
    pub fn begin(&mut self, batch: Rc<Batch>) {
        if self.cursor.frozen.is_none() {
            self.batch_tick = self.known.tick;
        }
        self.batch = Some(batch);
        self.place = 0;
        self.lost = false;
    }

    /// Nothing happened up to the last tick.
    pub fn skip(&mut self, to: Snapshot) {
        if self.cursor.frozen.is_none() {
            self.batch_tick = self.known.tick;
        }
        self.cursor = Cursor { seen: to, frozen: None, seq: 0 };
        self.unsaved = true;
        self.verdict = None;
        self.known.settled(self.batch_tick, &self.cursor.seen);
    }

    /// Is there something in the queue to be looked at now?
    pub fn is_due(&self) -> bool {
        self.next_due.is_some_and(|due| due <= Instant::now())
    }

    /// Somebody has put records into the queue. What was committed before is taken from the log first:
    /// not before this tick.
    pub fn look_at_queue(&mut self, tick: u64) {
        self.next_due = Some(Instant::now());
        self.again_from = self.again_from.max(tick);
    }

    /// Does what is due wait for the next tick?
    pub fn wants_tick(&self) -> bool {
        self.again_from > self.known.tick && self.is_due()
    }

    fn arrive(&mut self, batch: &Batch, place: usize) -> Step {
        self.place = place;
        if place < batch.entries.len() {
            return Step::More;
        }
        self.batch = None;
        self.place = 0;
        if batch.cut {
            return Step::More;
        }
        self.verdict = None;
        self.known.settled(self.batch_tick, &self.cursor.seen);
        Step::Done
    }

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
                return Ok(());
            }
            Err(failure) => {
                self.narrow(epoch, shapes, bump, &mut bundles, origin, failure)?;
            }
        }
        if let Some(moved) = moved {
            self.save_cursor(moved)?;
        }
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
                let current = super::plan::read_table(table.oid, side.name())?;
                let intact = current.name == table.name
                    && table.columns.iter().all(|c| {
                        current.columns.iter().any(|n| n.name == c.name && n.type_oid == c.type_oid)
                    });
                if !intact {
                    return Ok(Some(failure.clone()));
                }
            }
            Ok(super::plan::missing_rights(plan))
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
            for half in halves {
                queue::park(
                    plan,
                    half.side,
                    half.key,
                    half.before,
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
            plan, readers, writers, places, queued, known, loading, verdict, remote, ..
        } = self;
        let halves: Vec<Half<'b>> = bundles.iter().flatten().cloned().collect();
        let tick = known.tick;
        let match_only = loading.as_ref().is_some_and(|l| l.match_only);
        let discard = match loading {
            Some(load) => load.discarded,
            None => *verdict == Some(Verdict::Discarded),
        };
        let mut again = false;
        let mut read_at = 0;
        let mut marks: Vec<u64> = Vec::new();
        let mut written: Vec<(u64, i64)> = Vec::new();
        let mut records: Option<Vec<Record<'b>>> = None;
        let mut leaving = Vec::new();
        if plan.evaluates() {
            // The user's expressions run where they can write nothing and keep nothing.
            records = Some(as_owner(plan.owner, &plan.search_path, true, || {
                Ok(resolve::resolve(bump, plan, shapes, readers, places, queued, &halves))
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
            }
            let decisions: Vec<Decision<'b>> =
                records.iter().map(|r| decide(plan, r, match_only, discard)).collect();
            let mut outcomes = apply::apply(bump, plan, writers, &records, &decisions)?;
            if let Some(state) = remote.as_mut() {
                leaving = push::intend(plan, state, &records, &decisions, &mut outcomes);
            }
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
        if again {
            self.next_due = Some(Instant::now());
            self.again_from = tick + 1;
        }
        Ok(())
    }

    /// Works on the queue rows that are due. True when there may be more.
    pub fn work_queue(&mut self, epoch: i32, shapes: &mut Shapes) -> Result<bool, Failure> {
        let limit = self.plan.config.batch_size as i32;
        let id = self.plan.id;
        let due = transaction(|| Ok(queue::due(id, limit, &mut self.queued)))?;
        let more = due.len() as i32 == limit;
        if !due.is_empty() {
            let bump = Bump::new();
            let halves = due
                .iter()
                .map(|d| {
                    let mut half =
                        Half::unread(d.side, bump.alloc_slice_copy(&d.key), d.changed_at);
                    half.before = d.before.as_deref().map(|b| &*bump.alloc_slice_copy(b));
                    half
                })
                .collect();
            self.merge_anew(epoch, shapes, &bump, halves)?;
        }
        let next = transaction(|| Ok(queue::next_due(id)))?;
        self.next_due = next.map(|ms| Instant::now() + Duration::from_millis(ms.max(1)));
        Ok(more)
    }

    /// Stops and asks. The batch ends here for good: the answer holds for it, and what is committed
    /// later is judged anew.
    fn ask(&mut self, decision: &guard::Decision, batch: &Batch) -> Result<(), Failure> {
        let id = self.plan.id;
        let cursor = Cursor { frozen: Some(batch.span.to.clone()), ..self.cursor.clone() };
        transaction(|| {
            write_cursor(id, &cursor, false);
            sql::query(
                "UPDATE sync._sync SET state = 'needs decision', decision = $2, reason = $3, changed_at = pg_catalog.clock_timestamp()
                  WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(id), Arg::Text(decision.kind), Arg::Text(&decision.sentence)],
            );
            Ok(())
        })?;
        self.cursor = cursor;
        self.unsaved = false;
        Ok(())
    }

    /// Are the tables no longer what the plan was made for?
    pub fn shape_changed(&self) -> Result<bool, Failure> {
        let plan = &self.plan;
        let mut tables = Vec::new();
        transaction(|| {
            for side in Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side)) {
                let table = plan.side(side);
                let Ok(now) = super::plan::read_table(table.oid, side.name()) else {
                    return Ok(true);
                };
                let same = table.columns.iter().all(|c| now.columns.contains(c))
                    && now.name == table.name
                    && now.key.len() == table.key.len()
                    && now.key_columns().zip(table.key_columns()).all(|(a, b)| a == b);
                if !same {
                    return Ok(true);
                }
                tables.push(now);
            }
            Ok(match &tables[..] {
                [source, target] => plan.lacks_field(source, target),
                [_] => false,
                _ => true,
            })
        })
    }

    pub fn save_cursor(&mut self, moved: &Cursor) -> Result<(), Failure> {
        let id = self.plan.id;
        let decided = self.verdict.is_some();
        transaction(|| {
            write_cursor(id, moved, decided);
            Ok(())
        })?;
        self.cursor = moved.clone();
        self.unsaved = false;
        Ok(())
    }
}

/// Makes the last commit lasting: on this server's disk, and on a standby where the server is set up to
/// wait for one.
pub fn flush() {
    // SAFETY: between transactions; positions of the WAL of this process.
    unsafe {
        let end = pg_sys::XactLastCommitEnd;
        pg_sys::XLogFlush(end);
        let usual = pg_sys::GetConfigOptionResetString(c"synchronous_commit".as_ptr());
        let waits = !usual.is_null()
            && matches!(
                std::ffi::CStr::from_ptr(usual).to_bytes(),
                b"on" | b"remote_write" | b"remote_apply"
            );
        if waits {
            let now = pg_sys::synchronous_commit;
            pg_sys::synchronous_commit =
                pg_sys::SyncCommitLevel::SYNCHRONOUS_COMMIT_REMOTE_FLUSH as i32;
            pg_sys::SyncRepWaitForLSN(end, true);
            pg_sys::synchronous_commit = now;
        }
    }
}

/// Saves how far a sync is. With the end of the batch that a person `decided` about goes what he
/// decided: the next one asks again.
fn write_cursor(sync: i32, cursor: &Cursor, decided: bool) {
    let seen = cursor.seen.to_string();
    let frozen = cursor.frozen.as_ref().map(ToString::to_string);
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._cursor SET seen = $2::pg_catalog.pg_snapshot, frozen = $3::pg_catalog.pg_snapshot, seq = $4,
                    moved_at = pg_catalog.clock_timestamp()
              WHERE sync = $1",
            &[Arg::Int4(sync), Arg::Text(&seen), Arg::OptText(frozen.as_deref()), Arg::Int(cursor.seq)],
        );
        if decided && cursor.frozen.is_none() {
            sql::query(
                "UPDATE sync._sync SET decision = NULL
                  WHERE id = $1 AND decision IN ('confirmed', 'discarded')",
                &[Arg::Int4(sync)],
            );
        }
    });
}

fn decide<'b>(plan: &Plan, record: &Record<'b>, match_only: bool, discard: bool) -> Decision<'b> {
    let now = [record.now(plan, Side::Source), record.now(plan, Side::Target)];
    if record.trouble.is_some() || record.held {
        let base = record.linked().and_then(|l| l.base.clone());
        return Decision { write: Default::default(), conflicts: Vec::new(), base };
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
    if discard && base.is_some() && (now[0] == Now::Gone) != (now[1] == Now::Gone) {
        // The delete stays where it was made; without a base the record is no longer linked.
        return Decision { write: Default::default(), conflicts: Vec::new(), base: None };
    }
    let given = base.and_then(|base| without_given_key(plan, base, &now));
    merge::merge(&plan.flows, given.as_ref().or(base), &now, record.at)
}

/// The agreement as it is to be seen where one side is gone: that the other side's row was given its
/// key when we made it is no edit, by which it would outlive the delete.
fn without_given_key<'b>(
    plan: &Plan,
    base: &merge::Base<'b>,
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
        let key = field.column[side as usize].is_some_and(|c| plan.side(side).key.contains(&c));
        // A key is never null but in what was agreed on before there was one.
        if key && values[i] == Value::Null {
            values[i] = row.own[i];
        }
    }
    Some(base)
}

/// Is the next change the second half of this one, a row's move to another partition?
fn goes_on(entry: &Entry, next: Option<&Entry>) -> bool {
    entry.op == row::DELETE
        && next.is_some_and(|n| {
            n.op == row::INSERT && (n.xid, n.command) == (entry.xid, entry.command)
        })
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
