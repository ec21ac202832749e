//! The records that wait: `sync.retry` and `sync.discard`, one by its number or all that are alike.

use super::{border, compiled, edit_row, hubs, or_raise, owned, raise, refuse};
use crate::border::inwards;
use crate::capture::attach;
use crate::engine::plan;
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use merge::Side;
use pgrx::AnyElement;
use pgrx::prelude::*;
use serde_json::Value as Json;

/// `sync.retry(id int8, set jsonb DEFAULT NULL) RETURNS void`: tries a queued record now, with other values if some are
/// given.
#[pg_extern(sql = false)]
fn retry(id: Option<i64>, set: Option<AnyElement>) {
    speech::function(|| {
        let Some(id) = id else { return };
        let values = set.map(|set| border::document(set.datum()));
        let waiting = Waiting::find(id);
        if let Some(values) = values {
            or_raise(waiting.edit(&values));
        }
        retry_these(&format!("{{{id}}}"));
    });
}

/// `sync.discard(id int8, reason text) RETURNS void`: takes a record out of the queue; both sides
/// stay as they are until it is edited again.
#[pg_extern(sql = false)]
fn discard(id: i64, reason: &[u8]) {
    speech::function(|| {
        Waiting::find(id);
        discard_these(&format!("{{{id}}}"), &inwards(reason));
    });
}

/// `sync.retry_all(name text, state text, sqlstate text, message text) RETURNS int8`
#[pg_extern(sql = false)]
fn retry_all(
    name: Option<&[u8]>,
    state: Option<&[u8]>,
    sqlstate: Option<&[u8]>,
    message: Option<&[u8]>,
) -> i64 {
    // What may have been created already is sent again by a person's word about that record, and by no other.
    speech::function(|| retry_these(&matching(name, state, sqlstate, message, false)))
}

/// `sync.discard_all(reason text, name text, state text, sqlstate text, message text) RETURNS int8`
#[pg_extern(sql = false)]
fn discard_all(
    reason: Option<&[u8]>,
    name: Option<&[u8]>,
    state: Option<&[u8]>,
    sqlstate: Option<&[u8]>,
    message: Option<&[u8]>,
) -> i64 {
    speech::function(|| {
        let Some(reason) = reason else {
            raise(&refuse(
                "22004",
                "a reason has to be given".to_owned(),
                "It is kept in sync.errors with each record that is given up.",
                "SELECT sync.discard_all('entered twice', 'accounts');",
            ))
        };
        let ids = matching(name, state, sqlstate, message, true);
        discard_these(&ids, &inwards(reason))
    })
}

/// A record that waits.
struct Waiting {
    id: i64,
    sync: i32,
    side: Side,
    key: Option<Vec<u8>>,
}

impl Waiting {
    /// Refuses one that is not there or not the caller's.
    fn find(id: i64) -> Self {
        let found = sql::as_extension(|| {
            sql::read(
                "SELECT s.name, q.side, pg_catalog.encode(q.key, 'hex')
                   FROM (SELECT id, sync, side, key FROM sync._queue
                         UNION ALL SELECT id, sync, side, NULL FROM sync._delivery) q
                   JOIN sync._sync s ON s.id = q.sync WHERE q.id = $1",
                &[Arg::Int(id)],
            )
        });
        let Some([Some(name), side, key]) = found.first().map(Vec::as_slice) else {
            raise(&refuse(
                "02000",
                format!("no queued record has the number {id}"),
                "It may have been settled in the meantime.",
                "SELECT id, sync, key, state FROM sync.queue;",
            ))
        };
        Self {
            id,
            sync: owned(name),
            side: if side.as_deref() == Some("1") { Side::Target } else { Side::Source },
            key: key.as_deref().and_then(sql::from_hex),
        }
    }

    /// Writes values to the row that waits, as an edit of whoever asks.
    fn edit(&self, values: &Json) -> Result<(), Failure> {
        let Json::Object(values) = values else {
            return Err(refuse(
                "22023",
                "the values are not an object".to_owned(),
                &format!("They are {values}."),
                "Give fields and their values, such as '{\"phone\": \"+41 44 000 00 00\"}'.",
            ));
        };
        let stored = sql::as_extension(|| plan::stored(self.sync));
        let (Some(stored), Some(key)) = (stored, &self.key) else {
            return Err(refuse(
                "0A000",
                format!("the values of queued record {} cannot be set", self.id),
                "It is a change that an application takes as it was made.",
                "Change the row itself: that is another change, which the application takes too.",
            ));
        };
        let plan = compiled(&stored)?;
        if plan.is_remote(self.side) {
            return Err(refuse(
                "0A000",
                format!("the values of queued record {} cannot be set here", self.id),
                &format!("It waits on its way from {}.", plan.side(self.side).name),
                "Correct it there: it comes by itself with its next change.",
            ));
        }
        edit_row::set(&plan, self.side, key, values).map(drop)
    }
}

