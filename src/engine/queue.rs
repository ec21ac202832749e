//! The records that are not settled: retrying, waiting for a parent, in review. One row each; gone
//! when settled. They are always worked on by reading both rows, so later edits are taken along.

use super::classify::{Class, class};
use super::plan::Plan;
use super::references::{self, Missing};
use super::repair::Keep;
use super::settle::key_text;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::Fallback;
use foldhash::{HashMap, HashSet};
use merge::Side;
use std::cell::RefCell;
use std::time::Duration;

/// Why a record is put aside.
#[derive(Clone, Debug)]
pub enum Parked {
    /// The row moved while we looked at it: merge again at once.
    Again,
    Failed(Failure),
    /// Another record has to be there first.
    Parent(Failure),
    /// Nothing a retry could help.
    Review(Failure),
    /// It may be there already, unseen: it stays in review also when its row is changed, or it would
    /// be created twice.
    InDoubt(Failure),
}

/// By what a key is known to be in the queue without asking the table. A false alarm costs one read.
pub fn mark(side: Side, key: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    // The side goes through the multiplication: with it in a single bit, a key of one side would have
    // the mark of its neighbour on the other.
    let mut hash = (2 * key.len() as u64 + 1 + side as u64).wrapping_mul(K);
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_ne_bytes(word)).wrapping_mul(K);
        hash ^= hash >> 29;
    }
    hash.wrapping_mul(K)
}

/// The marks of the queued records of a sync. What a piece of work takes off is remembered until it is
/// known to be committed, and only that: the queue may be long.
#[derive(Default)]
pub struct Marks {
    set: HashSet<u64>,
    taken_off: Vec<u64>,
    /// Keys of the side that is stamped whose records have been settled or put aside.
    touched: Vec<Vec<u8>>,
    /// Some are to be put right.
    repairs: bool,
}

impl Marks {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub fn contains(&self, mark: u64) -> bool {
        self.set.contains(&mark)
    }

    /// May some of them be such as [`super::repair`] is about?
    pub fn has_repairs(&self) -> bool {
        self.repairs && !self.set.is_empty()
    }

    fn insert(&mut self, mark: u64) {
        self.set.insert(mark);
    }

    fn take_off(&mut self, mark: u64) -> bool {
        let was = self.set.remove(&mark);
        if was {
            self.taken_off.push(mark);
        }
        was
    }

    /// How it is with this row is another matter now.
    pub fn touch(&mut self, plan: &Plan, side: Side, key: &[u8]) {
        if plan.stamps.as_ref().is_some_and(|stamps| stamps.side == side) {
            self.touched.push(key.to_vec());
        }
    }

    /// The keys that have been touched, each once.
    pub fn take_touched(&mut self) -> Vec<Vec<u8>> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// The piece of work is over: what it took off is gone for good, or still waits.
    pub fn finish(&mut self, committed: bool) {
        if !committed {
            self.set.extend(&self.taken_off);
        }
        self.taken_off = Vec::new();
    }
}

