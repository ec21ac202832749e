//! The process of a worker: how it begins, what it does between rounds, how it ends. A database has
//! one stream worker, and while there is heavy work up to two job workers beside it; see [`super::jobs`].

use super::environment;
use super::identity;
use super::round::Worker;
use super::slots::{self, Slot};
use super::transaction::{Failure, transaction};
use crate::border;
use crate::engine::store;
use crate::log::batch::Map;
use crate::speech;
use crate::sql;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// How often the worker offers way to whoever wants the database for himself.
pub const OFFER: Duration = Duration::from_millis(1000);
/// Longest wait after a round that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A job worker whose rounds keep failing leaves that to the stream worker, which says so.
const JOB_TRIES: u32 = 3;

/// The database and the number of this worker.
static mut SERVES: (Oid, usize) = (pg_sys::InvalidOid, 0);

/// The argument of a worker's process: its database, its number, and whether what it takes over has
/// been slow.
pub fn argument(database: Oid, number: usize, slow: bool) -> pg_sys::Datum {
    pg_sys::Datum::from(
        u64::from(slow) << 40 | (number as u64) << 32 | u64::from(database.to_u32()),
    )
}

/// Main function of a worker; see [`argument`].
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sync_ext_worker(argument: pg_sys::Datum) {
    super::prepare_signals();
    let argument = argument.value() as u64;
    let (database, number) = (Oid::from(argument as u32), usize::from((argument >> 32) as u8));
    let slow = argument >> 40 != 0;
    // SAFETY: a background worker's first steps.
    unsafe {
        SERVES = (database, number);
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::null());
    }
    let Some(slot) = slots::claim(database) else { exit(1) };
    let entered = if number == 0 { slot.enter() } else { slot.begin_job(number) };
    if !entered {
        // Another worker serves this database already, or the job is no longer wanted.
        exit(0)
    }
    if let Err(failure) = transaction(|| Ok(())) {
        speech::warning(format!("sync_ext worker cannot start: {failure}"));
        exit(1)
    }
    speech::listen();
    environment::assert_all();
    crate::capture::install();
    super::upkeep::listen();
    match Worker::start(slot, number) {
        Ok(Some(mut worker)) => {
            worker.took_over_slow = slow.then(Instant::now);
            worker.run()
        }
        Ok(None) => leave_for_good(slot, number),
        Err(failure) => {
            speech::warning(format!("sync_ext worker cannot start: {failure}"));
            exit(1)
        }
    }
}

/// Ends this process. 0: not wanted here, 1: start me again.
pub fn exit(code: i32) -> ! {
    // SAFETY: the end of this process.
    unsafe { pg_sys::proc_exit(code) }
}

unsafe extern "C-unwind" fn leave(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: plain globals.
    let ((database, number), pid) = unsafe { (SERVES, pg_sys::MyProcPid) };
    let Some(slot) = slots::of(database).filter(|s| s.workers[number].is(pid)) else { return };
    if number > 0 {
        slot.end_job(number);
    } else {
        slot.workers[0].leave();
        // A launcher that did not start this process is not told of its end by the postmaster.
        slots::wake_launcher();
    }
}

/// The extension is not here (any more): takes its mark off the database and ends.
pub fn leave_for_good(slot: &Slot, number: usize) -> ! {
    if number > 0 {
        exit(0)
    }
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
    exit(0)
}

impl Worker {
    /// Looks whether there is anything to serve. `None`: the extension is not here.
    fn start(slot: &'static Slot, number: usize) -> Result<Option<Self>, Failure> {
        let Some(extension) = transaction(|| Ok(extension()))? else { return Ok(None) };
        let (sync, queue) =
            transaction(|| Ok((store::relation("_sync"), store::relation("_queue"))))?;
        super::upkeep::watch(sync, queue);
        let epoch = if number == 0 {
            let epoch = identity::establish()?;
            // What held up the worker before this one is tried anew.
            transaction(|| {
                sql::query(
                    "UPDATE sync._sync SET reason = NULL WHERE state = 'running' AND reason IS NOT NULL",
                    &[],
                );
                Ok(())
            })?;
            epoch
        } else {
            identity::current()?
        };
        Ok(Some(Self::new(slot, number, extension, epoch, Map::new(slot, number))))
    }

    fn run(&mut self) -> ! {
        let mut held: u32 = 0;
        // The server may have restarted with prepared transactions open.
        if self.is_stream() {
            self.slot.prepared.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        }
        loop {
            pgrx::check_for_interrupts!();
            if super::reload_if_asked() {
                environment::assert_all();
            }
            self.offer_way();
            match self.cycle() {
                Ok(wait) => {
                    if std::mem::take(&mut held) > 1 && self.is_stream() {
                        self.slot.set_standing(slots::Standing::Running);
                    }
                    report_statistics();
                    if !wait.is_zero() {
                        report("idle");
                        super::wait_for(wait.min(OFFER), self.network.fd(), c"SyncExtWorker");
                    }
                }
                Err(failure) => {
                    held += 1;
                    speech::warning(format!("sync_ext worker: {failure}"));
                    if !self.is_stream() && held > JOB_TRIES {
                        exit(0)
                    }
                    if held > 1 && self.is_stream() {
                        self.slot.set_standing(slots::Standing::Failing);
                    }
                    report_statistics();
                    self.hold(LONGEST_WAIT.min(Duration::from_millis(250) * held));
                }
            }
        }
    }

    /// Waits after a round that failed, however many commits call: the next would fail as well. A
    /// changed setting may have mended it.
    fn hold(&mut self, time: Duration) {
        let until = Instant::now() + time;
        report("waiting after an error");
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            super::wait(left.min(OFFER), c"SyncExtWorker");
            pgrx::check_for_interrupts!();
            self.offer_way();
            if super::reload_if_asked() {
                environment::assert_all();
                return;
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
                if self.is_stream() {
                    self.slot.set_standing(slots::Standing::NotWanted);
                }
                exit(0);
            }
            pg_sys::LockRelease(&raw const tag, mode, true);
        }
        // SAFETY: outside a transaction; only marks caches.
        unsafe { pg_sys::AcceptInvalidationMessages() };
    }
}

/// The OID of the extension in this database.
pub fn extension() -> Option<Oid> {
    // SAFETY: inside a transaction.
    let oid = unsafe { pg_sys::get_extension_oid(c"sync_ext".as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

fn report_statistics() {
    // SAFETY: statistics of this process, between transactions.
    unsafe { pg_sys::pgstat_report_stat(false) };
}

/// What `pg_stat_activity` says the worker is doing.
pub fn report(what: &str) {
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
