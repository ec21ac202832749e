use std::time::Duration;

use crate::DAY;

/// The pause after the first refusal; each further one doubles it. Too many requests at once pass
/// within seconds.
const FIRST: Duration = Duration::from_secs(15);

/// The longest pause, and the one where the allowance is as good as used up.
pub(crate) const LONGEST: Duration = Duration::from_secs(900);

/// How long a single call is waited for that tries whether calls go through again.
const PROBE: Duration = Duration::from_secs(60);

/// Calls that the other side refused because of the allowance.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    until: Duration,
    /// Refusals in a row; 0 where calls go through.
    in_a_row: u32,
    /// A call is out that tries it.
    probing: bool,
}

impl Refusal {
    pub(crate) const fn new() -> Self {
        Self { until: Duration::ZERO, in_a_row: 0, probing: false }
    }

    pub(crate) fn refused(
        &mut self,
        exhausted: bool,
        retry_after: Option<Duration>,
        now: Duration,
    ) {
        // Those that were out at the same time are one refusal.
        if self.in_a_row == 0 || self.probing || now >= self.until {
            self.in_a_row = self.in_a_row.saturating_add(1);
            let doubled = FIRST.saturating_mul(1 << (self.in_a_row - 1).min(10));
            let pause = if exhausted { LONGEST } else { doubled.min(LONGEST) };
            self.until = now.saturating_add(pause);
            self.probing = false;
        }
        // Its word counts, where it asks for more; a day frees any allowance.
        let asked = retry_after.unwrap_or_default().min(DAY);
        self.until = self.until.max(now.saturating_add(asked));
    }

    /// A call goes out: as long as none has gone through, it goes alone.
    pub(crate) fn called(&mut self, now: Duration) {
        if self.in_a_row > 0 && now >= self.until {
            self.probing = true;
            self.until = now.saturating_add(PROBE);
        }
    }

    /// A call goes out before its time, to find out.
    pub(crate) fn try_now(&mut self, now: Duration) {
        if self.in_a_row > 0 {
            self.probing = true;
            self.until = self.until.max(now.saturating_add(PROBE));
        }
    }

    pub(crate) fn went_through(&mut self, now: Duration) {
        // An answer that was on its way already when others were refused proves nothing.
        if self.probing || now >= self.until {
            *self = Self::new();
        }
    }

    pub(crate) fn until(&self) -> Duration {
        self.until
    }
}
