//! Where text passes between Rust, which knows UTF-8 only, and the server, whose text is in the
//! database's encoding. Images of rows are not text and pass as they are.
//!
//! Inwards nothing fails: a byte sequence without meaning becomes U+FFFD, which no other encoding
//! than UTF-8 has and which therefore never comes out again as a name of something. Outwards a
//! statement is exact or refused, because it names things; what people read has `\u20AC` in the
//! place of a character that the encoding lacks.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};

const UTF8: i32 = pg_sys::pg_enc::PG_UTF8 as i32;
/// `pg_catalog`, whose conversions are the only ones asked: a user could define others.
const CATALOG: Oid = Oid::from_u32(11);
/// A conversion makes of one byte at most so many (`MAX_CONVERSION_GROWTH`).
const GROWTH: usize = 4;
/// Text is converted in pieces: the server allocates at most a gigabyte at once.
const PIECE: usize = 1 << 20;

unsafe extern "C-unwind" {
    // catalog/pg_conversion.h; not among pgrx's bindings.
    fn FindDefaultConversion(name_space: Oid, from: i32, to: i32) -> Oid;
}

/// How this database's text is converted.
enum Border {
    /// It is UTF-8, or of no known encoding (a process without a database).
    None,
    Both {
        encoding: i32,
        inwards: pg_sys::FmgrInfo,
        outwards: pg_sys::FmgrInfo,
    },
}

/// Looked up once a process, because outside a transaction it cannot be.
static mut BORDER: Option<Border> = None;

/// Looks up the conversions; inside a transaction, before any text passes.
pub fn prepare() {
    // SAFETY: one thread; catalog lookups inside a transaction.
    unsafe {
        if (*(&raw const BORDER)).is_some() {
            return;
        }
        let encoding = pg_sys::GetDatabaseEncoding();
        let unknown = pg_sys::pg_enc::PG_SQL_ASCII as i32;
        let border = if encoding == UTF8
            || encoding == unknown
            || pg_sys::MyDatabaseId == pg_sys::InvalidOid
        {
            Border::None
        } else {
            let find = |from: i32, to: i32| {
                let function =
                    pg_sys::ffi::pg_guard_ffi_boundary(|| FindDefaultConversion(CATALOG, from, to));
                (function != pg_sys::InvalidOid).then(|| {
                    let mut info = pg_sys::FmgrInfo::default();
                    pg_sys::fmgr_info_cxt(function, &raw mut info, pg_sys::TopMemoryContext);
                    info
                })
            };
            match (find(encoding, UTF8), find(UTF8, encoding)) {
                (Some(inwards), Some(outwards)) => Border::Both { encoding, inwards, outwards },
                // CREATE EXTENSION refuses such a database.
                _ => Border::None,
            }
        };
        BORDER = Some(border);
    }
}

/// Is text converted at all?
pub fn is_crossed() -> bool {
    border().is_some()
}

fn border() -> Option<(i32, *mut pg_sys::FmgrInfo, *mut pg_sys::FmgrInfo)> {
    // SAFETY: one thread; written once.
    match unsafe { (*(&raw mut BORDER)).as_mut()? } {
        Border::None => None,
        Border::Both { encoding, inwards, outwards } => Some((*encoding, inwards, outwards)),
    }
}

/// Converts as much of `source` as can be; returns how many of its bytes that was.
fn convert(
    function: *mut pg_sys::FmgrInfo,
    from: i32,
    to: i32,
    source: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    if source.is_empty() {
        return 0;
    }
    let mut room = vec![0u8; source.len() * GROWTH + 1];
    // SAFETY: a conversion function of the server, called as pg_do_encoding_conversion_buf does,
    // without errors; it ends its result with a zero byte, which a converted text does not hold.
    unsafe {
        let done = pg_sys::FunctionCall6Coll(
            function,
            pg_sys::InvalidOid,
            pg_sys::Datum::from(from),
            pg_sys::Datum::from(to),
            pg_sys::Datum::from(source.as_ptr().cast_mut()),
            pg_sys::Datum::from(room.as_mut_ptr()),
            pg_sys::Datum::from(source.len() as i32),
            pg_sys::Datum::from(true),
        );
        if let Ok(text) = CStr::from_bytes_until_nul(&room) {
            out.extend_from_slice(text.to_bytes());
        }
        (done.value() as i32).max(0) as usize
    }
}

