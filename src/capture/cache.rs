//! What a backend remembers of the tables it captures: which columns, under which shape. Built on
//! the first write to a table, dropped when PostgreSQL says that the table (or its configuration,
//! which announces itself the same way) has changed.

use super::wake;
use crate::log::segments::{self, LogRelations, Watched};
use crate::{border, speech};
use change::shape;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::collections::HashMap;
use std::ffi::c_void;
use std::hash::{BuildHasherDefault, Hasher};

/// One watched column.
pub(super) struct Column {
    /// Place in the row, from 0.
    pub(super) position: u16,
    pub(super) length: i16,
    pub(super) by_value: bool,
    pub(super) key: bool,
}

/// A captured table.
pub(super) struct Captured {
    pub(super) shape: i64,
    /// How far a row has to be deformed.
    pub(super) reach: i32,
    pub(super) columns: Box<[Column]>,
    /// The only sync that wants its changes; 0: there are more.
    pub(super) sole: i32,
    pub(super) log: LogRelations,
}

struct Entry {
    valid: bool,
    /// The shape's row was inserted by the transaction in progress, so it may yet vanish. Kept when
    /// the entry is built again: the row it then finds is its own.
    fresh: bool,
    /// The last (transaction, subtransaction) in which a bypass was marked.
    bypass: (u64, u32),
    /// `None`: the trigger has nothing to do here any more.
    captured: Option<Captured>,
}

type Entries = HashMap<u32, Box<Entry>, BuildHasherDefault<OidHasher>>;

static mut ENTRIES: Option<Entries> = None;
static mut INSTALLED: bool = false;

/// Registers the callbacks, once a backend.
pub fn install() {
    // SAFETY: one thread a backend; the callbacks live as long as the library.
    unsafe {
        if INSTALLED {
            return;
        }
        INSTALLED = true;
        ENTRIES = Some(Entries::default());
        pg_sys::CacheRegisterRelcacheCallback(Some(on_relcache), pg_sys::Datum::null());
        pg_sys::RegisterXactCallback(Some(on_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(on_subtransaction), std::ptr::null_mut());
    }
}

fn entries() -> Option<&'static mut Entries> {
    // SAFETY: one thread a backend, and no reference outlives the call it was made for.
    unsafe { (*(&raw mut ENTRIES)).as_mut() }
}

/// The captured table behind a relation, or null when nothing captures it. Valid until the next
/// call: an invalidation only marks, it frees nothing.
#[inline]
pub(super) unsafe fn lookup(relation: pg_sys::Relation) -> *const Captured {
    // SAFETY: an open relation.
    let relid = unsafe { (*relation).rd_id.to_u32() };
    if let Some(entry) = entries().and_then(|e| e.get(&relid))
        && entry.valid
    {
        return entry.captured.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    }
    // SAFETY: an open relation.
    unsafe { build(relation) }
}