/// Puts a record aside, or updates why it is. `before` is what its row was called when its link
/// was last written, if it has been renamed since.
pub fn park(
    plan: &Plan,
    side: Side,
    key: &[u8],
    before: Option<&[u8]>,
    at: i64,
    why: &Parked,
    queued: &mut Marks,
) {
    let text = key_text(plan, side, key);
    let retry = &plan.config.retry;
    let empty = Failure::new("", "");
    let (failure, kind) = match why {
        Parked::Again => (&empty, "again"),
        Parked::Review(f) | Parked::InDoubt(f) => (f, "review"),
        Parked::Parent(f) => (f, "parent"),
        Parked::Failed(f) => (
            f,
            match class(f) {
                Class::Busy => "busy",
                Class::Parent => "parent",
                _ => "failed",
            },
        ),
    };
    let delay = retry.initial_delay.as_secs_f64();
    let (delay, factor) = (delay.to_string(), retry.backoff_factor.to_string());
    let (longest, jitter) = (retry.max_delay.as_secs_f64().to_string(), retry.jitter.to_string());
    let changed = if at == i64::MIN { None } else { Some(at.to_string()) };
    let mut reviewed = false;
    sql::as_extension(|| {
        // One attempt more for what this record was refused for; being busy or early is not its fault. It waits since
        // its change's time in history, by which what becomes of it is told of that change.
        let parked = sql::often(
            "INSERT INTO sync._queue AS q (sync, side, key, key_text, state, attempts, changed_at, next_at, sqlstate, message, detail, hint, before, in_doubt, since)
             SELECT $1, $2::int2, $3, $4,
                    CASE WHEN $5 = 'review' OR ($5 = 'failed' AND $6 <= 1) THEN 'review'
                         WHEN $5 = 'parent' THEN 'waiting for parent'
                         WHEN $5 = 'again' THEN 'pending' ELSE 'retrying' END,
                    CASE WHEN $5 IN ('failed', 'review') THEN 1 ELSE 0 END,
                    COALESCE('2000-01-01 00:00:00+00'::timestamptz + ($7::float8 * interval '1 microsecond'), pg_catalog.clock_timestamp()),
                    pg_catalog.clock_timestamp() + interval '1 second' *
                        CASE $5 WHEN 'again' THEN 0 WHEN 'busy' THEN 0.05 WHEN 'parent' THEN 0.2
                                ELSE LEAST($16::float8, $8::float8) * (1 - $17::float8 * pg_catalog.random()) END,
                    NULLIF($10, ''), NULLIF($11, ''), $12, $13, NULLIF($14, ''), $15, pg_catalog.now()
             ON CONFLICT (sync, side, key) DO UPDATE SET
                    attempts = q.attempts + EXCLUDED.attempts,
                    state = CASE WHEN EXCLUDED.state = 'retrying' AND $5 = 'failed'
                                  AND q.attempts + 1 >= $6 THEN 'review'
                                 WHEN EXCLUDED.state = 'waiting for parent'
                                  AND q.since < pg_catalog.clock_timestamp() - interval '1 hour' THEN 'review'
                                 ELSE EXCLUDED.state END,
                    changed_at = EXCLUDED.changed_at,
                    next_at = CASE $5
                        WHEN 'failed' THEN pg_catalog.clock_timestamp() + (1 - $17::float8 * pg_catalog.random()) * interval '1 second' *
                             LEAST($16::float8, $8::float8 * pg_catalog.power($9::float8, LEAST(q.attempts, 40)::float8))
                        WHEN 'parent' THEN pg_catalog.clock_timestamp() + LEAST(interval '30 seconds',
                             interval '200 milliseconds' + (pg_catalog.clock_timestamp() - q.since) / 2::float8)
                        WHEN 'busy' THEN pg_catalog.clock_timestamp() + LEAST(interval '1 second',
                             interval '50 milliseconds' + (pg_catalog.clock_timestamp() - q.since) / 4::float8)
                        ELSE EXCLUDED.next_at END,
                    parent_sync = NULL, parent_side = NULL, parent_key = NULL,
                    before = COALESCE(EXCLUDED.before, q.before), in_doubt = q.in_doubt OR EXCLUDED.in_doubt,
                    sqlstate = COALESCE(EXCLUDED.sqlstate, q.sqlstate), message = COALESCE(EXCLUDED.message, q.message),
                    detail = COALESCE(EXCLUDED.detail, q.detail), hint = COALESCE(EXCLUDED.hint, q.hint)
             RETURNING q.state, q.attempts",
            &[
                Arg::Int4(plan.id),
                Arg::Int4(side as i32),
                Arg::Bytes(key),
                Arg::Text(&text),
                Arg::Text(kind),
                Arg::Int4(retry.max_attempts as i32),
                Arg::OptText(changed.as_deref()),
                Arg::Text(&delay),
                Arg::Text(&factor),
                Arg::Text(&failure.sqlstate),
                Arg::Text(&failure.message),
                Arg::OptText(failure.detail.as_deref()),
                Arg::OptText(failure.hint.as_deref()),
                Arg::Bytes(before.unwrap_or_default()),
                Arg::Bool(matches!(why, Parked::InDoubt(_))),
                Arg::Text(&longest),
                Arg::Text(&jitter),
            ],
        );
        let state = parked.first().and_then(|row| row[0].as_deref());
        reviewed = state == Some("review") && !matches!(why, Parked::InDoubt(_));
        if !matches!(kind, "again" | "busy") {
            sql::often(
                "INSERT INTO sync._error (sync, side, key_text, attempt, sqlstate, message, detail, hint)
                 SELECT $1, $2::int2, $3, q.attempts, $4, $5, $6, $7 FROM sync._queue q
                  WHERE q.sync = $1 AND q.side = $2 AND q.key = $8",
                &[
                    Arg::Int4(plan.id),
                    Arg::Int4(side as i32),
                    Arg::Text(&text),
                    Arg::Text(&failure.sqlstate),
                    Arg::Text(&failure.message),
                    Arg::OptText(failure.detail.as_deref()),
                    Arg::OptText(failure.hint.as_deref()),
                    Arg::Bytes(key),
                ],
            );
        }
    });
    queued.insert(mark(side, key));
    if kind != "again" && kind != "busy" {
        queued.touch(plan, side, key);
    }
    match retry.fallback {
        Fallback::Skip if reviewed => skip(plan, side, key, queued),
        Fallback::PauseSync if reviewed => {
            let why = format!("the record {text} needs a person: {}", failure.message);
            if pause(plan.id, &why) {
                super::mark_configuration_stale();
            }
        }
        _ => {}
    }
}

