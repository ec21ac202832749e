//! Transactions of the worker: an SQL error ends the transaction, never the worker.

use super::environment;
use crate::{border, capture, settings, speech, sql};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::sync::Once;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// What PostgreSQL said when something failed.
#[derive(Clone, Debug)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.sqlstate)
    }
}

impl Failure {
    fn of(error: &CaughtError) -> Self {
        let (report, by_server) = speech::of(error);
        let told = speech::told(report, by_server);
        let code = report.sql_error_code() as i32;
        let mut sqlstate: String =
            (0..5).map(|i| char::from((((code >> (6 * i)) & 0x3F) + 0x30) as u8)).collect();
        // A file system that is read-only, or forbids it: the server says so with the code of a right
        // that a role lacks. It is trouble of the server's, and no record is to blame.
        let by_storage = ["md.c", "fd.c", "slru.c", "smgr.c", "bufmgr.c"];
        if by_server && sqlstate == "42501" && by_storage.iter().any(|f| report.file().ends_with(f))
        {
            sqlstate = "58030".into();
        }
        // What a user's function raises by itself is no trouble of the server's, whatever code it chooses.
        let chosen = is_trouble(&sqlstate) || sqlstate.starts_with("25");
        if by_server && chosen && report.file().ends_with("pl_exec.c") {
            sqlstate = "38000".into();
        }
        Self { sqlstate, message: told.message, detail: told.detail, hint: told.hint }
    }

    pub fn new(sqlstate: &str, message: impl Into<String>) -> Self {
        Self { sqlstate: sqlstate.into(), message: message.into(), detail: None, hint: None }
    }
}

/// A failure of our own wording, as PostgreSQL words its errors; an empty detail or hint is none.
pub fn refuse(sqlstate: &str, message: String, detail: &str, hint: &str) -> Failure {
    Failure {
        sqlstate: sqlstate.into(),
        message,
        detail: (!detail.is_empty()).then(|| detail.to_owned()),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    }
}

/// Runs `work` in a transaction of its own with a snapshot. Commits when it returns `Ok`; rolls
/// back when it returns `Err` or raises, at commit too.
///
/// # Errors
/// Whatever `work`, a deferred trigger or the commit raised.
pub fn transaction<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: the worker is between transactions.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        border::prepare();
        let value = work()?;
        // SAFETY: closes what was opened above.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    }))
    .catch_others(|error| Err(Failure::of(&error)))
    .execute();
    if result.is_err() {
        // SAFETY: ends whatever is left of the transaction and its resources.
        unsafe {
            pg_sys::AbortCurrentTransaction();
            pg_sys::FlushErrorState();
        }
    }
    result
}

/// Runs `work` in a subtransaction of a transaction that is under way, in an SPI connection: what it raises is its
/// failure, and leaves nothing behind. What is not to be `caught` is raised all the same.
///
/// # Errors
/// Whatever `work` raised.
pub fn savepoint<T>(
    caught: impl Fn(&Failure) -> bool,
    work: impl FnOnce() -> T,
) -> Result<T, Failure> {
    in_subtransaction(|_| true, caught, work)
}

/// The same for what may refuse or raise. What it has done is kept only if `keep` says so and it went well; of the
/// server's trouble, and of a cancel, it is no failure.
///
/// # Errors
/// Whatever `work` returned or raised.
pub fn attempt<T>(keep: bool, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    in_subtransaction(|done: &Result<T, Failure>| keep && done.is_ok(), is_of_the_work, work)?
}

/// Runs `work` in a subtransaction that is rolled back however it goes: of what code of the user's may do even where
/// nothing is written, such as to notify or, in PostgreSQL 15, to make a large object, nothing is left.
pub fn undone<T>(work: impl FnOnce() -> T) -> T {
    match in_subtransaction(|_| false, |_| false, work) {
        Ok(value) => value,
        Err(failure) => unreachable!("what is not caught is raised: {failure}"),
    }
}