/// Text of the server.
pub fn inwards(bytes: &[u8]) -> String {
    let Some((encoding, function, _)) = border() else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    if bytes.is_ascii() {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut out = Vec::with_capacity(bytes.len() * 2);
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut end = rest.len().min(PIECE);
        // A piece ends at an ASCII character, so that it cuts none in two; in all encodings of a
        // server such a byte is never part of another character.
        if end < rest.len() {
            end = rest[..end].iter().rposition(u8::is_ascii).map_or(rest.len(), |p| p + 1);
        }
        let done = convert(function, encoding, UTF8, &rest[..end], &mut out).min(end);
        rest = &rest[done..];
        if done < end {
            out.extend_from_slice("\u{FFFD}".as_bytes());
            rest = &rest[character(encoding, rest)..];
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Bytes that the character which could not be read takes: its length if it is well formed, else one.
fn character(encoding: i32, bytes: &[u8]) -> usize {
    // SAFETY: reads no more bytes than it is told there are.
    let length = unsafe {
        pg_sys::pg_encoding_verifymbchar(encoding, bytes.as_ptr().cast(), bytes.len() as i32)
    };
    usize::try_from(length).unwrap_or(1).clamp(1, bytes.len())
}

/// Text of the server that ends with a zero byte.
///
/// # Safety
/// `text` points to one.
pub unsafe fn inwards_from(text: *const c_char) -> String {
    // SAFETY: the caller's promise.
    inwards(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// Text for the server; `instead` gives what stands for a character that it has not.
fn outwards<E>(
    text: &str,
    mut instead: impl FnMut(usize, char) -> Result<String, E>,
) -> Result<Cow<'_, [u8]>, E> {
    let Some((encoding, _, function)) = border() else { return Ok(Cow::Borrowed(text.as_bytes())) };
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text.as_bytes()));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let mut end = text.len().min(at + PIECE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let done = convert(function, UTF8, encoding, &text.as_bytes()[at..end], &mut out);
        at += done.min(end - at);
        if at < end {
            let Some(lacking) = text.get(at..).and_then(|t| t.chars().next()) else { break };
            out.extend_from_slice(instead(at, lacking)?.as_bytes());
            at += lacking.len_utf8();
        }
    }
    Ok(Cow::Owned(out))
}

/// Text for people.
pub fn readable(text: &str) -> Cow<'_, [u8]> {
    outwards(text, |_, c| Ok::<_, std::convert::Infallible>(escape(c)))
        .unwrap_or_else(|never| match never {})
}

/// A JSON document for people, in which the escape itself is escaped.
pub fn readable_json(text: &str) -> Cow<'_, [u8]> {
    outwards(text, |_, c| Ok::<_, std::convert::Infallible>(format!("\\{}", escape(c))))
        .unwrap_or_else(|never| match never {})
}

fn escape(c: char) -> String {
    let number = u32::from(c);
    if number > 0xFFFF { format!("\\U{number:08X}") } else { format!("\\u{number:04X}") }
}

/// A statement or a name. Raises where it holds a character that the encoding has not.
pub fn exact(text: &str) -> CString {
    let bytes = outwards(text, |at, c| Err((at, c))).unwrap_or_else(|(at, c)| lacking(text, at, c));
    CString::new(bytes).unwrap_or_else(|_| {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            "a statement contains a zero byte"
        );
        #[allow(unreachable_code)]
        CString::default()
    })
}

/// Could this stand in a statement? If not, says why, to be put after what it is about.
pub fn check(text: &str) -> Result<(), String> {
    outwards(text, |_, c| Err(c)).map(|_| ()).map_err(why)
}

fn why(c: char) -> String {
    let what = if c == char::REPLACEMENT_CHARACTER {
        "bytes that are no character".to_owned()
    } else {
        format!("{}, which is no character", escape(c))
    };
    // SAFETY: a constant of the server.
    let encoding = unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy();
    format!("holds {what} in the encoding {encoding} of this database")
}

fn lacking(text: &str, at: usize, c: char) -> ! {
    let before: Vec<char> = text[..at].chars().rev().take(30).collect();
    let near: String = before.into_iter().rev().chain(text[at..].chars().take(30)).collect();
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER,
        format!("a name or expression {}", why(c)),
        "",
    )
    .set_detail(format!("It stands here: {near}"))
    .set_hint("Use other characters, or a database whose encoding is UTF8.")
    .report(PgLogLevel::ERROR);
    unreachable!("an ERROR was reported")
}
