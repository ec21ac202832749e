//! Enum values in a base. Their binary form is a number that a restored database gives anew, so
//! there the label stands beside it.

use pgrx::pg_sys::{self, Oid};
use std::ffi::{CStr, CString};

const NUMBER: usize = 4;

/// Number and label of an enum value.
pub fn with_label(number: &[u8]) -> Vec<u8> {
    let mut out = number.to_vec();
    if let Some((_, label)) = number_of(number).and_then(entry) {
        out.extend_from_slice(&label);
    }
    out
}

/// The number that a value of this type has here: by its label or, where that was renamed, by the
/// number it was stored with.
pub fn number_here(enum_type: Oid, stored: &[u8]) -> Option<[u8; NUMBER]> {
    let (number, label) = stored.split_at_checked(NUMBER)?;
    let here = by_label(enum_type, label).or_else(|| {
        let number = number_of(number)?;
        entry(number).is_some_and(|(of, _)| of == enum_type).then_some(number)
    })?;
    Some(here.to_u32().to_ne_bytes())
}

fn number_of(bytes: &[u8]) -> Option<Oid> {
    Some(Oid::from(u32::from_ne_bytes(bytes.try_into().ok()?)))
}

/// Type and label of an enum value.
fn entry(number: Oid) -> Option<(Oid, Vec<u8>)> {
    // SAFETY: a catalog lookup inside a transaction; the tuple is read before it is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::ENUMOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, number.into());
        if tuple.is_null() {
            return None;
        }
        let form = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_enum>();
        let label = CStr::from_ptr((*form).enumlabel.data.as_ptr()).to_bytes().to_vec();
        let of = (*form).enumtypid;
        pg_sys::ReleaseSysCache(tuple);
        Some((of, label))
    }
}

fn by_label(enum_type: Oid, label: &[u8]) -> Option<Oid> {
    let label = CString::new(label).ok()?;
    // SAFETY: as above.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::ENUMTYPOIDNAME as i32;
        let tuple =
            pg_sys::SearchSysCache2(cache, enum_type.into(), pg_sys::Datum::from(label.as_ptr()));
        if tuple.is_null() {
            return None;
        }
        let number = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_enum>()).oid;
        pg_sys::ReleaseSysCache(tuple);
        Some(number)
    }
}
