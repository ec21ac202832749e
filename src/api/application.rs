//! Changes for applications: `sync.take` hands them over, `sync.done` and `sync.failed` settle them.

use super::syncs::document_of;
use super::{or_raise, owned, queued, refuse, wait};
use crate::border::inwards;
use crate::capture::attach;
use crate::engine::{plan, queue};
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::Fallback;
use pgrx::AnyArray;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// `sync._take(name text, up_to int4, lease interval) RETURNS SETOF int8`
#[pg_extern(sql = false)]
fn take(name: &[u8], up_to: i32, lease: Interval) -> SetOfIterator<'static, i64> {
    SetOfIterator::new(speech::function(|| or_raise(take_some(&inwards(name), up_to, lease))))
}

/// `sync.done(name text, ids int8[]) RETURNS int8`
#[pg_extern(sql = false)]
fn done(name: &[u8], ids: AnyArray) -> i64 {
    speech::function(|| {
        let sync = or_raise(outlet(&inwards(name)));
        sql::as_extension(|| {
            let ids = (pg_sys::INT8ARRAYOID, Some(ids.datum()));
            let settled = sql::query_with(
                "WITH gone AS (DELETE FROM sync._delivery d WHERE d.sync = $1 AND d.id = ANY ($2) AND d.state = 'sending' RETURNING d.*)
                 INSERT INTO sync._history (settled_at, captured_at, seq, shape, epoch, sync, origin, side, op, outcome, old, new)
                 SELECT pg_catalog.clock_timestamp(), captured_at, seq, shape, epoch, sync, origin, side, op, 's', old, new FROM gone
                 RETURNING 1",
                &[(pg_sys::INT4OID, sync.into_datum()), ids],
            );
            settled.len() as i64
        })
    })
}

/// `sync.failed(name text, id int8, message text, retry bool) RETURNS text`
#[pg_extern(sql = false)]
fn failed(name: &[u8], id: i64, message: &[u8], retry: bool) -> String {
    speech::function(|| or_raise(give_back(&inwards(name), id, &inwards(message), retry)))
}

/// The number of a sync whose changes an application takes.
fn outlet(name: &str) -> Result<i32, Failure> {
    let sync = owned(name);
    let other = sql::as_extension(|| {
        sql::one(
            "SELECT COALESCE(s.target::text, s.connection || ':' || s.object) FROM sync._sync s WHERE s.id = $1",
            &[Arg::Int4(sync)],
        )
    });
    other.map_or(Ok(sync), |other| {
        Err(refuse(
            "42809",
            format!("sync \"{name}\" has no changes to take"),
            &format!("Its changes go to {other} by themselves."),
            "Only what goes to {\"type\": \"application\"} is taken.",
        ))
    })
}

/// Of each record the oldest change that is nobody's, the oldest first.
fn take_some(name: &str, up_to: i32, lease: Interval) -> Result<Vec<i64>, Failure> {
    let sync = outlet(name)?;
    wait::stopped(sync, name);
    let positive = lease > Interval::from_seconds(0.0);
    if up_to < 1 || !positive {
        return Err(refuse(
            "22023",
            format!("{up_to} changes for {lease} cannot be taken"),
            "Both have to be more than nothing.",
            "SELECT * FROM sync.take('billing', up_to => 500, lease => '1 minute');",
        ));
    }
    let taken = sql::as_extension(|| {
        sql::query_with(
            "UPDATE sync._delivery u SET state = 'sending', next_at = pg_catalog.clock_timestamp() + $3
              WHERE u.sync = $1 AND u.id IN (
                    SELECT d.id FROM sync._delivery d
                     WHERE d.sync = $1 AND d.state <> 'review' AND d.next_at <= pg_catalog.clock_timestamp()
                       AND NOT EXISTS (SELECT FROM sync._delivery e WHERE e.sync = d.sync AND e.key = d.key AND e.id < d.id)
                     ORDER BY d.id LIMIT $2 FOR UPDATE SKIP LOCKED)
             RETURNING u.id",
            &[
                (pg_sys::INT4OID, sync.into_datum()),
                (pg_sys::INT4OID, up_to.into_datum()),
                (pg_sys::INTERVALOID, lease.into_datum()),
            ],
        )
    });
    Ok(taken.iter().filter_map(|row| row[0].as_deref()?.parse().ok()).collect())
}

/// A change that the application could not deal with: tried again as the document says, or for a person.
fn give_back(name: &str, id: i64, message: &str, retry: bool) -> Result<String, Failure> {
    let sync = outlet(name)?;
    let (config, _) = plan::read_document(&document_of(sync))?;
    let limits = &config.retry;
    let attempts = if retry { limits.max_attempts as i32 } else { 0 };
    let delay = limits.initial_delay.as_secs_f64().to_string();
    let factor = limits.backoff_factor.to_string();
    let state = sql::as_extension(|| {
        let state = sql::query(
            "UPDATE sync._delivery d SET attempts = d.attempts + 1, message = $3,
                    state = CASE WHEN d.attempts + 1 >= $4 THEN 'review' ELSE 'retrying' END,
                    next_at = pg_catalog.clock_timestamp() + (1 - $8::float8 * pg_catalog.random()) * interval '1 second' *
                        LEAST($7::float8, $5::float8 * pg_catalog.power($6::float8, LEAST(d.attempts, 40)::float8))
              WHERE d.sync = $1 AND d.id = $2 AND d.state = 'sending' RETURNING d.state, d.key_text, d.attempts",
            &[
                Arg::Int4(sync),
                Arg::Int(id),
                Arg::Text(message),
                Arg::Int4(attempts),
                Arg::Text(&delay),
                Arg::Text(&factor),
                Arg::Text(&limits.max_delay.as_secs_f64().to_string()),
                Arg::Text(&limits.jitter.to_string()),
            ],
        );
        if let Some([_, key, attempt]) = state.first().map(Vec::as_slice) {
            sql::query(
                "INSERT INTO sync._error (sync, side, key_text, attempt, sqlstate, message) VALUES ($1, 0, $2, $3::int4, 'P0001', $4)",
                &[
                    Arg::Int4(sync),
                    Arg::OptText(key.as_deref()),
                    Arg::OptText(attempt.as_deref()),
                    Arg::Text(message),
                ],
            );
        }
        state.first().and_then(|row| row[0].clone())
    });
    let state = match (state.as_deref(), limits.fallback) {
        (Some("review"), Fallback::Skip) => {
            queued::give_up(&format!("{{{id}}}"), "skipped", "P0001", queue::SKIPPED);
            Some("skipped".to_owned())
        }
        (Some("review"), Fallback::PauseSync) => {
            queue::pause(sync, &format!("change {id} needs a person: {message}"));
            attach::configuration_changed();
            state
        }
        _ => state,
    };
    state.ok_or_else(|| {
        refuse(
            "02000",
            format!("change {id} has not been taken from sync \"{name}\""),
            "It was settled, or its lease ended and somebody else has settled it.",
            "Only what sync.take has returned can be given back.",
        )
    })
}
