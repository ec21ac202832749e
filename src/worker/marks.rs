//! Reading the marks that CREATE EXTENSION leaves in `pg_db_role_setting`. A process without a
//! database cannot open that catalog, because its description lies in a database's `pg_class`; but
//! it is a shared, mapped relation, so its file is known and its pages can be read like any other.

use pgrx::pg_sys::{self, Oid};
use std::ffi::c_char;

/// `pg_db_role_setting`.
const CATALOG: Oid = Oid::from_u32(2964);
/// The tablespace of shared relations, `pg_global`.
const GLOBAL: Oid = Oid::from_u32(1664);

unsafe extern "C-unwind" {
    // utils/relmapper.h; not among pgrx's bindings.
    #[cfg(feature = "pg15")]
    #[link_name = "RelationMapOidToFilenode"]
    fn map_to_file(relation: Oid, shared: bool) -> Oid;
    #[cfg(not(feature = "pg15"))]
    #[link_name = "RelationMapOidToFilenumber"]
    fn map_to_file(relation: Oid, shared: bool) -> Oid;
}

/// The fixed part of a row: for which database and role; then the settings, a `text[]`.
#[repr(C)]
struct Setting {
    database: u32,
    role: u32,
}

/// The databases that have `sync_ext.installed = on` for all roles. Inside a transaction.
pub(super) fn databases() -> Vec<Oid> {
    let mut marked = Vec::new();
    // SAFETY: pages of a relation that is locked against truncation; tuples are read while their
    // page is pinned and locked, and only those that a fresh snapshot sees.
    unsafe {
        pg_sys::LockRelationOid(CATALOG, pg_sys::AccessShareLock as i32);
        let file = pg_sys::ffi::pg_guard_ffi_boundary(|| map_to_file(CATALOG, true));
        #[cfg(feature = "pg15")]
        let locator =
            pg_sys::RelFileNode { spcNode: GLOBAL, dbNode: pg_sys::InvalidOid, relNode: file };
        #[cfg(not(feature = "pg15"))]
        let locator =
            pg_sys::RelFileLocator { spcOid: GLOBAL, dbOid: pg_sys::InvalidOid, relNumber: file };
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let storage = pg_sys::smgropen(locator, -1);
        for block in 0..pg_sys::smgrnblocks(storage, pg_sys::ForkNumber::MAIN_FORKNUM) {
            let buffer = pg_sys::ReadBufferWithoutRelcache(
                locator,
                pg_sys::ForkNumber::MAIN_FORKNUM,
                block,
                pg_sys::ReadBufferMode::RBM_NORMAL,
                std::ptr::null_mut(),
                true,
            );
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
            let page = pg_sys::BufferGetPage(buffer);
            let header = page.cast::<pg_sys::PageHeaderData>();
            let first = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
            let lines = ((*header).pd_lower as usize).saturating_sub(first)
                / size_of::<pg_sys::ItemIdData>();
            for line in 0..lines {
                let item = *(*header).pd_linp.as_ptr().add(line);
                if item.lp_flags() != pg_sys::LP_NORMAL {
                    continue;
                }
                let mut tuple = pg_sys::HeapTupleData {
                    t_len: item.lp_len(),
                    t_data: page.cast::<u8>().add(item.lp_off() as usize).cast(),
                    t_tableOid: CATALOG,
                    ..Default::default()
                };
                if !pg_sys::HeapTupleSatisfiesVisibility(&raw mut tuple, snapshot, buffer) {
                    continue;
                }
                let data = tuple.t_data.cast::<u8>().add((*tuple.t_data).t_hoff as usize);
                let setting = &*data.cast::<Setting>();
                let has_settings =
                    u32::from((*tuple.t_data).t_infomask) & pg_sys::HEAP_HASNULL == 0;
                if setting.role == 0 && has_settings && has_mark(data.add(size_of::<Setting>())) {
                    marked.push(Oid::from(setting.database));
                }
            }
            pg_sys::UnlockReleaseBuffer(buffer);
        }
        pg_sys::UnregisterSnapshot(snapshot);
    }
    marked
}

/// Does a `text[]` hold our mark? Taken apart by hand: types cannot be looked up here. One that is
/// stored out of line cannot be fetched either; a database has no two kilobytes of settings.
unsafe fn has_mark(settings: *mut u8) -> bool {
    // SAFETY: a varlena in a pinned page.
    unsafe {
        if *settings == 1 {
            return false;
        }
        let array = pg_sys::pg_detoast_datum(settings.cast()).cast::<pg_sys::ArrayType>();
        let (mut elements, mut count) = (std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            pg_sys::TEXTOID,
            -1,
            false,
            pg_sys::TYPALIGN_INT as c_char,
            &raw mut elements,
            std::ptr::null_mut(),
            &raw mut count,
        );
        (0..count as usize).any(|i| {
            let text = pg_sys::pg_detoast_datum_packed((*elements.add(i)).cast_mut_ptr());
            pgrx::varlena_to_byte_slice(text).eq_ignore_ascii_case(b"sync_ext.installed=on")
        })
    }
}
