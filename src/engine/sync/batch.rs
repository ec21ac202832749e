//! A batch as syncs share it.

use crate::log::batch::Entry;
use change::snapshot::Span;
use foldhash::{HashMap, HashMapExt};

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
    /// Stretches that transactions of more than one change cover, where they overlap as one: from, and the last place.
    covered: Vec<(usize, usize)>,
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
        let covered = covered(&entries);
        Self { span, after, entries, cut, lowest, covered }
    }

    /// How many places further a piece has to go that ends with this one, so that no transaction is cut in two.
    pub(super) fn open_after(&self, place: usize) -> usize {
        let next = self.covered.partition_point(|&(_, last)| last <= place);
        match self.covered.get(next) {
            Some(&(first, last)) if first <= place => last - place,
            _ => 0,
        }
    }

    /// The number below which everything is settled once the places before `place` are.
    pub(super) fn settled_at(&self, place: usize) -> i64 {
        match self.lowest.get(place).copied().or_else(|| self.entries.get(place).map(|e| e.seq)) {
            Some(seq) => seq - 1,
            None => self.entries.iter().map(|e| e.seq).max().unwrap_or(self.after),
        }
    }
}

fn covered(entries: &[Entry]) -> Vec<(usize, usize)> {
    let mut ends: HashMap<u64, (usize, usize)> = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        ends.entry(entry.xid).or_insert((place, place)).1 = place;
    }
    let mut spans: Vec<(usize, usize)> =
        ends.into_values().filter(|(first, last)| first != last).collect();
    spans.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (first, last) in spans {
        match merged.last_mut() {
            Some(before) if first < before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}
