//! The worker of one database: waits to be woken, takes a tick, and brings every sync up to it, a
//! slice at a time.

use super::environment;
use super::identity::{self, Epoch, Standing};
use super::slots::{self, Slot};
use super::transaction::{Failure, transaction};
use crate::border;
use crate::engine::plan::{self, Stored};
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Batch, Cursor, Known, Step, Sync, Verdict};
use crate::engine::{self, gaps, load, queue, store};
use crate::log::batch::Map;
use crate::log::{history, rotation, segments, tick};
use crate::settings;
use crate::speech;
use crate::sql::{self, Arg};
use change::order;
use change::snapshot::{Snapshot, Span};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the worker offers way to whoever wants the database for himself.
const OFFER: Duration = Duration::from_millis(1000);
/// While prepared transactions are open: their commit wakes nobody.
const PREPARED_POLL: Duration = Duration::from_millis(200);
/// When a table that somebody held is looked at again: each try may wait for a second.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Longest wait after trouble of a whole sync.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

static mut DATABASE: Oid = pg_sys::InvalidOid;

/// Main function of a database's worker. Its argument is the database's OID.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sync_ext_worker(argument: pg_sys::Datum) {
    super::prepare_signals();
    let database = Oid::from(argument.value() as u32);
    // SAFETY: a background worker's first steps.
    unsafe {
        DATABASE = database;
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::null());
    }
    let Some(slot) = slots::claim(database) else {
        // SAFETY: the end of this process.
        unsafe { pg_sys::proc_exit(1) }
    };
    if !slot.enter() {
        // Another worker serves this database already.
        // SAFETY: as above.
        unsafe { pg_sys::proc_exit(0) }
    }
    if let Err(failure) = transaction(|| Ok(())) {
        speech::warning(format!("sync_ext worker cannot start: {failure}"));
        // SAFETY: as above.
        unsafe { pg_sys::proc_exit(1) }
    }
    speech::listen();
    environment::assert_all();
    crate::capture::install();
    // SAFETY: lives as long as the process.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_relcache), pg_sys::Datum::null()) };
    match Worker::start(slot) {
        Ok(Some(mut worker)) => worker.run(),
        Ok(None) => leave_for_good(slot),
        Err(failure) => {
            speech::warning(format!("sync_ext worker cannot start: {failure}"));
            // SAFETY: as above.
            unsafe { pg_sys::proc_exit(1) }
        }
    }
}

unsafe extern "C-unwind" fn leave(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: plain globals.
    let (database, pid) = unsafe { (DATABASE, pg_sys::MyProcPid) };
    if let Some(slot) = slots::of(database)
        && slot.pid.load(Ordering::Acquire) == pid
    {
        slot.leave();
        // A launcher that did not start this process is not told of its end by the postmaster.
        slots::wake_launcher();
    }
}

/// The extension is not here (any more): takes its mark off the database and ends.
fn leave_for_good(slot: &Slot) -> ! {
    let result = transaction(|| {
        // CREATE EXTENSION takes the same lock before it leaves its mark, so that we never take off
        // the mark of one that has just committed.
        sql::query("SELECT pg_catalog.pg_advisory_xact_lock(1937337955, 1)", &[]);
        if extension().is_some() {
            return Ok(());
        }
        sql::on_this_database("RESET sync_ext.installed");
        Ok(())
    });
    if let Err(failure) = result {
        speech::log(format!("sync_ext worker leaves its mark on the database: {failure}"));
    }
    slot.set_standing(slots::Standing::NotWanted);
    // SAFETY: the end of this process; 0: not wanted here.
    unsafe { pg_sys::proc_exit(0) }
}

/// Relations whose catalogs have changed since the worker last looked.
static mut TOUCHED: Vec<Oid> = Vec::new();
/// `sync._sync`, whose invalidation means a new configuration.
static mut CONFIGURATION: Oid = pg_sys::InvalidOid;

unsafe extern "C-unwind" fn on_relcache(_: pg_sys::Datum, relid: Oid) {
    // SAFETY: one thread.
    unsafe {
        if relid == pg_sys::InvalidOid || relid == CONFIGURATION {
            engine::mark_configuration_stale();
        }
        let touched = &mut *(&raw mut TOUCHED);
        if touched.len() < 1000 {
            touched.push(relid);
        } else {
            touched.clear();
            touched.push(pg_sys::InvalidOid);
        }
    }
}

