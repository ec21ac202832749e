use std::time::Duration;

use crate::DAY;
use crate::window::Window;

/// How fast calls may go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Calls that are left to us at this moment.
    pub left: u64,
    /// Calls a second that can be kept up.
    pub rate: f64,
    /// Most calls that can be saved up, to go at once.
    pub burst: f64,
}

/// What is saved up at most is this part of what is left.
const BURST: f64 = 0.02;

impl Pace {
    /// `share` is what we may have used at any time.
    pub(crate) fn new(share: u64, window: &Window, now: Duration) -> Self {
        let mut used = window.total(now);
        let left = share.saturating_sub(used);
        // Until each release, no more may go than there is room before it.
        let mut rate = share as f64 / DAY.as_secs_f64();
        for (time, calls) in window.releases(now) {
            let room = share.saturating_sub(used) as f64;
            rate = rate.min(room / time.as_secs_f64().max(1.0));
            used = used.saturating_sub(calls);
        }
        Self { left, rate, burst: (left as f64 * BURST).max(1.0) }
    }
}

/// When at least one call of the share is free again.
pub(crate) fn next_room(share: u64, window: &Window, now: Duration) -> Option<Duration> {
    let mut used = window.total(now);
    if used < share {
        return Some(now);
    }
    window.releases(now).find_map(|(time, calls)| {
        used -= calls;
        (used < share).then(|| now.saturating_add(time))
    })
}
