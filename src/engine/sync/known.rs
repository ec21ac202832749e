//! What is known of rows beyond the place in the log where a sync stands.

use crate::capture::row;
use crate::engine::plan::Plan;
use crate::engine::queue;
use crate::log::batch::Entry;
use change::snapshot::Snapshot;
use foldhash::HashMap;
use merge::Side;
use std::collections::VecDeque;

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
    /// Rows that this sync has inserted many at a time, in their order, and the tick they came after.
    inserted: VecDeque<(Inserted, u64)>,
}

/// Rows that were inserted together, and that hold what the sync has agreed on.
pub struct Inserted {
    pub side: Side,
    /// Their lowest and highest key.
    pub keys: (Vec<u8>, Vec<u8>),
    /// The first and last number under which capture may have noted them.
    pub numbers: (i64, i64),
    /// Whether it has: else nobody wants them.
    pub noted: bool,
}

/// Of so many stretches of inserted rows the keys are remembered one by one.
const MOST_STRETCHES: usize = 64;

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
            || self.inserted.iter().any(|(inserted, _)| {
                let (lowest, highest) = &inserted.keys;
                inserted.side == side
                    && entry.seq < inserted.numbers.0
                    && (lowest.as_slice()..=highest.as_slice()).contains(&key)
            })
    }

    pub(super) fn note(&mut self, mark: u64, xid: u64, seq: i64) {
        let newer = self.rows.entry(mark).or_default();
        newer.xid = newer.xid.max(xid);
        newer.seq = newer.seq.max(seq);
        newer.tick = self.tick;
    }

    /// The sync has inserted rows, and has linked them as they are.
    pub(in crate::engine) fn inserted(&mut self, mut inserted: Inserted) {
        if self.inserted.len() >= MOST_STRETCHES
            && !inserted.noted
            && let Some((last, _)) = self.inserted.pop_back_if(|(last, _)| !last.noted)
        {
            // A key too many costs a look at its row.
            inserted.keys.0 = inserted.keys.0.min(last.keys.0);
            inserted.keys.1 = inserted.keys.1.max(last.keys.1);
        }
        self.inserted.push_back((inserted, self.tick));
    }

    /// Is it an insert of the sync's own that says nothing which it does not know?
    pub(super) fn is_own(&self, plan: &Plan, side: Side, entry: &Entry) -> bool {
        if self.inserted.is_empty() || entry.op != row::INSERT || entry.origin != plan.origin(side)
        {
            return false;
        }
        let place = self.inserted.partition_point(|(i, _)| i.numbers.1 < entry.seq);
        self.inserted.get(place).is_some_and(|(i, _)| i.noted && i.numbers.0 <= entry.seq)
    }

    /// Everything up to a tick is settled.
    pub(super) fn settled(&mut self, tick: u64, seen: &Snapshot) {
        self.rows.retain(|_, newer| newer.tick >= tick);
        self.inserted.retain(|(_, since)| *since >= tick);
        for below in &mut self.below {
            if *below <= seen.xmin {
                *below = 0;
            }
        }
    }
}