/// A record that is put off again and again goes after so many times the pause.
const MOST_PAUSES: f64 = 10.0;

/// Puts a record off until nothing more has happened to it for so long.
pub fn put_off(
    plan: &Plan,
    side: Side,
    key: &[u8],
    before: Option<&[u8]>,
    at: i64,
    pause: Duration,
    queued: &mut Marks,
) {
    let text = key_text(plan, side, key);
    let changed = if at == i64::MIN { None } else { Some(at.to_string()) };
    let pause = pause.as_secs_f64();
    sql::as_extension(|| {
        sql::often(
            "INSERT INTO sync._queue AS q (sync, side, key, key_text, state, changed_at, next_at, before)
             SELECT $1, $2::int2, $3, $4, 'pending',
                    COALESCE('2000-01-01 00:00:00+00'::timestamptz + ($5::float8 * interval '1 microsecond'), pg_catalog.clock_timestamp()),
                    pg_catalog.clock_timestamp() + $6::float8 * interval '1 second', NULLIF($8, ''::bytea)
             ON CONFLICT (sync, side, key) DO UPDATE SET
                    changed_at = EXCLUDED.changed_at, before = COALESCE(EXCLUDED.before, q.before),
                    since = CASE WHEN q.state = 'pending' THEN q.since ELSE EXCLUDED.since END,
                    next_at = CASE WHEN q.state = 'pending' THEN LEAST(EXCLUDED.next_at, q.since + $7::float8 * interval '1 second')
                                   ELSE EXCLUDED.next_at END,
                    state = CASE WHEN q.in_doubt THEN q.state ELSE 'pending' END",
            &[
                Arg::Int4(plan.id),
                Arg::Int4(side as i32),
                Arg::Bytes(key),
                Arg::Text(&text),
                Arg::OptText(changed.as_deref()),
                Arg::Text(&pause.to_string()),
                Arg::Text(&(pause * MOST_PAUSES).to_string()),
                Arg::Bytes(before.unwrap_or_default()),
            ],
        )
    });
    queued.insert(mark(side, key));
}

/// What `sync.errors` says of a record that was given up by itself.
pub const SKIPPED: &str = "skipped after the last attempt";

/// Gives a record up until it is changed again.
fn skip(plan: &Plan, side: Side, key: &[u8], queued: &mut Marks) {
    sql::as_extension(|| {
        sql::often(
            "WITH gone AS (DELETE FROM sync._queue WHERE sync = $1 AND side = $2 AND key = $3
                           RETURNING sync, side, key_text, attempts, since, sqlstate, message)
             INSERT INTO sync._error (sync, side, key_text, attempt, sqlstate, message, detail, hint, outcome, since)
             SELECT g.sync, g.side, g.key_text, g.attempts, g.sqlstate, $4, g.message,
                    'It is synced again when it is next changed, or by sync.push and sync.pull.', 'skipped', g.since FROM gone g",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key), Arg::Text(SKIPPED)],
        )
    });
    queued.take_off(mark(side, key));
}

