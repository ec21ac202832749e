//! Errors and notices across the border. pgrx reads and writes their text as UTF-8; the server's is
//! in the encoding of the database. The server calls the callbacks of `error_context_stack` on each
//! error before it is thrown and on each message before it is sent: there its bytes are heard, and
//! there they are put in the place of what pgrx wrote.

use crate::border;
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::prelude::*;
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::AssertUnwindSafe;

unsafe extern "C-unwind" {
    // utils/elog.h; pgrx keeps them to itself.
    fn errmsg(format: *const c_char, ...) -> i32;
    fn errdetail(format: *const c_char, ...) -> i32;
    fn errhint(format: *const c_char, ...) -> i32;
}

/// Message, detail and hint, as the server has them.
#[derive(Clone, Default)]
struct Text {
    message: Option<CString>,
    detail: Option<CString>,
    hint: Option<CString>,
}

/// What people are told, in UTF-8.
pub struct Told {
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// The last error that the server raised.
static mut HEARD: Option<Text> = None;
/// What the next message of ours says.
static mut TO_SAY: Option<Text> = None;

static mut HEARING: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(hear),
    arg: std::ptr::null_mut(),
};
static mut SAYING: pg_sys::ErrorContextCallback = pg_sys::ErrorContextCallback {
    previous: std::ptr::null_mut(),
    callback: Some(say_it),
    arg: std::ptr::null_mut(),
};

unsafe extern "C-unwind" fn hear(_: *mut c_void) {
    // SAFETY: called while an error is on the server's stack, which is what CopyErrorData reads; not
    // in the memory that is emptied after it.
    unsafe {
        let old = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
        let error = pg_sys::CopyErrorData();
        if (*error).elevel == pg_sys::PGERROR as i32 {
            let copy = |text: *mut c_char| (!text.is_null()).then(|| CStr::from_ptr(text).into());
            HEARD = Some(Text {
                message: copy((*error).message),
                detail: copy((*error).detail),
                hint: copy((*error).hint),
            });
        }
        pg_sys::FreeErrorData(error);
        pg_sys::MemoryContextSwitchTo(old);
    }
}

unsafe extern "C-unwind" fn say_it(_: *mut c_void) {
    // SAFETY: called while the message is on the server's stack: these replace its parts by copies.
    unsafe {
        let Some(text) = (*(&raw mut TO_SAY)).take() else { return };
        if let Some(message) = &text.message {
            errmsg(c"%s".as_ptr(), message.as_ptr());
        }
        if let Some(detail) = &text.detail {
            errdetail(c"%s".as_ptr(), detail.as_ptr());
        }
        if let Some(hint) = &text.hint {
            errhint(c"%s".as_ptr(), hint.as_ptr());
        }
    }
}

/// From here on the errors of this process are heard. For a worker, which has nobody above it.
pub fn listen() {
    if border::is_crossed() {
        // SAFETY: a static; only this process's main function stands below it.
        unsafe {
            if !std::ptr::eq(pg_sys::error_context_stack, &raw const HEARING) {
                pg_sys::error_context_stack = &raw mut HEARING;
            }
        }
    }
}

/// What was said when an error was caught.
pub fn told(report: &ErrorReportWithLevel, by_server: bool) -> Told {
    let as_pgrx_read = |text: &CString| text.to_string_lossy().into_owned();
    if by_server
        // SAFETY: one thread.
        && let Some(heard) = unsafe { (*(&raw const HEARD)).as_ref() }
        && heard.message.as_ref().map(as_pgrx_read).as_deref() == Some(report.message())
        && heard.detail.as_ref().map(as_pgrx_read).as_deref() == report.detail()
    {
        let read = |text: &Option<CString>| text.as_ref().map(|t| border::inwards(t.to_bytes()));
        return Told {
            message: read(&heard.message).unwrap_or_default(),
            detail: read(&heard.detail),
            hint: read(&heard.hint),
        };
    }
    Told {
        message: report.message().to_owned(),
        detail: report.detail().map(str::to_owned),
        hint: report.hint().map(str::to_owned),
    }
}

fn for_server(told: &Told) -> Text {
    let text = |t: &str| CString::new(border::readable(t)).ok();
    Text {
        message: text(&told.message),
        detail: told.detail.as_deref().and_then(text),
        hint: told.hint.as_deref().and_then(text),
    }
}

/// The body of a function that the server calls: errors that leave it are in the server's encoding.
pub fn function<T>(work: impl FnOnce() -> T) -> T {
    border::prepare();
    if !border::is_crossed() {
        return work();
    }
    // SAFETY: the stack is put back below; on an error it is put back by whoever catches it.
    unsafe {
        let before = pg_sys::error_context_stack;
        let mut hearing =
            pg_sys::ErrorContextCallback { previous: before, ..*(&raw const HEARING) };
        pg_sys::error_context_stack = &raw mut hearing;
        let result = PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
            .catch_others(|error| Err(Box::new(error)))
            .execute();
        pg_sys::error_context_stack = before;
        match result {
            Ok(value) => value,
            Err(error) => {
                let (report, by_server) = of(&error);
                TO_SAY = Some(for_server(&told(report, by_server)));
                SAYING.previous = before;
                if !std::ptr::eq(before, &raw const SAYING) {
                    pg_sys::error_context_stack = &raw mut SAYING;
                }
                error.rethrow()
            }
        }
    }
}

/// The report in a caught error, and whether the server raised it.
pub fn of(error: &CaughtError) -> (&ErrorReportWithLevel, bool) {
    match error {
        CaughtError::PostgresError(report) => (report, true),
        CaughtError::ErrorReport(report) | CaughtError::RustPanic { ereport: report, .. } => {
            (report, false)
        }
    }
}

/// Says something that is no error.
pub fn say(level: PgLogLevel, code: PgSqlErrorCode, message: String, hint: Option<&str>) {
    let told = Told { message, detail: None, hint: hint.map(str::to_owned) };
    // SAFETY: the stack is put back; a message below ERROR returns.
    unsafe {
        let before = pg_sys::error_context_stack;
        let mut saying = pg_sys::ErrorContextCallback { previous: before, ..*(&raw const SAYING) };
        if border::is_crossed() {
            TO_SAY = Some(for_server(&told));
            pg_sys::error_context_stack = &raw mut saying;
        }
        let mut report = pgrx::pg_sys::panic::ErrorReport::new(code, told.message, "");
        if let Some(hint) = told.hint {
            report = report.set_hint(hint);
        }
        report.report(level);
        pg_sys::error_context_stack = before;
        // A message that nobody wanted to see was never sent.
        TO_SAY = None;
    }
}

/// A warning of the worker's.
pub fn warning(message: String) {
    say(PgLogLevel::WARNING, PgSqlErrorCode::ERRCODE_WARNING, message, None);
}

/// A line for the server's log.
pub fn log(message: String) {
    say(PgLogLevel::LOG, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, None);
}

/// A notice to whoever called.
pub fn notice(message: String) {
    say(PgLogLevel::NOTICE, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, None);
}
