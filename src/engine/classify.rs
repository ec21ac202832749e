//! What a failure means: who waits, and for how long.

use crate::worker::transaction::Failure;

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody holds the row: again in a moment, without counting.
    Busy,
    /// The row's parent is not there yet.
    Parent,
    /// This record: counted, tried again, then a person.
    Record,
    /// The whole sync: a missing right, table or column.
    Sync,
    /// The server: disk, memory, read-only, shutting down.
    Server,
}

/// Sorts a failure by its SQLSTATE.
pub fn class(failure: &Failure) -> Class {
    match failure.sqlstate.as_str() {
        "40001" | "40P01" | "55P03" | "55006" => Class::Busy,
        "23503" => Class::Parent,
        "42501" | "42P01" | "42703" | "42883" | "42704" | "3F000" | "28000" | "42804" | "0A000"
        | "42P10" => Class::Sync,
        // A query was cancelled by our own timeout: the user's code is slow for this record. A write
        // where only reading is allowed, or an end of that: the user's transform tried it.
        "57014" | "25006" | "25001" => Class::Record,
        state => match &state[..2] {
            "53" | "57" | "58" | "25" | "F0" => Class::Server,
            _ => Class::Record,
        },
    }
}