/// The numbers of the records of the caller's syncs that are like this, as an array; those of which it is `in_doubt`
/// whether they were created already only if told so.
fn matching(
    name: Option<&[u8]>,
    state: Option<&[u8]>,
    sqlstate: Option<&[u8]>,
    message: Option<&[u8]>,
    in_doubt: bool,
) -> String {
    let syncs = syncs(name.map(inwards).as_deref());
    let list: Vec<String> = syncs.iter().map(i32::to_string).collect();
    let [state, sqlstate, message] = [state, sqlstate, message].map(|text| text.map(inwards));
    const STATES: [&str; 3] = ["retrying", "waiting for parent", "review"];
    if let Some(state) = &state
        && !STATES.contains(&state.as_str())
    {
        raise(&refuse(
            "22023",
            format!("no queued record is \"{state}\""),
            "",
            &format!("A record is one of: {}.", STATES.join(", ")),
        ));
    }
    sql::as_extension(|| {
        sql::one(
            "SELECT COALESCE(pg_catalog.array_agg(q.id), '{}')::pg_catalog.text
               FROM (SELECT id, sync, state, sqlstate, message, in_doubt FROM sync._queue
                     UNION ALL SELECT id, sync, state, NULL, message, false FROM sync._delivery) q
              WHERE (NOT q.in_doubt OR $5) AND q.sync = ANY ($1::pg_catalog.int4[]) AND q.state IN ('retrying', 'waiting for parent', 'review')
                AND ($2 IS NULL OR q.state = $2) AND ($3 IS NULL OR q.sqlstate = $3) AND ($4 IS NULL OR q.message LIKE $4)",
            &[
                Arg::Text(&format!("{{{}}}", list.join(","))),
                Arg::OptText(state.as_deref()),
                Arg::OptText(sqlstate.as_deref()),
                Arg::OptText(message.as_deref()),
                Arg::Bool(in_doubt),
            ],
        )
    })
    .unwrap_or_else(|| "{}".to_owned())
}

/// The syncs that are meant: one, those of a hub, or all of the caller's.
pub(super) fn syncs(name: Option<&str>) -> Vec<i32> {
    if let Some(name) = name {
        return match hubs::named(name) {
            Some(hub) => hubs::members(&hub).into_iter().map(|(id, _)| id).collect(),
            None => vec![owned(name)],
        };
    }
    let all = sql::as_extension(|| {
        sql::read("SELECT id, owner::pg_catalog.oid FROM sync._sync ORDER BY id", &[])
    });
    let own = |owner: &str| {
        let role = "SELECT pg_catalog.pg_has_role($1::pg_catalog.oid, 'USAGE')";
        sql::one(role, &[Arg::Text(owner)]).as_deref() == Some("t")
    };
    all.iter()
        .filter(|row| row[1].as_deref().is_some_and(own))
        .filter_map(|row| row[0].as_deref()?.parse().ok())
        .collect()
}

fn retry_these(ids: &str) -> i64 {
    let rows = sql::as_extension(|| {
        sql::query(
            "WITH handed AS (UPDATE sync._delivery SET state = 'pending', attempts = 0, next_at = pg_catalog.clock_timestamp()
                              WHERE id = ANY ($1::pg_catalog.int8[]) RETURNING 1),
                  tried AS (UPDATE sync._queue SET state = 'retrying', attempts = 0, next_at = pg_catalog.clock_timestamp()
                             WHERE id = ANY ($1::pg_catalog.int8[]) RETURNING 1)
             SELECT (SELECT pg_catalog.count(*) FROM handed) + (SELECT pg_catalog.count(*) FROM tried)",
            &[Arg::Text(ids)],
        )
    });
    attach::configuration_changed();
    rows.first().and_then(|row| row[0].as_deref()?.parse().ok()).unwrap_or(0)
}

fn discard_these(ids: &str, reason: &str) -> i64 {
    give_up(ids, "discarded", "00000", &format!("discarded: {reason}"))
}

/// Takes records out of the queue. What an application had not done with goes into history, as parked until now.
pub(super) fn give_up(ids: &str, outcome: &str, sqlstate: &str, message: &str) -> i64 {
    let rows = sql::as_extension(|| {
        sql::query(
            "WITH handed AS (DELETE FROM sync._delivery WHERE id = ANY ($1::pg_catalog.int8[]) RETURNING *),
                  kept AS (INSERT INTO sync._history (settled_at, captured_at, seq, shape, epoch, sync, origin, side, op, outcome, old, new)
                           SELECT pg_catalog.now(), captured_at, seq, shape, epoch, sync, origin, side, op, 'p', old, new FROM handed),
                  gone AS (DELETE FROM sync._queue WHERE id = ANY ($1::pg_catalog.int8[]) RETURNING sync, side, key_text, attempts, message, since)
             INSERT INTO sync._error (sync, side, key_text, attempt, sqlstate, message, detail, outcome, since)
             SELECT q.sync, q.side, q.key_text, q.attempts, $3, $4, q.message, $2, q.since
               FROM (SELECT sync, side, key_text, attempts, message, pg_catalog.now() AS since FROM handed UNION ALL SELECT * FROM gone) q RETURNING 1",
            &[Arg::Text(ids), Arg::Text(outcome), Arg::Text(sqlstate), Arg::Text(message)],
        )
    });
    attach::configuration_changed();
    rows.len() as i64
}