/// Has a sync wait with its record. False where it waits already.
pub fn pause(sync: i32, why: &str) -> bool {
    let paused = sql::as_extension(|| {
        sql::query(
            "UPDATE sync._sync SET state = 'paused', reason = $2, changed_at = pg_catalog.clock_timestamp()
              WHERE id = $1 AND state = 'running' RETURNING 1",
            &[Arg::Int4(sync), Arg::Text(why)],
        )
    });
    !paused.is_empty()
}

/// Puts a record aside that has to wait for another one.
pub fn await_parent(
    plan: &Plan,
    side: Side,
    key: &[u8],
    before: Option<&[u8]>,
    at: i64,
    missing: &Missing<'_>,
    queued: &mut Marks,
) {
    park(plan, side, key, before, at, &Parked::Parent(references::why(plan, missing)), queued);
    sql::as_extension(|| {
        sql::often(
            "UPDATE sync._queue SET parent_sync = $4, parent_side = $5::int2, parent_key = $6
              WHERE sync = $1 AND side = $2 AND key = $3
                AND (parent_sync, parent_side, parent_key) IS DISTINCT FROM ($4, $5::int2, $6)",
            &[
                Arg::Int4(plan.id),
                Arg::Int4(side as i32),
                Arg::Bytes(key),
                Arg::Int4(missing.sync),
                Arg::Int4(missing.side as i32),
                Arg::Bytes(missing.key),
            ],
        )
    });
    AWAITED.with_borrow_mut(|awaited| awaited.insert(missing.sync));
}

thread_local! {
    /// The syncs for records of which others wait, or may.
    static AWAITED: RefCell<HashSet<i32>> = RefCell::default();
}

/// Does a record wait for one of this sync?
pub fn is_awaited(sync: i32) -> bool {
    AWAITED.with_borrow(|awaited| awaited.contains(&sync))
}

/// Finds out what is waited for, of which this process may not know.
pub fn look_who_waits() {
    let syncs = sql::read(
        "SELECT DISTINCT parent_sync FROM sync._queue WHERE parent_sync IS NOT NULL",
        &[],
    );
    let syncs = syncs.iter().filter_map(|row| row[0].as_deref()?.parse().ok());
    AWAITED.with_borrow_mut(|awaited| *awaited = syncs.collect());
}

/// The record that others waited for is there.
pub fn wake(sync: i32, side: Side, key: &[u8]) {
    let woken = sql::as_extension(|| {
        sql::often(
            "UPDATE sync._queue SET next_at = pg_catalog.clock_timestamp(), state = 'pending'
              WHERE parent_sync = $1 AND parent_side = $2 AND parent_key = $3 AND state IN ('waiting for parent', 'review')
             RETURNING 1",
            &[Arg::Int4(sync), Arg::Int4(side as i32), Arg::Bytes(key)],
        )
    });
    if !woken.is_empty() {
        super::mark_queued();
    }
}

/// All that wait for records of a sync are looked at: it has been gone through.
pub fn wake_all(sync: i32) {
    let woken = sql::query(
        "UPDATE sync._queue SET next_at = pg_catalog.clock_timestamp(), state = 'pending'
          WHERE parent_sync = $1 AND state IN ('waiting for parent', 'review') RETURNING 1",
        &[Arg::Int4(sync)],
    );
    if !woken.is_empty() {
        super::mark_queued();
    }
}

/// When a record is due that is for a load to take up.
pub const LEFT: &str = "9999-01-01 00:00:00+00";

