//! What is known of rows beyond the place in the log where a sync stands.

use crate::engine::queue;
use crate::log::batch::Entry;
use change::snapshot::Snapshot;
use foldhash::HashMap;
use merge::Side;

/// What is known of records beyond the cursor, because their rows were read or written since. Images
/// of older changes, which may still be in the log, would set them back.
#[derive(Default)]
pub struct Known {
    rows: HashMap<u64, Newer>,
    /// Changes by transactions below these ids are not to be trusted at all, on each side: after a
    /// load, and after a start, when nobody remembers what was read.
    pub below: [u64; 2],
    /// The number of the last tick taken.
    pub tick: u64,
}

/// A record that is known at a later moment than the cursor stands at.
#[derive(Clone, Copy, Default)]
struct Newer {
    /// It was read when these ids were not yet given.
    xid: u64,
    /// It was written with this number.
    seq: i64,
    /// The tick it happened after: the next one sees whatever came before it.
    tick: u64,
}

impl Known {
    /// Is the row known at a later moment than this change?
    pub(super) fn outdates(&self, entry: &Entry, side: Side, key: &[u8]) -> bool {
        entry.xid < self.below[side as usize]
            || !self.rows.is_empty()
                && self
                    .rows
                    .get(&queue::mark(side, key))
                    .is_some_and(|n| entry.xid < n.xid || entry.seq < n.seq)
    }

    pub(super) fn note(&mut self, mark: u64, xid: u64, seq: i64) {
        let newer = self.rows.entry(mark).or_default();
        newer.xid = newer.xid.max(xid);
        newer.seq = newer.seq.max(seq);
        newer.tick = self.tick;
    }

    /// Everything up to a tick is settled.
    pub(super) fn settled(&mut self, tick: u64, seen: &Snapshot) {
        self.rows.retain(|_, newer| newer.tick >= tick);
        for below in &mut self.below {
            if *below <= seen.xmin {
                *below = 0;
            }
        }
    }
}
