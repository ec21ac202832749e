use std::time::Duration;

use crate::DAY;

/// Hints come late, out of order, and before our last calls are counted: the highest of this time and of
/// the one before it counts, so that no single low one lets calls go.
const SETTLES: Duration = Duration::from_secs(300);

const HOUR: Duration = Duration::from_secs(3600);

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
    /// What it was when first heard of in each of the last hours, and when that was; newest first.
    earlier: [(Duration, u64); HOURS],
}

/// Over so many hours it is seen how fast others go.
const HOURS: usize = 4;

/// No less than this is enough to see it.
const SHORTEST: Duration = Duration::from_secs(1800);

impl Others {
    pub(crate) const fn new() -> Self {
        Self {
            allowed: 0,
            highest: 0,
            before: 0,
            stretch: 0,
            heard: Duration::ZERO,
            earlier: [(Duration::ZERO, 0); HOURS],
        }
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
        let (last, _) = self.earlier[0];
        if last.is_zero() || now.saturating_sub(last) >= HOUR {
            self.earlier.rotate_right(1);
            self.earlier[0] = (now, self.highest.max(self.before));
        }
    }

    /// By how much a second what others used has grown in the last hours; 0 where it has not, or where it is too
    /// early to tell.
    pub(crate) fn growth(&self, now: Duration) -> f64 {
        let since = |at: Duration| now.saturating_sub(at);
        let known = |(at, _): &&(Duration, u64)| {
            *at > Duration::ZERO && (SHORTEST..=HOUR * (HOURS as u32 + 1)).contains(&since(*at))
        };
        self.earlier
            .iter()
            .filter(known)
            .max_by_key(|(at, _)| since(*at))
            .map_or(0.0, |&(at, used)| {
                self.used(now).saturating_sub(used) as f64 / since(at).as_secs_f64()
            })
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
