//! Pausing, resuming, deciding; activating a copy.

use super::{hubs, or_raise, owned, raise, refuse};
use crate::border::inwards;
use crate::capture::{attach, wake};
use crate::engine::load;
use crate::engine::queue;
use crate::engine::sync::Verdict;
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::{identity, slots};
use merge::Side;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// `sync.pause(name text) RETURNS void`
#[pg_extern(sql = false)]
fn pause(name: &[u8]) {
    speech::function(|| pause_named(&inwards(name)));
}

/// Stops a sync, or all of a hub.
pub(super) fn pause_named(name: &str) {
    match hubs::named(name) {
        Some(hub) => hubs::members(&hub).iter().for_each(|(id, _)| pause_sync(*id)),
        None => pause_sync(owned(name)),
    }
}

fn pause_sync(id: i32) {
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._sync SET state = 'paused', reason = NULL, changed_at = pg_catalog.clock_timestamp()
              WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'running'",
            &[Arg::Int4(id)],
        )
    });
    attach::configuration_changed();
}

/// `sync.cancel_load(name text) RETURNS int8`: how many tables are no longer gone through.
#[pg_extern(sql = false)]
fn cancel_load(name: &[u8]) -> i64 {
    speech::function(|| {
        let name = inwards(name);
        let id = owned(&name);
        let kept = sql::as_extension(|| {
            sql::one(
                "SELECT 1 FROM sync._load WHERE sync = $1 AND before_sending LIMIT 1",
                &[Arg::Int4(id)],
            )
        });
        if kept.is_some() {
            raise(&refuse(
                "55000",
                format!("what sync \"{name}\" goes through cannot be left out"),
                "Nobody knows what is there on the other side since this server took over: nothing is sent before it has been read.",
                "Watch it in sync.progress; sync.pause stops it for a while.",
            ));
        }
        if sql::as_extension(|| queue::has_left(id)) {
            raise(&refuse(
                "55000",
                format!("what sync \"{name}\" goes through cannot be left out"),
                "It is owed changes that the log could not be kept for, of which some may have to be asked about.",
                "Watch it in sync.progress; sync.pause stops it for a while.",
            ));
        }
        let ended = sql::as_extension(|| {
            sql::query("DELETE FROM sync._load WHERE sync = $1 RETURNING 1", &[Arg::Int4(id)])
        });
        attach::configuration_changed();
        ended.len() as i64
    })
}

/// `sync.resume(name text, confirm bool, discard bool) RETURNS void`
#[pg_extern(sql = false)]
fn resume(name: &[u8], confirm: bool, discard: bool) {
    speech::function(|| {
        let name = inwards(name);
        match hubs::named(&name) {
            Some(hub) => {
                for (_, name) in hubs::members(&hub) {
                    resume_sync(&name, confirm, discard);
                }
            }
            None => resume_sync(&name, confirm, discard),
        }
    });
}

fn resume_sync(name: &str, confirm: bool, discard: bool) {
    let id = owned(name);
    let row = sql::as_extension(|| {
        sql::query(
            "SELECT state, reason, decision FROM sync._sync WHERE id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            &[Arg::Int4(id)],
        )
    });
    let text = |n: usize| row.first().and_then(|r| r[n].clone()).unwrap_or_default();
    if confirm && discard {
        raise(&refuse(
            "22023",
            "\"confirm\" and \"discard\" exclude each other".into(),
            "The first sends what waits for a decision, the second drops it.",
            "Give one of them.",
        ));
    }
    if text(0) == "needs decision" && text(2) == "dropped" {
        return resume_without_table(id, name, &text(1), confirm, discard);
    }
    if text(0) == "needs decision" && !confirm && !discard {
        let is_of_values = text(2).contains("blanks");
        raise(&refuse(
            "55000",
            format!("sync \"{name}\" needs a decision"),
            &format!("It stopped because {}.", text(1)),
            &format!(
                "SELECT sync.resume({0}, confirm => true) to send {1}, or sync.resume({0}, discard => true) to keep the {2} on the other side.",
                sql::literal(name),
                if is_of_values { "the empty values" } else { "the deletes" },
                if is_of_values { "values" } else { "rows" },
            ),
        ));
    }
    let decision = text(2);
    let asked = text(0) == "needs decision";
    sql::as_extension(|| {
        // Only what was asked about: a batch takes its verdict along, a load has it in its row.
        let side = Side::BOTH.into_iter().find(|s| decision == format!("reconcile {}", s.name()));
        let verdict = if discard { Verdict::Discarded } else { Verdict::Confirmed };
        if asked && let Some(side) = side {
            load::decided(id, side, verdict);
        } else if asked {
            load::decided_found(id, &decision, verdict);
        }
        // What a reconcile found is decided with its load; a batch takes the verdict along until
        // it is through. A pause in between changes nothing of that.
        sql::query(
            "UPDATE sync._sync SET state = 'running', reason = NULL, changed_at = pg_catalog.clock_timestamp(),
                    decision = CASE WHEN NOT $2 THEN decision WHEN $3 THEN NULL
                                    ELSE CASE WHEN $5 THEN 'pull ' ELSE '' END || CASE WHEN $4 THEN 'discarded' ELSE 'confirmed' END END
              WHERE id OPERATOR(pg_catalog.=) $1",
            &[
                Arg::Int4(id),
                Arg::Bool(asked),
                Arg::Bool(decision.starts_with("reconcile")),
                Arg::Bool(discard),
                Arg::Bool(decision.starts_with("pull")),
            ],
        );
    });
    attach::configuration_changed();
}

