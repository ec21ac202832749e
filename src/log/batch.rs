//! Reading a batch out of the log.
//!
//! The log has no index. The worker keeps, in its own memory, the lowest and highest transaction id
//! of every block; writers say in shared memory which block they wrote to, before they commit, so
//! the map is exact as of each tick. A batch is then read from the few blocks that can hold it, and
//! an index would only cost every writer what the worker does once.

use super::segments::{self, LogRelations};
use crate::worker::slots::{self, SEGMENTS, Slot};
use change::order::Ordered;
use change::snapshot::{Snapshot, Span};
use foldhash::HashMap;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::sync::atomic::Ordering;

/// A change in the log, without its images: what the order and the dispatch need.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub seq: i64,
    pub xid: u64,
    pub shape: i64,
    /// Microseconds since 2000-01-01, when the row was captured.
    pub at: i64,
    pub command: u32,
    pub origin: i32,
    block: u32,
    offset: u16,
    segment: u8,
    pub op: u8,
    /// A later change of its transaction was taken with the part of the batch before: its image
    /// may be older than what was applied, so the row is read.
    pub stale: bool,
}

impl Ordered for Entry {
    fn xid(&self) -> u64 {
        self.xid
    }
    fn command(&self) -> u32 {
        self.command
    }
    fn sequence(&self) -> i64 {
        self.seq
    }
}

/// What a worker knows of the log's blocks: the lowest and highest transaction id in each.
pub struct Map {
    slot: &'static Slot,
    /// Whose news it reads: the worker's number.
    worker: usize,
    segments: [Option<Vec<(u64, u64)>>; SEGMENTS],
    /// How often each segment had been emptied when it was last looked at.
    emptied: [u32; SEGMENTS],
    /// Blocks of the large images, which lie out of line.
    out_of_line: [u32; SEGMENTS],
    /// The file each segment lay in when it was last looked at: VACUUM FULL, for one, makes another,
    /// in which nothing lies where it lay.
    files: [Oid; SEGMENTS],
}

/// The rows of the fixed part of a log tuple.
#[repr(C)]
struct Fixed {
    seq: i64,
    xid: u64,
    at: i64,
    shape: i64,
    command: u32,
    origin: i32,
    op: u8,
}

/// An open log segment; closed on drop, its lock kept until the transaction ends.
struct Open(pg_sys::Relation);

impl Open {
    fn new(log: &LogRelations, segment: usize) -> Self {
        // SAFETY: inside a transaction. Whoever alters it has to wait for us from here on.
        unsafe {
            let relation =
                pg_sys::table_open(log.segments[segment], pg_sys::AccessShareLock as i32);
            if !segments::is_known() && !segments::has_known_layout(relation) {
                altered();
            }
            Self(relation)
        }
    }

    fn file(&self) -> Oid {
        // SAFETY: an open relation.
        unsafe { (*(*self.0).rd_rel).relfilenode }
    }

    fn blocks(&self) -> u32 {
        // SAFETY: an open relation.
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(self.0, pg_sys::ForkNumber::MAIN_FORKNUM) }
    }

    fn blocks_out_of_line(&self) -> u32 {
        // SAFETY: an open relation; the one it keeps large values in is opened and closed here.
        unsafe {
            let oid = (*(*self.0).rd_rel).reltoastrelid;
            if oid == pg_sys::InvalidOid {
                return 0;
            }
            let relation = pg_sys::table_open(oid, pg_sys::AccessShareLock as i32);
            let blocks =
                pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
            pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
            blocks
        }
    }

    /// Calls `each` with every tuple of a block, under a share lock on it. `each` must not raise.
    fn scan(
        &self,
        block: u32,
        mut each: impl FnMut(u16, &mut pg_sys::HeapTupleData, &Fixed, pg_sys::Buffer),
    ) {
        // SAFETY: an open relation and a block below its end; the tuples are read while the buffer
        // is pinned and locked. The layout was checked when the relations were looked up: the
        // fixed columns are NOT NULL and come first, so they lie at the tuple's data offset.
        unsafe {
            let buffer = pg_sys::ReadBufferExtended(
                self.0,
                pg_sys::ForkNumber::MAIN_FORKNUM,
                block,
                pg_sys::ReadBufferMode::RBM_NORMAL,
                std::ptr::null_mut(),
            );
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let page = pg_sys::BufferGetPage(buffer);
            let header = page.cast::<pg_sys::PageHeaderData>();
            let lines = ((*header).pd_lower as usize).saturating_sub(PAGE_HEADER)
                / size_of::<pg_sys::ItemIdData>();
            for line in 0..lines {
                let item = *(*header).pd_linp.as_ptr().add(line);
                if item.lp_flags() != pg_sys::LP_NORMAL || (item.lp_len() as usize) < MIN_TUPLE {
                    continue;
                }
                let data = page
                    .cast::<u8>()
                    .add(item.lp_off() as usize)
                    .cast::<pg_sys::HeapTupleHeaderData>();
                let mut tuple = pg_sys::HeapTupleData {
                    t_len: item.lp_len(),
                    t_data: data,
                    t_tableOid: (*self.0).rd_id,
                    ..Default::default()
                };
                tuple.t_self.ip_blkid.bi_hi = (block >> 16) as u16;
                tuple.t_self.ip_blkid.bi_lo = block as u16;
                tuple.t_self.ip_posid = line as u16 + 1;
                let fixed = &*data.cast::<u8>().add((*data).t_hoff as usize).cast::<Fixed>();
                each(line as u16 + 1, &mut tuple, fixed, buffer);
            }
            pg_sys::UnlockReleaseBuffer(buffer);
        }
    }
}

