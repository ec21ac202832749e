//! SQL from inside the server, for everything that is not on the path of every change.
//! Errors are raised, as in any C function; the worker catches them around its transactions.
//!
//! Statements that run in the worker, or inside [`as_extension`], have `pg_catalog` as their search
//! path and use plain operators. Those that run as the caller qualify every one.

use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::{CStr, CString};

/// An argument of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    Text(&'a str),
    OptText(Option<&'a str>),
    Int(i64),
    Int4(i32),
    Oid(Oid),
    Bytes(&'a [u8]),
    Bool(bool),
}

impl Arg<'_> {
    fn type_oid(self) -> Oid {
        match self {
            Arg::Text(_) | Arg::OptText(_) => pg_sys::TEXTOID,
            Arg::Int(_) => pg_sys::INT8OID,
            Arg::Int4(_) => pg_sys::INT4OID,
            Arg::Oid(_) => pg_sys::OIDOID,
            Arg::Bytes(_) => pg_sys::BYTEAOID,
            Arg::Bool(_) => pg_sys::BOOLOID,
        }
    }

    fn datum(self) -> Option<pg_sys::Datum> {
        match self {
            Arg::Text(t) => t.into_datum(),
            Arg::OptText(t) => t.and_then(IntoDatum::into_datum),
            Arg::Int(n) => n.into_datum(),
            Arg::Int4(n) => n.into_datum(),
            Arg::Oid(o) => o.into_datum(),
            Arg::Bytes(b) => b.into_datum(),
            Arg::Bool(b) => b.into_datum(),
        }
    }
}

/// Rows in their text form, as psql would show them.
pub type Rows = Vec<Vec<Option<String>>>;

/// Runs one statement and returns its rows as text.
pub fn query(statement: &str, args: &[Arg<'_>]) -> Rows {
    run(statement, args, false)
}

/// The same, read-only: assigns no transaction id.
pub fn read(statement: &str, args: &[Arg<'_>]) -> Rows {
    run(statement, args, true)
}

/// The first column of the first row.
pub fn one(statement: &str, args: &[Arg<'_>]) -> Option<String> {
    read(statement, args).into_iter().next()?.into_iter().next()?
}

fn run(statement: &str, args: &[Arg<'_>], read_only: bool) -> Rows {
    let Ok(text) = CString::new(statement) else {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            "a statement contains a zero byte"
        );
    };
    // SAFETY: one SPI connection from open to close; an error in between is cleaned up by the
    // abort of the transaction.
    unsafe {
        check(pg_sys::SPI_connect());
        let mut types: Vec<Oid> = args.iter().map(|a| a.type_oid()).collect();
        let mut values: Vec<pg_sys::Datum> = Vec::with_capacity(args.len());
        let mut nulls: Vec<std::ffi::c_char> = Vec::with_capacity(args.len() + 1);
        for arg in args {
            let datum = arg.datum();
            nulls.push(if datum.is_some() { b' ' } else { b'n' } as _);
            values.push(datum.unwrap_or(pg_sys::Datum::null()));
        }
        nulls.push(0);
        check(pg_sys::SPI_execute_with_args(
            text.as_ptr(),
            args.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            nulls.as_ptr(),
            read_only,
            0,
        ));
        let rows = rows();
        check(pg_sys::SPI_finish());
        rows
    }
}

/// The rows of the last SPI statement.
unsafe fn rows() -> Rows {
    // SAFETY: SPI_tuptable belongs to the statement just run.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let descriptor = (*table).tupdesc;
        (0..(*table).numvals as usize)
            .map(|row| {
                (1..=(*descriptor).natts)
                    .map(|column| {
                        let value =
                            pg_sys::SPI_getvalue(*(*table).vals.add(row), descriptor, column);
                        (!value.is_null())
                            .then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
                    })
                    .collect()
            })
            .collect()
    }
}

fn check(code: i32) {
    if code < 0 {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("SPI failed with code {code}")
        );
    }
}

/// Runs our own statements on our own tables with the rights of the extension, whoever called:
/// callers have none there. Nothing of the caller's is evaluated inside, and the search path is
/// pinned.
pub fn as_extension<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: an error raised inside is followed by the abort of the (sub)transaction, which
    // restores user and settings.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        let level = pg_sys::NewGUCNestLevel();
        set_local("search_path", "pg_catalog, pg_temp");
        pg_sys::SetUserIdAndSecContext(
            Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID),
            context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
        );
        let value = work();
        pg_sys::SetUserIdAndSecContext(user, context);
        pg_sys::AtEOXact_GUC(false, level);
        value
    }
}

/// Sets a parameter to the end of the current GUC nest level.
pub fn set_local(name: &str, value: &str) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SAVE);
}

/// Sets a parameter of this process for good.
pub fn set_session(name: &str, value: &str) {
    set(name, value, pg_sys::GucAction::GUC_ACTION_SET);
}

fn set(name: &str, value: &str, action: pg_sys::GucAction::Type) {
    let (Ok(name), Ok(value)) = (CString::new(name), CString::new(value)) else { return };
    // SAFETY: plain strings; as the superuser, because the setting is ours and not the caller's.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
}

/// A name as SQL wants it.
pub fn identifier(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}

/// A string constant as SQL wants it.
pub fn literal(text: &str) -> String {
    pgrx::spi::quote_literal(text)
}

/// The bytes of what `encode(…, 'hex')` returned.
pub fn from_hex(hex: &str) -> Option<Vec<u8>> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