/// A table of the sync was dropped: there is nothing to send and nothing to go on with. `discard` leaves
/// it paused, with its links, for whoever wants to look at them.
fn resume_without_table(id: i32, name: &str, why: &str, confirm: bool, discard: bool) {
    let stopped = format!("It stopped because {why}.");
    if confirm {
        raise(&refuse(
            "55000",
            format!("sync \"{name}\" cannot go on without its table"),
            &format!("{stopped} There is nothing to confirm: a dropped table deletes no rows."),
            &after_drop(name),
        ));
    }
    if !discard {
        raise(&refuse(
            "55000",
            format!("sync \"{name}\" needs a decision"),
            &stopped,
            &after_drop(name),
        ));
    }
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._sync SET state = 'paused', reason = NULL, decision = NULL, changed_at = pg_catalog.clock_timestamp()
              WHERE id OPERATOR(pg_catalog.=) $1",
            &[Arg::Int4(id)],
        )
    });
    attach::configuration_changed();
}

/// What to do about a sync whose table was dropped.
pub(super) fn after_drop(name: &str) -> String {
    format!(
        "SELECT sync.drop_sync({0}) to end it, the rows of the other table stay; or sync.resume({0}, discard => true) to leave it paused. A table made again is another one: sync it anew.",
        sql::literal(name)
    )
}

/// `sync._activate() RETURNS void`: an active epoch for a database that was fenced, and a worker.
#[pg_extern(sql = false)]
fn activate() {
    speech::function(|| {
        sql::as_extension(|| or_raise(identity::activate()));
        attach::configuration_changed();
        wake::arm_launcher();
    });
}

/// `sync._created() RETURNS void`: the last statement of CREATE EXTENSION.
#[pg_extern(sql = false)]
fn extension_created() {
    speech::function(created);
}

fn created() {
    crate::capture::install();
    wake::arm_launcher();
    if slots::shared().is_none() {
        super::warn(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "sync_ext was created, but its worker cannot start: the library was not loaded when the server started",
            "Set shared_preload_libraries = 'sync_ext' and restart the server.",
        );
    } else if no_worker_slot() {
        super::warn(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            "sync_ext was created, but its worker cannot start: all worker slots of the server are in use",
            "Increase max_worker_processes and restart the server.",
        );
    }
}

/// Would the launcher find all worker slots in use? The server does not say how many are, so the
/// processes are counted that its own kinds do not explain.
fn no_worker_slot() -> bool {
    if slots::all().any(|s| s.standing() == slots::Standing::NoWorkerSlot) {
        return true;
    }
    let full = sql::as_extension(|| {
        sql::one(
            "SELECT pg_catalog.count(*) >= pg_catalog.current_setting('max_worker_processes')::int8
               FROM pg_catalog.pg_stat_get_activity(NULL) a
              WHERE a.backend_type NOT IN ('archiver', 'autovacuum launcher', 'autovacuum worker', 'background writer',
                    'checkpointer', 'client backend', 'io worker', 'slotsync worker', 'startup', 'walreceiver',
                    'walsender', 'walsummarizer', 'walwriter')",
            &[],
        )
    });
    full.as_deref() == Some("t")
}

/// `sync._worker_state() RETURNS text`
#[pg_extern(sql = false)]
fn worker_state() -> String {
    use slots::Standing;
    if slots::shared().is_none() {
        return "not preloaded".into();
    }
    // SAFETY: state of this server.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return "standby".into();
    }
    if !slots::launcher_seen() {
        return "no launcher".into();
    }
    if slots::switched_off() {
        return "switched off".into();
    }
    match slots::mine().map_or(Standing::None, slots::Slot::standing) {
        Standing::Running if slots::mine().is_some_and(slots::Slot::served) => "running".into(),
        Standing::Failing if slots::mine().is_some_and(slots::Slot::served) => "failing".into(),
        Standing::Running | Standing::Failing => "restarting".into(),
        Standing::Starting => "starting".into(),
        Standing::BackingOff => "restarting".into(),
        Standing::NoWorkerSlot => "no worker slot".into(),
        Standing::NotWanted | Standing::None => "not started".into(),
    }
}
