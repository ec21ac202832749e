//! `sync.wait`: until everything that was committed before is settled.

use super::{hubs, owned, raise, refuse};
use crate::border::inwards;
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::slots::{self, Standing};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// `sync._wait(name text, milliseconds int8) RETURNS bool`: false when the time was up.
#[pg_extern(sql = false)]
fn wait_for(name: &[u8], milliseconds: i64) -> bool {
    speech::function(|| {
        let name = inwards(name);
        let Some(hub) = hubs::named(&name) else { return wait_for_sync(&name, milliseconds) };
        wait_for_hub(&hub, milliseconds)
    })
}

/// Waits for all syncs of a hub that have somebody to sync with. What one of them brings the others take on, so they
/// are waited for twice.
fn wait_for_hub(hub: &hubs::Hub, milliseconds: i64) -> bool {
    let begun = Instant::now();
    let mut members = hubs::members(hub);
    members.retain(|(id, _)| has_connector(*id));
    for _ in 0..2 {
        for (_, name) in &members {
            let left = milliseconds - begun.elapsed().as_millis() as i64;
            if !wait_for_sync(name, left.max(0)) {
                return false;
            }
        }
    }
    true
}

fn has_connector(id: i32) -> bool {
    let state = sql::as_extension(|| {
        sql::one(
            "SELECT c.state FROM sync.connections c JOIN sync._sync s ON s.connection = c.name WHERE s.id = $1",
            &[Arg::Int4(id)],
        )
    });
    state.as_deref() != Some("no connector")
}

fn wait_for_sync(name: &str, milliseconds: i64) -> bool {
    let id = owned(name);
    // SAFETY: state of this backend.
    if unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId {
        raise(&refuse(
            "25001",
            "sync.wait cannot wait for changes of its own transaction".into(),
            "This transaction has written something, which nobody sees before it commits.",
            "Commit first, then wait.",
        ));
    }
    no_worker(false);
    let Some(slot) = slots::mine() else { return wait_for_slot(id, name, milliseconds) };
    // Twice: what the first round applies may have something to send back (a key that was given, a
    // column that a trigger changed), and the second takes that along.
    let mut rounds = 2;
    let mut asked = slot.asked.fetch_add(1, Ordering::AcqRel) + 1;
    slot.wake();
    let begun = Instant::now();
    let limit = Duration::from_millis(milliseconds.max(0) as u64);
    let mut checked = begun;
    loop {
        pgrx::check_for_interrupts!();
        if slot.progress_of(id as u32).is_some_and(|p| p.done.load(Ordering::Acquire) >= asked) {
            rounds -= 1;
            if rounds == 0 {
                return wait_until_taken(id, limit.saturating_sub(begun.elapsed()));
            }
            asked = slot.asked.fetch_add(1, Ordering::AcqRel) + 1;
            slot.wake();
        }
        if begun.elapsed() >= limit {
            no_worker(true);
            stopped(id, name);
            return false;
        }
        // Whoever cannot go on says so at once instead of letting the time run out.
        if checked.elapsed() > Duration::from_millis(200) {
            checked = Instant::now();
            no_worker(begun.elapsed() > RELOAD);
            stopped(id, name);
            if slot.progress_of(id as u32).is_none() {
                crowded(name);
            }
        }
        let pause = if begun.elapsed() < Duration::from_millis(50) { 1 } else { 5 };
        nap(pause);
    }
}

/// What an application is to take is settled when it says so; what it gave back is parked.
fn wait_until_taken(id: i32, limit: Duration) -> bool {
    let begun = Instant::now();
    let last = "SELECT pg_catalog.max(d.id) FROM sync._delivery d WHERE d.sync = $1";
    let Some(last) = fresh(|| sql::one(last, &[Arg::Int4(id)])).and_then(|id| id.parse().ok())
    else {
        return true;
    };
    let open = "SELECT 1 FROM sync._delivery d WHERE d.sync = $1 AND d.id <= $2 AND d.state IN ('pending', 'sending') LIMIT 1";
    while fresh(|| sql::one(open, &[Arg::Int4(id), Arg::Int(last)])).is_some() {
        pgrx::check_for_interrupts!();
        if begun.elapsed() >= limit {
            return false;
        }
        nap(5);
    }
    true
}

/// Looks at our tables as they are now, whatever the transaction's snapshot is.
fn fresh<T>(look: impl FnOnce() -> T) -> T {
    // SAFETY: an error is cleaned up by the abort of the transaction.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let seen = sql::as_extension(look);
        pg_sys::PopActiveSnapshot();
        seen
    }
}

