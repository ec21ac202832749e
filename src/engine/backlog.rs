//! The cap on the log: a sync that is paused or behind holds it back only so long. Then what it is
//! owed becomes one queue row a record; with the base in the link no value is lost.

use super::collect::Collector;
use super::load::{self, Kind};
use super::plan::{self, Plan, Stored};
use super::shapes::Shapes;
use super::{gaps, guard};
use crate::capture::row::{BYPASS, DELETE, TRUNCATE};
use crate::log::batch::{self, Entry, Map};
use crate::log::segments::{self, LogRelations};
use crate::log::tick;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, as_owner, transaction};
use change::image;
use change::order;
use change::snapshot::{Snapshot, Span};
use merge::Side;
use std::collections::HashMap;

/// Most changes taken out of the log at once.
const PIECE: usize = 200_000;
/// Bytes of images read at once.
const CHUNK_BYTES: usize = 8 << 20;

/// A sync that holds the log back, and where it stands.
struct Lagging {
    stored: Stored,
    seen: Snapshot,
    after: i64,
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
    for Lagging { stored, seen, after } in lagging.into_iter().filter(|l| mine(l.stored.id)) {
        let id = stored.id;
        let plan =
            as_owner(stored.owner, &stored.search_path, true, || plan::compile(stored.clone()));
        transaction(|| {
            match (&plan, segments::relations()) {
                (Ok(plan), Some(log)) => {
                    note_owed(&log, map, plan, Span::new(seen, tick.clone()), after)?;
                }
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
          WHERE $2 OR (s.state <> 'running'
                       AND c.moved_at < pg_catalog.clock_timestamp() - interval '1 second' * $1)
          ORDER BY s.id",
        &[Arg::Int4(keep), Arg::Bool(all)],
    )
    .into_iter()
    .filter_map(|row| {
        Some(Lagging {
            stored: plan::stored(row[0].as_deref()?.parse().ok()?)?,
            seen: Snapshot::parse(row[1].as_deref()?)?,
            after: if row[2].is_some() { row[3].as_deref()?.parse().ok()? } else { i64::MIN },
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
        // As in a batch, a person decides about many deletes: reconciling asks.
        let asks = guard::examine(plan, &mut collector, &mut shapes, &entries)?.is_some();
        for (key, last) in keys(log, plan, &mut collector, &mut shapes, &entries) {
            if !(asks && last.op == DELETE) {
                note(plan, last.side, &key.1, last.at);
            }
        }
        let whole = |e: &Entry| e.op == TRUNCATE || e.op == BYPASS;
        if asks || entries.iter().any(whole) {
            compare_all(plan.id, "whole tables were changed while it could not run");
        }
        if !cut {
            return Ok(());
        }
    }
}

/// The last that happened to a key.
struct Last {
    side: Side,
    op: u8,
    at: i64,
}

/// The keys of some changes, each once.
fn keys(
    log: &LogRelations,
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> HashMap<(u8, Vec<u8>), Last> {
    let mut found = HashMap::new();
    let mut from = 0;
    while from < entries.len() {
        let images = batch::fetch(log, &entries[from..], CHUNK_BYTES);
        let mut values = Vec::new();
        for (n, entry) in entries[from..].iter().enumerate().take(images.count()) {
            let Some(side) = collector.side_of(plan, shapes, entry.shape) else { continue };
            let Some(shape) = shapes.get(entry.shape).filter(|_| plan.captured(side)) else {
                continue;
            };
            let (lengths, table) = (shape.lengths(), plan.side(side));
            for bytes in [images.old(n), images.new(n)].into_iter().flatten() {
                if image::decode(bytes, &lengths, &mut values).is_err() {
                    continue;
                }
                let key = table.key_columns().map(|c| {
                    shape
                        .columns
                        .iter()
                        .position(|s| s.name == c.name)
                        .map_or(image::Value::Null, |p| values[p])
                });
                if let Some(key) = image::encode_key(key, &table.key_lengths()) {
                    found.insert((side as u8, key), Last { side, op: entry.op, at: entry.at });
                }
            }
        }
        from += images.count().max(1);
    }
    found
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

fn note(plan: &Plan, side: Side, key: &[u8], at: i64) {
    sql::query(
        "INSERT INTO sync._queue (sync, side, key, key_text, state, changed_at)
         VALUES ($1, $2::int2, $3, $4, 'pending', '2000-01-01 00:00:00+00'::timestamptz + ($5::float8 * interval '1 microsecond'))
         ON CONFLICT (sync, side, key) DO UPDATE
            SET state = 'pending', changed_at = EXCLUDED.changed_at, next_at = EXCLUDED.next_at",
        &[
            Arg::Int4(plan.id),
            Arg::Int4(side as i32),
            Arg::Bytes(key),
            Arg::Text(&super::settle::key_text(plan, side, key)),
            Arg::Int(at),
        ],
    );
}
