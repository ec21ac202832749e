use std::time::Duration;

use crate::DAY;

/// Calls are counted by the quarter of an hour: a quarter is forgotten as a whole, a day after its end,
/// so that this is by how much the day is too long, one part in 96.
pub(crate) const QUARTER: Duration = Duration::from_secs(900);

/// The quarters of a day, and the one that is only partly in it.
const QUARTERS: usize = 97;

/// What we ourselves did in the last 24 hours, by `KINDS` of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Window<const KINDS: usize> {
    /// The number of the quarter that is going on, since the fixed point.
    quarter: u64,
    /// Its place is that number modulo the length.
    counts: [[u32; KINDS]; QUARTERS],
}

impl<const KINDS: usize> Window<KINDS> {
    pub(crate) const fn new() -> Self {
        Self { quarter: 0, counts: [[0; KINDS]; QUARTERS] }
    }

    pub(crate) fn add(&mut self, kind: usize, n: u32, now: Duration) {
        let quarter = self.quarter_at(now);
        let passed = quarter - self.quarter;
        for n in 1..=passed.min(QUARTERS as u64) {
            self.counts[place(self.quarter + n)] = [0; KINDS];
        }
        self.quarter = quarter;
        if let Some(count) = self.counts[place(quarter)].get_mut(kind) {
            *count = count.saturating_add(n);
        }
    }

    pub(crate) fn total(&self, now: Duration) -> u64 {
        self.releases(now).map(|(_, count)| count).sum()
    }

    pub(crate) fn by_kind(&self, now: Duration) -> [u64; KINDS] {
        self.since(now, QUARTERS as u64)
    }

    /// How many a second, by kind, in the quarters of about the last hour.
    pub(crate) fn rates(&self, now: Duration) -> [f64; KINDS] {
        const HOUR: u64 = 5;
        let begun = (self.quarter_at(now) + 1).saturating_sub(HOUR) * QUARTER.as_secs();
        let seconds = (now.as_secs_f64() - begun as f64).max(1.0);
        self.since(now, HOUR).map(|count| count as f64 / seconds)
    }

    /// By kind, in so many quarters with the one that is going on.
    fn since(&self, now: Duration, quarters: u64) -> [u64; KINDS] {
        let first = (self.quarter_at(now) + 1).saturating_sub(quarters);
        let mut sums = [0; KINDS];
        for quarter in first..=self.quarter {
            for (sum, count) in sums.iter_mut().zip(self.counts[place(quarter)]) {
                *sum += u64::from(count);
            }
        }
        sums
    }

    /// In which time how many fall out of the window, in that order.
    pub(crate) fn releases(&self, now: Duration) -> impl Iterator<Item = (Duration, u64)> {
        let first = (self.quarter_at(now) + 1).saturating_sub(QUARTERS as u64);
        (first..=self.quarter).filter_map(move |quarter| {
            let count = self.counts[place(quarter)].iter().map(|&n| u64::from(n)).sum();
            let end = QUARTER.saturating_mul(u32::try_from(quarter + 1).unwrap_or(u32::MAX)) + DAY;
            (count > 0).then(|| (end.saturating_sub(now), count))
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
