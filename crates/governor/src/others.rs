use std::time::Duration;

use crate::DAY;

/// Hints come late, out of order, and before our last calls are counted: the highest of this time and of
/// the one before it counts, so that no single low one lets calls go.
const SETTLES: Duration = Duration::from_secs(300);

/// What the other side says, and what of it is not ours.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Calls that are allowed in a day; 0 where nobody has said.
    allowed: u64,
    /// The highest number of calls of others in this stretch of time, and in that before it.
    highest: u64,
    before: u64,
    /// The number of the stretch.
    stretch: u64,
    heard: Duration,
}

impl Others {
    pub(crate) const fn new() -> Self {
        Self { allowed: 0, highest: 0, before: 0, stretch: 0, heard: Duration::ZERO }
    }

    /// `ours` of `used` are our own.
    pub(crate) fn hear(&mut self, used: u64, ours: u64, allowed: u64, now: Duration) {
        let stretch = (now.as_secs() / SETTLES.as_secs()).max(self.stretch);
        let others = used.saturating_sub(ours);
        match stretch - self.stretch {
            0 => self.highest = self.highest.max(others),
            1 => (self.before, self.highest) = (self.highest, others),
            _ => (self.before, self.highest) = (0, others),
        }
        self.stretch = stretch;
        self.allowed = allowed;
        self.heard = self.heard.max(now);
    }

    /// What others used. After a day without word all that was used then is free again.
    pub(crate) fn used(&self, now: Duration) -> u64 {
        if now.saturating_sub(self.heard) > DAY { 0 } else { self.highest.max(self.before) }
    }

    pub(crate) fn allowed(&self) -> Option<u64> {
        (self.allowed > 0).then_some(self.allowed)
    }

    /// When the other side last said something.
    pub(crate) fn heard(&self) -> Duration {
        self.heard
    }
}
