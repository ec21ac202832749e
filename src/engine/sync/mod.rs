//! One running sync: where it stands in the log, and how it gets on. `work` carries out a piece.

mod batch;
mod effort;
mod known;
mod work;

pub use batch::Batch;
pub use effort::Effort;
pub use known::{Inserted, Known};

use crate::capture::row;
use crate::engine::apply::Writers;
use crate::engine::collect::{Collected, Collector, Half};
use crate::engine::fan_out::Fan;
use crate::engine::link::Places;
use crate::engine::load::{Load, Tally};
use crate::engine::pace::{self, Pace};
use crate::engine::plan::Plan;
use crate::engine::polled::Looks;
use crate::engine::remote::State;
use crate::engine::remote::fresh::Fresh;
use crate::engine::resolve::Readers;
use crate::engine::settle::Origin;
use crate::engine::shapes::Shapes;
use crate::engine::statement::Statement;
use crate::engine::{guard, queue};
use crate::log::batch::{Entry, Images};
use crate::sql::{self, Arg};
use crate::worker::notify::Settled;
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use change::snapshot::Snapshot;
use effort::Chunk;
use merge::Side;
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
    /// Of a table that is polled.
    pub looks: Option<Looks>,
    /// What the load at hand has found, to be asked about where it is much.
    pub tally: Tally,
    /// The syncs served before this one that its records point to: what they have is loaded first.
    pub parents: Vec<i32>,
    pub collector: Collector,
    pub queued: queue::Marks,
    pub next_due: Option<Instant>,
    pub known: Known,
    pub readers: Readers,
    pub places: Places,
    pub writers: Writers,
    /// Where a function makes the target's rows.
    pub fan: Fan,
    pub fresh: Option<Fresh>,
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
    /// The same of what was to be taken from the other system.
    pub pulled: Option<Verdict>,
    /// The table being gone through, while its rows are worked on.
    pub loading: Option<Load>,
    pub trouble: Option<Failure>,
    pub effort: Effort,
    /// Where a side is an object of another system: what goes on there.
    pub remote: Option<State>,
    /// What of the batch is settled, for listeners.
    pub settled: Settled,
    /// How fast it may go, between tables; with another system that is its state's.
    pub pace: Pace,
    /// Until when `sync.status` says that it waits.
    pace_told: Option<Instant>,
    /// The statement that writes stamps, and whether they could not be written last.
    pub stamping: Option<Statement>,
    pub stamping_fails: bool,
}

/// What a person decided about the deletes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They are sent.
    Confirmed,
    /// They are not sent; the rows of the other side stay and are no longer linked.
    Discarded,
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

/// A piece of work between tables ends with a transaction where it gets no longer by that than by so many changes.
const MOST_WHOLE: usize = 10_000;
/// How far from what `sync.status` says of a wait for a rate limit it is told anew.
const TOLD_AGAIN: Duration = Duration::from_secs(1);

/// Bytes of images worked on at once.
const CHUNK_BYTES: usize = 8 << 20;

impl Sync {
    pub fn new(plan: Plan, cursor: Cursor, loads: Vec<Load>, queued: queue::Marks) -> Self {
        Self {
            plan,
            cursor,
            unsaved: false,
            loads,
            parents: Vec::new(),
            collector: Collector::new(),
            next_due: (!queued.is_empty()).then(Instant::now),
            queued,
            known: Known::default(),
            readers: Readers::default(),
            places: Places::default(),
            writers: Writers::default(),
            fan: Fan::default(),
            fresh: None,
            held_until: None,
            batch: None,
            place: 0,
            lost: false,
            chunk: Chunk::default(),
            batch_tick: 0,
            again_from: 0,
            verdict: None,
            pulled: None,
            loading: None,
            trouble: None,
            effort: Effort::default(),
            remote: None,
            settled: Settled::default(),
            pace: Pace::default(),
            pace_told: None,
            looks: None,
            tally: Tally::default(),
            stamping: None,
            stamping_fails: false,
        }
    }