struct Worker {
    slot: &'static Slot,
    extension: Oid,
    epoch: Epoch,
    map: Map,
    shapes: Shapes,
    syncs: BTreeMap<i32, Sync>,
    /// Syncs that could not be compiled: why, and when to try again.
    broken: HashMap<i32, (Failure, Instant, u32)>,
    /// The order in which syncs are served: those that write the parents of a foreign key first.
    order: Vec<i32>,
    /// The last tick.
    tick: Option<Snapshot>,
    history_until: i64,
    /// Tables that could not be looked at because somebody held them, and when to try again.
    unseen: Option<(Vec<Oid>, Instant)>,
    last_rotation: Instant,
    last_offer: Instant,
    last_saved: Instant,
    /// How many ticks were taken.
    ticks: u64,
    /// What is known of the records of syncs that do not run at the moment.
    resting: HashMap<i32, Known>,
}

impl Worker {
    /// Looks whether there is anything to serve. `None`: the extension is not here.
    fn start(slot: &'static Slot) -> Result<Option<Self>, Failure> {
        let Some(extension) = transaction(|| Ok(extension()))? else { return Ok(None) };
        // SAFETY: one thread.
        unsafe { CONFIGURATION = transaction(|| Ok(store::relation("_sync")))? };
        let epoch = identity::establish()?;
        // What held up the worker before this one is tried anew.
        transaction(|| {
            sql::query(
                "UPDATE sync._sync SET reason = NULL WHERE state = 'running' AND reason IS NOT NULL",
                &[],
            );
            Ok(())
        })?;
        Ok(Some(Self {
            slot,
            extension,
            epoch,
            map: Map::default(),
            shapes: Shapes::default(),
            syncs: BTreeMap::new(),
            broken: HashMap::new(),
            order: Vec::new(),
            tick: None,
            history_until: i64::MIN,
            unseen: None,
            last_rotation: Instant::now(),
            last_offer: Instant::now(),
            last_saved: Instant::now(),
            ticks: 0,
            resting: HashMap::new(),
        }))
    }

    fn run(&mut self) -> ! {
        let mut held: u32 = 0;
        // The server may have restarted with prepared transactions open.
        self.slot.prepared.fetch_add(1, Ordering::AcqRel);
        loop {
            pgrx::check_for_interrupts!();
            if super::reload_if_asked() {
                environment::assert_all();
            }
            self.offer_way();
            let wait = match self.cycle() {
                Ok(wait) => {
                    if std::mem::take(&mut held) > 1 {
                        self.slot.set_standing(slots::Standing::Running);
                    }
                    wait
                }
                Err(failure) => {
                    held += 1;
                    if held > 1 {
                        self.slot.set_standing(slots::Standing::Failing);
                    }
                    speech::warning(format!("sync_ext worker: {failure}"));
                    Duration::from_millis(250 * u64::from(held.min(40)))
                }
            };
            // SAFETY: statistics of this process, between transactions.
            unsafe { pg_sys::pgstat_report_stat(false) };
            if !wait.is_zero() {
                report("idle");
                super::wait(wait.min(OFFER), c"SyncExtWorker");
            }
        }
    }

    /// DROP DATABASE and CREATE DATABASE … TEMPLATE hold a lock on the database and wait for its
    /// sessions to leave: if we cannot get a weak lock on it, somebody does, and we go.
    fn offer_way(&mut self) {
        if self.last_offer.elapsed() < OFFER {
            return;
        }
        self.last_offer = Instant::now();
        // SAFETY: a session lock, taken and released at once; needs no transaction.
        unsafe {
            let tag = pg_sys::LOCKTAG {
                locktag_field1: 0,
                locktag_field2: pg_sys::DatabaseRelationId.to_u32(),
                locktag_field3: pg_sys::MyDatabaseId.to_u32(),
                locktag_field4: 0,
                locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
                locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
            };
            let mode = pg_sys::RowExclusiveLock as i32;
            if pg_sys::LockAcquire(&raw const tag, mode, true, true)
                == pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
            {
                self.slot.set_standing(slots::Standing::NotWanted);
                pg_sys::proc_exit(0);
            }
            pg_sys::LockRelease(&raw const tag, mode, true);
        }
        // SAFETY: outside a transaction; only marks caches.
        unsafe { pg_sys::AcceptInvalidationMessages() };
    }

