//! One round of a worker: takes a tick and brings every sync up to it, a slice at a time.

use super::identity::{self, Epoch, Standing};
use super::jobs::Job;
use super::network::Network;
use super::notify::Notes;
use super::process::{OFFER, exit, extension, leave_for_good, report};
use super::purge::Purge;
use super::slots::{JOBS, Slot};
use super::transaction::{Failure, transaction};
use super::upkeep;
use crate::engine::outlet::Outlet;
use crate::engine::polled::Looks;
use crate::engine::remote::{self, May, State};
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Batch, Cursor, Known, Step, Sync};
use crate::engine::{self, load};
use crate::log::batch::Map;
use crate::log::{segments, tick};
use crate::settings;
use crate::sql;
use change::order;
use change::snapshot::{Snapshot, Span};
use pgrx::pg_sys::{self, Oid};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// While prepared transactions are open: their commit wakes nobody.
const PREPARED_POLL: Duration = Duration::from_millis(200);
/// Longest wait after trouble of a whole sync.
const LONGEST_HOLD: Duration = Duration::from_secs(60);
/// Longest time a sync is served before the next gets its turn.
const SLICE: Duration = Duration::from_millis(20);

pub(super) struct Worker {
    pub(super) slot: &'static Slot,
    /// 0: the stream worker; else a job worker, see [`super::jobs`].
    pub(super) number: usize,
    pub(super) extension: Oid,
    pub(super) epoch: Epoch,
    pub(super) map: Map,
    pub(super) shapes: Shapes,
    pub(super) syncs: BTreeMap<i32, Sync>,
    /// Syncs that could not be compiled: why, and when to try again.
    pub(super) broken: HashMap<i32, (Failure, Instant, u32)>,
    /// The order in which syncs are served: those that write the parents of a foreign key first.
    pub(super) order: Vec<i32>,
    /// For each sync the lowest of those that foreign keys connect it with.
    pub(super) families: HashMap<i32, i32>,
    /// The last tick.
    pub(super) tick: Option<Snapshot>,
    pub(super) history_until: i64,
    /// When to look for triggers that ended syncs have left behind.
    pub(super) tidy_at: Option<Instant>,
    pub(super) purge: Purge,
    /// Tables that could not be looked at because somebody held them, and when to try again.
    pub(super) unseen: Option<(Vec<Oid>, Instant)>,
    pub(super) last_rotation: Instant,
    pub(super) last_offer: Instant,
    pub(super) last_saved: Instant,
    /// How many ticks were taken.
    ticks: u64,
    /// What is known of the records of syncs that do not run at the moment.
    pub(super) resting: HashMap<i32, Known>,
    /// The job workers, as far as the stream worker knows.
    pub(super) jobs: [Option<Job>; JOBS],
    /// There was no room for a job worker: not before then.
    pub(super) no_job_before: Instant,
    /// When a job worker took over a sync that had been slow.
    pub(super) took_over_slow: Option<Instant>,
    /// Since when a job worker has had nothing to do.
    pub(super) idle_since: Option<Instant>,
    /// Other systems.
    pub(super) network: Network,
    /// What listeners are to be told.
    pub(super) notes: Notes,
    /// Syncs whose changes applications take.
    pub(super) outlets: BTreeMap<i32, Outlet>,
}