/// Is this record for a load to take up?
pub fn is_left(plan: &Plan, side: Side, key: &[u8]) -> bool {
    let text = "SELECT 1 FROM sync._queue
                 WHERE sync = $1 AND side = $2::pg_catalog.int2 AND key = $3 AND next_at = $4::pg_catalog.timestamptz";
    let args = [Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key), Arg::Text(LEFT)];
    sql::as_extension(|| sql::one(text, &args)).is_some()
}

/// Is there such a record of this sync?
pub fn has_left(sync: i32) -> bool {
    let text = "SELECT 1 FROM sync._queue
                 WHERE sync OPERATOR(pg_catalog.=) $1 AND next_at OPERATOR(pg_catalog.=) $2::pg_catalog.timestamptz LIMIT 1";
    sql::one(text, &[Arg::Int4(sync), Arg::Text(LEFT)]).is_some()
}

/// Wakes what was left for the loads of a sync to take up, when there are none any more.
pub fn wake_left(sync: i32) {
    sql::query(
        "UPDATE sync._queue SET next_at = pg_catalog.clock_timestamp()
          WHERE sync OPERATOR(pg_catalog.=) $1 AND next_at OPERATOR(pg_catalog.=) $2::pg_catalog.timestamptz
            AND NOT EXISTS (SELECT FROM sync._load l WHERE l.sync OPERATOR(pg_catalog.=) $1)",
        &[Arg::Int4(sync), Arg::Text(LEFT)],
    );
    super::mark_queued();
}

/// Does a record wait for one that waits, over however many, for itself?
pub fn is_circle(plan: &Plan, side: Side, key: &[u8], missing: &Missing<'_>) -> bool {
    if (missing.sync, missing.side, missing.key) == (plan.id, side, key) {
        return true;
    }
    let met = sql::as_extension(|| {
        sql::often(
            "WITH RECURSIVE up (sync, side, key, steps) AS (
                SELECT $4::int4, $5::int2, $6::bytea, 1
                UNION
                SELECT q.parent_sync, q.parent_side, q.parent_key, up.steps + 1
                  FROM up JOIN sync._queue q ON q.sync = up.sync AND q.side = up.side AND q.key = up.key
                 WHERE q.parent_sync IS NOT NULL AND up.steps < 100)
             SELECT 1 FROM up WHERE sync = $1 AND side = $2 AND key = $3 LIMIT 1",
            &[
                Arg::Int4(plan.id),
                Arg::Int4(side as i32),
                Arg::Bytes(key),
                Arg::Int4(missing.sync),
                Arg::Int4(missing.side as i32),
                Arg::Bytes(missing.key),
            ],
        )
    });
    !met.is_empty()
}

/// A record is settled: out of the queue with it, if it was there.
pub fn settled(plan: &Plan, side: Side, key: &[u8], queued: &mut Marks) {
    if queued.take_off(mark(side, key)) {
        sql::as_extension(|| {
            sql::often(
                "DELETE FROM sync._queue WHERE sync = $1 AND side = $2 AND key = $3",
                &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
            )
        });
    }
}

/// A queue row that is due.
#[derive(Clone, Debug)]
pub struct Due {
    pub side: Side,
    pub key: Vec<u8>,
    pub before: Option<Vec<u8>>,
    pub changed_at: i64,
    /// It is to be put right.
    pub repair: bool,
}

/// What the queue knows of one record.
pub struct Waiting {
    pub before: Option<Vec<u8>>,
    pub changed_at: i64,
}

/// Looks one record up in the queue.
pub fn waiting(plan: &Plan, side: Side, key: &[u8]) -> Option<Waiting> {
    let rows = sql::as_extension(|| {
        sql::often(
            "SELECT pg_catalog.encode(before, 'hex'),
                    (EXTRACT(epoch FROM changed_at) - 946684800)::numeric * 1000000
               FROM sync._queue WHERE sync = $1 AND side = $2 AND key = $3",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
        )
    });
    let row = rows.first()?;
    Some(Waiting {
        before: row[0].as_deref().and_then(sql::from_hex),
        changed_at: row[1].as_deref()?.parse::<f64>().ok()? as i64,
    })
}

