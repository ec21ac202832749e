//! The relations the log consists of, by OID, and direct access to those that capture needs.
//! Private tables are read and written below SQL: capture runs as whoever writes the user's table,
//! and nobody has rights here.

use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

use crate::border;
use crate::sql::{self, Arg};
use crate::worker::slots::SEGMENTS;

/// Columns of a log segment.
pub const COLUMNS: usize = 9;
/// What a row of a segment may hold at most: columns that were added and dropped again stay in it.
pub const ROOM: usize = 16;
const NAMES: [&str; COLUMNS] =
    ["seq", "xid", "at", "shape", "command", "origin", "op", "old", "new"];

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
/// A segment was altered or written anew since somebody last asked.
static mut CHANGED: bool = false;

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
            CHANGED = true;
        }
        concerned
    }
}

/// As if a segment had been written anew.
pub fn mark_changed() {
    // SAFETY: one thread a backend.
    unsafe { CHANGED = true }
}

/// Says once that a segment may have been altered or written anew.
pub fn take_changed() -> bool {
    // SAFETY: one thread a backend.
    unsafe { std::mem::take(&mut *(&raw mut CHANGED)) }
}

/// Has nothing been altered since the layout was last found to be known?
#[inline]
pub fn is_known() -> bool {
    // SAFETY: one thread a backend.
    unsafe { (*(&raw const KNOWN)).is_some() }
}

/// The log's relations; `None` where they are missing or laid out otherwise.
pub fn relations() -> Option<LogRelations> {
    // SAFETY: one thread a backend.
    if let Some(known) = unsafe { *(&raw const KNOWN) } {
        return Some(known);
    }
    let relations = relations_of_any_layout()?;
    if !relations.segments.iter().all(|&s| opened(s, |r| unsafe { has_known_layout(r) })) {
        return None;
    }
    // SAFETY: one thread a backend.
    unsafe { KNOWN = Some(relations) };
    Some(relations)
}

/// The log's relations, if every segment has the columns of this version, whatever else it has: for
/// capture, which can do with that.
pub fn relations_to_capture() -> Option<LogRelations> {
    relations().or_else(|| {
        let relations = relations_of_any_layout()?;
        let complete = |s: &Oid| opened(*s, |r| unsafe { has_known_columns(r) });
        relations.segments.iter().all(complete).then_some(relations)
    })
}

