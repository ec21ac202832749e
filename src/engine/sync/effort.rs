//! How much a sync takes at once, and of its worker's time.

use std::time::{Duration, Instant};

/// How much of its worker's time a sync takes.
#[derive(Default)]
pub struct Effort {
    /// Time spent since it last had nothing to do.
    busy: Duration,
    /// When a piece of its work last took too long for the others to wait for it.
    slow: Option<Instant>,
    /// Pieces of work so far, and those of them that took too long; both fade.
    pieces: u32,
    slow_pieces: u32,
}

/// A sync that has been at work for so long is better served by a worker of its own.
const LONG_WORK: Duration = Duration::from_millis(500);

/// So is one of which a single piece takes longer than this.
const SLOW_PIECE: Duration = Duration::from_millis(100);

/// What only looked whether there is anything to do takes less.
const NOTHING: Duration = Duration::from_millis(1);

/// The last pieces of work that count for what is to be expected of the next.
const MEMORY: u32 = 64;

impl Effort {
    /// A piece of work took so long; `more`: and is not the last.
    pub fn note(&mut self, took: Duration, more: bool) {
        self.busy = if more { self.busy + took } else { Duration::ZERO };
        if took > SLOW_PIECE {
            self.slow = Some(Instant::now());
        }
        if took > NOTHING {
            self.pieces += 1;
            self.slow_pieces += u32::from(took > SLOW_PIECE);
        }
        if self.pieces == MEMORY {
            (self.pieces, self.slow_pieces) = (MEMORY / 2, self.slow_pieces / 2);
        }
    }

    /// Does it keep other syncs waiting, or has in the last `time`?
    pub fn is_heavy(&self, time: Duration) -> bool {
        self.busy > LONG_WORK || self.was_slow(time)
    }

    /// Was its work slow in the last `time`, and not only once while the machine was busy?
    pub fn is_slow(&self, time: Duration) -> bool {
        self.was_slow(time) && self.slow_pieces * 2 >= self.pieces
    }

    fn was_slow(&self, time: Duration) -> bool {
        self.slow.is_some_and(|at| at.elapsed() < time)
    }
}

/// How many changes one transaction works on: as many as the document says, and up to ten times as
/// many of a long backlog while that takes no longer than users may have to wait for a row. More at
/// once are cheaper, because rows that lie side by side are written together.
#[derive(Default)]
pub(super) struct Chunk(usize);

/// Longest time that a transaction of ours is meant to hold rows.
const HOLD: Duration = Duration::from_millis(50);

impl Chunk {
    pub(super) fn size(&mut self, least: usize) -> usize {
        self.0 = self.0.clamp(least, least.saturating_mul(10));
        self.0
    }

    pub(super) fn learn(&mut self, worked_on: usize, took: Duration) {
        if took > HOLD {
            self.0 /= 2;
        } else if worked_on >= self.0 && took < HOLD / 3 {
            self.0 *= 2;
        }
    }
}