/// Of the rows that wait and have another key than their links know: the keys that they had, with those that they have and
/// when they were changed.
pub fn renamed(plan: &Plan) -> HashMap<(Side, Vec<u8>), (Vec<u8>, i64)> {
    let text = "SELECT side, pg_catalog.encode(before, 'hex'), pg_catalog.encode(key, 'hex'),
                       (EXTRACT(epoch FROM changed_at) - 946684800)::numeric * 1000000
                  FROM sync._queue WHERE sync = $1 AND before IS NOT NULL";
    let rows = sql::as_extension(|| sql::read(text, &[Arg::Int4(plan.id)]));
    rows.iter()
        .filter_map(|row| {
            let side = if row[0].as_deref()? == "0" { Side::Source } else { Side::Target };
            let [before, key] = [1, 2].map(|n| row[n].as_deref().and_then(sql::from_hex));
            let at = row[3].as_deref()?.parse::<f64>().ok()? as i64;
            Some(((side, before?), (key?, at)))
        })
        .collect()
}

/// Why a record may not be sent before a person has looked at it; `None`: it may.
pub fn doubt(plan: &Plan, side: Side, key: &[u8]) -> Option<Failure> {
    let rows = sql::as_extension(|| {
        sql::read(
            "SELECT sqlstate, message, detail, hint FROM sync._queue
              WHERE sync = $1 AND side = $2 AND key = $3 AND in_doubt AND state = 'review'",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
        )
    });
    let [sqlstate, message, detail, hint] = rows.first()?.as_slice() else { return None };
    Some(Failure {
        sqlstate: sqlstate.clone()?,
        message: message.clone()?,
        detail: detail.clone(),
        hint: hint.clone(),
    })
}

/// What a record's row was sent for is settled: out of the queue with it, unless the row was changed
/// again since.
pub fn sent(plan: &Plan, side: Side, key: &[u8], queued: &mut Marks) {
    queued.touch(plan, side, key);
    if !queued.contains(mark(side, key)) {
        return;
    }
    let left = sql::as_extension(|| {
        sql::often(
            "DELETE FROM sync._queue WHERE sync = $1 AND side = $2 AND key = $3 AND state <> 'pending'",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
        );
        sql::often(
            "SELECT 1 FROM sync._queue WHERE sync = $1 AND side = $2 AND key = $3",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
        )
    });
    if left.is_empty() {
        queued.take_off(mark(side, key));
    }
}

/// A record that waited is on its way to the other system.
pub fn sending(plan: &Plan, side: Side, key: &[u8], queued: &Marks) {
    if queued.contains(mark(side, key)) {
        sql::as_extension(|| {
            sql::often(
                "UPDATE sync._queue SET state = 'sending' WHERE sync = $1 AND side = $2 AND key = $3",
                &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
            )
        });
    }
}

/// Milliseconds until the next row is due that is not due yet.
pub fn next_later(sync: i32) -> Option<u64> {
    sql::one(
        "SELECT (EXTRACT(epoch FROM pg_catalog.min(next_at) - pg_catalog.clock_timestamp()) * 1000)::int8
           FROM sync._queue WHERE sync = $1 AND state NOT IN ('review', 'sending') AND next_at > pg_catalog.clock_timestamp()",
        &[Arg::Int4(sync)],
    )?
    .parse()
    .ok()
}

/// Has a record looked at now, as a person asked. What is known of it already stays: when it was
/// changed, and what it was called.
pub fn ask(sync: i32, side: Side, key: &[u8], text: &str) {
    sql::often(
        "INSERT INTO sync._queue AS q (sync, side, key, key_text, state, changed_at)
         VALUES ($1, $2::int2, $3, $4, 'pending', pg_catalog.clock_timestamp())
         ON CONFLICT (sync, side, key) DO UPDATE SET state = 'pending', attempts = 0, next_at = pg_catalog.clock_timestamp()",
        &[Arg::Int4(sync), Arg::Int4(side as i32), Arg::Bytes(key), Arg::Text(text)],
    );
}

