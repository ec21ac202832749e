//! Direct access to the worker's own tables on the path of every change: links, history, cursors.
//! Below SQL, because inside an apply the current user is the sync's owner, who has no rights here
//! and whose search path must not matter, and because it is twice as fast.

use crate::log::segments;
use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::ffi::c_void;

/// A private table opened for this transaction, with one index to look rows up by.
pub struct Table {
    relation: pg_sys::Relation,
    indexes: pg_sys::CatalogIndexState,
    slot: *mut pg_sys::TupleTableSlot,
    /// Blocks when it was opened.
    blocks: u32,
}

/// Lets a slot go of its row.
pub(super) unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: a slot of ours.
    unsafe {
        if let Some(clear) = (*(*slot).tts_ops).clear {
            clear(slot);
        }
    }
}

impl Table {
    /// Opens a table of the schema sync by OID. The lock is kept to the end of the transaction.
    pub fn open(oid: Oid) -> Self {
        // SAFETY: inside a transaction; closed below or by the transaction's abort.
        unsafe {
            let relation = pg_sys::table_open(oid, pg_sys::RowExclusiveLock as i32);
            let slot = pg_sys::table_slot_create(relation, std::ptr::null_mut());
            let blocks =
                pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
            Self { relation, indexes: pg_sys::CatalogOpenIndexes(relation), slot, blocks }
        }
    }

    pub fn close(self) {
        // SAFETY: opened by us.
        unsafe {
            pg_sys::ExecDropSingleTupleTableSlot(self.slot);
            pg_sys::CatalogCloseIndexes(self.indexes);
            pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
        }
    }

    /// Has nothing ever been stored in it?
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Returns where the row lies.
    pub fn insert(&self, row: &mut Row) -> pg_sys::ItemPointerData {
        // SAFETY: the row has one value a column.
        unsafe {
            let tuple = row.tuple(self.relation);
            pg_sys::CatalogTupleInsertWithInfo(self.relation, tuple, self.indexes);
            let tid = (*tuple).t_self;
            pg_sys::heap_freetuple(tuple);
            tid
        }
    }

    /// Returns where the new version lies.
    pub fn update(&self, tid: pg_sys::ItemPointerData, row: &mut Row) -> pg_sys::ItemPointerData {
        // SAFETY: the worker alone writes this table, so the row is where it was found.
        unsafe {
            let tuple = row.tuple(self.relation);
            let mut tid = tid;
            pg_sys::CatalogTupleUpdateWithInfo(self.relation, &raw mut tid, tuple, self.indexes);
            let tid = (*tuple).t_self;
            pg_sys::heap_freetuple(tuple);
            tid
        }
    }

    pub fn delete(&self, tid: pg_sys::ItemPointerData) {
        let mut tid = tid;
        // SAFETY: as for `update`.
        unsafe { pg_sys::CatalogTupleDelete(self.relation, &raw mut tid) };
    }

    /// Reads the row that lies at a place, if this snapshot sees one there. The place is only where
    /// the row was last seen: the caller checks that it is the one he looks for.
    pub fn at(&self, tid: pg_sys::ItemPointerData, read: impl FnOnce(&Found)) {
        // SAFETY: an open relation; a place beyond its end is not looked at.
        unsafe {
            let block = u32::from(tid.ip_blkid.bi_hi) << 16 | u32::from(tid.ip_blkid.bi_lo);
            if block >= self.blocks {
                return;
            }
            let mut tid = tid;
            let found =
                (*(*self.relation).rd_tableam).tuple_fetch_row_version.is_some_and(|fetch| {
                    fetch(self.relation, &raw mut tid, pg_sys::GetActiveSnapshot(), self.slot)
                });
            if found {
                pg_sys::slot_getsomeattrs_int(self.slot, (*(*self.relation).rd_att).natts);
                read(&Found { slot: self.slot });
                self.make_room();
                clear(self.slot);
            }
        }
    }

    /// Prunes the page of the row in the slot when the next versions would not fit on it. An index scan
    /// does so on every visit as soon as a tenth of the page is used, each time for one dead row; here
    /// it happens once for several. The row in the slot is no longer to be read.
    unsafe fn make_room(&self) {
        // SAFETY: a filled slot of a heap holds its page pinned, once.
        unsafe {
            let slot = &*self.slot.cast::<pg_sys::BufferHeapTupleTableSlot>();
            let versions = 4 * (*slot.base.tuple).t_len as usize;
            if pg_sys::PageGetHeapFreeSpace(pg_sys::BufferGetPage(slot.buffer)) < versions {
                pg_sys::heap_page_prune_opt(self.relation, slot.buffer);
            }
        }
    }

