use std::time::Duration;

use crate::governor::Governor;

/// Events have an allowance of their own: a number that may be delivered in 24 hours, to all that listen together.
impl Governor {
    /// What the other side says was delivered of what may be.
    pub fn events_usage(&mut self, used: u64, allowed: u64, now: Duration) {
        if allowed > 0 {
            self.event_others.hear(used, self.events.total(now), allowed, now);
        }
    }

    /// So many events were delivered to us.
    pub fn note_events(&mut self, n: u32, now: Duration) {
        if n > 0 {
            self.events.add(0, n, now);
        }
    }

    /// Events of the last 24 hours as far as we know, ours and those that were delivered to others.
    pub fn events_used(&self, now: Duration) -> u64 {
        self.events.total(now).saturating_add(self.event_others.used(now))
    }

    /// Events that were delivered to us in the last 24 hours.
    pub fn events_by_us(&self, now: Duration) -> u64 {
        self.events.total(now)
    }

    /// Events a day that may be delivered, where the other side meters them and has said so.
    pub fn events_allowed(&self) -> Option<u64> {
        self.event_others.allowed()
    }

    /// May more be delivered to us, for the object of this rank among so many, 0 the most important? A reserve is left
    /// to others, as of calls; of the rest one half is for all objects, the other for fewer and fewer of them. Who does
    /// not listen finds out by polling.
    pub fn may_listen(&self, rank: usize, of: usize, now: Duration) -> bool {
        self.events_allowed().is_none_or(|allowed| {
            let for_us = allowed.saturating_sub(self.reserve_of(allowed));
            let after = rank.min(of) as u64;
            let kept = for_us / 2 * after / (of.max(1) as u64);
            self.events_used(now) < for_us - kept
        })
    }
}
