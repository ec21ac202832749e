//! Values between the texts in which a connector speaks and the bytes in which the engine compares.

use crate::border;
use crate::engine::plan::{Column, Plan, Table};
use crate::engine::resolve::Record;
use crate::engine::statement::{from_datum, render};
use crate::worker::transaction::{Failure, refuse};
use bumpalo::Bump;
use change::image::{self, Value};
use connector::Connector;
use merge::Side;
use pgrx::pg_sys::{self, Oid};
use std::ffi::CString;

/// The bytes of a value that came as text. Raises what the type's input function raises.
///
/// # Errors
/// Where this database's encoding lacks a character of it.
pub fn read<'b>(bump: &'b Bump, column: &Column, text: Option<&str>) -> Result<Value<'b>, Failure> {
    let Some(text) = text else { return Ok(Value::Null) };
    let unreadable = |why: String| {
        refuse(
            "22P05",
            format!("the value of \"{}\" {why}", column.name),
            "",
            "Change the value on the other side, or leave the field out of the sync.",
        )
    };
    if text.contains('\0') {
        return Err(unreadable("holds a zero byte, which no text of PostgreSQL can".to_owned()));
    }
    border::check(text).map_err(unreadable)?;
    let bytes = border::readable(text);
    let plain = match column.base_type {
        pg_sys::TEXTOID => Some(bump.alloc_slice_copy(&bytes) as &[u8]),
        // As nearly all are written; whatever else they may be is the input function's business.
        pg_sys::INT8OID => {
            text.parse::<i64>().ok().map(|n| &*bump.alloc_slice_copy(&n.to_ne_bytes()))
        }
        pg_sys::BOOLOID if text == "true" => Some(&[1][..]),
        pg_sys::BOOLOID if text == "false" => Some(&[0][..]),
        _ => None,
    };
    if let Some(plain) = plain {
        return Ok(Value::Bytes(plain));
    }
    let Ok(text) = CString::new(bytes.as_ref()) else { return Ok(Value::Null) };
    // SAFETY: a built-in type and a string; the datum is copied before its memory goes.
    unsafe {
        let (function, parameter) = input(column.base_type);
        let text = text.as_ptr().cast_mut();
        let datum = pg_sys::InputFunctionCall(function, text, parameter, column.typmod);
        Ok(Value::Bytes(from_datum(bump, datum, column.length, column.by_value)))
    }
}

/// The input function of a built-in type, looked up once.
unsafe fn input(type_oid: Oid) -> (*mut pg_sys::FmgrInfo, Oid) {
    static mut KNOWN: Vec<(Oid, *mut pg_sys::FmgrInfo, Oid)> = Vec::new();
    // SAFETY: one thread a backend; what is looked up lives as long as the process.
    unsafe {
        let known = &mut *(&raw mut KNOWN);
        if let Some(&(_, info, parameter)) = known.iter().find(|(oid, ..)| *oid == type_oid) {
            return (info, parameter);
        }
        let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::getTypeInputInfo(type_oid, &raw mut function, &raw mut parameter);
        let memory = pg_sys::TopMemoryContext;
        let info = pg_sys::MemoryContextAllocZero(memory, size_of::<pg_sys::FmgrInfo>())
            .cast::<pg_sys::FmgrInfo>();
        pg_sys::fmgr_info_cxt(function, info, memory);
        known.push((type_oid, info, parameter));
        (info, parameter)
    }
}

/// The text of a value.
pub fn text(value: Value<'_>, column: &Column) -> Option<String> {
    value.bytes().map(|bytes| render(bytes, column))
}

/// The key of a record of the other system.
pub fn key_of(table: &Table, id: &str) -> Option<Vec<u8>> {
    image::encode_key([Value::Bytes(id.as_bytes())], &table.key_lengths())
}

/// The id that a key of the other system holds.
pub fn id_of(table: &Table, key: &[u8]) -> Option<String> {
    let values = image::decode_key(key, &table.key_lengths())?;
    String::from_utf8(values.first()?.to_vec()).ok()
}

/// The row of a record of the other system: one value a column of its table.
///
/// # Errors
/// As [`read`].
pub fn row<'b>(
    bump: &'b Bump,
    table: &Table,
    id: &str,
    values: &[Option<String>],
) -> Result<&'b [Value<'b>], Failure> {
    let mut row = Vec::with_capacity(table.columns.len());
    for (n, column) in table.columns.iter().enumerate() {
        let text = if table.key.contains(&n) {
            Some(id)
        } else {
            values.get(n).and_then(Option::as_deref)
        };
        row.push(read(bump, column, text)?);
    }
    Ok(bump.alloc_slice_copy(&row))
}

/// A moment of the other system, in microseconds since 2000, by our clock.
pub fn moment(text: &str, offset_ms: i64) -> i64 {
    let bump = Bump::new();
    let column = Column {
        name: "version".to_owned(),
        attnum: 0,
        type_oid: pg_sys::TIMESTAMPTZOID,
        base_type: pg_sys::TIMESTAMPTZOID,
        typmod: -1,
        collation: pg_sys::InvalidOid,
        length: 8,
        by_value: true,
        generated: false,
        identity: false,
        cast: String::new(),
    };
    match read(&bump, &column, Some(text)) {
        Ok(Value::Bytes(bytes)) => {
            bytes.try_into().map_or(i64::MIN, |bytes| i64::from_ne_bytes(bytes) - offset_ms * 1000)
        }
        _ => i64::MIN,
    }
}

/// Brings what the local side sends into the form in which the other system will hold it, so that it
/// is what comes back.
pub fn canonicalise<'b>(
    bump: &'b Bump,
    plan: &Plan,
    connector: &dyn Connector,
    side: Side,
    records: &mut [Record<'b>],
    pending: &[usize],
) {
    let Some((remote, object)) = plan.remote().filter(|(remote, _)| *remote != side) else {
        return;
    };
    let table = plan.side(remote);
    for (n, field) in plan.fields.iter().enumerate() {
        let (Some(c), true) = (field.column[remote as usize], field.how[side as usize].is_some())
        else {
            continue;
        };
        let (column, named) = (&table.columns[c], &object.columns[c]);
        for &place in pending {
            let record = &mut records[place];
            let value = record.sent[side as usize][n];
            let Some(held) = text(value, column) else { continue };
            let canonical = connector.canonical(named, Some(&held));
            if canonical.as_deref() == Some(held.as_str()) {
                continue;
            }
            match read(bump, column, canonical.as_deref()) {
                Ok(value) => record.sent[side as usize][n] = value,
                Err(failure) => record.trouble = Some(failure),
            }
        }
    }
}
