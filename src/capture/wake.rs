//! Waking the worker when a transaction that captured something commits. No NOTIFY: it would put
//! all commits of the cluster into one queue.

use crate::worker::slots;
use pgrx::pg_sys;
use std::ffi::c_void;
use std::sync::atomic::Ordering;

/// This transaction has captured something.
static mut ARMED: bool = false;

/// This transaction created the extension.
static mut LAUNCH: bool = false;

/// Wakes the launcher when this transaction commits.
pub fn arm_launcher() {
    // SAFETY: one thread a backend.
    unsafe { LAUNCH = true }
}

#[inline]
pub fn arm() {
    // SAFETY: one thread a backend.
    unsafe { ARMED = true }
}

/// A transaction ended, or was prepared. Runs after it has become visible to others; must not
/// raise.
pub(super) unsafe extern "C-unwind" fn on_transaction(
    event: pg_sys::XactEvent::Type,
    _: *mut c_void,
) {
    use pg_sys::XactEvent as E;
    if matches!(event, E::XACT_EVENT_COMMIT | E::XACT_EVENT_ABORT)
        // SAFETY: one thread a backend.
        && unsafe { std::mem::replace(&mut *(&raw mut LAUNCH), false) }
        && event == E::XACT_EVENT_COMMIT
    {
        slots::wake_launcher();
    }
    // SAFETY: one thread a backend.
    let armed = unsafe { std::mem::replace(&mut *(&raw mut ARMED), false) };
    if !armed {
        return;
    }
    match event {
        E::XACT_EVENT_COMMIT | E::XACT_EVENT_PARALLEL_COMMIT => {
            if let Some(slot) = slots::mine() {
                slot.wake();
            }
        }
        E::XACT_EVENT_PREPARE => {
            // COMMIT PREPARED calls nobody; while this count is not zero the worker looks often.
            if let Some(slot) = slots::mine() {
                slot.prepared.fetch_add(1, Ordering::AcqRel);
                slot.wake();
            }
        }
        E::XACT_EVENT_PRE_COMMIT
        | E::XACT_EVENT_PARALLEL_PRE_COMMIT
        | E::XACT_EVENT_PRE_PREPARE => arm(),
        _ => {}
    }
}
