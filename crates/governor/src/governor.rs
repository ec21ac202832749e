use std::time::Duration;

use crate::others::Others;
use crate::pace::{self, Pace};
use crate::refusal::{self, Refusal};
use crate::window::Window;

/// How much of an account's allowance we may use.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The part that is left to others, from 0 to 1.
    pub reserve_share: f64,
    /// Calls a day that are taken to be allowed until the other side says; 0: no limit.
    pub assumed: u64,
}

impl Default for Limits {
    /// A fifth is left to others. The assumption is the smallest allowance that Salesforce gives.
    fn default() -> Self {
        Self { reserve_share: 0.2, assumed: 15_000 }
    }
}

/// How much hurry a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Loads, audits: leaves half of what can be saved up to changes. One minute in ten it is as
    /// urgent as a change, so that many changes do not starve it.
    Background,
    /// A change that is to be delivered or fetched.
    Change,
    /// Somebody sits there and waits. May use the reserve.
    Person,
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Writes there what was changed here.
    Push,
    /// Asks for what changed there.
    Poll,
    /// Goes through what there is.
    Load,
    /// All else: logins, descriptions, looking up what became of a write, a person's questions.
    Other,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Push, Self::Poll, Self::Load, Self::Other];
}

/// The pacing of calls to one account; see the crate. Plain data.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Governor {
    pub(crate) limits: Limits,
    pub(crate) window: Window<{ Kind::ALL.len() }>,
    pub(crate) others: Others,
    /// The events that were delivered, which have an allowance of their own.
    pub(crate) events: Window<1>,
    pub(crate) event_others: Others,
    /// How many times as long as wished polling was last told to wait; 0: it never asked.
    pub(crate) stretch: f64,
    refusal: Refusal,
    /// Calls that went and that the pace had not made up for at that time: what is saved up is the burst
    /// less these, so that it grows and shrinks with what is left.
    spent: f64,
    spent_at: Duration,
    last_call: Duration,
}

