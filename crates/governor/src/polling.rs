use std::time::Duration;

use crate::governor::{Governor, Kind};

/// Polling takes at most this part of the pace: the rest is there for changes, which come when they come.
const MOST: f64 = 0.75;

/// And this part is always left to it, whatever else goes.
const LEAST: f64 = 0.1;

/// As long as no more than this part of our share was used within a day it is as wished, and as rare as has to be from
/// twice that on: who only begins need not be slow.
const FREE: f64 = 0.005;

/// No interval gets longer than so many times what was wished.
const LONGEST: f64 = 1000.0;

impl Governor {
    /// How many times as long as wished the intervals of polling are to be, 1 or more, where so many polls a second are
    /// wished in all. What is polled more rarely gathers, and costs fewer calls; all intervals are stretched alike,
    /// so that none pays for the others. Before changes have to wait, it is polling that gives way.
    pub fn polling(&mut self, wished: f64, now: Duration) -> f64 {
        self.stretch = match (self.pace(now), self.share(now)) {
            (Some(pace), Some(share)) if wished > 0.0 => {
                let rates = self.window.rates(now);
                // Loads give way to polling, as they do to changes.
                let first = rates[Kind::Push as usize] + rates[Kind::Other as usize];
                let may = (pace.rate * MOST - first).max(pace.rate * LEAST);
                let stretch = if may > 0.0 { wished / may } else { LONGEST };
                let used = self.window.total(now) as f64 / (share as f64).max(1.0);
                let times =
                    (stretch.clamp(1.0, LONGEST) - 1.0) * (used / FREE - 1.0).clamp(0.0, 1.0);
                // In steps, so that what was due at the same time stays so, and goes in one call.
                1.0 + (times * 10.0).ceil() / 10.0
            }
            _ => 1.0,
        };
        self.stretch
    }

    /// What [`Self::polling`] said last.
    pub fn stretch(&self) -> f64 {
        self.stretch.max(1.0)
    }
}
