//! SQL from inside the server, for everything that is not on the path of every change.
//! Errors are raised, as in any C function; the worker catches them around its transactions.
//!
//! Statements that run in the worker, or inside [`as_extension`], have `pg_catalog` as their search
//! path and use plain operators. Those that run as the caller qualify every one.

use crate::border;
use crate::worker::transaction::undone;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::ffi::CStr;

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
            // Laid out alike as bytea and text.
            Arg::Text(t) => border::readable(t).as_ref().into_datum(),
            Arg::OptText(t) => t.and_then(|t| border::readable(t).as_ref().into_datum()),
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

/// Runs one statement whose arguments are values of the server's.
pub fn execute(statement: &str, args: &[(Oid, Option<pg_sys::Datum>)]) {
    run_with(statement, args, false);
}

/// The same with arguments of any types.
pub fn query_with(statement: &str, args: &[(Oid, Option<pg_sys::Datum>)]) -> Rows {
    run_with(statement, args, false)
}

fn run(statement: &str, args: &[Arg<'_>], read_only: bool) -> Rows {
    let args: Vec<_> = args.iter().map(|a| (a.type_oid(), a.datum())).collect();
    run_with(statement, &args, read_only)
}

fn run_with(statement: &str, args: &[(Oid, Option<pg_sys::Datum>)], read_only: bool) -> Rows {
    let text = border::exact(statement);
    // SAFETY: one SPI connection from open to close; an error in between is cleaned up by the
    // abort of the transaction.
    unsafe {
        check(pg_sys::SPI_connect());
        let (mut types, mut values, nulls) = handed_over(args);
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

/// As [`query`], for a statement that may run for each record of many: it is planned once a process.
pub fn often(statement: &'static str, args: &[Arg<'_>]) -> Rows {
    static mut PLANS: Vec<(&str, pg_sys::SPIPlanPtr)> = Vec::new();
    let args: Vec<_> = args.iter().map(|a| (a.type_oid(), a.datum())).collect();
    // SAFETY: as in `run_with`; one thread a backend, and kept plans live as long as the process.
    unsafe {
        check(pg_sys::SPI_connect());
        let (mut types, mut values, nulls) = handed_over(&args);
        let plans = &mut *(&raw mut PLANS);
        let known = plans.iter().find(|(text, _)| std::ptr::eq(*text, statement));
        let plan = match known {
            Some(&(_, plan)) => plan,
            None => {
                let text = border::exact(statement);
                let plan =
                    pg_sys::SPI_prepare(text.as_ptr(), args.len() as i32, types.as_mut_ptr());
                if plan.is_null() {
                    check(pg_sys::SPI_result);
                }
                check(pg_sys::SPI_keepplan(plan));
                plans.push((statement, plan));
                plan
            }
        };
        check(pg_sys::SPI_execute_plan(plan, values.as_mut_ptr(), nulls.as_ptr(), false, 0));
        let rows = rows();
        check(pg_sys::SPI_finish());
        rows
    }
}

type Handed = (Vec<Oid>, Vec<pg_sys::Datum>, Vec<std::ffi::c_char>);

/// Types, values, and which of them are null, as SPI takes them.
fn handed_over(args: &[(Oid, Option<pg_sys::Datum>)]) -> Handed {
    let types = args.iter().map(|a| a.0).collect();
    let values = args.iter().map(|a| a.1.unwrap_or(pg_sys::Datum::null())).collect();
    let nulls = args.iter().map(|a| if a.1.is_some() { b' ' } else { b'n' } as _).collect();
    (types, values, nulls)
}

/// Rows fetched at once where they are many.
const MANY: std::ffi::c_long = 10_000;
/// The same of rows that hold images.
const MANY_LONG: std::ffi::c_long = 500;

/// Goes through the rows of a statement that returns an int2 and a bytea, in pieces: however many they
/// are, they take no memory.
pub fn each_key(statement: &str, args: &[Arg<'_>], mut row: impl FnMut(i16, &[u8])) {
    each(statement, args, MANY, |values| {
        if let [Some(number), Some(bytes)] = *values {
            // SAFETY: a bytea.
            row(number.value() as i16, unsafe { bytes_of(bytes) });
        }
    });
}

/// The same of a statement that returns an int8, a "char" and two bytea that may be null.
pub fn each_image(
    statement: &str,
    args: &[Arg<'_>],
    mut row: impl FnMut(i64, u8, Option<&[u8]>, Option<&[u8]>),
) {
    each(statement, args, MANY_LONG, |values| {
        if let [Some(number), Some(char), old, new] = *values {
            // SAFETY: two bytea.
            let [old, new] = [old, new].map(|image| image.map(|image| unsafe { bytes_of(image) }));
            row(number.value() as i64, char.value() as u8, old, new);
        }
    });
}

/// # Safety
/// A bytea, which lives as long as what is returned.
unsafe fn bytes_of<'d>(datum: pg_sys::Datum) -> &'d [u8] {
    // SAFETY: the caller's promise.
    unsafe { pgrx::varlena_to_byte_slice(pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr())) }
}

fn each(
    statement: &str,
    args: &[Arg<'_>],
    at_once: std::ffi::c_long,
    mut row: impl FnMut(&[Option<pg_sys::Datum>]),
) {
    let text = border::exact(statement);
    // SAFETY: as in `run`; the rows are read before the next are fetched, and what reading them took is given back
    // with them.
    unsafe {
        check(pg_sys::SPI_connect());
        let mut types: Vec<Oid> = args.iter().map(|a| a.type_oid()).collect();
        let mut values: Vec<pg_sys::Datum> =
            args.iter().map(|a| a.datum().unwrap_or(pg_sys::Datum::null())).collect();
        let portal = pg_sys::SPI_cursor_open_with_args(
            std::ptr::null(),
            text.as_ptr(),
            args.len() as i32,
            types.as_mut_ptr(),
            values.as_mut_ptr(),
            std::ptr::null(),
            true,
            0,
        );
        loop {
            pg_sys::SPI_cursor_fetch(portal, true, at_once);
            let table = pg_sys::SPI_tuptable;
            let count = if table.is_null() { 0 } else { (*table).numvals as usize };
            if count > 0 {
                let before = pg_sys::MemoryContextSwitchTo((*table).tuptabcxt);
                let width = (*(*table).tupdesc).natts;
                let mut found = vec![None; width as usize];
                for n in 0..count {
                    let tuple = *(*table).vals.add(n);
                    for (value, column) in found.iter_mut().zip(1..=width) {
                        let mut null = false;
                        let datum =
                            pg_sys::SPI_getbinval(tuple, (*table).tupdesc, column, &raw mut null);
                        *value = (!null).then_some(datum);
                    }
                    row(&found);
                }
                pg_sys::MemoryContextSwitchTo(before);
            }
            pg_sys::SPI_freetuptable(table);
            if count == 0 {
                break;
            }
        }
        pg_sys::SPI_cursor_close(portal);
        check(pg_sys::SPI_finish());
    }
}

/// `ALTER DATABASE` for the one we are in. Its name need not be text of its own encoding, so it goes
/// from the catalog into the statement as it is.
pub fn on_this_database(action: &str) {
    // SAFETY: inside a transaction; as in `run`.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        let quoted = CStr::from_ptr(pg_sys::quote_identifier(name));
        let text = [b"ALTER DATABASE ", quoted.to_bytes(), b" ", action.as_bytes(), b"\0"].concat();
        check(pg_sys::SPI_connect());
        check(pg_sys::SPI_execute(text.as_ptr().cast(), false, 0));
        check(pg_sys::SPI_finish());
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
                        (!value.is_null()).then(|| border::inwards_from(value))
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

/// Runs `work` as a sync's owner, where it can write nothing and keep nothing: the expressions of a document, from
/// the backend of whoever asks.
pub fn as_reader<T>(owner: Oid, search_path: &str, work: impl FnOnce() -> T) -> T {
    let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
    undone(|| {
        // SAFETY: plain state of this process, put back with the subtransaction.
        unsafe { pg_sys::XactReadOnly = true };
        as_somebody(owner, search_path, flags, work)
    })
}

/// The caller's search path, as text.
pub fn search_path() -> String {
    one("SELECT pg_catalog.current_setting('search_path')", &[]).unwrap_or_default()
}

/// Runs `work` as a sync's owner, from the backend of whoever asks.
pub fn as_role<T>(owner: Oid, search_path: &str, work: impl FnOnce() -> T) -> T {
    as_somebody(owner, search_path, pg_sys::SECURITY_LOCAL_USERID_CHANGE, work)
}

fn as_somebody<T>(role: Oid, search_path: &str, flags: u32, work: impl FnOnce() -> T) -> T {
    // SAFETY: as in `as_extension`.
    unsafe {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context);
        let level = pg_sys::NewGUCNestLevel();
        set_local("search_path", search_path);
        pg_sys::SetUserIdAndSecContext(role, context | flags as i32);
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
    let (name, value) = (border::exact(name), border::exact(value));
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

/// Runs `work` with a snapshot that sees what this command of the caller's has done so far, which
/// [`read`] does not.
pub fn seeing_own_work<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: inside a transaction; on an error its abort takes the snapshot off.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let value = work();
        pg_sys::PopActiveSnapshot();
        value
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

/// The elements of an array of one of the types that lie as `text` does; `None` for a null.
///
/// # Safety
/// `array` is an array of that type.
pub unsafe fn elements(array: pg_sys::Datum, element: Oid) -> Vec<Option<pg_sys::Datum>> {
    let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the caller's promise.
    unsafe {
        pg_sys::deconstruct_array(
            pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast(),
            element,
            -1,
            false,
            pg_sys::TYPALIGN_INT as std::ffi::c_char,
            &raw mut elements,
            &raw mut nulls,
            &raw mut count,
        );
        (0..count as usize).map(|n| (!*nulls.add(n)).then(|| *elements.add(n))).collect()
    }
}

/// What `decode(…, 'hex')` takes.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The bytes of what `encode(…, 'hex')` returned.
pub fn from_hex(hex: &str) -> Option<Vec<u8>> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
