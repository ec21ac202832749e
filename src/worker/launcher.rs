//! The launcher: one static process that starts, and starts again, one worker for every database
//! that has the extension. It belongs to no database and finds them by the mark that CREATE
//! EXTENSION leaves in a shared catalog.

use super::marks;
use super::process;
use super::slots::{self, Slot, Standing};
use super::transaction::{Failure, transaction};
use crate::speech;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::ffi::{CStr, c_char};
use std::time::{Duration, Instant};

/// How often the marks are looked at without being told to.
const SCAN: Duration = Duration::from_secs(10);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// How often a worker slot is asked for while all are in use: nobody tells when one becomes free.
const SLOT_RETRY: Duration = Duration::from_secs(2);
/// A worker that lived this long has shown that it can.
const PROVEN: Duration = Duration::from_secs(600);

/// Registers the launcher with the postmaster.
pub fn register() {
    let mut worker = description("sync_ext launcher", "sync_ext launcher", c"sync_ext_launcher");
    worker.bgw_restart_time = 1;
    // SAFETY: called while the postmaster loads its libraries.
    unsafe { pg_sys::RegisterBackgroundWorker(&raw mut worker) };
}

/// What the postmaster is told of a process.
pub fn description(name: &str, kind: &str, main: &CStr) -> pg_sys::BackgroundWorker {
    let mut worker = pg_sys::BackgroundWorker {
        bgw_flags: (pg_sys::BGWORKER_SHMEM_ACCESS | pg_sys::BGWORKER_BACKEND_DATABASE_CONNECTION)
            as i32,
        // Never in a standby; after a promotion the postmaster starts us.
        bgw_start_time: pg_sys::BgWorkerStartTime::BgWorkerStart_RecoveryFinished,
        bgw_restart_time: -1,
        ..Default::default()
    };
    put(&mut worker.bgw_name, name);
    put(&mut worker.bgw_type, kind);
    put(&mut worker.bgw_library_name, "sync_ext");
    put(&mut worker.bgw_function_name, &main.to_string_lossy());
    worker
}

/// Copies a string into a fixed C array, cut at a character.
fn put(to: &mut [c_char], from: &str) {
    let mut end = from.len().min(to.len() - 1);
    while !from.is_char_boundary(end) {
        end -= 1;
    }
    for (to, from) in to.iter_mut().zip(&from.as_bytes()[..end]) {
        *to = *from as c_char;
    }
}

/// What the launcher remembers of a worker it started.
struct Started {
    handle: *mut pg_sys::BackgroundWorkerHandle,
    at: Instant,
    back_off: Duration,
    not_before: Instant,
    alive: bool,
    /// The lack of a worker slot was said once.
    complained: bool,
}

/// Main function of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sync_ext_launcher(_argument: pg_sys::Datum) {
    super::prepare_signals();
    // SAFETY: a background worker's first steps, in the order bgworker.c asks for.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    slots::enter_launcher();
    let mut started: HashMap<u32, Started> = HashMap::new();
    loop {
        pgrx::check_for_interrupts!();
        super::reload_if_asked();
        let next = match transaction(marked_databases) {
            Ok(databases) => supervise(&mut started, &databases),
            Err(failure) => {
                speech::warning(format!("sync_ext launcher cannot look for databases: {failure}"));
                SCAN
            }
        };
        super::wait(next, c"SyncExtLauncher");
    }
}

/// Starts what is missing; returns how long to wait.
fn supervise(started: &mut HashMap<u32, Started>, databases: &[(Oid, String)]) -> Duration {
    let now = Instant::now();
    let mut next = SCAN;
    for slot in slots::all() {
        let database = slot.database.load(std::sync::atomic::Ordering::Acquire);
        if !databases.iter().any(|(oid, _)| oid.to_u32() == database) && slot.deserted() {
            started.remove(&database);
            slot.release();
        }
    }
    for (database, name) in databases {
        let worker = started.entry(database.to_u32()).or_insert_with(|| Started {
            handle: std::ptr::null_mut(),
            at: now,
            back_off: FIRST_BACK_OFF,
            not_before: now,
            alive: false,
            complained: false,
        });
        let Some(slot) = slots::claim(*database) else {
            if !std::mem::replace(&mut worker.complained, true) {
                pgrx::warning!(
                    "sync_ext serves at most {} databases; database \"{name}\" has no worker",
                    slots::DATABASES
                );
            }
            continue;
        };
        note_end(slot, worker, now);
        if worker.alive || slot.served() {
            continue;
        }
        if worker.not_before > now {
            next = next.min(worker.not_before - now);
            continue;
        }
        if !start(slot, worker, *database, name, now) {
            next = next.min(SLOT_RETRY);
        }
    }
    next.max(Duration::from_millis(10))
}

