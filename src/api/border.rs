//! Text and JSON as arguments and results of a function, in the database's encoding. pgrx's own
//! types take them for UTF-8, so texts come and go as bytes here, which are laid out alike.

use crate::border;
use crate::engine::statement::render_datum;
use crate::sql;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyArray, AnyElement};
use serde_json::Value as Json;
use std::ffi::CString;

/// A text to return.
pub(super) fn text(result: &str) -> Vec<u8> {
    border::readable(result).into_owned()
}

/// A jsonb to return.
pub(super) fn jsonb(result: &Json) -> Option<AnyElement> {
    let text = CString::new(border::readable_json(&result.to_string())).ok()?;
    // SAFETY: the input function of jsonb takes a string in the database's encoding.
    unsafe {
        let argument = [Some(pg_sys::Datum::from(text.as_ptr()))];
        let datum = pgrx::direct_function_call_as_datum(pg_sys::jsonb_in, &argument)?;
        AnyElement::from_polymorphic_datum(datum, false, pg_sys::JSONBOID)
    }
}

/// The elements of a `text[]` that are not null.
pub(super) fn texts(array: &AnyArray) -> Vec<String> {
    // SAFETY: the function is declared with text[].
    let elements = unsafe { sql::elements(array.datum(), pg_sys::TEXTOID) };
    // SAFETY: an element of that array.
    elements
        .into_iter()
        .flatten()
        .map(|datum| unsafe { render_datum(datum, pg_sys::TEXTOID) })
        .collect()
}

/// The elements of a `jsonb[]`.
pub(super) fn documents(array: &AnyArray) -> Vec<Json> {
    // SAFETY: the function is declared with jsonb[].
    let elements = unsafe { sql::elements(array.datum(), pg_sys::JSONBOID) };
    let read = |(n, element): (usize, Option<pg_sys::Datum>)| {
        element.map_or(Json::Null, |datum| parsed(datum, &format!("document {}", n + 1)))
    };
    elements.into_iter().enumerate().map(read).collect()
}

/// A `jsonb`.
pub(super) fn document(datum: pg_sys::Datum) -> Json {
    parsed(datum, "the argument")
}

fn parsed(datum: pg_sys::Datum, what: &str) -> Json {
    // SAFETY: the callers' functions are declared with jsonb.
    let text = unsafe { render_datum(datum, pg_sys::JSONBOID) };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        super::raise(&super::refuse(
            "22032",
            format!("{what} cannot be read"),
            &format!("{error}."),
            "Documents are JSON, nested at most 127 levels deep.",
        ))
    })
}