    /// One round. Returns how long there is nothing to do.
    fn cycle(&mut self) -> Result<Duration, Failure> {
        // SAFETY: outside a transaction.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        let asked = self.slot.asked.load(Ordering::Acquire);
        let woken = self.slot.clear_wake();
        let enabled = settings::ENABLED.get();
        self.slot.switched_off.store(!enabled, Ordering::Release);
        // A sync that could not be compiled is tried again when a table has changed, and now and then.
        let touched = |oid: &Oid| *oid != pg_sys::InvalidOid;
        if !self.broken.is_empty()
            && (self.broken.values().any(|b| b.1 <= Instant::now())
                // SAFETY: one thread.
                || unsafe { (*(&raw const TOUCHED)).iter().any(touched) })
        {
            engine::mark_configuration_stale();
        }
        if engine::take_stale()
            && let Err(failure) = self.configure()
        {
            engine::mark_configuration_stale();
            return Err(failure);
        }
        if !enabled || self.epoch.standing == Standing::Fenced || self.syncs.is_empty() {
            self.look_at_log()?;
            self.look_after_log()?;
            return Ok(OFFER);
        }
        self.look_at_tables()?;
        let prepared = self.slot.prepared.load(Ordering::Acquire) > 0;
        let written = (0..slots::SEGMENTS)
            .any(|n| self.slot.low[n].load(Ordering::Acquire) != slots::NO_BLOCK);
        let again = self.syncs.values().any(Sync::wants_tick);
        let unserved = self.syncs.values().any(|s| self.served(s) < asked);
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
        let mut busy = false;
        for id in self.order.clone() {
            pgrx::check_for_interrupts!();
            busy |= self.serve(id, asked)?;
        }
        if self.epoch.standing == Standing::Verifying
            && self.syncs.values().all(|s| s.loads.is_empty())
        {
            identity::verified(&mut self.epoch)?;
        }
        self.look_after_log()?;
        if busy {
            return Ok(Duration::ZERO);
        }
        let mut wait = if prepared { PREPARED_POLL } else { OFFER };
        for broken in self.broken.values() {
            wait = wait.min(broken.1.saturating_duration_since(Instant::now()));
        }
        for sync in self.syncs.values() {
            for due in [sync.next_due, sync.held_until.map(|h| h.0)].into_iter().flatten() {
                wait = wait.min(
                    due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)),
                );
            }
            if !sync.loads.is_empty() {
                wait = wait.min(Duration::from_millis(20));
            }
        }
        Ok(wait)
    }

    /// Takes a tick in a transaction of its own, before anything is written, and brings the map of
    /// the log up to it.
    fn take_tick(&mut self, prepared: bool) -> Result<(), Failure> {
        let (map, slot, extension) = (&mut self.map, self.slot, self.extension);
        let mut gone = false;
        let tick = transaction(|| {
            if self::extension() != Some(extension) {
                gone = true;
                return Ok(Snapshot::empty());
            }
            // Asked before the tick is taken: what was committed in between is seen by it.
            let before = slot.prepared.load(Ordering::Acquire);
            let none_open = prepared
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
            map.refresh(&log, slot);
            if none_open {
                // One that was prepared since is counted again.
                let _ =
                    slot.prepared.compare_exchange(before, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
            Ok(tick)
        })?;
        if gone {
            if transaction(|| Ok(self::extension()))?.is_none() {
                leave_for_good(self.slot);
            }
            // Dropped and created again: begin anew.
            // SAFETY: the end of this process; the launcher starts the next.
            unsafe { pg_sys::proc_exit(1) }
        }
        self.tick = Some(tick);
        self.ticks += 1;
        Ok(())
    }

    /// Nobody is served, but the log must not grow without end: learns what was written to it.
    fn look_at_log(&mut self) -> Result<(), Failure> {
        let (map, slot) = (&mut self.map, self.slot);
        transaction(|| {
            if let Some(log) = segments::relations() {
                map.refresh(&log, slot);
            }
            Ok(())
        })
    }

    /// Works on one sync for a slice. True when there is more to do at once.
    fn serve(&mut self, id: i32, asked: u64) -> Result<bool, Failure> {
        let held = |s: &Sync| s.held_until.is_some_and(|h| h.0 > Instant::now());
        if self.syncs.get(&id).is_none_or(held) {
            return Ok(false);
        }
        let Some(mut sync) = self.syncs.remove(&id) else { return Ok(false) };
        sync.known.tick = self.ticks;
        let result = self.serve_inner(&mut sync);
        let (more, said) = match result {
            Ok(more) => {
                sync.held_until = None;
                let said = match sync.trouble.take() {
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
            && self.tick.is_some()
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
        loop {
            pgrx::check_for_interrupts!();
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
                Step::Done => {}
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

    fn served(&self, sync: &Sync) -> u64 {
        self.slot.progress_of(sync.plan.id as u32).map_or(0, |p| p.done.load(Ordering::Acquire))
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

    /// What the user reads in `sync.status` of a sync that cannot work.
    fn note_trouble(&self, id: i32, failure: Option<&Failure>) -> Result<(), Failure> {
        let text = failure.map(|f| {
            let mut text = f.message.clone();
            for more in [&f.detail, &f.hint].into_iter().flatten() {
                text.push_str(" - ");
                text.push_str(more);
            }
            text
        });
        let state = failure.map(|f| f.sqlstate.clone());
        transaction(|| {
            sql::query(
                "UPDATE sync._sync SET reason = $2 WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(id), Arg::OptText(text.as_deref())],
            );
            if let (Some(state), Some(failure)) = (&state, failure) {
                sql::query(
                    "INSERT INTO sync._error (sync, attempt, sqlstate, message, detail, hint) VALUES ($1, 1, $2, $3, $4, $5)",
                    &[
                        Arg::Int4(id),
                        Arg::Text(state),
                        Arg::Text(&failure.message),
                        Arg::OptText(failure.detail.as_deref()),
                        Arg::OptText(failure.hint.as_deref()),
                    ],
                );
            }
            Ok(())
        })
    }

    /// Reads the configuration again.
    fn configure(&mut self) -> Result<(), Failure> {
        let stored = transaction(|| {
            if extension() != Some(self.extension) {
                return Ok(None);
            }
            let now = sql::one("SELECT state FROM sync._epoch ORDER BY epoch DESC LIMIT 1", &[]);
            if now.as_deref() == Some("active") {
                self.epoch.standing = Standing::Active;
            }
            Ok(Some(read_syncs()))
        })?;
        let Some(stored) = stored else {
            if transaction(|| Ok(extension()))?.is_none() {
                leave_for_good(self.slot);
            }
            // SAFETY: the end of this process; the launcher starts the next.
            unsafe { pg_sys::proc_exit(1) }
        };
        let mut before = std::mem::take(&mut self.syncs);
        // What an earlier worker has read or written beyond a cursor nobody remembers.
        // SAFETY: reads a counter.
        let unknown = transaction(|| Ok(unsafe { pg_sys::ReadNextFullTransactionId().value }))?;
        let known: Vec<i32> = stored.iter().map(|s| s.0.id).collect();
        for (stored, cursor) in stored {
            let id = stored.id;
            let plan =
                super::transaction::as_owner(stored.owner, &stored.search_path, true, || {
                    let plan = plan::compile(stored.clone())?;
                    engine::link::check_key(&plan)?;
                    Ok(plan)
                });
            let plan = match plan {
                Ok(plan) => plan,
                Err(failure) => {
                    self.note_trouble(id, Some(&failure))?;
                    let tries = self.broken.get(&id).map_or(0, |b| b.2) + 1;
                    self.broken.insert(
                        id,
                        (
                            failure,
                            Instant::now() + Duration::from_secs(u64::from(tries.min(60))),
                            tries,
                        ),
                    );
                    if let Some(old) = before.remove(&id) {
                        self.resting.insert(id, old.known);
                    }
                    continue;
                }
            };
            let was_broken = self.broken.remove(&id).is_some();
            if was_broken {
                self.note_trouble(id, None)?;
            }
            let old = before.get(&id).map(|s| &s.plan);
            transaction(|| {
                load::widen(&plan);
                for side in merge::Side::BOTH.into_iter().filter(|&s| plan.captured(s)) {
                    // A column that was dropped and made again has other values.
                    if was_broken || old.is_some_and(|o| o.side(side).replaced_in(plan.side(side)))
                    {
                        load::request(id, side, load::Kind::Rows, "the table was changed");
                    }
                }
                Ok(())
            })?;
            let (loads, queued, verdict, trouble) = transaction(|| {
                let row = sql::read(
                    "SELECT decision, reason FROM sync._sync WHERE id = $1",
                    &[Arg::Int4(id)],
                );
                let text = |n: usize| row.first().and_then(|r| r[n].clone());
                let trouble = text(1).map(|reason| Failure::new("", reason));
                let verdict = match text(0).as_deref() {
                    Some("confirmed") => Some(Verdict::Confirmed),
                    Some("discarded") => Some(Verdict::Discarded),
                    _ => None,
                };
                Shapes::store(&plan.base);
                Ok((load::read(id), queue::marks(id), verdict, trouble))
            })?;
            let mut sync = Sync::new(plan, cursor, loads, queued);
            if let Some(old) = before.remove(&id) {
                sync.inherit(old);
            } else if let Some(known) = self.resting.remove(&id) {
                sync.known = known;
            } else {
                sync.known.below = [unknown; 2];
            }
            sync.verdict = verdict;
            // What sync.status says of it is taken back by the first work that succeeds.
            sync.trouble = sync.trouble.or(trouble);
            self.syncs.insert(id, sync);
        }
        let syncs = &self.syncs;
        self.order = transaction(|| Ok(parents_first(syncs)))?;
        self.resting.extend(before.into_iter().map(|(id, sync)| (id, sync.known)));
        self.broken.retain(|id, _| known.contains(id));
        // All tables are looked at once more.
        // SAFETY: one thread.
        unsafe { *(&raw mut TOUCHED) = vec![pg_sys::InvalidOid] };
        self.tick = None;
        Ok(())
    }

    /// Looks at the catalogs of the synced tables that were touched.
    fn look_at_tables(&mut self) -> Result<(), Failure> {
        // SAFETY: one thread.
        let mut touched = unsafe { std::mem::take(&mut *(&raw mut TOUCHED)) };
        if self.unseen.as_ref().is_some_and(|u| u.1 <= Instant::now())
            && let Some((unseen, _)) = self.unseen.take()
        {
            touched.extend(unseen);
        }
        if touched.is_empty() {
            return Ok(());
        }
        let all = touched.contains(&pg_sys::InvalidOid);
        if !all {
            // What happens to a partition concerns its root.
            touched = transaction(|| {
                let mut more = Vec::new();
                for &oid in &touched {
                    // SAFETY: a catalog lookup.
                    if unsafe { pg_sys::get_rel_relispartition(oid) } {
                        more.extend(segments::ancestors(oid));
                    }
                }
                Ok([touched, more].concat())
            })?;
        }
        for sync in self.syncs.values_mut() {
            let tables = merge::Side::BOTH.map(|s| sync.plan.side(s).oid);
            if all || tables.iter().any(|oid| touched.contains(oid)) {
                if !all && let Some(held) = &mut sync.held_until {
                    // A right or a column that was missing may have come.
                    held.0 = Instant::now();
                }
                if let Err(failure) = gaps::look(sync) {
                    // Somebody holds the table.
                    speech::log(format!(
                        "sync_ext worker cannot look at the tables of {}: {failure}",
                        sync.plan.name
                    ));
                    let (unseen, _) =
                        self.unseen.get_or_insert((Vec::new(), Instant::now() + LOOK_AGAIN));
                    unseen.extend(tables);
                }
                // A column may have come, gone or changed its type.
                if !all && sync.shape_changed()? {
                    engine::mark_configuration_stale();
                }
            }
        }
        Ok(())
    }

    /// Saves cursors, rotates the log, makes history's partitions.
    fn look_after_log(&mut self) -> Result<(), Failure> {
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        if history::due(self.history_until, now) {
            self.history_until = transaction(|| Ok(history::maintain(now)))?;
        }
        if self.last_saved.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        self.last_saved = Instant::now();
        let used: Vec<usize> = (0..slots::SEGMENTS).filter(|&n| self.map.blocks(n) > 0).collect();
        if used.is_empty() {
            return Ok(());
        }
        rotation::advance(self.slot, &self.map, &mut self.last_rotation);
        let current = self.slot.segment.load(Ordering::Acquire) as usize;
        if used.iter().all(|&n| n == current) {
            return Ok(());
        }
        self.release_log()
    }

    /// Empties what can be emptied.
    fn release_log(&mut self) -> Result<(), Failure> {
        for sync in self.syncs.values_mut().filter(|s| s.unsaved) {
            let cursor = sync.cursor.clone();
            sync.save_cursor(&cursor)?;
        }
        let (map, slot) = (&mut self.map, self.slot);
        let keep = settings::LOG_KEEP.get();
        let full = rotation::size(map) > settings::LOG_MAX_SIZE.get() as u64 * 1024 * 1024;
        if full || transaction(|| Ok(overdue(keep)))? {
            engine::backlog::move_out(map, slot, keep, full)?;
        }
        // Emptying cannot be rolled back: what it relies on has to be committed.
        transaction(|| {
            let Some(log) = segments::relations() else { return Ok(()) };
            let seen: Vec<Snapshot> = sql::read("SELECT seen FROM sync._cursor", &[])
                .into_iter()
                .filter_map(|r| Snapshot::parse(r[0].as_deref()?))
                .collect();
            rotation::empty(&log, slot, map, &seen);
            Ok(())
        })
    }
}

/// Longest time a sync is served before the next gets its turn.
const SLICE: Duration = Duration::from_millis(20);

fn overdue(keep: i32) -> bool {
    sql::one(
        "SELECT 1 FROM sync._cursor c JOIN sync._sync s ON s.id = c.sync
          WHERE s.state <> 'running'
            AND c.moved_at < pg_catalog.clock_timestamp() - interval '1 second' * $1 LIMIT 1",
        &[Arg::Int4(keep)],
    )
    .is_some()
}

/// The syncs, those that write the parents of a foreign key before those that write its children.
fn parents_first(syncs: &BTreeMap<i32, Sync>) -> Vec<i32> {
    let keys: Vec<(u32, u32)> = sql::read(
        "SELECT DISTINCT conrelid, confrelid FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid <> confrelid",
        &[],
    )
    .into_iter()
    .filter_map(|row| Some((row[0].as_deref()?.parse().ok()?, row[1].as_deref()?.parse().ok()?)))
    .collect();
    let writes = |sync: &Sync, table: u32| {
        merge::Side::BOTH.into_iter().any(|side| {
            sync.plan.flows_from(side.other()) && sync.plan.side(side).oid.to_u32() == table
        })
    };
    let waits_for = |child: i32, parent: i32| {
        keys.iter().any(|&(c, p)| writes(&syncs[&child], c) && writes(&syncs[&parent], p))
    };
    let mut order = Vec::with_capacity(syncs.len());
    let mut rest: Vec<i32> = syncs.keys().copied().collect();
    while !rest.is_empty() {
        let free = |id: &i32| !rest.iter().any(|other| other != id && waits_for(*id, *other));
        // In a circle somebody has to be first; whoever is too early waits for his parent.
        let next = rest.iter().copied().find(free).unwrap_or(rest[0]);
        rest.retain(|&id| id != next);
        order.push(next);
    }
    order
}

fn extension() -> Option<Oid> {
    // SAFETY: inside a transaction.
    let oid = unsafe { pg_sys::get_extension_oid(c"sync_ext".as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The syncs that are to run, with their cursors.
fn read_syncs() -> Vec<(Stored, Cursor)> {
    sql::read(
        "SELECT s.id, s.name, s.owner::pg_catalog.oid, s.search_path, s.document::text, s.source::pg_catalog.oid, s.target::pg_catalog.oid,
                c.seen, c.frozen, c.seq
           FROM sync._sync s JOIN sync._cursor c ON c.sync = s.id
          WHERE s.state = 'running'
            AND s.installation = (SELECT i.id FROM sync._installation i)
          ORDER BY s.id",
        &[],
    )
    .into_iter()
    .filter_map(|row| {
        let text = |n: usize| row[n].as_deref();
        Some((
            Stored::of(&row)?,
            Cursor {
                seen: Snapshot::parse(text(7)?)?,
                frozen: text(8).and_then(Snapshot::parse),
                seq: text(9)?.parse().ok()?,
            },
        ))
    })
    .collect()
}

/// What `pg_stat_activity` says the worker is doing.
fn report(what: &str) {
    let (state, text) = if what == "idle" {
        (pg_sys::BackendState::STATE_IDLE, "sync_ext: waiting for changes".to_owned())
    } else {
        (pg_sys::BackendState::STATE_RUNNING, format!("sync_ext: {what}"))
    };
    if let Ok(text) = std::ffi::CString::new(border::readable(&text)) {
        // SAFETY: copies the text.
        unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
    }
}
