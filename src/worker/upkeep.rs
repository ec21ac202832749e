//! What a worker does beside syncing: it looks at the catalogs of the synced tables, and after the log.

use super::round::Worker;
use super::slots;
use super::transaction::{Failure, transaction};
use crate::capture::attach;
use crate::engine::{self, backlog, gaps};
use crate::log::{history, rotation, segments};
use crate::settings;
use crate::speech;
use crate::sql::{self, Arg};
use change::snapshot::Snapshot;
use pgrx::pg_sys::{self, Oid};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// When a table that somebody held is looked at again: each try may wait for a second.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Relations whose catalogs have changed since the worker last looked.
static mut TOUCHED: Vec<Oid> = Vec::new();
/// `sync._sync`, whose invalidation means a new configuration, and `sync._queue`, whose means records
/// that a person has put there.
static mut CONFIGURATION: Oid = pg_sys::InvalidOid;
static mut QUEUE: Oid = pg_sys::InvalidOid;

unsafe extern "C-unwind" fn on_relcache(_: pg_sys::Datum, relid: Oid) {
    // SAFETY: one thread.
    unsafe {
        if relid == pg_sys::InvalidOid || relid == CONFIGURATION {
            engine::mark_configuration_stale();
        }
        if relid == QUEUE {
            engine::mark_queued();
            return;
        }
        let touched = &mut *(&raw mut TOUCHED);
        if touched.len() < 1000 {
            touched.push(relid);
        } else {
            touched.clear();
            touched.push(pg_sys::InvalidOid);
        }
    }
}

/// Begins to hear of changed catalogs.
pub fn listen() {
    // SAFETY: lives as long as the process.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(on_relcache), pg_sys::Datum::null()) };
}

/// Takes note of the tables whose changes mean a new configuration, and records to look at.
pub fn watch(configuration: Oid, queue: Oid) {
    // SAFETY: one thread.
    unsafe { (CONFIGURATION, QUEUE) = (configuration, queue) }
}

/// Has a particular relation changed?
pub fn any_touched() -> bool {
    // SAFETY: one thread.
    unsafe { (*(&raw const TOUCHED)).iter().any(|&oid| oid != pg_sys::InvalidOid) }
}

/// Has every table looked at once more.
pub fn touch_all() {
    // SAFETY: one thread.
    unsafe { *(&raw mut TOUCHED) = vec![pg_sys::InvalidOid] };
}

impl Worker {
    /// Looks at the catalogs of the synced tables that were touched.
    pub(super) fn look_at_tables(&mut self) -> Result<(), Failure> {
        // SAFETY: one thread.
        let mut touched = unsafe { std::mem::take(&mut *(&raw mut TOUCHED)) };
        if self.unseen.as_ref().is_some_and(|u| u.1 <= Instant::now())
            && let Some((unseen, _)) = self.unseen.take()
        {
            touched.extend(unseen);
        }
        if touched.is_empty() {
            return Ok(());
        }
        let all = touched.contains(&pg_sys::InvalidOid);
        if !all {
            // What happens to a partition concerns its root.
            touched = transaction(|| {
                let mut more = Vec::new();
                for &oid in &touched {
                    // SAFETY: a catalog lookup.
                    if unsafe { pg_sys::get_rel_relispartition(oid) } {
                        more.extend(segments::ancestors(oid));
                    }
                }
                Ok([touched, more].concat())
            })?;
        }
        for sync in self.syncs.values_mut() {
            let tables = merge::Side::BOTH.map(|s| sync.plan.side(s).oid);
            if all || tables.iter().any(|oid| touched.contains(oid)) {
                if !all && let Some(held) = &mut sync.held_until {
                    // A right or a column that was missing may have come.
                    held.0 = Instant::now();
                }
                if let Err(failure) = gaps::look(sync) {
                    // Somebody holds the table.
                    speech::log(format!(
                        "sync_ext worker cannot look at the tables of {}: {failure}",
                        sync.plan.name
                    ));
                    let (unseen, _) =
                        self.unseen.get_or_insert((Vec::new(), Instant::now() + LOOK_AGAIN));
                    unseen.extend(tables);
                }
                // A column may have come, gone or changed its type.
                if !all && sync.shape_changed()? {
                    engine::mark_configuration_stale();
                }
            }
        }
        Ok(())
    }