/// The same, to have it put right.
pub fn ask_to_repair(sync: i32, side: Side, key: &[u8], text: &str, keep: Keep) {
    sql::often(
        "INSERT INTO sync._queue AS q (sync, side, key, key_text, state, changed_at, repair)
         VALUES ($1, $2::int2, $3, $4, 'pending', pg_catalog.clock_timestamp(), $5::int2)
         ON CONFLICT (sync, side, key) DO UPDATE SET state = 'pending', attempts = 0, next_at = pg_catalog.clock_timestamp(), repair = EXCLUDED.repair",
        &[
            Arg::Int4(sync),
            Arg::Int4(side as i32),
            Arg::Bytes(key),
            Arg::Text(text),
            Arg::Int4(keep.number()),
        ],
    );
}

/// How a record that waits is to be put right, if it is.
pub fn repair_of(plan: &Plan, side: Side, key: &[u8]) -> Option<Keep> {
    let rows = sql::as_extension(|| {
        sql::often(
            "SELECT repair FROM sync._queue WHERE sync = $1 AND side = $2 AND key = $3 AND repair IS NOT NULL",
            &[Arg::Int4(plan.id), Arg::Int4(side as i32), Arg::Bytes(key)],
        )
    });
    Keep::of(rows.first()?[0].as_deref()?)
}

/// The rows that are due now, the longest due first: one that comes back at once lets others pass.
/// Renamed ones before all: the name that a row has left says by itself that it is gone. Those that
/// somebody else has put there are `queued` from now on.
pub fn due(sync: i32, limit: i32, queued: &mut Marks) -> Vec<Due> {
    sql::read(
        "SELECT side, pg_catalog.encode(key, 'hex'),
                (EXTRACT(epoch FROM changed_at) - 946684800)::numeric * 1000000,
                pg_catalog.encode(before, 'hex'), repair IS NOT NULL
           FROM sync._queue
          WHERE sync = $1 AND state NOT IN ('review', 'sending')
            AND next_at <= pg_catalog.clock_timestamp()
          ORDER BY before IS NULL, next_at, id LIMIT $2",
        &[Arg::Int4(sync), Arg::Int4(limit)],
    )
    .into_iter()
    .filter_map(|row| {
        let side = if row[0].as_deref()? == "0" { Side::Source } else { Side::Target };
        let changed_at = row[2].as_deref()?.parse::<f64>().ok()? as i64;
        let before = row[3].as_deref().and_then(sql::from_hex);
        let key = sql::from_hex(row[1].as_deref()?)?;
        let repair = row[4].as_deref() == Some("t");
        queued.insert(mark(side, &key));
        queued.repairs |= repair;
        Some(Due { side, key, before, changed_at, repair })
    })
    .collect()
}

/// Milliseconds until the next row is due; `None` when none is waiting.
pub fn next_due(sync: i32) -> Option<u64> {
    sql::one(
        "SELECT pg_catalog.ceil(GREATEST(0, EXTRACT(epoch FROM next_at - pg_catalog.clock_timestamp()) * 1000))::int8
           FROM sync._queue WHERE sync = $1 AND state NOT IN ('review', 'sending') ORDER BY next_at LIMIT 1",
        &[Arg::Int4(sync)],
    )?
    .parse()
    .ok()
}

/// Is there a record that is to be looked at, and was refused by nobody?
pub fn has_pending(sync: i32) -> bool {
    let text = "SELECT 1 FROM sync._queue WHERE sync = $1 AND state = 'pending' LIMIT 1";
    sql::one(text, &[Arg::Int4(sync)]).is_some()
}

/// The marks of all queued records of a sync, read in pieces.
pub fn marks(sync: i32) -> Marks {
    let mut marks = Marks::default();
    sql::each_key(
        "SELECT side, key FROM sync._queue WHERE sync = $1",
        &[Arg::Int4(sync)],
        |side, key| {
            let side = if side == 0 { Side::Source } else { Side::Target };
            marks.insert(mark(side, key));
        },
    );
    let repairs = "SELECT 1 FROM sync._queue WHERE sync = $1 AND repair IS NOT NULL LIMIT 1";
    marks.repairs = !marks.set.is_empty() && sql::one(repairs, &[Arg::Int4(sync)]).is_some();
    marks
}