fn relations_of_any_layout() -> Option<LogRelations> {
    let mut segments = [pg_sys::InvalidOid; SEGMENTS];
    for (n, segment) in segments.iter_mut().enumerate() {
        *segment = named(&format!("_log_v1_{n}"))?;
    }
    Some(LogRelations {
        segments,
        sequence: named("_log_seq")?,
        shape: named("_shape")?,
        shape_index: named("_shape_id")?,
        capture: named("_capture")?,
        capture_index: named("_capture_relation")?,
    })
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

fn opened(relation: Oid, look: impl FnOnce(pg_sys::Relation) -> bool) -> bool {
    // SAFETY: opened and closed here.
    unsafe {
        let relation = pg_sys::try_relation_open(relation, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let result = look(relation);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        result
    }
}

/// Has a segment the columns of this version, by their names?
///
/// # Safety
/// An open relation.
unsafe fn has_known_columns(relation: pg_sys::Relation) -> bool {
    // SAFETY: the caller's promise.
    let columns: Vec<&[u8]> = unsafe {
        let descriptor = (*relation).rd_att;
        (0..(*descriptor).natts)
            .map(|n| attribute(descriptor, n))
            .filter(|&a| !(*a).attisdropped)
            .map(|a| std::ffi::CStr::from_ptr((*a).attname.data.as_ptr()).to_bytes())
            .collect()
    };
    NAMES.iter().all(|name| columns.contains(&name.as_bytes()))
}

/// Is a segment laid out as this version writes and reads it? What was added and dropped again does
/// not matter.
///
/// # Safety
/// An open relation.
pub unsafe fn has_known_layout(relation: pg_sys::Relation) -> bool {
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
    // SAFETY: the caller's promise; positions below natts.
    unsafe {
        let descriptor = (*relation).rd_att;
        let natts = (*descriptor).natts as usize;
        (COLUMNS..=ROOM).contains(&natts)
            && (0..natts).all(|n| {
                let attribute = attribute(descriptor, n as i32);
                match TYPES.get(n) {
                    Some(&t) => (*attribute).atttypid == t && !(*attribute).attisdropped,
                    None => (*attribute).attisdropped,
                }
            })
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

/// What `sync._capture` says of a table.
pub struct Watched {
    /// The watched columns; `None`: all.
    pub columns: Option<Vec<String>>,
    pub keys: Vec<String>,
    /// The only sync that watches it, and on one side only; 0: there are more.
    pub sole: i32,
}

impl Watched {
    /// Does some sync want to see this column?
    pub fn holds(&self, name: &str) -> bool {
        self.columns.as_ref().is_none_or(|c| c.iter().any(|n| n == name))
            || self.keys.iter().any(|k| k == name)
    }
}

/// What `sync._capture` says of a table, if it is there.
pub fn capture_entry(log: &LogRelations, relation: Oid) -> Option<Watched> {
    // SAFETY: opened, scanned and closed here; the tuple is read before the scan ends.
    unsafe {
        find(
            log.capture,
            log.capture_index,
            relation.into_datum()?,
            pg_sys::F_OIDEQ,
            |tuple, descriptor| {
                // It may have columns of a later version.
                let natts = (*descriptor).natts as usize;
                let mut values = vec![pg_sys::Datum::null(); natts];
                let mut nulls = vec![true; natts];
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
                let sole = if natts > 3 && !nulls[3] { values[3].value() as i32 } else { 0 };
                Watched { columns: column(1), keys: column(2).unwrap_or_default(), sole }
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
        if (*(*relation).rd_att).natts != 3 {
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
            store_shape_by_name(id, shape);
            return true;
        }
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

/// The same where the table has columns of a later version, which take their defaults.
fn store_shape_by_name(id: i64, shape: &change::shape::Shape) {
    sql::as_extension(|| {
        sql::query(
            "INSERT INTO sync._shape (id, relation, content) VALUES ($1, $2, $3)",
            &[Arg::Int(id), Arg::Oid(Oid::from(shape.relation)), Arg::Bytes(&shape.to_bytes())],
        );
    });
}

/// A row of a segment.
pub struct Row {
    pub seq: i64,
    pub xid: i64,
    pub at: i64,
    pub shape: i64,
    pub command: i32,
    pub origin: i32,
    pub op: u8,
    pub old: Option<pg_sys::Datum>,
    pub new: Option<pg_sys::Datum>,
}

/// Writes a row into a segment whose layout is not this version's, by the names of the columns that
/// are known; others take their defaults.
pub fn insert_by_name(segment: usize, row: &Row) {
    sql::as_extension(|| {
        sql::execute(
            &format!(
                "INSERT INTO sync._log_v1_{segment} ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                NAMES.join(", ")
            ),
            &[
                (pg_sys::INT8OID, row.seq.into_datum()),
                (pg_sys::INT8OID, row.xid.into_datum()),
                (pg_sys::TIMESTAMPTZOID, Some(pg_sys::Datum::from(row.at))),
                (pg_sys::INT8OID, row.shape.into_datum()),
                (pg_sys::INT4OID, row.command.into_datum()),
                (pg_sys::INT4OID, row.origin.into_datum()),
                (pg_sys::CHAROID, Some(pg_sys::Datum::from(row.op as i8))),
                (pg_sys::BYTEAOID, row.old),
                (pg_sys::BYTEAOID, row.new),
            ],
        );
    });
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
