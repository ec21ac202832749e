//! The cap on the log: a sync that is paused or behind holds it back only so long. Then what it is
//! owed becomes one queue row a record; with the base in the link no value is lost.

use super::collect::Collector;
use super::load::{self, Kind};
use super::plan::{self, Plan, Stored};
use super::shapes::Shapes;
use super::{gaps, guard, queue};
use crate::log::batch::{self, Entry, Map};
use crate::log::segments::{self, LogRelations};
use crate::log::tick;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::order;
use change::snapshot::{Snapshot, Span};
use merge::Side;
use std::collections::{HashMap, HashSet};

/// Most changes taken out of the log at once.
const PIECE: usize = 200_000;
/// Bytes of images read at once.
const CHUNK_BYTES: usize = 8 << 20;

/// A sync that holds the log back, and where it stands.
struct Lagging {
    stored: Stored,
    seen: Snapshot,
    /// The end of the batch it stands in, and the last change of it settled.
    frozen: Option<(Snapshot, i64)>,
}

/// Moves what the lagging syncs are owed into the queue, as far as they are this worker's: those
/// that have not run for `keep` seconds, or `all`. A transaction each, committed when this returns.
///
/// # Errors
/// Whatever reading the log or writing the queue raised; then nothing has moved for that sync.
pub fn move_out(
    map: &mut Map,
    keep: i32,
    all: bool,
    mine: impl Fn(i32) -> bool,
) -> Result<(), Failure> {
    let mut tick = Snapshot::empty();
    let lagging = transaction(|| {
        tick = tick::current_snapshot();
        if let Some(log) = segments::relations() {
            map.refresh(&log);
        }
        Ok(lagging(keep, all))
    })?;
    for Lagging { stored, seen, frozen } in lagging.into_iter().filter(|l| mine(l.stored.id)) {
        let id = stored.id;
        let plan =
            as_owner(stored.owner, &stored.search_path, true, || plan::compile(stored.clone()));
        transaction(|| {
            match (&plan, segments::relations()) {
                (Ok(plan), Some(log)) => match frozen {
                    // Only in the batch it stands in are the changes up to a number settled: what
                    // was committed since may have lower ones.
                    Some((end, after)) => {
                        note_owed(&log, map, plan, Span::new(seen, end.clone()), after)?;
                        note_owed(&log, map, plan, Span::new(end, tick.clone()), i64::MIN)?;
                    }
                    None => note_owed(&log, map, plan, Span::new(seen, tick.clone()), i64::MIN)?,
                },
                // It cannot be said whose keys the changes have: all records are compared, once
                // the sync can work again.
                _ => compare_all(id, "its changes were in the log for too long"),
            }
            sql::query(
                "UPDATE sync._cursor SET seen = $2::pg_catalog.pg_snapshot, frozen = NULL, seq = 0, moved_at = pg_catalog.clock_timestamp()
                  WHERE sync = $1",
                &[Arg::Int4(id), Arg::Text(&tick.to_string())],
            );
            Ok(())
        })?;
    }
    super::mark_configuration_stale();
    Ok(())
}

fn lagging(keep: i32, all: bool) -> Vec<Lagging> {
    sql::read(
        "SELECT s.id, c.seen, c.frozen, c.seq FROM sync._cursor c JOIN sync._sync s ON s.id = c.sync
          WHERE (s.target IS NOT NULL OR s.connection IS NOT NULL) AND ($2 OR c.moved_at < pg_catalog.clock_timestamp() - interval '1 second' * $1)
          ORDER BY s.id",
        &[Arg::Int4(keep), Arg::Bool(all)],
    )
    .into_iter()
    .filter_map(|row| {
        Some(Lagging {
            stored: plan::stored(row[0].as_deref()?.parse().ok()?)?,
            seen: Snapshot::parse(row[1].as_deref()?)?,
            frozen: match row[2].as_deref() {
                Some(end) => Some((Snapshot::parse(end)?, row[3].as_deref()?.parse().ok()?)),
                None => None,
            },
        })
    })
    .collect()
}