    /// Reads all rows, in the order in which they lie.
    pub fn scan(&self, mut read: impl FnMut(&Found)) {
        // SAFETY: an open relation; the slot holds each row while it is read.
        unsafe {
            let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN
                | pg_sys::ScanOptions::SO_ALLOW_STRAT
                | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
            let routine = &*(*self.relation).rd_tableam;
            let (Some(begin), Some(next), Some(end)) =
                (routine.scan_begin, routine.scan_getnextslot, routine.scan_end)
            else {
                return;
            };
            let none = std::ptr::null_mut();
            let scan = begin(
                self.relation,
                pg_sys::GetActiveSnapshot(),
                0,
                none,
                std::ptr::null_mut(),
                flags as _,
            );
            let columns = (*(*self.relation).rd_att).natts;
            while next(scan, pg_sys::ScanDirection::ForwardScanDirection, self.slot) {
                pg_sys::slot_getsomeattrs_int(self.slot, columns);
                read(&Found { slot: self.slot });
            }
            clear(self.slot);
            end(scan);
        }
    }

    /// Starts looking rows up by the first so many columns of an index of this table.
    pub fn finder(&self, index: Oid, columns: i32) -> Finder {
        // SAFETY: the index belongs to the table; the snapshot is active as long as we are.
        unsafe {
            let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
            let snapshot = pg_sys::GetActiveSnapshot();
            #[cfg(feature = "pg18")]
            let scan = pg_sys::index_beginscan(
                self.relation,
                index,
                snapshot,
                std::ptr::null_mut(),
                columns,
                0,
            );
            #[cfg(not(feature = "pg18"))]
            let scan = pg_sys::index_beginscan(self.relation, index, snapshot, columns, 0);
            Finder { index, scan, columns, slot: self.slot }
        }
    }
}

/// Most rows, and bytes of rows, that are written to a table at once.
const MANY: usize = 100;
const MANY_BYTES: usize = 64 << 10;

/// Rows on their way into a table: written many at a time, a page and a WAL record for all that fit.
pub struct Inserter {
    table: Table,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    filled: usize,
    bytes: usize,
}

impl Inserter {
    pub fn open(oid: Oid) -> Self {
        Self { table: Table::open(oid), slots: Vec::new(), filled: 0, bytes: 0 }
    }

    pub fn add(&mut self, row: &mut Row) {
        // SAFETY: the row has one value a column; the slot owns the tuple until it is cleared.
        unsafe {
            let tuple = row.tuple(self.table.relation);
            if self.filled == self.slots.len() {
                self.slots.push(pg_sys::MakeSingleTupleTableSlot(
                    (*self.table.relation).rd_att,
                    &raw const pg_sys::TTSOpsHeapTuple,
                ));
            }
            self.bytes += (*tuple).t_len as usize;
            pg_sys::ExecStoreHeapTuple(tuple, self.slots[self.filled], true);
        }
        self.filled += 1;
        if self.filled == MANY || self.bytes >= MANY_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // SAFETY: as many filled slots as said; the relation is open.
        unsafe {
            pg_sys::CatalogTuplesMultiInsertWithInfo(
                self.table.relation,
                self.slots.as_mut_ptr(),
                self.filled as i32,
                self.table.indexes,
            );
            for &slot in &self.slots[..self.filled] {
                clear(slot);
            }
        }
        (self.filled, self.bytes) = (0, 0);
    }

    pub fn finish(mut self) {
        if self.filled > 0 {
            self.flush();
        }
        for &slot in &self.slots {
            // SAFETY: made by `add`.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(slot) };
        }
        self.table.close();
    }
}