/// Notices that a worker has ended and decides when it may start again.
fn note_end(slot: &Slot, worker: &mut Started, now: Instant) {
    if !worker.alive {
        return;
    }
    if !has_ended(worker.handle) {
        return;
    }
    worker.alive = false;
    forget(worker.handle);
    worker.handle = std::ptr::null_mut();
    if slot.served() {
        // It found another one at work, which a launcher before us had started.
        return;
    }
    if slot.standing() == Standing::NotWanted {
        // It left to make way for somebody who wants the database to itself.
        worker.not_before = now + Duration::from_secs(2);
        return;
    }
    if now.duration_since(worker.at) > PROVEN {
        worker.back_off = FIRST_BACK_OFF;
    }
    slot.set_standing(Standing::BackingOff);
    worker.not_before = now + worker.back_off;
    worker.back_off = (worker.back_off * 2).min(LONGEST_BACK_OFF);
}

fn start(slot: &Slot, worker: &mut Started, database: Oid, name: &str, now: Instant) -> bool {
    let mut description =
        description(&format!("sync_ext worker for {name}"), "sync_ext worker", c"sync_ext_worker");
    description.bgw_main_arg = process::argument(database, 0, false);
    // Before it can say itself that it is running.
    slot.set_standing(Standing::Starting);
    let handle = ask(&mut description);
    let ok = handle.is_some();
    worker.handle = handle.unwrap_or(std::ptr::null_mut());
    worker.at = now;
    if ok {
        worker.alive = true;
        worker.complained = false;
        return true;
    }
    slot.set_standing(Standing::NoWorkerSlot);
    if !worker.complained {
        worker.complained = true;
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            format!(
                "no sync_ext worker could be started for database \"{name}\": all worker slots are in use"
            ),
            "",
        )
        .set_hint("Increase max_worker_processes by one for each database with sync_ext, and one for its launcher.")
        .report(PgLogLevel::WARNING);
    }
    worker.not_before = now + SLOT_RETRY;
    false
}

/// Asks the postmaster for a process. `None`: all worker slots are in use.
pub fn ask(
    description: &mut pg_sys::BackgroundWorker,
) -> Option<*mut pg_sys::BackgroundWorkerHandle> {
    let mut handle = std::ptr::null_mut();
    // SAFETY: plain globals, outside a transaction; the handle has to live in TopMemoryContext.
    let ok = unsafe {
        description.bgw_notify_pid = pg_sys::MyProcPid;
        pg_sys::CurrentMemoryContext = pg_sys::TopMemoryContext;
        pg_sys::RegisterDynamicBackgroundWorker(description, &raw mut handle)
    };
    ok.then_some(handle)
}

/// Has a process that was asked for ended?
pub fn has_ended(handle: *mut pg_sys::BackgroundWorkerHandle) -> bool {
    let mut pid = 0;
    // SAFETY: the handle came from `ask`.
    let status = unsafe { pg_sys::GetBackgroundWorkerPid(handle, &raw mut pid) };
    status == pg_sys::BgwHandleStatus::BGWH_STOPPED
}

/// Gives up the handle of a process.
pub fn forget(handle: *mut pg_sys::BackgroundWorkerHandle) {
    // SAFETY: allocated by `ask`.
    unsafe { pg_sys::pfree(handle.cast()) };
}

/// The databases that carry the mark and accept connections.
fn marked_databases() -> Result<Vec<(Oid, String)>, Failure> {
    let marked = marks::databases();
    // SAFETY: pg_database is one of the few catalogs that a process without a database can open.
    unsafe {
        let mut databases = Vec::new();
        scan(pg_sys::DatabaseRelationId, |tuple, _| {
            let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if marked.contains(&(*form).oid)
                && !(*form).datistemplate
                && (*form).datallowconn
                && (*form).datconnlimit != -2
            {
                let name = CStr::from_ptr((*form).datname.data.as_ptr()).to_bytes();
                databases.push(((*form).oid, readable_name(name)));
            }
        });
        Ok(databases)
    }
}

/// The name of a database is in the encoding of whoever made it, which nobody knows here.
fn readable_name(bytes: &[u8]) -> String {
    let escaped = |b: &u8| {
        if b.is_ascii() { char::from(*b).to_string() } else { format!("\\x{b:02X}") }
    };
    bytes.iter().map(escaped).collect()
}

unsafe fn scan(catalog: Oid, mut each: impl FnMut(pg_sys::HeapTuple, pg_sys::TupleDesc)) {
    // SAFETY: opened, scanned and closed here.
    unsafe {
        let relation = pg_sys::table_open(catalog, pg_sys::AccessShareLock as i32);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            each(tuple, (*relation).rd_att);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
    }
}
