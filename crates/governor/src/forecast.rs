use std::time::Duration;

use crate::DAY;
use crate::governor::{Governor, Urgency};
use crate::window::QUARTER;

/// How calls of an account go on if nothing changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Our own calls an hour, as in about the last one.
    pub ours_an_hour: f64,
    /// By how much an hour what others used grows, as in the last ones.
    pub others_an_hour: f64,
    /// Calls that will be used in 24 hours' time, of the 24 hours that end then. Ours are held back before they
    /// reach the reserve.
    pub expected: u64,
    /// In which time the calls that others may not lack begin to be used, if nobody held back; `None`: not in the next
    /// 24 hours.
    pub reserve_reached: Option<Duration>,
}

/// How it stands with the allowance of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Everything goes when it wishes to.
    Ok,
    /// Polling is rarer than wished, or changes wait for each other and go in fewer calls.
    Slowed,
    /// Nothing goes before others let go of something, or the other side takes calls again.
    Stopped,
}

/// From here on polling counts as slowed: less is not worth a word.
const WORTH_A_WORD: f64 = 1.05;

impl Governor {
    pub fn standing(&self, now: Duration) -> Standing {
        let refused = self.next_call_at(now, Urgency::Person) > now;
        match self.pace(now) {
            _ if refused => Standing::Stopped,
            Some(pace) if pace.left == 0 => Standing::Stopped,
            Some(_) if self.stretch() > WORTH_A_WORD => Standing::Slowed,
            Some(_) if self.next_call_at(now, Urgency::Change) > now => Standing::Slowed,
            _ => Standing::Ok,
        }
    }

    /// `None`: there is no limit.
    pub fn forecast(&self, now: Duration) -> Option<Forecast> {
        self.pace(now)?;
        let allowed = self.others.allowed().unwrap_or(self.limits.assumed);
        let limit = allowed.saturating_sub(self.reserve());
        let rate: f64 = self.window.rates(now).iter().sum();
        let growth = self.others.growth(now);
        let at = |time: Duration| {
            let released: u64 =
                self.window.releases(now).filter(|(in_, _)| *in_ <= time).map(|(_, n)| n).sum();
            let seconds = time.as_secs_f64();
            let used = self.used(now).saturating_sub(released) as f64;
            (used + rate * seconds, growth * seconds)
        };
        // By the quarter of an hour, as calls are counted. What was called in the quarter that goes on is released a day
        // after its end.
        let times = (0..=96).map(|quarter| QUARTER * quarter);
        let reserve_reached = times.into_iter().find(|&time| {
            let (ours, others) = at(time);
            ours + others >= limit as f64
        });
        let (ours, others) = at(DAY + QUARTER);
        let expected = (ours - rate * QUARTER.as_secs_f64()).min(limit as f64) + others;
        Some(Forecast {
            ours_an_hour: rate * 3600.0,
            others_an_hour: growth * 3600.0,
            expected: expected.min(allowed as f64) as u64,
            reserve_reached,
        })
    }
}