/// Raises: a segment is not what it was when the map was made. The next round makes another.
fn altered() -> ! {
    ereport!(
        ERROR,
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the log of changes was altered while it was being read"
    );
    #[allow(unreachable_code)]
    {
        unreachable!("an ERROR was reported")
    }
}

const PAGE_HEADER: usize = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
const MIN_TUPLE: usize = 24 + 41;

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: opened by us; after an error the transaction's abort has closed it already.
        unsafe {
            if !std::thread::panicking() && pg_sys::IsTransactionState() {
                pg_sys::table_close(self.0, pg_sys::NoLock as i32);
            }
        }
    }
}

impl Map {
    /// The map of a worker, by its number, which knows nothing yet.
    pub fn new(slot: &'static Slot, worker: usize) -> Self {
        Self {
            slot,
            worker,
            segments: Default::default(),
            emptied: [0; SEGMENTS],
            out_of_line: [0; SEGMENTS],
            files: [pg_sys::InvalidOid; SEGMENTS],
        }
    }

    /// Brings the map up to date. To be called after the tick was taken: whatever the tick sees had
    /// been announced before.
    pub fn refresh(&mut self, log: &LogRelations) {
        if segments::take_changed() {
            // Whatever fails here, nothing is taken for known that was not compared.
            let known = std::mem::take(&mut self.segments);
            for (n, known) in known.into_iter().enumerate() {
                if Open::new(log, n).file() == self.files[n] {
                    self.segments[n] = known;
                }
            }
        }
        for n in 0..SEGMENTS {
            // Taken away first: whatever fails from here on, the segment is read anew.
            let known = self.segments[n].take().filter(|_| !self.is_outlived(n));
            let mut low =
                self.slot.workers[self.worker].low[n].swap(slots::NO_BLOCK, Ordering::SeqCst);
            if known.is_none() {
                low = 0;
            }
            let mut blocks = known.unwrap_or_default();
            if low == slots::NO_BLOCK {
                self.segments[n] = Some(blocks);
                continue;
            }
            let open = Open::new(log, n);
            self.files[n] = open.file();
            // Under the lock nobody empties it.
            self.emptied[n] = self.slot.emptied[n].load(Ordering::Acquire);
            let end = open.blocks();
            blocks.truncate(end as usize);
            self.out_of_line[n] = open.blocks_out_of_line();
            low = low.min(blocks.len() as u32);
            for block in low..end {
                let mut bounds = (u64::MAX, 0);
                open.scan(block, |_, _, fixed, _| {
                    bounds = (bounds.0.min(fixed.xid), bounds.1.max(fixed.xid));
                });
                match blocks.get_mut(block as usize) {
                    Some(known) => *known = bounds,
                    None => blocks.push(bounds),
                }
            }
            self.segments[n] = Some(blocks);
        }
    }

    /// Opens a segment to look for what the map says is there.
    fn open(&self, log: &LogRelations, segment: usize) -> Open {
        let open = Open::new(log, segment);
        if open.file() != self.files[segment] {
            segments::mark_changed();
            altered();
        }
        open
    }

    /// Was a segment emptied since it was last looked at? What it held then had been settled by
    /// every sync; what it holds now came after the tick.
    fn is_outlived(&self, segment: usize) -> bool {
        self.emptied[segment] != self.slot.emptied[segment].load(Ordering::Acquire)
    }

    /// Notes that a segment is being emptied, for every worker. Under the lock that keeps all
    /// others out of it.
    pub fn empty(&mut self, segment: usize) {
        self.emptied[segment] = self.slot.emptied[segment].fetch_add(1, Ordering::AcqRel) + 1;
        self.slot.workers[self.worker].low[segment].store(slots::NO_BLOCK, Ordering::Release);
        self.segments[segment] = Some(Vec::new());
        self.out_of_line[segment] = 0;
    }

