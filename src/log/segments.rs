//! The relations the log consists of, by OID, and direct access to those that capture needs.
//! Private tables are read and written below SQL: capture runs as whoever writes the user's table,
//! and nobody has rights here.

use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

use crate::border;
use crate::sql;
use crate::worker::slots::SEGMENTS;

/// Columns of a log segment.
pub const COLUMNS: usize = 9;

unsafe extern "C-unwind" {
    /// The partitioned tables above a partition, nearest first (catalog/partition.h).
    fn get_partition_ancestors(relid: Oid) -> *mut pg_sys::List;
}

/// The partitioned tables above a partition, nearest first.
pub fn ancestors(relation: Oid) -> Vec<Oid> {
    // SAFETY: inside a transaction; the list holds OIDs.
    unsafe {
        let list = pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_ancestors(relation));
        if list.is_null() {
            return Vec::new();
        }
        (0..(*list).length as usize).map(|i| (*(*list).elements.add(i)).oid_value).collect()
    }
}

/// The relations that capture writes to and reads its configuration from.
#[derive(Clone, Copy)]
pub struct LogRelations {
    pub segments: [Oid; SEGMENTS],
    pub sequence: Oid,
    pub shape: Oid,
    pub shape_index: Oid,
    pub capture: Oid,
    pub capture_index: Oid,
}

static mut KNOWN: Option<LogRelations> = None;

/// Forgets the OIDs when one of the relations changed (0 means all did) and says so.
pub fn forget(relid: Oid) -> bool {
    // SAFETY: one thread a backend.
    unsafe {
        let concerned = (*(&raw const KNOWN)).as_ref().is_some_and(|known| {
            relid == pg_sys::InvalidOid
                || known.segments.contains(&relid)
                || [known.sequence, known.shape, known.capture].contains(&relid)
        });
        if concerned {
            KNOWN = None;
        }
        concerned
    }
}

/// The log's relations; `None` where they are missing or laid out otherwise.
pub fn relations() -> Option<LogRelations> {
    // SAFETY: one thread a backend.
    if let Some(known) = unsafe { *(&raw const KNOWN) } {
        return Some(known);
    }
    let mut segments = [pg_sys::InvalidOid; SEGMENTS];
    for (n, segment) in segments.iter_mut().enumerate() {
        *segment = named(&format!("_log_v1_{n}"))?;
    }
    if !segments.iter().all(|&s| layout_is_known(s)) {
        return None;
    }
    let relations = LogRelations {
        segments,
        sequence: named("_log_seq")?,
        shape: named("_shape")?,
        shape_index: named("_shape_id")?,
        capture: named("_capture")?,
        capture_index: named("_capture_relation")?,
    };
    // SAFETY: one thread a backend.
    unsafe { KNOWN = Some(relations) };
    Some(relations)
}

/// OID of a relation of the schema sync.
pub fn named(name: &str) -> Option<Oid> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: inside a transaction.
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(c"sync".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

fn layout_is_known(segment: Oid) -> bool {
    const TYPES: [Oid; COLUMNS] = [
        pg_sys::INT8OID,
        pg_sys::INT8OID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::INT8OID,
        pg_sys::INT4OID,
        pg_sys::INT4OID,
        pg_sys::CHAROID,
        pg_sys::BYTEAOID,
        pg_sys::BYTEAOID,
    ];
    // SAFETY: opened and closed here.
    unsafe {
        let relation = pg_sys::try_relation_open(segment, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let descriptor = (*relation).rd_att;
        let known = (*descriptor).natts == COLUMNS as i32
            && TYPES
                .iter()
                .enumerate()
                .all(|(i, &t)| (*attribute(descriptor, i as i32)).atttypid == t);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        known
    }
}

/// One attribute of a descriptor.
///
/// # Safety
/// `0 <= position < natts`.
pub unsafe fn attribute(descriptor: pg_sys::TupleDesc, position: i32) -> pg_sys::Form_pg_attribute {
    // SAFETY: the caller's promise.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        (*descriptor).attrs.as_mut_ptr().add(position as usize)
    }
    // SAFETY: the full attributes follow the compact ones in the same allocation.
    #[cfg(feature = "pg18")]
    unsafe {
        let compact = (*descriptor).compact_attrs.as_mut_ptr();
        compact
            .add((*descriptor).natts as usize)
            .cast::<pg_sys::FormData_pg_attribute>()
            .add(position as usize)
    }
}

/// What `sync._capture` says of a table: its watched columns (`None`: all) and its keys.
pub fn capture_entry(
    log: &LogRelations,
    relation: Oid,
) -> Option<(Option<Vec<String>>, Vec<String>)> {
    // SAFETY: opened, scanned and closed here; the tuple is read before the scan ends.
    unsafe {
        find(
            log.capture,
            log.capture_index,
            relation.into_datum()?,
            pg_sys::F_OIDEQ,
            |tuple, descriptor| {
                let mut values = [pg_sys::Datum::null(); 3];
                let mut nulls = [true; 3];
                pg_sys::heap_deform_tuple(
                    tuple,
                    descriptor,
                    values.as_mut_ptr(),
                    nulls.as_mut_ptr(),
                );
                let column = |n: usize| {
                    let texts = (!nulls[n]).then(|| sql::elements(values[n], pg_sys::TEXTOID))?;
                    let text = |datum| <&[u8]>::from_datum(datum, false).map(border::inwards);
                    Some(texts.into_iter().filter_map(|t| text(t?)).collect::<Vec<_>>())
                };
                (column(1), column(2).unwrap_or_default())
            },
        )
    }
}

/// Stores a shape unless it is there; true when it was inserted. No unique index: two backends that
/// meet a new shape must not wait for each other.
pub fn store_shape(log: &LogRelations, id: i64, shape: &change::shape::Shape) -> bool {
    // SAFETY: as above; the tuple is formed from datums that live until it is inserted.
    unsafe {
        if find(log.shape, log.shape_index, pg_sys::Datum::from(id), pg_sys::F_INT8EQ, |_, _| ())
            .is_some()
        {
            return false;
        }
        let relation = pg_sys::table_open(log.shape, pg_sys::RowExclusiveLock as i32);
        let content = shape.to_bytes().into_datum().unwrap_or(pg_sys::Datum::null());
        let mut values = [pg_sys::Datum::from(id), pg_sys::Datum::from(shape.relation), content];
        let mut nulls = [false; 3];
        let tuple =
            pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(relation, tuple);
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        true
    }
}

/// The first row whose first column equals `key`, in the newest committed state.
unsafe fn find<T>(
    table: Oid,
    index: Oid,
    key: pg_sys::Datum,
    equals: u32,
    read: impl FnOnce(pg_sys::HeapTuple, pg_sys::TupleDesc) -> T,
) -> Option<T> {
    // SAFETY: opened, scanned and closed here.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let mut scan_key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &raw mut scan_key,
            1,
            pg_sys::BTEqualStrategyNumber as u16,
            equals.into(),
            key,
        );
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            true,
            std::ptr::null_mut(),
            1,
            &raw mut scan_key,
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| read(tuple, (*relation).rd_att));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::AccessShareLock as i32);
        found
    }
}
