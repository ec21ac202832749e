use std::time::SystemTime;

/// Numbers by chance that one number tells again (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// From the seed and for the number of cases that the environment says, or a seed by lot and so many cases.
    pub(crate) fn of_environment(cases: u64) -> (u64, u64, Self) {
        let lot = || SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_nanos() as u64;
        let seed = variable("SYNC_EXT_SEED").unwrap_or_else(lot);
        (seed, variable("SYNC_EXT_FUZZ").unwrap_or(cases), Self(seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of so many, from 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}