/// Looks rows up by an index, one key after the other.
pub struct Finder {
    index: pg_sys::Relation,
    scan: pg_sys::IndexScanDesc,
    columns: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Finder {
    /// Calls `read` with every row whose indexed bytea equals `key`, until it says stop.
    pub fn each(&mut self, key: &[u8], read: impl FnMut(&Found) -> bool) {
        let equal = (pg_sys::BTEqualStrategyNumber, pg_sys::F_BYTEAEQ);
        self.by_bytes(equal, key, pg_sys::ScanDirection::ForwardScanDirection, read);
    }

    /// Calls `read` with every row that has this sync and this number, where those are indexed.
    pub fn each_numbered(&mut self, sync: i32, number: i64, mut read: impl FnMut(&Found)) {
        let equal = pg_sys::BTEqualStrategyNumber;
        let keys = [
            (equal, pg_sys::F_INT4EQ, Datum::from(sync)),
            (equal, pg_sys::F_INT8EQ, Datum::from(number)),
        ];
        self.scan(keys, pg_sys::ScanDirection::ForwardScanDirection, |found| {
            read(found);
            true
        });
    }

    /// Reads the row whose indexed column is the highest.
    pub fn last(&mut self, mut read: impl FnMut(&Found)) {
        // From the lowest key there is, backwards.
        let any = (pg_sys::BTGreaterEqualStrategyNumber, pg_sys::F_BYTEAGE);
        self.by_bytes(any, &[], pg_sys::ScanDirection::BackwardScanDirection, |found| {
            read(found);
            false
        });
    }

    fn by_bytes(
        &mut self,
        (strategy, function): (u32, u32),
        key: &[u8],
        direction: pg_sys::ScanDirection::Type,
        read: impl FnMut(&Found) -> bool,
    ) {
        let key = key.into_datum().unwrap_or(Datum::null());
        self.scan([(strategy, function, key)], direction, read);
        // SAFETY: made above, and the scan is over.
        unsafe { pg_sys::pfree(key.cast_mut_ptr::<c_void>()) };
    }

    /// `keys`: strategy, function and value for each of the first columns of the index.
    fn scan<const N: usize>(
        &mut self,
        keys: [(u32, u32, Datum); N],
        direction: pg_sys::ScanDirection::Type,
        mut read: impl FnMut(&Found) -> bool,
    ) {
        // The scan would leave out those it was not begun for.
        assert_eq!(N as i32, self.columns, "a key of another width than the scan's");
        let mut scan_keys = [pg_sys::ScanKeyData::default(); N];
        // SAFETY: the values live until the scan is over; the slot holds the row while it is read.
        unsafe {
            for (n, (scan_key, (strategy, function, value))) in
                scan_keys.iter_mut().zip(keys).enumerate()
            {
                let column = n as pg_sys::AttrNumber + 1;
                pg_sys::ScanKeyInit(scan_key, column, strategy as u16, function.into(), value);
            }
            let none = std::ptr::null_mut();
            pg_sys::index_rescan(self.scan, scan_keys.as_mut_ptr(), N as i32, none, 0);
            while pg_sys::index_getnext_slot(self.scan, direction, self.slot) {
                let columns = (*(*self.slot).tts_tupleDescriptor).natts;
                pg_sys::slot_getsomeattrs_int(self.slot, columns);
                let found = Found { slot: self.slot };
                if !read(&found) {
                    break;
                }
            }
        }
    }

    pub fn close(self) {
        // SAFETY: opened by `Table::finder`.
        unsafe {
            clear(self.slot);
            pg_sys::index_endscan(self.scan);
            pg_sys::index_close(self.index, pg_sys::NoLock as i32);
        }
    }
}

/// A row that a [`Finder`] stands on.
pub struct Found {
    slot: *mut pg_sys::TupleTableSlot,
}

impl Found {
    pub fn tid(&self) -> pg_sys::ItemPointerData {
        // SAFETY: a filled slot.
        unsafe { (*self.slot).tts_tid }
    }

    pub fn is_null(&self, column: usize) -> bool {
        // SAFETY: deformed completely by the finder.
        unsafe { *(*self.slot).tts_isnull.add(column) }
    }

    pub fn datum(&self, column: usize) -> Datum {
        // SAFETY: as above.
        unsafe { *(*self.slot).tts_values.add(column) }
    }

    pub fn int8(&self, column: usize) -> i64 {
        self.datum(column).value() as i64
    }

    pub fn int2(&self, column: usize) -> i16 {
        self.datum(column).value() as i16
    }

    /// A copy of the bytes of a bytea column.
    pub fn bytes<'b>(&self, bump: &'b Bump, column: usize) -> Option<&'b [u8]> {
        if self.is_null(column) {
            return None;
        }
        // SAFETY: a bytea column.
        Some(unsafe { super::statement::from_datum(bump, self.datum(column), -1, false) })
    }
}

impl Found {
    /// The bytes of a bytea column that is stored in line, without a copy.
    pub fn with_bytes(&self, column: usize, read: impl FnOnce(&[u8])) {
        if self.is_null(column) {
            return;
        }
        // SAFETY: a bytea column; the slot keeps it in place while it is read.
        unsafe {
            let raw = pg_sys::pg_detoast_datum_packed(self.datum(column).cast_mut_ptr());
            read(pgrx::varlena_to_byte_slice(raw));
        }
    }
}

/// The values of a row about to be written; one is used for many rows.
#[derive(Default)]
pub struct Row {
    values: Vec<Datum>,
    nulls: Vec<bool>,
    scratch: Bump,
}

impl Row {
    pub fn clear(&mut self) {
        self.scratch.reset();
        self.values.clear();
        self.nulls.clear();
    }

    pub fn datum(&mut self, datum: Option<Datum>) -> &mut Self {
        self.nulls.push(datum.is_none());
        self.values.push(datum.unwrap_or(Datum::null()));
        self
    }

    pub fn bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        // SAFETY: the datum is read before the scratch memory is reset.
        let datum =
            bytes.map(|b| unsafe { super::statement::to_datum(b, -1, false, &self.scratch) });
        self.datum(datum)
    }

    unsafe fn tuple(&mut self, relation: pg_sys::Relation) -> pg_sys::HeapTuple {
        // SAFETY: the callers fill one value a column; checked here all the same.
        unsafe {
            let columns = (*(*relation).rd_att).natts as usize;
            assert_eq!(self.values.len(), columns, "a row of another width than its table");
            pg_sys::heap_form_tuple(
                (*relation).rd_att,
                self.values.as_mut_ptr(),
                self.nulls.as_mut_ptr(),
            )
        }
    }
}

/// OID of a private relation, or an error that says what is wrong.
pub fn relation(name: &str) -> Oid {
    segments::named(name).unwrap_or_else(|| {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            format!("relation \"sync.{name}\" does not exist")
        );
        #[allow(unreachable_code)]
        pg_sys::InvalidOid
    })
}