/// Has nothing gone past capture yet in this (sub)transaction? Says yes once.
pub(super) unsafe fn first_bypass(relation: pg_sys::Relation) -> bool {
    // SAFETY: an open relation, inside a transaction.
    let (relid, now) = unsafe {
        (
            (*relation).rd_id.to_u32(),
            (pg_sys::GetTopFullTransactionId().value, pg_sys::GetCurrentSubTransactionId()),
        )
    };
    match entries().and_then(|e| e.get_mut(&relid)) {
        Some(entry) if entry.bypass != now => {
            entry.bypass = now;
            true
        }
        _ => false,
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn build(relation: pg_sys::Relation) -> *const Captured {
    // SAFETY: an open relation.
    let relid = unsafe { (*relation).rd_id.to_u32() };
    install();
    let (captured, fresh) = match speech::function(|| unsafe { read(relation) }) {
        Some((captured, fresh)) => (Some(captured), fresh),
        None => (None, false),
    };
    let Some(entries) = entries() else { return std::ptr::null() };
    let old = entries.get(&relid);
    let bypass = old.map_or((0, 0), |e| e.bypass);
    let fresh = fresh || old.is_some_and(|e| e.fresh);
    let entry = Box::new(Entry { valid: true, fresh, bypass, captured });
    entries.insert(relid, entry);
    entries
        .get(&relid)
        .and_then(|e| e.captured.as_ref())
        .map_or(std::ptr::null(), std::ptr::from_ref)
}

/// Reads the configuration of a table and makes sure its shape is stored.
unsafe fn read(relation: pg_sys::Relation) -> Option<(Captured, bool)> {
    let Some(log) = segments::relations_to_capture() else { unknown_layout() };
    // SAFETY: an open relation; its descriptor lives as long as it is open.
    unsafe {
        let leaf = (*relation).rd_id;
        let (root, watched) = watched(&log, relation)?;
        let descriptor = (*relation).rd_att;
        let mut columns = Vec::new();
        for position in 0..(*descriptor).natts {
            let attribute = segments::attribute(descriptor, position);
            let name = border::inwards_from((*attribute).attname.data.as_ptr());
            if (*attribute).attisdropped || !watched.holds(&name) {
                continue;
            }
            columns.push(shape::Column {
                key: watched.keys.contains(&name),
                name,
                attnum: (*attribute).attnum,
                type_oid: (*attribute).atttypid.to_u32(),
                typmod: (*attribute).atttypmod,
                length: (*attribute).attlen,
                by_value: (*attribute).attbyval,
            });
        }
        let shape = shape::Shape { relation: root.to_u32(), leaf: leaf.to_u32(), columns };
        let id = shape.id();
        let fresh = segments::store_shape(&log, id, &shape);
        let columns: Box<[Column]> = shape
            .columns
            .iter()
            .map(|c| Column {
                position: (c.attnum - 1) as u16,
                length: c.length,
                by_value: c.by_value,
                key: c.key,
            })
            .collect();
        let reach = shape.columns.iter().map(|c| i32::from(c.attnum)).max().unwrap_or(0);
        Some((Captured { shape: id, reach, columns, sole: watched.sole, log }, fresh))
    }
}

/// What `sync._capture` says of a table or, for a partition, of the nearest registered ancestor.
unsafe fn watched(
    log: &LogRelations,
    relation: pg_sys::Relation,
) -> Option<(pg_sys::Oid, Watched)> {
    // SAFETY: an open relation; ancestors is a list of OIDs.
    unsafe {
        let mut candidates = vec![(*relation).rd_id];
        if (*(*relation).rd_rel).relispartition {
            candidates.extend(segments::ancestors((*relation).rd_id));
        }
        for oid in candidates {
            if let Some(watched) = segments::capture_entry(log, oid) {
                return Some((oid, watched));
            }
        }
        None
    }
}

unsafe extern "C-unwind" fn on_relcache(_: pg_sys::Datum, relid: pg_sys::Oid) {
    let log = segments::forget(relid);
    let Some(entries) = entries() else { return };
    if log || relid == pg_sys::InvalidOid {
        entries.values_mut().for_each(|e| e.valid = false);
    } else if let Some(entry) = entries.get_mut(&relid.to_u32()) {
        entry.valid = false;
    }
}

unsafe extern "C-unwind" fn on_transaction(event: pg_sys::XactEvent::Type, argument: *mut c_void) {
    use pg_sys::XactEvent as E;
    // SAFETY: called by the transaction manager.
    unsafe { wake::on_transaction(event, argument) };
    match event {
        E::XACT_EVENT_COMMIT | E::XACT_EVENT_PARALLEL_COMMIT => settle_fresh(true, true),
        E::XACT_EVENT_ABORT | E::XACT_EVENT_PARALLEL_ABORT | E::XACT_EVENT_PREPARE => {
            settle_fresh(false, true)
        }
        _ => {}
    }
}

unsafe extern "C-unwind" fn on_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    _: pg_sys::SubTransactionId,
    _: pg_sys::SubTransactionId,
    _: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        settle_fresh(false, false);
    }
}

/// A shape row that this transaction inserted is there for good, or was rolled back. It may be older
/// than a subtransaction that ends: then it is looked for again, and may still vanish with the
/// transaction as a whole.
fn settle_fresh(kept: bool, over: bool) {
    let Some(entries) = entries() else { return };
    for entry in entries.values_mut().filter(|e| e.fresh) {
        entry.fresh = !over;
        entry.valid &= kept;
    }
}

/// Raises: the function was called otherwise than as a trigger.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn refuse_direct_call() {
    ereport!(
        ERROR,
        PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        "sync._capture() can only be called as a trigger"
    );
}

fn unknown_layout() -> ! {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the change log of sync_ext is missing or has an unknown layout",
        "",
    )
    .set_detail("A column of a table sync._log_v1_0 to sync._log_v1_3 is missing, or the library and the extension's SQL objects are of different versions.")
    .set_hint("Undo the alteration, run ALTER EXTENSION sync_ext UPDATE, or install the matching library.")
    .report(PgLogLevel::ERROR);
    unreachable!("an ERROR was reported")
}

#[derive(Default)]
struct OidHasher(u64);

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0.rotate_left(8) ^ u64::from(*b));
    }
    fn write_u32(&mut self, oid: u32) {
        self.0 = u64::from(oid).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