    /// Bytes of a segment, large images included, as of the last refresh.
    pub fn bytes(&self, segment: usize) -> u64 {
        (self.blocks(segment) as u64 + u64::from(self.out_of_line[segment]))
            * u64::from(pg_sys::BLCKSZ)
    }

    /// Number of blocks of each segment, as of the last refresh.
    pub fn blocks(&self, segment: usize) -> usize {
        self.segments[segment].as_ref().map_or(0, Vec::len)
    }

    /// Has everybody seen every transaction that has a row in this segment?
    pub fn everything_seen(&self, log: &LogRelations, segment: usize, seen: &[Snapshot]) -> bool {
        let Some(blocks) = &self.segments[segment] else { return false };
        let mut open = None;
        blocks.iter().enumerate().all(|(block, &(min, max))| {
            if min > max || seen.iter().all(|s| max < s.xmin) {
                return true;
            }
            if seen.iter().any(|s| max >= s.xmax) {
                return false;
            }
            // An old transaction that is still running lies between the bounds: only a row of its
            // own counts.
            let mut all = true;
            open.get_or_insert_with(|| self.open(log, segment))
                .scan(block as u32, |_, _, fixed, _| all &= seen.iter().all(|s| s.sees(fixed.xid)));
            all
        })
    }

    /// The changes of a batch with a number above `after`, the lowest `limit` of them, in no order.
    /// The flag says that there are more.
    pub fn read(
        &self,
        log: &LogRelations,
        span: &Span,
        after: i64,
        limit: usize,
    ) -> (Vec<Entry>, bool) {
        let mut entries: Vec<Entry> = Vec::new();
        let mut cut = false;
        // A row that was taken before, of a transaction's later statement.
        let mut later_taken = false;
        // SAFETY: inside a transaction with an active snapshot.
        let snapshot = unsafe { pg_sys::GetActiveSnapshot() };
        for (n, blocks) in self.segments.iter().enumerate() {
            let Some(blocks) = blocks else { continue };
            let mut open = None;
            for (block, &(min, max)) in blocks.iter().enumerate() {
                if min > max || !span.may_touch(min, max) {
                    continue;
                }
                let open = open.get_or_insert_with(|| self.open(log, n));
                if self.is_outlived(n) {
                    break;
                }
                open.scan(block as u32, |offset, tuple, fixed, buffer| {
                    later_taken |= fixed.seq <= after && fixed.command > 0;
                    // SAFETY: the buffer is pinned and locked.
                    let wanted = fixed.seq > after
                        && span.contains(fixed.xid)
                        && unsafe { HeapTupleSatisfiesVisibility(tuple, snapshot, buffer) };
                    if wanted {
                        entries.push(Entry {
                            seq: fixed.seq,
                            xid: fixed.xid,
                            shape: fixed.shape,
                            at: fixed.at,
                            command: fixed.command,
                            origin: fixed.origin,
                            block: block as u32,
                            offset,
                            segment: n as u8,
                            op: fixed.op,
                            stale: false,
                        });
                    }
                });
                if entries.len() >= 2 * limit {
                    cut_to(&mut entries, limit);
                    cut = true;
                }
                pgrx::check_for_interrupts!();
            }
        }
        if entries.len() > limit {
            cut_to(&mut entries, limit);
            cut = true;
        }
        if later_taken {
            self.mark_stale(log, span, after, &mut entries);
        }
        (entries, cut)
    }

    /// Marks the changes whose transaction has a later command among those up to `after`. Looked up
    /// in the log and not remembered, so that it holds after a restart too.
    fn mark_stale(&self, log: &LogRelations, span: &Span, after: i64, entries: &mut [Entry]) {
        let mut taken: HashMap<u64, u32> = entries.iter().map(|e| (e.xid, 0)).collect();
        for (n, blocks) in self.segments.iter().enumerate() {
            let Some(blocks) = blocks else { continue };
            let mut open = None;
            for (block, &(min, max)) in blocks.iter().enumerate() {
                if min > max || !span.may_touch(min, max) {
                    continue;
                }
                let open = open.get_or_insert_with(|| self.open(log, n));
                if self.is_outlived(n) {
                    break;
                }
                open.scan(block as u32, |_, _, fixed, _| {
                    if fixed.seq <= after
                        && fixed.command > 0
                        && let Some(command) = taken.get_mut(&fixed.xid)
                    {
                        *command = (*command).max(fixed.command);
                    }
                });
                pgrx::check_for_interrupts!();
            }
        }
        for entry in entries {
            entry.stale = taken.get(&entry.xid).is_some_and(|&command| entry.command < command);
        }
    }
}

