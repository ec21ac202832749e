//! Keeping secrets out of what others can look at: the server's log, and the statements that
//! `pg_stat_activity` shows.
//!
//! A statement is about secrets if its text says so ([`mentions_secret`]), or if a function of ours
//! said so while it ran ([`conceal`]). Of such a statement the log has neither text nor parameters
//! nor context, and no message that quotes a part of it. The session itself sees its errors whole.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::{CStr, CString, c_char};

/// Start of the statement that concealed itself last; its text may say nothing of secrets, as that
/// of an EXECUTE.
static mut CONCEALED: pg_sys::TimestampTz = 0;
/// Start of the statement that is inside a function of ours, whose errors never quote a secret.
static mut INSIDE: pg_sys::TimestampTz = 0;
static mut PREVIOUS: pg_sys::emit_log_hook_type = None;
static mut BUSY: bool = false;

/// Looks at every line of the log from here on.
pub fn install() {
    // SAFETY: once a process, before anything is logged by it.
    unsafe {
        PREVIOUS = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(on_message);
    }
}

/// This statement is about secrets, whatever its text says.
pub fn conceal() {
    // SAFETY: one thread.
    unsafe { CONCEALED = pg_sys::GetCurrentStatementStartTimestamp() }
}

/// The same, and `pg_stat_activity` shows this text in the place of it.
pub fn cover(shown: &str) {
    conceal();
    if let Ok(text) = CString::new(shown) {
        // SAFETY: a string; the entry of this backend.
        unsafe {
            pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, text.as_ptr());
        }
    }
}

/// Runs the body of a function that handles secrets, and whose own errors quote none.
pub fn inside<T>(shown: &str, work: impl FnOnce() -> T) -> T {
    cover(shown);
    // SAFETY: one thread. After an error the mark stays for the line that reports it, and means
    // nothing to the next statement.
    unsafe {
        INSIDE = CONCEALED;
        let result = work();
        INSIDE = 0;
        result
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_message(error: *mut pg_sys::ErrorData) {
    // SAFETY: the server's hook, called with a message that it is about to log; a message of our own
    // comes by here once more.
    unsafe {
        if !BUSY && !error.is_null() && (*error).output_to_server {
            BUSY = true;
            screen(error);
            BUSY = false;
        }
        if let Some(previous) = PREVIOUS {
            previous(error);
        }
    }
}

/// # Safety
/// `error` is a message of the server.
unsafe fn screen(error: *mut pg_sys::ErrorData) {
    // SAFETY: the caller's promise; the texts live as long as the message.
    unsafe {
        let error = &mut *error;
        let now = pg_sys::GetCurrentStatementStartTimestamp();
        let statement = bytes(pg_sys::debug_query_string);
        let of_secret = (CONCEALED != 0 && CONCEALED == now)
            || mentions_secret(statement)
            || executes_secret(statement);
        let around = [error.context, error.internalquery];
        let quotes = around.into_iter().any(|text| mentions_secret(bytes(text)));
        // The server's own lines about statements have their text in them.
        let about_statement = error.elevel <= pg_sys::LOG_SERVER_ONLY as i32;
        let told = [error.message, error.detail, error.detail_log];
        let tells = about_statement
            && !statement.is_empty()
            && told.into_iter().any(|text| mentions_secret(bytes(text)));
        if !of_secret && !quotes && !tells {
            return;
        }
        error.hide_stmt = true;
        error.hide_ctx = true;
        if error.elevel < pg_sys::LOG as i32 {
            // Of interest to those who look for a defect, and full of names.
            error.output_to_server = false;
            return;
        }
        if about_statement {
            let message = bytes(error.message);
            if is_of_statement(message) || tells {
                error.message = copy(error.assoc_context, &shortened(message));
                error.detail = std::ptr::null_mut();
                error.detail_log = std::ptr::null_mut();
                error.internalquery = std::ptr::null_mut();
            }
            return;
        }
        let ours = INSIDE != 0 && INSIDE == now;
        if (ours && error.internalquery.is_null()) || error.elevel > pg_sys::PGERROR as i32 {
            return;
        }
        // The session is told all of it; the log gets a line of its own.
        error.output_to_server = false;
        if ours {
            log(error.sqlerrcode, bytes(error.message));
        } else {
            let code =
                (0..5).map(|n| char::from((((error.sqlerrcode >> (6 * n)) & 0x3F) + 0x30) as u8));
            let code: String = code.collect();
            let text = format!(
                "a statement about a secret was told SQLSTATE {code}; the message is not logged"
            );
            log(error.sqlerrcode, text.as_bytes());
        }
    }
}

/// # Safety
/// Inside the hook.
unsafe fn log(sqlstate: i32, message: &[u8]) {
    let Ok(text) = CString::new(message) else { return };
    // SAFETY: a message below ERROR returns; the callbacks of this statement are not asked for more.
    unsafe {
        let before = pg_sys::error_context_stack;
        pg_sys::error_context_stack = std::ptr::null_mut();
        pg_sys::ffi::pg_guard_ffi_boundary(|| {
            if errstart(pg_sys::LOG_SERVER_ONLY as i32, std::ptr::null()) {
                errcode(sqlstate);
                errmsg(c"%s".as_ptr(), text.as_ptr());
                errhidestmt(true);
                errhidecontext(true);
                errfinish(c"".as_ptr(), 0, c"".as_ptr());
            }
        });
        pg_sys::error_context_stack = before;
    }
}

unsafe extern "C-unwind" {
    // utils/elog.h; pgrx keeps them to itself.
    fn errstart(level: i32, domain: *const c_char) -> bool;
    fn errcode(code: i32) -> i32;
    fn errmsg(format: *const c_char, ...) -> i32;
    fn errhidestmt(hide: bool) -> i32;
    fn errhidecontext(hide: bool) -> i32;
    fn errfinish(file: *const c_char, line: i32, function: *const c_char);
}

/// Does a text speak of our secrets?
fn mentions_secret(text: &[u8]) -> bool {
    let has = |word: &[u8]| {
        text.len() >= word.len() && text.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word))
    };
    const ANYWHERE: [&[u8]; 5] =
        [b"set_secret", b"client_secret", b"private_key", b"refresh_token", b"security_token"];
    ANYWHERE.into_iter().any(has)
        || (has(b"mapping") && (has(b"client_id") || has(b"password")))
        || (has(b"_connection") && has(b"password"))
}