    /// Nobody is served, but the log must not grow without end: learns what was written to it.
    pub(super) fn look_at_log(&mut self) -> Result<(), Failure> {
        let map = &mut self.map;
        transaction(|| {
            if let Some(log) = segments::relations() {
                map.refresh(&log);
            }
            Ok(())
        })
    }

    /// Saves cursors, rotates the log, makes history's partitions.
    pub(super) fn look_after_log(&mut self) -> Result<(), Failure> {
        // SAFETY: reads the clock.
        let now = unsafe { pg_sys::GetCurrentTimestamp() };
        if self.is_stream() && history::due(self.history_until, now) {
            self.history_until = transaction(|| Ok(history::maintain(now)))?;
        }
        if self.last_saved.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        self.last_saved = Instant::now();
        if self.is_stream() {
            self.tidy();
            self.purge.work(self.slot)?;
        }
        let used: Vec<usize> = (0..slots::SEGMENTS).filter(|&n| self.map.blocks(n) > 0).collect();
        if used.is_empty() {
            return Ok(());
        }
        if self.is_stream() {
            rotation::advance(self.slot, &self.map, &mut self.last_rotation);
        }
        let current = self.slot.segment.load(Ordering::Acquire) as usize;
        if used.iter().all(|&n| n == current) {
            return Ok(());
        }
        self.release_log()
    }

    /// Removes the triggers of syncs that ended while somebody was writing to their tables.
    fn tidy(&mut self) {
        if self.tidy_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let busy = transaction(|| Ok(attach::tidy())).unwrap_or_else(|failure| {
            speech::log(format!("sync_ext worker cannot remove triggers: {failure}"));
            true
        });
        self.tidy_at = busy.then(|| Instant::now() + LOOK_AGAIN);
    }

    /// Lets go of what this worker's syncs have settled; the stream worker empties what nobody wants.
    fn release_log(&mut self) -> Result<(), Failure> {
        for sync in self.syncs.values_mut().filter(|s| s.unsaved) {
            let cursor = sync.cursor.clone();
            sync.save_cursor(&cursor)?;
        }
        for outlet in self.outlets.values_mut() {
            outlet.save()?;
        }
        let (slot, number) = (self.slot, self.number);
        // These have just saved how far they are, however long ago there was last something for them.
        let at_work: Vec<i32> =
            self.syncs.iter().filter(|s| s.1.held_until.is_none()).map(|s| *s.0).collect();
        let map = &mut self.map;
        let keep = settings::LOG_KEEP.get();
        let full = rotation::size(map) > settings::LOG_MAX_SIZE.get() as u64 * 1024 * 1024;
        let late = |sync| slot.keeper(sync as u32) == number && (full || !at_work.contains(&sync));
        if full || transaction(|| Ok(overdue(keep)))?.into_iter().any(late) {
            backlog::move_out(map, keep, full, late)?;
        }
        if number > 0 {
            return Ok(());
        }
        // Emptying cannot be rolled back: what it relies on has to be committed.
        transaction(|| {
            let Some(log) = segments::relations() else { return Ok(()) };
            let seen: Vec<Snapshot> = sql::read("SELECT seen FROM sync._cursor", &[])
                .into_iter()
                .filter_map(|r| Snapshot::parse(r[0].as_deref()?))
                .collect();
            rotation::empty(&log, slot, map, &seen);
            Ok(())
        })
    }
}

/// The syncs that may hold the log back for too long: paused or failing, held or broken.
fn overdue(keep: i32) -> Vec<i32> {
    sql::read(
        "SELECT c.sync FROM sync._cursor c JOIN sync._sync o ON o.id = c.sync AND (o.target IS NOT NULL OR o.connection IS NOT NULL)
          WHERE c.moved_at < pg_catalog.clock_timestamp() - interval '1 second' * $1",
        &[Arg::Int4(keep)],
    )
    .into_iter()
    .filter_map(|row| row[0].as_deref()?.parse().ok())
    .collect()
}
