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

/// For how long others are expected to go on as in the last hours.
const FORESEEN: Duration = Duration::from_secs(12 * 3600);

/// What is only expected takes no more than this part of the pace.
const EXPECTED: f64 = 0.5;

impl Pace {
    /// `share` is what we may have used at any time; each second others take `growth` of it.
    pub(crate) fn new<const KINDS: usize>(
        share: u64,
        growth: f64,
        window: &Window<KINDS>,
        now: Duration,
    ) -> Self {
        let mut used = window.total(now);
        let left = share.saturating_sub(used);
        // Until each release, no more may go than there is room before it.
        let (mut rate, mut foreseen) = (share as f64 / DAY.as_secs_f64(), f64::INFINITY);
        for (time, calls) in window.releases(now).chain([(DAY, 0)]) {
            let room = share.saturating_sub(used) as f64;
            let taken = growth * time.min(FORESEEN).as_secs_f64();
            let seconds = time.as_secs_f64().max(1.0);
            rate = rate.min(room / seconds);
            foreseen = foreseen.min((room - taken) / seconds);
            used = used.saturating_sub(calls);
        }
        let rate = rate.min(foreseen.max(rate * EXPECTED));
        Self { left, rate, burst: (left as f64 * BURST).max(1.0) }
    }
}

/// When at least one call of the share is free again.
pub(crate) fn next_room<const KINDS: usize>(
    share: u64,
    window: &Window<KINDS>,
    now: Duration,
) -> Option<Duration> {
    let mut used = window.total(now);
    if used < share {
        return Some(now);
    }
    window.releases(now).find_map(|(time, calls)| {
        used -= calls;
        (used < share).then(|| now.saturating_add(time))
    })
}