unsafe extern "C-unwind" {
    // Unguarded: once a row, and it raises nothing.
    fn HeapTupleSatisfiesVisibility(
        tuple: *mut pg_sys::HeapTupleData,
        snapshot: pg_sys::Snapshot,
        buffer: pg_sys::Buffer,
    ) -> bool;
}

fn cut_to(entries: &mut Vec<Entry>, limit: usize) {
    entries.select_nth_unstable_by_key(limit, |e| e.seq);
    entries.truncate(limit);
}

/// The images of some changes, in one piece of memory.
#[derive(Default)]
pub struct Images {
    bytes: Vec<u8>,
    /// For each entry: where its old and its new image lie.
    places: Vec<[Option<(usize, usize)>; 2]>,
}

impl Images {
    pub fn old(&self, n: usize) -> Option<&[u8]> {
        self.places[n][0].map(|(from, to)| &self.bytes[from..to])
    }

    #[allow(clippy::new_ret_no_self, clippy::wrong_self_convention)]
    pub fn new(&self, n: usize) -> Option<&[u8]> {
        self.places[n][1].map(|(from, to)| &self.bytes[from..to])
    }
}

/// Reads the images of `entries`, as many as fit into `limit` bytes, at least one.
pub fn fetch(log: &LogRelations, entries: &[Entry], limit: usize) -> Images {
    let mut images = Images::default();
    let mut open: [Option<Open>; SEGMENTS] = Default::default();
    let mut pinned: Option<(u8, u32, pg_sys::Buffer)> = None;
    // SAFETY: the rows were found by `Map::read` under a lock on the segment that is taken again
    // here; segments are emptied only when no batch can want them any more. Detoasting copies.
    unsafe {
        for entry in entries {
            let relation = open[usize::from(entry.segment)]
                .get_or_insert_with(|| Open::new(log, usize::from(entry.segment)))
                .0;
            let buffer = match pinned {
                Some((segment, block, buffer))
                    if segment == entry.segment && block == entry.block =>
                {
                    buffer
                }
                _ => {
                    if let Some((_, _, buffer)) = pinned.take() {
                        pg_sys::ReleaseBuffer(buffer);
                    }
                    let buffer = pg_sys::ReadBufferExtended(
                        relation,
                        pg_sys::ForkNumber::MAIN_FORKNUM,
                        entry.block,
                        pg_sys::ReadBufferMode::RBM_NORMAL,
                        std::ptr::null_mut(),
                    );
                    pinned = Some((entry.segment, entry.block, buffer));
                    buffer
                }
            };
            let page = pg_sys::BufferGetPage(buffer);
            let header = page.cast::<pg_sys::PageHeaderData>();
            let end = PAGE_HEADER + usize::from(entry.offset) * size_of::<pg_sys::ItemIdData>();
            if end > usize::from((*header).pd_lower) {
                altered();
            }
            let item = *(*header).pd_linp.as_ptr().add(usize::from(entry.offset) - 1);
            if item.lp_flags() != pg_sys::LP_NORMAL || (item.lp_len() as usize) < MIN_TUPLE {
                altered();
            }
            let mut tuple = pg_sys::HeapTupleData {
                t_len: item.lp_len(),
                t_data: page.cast::<u8>().add(item.lp_off() as usize).cast(),
                t_tableOid: (*relation).rd_id,
                ..Default::default()
            };
            let fixed =
                &*tuple.t_data.cast::<u8>().add((*tuple.t_data).t_hoff.into()).cast::<Fixed>();
            if fixed.seq != entry.seq {
                altered();
            }
            let mut values = [pg_sys::Datum::null(); segments::ROOM];
            let mut nulls = [true; segments::ROOM];
            pg_sys::heap_deform_tuple(
                &raw mut tuple,
                (*relation).rd_att,
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
            let mut place = [None, None];
            for (slot, column) in [(0, 7), (1, 8)] {
                if !nulls[column] {
                    let raw = pg_sys::pg_detoast_datum_packed(values[column].cast_mut_ptr());
                    let from = images.bytes.len();
                    images.bytes.extend_from_slice(pgrx::varlena_to_byte_slice(raw));
                    place[slot] = Some((from, images.bytes.len()));
                    if raw != values[column].cast_mut_ptr() {
                        pg_sys::pfree(raw.cast());
                    }
                }
            }
            images.places.push(place);
            if images.bytes.len() >= limit {
                break;
            }
        }
        if let Some((_, _, buffer)) = pinned {
            pg_sys::ReleaseBuffer(buffer);
        }
    }
    images
}

impl Images {
    /// How many entries were read.
    pub fn count(&self) -> usize {
        self.places.len()
    }
}
