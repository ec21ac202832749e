//! Rotation: the log moves on to an empty segment, and a segment that no sync wants any more is
//! emptied. Below the TRUNCATE command: no catalog row changes, nothing reaches logical decoding,
//! and the lock is only ever taken when nobody is in the way.

use super::batch::Map;
use super::segments::LogRelations;
use crate::settings;
use crate::worker::slots::{SEGMENTS, Slot};
use change::snapshot::Snapshot;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Bytes in the log.
pub fn size(map: &Map) -> u64 {
    (0..SEGMENTS).map(|n| map.bytes(n)).sum()
}

/// Moves on to an empty segment when the current one is full enough. Returns false when it should
/// and none is free.
pub fn advance(slot: &Slot, map: &Map, last: &mut Instant) -> bool {
    let current = slot.segment.load(Ordering::Acquire) as usize % SEGMENTS;
    let full = settings::LOG_SEGMENT_SIZE.get() as u64 * 1024 * 1024;
    if map.bytes(current) < full
        || last.elapsed() < Duration::from_secs(settings::LOG_ROTATE_INTERVAL.get() as u64)
    {
        return true;
    }
    let Some(free) = (1..SEGMENTS).map(|n| (current + n) % SEGMENTS).find(|&n| map.blocks(n) == 0)
    else {
        return false;
    };
    slot.segment.store(free as u32, Ordering::Release);
    *last = Instant::now();
    true
}

/// Empties the segments that hold nothing any sync wants. `seen` is what every saved cursor has
/// seen at least. In a transaction of its own; true when one was emptied.
pub fn empty(log: &LogRelations, slot: &Slot, map: &mut Map, seen: &[Snapshot]) -> bool {
    let current = slot.segment.load(Ordering::Acquire) as usize % SEGMENTS;
    let mut emptied = false;
    for n in 0..SEGMENTS {
        if n == current || map.blocks(n) == 0 {
            continue;
        }
        if !map.everything_seen(log, n, seen) {
            continue;
        }
        // SAFETY: inside a transaction.
        unsafe {
            // Never waits: a reader of the log, or a writer that began when this segment was
            // current, keeps its lock to its end; we come again.
            if !pg_sys::ConditionalLockRelationOid(
                log.segments[n],
                pg_sys::AccessExclusiveLock as i32,
            ) {
                continue;
            }
            let relation = pg_sys::table_open(log.segments[n], pg_sys::NoLock as i32);
            // Under the lock nobody has uncommitted rows here: the map, read again, is final.
            map.refresh(log);
            if map.everything_seen(log, n, seen) {
                flush();
                map.empty(n);
                pg_sys::heap_truncate_one_rel(relation);
                emptied = true;
            }
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
        }
    }
    emptied
}

/// Makes the cursors that were read last beyond a crash: the workers commit without waiting for the
/// disk, and a cursor that a crash takes back would look for what is gone.
fn flush() {
    // SAFETY: reads the position of the WAL and writes it out.
    unsafe {
        let end = pg_sys::GetXLogInsertRecPtr();
        // At the end of a page this is behind the header of the next one, which nobody has written.
        let in_page = end % u64::from(pg_sys::XLOG_BLCKSZ);
        let first_page = end % pg_sys::wal_segment_size as u64 == in_page;
        let header = if first_page { LONG_PAGE_HEADER } else { PAGE_HEADER };
        pg_sys::XLogFlush(if in_page == header { end - in_page } else { end });
    }
}

/// `SizeOfXLogShortPHD` and `SizeOfXLogLongPHD` of access/xlog_internal.h.
const PAGE_HEADER: u64 = 24;
const LONG_PAGE_HEADER: u64 = 40;