/// Does a text execute a prepared statement that speaks of our secrets? Its own text has only the
/// arguments.
///
/// # Safety
/// In a process of the server.
unsafe fn executes_secret(text: &[u8]) -> bool {
    const EXECUTE: &[u8] = b"execute";
    let places = text.windows(EXECUTE.len()).enumerate();
    places.filter(|(_, word)| word.eq_ignore_ascii_case(EXECUTE)).any(|(at, _)| {
        let Some(name) = identifier(&text[at + EXECUTE.len()..]) else { return false };
        let Ok(name) = CString::new(name) else { return false };
        // SAFETY: the statements that this session has prepared; nothing is looked up elsewhere.
        unsafe {
            let prepared = pg_sys::FetchPreparedStatement(name.as_ptr(), false);
            !prepared.is_null() && mentions_secret(bytes((*(*prepared).plansource).query_string))
        }
    })
}

/// The name that a text begins with, after white space, as the server reads it.
fn identifier(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_start();
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text
            .iter()
            .position(|b| !(b.is_ascii_alphanumeric() || b"_$".contains(b) || *b >= 0x80));
        let name = text[..end.unwrap_or(text.len())].to_ascii_lowercase();
        return (!name.is_empty() && name.len() < 64).then_some(name);
    };
    let mut name = Vec::new();
    let mut rest = quoted.iter().peekable();
    while let Some(&byte) = rest.next() {
        if byte == b'"' && rest.next_if(|next| **next == b'"').is_none() {
            return (name.len() < 64).then_some(name);
        }
        name.push(byte);
    }
    None
}

/// A line that the server logs because of log_statement, log_duration, auto_explain and the like.
fn is_of_statement(message: &[u8]) -> bool {
    [&b"statement: "[..], b"duration: ", b"execute ", b"parse ", b"bind "]
        .iter()
        .any(|start| message.starts_with(start))
}

/// Such a line without what it says of the statement.
fn shortened(message: &[u8]) -> Vec<u8> {
    const NOT_SHOWN: &[u8] = b"(it is about a secret and not logged)";
    let text = String::from_utf8_lossy(message);
    let kept = match text.strip_prefix("duration: ").and_then(|rest| rest.split_once(" ms")) {
        Some((time, _)) if time.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            format!("duration: {time} ms  statement: ")
        }
        _ => "statement: ".to_owned(),
    };
    [kept.as_bytes(), NOT_SHOWN].concat()
}

/// # Safety
/// `text` is null or a string of the server.
unsafe fn bytes<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// # Safety
/// `context` is one of the server's.
unsafe fn copy(context: pg_sys::MemoryContext, text: &[u8]) -> *mut c_char {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: the caller's promise.
    unsafe { pg_sys::MemoryContextStrdup(context, text.as_ptr()) }
}