/// Goes through the changes of a sync and puts their records into the queue.
fn note_owed(
    log: &LogRelations,
    map: &Map,
    plan: &Plan,
    span: Span,
    mut after: i64,
) -> Result<(), Failure> {
    let mut shapes = Shapes::default();
    let mut collector = Collector::new();
    loop {
        let (mut entries, cut) = map.read(log, &span, after, PIECE);
        after = entries.iter().map(|e| e.seq).max().unwrap_or(after);
        order::sort(&mut entries);
        let (mine, rest): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|e| collector.side_of(plan, &mut shapes, e.shape).is_some());
        let entries = mine;
        if rest.iter().any(|e| shapes.is_lost(e.shape)) {
            gaps::note_unreadable(plan);
        }
        // As in a batch, a person decides about many deletes and empty values, and about many rows that leave a filter:
        // reconciling asks.
        let asks = guard::examine(plan, &mut collector, &mut shapes, &entries)?.is_some()
            || guard::may_exit(plan, &mut collector, &mut shapes, &entries);
        let mut keys = keys(log, plan, &mut collector, &mut shapes, &entries)?;
        for ((side, _), last) in &mut keys.last {
            // The same where the name in between went into the queue some time ago.
            last.before = match last.before.take() {
                Some(_) if last.gone => None,
                Some(before) => queue::waiting(plan, *side, &before)
                    .and_then(|waiting| waiting.before)
                    .or(Some(before)),
                None => None,
            };
        }
        for ((side, key), last) in &keys.last {
            if !(asks && last.gone) || keys.renamed.contains(&(*side, key.clone())) {
                note(plan, *side, key, last, asks);
            }
        }
        if asks || keys.whole {
            compare_all(plan.id, "whole tables were changed while it could not run");
        }
        if !cut {
            return Ok(());
        }
    }
}

/// The last that happened to a key.
struct Last {
    gone: bool,
    at: i64,
    /// What the row was called before.
    before: Option<Vec<u8>>,
}

/// The keys of some changes.
#[derive(Default)]
struct Keys {
    /// Each once.
    last: HashMap<(Side, Vec<u8>), Last>,
    /// Those whose row went on under another key.
    renamed: HashSet<(Side, Vec<u8>)>,
    /// Whole tables were changed, or an image does not tell its key.
    whole: bool,
}

fn keys(
    log: &LogRelations,
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> Result<Keys, Failure> {
    let mut keys = Keys::default();
    let mut from = 0;
    while from < entries.len() {
        let bump = Bump::new();
        let images = batch::fetch(log, &entries[from..], CHUNK_BYTES);
        let piece = &entries[from..from + images.count()];
        let collected = collector.collect(&bump, plan, shapes, piece, &images, &|_, _, _| false);
        keys.whole |= !collected.events.is_empty();
        for half in &collected.halves {
            // Where the row began, if it was renamed more than once.
            let before = half.before.map(|before| {
                let known = keys.last.get(&(half.side, before.to_vec()));
                known.and_then(|l| l.before.clone()).unwrap_or_else(|| before.to_vec())
            });
            if let Some(before) = half.before {
                keys.renamed.insert((half.side, before.to_vec()));
            }
            let last = keys.last.entry((half.side, half.key.to_vec())).or_insert(Last {
                gone: false,
                at: half.at,
                before: None,
            });
            last.gone = half.left;
            last.at = half.at;
            last.before = before.filter(|b| b != half.key).or(last.before.take());
        }
        from += images.count().max(1);
    }
    Ok(keys)
}

/// Has all records of a sync compared, on the sides whose changes it sends.
fn compare_all(sync: i32, reason: &str) {
    let captured = sql::read(
        "SELECT source_key IS NOT NULL, target_key IS NOT NULL FROM sync._sync WHERE id = $1",
        &[Arg::Int4(sync)],
    );
    for side in Side::BOTH {
        if captured.first().is_some_and(|row| row[side as usize].as_deref() == Some("t")) {
            load::request(sync, side, Kind::Rows, reason);
            load::request(sync, side, Kind::Links, reason);
        }
    }
}

/// `counted`: it is for the load to take it up, which asks where that would delete or empty much.
fn note(plan: &Plan, side: Side, key: &[u8], last: &Last, counted: bool) {
    sql::query(
        "INSERT INTO sync._queue (sync, side, key, key_text, state, changed_at, before, next_at)
         VALUES ($1, $2::int2, $3, $4, 'pending', '2000-01-01 00:00:00+00'::timestamptz + ($5::float8 * interval '1 microsecond'), NULLIF($6, ''),
                 COALESCE($8::timestamptz, clock_timestamp()))
         ON CONFLICT (sync, side, key) DO UPDATE
            SET state = 'pending', changed_at = EXCLUDED.changed_at, next_at = EXCLUDED.next_at,
                before = CASE WHEN NOT $7 THEN COALESCE(EXCLUDED.before, _queue.before) END",
        &[
            Arg::Int4(plan.id),
            Arg::Int4(side as i32),
            Arg::Bytes(key),
            Arg::Text(&super::settle::key_text(plan, side, key)),
            Arg::Int(last.at),
            Arg::Bytes(last.before.as_deref().unwrap_or_default()),
            // A name that the row has left says nothing of where it went.
            Arg::Bool(last.gone),
            Arg::OptText(counted.then_some(queue::LEFT)),
        ],
    );
}