    /// Takes over what an earlier plan of the same sync has learned and the tables do not say.
    pub fn inherit(&mut self, mut old: Self) {
        if let Some(fresh) = &self.remote
            && self.plan.speaks_alike(&old.plan)
            && let Some(mut state) = old.remote.take()
        {
            state.poll.ask_every(fresh.poll.interval());
            state.forget_schedule();
            self.remote = Some(state);
        } else if let (Some(state), Some(before)) = (&mut self.remote, old.remote.take()) {
            state.pace = before.pace;
        }
        (self.pace, self.pace_told) = (old.pace, old.pace_told);
        self.known = old.known;
        let look_goes_on = old.looks.is_some() && self.plan.speaks_alike(&old.plan);
        self.looks = old.looks.filter(|_| look_goes_on);
        self.tally = old.tally;
        crate::engine::load::inherit(&mut self.loads, old.loads, look_goes_on);
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

    /// Do records wait that are not to be sent before they have come to rest?
    ///
    /// # Errors
    /// What reading the queue raised.
    pub fn puts_off(&self) -> Result<bool, Failure> {
        if self.plan.config.debounce.is_none() || self.queued.is_empty() {
            return Ok(false);
        }
        transaction(|| Ok(queue::has_pending(self.plan.id)))
    }

    /// Goes no faster than its document allows.
    ///
    /// # Errors
    /// What reading how far it has gone raised.
    pub fn keep_pace(&mut self) -> Result<(), Failure> {
        let (id, limits) = (self.plan.id, &self.plan.config.rate_limits);
        let pace = match &mut self.remote {
            Some(state) => &mut state.pace,
            None => &mut self.pace,
        };
        if pace.is_of_other(limits) {
            let done = transaction(|| {
                pace::take_back(id);
                Ok(pace::noted(id))
            })?;
            pace.set(limits, &done);
            self.pace_told = None;
        }
        Ok(())
    }

    /// Has `sync.status` say so where there is something to do and it has done as much as it may.
    ///
    /// # Errors
    /// What writing that down raised.
    pub fn tell_pace(&mut self, tick: Option<&Snapshot>) -> Result<(), Failure> {
        let (pace, wants) = match &self.remote {
            Some(state) => (&state.pace, state.has_calls()),
            None => {
                let news = tick.is_some_and(|tick| self.cursor.seen != *tick);
                (
                    &self.pace,
                    news || self.batch.is_some() || self.is_due() || !self.loads.is_empty(),
                )
            }
        };
        let held = pace.held().filter(|_| wants);
        let near = |told: Instant, until: Instant| until.max(told) - until.min(told) < TOLD_AGAIN;
        let id = self.plan.id;
        match (&held, self.pace_told) {
            // What has been waited for is over by itself.
            (None, told) if told.is_none_or(|told| told <= Instant::now()) => {}
            (None, _) => transaction(|| {
                pace::take_back(id);
                Ok(())
            })?,
            (Some((until, _)), Some(told)) if near(told, *until) => return Ok(()),
            (Some((until, limit)), _) => transaction(|| {
                pace::tell(id, *until, limit);
                Ok(())
            })?,
        }
        self.pace_told = held.map(|held| held.0);
        Ok(())
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
            let Self { plan, collector, readers, places, .. } = &mut *self;
            let asked = transaction(|| guard::examine(plan, collector, shapes, &batch.entries))?;
            let left =
                guard::examine_exits(plan, collector, shapes, readers, places, &batch.entries)?;
            if let Some(decision) = guard::Decision::both(asked, left) {
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
        let chunk = self.piece();
        // Another system sees nobody's transactions.
        let paced = !self.plan.config.rate_limits.is_empty();
        let longer = if self.remote.is_some() || paced { 0 } else { MOST_WHOLE };
        let Self { plan, collector, known, .. } = &mut *self;
        // Only what concerns this sync counts as work.
        let mut mine: Vec<Entry> = Vec::new();
        let mut places: Vec<usize> = Vec::new();
        let mut lost = false;
        transaction(|| {
            for (n, entry) in batch.entries.iter().enumerate().skip(next) {
                next = n + 1;
                let side = collector.side_of(plan, shapes, entry.shape);
                if side.is_some_and(|side| known.is_own(plan, side, entry)) {
                    continue;
                }
                if side.is_some() {
                    mine.push(*entry);
                    places.push(n);
                    if mine.len() >= chunk
                        && !goes_on(entry, batch.entries.get(next))
                        && !(1..=longer).contains(&batch.open_after(n))
                    {
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
            crate::engine::gaps::unreadable(self)?;
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
            crate::engine::gaps::bypassed(self, event)?;
        }
        if let Some(state) = &mut self.remote {
            state.note_backlog(batch.entries.len() - next);
        }
        let origin = Origin { entries: &mine, images: &images };
        let halves = match self.plan.config.debounce.filter(|_| self.verdict.is_none()) {
            Some(pause) => self.put_off(epoch, collected.halves, origin, pause)?,
            None => collected.halves,
        };
        self.work(epoch, shapes, &bump, halves, origin, Some(&moved))?;
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

    /// How many records are well worked on in one transaction.
    pub fn piece(&mut self) -> usize {
        let allowed = self.allowed();
        self.chunk.size(self.plan.config.batch_size as usize).min(allowed)
    }

    /// How many records may be worked on before the document has it wait.
    pub fn allowed(&mut self) -> usize {
        // How many rows a function makes of one shows when they are written.
        let one_by_one =
            self.plan.row_function.is_some() && !self.plan.config.rate_limits.is_empty();
        if one_by_one { 1 } else { self.pace.room().max(1) }
    }

    /// Until when it has to wait, because it has done as much as the document allows.
    pub fn paced_until(&self) -> Option<Instant> {
        self.pace.free_at()
    }

    /// So many have been, since then.
    pub fn learn(&mut self, records: usize, begun: Instant) {
        self.chunk.learn(records, begun.elapsed());
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

    /// Works on the queue rows that are due. True when there may be more.
    pub fn work_queue(&mut self, epoch: i32, shapes: &mut Shapes) -> Result<bool, Failure> {
        let limit = (self.plan.config.batch_size as usize).min(self.allowed()) as i32;
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
        // What is to be looked at once more is due at once: nobody who waits is told before that all is settled.
        self.next_due = next.map(|ms| Instant::now() + Duration::from_millis(ms));
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
                let Ok(now) = table.read_again(side.name()) else {
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
pub fn write_cursor(sync: i32, cursor: &Cursor, decided: bool) {
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

/// Is the next change the second half of this one, a row's move to another partition?
fn goes_on(entry: &Entry, next: Option<&Entry>) -> bool {
    entry.op == row::DELETE
        && next.is_some_and(|n| {
            n.op == row::INSERT && (n.xid, n.command) == (entry.xid, entry.command)
        })
}
