//! What is kept for a while only: failed attempts, conflicts, gaps that were made good, and the memory
//! that a record was deleted. Taken away in small pieces, beside the other work; where there is nothing
//! to take, nothing is written.

use super::slots::Slot;
use super::transaction::{Failure, transaction};
use crate::engine::link;
use crate::settings;
use crate::sql::{self, Arg};
use std::time::{Duration, Instant};

/// The tables that grow with what happens, and the column that tells how old a row is.
const RECORDS: [(&str, &str); 4] =
    [("_error", "at"), ("_conflict", "at"), ("_gap", "reconciled_at"), ("_schema_change", "at")];
/// How often their oldest rows are looked at while those are young.
const LOOK: Duration = Duration::from_secs(10);
/// Most rows looked at, and taken away, at once.
const PIECE: i64 = 5_000;
/// Blocks of links looked at at once.
const BLOCKS: i64 = 64;
/// Links have no index by age, so they are gone through as a whole, but not more often than this.
const PASS: Duration = Duration::from_secs(24 * 3600);
/// Longest time for links at once.
const SLICE: Duration = Duration::from_millis(10);

pub struct Purge {
    records_at: Instant,
    pass_at: Instant,
    /// The syncs whose links are still to be gone through, and how far the last one is.
    links: Vec<i32>,
    block: i64,
}

impl Purge {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { records_at: now, pass_at: now, links: Vec::new(), block: 0 }
    }

    /// Does a little; to be called about once a second.
    pub fn work(&mut self, slot: &Slot) -> Result<(), Failure> {
        let now = Instant::now();
        if self.records_at <= now && !transaction(|| Ok(records()))? {
            self.records_at = now + LOOK;
        }
        if self.pass_at <= now {
            self.pass_at = now + PASS;
            self.block = 0;
            self.links = transaction(|| Ok(sql::read("SELECT id FROM sync._sync", &[])))?
                .iter()
                .filter_map(|row| row[0].as_deref()?.parse().ok())
                .collect();
        }
        while now.elapsed() < SLICE
            && let Some(&sync) = self.links.last()
        {
            // One that a job worker serves has its turn tomorrow: nobody else writes its links.
            let block = self.block;
            let more =
                slot.keeper(sync as u32) == 0 && transaction(|| Ok(tombstones(sync, block)))?;
            self.block += BLOCKS;
            if !more {
                self.links.pop();
                self.block = 0;
            }
        }
        Ok(())
    }
}

/// Takes the oldest rows that are past their time. True when there may be more.
fn records() -> bool {
    let mut more = false;
    for (table, at) in RECORDS {
        let days = Arg::Int4(settings::HISTORY_KEEP.get());
        let old = format!(
            "SELECT o.id FROM (SELECT r.id, r.{at} AS at FROM sync.{table} r ORDER BY r.id LIMIT {PIECE}) o
              WHERE o.at < pg_catalog.clock_timestamp() - interval '1 day' * $1"
        );
        if sql::one(&format!("{old} LIMIT 1"), &[days]).is_some() {
            sql::query(&format!("DELETE FROM sync.{table} WHERE id IN ({old})"), &[days]);
            more = true;
        }
    }
    more
}

/// Forgets records that were deleted long ago, in the blocks from `block` on. False at the end.
fn tombstones(sync: i32, block: i64) -> bool {
    let name = link::partition(sync);
    let blocks = sql::one(
        "SELECT pg_catalog.pg_relation_size(pg_catalog.to_regclass($1)) / pg_catalog.current_setting('block_size')::int8",
        &[Arg::Text(&format!("sync.{name}"))],
    );
    let Some(blocks) = blocks.and_then(|n| n.parse::<i64>().ok()).filter(|&n| block < n) else {
        return false;
    };
    let days = Arg::Int4(settings::TOMBSTONE_KEEP.get());
    let old = format!(
        "FROM sync.{name} WHERE ctid >= '({block},0)' AND ctid < '({},0)'
            AND deleted_at < pg_catalog.clock_timestamp() - interval '1 day' * $1",
        block + BLOCKS
    );
    if sql::one(&format!("SELECT 1 {old} LIMIT 1"), &[days]).is_some() {
        sql::query(&format!("DELETE {old}"), &[days]);
    }
    block + BLOCKS < blocks
}
