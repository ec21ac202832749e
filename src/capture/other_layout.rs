//! Capture into a log of another layout than this library's: one that a later version has extended, or
//! that somebody has altered. By SQL and by the names of the columns that are known, so that the
//! user's statement succeeds and nothing is lost (P15, DECISIONS C4). The worker waits until the
//! layout is known to its library, and then finds the rows.

use crate::log::segments::{self, Row};
use crate::speech;
use crate::worker::slots;
use pgrx::prelude::*;

/// Writes one row; raises where the columns that are known cannot be written.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn write(segment: usize, row: &Row) {
    speech::function(|| segments::insert_by_name(segment, row));
    if let Some(slot) = slots::mine() {
        // Where it lies is not known here: the worker looks at the whole segment again.
        slot.wrote(segment, 0);
    }
}
