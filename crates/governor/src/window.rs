use std::time::Duration;

use crate::DAY;

/// Calls are counted by the quarter of an hour: a quarter is forgotten as a whole, a day after its end,
/// so that this is by how much the day is too long, one part in 96.
pub(crate) const QUARTER: Duration = Duration::from_secs(900);

/// The quarters of a day, and the one that is only partly in it.
const QUARTERS: usize = 97;

/// Our own calls of the last 24 hours.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// The number of the quarter that is going on, since the fixed point.
    quarter: u64,
    /// Its place is that number modulo the length.
    calls: [u32; QUARTERS],
}

impl Window {
    pub(crate) const fn new() -> Self {
        Self { quarter: 0, calls: [0; QUARTERS] }
    }

    pub(crate) fn add(&mut self, n: u32, now: Duration) {
        let quarter = self.quarter_at(now);
        let passed = quarter - self.quarter;
        for n in 1..=passed.min(QUARTERS as u64) {
            self.calls[place(self.quarter + n)] = 0;
        }
        self.quarter = quarter;
        let calls = &mut self.calls[place(quarter)];
        *calls = calls.saturating_add(n);
    }

    pub(crate) fn total(&self, now: Duration) -> u64 {
        self.releases(now).map(|(_, calls)| calls).sum()
    }

    /// In which time how many calls fall out of the window, in that order.
    pub(crate) fn releases(&self, now: Duration) -> impl Iterator<Item = (Duration, u64)> {
        let first = (self.quarter_at(now) + 1).saturating_sub(QUARTERS as u64);
        (first..=self.quarter).filter_map(move |quarter| {
            let calls = self.calls[place(quarter)];
            let end = QUARTER.saturating_mul(u32::try_from(quarter + 1).unwrap_or(u32::MAX)) + DAY;
            (calls > 0).then(|| (end.saturating_sub(now), u64::from(calls)))
        })
    }

    /// Never goes back.
    fn quarter_at(&self, now: Duration) -> u64 {
        (now.as_secs() / QUARTER.as_secs()).max(self.quarter)
    }
}

fn place(quarter: u64) -> usize {
    // Below 97, thus within any usize.
    (quarter % QUARTERS as u64) as usize
}
