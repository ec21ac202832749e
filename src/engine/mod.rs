//! The flow of a change from the log to the other side, one file a step:
//! collect ▶ resolve ▶ (merge crate) ▶ apply ▶ settle. `worker::round` drives them for every sync,
//! `load` feeds them with whole tables, `queue` with the records that were not settled.

pub mod apply;
pub mod audit;
pub mod backlog;
pub mod choose;
pub mod classify;
pub mod collect;
pub mod conflicts;
pub mod departed;
pub mod exits;
pub mod fan_out;
pub mod gaps;
pub mod guard;
pub mod insert;
mod labels;
pub mod link;
pub mod load;
pub mod local_schema;
pub mod loops;
pub mod outlet;
pub mod pace;
pub mod plan;
pub mod polled;
pub mod queue;
pub mod references;
pub mod remote;
pub mod repair;
pub mod resolve;
pub mod samples;
pub mod screen;
pub mod settle;
pub mod shapes;
pub mod stamps;
pub mod statement;
pub mod store;
pub mod sync;
pub mod target_edit;

use std::sync::atomic::{AtomicBool, Ordering};

/// The worker has to read the configuration again.
static STALE: AtomicBool = AtomicBool::new(true);

/// Somebody else has put records into the queue.
static QUEUED: AtomicBool = AtomicBool::new(false);

pub fn mark_queued() {
    QUEUED.store(true, Ordering::Relaxed);
}

pub fn take_queued() -> bool {
    QUEUED.swap(false, Ordering::Relaxed)
}

pub fn mark_configuration_stale() {
    STALE.store(true, Ordering::Relaxed);
}

pub fn take_stale() -> bool {
    STALE.swap(false, Ordering::Relaxed)
}
