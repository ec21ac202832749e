//! Background processes: the launcher, one stream worker a database, job workers for heavy work, and
//! what they share.

mod configuration;
pub mod environment;
pub mod governors;
pub mod identity;
mod jobs;
pub mod launcher;
mod marks;
mod network;
pub mod notify;
mod outlets;
pub mod process;
mod purge;
mod round;
pub mod slots;
pub mod transaction;
mod upkeep;

use pgrx::pg_sys;
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::time::Duration;

unsafe extern "C-unwind" {
    // Unguarded: signal handlers must not set up jump buffers.
    fn die(signal: i32);
    fn SignalHandlerForConfigReload(signal: i32);
    #[cfg(not(feature = "pg18"))]
    #[link_name = "pqsignal"]
    fn pqsignal(signal: i32, handler: unsafe extern "C-unwind" fn(i32));
    #[cfg(feature = "pg18")]
    #[link_name = "pqsignal_be"]
    fn pqsignal(signal: i32, handler: unsafe extern "C-unwind" fn(i32));
}

const SIGHUP: i32 = 1;
const SIGTERM: i32 = 15;

/// SIGTERM ends the process at the next opportunity, in the middle of a query too; SIGHUP reloads
/// the settings. Before the signals are unblocked.
pub fn prepare_signals() {
    // SAFETY: the first thing a background worker does.
    unsafe {
        pqsignal(SIGTERM, die);
        pqsignal(SIGHUP, SignalHandlerForConfigReload);
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Reads the configuration file again if SIGHUP asked for it.
pub fn reload_if_asked() -> bool {
    // SAFETY: a flag of this process.
    unsafe {
        if pg_sys::ConfigReloadPending == 0 {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        true
    }
}

/// Waits for the latch, for at most `time`; ends the process when the postmaster is gone.
pub fn wait(time: Duration, name: &CStr) {
    wait_for(time, None, name);
}

/// Waits for the latch, or until a file descriptor can be read.
pub fn wait_for(time: Duration, readable: Option<RawFd>, _name: &CStr) {
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if readable.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    // SAFETY: MyLatch is this process's; the descriptor outlives the wait.
    unsafe {
        pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events as i32,
            readable.unwrap_or(pg_sys::PGINVALID_SOCKET),
            time.as_millis().max(1) as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}