fn in_subtransaction<T>(
    keep: impl FnOnce(&T) -> bool,
    caught: impl Fn(&Failure) -> bool,
    work: impl FnOnce() -> T,
) -> Result<T, Failure> {
    // SAFETY: ended the way it went, before anything else is raised: an error with a subtransaction open would leave
    // the session in an aborted transaction block.
    unsafe {
        let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
        let result = PgTryBuilder::new(AssertUnwindSafe(|| {
            pg_sys::SPI_connect();
            let value = work();
            pg_sys::SPI_finish();
            Ok(value)
        }))
        .catch_others(|error| Err(Box::new(error)))
        .execute();
        match &result {
            Ok(value) if keep(value) => pg_sys::ReleaseCurrentSubTransaction(),
            _ => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
        result.map_err(|error| {
            let failure = Failure::of(&error);
            if caught(&failure) { failure } else { error.rethrow() }
        })
    }
}

/// Is it of what was to be done, and no cancel nor trouble of the server's?
pub fn is_of_the_work(failure: &Failure) -> bool {
    !is_trouble(&failure.sqlstate) && !failure.sqlstate.starts_with("XX")
}

/// Is it trouble of the server's: memory, disk, a shutdown?
fn is_trouble(sqlstate: &str) -> bool {
    ["53", "57", "58", "F0"].iter().any(|class| sqlstate.starts_with(class))
}

unsafe extern "C-unwind" {
    // utils/timeout.h and storage/lock.h; not among pgrx's bindings.
    fn enable_timeout_after(id: i32, milliseconds: i32);
    fn enable_timeout_at(id: i32, at: pg_sys::TimestampTz);
    fn disable_timeout(id: i32, keep_indicator: bool);
    fn get_timeout_active(id: i32) -> bool;
    fn get_timeout_finish_time(id: i32) -> pg_sys::TimestampTz;
    fn get_timeout_indicator(id: i32, reset: bool) -> bool;
}

/// `STATEMENT_TIMEOUT` of utils/timeout.h, the same in 15 to 18.
const STATEMENT_TIMEOUT: i32 = 3;

/// When the transaction under way has had its time; 0: it is not timed.
static DEADLINE: AtomicI64 = AtomicI64::new(0);

/// A function that catches the cancel of its statement has rolled back a subtransaction by then: it is cancelled again,
/// outside of the block that caught it, until there is none left. The timer itself goes off only once.
unsafe extern "C-unwind" fn cancel_again(
    event: pg_sys::SubXactEvent::Type,
    _: pg_sys::SubTransactionId,
    _: pg_sys::SubTransactionId,
    _: *mut c_void,
) {
    let deadline = DEADLINE.load(Ordering::Relaxed);
    // SAFETY: plain state of this process.
    unsafe {
        if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB
            && deadline != 0
            && pg_sys::GetCurrentTimestamp() >= deadline
        {
            pg_sys::QueryCancelPending = 1;
            pg_sys::InterruptPending = 1;
        }
    }
}

fn cancel_until_gone() {
    static REGISTERED: Once = Once::new();
    // SAFETY: a callback of this process, which nothing takes off.
    REGISTERED.call_once(|| unsafe {
        pg_sys::RegisterSubXactCallback(Some(cancel_again), std::ptr::null_mut());
    });
}

/// Cuts the transaction that was just begun off when its time is over.
fn set_timer() {
    let milliseconds = settings::APPLY_TIMEOUT.get();
    cancel_until_gone();
    // SAFETY: a background worker's statements are not timed by the server, so the timer is ours.
    unsafe {
        let deadline = pg_sys::GetCurrentTimestamp() + i64::from(milliseconds) * 1000;
        DEADLINE.store(deadline, Ordering::Relaxed);
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            enable_timeout_after(STATEMENT_TIMEOUT, milliseconds);
        });
    }
}