impl Worker {
    pub(super) fn new(
        slot: &'static Slot,
        number: usize,
        extension: Oid,
        epoch: Epoch,
        map: Map,
    ) -> Self {
        let now = Instant::now();
        Self {
            slot,
            number,
            extension,
            epoch,
            map,
            shapes: Shapes::default(),
            syncs: BTreeMap::new(),
            broken: HashMap::new(),
            order: Vec::new(),
            families: HashMap::new(),
            tick: None,
            history_until: i64::MIN,
            tidy_at: None,
            purge: Purge::new(),
            unseen: None,
            last_rotation: now,
            last_offer: now,
            last_saved: now,
            ticks: 0,
            resting: HashMap::new(),
            jobs: Default::default(),
            no_job_before: now,
            took_over_slow: None,
            idle_since: None,
            network: Network::default(),
            notes: Notes::default(),
            outlets: BTreeMap::new(),
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.number == 0
    }

    /// One round. Returns how long there is nothing to do.
    pub(super) fn cycle(&mut self) -> Result<Duration, Failure> {
        // SAFETY: outside a transaction.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        let asked = self.slot.asked.load(Ordering::Acquire);
        let me = &self.slot.workers[self.number];
        let woken = me.clear_wake();
        let enabled = settings::ENABLED.get();
        if self.is_stream() {
            self.slot.switched_off.store(!enabled, Ordering::Release);
            self.take_back();
        }
        // A sync that could not be compiled is tried again when a table has changed, and now and then.
        if !self.broken.is_empty()
            && (self.broken.values().any(|b| b.1 <= Instant::now()) || upkeep::any_touched())
        {
            engine::mark_configuration_stale();
        }
        if engine::take_stale()
            && let Err(failure) = self.configure()
        {
            engine::mark_configuration_stale();
            return Err(failure);
        }
        let fenced = self.epoch.standing == Standing::Fenced;
        let idle = self.syncs.is_empty() && self.outlets.is_empty() && !self.awaits_description();
        if enabled && fenced && !self.outlets.is_empty() {
            // What is put down has not left.
            self.take_tick(false)?;
            self.serve_outlets(asked)?;
        }
        if !enabled || fenced || idle {
            if !self.is_stream() {
                exit(0)
            }
            self.look_at_log()?;
            self.look_after_log()?;
            return Ok(OFFER);
        }
        self.look_at_tables()?;
        let prepared = self.slot.prepared.load(Ordering::Acquire) > 0;
        let written = me.has_news();
        let again = self.syncs.values().any(Sync::wants_tick);
        let unserved = self.syncs.values().any(|s| self.served(s.plan.id) < asked)
            || self.outlets.keys().any(|&id| self.served(id) < asked);
        if woken || prepared || written || unserved || again || self.tick.is_none() {
            report("reading the log");
            self.take_tick(prepared)?;
            // What was committed before the tick holds for it: a pause, for one.
            // SAFETY: outside a transaction.
            unsafe { pg_sys::AcceptInvalidationMessages() };
            if engine::take_stale() {
                engine::mark_configuration_stale();
                return Ok(Duration::ZERO);
            }
        }
        if engine::take_queued() {
            for sync in self.syncs.values_mut() {
                sync.look_at_queue(self.ticks + 1);
            }
        }
        let mut busy = self.serve_outlets(asked)?;
        busy |= self.exchange()?;
        if engine::take_stale() {
            engine::mark_configuration_stale();
            return Ok(Duration::ZERO);
        }
        for id in self.order.clone() {
            pgrx::check_for_interrupts!();
            busy |= self.serve(id, asked)?;
        }
        // What was just decided leaves at once.
        busy |= self.exchange()?;
        if self.is_stream()
            && self.epoch.standing == Standing::Verifying
            && transaction(|| Ok(load::epoch_is_known()))?
        {
            identity::verified(&mut self.epoch)?;
        }
        self.look_after_log()?;
        if self.is_stream() {
            self.hand_over()?;
        } else {
            self.end_if_done(busy)?;
        }
        let untold = self.notify();
        if busy {
            return Ok(Duration::ZERO);
        }
        let mut wait = if prepared { PREPARED_POLL } else { OFFER };
        wait = wait.min(untold.unwrap_or(wait));
        for broken in self.broken.values() {
            wait = wait.min(broken.1.saturating_duration_since(Instant::now()));
        }
        if let Some(due) = self.network_due() {
            wait = wait.min(due);
        }
        for sync in self.syncs.values_mut() {
            sync.tell_pace(self.tick.as_ref())?;
        }
        for sync in self.syncs.values() {
            if let Some(until) = sync.paced_until() {
                wait = wait.min(until.saturating_duration_since(Instant::now()));
                continue;
            }
            let look = sync.looks.as_ref().map(Looks::due);
            for due in [sync.next_due, sync.held_until.map(|h| h.0), look].into_iter().flatten() {
                wait = wait.min(
                    due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
                );
            }
            // Writers that began before the load wake nobody when they end.
            if sync.loads.first().is_some_and(|l| !sync.plan.is_remote(l.side)) {
                wait = wait.min(Duration::from_millis(20));
            }
        }
        Ok(wait)
    }

    /// Takes a tick in a transaction of its own, before anything is written, and brings the map of
    /// the log up to it.
    fn take_tick(&mut self, prepared: bool) -> Result<(), Failure> {
        let (map, slot, known, stream) =
            (&mut self.map, self.slot, self.extension, self.number == 0);
        let mut gone = false;
        let tick = transaction(|| {
            if extension() != Some(known) {
                gone = true;
                return Ok(Snapshot::empty());
            }
            // Asked before the tick is taken: what was committed in between is seen by it.
            let before = slot.prepared.load(Ordering::Acquire);
            let none_open = prepared
                && stream
                && sql::one(
                    "SELECT 1 FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database() LIMIT 1",
                    &[],
                )
                .is_none();
            let tick = tick::current_snapshot();
            let Some(log) = segments::relations() else {
                return Err(Failure::new(
                    "55000",
                    "the log of changes is missing or of an unknown layout",
                ));
            };
            map.refresh(&log);
            if none_open {
                // One that was prepared since is counted again.
                let _ =
                    slot.prepared.compare_exchange(before, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
            Ok(tick)
        })?;
        if gone {
            self.leave_what_is_gone()?;
        }
        self.shapes.look_again();
        self.tick = Some(tick);
        self.ticks += 1;
        Ok(())
    }

    /// The extension that this worker served was dropped.
    pub(super) fn leave_what_is_gone(&self) -> Result<(), Failure> {
        if transaction(|| Ok(extension()))?.is_none() {
            leave_for_good(self.slot, self.number);
        }
        // Dropped and created again: the next worker begins anew.
        exit(1)
    }

    /// Works on one sync for a slice. True when there is more to do at once.
    fn serve(&mut self, id: i32, asked: u64) -> Result<bool, Failure> {
        let held = |s: &Sync| {
            s.held_until.is_some_and(|h| h.0 > Instant::now()) || s.paced_until().is_some()
        };
        if self.syncs.get(&id).is_none_or(held) {
            return Ok(false);
        }
        let Some(mut sync) = self.syncs.remove(&id) else { return Ok(false) };
        sync.known.tick = self.ticks;
        let begun = Instant::now();
        sync.begin_look(asked);
        let mut result = self.serve_inner(&mut sync);
        if result.is_ok() {
            result = sync.end_look().and(result);
        }
        sync.effort.note(begun.elapsed(), matches!(result, Ok(true)));
        let (more, said) = match result {
            Ok(more) => {
                sync.held_until = None;
                // What the other system refuses is no better for what else was done.
                let refused = sync.remote.as_ref().is_some_and(State::is_refused);
                let said = match sync.trouble.take_if(|_| !refused) {
                    Some(_) => self.note_trouble(id, None),
                    None => Ok(()),
                };
                (more, said)
            }
            Err(failure) => {
                let tries = sync.held_until.map_or(0, |h| h.1) + 1;
                let pause = Duration::from_millis(500 * (1 << tries.min(7))).min(LONGEST_HOLD);
                sync.held_until = Some((Instant::now() + pause, tries));
                sync.drop_batch();
                let said = self.note_trouble(id, Some(&failure));
                sync.trouble = Some(failure);
                // Its statements may be what is wrong.
                engine::mark_configuration_stale();
                (false, said)
            }
        };
        let well = sync.trouble.is_none() && said.is_ok();
        // Settled for a waiter: the log up to the tick, the loads, what was put off for a moment, and what
        // `sync.status` says of it.
        if well
            && !more
            && sync.loads.is_empty()
            && sync.remote.as_ref().is_none_or(State::is_settled)
            && self.tick.is_some()
            && sync.paced_until().is_none()
            && sync.looks.as_ref().is_none_or(|looks| looks.has_answered(asked))
            && !sync.puts_off()?
            && let Some(progress) = self.slot.claim_progress(sync.plan.id as u32)
        {
            progress.done.fetch_max(asked, Ordering::AcqRel);
        }
        // Also when the trouble could not even be written down.
        self.syncs.insert(id, sync);
        said.map(|()| more)
    }

    fn serve_inner(&mut self, sync: &mut Sync) -> Result<bool, Failure> {
        let Some(tick) = self.tick.clone() else { return Ok(false) };
        let epoch = self.epoch.number;
        let begun = Instant::now();
        report(&format!("syncing {}", sync.plan.name));
        if sync.remote.is_some() {
            return self.serve_remote(sync, &tick, begun);
        }
        loop {
            pgrx::check_for_interrupts!();
            if sync.paced_until().is_some() {
                return Ok(false);
            }
            if sync.batch.is_none() && (sync.cursor.frozen.is_some() || sync.cursor.seen != tick) {
                self.read_batch(sync, &tick)?;
            }
            if sync.batch.is_none() {
                break;
            }
            match sync.step(epoch, &mut self.shapes)? {
                Step::Stopped => {
                    engine::mark_configuration_stale();
                    return Ok(true);
                }
                Step::Done => self.note_batch(sync),
                Step::More if begun.elapsed() > SLICE => return Ok(true),
                Step::More => {}
            }
        }
        if sync.is_due() && !sync.wants_tick() && sync.work_queue(epoch, &mut self.shapes)? {
            return Ok(true);
        }
        if !sync.loads.is_empty() && load::step(sync, epoch, &mut self.shapes)? {
            return Ok(sync.loads.first().is_none_or(load::Load::ready));
        }
        Ok(sync.is_due())
    }

    /// The same for a sync with another system, which also has answers, pages and calls to see to.
    fn serve_remote(
        &mut self,
        sync: &mut Sync,
        tick: &Snapshot,
        begun: Instant,
    ) -> Result<bool, Failure> {
        let epoch = self.epoch.number;
        loop {
            pgrx::check_for_interrupts!();
            // A new epoch compares everything first: nothing is sent for a record that has not been read.
            let verifying = load::reads_before_sending(&sync.loads);
            let may = May { push: !verifying && !self.has_orphans(sync.plan.id) };
            let mut done = sync.exchange(epoch, &mut self.shapes, may)? == remote::Step::Done;
            if may.push && sync.may_take_more() {
                if sync.batch.is_none()
                    && (sync.cursor.frozen.is_some() || sync.cursor.seen != *tick)
                {
                    self.read_batch(sync, tick)?;
                }
                if sync.batch.is_some() {
                    done = true;
                    if sync.step(epoch, &mut self.shapes)? == Step::Stopped {
                        engine::mark_configuration_stale();
                        return Ok(true);
                    }
                }
            }
            let remote = sync.loads.first().is_some_and(|l| sync.plan.is_remote(l.side));
            if !sync.loads.is_empty() && (remote || sync.may_take_more()) {
                let more = load::step(sync, epoch, &mut self.shapes)?;
                done |= more && (remote || sync.loads.first().is_none_or(load::Load::ready));
            }
            sync.note_caught_up(tick);
            if !done {
                return Ok(false);
            }
            if begun.elapsed() > SLICE {
                return Ok(true);
            }
        }
    }

    fn served(&self, sync: i32) -> u64 {
        self.slot.progress_of(sync as u32).map_or(0, |p| p.done.load(Ordering::Acquire))
    }

    /// Reads the next batch of a sync, or shares that of one that stands at the same place.
    fn read_batch(&mut self, sync: &mut Sync, tick: &Snapshot) -> Result<(), Failure> {
        let to = sync.cursor.frozen.clone().unwrap_or_else(|| tick.clone());
        let after = if sync.cursor.frozen.is_some() { sync.cursor.seq } else { i64::MIN };
        let shared = self
            .syncs
            .values()
            .filter_map(|s| s.batch.as_ref())
            .find(|b| b.after == after && b.span.from == sync.cursor.seen && b.span.to == to);
        if let Some(batch) = shared {
            let batch = Rc::clone(batch);
            sync.begin(batch);
            return Ok(());
        }
        let span = Span::new(sync.cursor.seen.clone(), to);
        let map = &self.map;
        let (mut entries, cut) = transaction(|| {
            let Some(log) = segments::relations() else {
                return Err(Failure::new(
                    "55000",
                    "the log of changes is missing or of an unknown layout",
                ));
            };
            Ok(map.read(&log, &span, after, settings::READ_LIMIT.get() as usize))
        })?;
        order::sort(&mut entries);
        if entries.is_empty() && !cut {
            if sync.verdict.is_some() {
                sync.save_cursor(&Cursor { seen: span.to.clone(), frozen: None, seq: 0 })?;
            }
            sync.skip(span.to);
            return Ok(());
        }
        sync.begin(Rc::new(Batch::new(span, after, entries, cut)));
        Ok(())
    }
}