/// The worker has not even been thought of yet: right after CREATE EXTENSION, or in a copy.
fn wait_for_slot(id: i32, name: &str, milliseconds: i64) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(milliseconds.max(0) as u64) {
        pgrx::check_for_interrupts!();
        if slots::mine().is_some() {
            return wait_for_sync(name, milliseconds - begun.elapsed().as_millis() as i64);
        }
        stopped(id, name);
        if begun.elapsed() > LAUNCH && !slots::launcher_seen() {
            no_slot("The launcher of sync_ext has not started.");
        }
        nap(20);
    }
    false
}

/// How long after the server's start the launcher may take to appear.
const LAUNCH: Duration = Duration::from_secs(3);

/// How long a worker may take to read a setting that was changed just before.
const RELOAD: Duration = Duration::from_secs(1);

/// Raises if no worker can come. `settled`: whoever is to read a changed setting has had the time.
fn no_worker(settled: bool) {
    let (detail, hint) = if slots::shared().is_none() {
        (
            "The library sync_ext was not loaded when the server started.",
            "Set shared_preload_libraries = 'sync_ext' and restart the server.",
        )
    // SAFETY: state of this server.
    } else if unsafe { pg_sys::RecoveryInProgress() } {
        ("This server is a standby.", "Wait on the primary.")
    } else if settled && slots::switched_off() {
        (
            "sync_ext.enabled is off.",
            "ALTER SYSTEM SET sync_ext.enabled = on; SELECT pg_reload_conf();",
        )
    } else if slots::mine().is_some_and(|s| s.standing() == Standing::NoWorkerSlot) {
        no_slot("All worker slots of the server are in use.")
    } else {
        return;
    };
    raise(&refuse("55000", "there is no worker to wait for".into(), detail, hint));
}

fn no_slot(detail: &str) -> ! {
    raise(&refuse(
        "53400",
        "there is no worker to wait for".into(),
        detail,
        "Increase max_worker_processes and restart the server.",
    ))
}

fn nap(milliseconds: i64) {
    // SAFETY: waits on this backend's latch.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            milliseconds as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// Raises if there are more syncs than shared memory has room for.
fn crowded(name: &str) {
    // SAFETY: as in `stopped`.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let count = sql::as_extension(|| sql::one("SELECT pg_catalog.count(*) FROM sync._sync", &[]));
    // SAFETY: pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    if count.and_then(|n| n.parse().ok()).is_some_and(|n: usize| n > slots::SYNCS) {
        raise(&refuse(
            "54000",
            format!("sync \"{name}\" cannot be waited for"),
            &format!(
                "This database has more than {} syncs, which is as many as can be waited for; the others are synced all the same.",
                slots::SYNCS
            ),
            "SELECT * FROM sync.status; says how it is. End syncs that are no longer needed with sync.drop_sync.",
        ));
    }
}

/// Raises if the sync is not running.
pub(super) fn stopped(id: i32, name: &str) {
    // SAFETY: a fresh look at the tables, whatever the transaction's snapshot is.
    unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
    let row = sql::as_extension(|| {
        sql::read(
            "SELECT s.state, COALESCE(s.reason, ''), sync._fence(s.installation), COALESCE(s.decision, '')
               FROM sync._sync s WHERE s.id OPERATOR(pg_catalog.=) $1",
            &[Arg::Int4(id)],
        )
    });
    // SAFETY: pushed above.
    unsafe { pg_sys::PopActiveSnapshot() };
    let text = |n: usize| row.first().and_then(|r| r[n].clone()).unwrap_or_default();
    if !text(2).is_empty() {
        raise(&refuse(
            "55000",
            "this database is fenced".into(),
            &format!("{}.", text(2)),
            "SELECT sync.activate(); if this is meant to be the one that syncs.",
        ));
    }
    match text(0).as_str() {
        "paused" => raise(&refuse(
            "55000",
            format!("sync \"{name}\" is paused"),
            "Nothing of it is settled before it is resumed.",
            &format!("SELECT sync.resume({});", sql::literal(name)),
        )),
        "needs decision" => raise(&refuse(
            "55000",
            format!("sync \"{name}\" needs a decision"),
            &format!("It stopped because {}.", text(1)),
            &if text(3) == "dropped" {
                super::lifecycle::after_drop(name)
            } else {
                format!(
                    "SELECT sync.resume({0}, confirm => true); or sync.resume({0}, discard => true);",
                    sql::literal(name)
                )
            },
        )),
        _ => {}
    }
}