/// Runs `work` in the backend of whoever asks, for at most `limit`. Nothing: it was cancelled then, as by
/// `statement_timeout`, and what it did is undone. Where the statement itself is timed to end earlier, it does.
pub fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> Option<T> {
    // SAFETY: the timer of this backend's statement, put back as it was.
    unsafe {
        let theirs = get_timeout_active(STATEMENT_TIMEOUT)
            .then(|| get_timeout_finish_time(STATEMENT_TIMEOUT));
        let ours = pg_sys::GetCurrentTimestamp() + limit.as_micros() as pg_sys::TimestampTz;
        if theirs.is_some_and(|theirs| theirs <= ours) {
            return Some(work());
        }
        cancel_until_gone();
        DEADLINE.store(ours, Ordering::Relaxed);
        let set =
            |at| pg_sys::ffi::pg_guard_ffi_boundary(|| enable_timeout_at(STATEMENT_TIMEOUT, at));
        set(ours);
        // A cancel that somebody else has asked for comes before that.
        let is_ours = |failure: &Failure| {
            failure.sqlstate == "57014" && pg_sys::GetCurrentTimestamp() >= ours
        };
        PgTryBuilder::new(AssertUnwindSafe(|| savepoint(is_ours, work).ok()))
            .finally(|| {
                DEADLINE.store(0, Ordering::Relaxed);
                // It may have gone off after all was done, or once more as it was undone.
                if pg_sys::GetCurrentTimestamp() >= ours {
                    get_timeout_indicator(STATEMENT_TIMEOUT, true);
                    pg_sys::QueryCancelPending = 0;
                }
                match theirs {
                    Some(theirs) => set(theirs),
                    None => disable_timeout(STATEMENT_TIMEOUT, false),
                }
            })
            .execute()
    }
}

/// Runs `work` in a transaction of its own as a sync's owner, from right after its start until after
/// its commit: restored earlier, the owner's deferred triggers would run as superuser. With
/// `restricted` nothing can be written and nothing survives.
///
/// # Errors
/// As [`transaction`].
pub fn as_owner<T>(
    owner: pg_sys::Oid,
    search_path: &str,
    restricted: bool,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: plain state of this process.
    unsafe { pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context) };
    let result = transaction(|| {
        let mut flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE;
        if restricted {
            flags |= pg_sys::SECURITY_RESTRICTED_OPERATION;
        }
        // SAFETY: inside the transaction just begun.
        unsafe {
            pg_sys::XactReadOnly |= restricted;
            pg_sys::SetUserIdAndSecContext(owner, context | flags as i32);
            let level = pg_sys::NewGUCNestLevel();
            sql::set_local("search_path", search_path);
            set_timer();
            let value = if restricted {
                undone(work)?
            } else {
                pg_sys::SPI_connect();
                let value = work()?;
                pg_sys::SPI_finish();
                // Deferred triggers too run with the sync's search path, and what they set is
                // undone with it; at commit both would be gone.
                sql::query("SET CONSTRAINTS ALL IMMEDIATE", &[]);
                value
            };
            pg_sys::AtEOXact_GUC(false, level);
            Ok(value)
        }
    });
    capture::set_origin(0);
    DEADLINE.store(0, Ordering::Relaxed);
    // SAFETY: between transactions; what user code has changed of this session is put back.
    unsafe {
        disable_timeout(STATEMENT_TIMEOUT, false);
        // It may have gone off after the last statement: that must not hit the next transaction.
        pg_sys::QueryCancelPending = 0;
        pg_sys::SetUserIdAndSecContext(user, context);
        pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as u16);
        pg_sys::DropAllPreparedStatements();
    }
    environment::assert_all();
    forget_temporary_objects();
    result
}

/// Temporary tables and functions come first in any search path: those of one owner must not be
/// found by the next, who may be another.
fn forget_temporary_objects() {
    let (mut tables, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads two variables of this process.
    unsafe { pg_sys::GetTempNamespaceState(&raw mut tables, &raw mut toast) };
    if tables == pg_sys::InvalidOid {
        return;
    }
    let result = transaction(|| {
        // SAFETY: inside a transaction, as the superuser.
        unsafe { pg_sys::ResetTempTableNamespace() };
        Ok(())
    });
    if let Err(failure) = result {
        speech::warning(format!("sync_ext worker cannot drop temporary objects: {failure}"));
    }
}
