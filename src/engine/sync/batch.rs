//! A batch as syncs share it.

use crate::log::batch::Entry;
use change::snapshot::Span;

/// A batch read from the log, in order, shared by the syncs that stand at the same place.
pub struct Batch {
    pub span: Span,
    /// Only changes with a number above this one were read.
    pub after: i64,
    pub entries: Vec<Entry>,
    /// There is more in the log than was read.
    pub cut: bool,
    /// The lowest number from each place on; empty while numbers rise with the places.
    lowest: Vec<i64>,
}

impl Batch {
    pub fn new(span: Span, after: i64, entries: Vec<Entry>, cut: bool) -> Self {
        let mut lowest = Vec::new();
        if !entries.is_sorted_by_key(|e| e.seq) {
            lowest = entries.iter().map(|e| e.seq).collect();
            for n in (1..lowest.len()).rev() {
                lowest[n - 1] = lowest[n - 1].min(lowest[n]);
            }
        }
        Self { span, after, entries, cut, lowest }
    }

    /// The number below which everything is settled once the places before `place` are.
    pub(super) fn settled_at(&self, place: usize) -> i64 {
        match self.lowest.get(place).copied().or_else(|| self.entries.get(place).map(|e| e.seq)) {
            Some(seq) => seq - 1,
            None => self.entries.iter().map(|e| e.seq).max().unwrap_or(self.after),
        }
    }
}