impl Governor {
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            window: Window::new(),
            others: Others::new(),
            events: Window::new(),
            event_others: Others::new(),
            stretch: 0.0,
            refusal: Refusal::new(),
            spent: 0.0,
            spent_at: Duration::ZERO,
            last_call: Duration::ZERO,
        }
    }

    /// Other limits, such as after a change of the configuration. What is known of calls stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// What the other side says is used of what is allowed. A hint: it may come late and jump.
    pub fn usage(&mut self, used: u64, allowed: u64, now: Duration) {
        if allowed > 0 {
            self.make_up(now);
            self.others.hear(used, self.window.total(now), allowed, now);
        }
    }

    /// So many calls that count go out now.
    pub fn note_call(&mut self, kind: Kind, n: u32, now: Duration) {
        if n == 0 {
            return;
        }
        self.make_up(now);
        self.spent += f64::from(n);
        self.window.add(kind as usize, n, now);
        self.refusal.called(now);
        self.last_call = self.last_call.max(now);
    }

    /// A call goes out although calls are held back, because somebody wants to know: what becomes of it
    /// tells whether they go through again. To be noted like any other.
    pub fn try_now(&mut self, now: Duration) {
        self.refusal.try_now(now);
    }

    /// A call was refused because of the allowance (a fault of the kind Quota), with the pause that the
    /// other side asks for, if it does. Returns when the next call may try it.
    pub fn blocked_until(&mut self, now: Duration, retry_after: Option<Duration>) -> Duration {
        // Near the end of the allowance a call every quarter of an hour finds out; elsewhere it was too
        // much at once, and that passes sooner.
        let exhausted =
            self.others.allowed().is_some_and(|allowed| self.used(now) >= allowed / 20 * 19);
        self.refusal.refused(exhausted, retry_after, now);
        self.refusal.until()
    }

    /// A call was answered otherwise than by a refusal: calls go through again.
    pub fn went_through(&mut self, now: Duration) {
        self.refusal.went_through(now);
    }

    /// When a call may go out: `now`, or later. Not a reservation: to be asked again at that time, and
    /// whenever something has become known.
    pub fn next_call_at(&self, now: Duration, urgency: Urgency) -> Duration {
        let unblocked = self.refusal.until().max(now);
        let (Some(share), Some(pace)) = (self.share(now), self.pace(now)) else { return unblocked };
        match urgency {
            Urgency::Person => unblocked,
            Urgency::Change => unblocked.max(self.paced(now, share, pace, 1.0)),
            Urgency::Background => {
                let patient = self.paced(now, share, pace, 1.0_f64.max(pace.burst / 2.0));
                let turn = self.paced(turn(now), share, pace, 1.0);
                unblocked.max(patient.min(turn))
            }
        }
    }

    /// How fast calls may go now; `None`: there is no limit.
    pub fn pace(&self, now: Duration) -> Option<Pace> {
        Some(Pace::new(self.share(now)?, self.others.growth(now), &self.window, now))
    }

    /// Calls of the last 24 hours as far as we know, ours and those of others.
    pub fn used(&self, now: Duration) -> u64 {
        self.window.total(now).saturating_add(self.others.used(now))
    }

    /// Calls a day that are allowed, where the other side has said so.
    pub fn allowed(&self) -> Option<u64> {
        self.others.allowed()
    }

    /// Our own calls of the last 24 hours, in the order of [`Kind::ALL`].
    pub fn used_by_us(&self, now: Duration) -> [u64; Kind::ALL.len()] {
        self.window.by_kind(now)
    }

    /// Calls a day that are left to others.
    pub fn reserve(&self) -> u64 {
        self.reserve_of(self.others.allowed().unwrap_or(self.limits.assumed))
    }

    pub(crate) fn reserve_of(&self, allowed: u64) -> u64 {
        (allowed as f64 * self.limits.reserve_share.clamp(0.0, 1.0)).ceil() as u64
    }

    /// What we may have used in any 24 hours: the allowance without the reserve and without what others
    /// use of the rest. `None`: there is no limit.
    pub(crate) fn share(&self, now: Duration) -> Option<u64> {
        let allowed = self.others.allowed().unwrap_or(self.limits.assumed);
        if allowed == 0 {
            return None;
        }
        let ours = allowed.saturating_sub(self.reserve_of(allowed));
        Some(ours.saturating_sub(self.others.used(now)))
    }

    /// When so many calls are saved up.
    fn paced(&self, now: Duration, share: u64, pace: Pace, needed: f64) -> Duration {
        if pace.left == 0 {
            let room = pace::next_room(share, &self.window, now);
            // Where it is others that fill the share, only a call tells whether they have let go of
            // something: one a quarter of an hour may use the reserve for that.
            let probe = (self.others.used(now) > self.window.total(now)).then(|| {
                self.others.heard().max(self.last_call).saturating_add(refusal::LONGEST).max(now)
            });
            return room
                .into_iter()
                .chain(probe)
                .min()
                .unwrap_or(now.saturating_add(refusal::LONGEST));
        }
        let missing = needed - (pace.burst - self.spent_by(now, pace));
        if missing <= 0.0 {
            return now;
        }
        // By then the pace may be another: ask again before it is much older.
        let wait = Duration::try_from_secs_f64(missing / pace.rate).unwrap_or(refusal::LONGEST);
        now.saturating_add(wait.clamp(Duration::from_micros(1), refusal::LONGEST))
    }

    /// What the pace has not made up for by now.
    fn spent_by(&self, now: Duration, pace: Pace) -> f64 {
        let made_up = now.saturating_sub(self.spent_at).as_secs_f64() * pace.rate;
        // Calls that went although none were left delay what follows, but not for hours.
        (self.spent - made_up).clamp(0.0, 2.0 * pace.burst)
    }

    fn make_up(&mut self, now: Duration) {
        if let Some(pace) = self.pace(now) {
            self.spent = self.spent_by(now, pace);
            self.spent_at = self.spent_at.max(now);
        }
    }
}

/// The next minute in which background calls have their turn: this one, if it has.
fn turn(now: Duration) -> Duration {
    let minute = now.as_secs() / 60;
    if minute.is_multiple_of(10) {
        now
    } else {
        Duration::from_secs(minute.next_multiple_of(10) * 60)
    }
}
