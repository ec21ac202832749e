//! How fast a sync may go: so many calls, or records written, in any second, minute, hour or day.

use document::RateLimits;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Moments that are remembered of a span; of more, several are taken as one, at the time of the first.
const MOST_MOMENTS: u32 = 1000;

/// One span.
struct Span {
    length: Duration,
    /// How many moments may lie in it, and what each of them stands for.
    most: usize,
    each: u32,
    moments: VecDeque<Instant>,
    /// What is left of the latest moment.
    left: u32,
}

impl Span {
    fn new(length: Duration, most: u32) -> Self {
        let each = most.div_ceil(MOST_MOMENTS).max(1);
        Self { length, most: (most / each) as usize, each, moments: VecDeque::new(), left: 0 }
    }

    fn forget(&mut self, now: Instant) {
        while self.moments.front().is_some_and(|&at| now.duration_since(at) >= self.length) {
            self.moments.pop_front();
        }
        if self.moments.is_empty() {
            self.left = 0;
        }
    }

    fn room(&mut self, now: Instant) -> usize {
        self.forget(now);
        (self.most - self.moments.len()) * self.each as usize + self.left as usize
    }

    fn take(&mut self, count: usize, now: Instant) {
        let from_left = count.min(self.left as usize);
        self.left -= from_left as u32;
        let mut rest = count - from_left;
        while rest > 0 {
            self.moments.push_back(now);
            let part = rest.min(self.each as usize);
            self.left = self.each - part as u32;
            rest -= part;
        }
    }

    fn free_at(&self) -> Option<Instant> {
        let full = self.moments.len() >= self.most && self.left == 0;
        // More may have been taken than there was room for: then the last of those in excess counts.
        let over = (self.moments.len() + 1).saturating_sub(self.most + 1);
        full.then(|| self.moments.get(over).map(|&at| at + self.length)).flatten()
    }
}

/// The spans of a sync.
#[derive(Default)]
pub struct Pace {
    limits: RateLimits,
    spans: Vec<Span>,
}

impl Pace {
    /// Keeps what is remembered where the limits are as before.
    pub fn set(&mut self, limits: &RateLimits) {
        if self.limits == *limits {
            return;
        }
        self.limits = limits.clone();
        self.spans = [
            (1, limits.per_second),
            (60, limits.per_minute),
            (3600, limits.per_hour),
            (86_400, limits.per_day),
        ]
        .into_iter()
        .filter_map(|(seconds, most)| Some(Span::new(Duration::from_secs(seconds), most?)))
        .collect();
    }

    /// How many more may leave now.
    pub fn room(&mut self) -> usize {
        let now = Instant::now();
        self.spans.iter_mut().map(|span| span.room(now)).min().unwrap_or(usize::MAX)
    }

    pub fn take(&mut self, count: usize) {
        let now = Instant::now();
        for span in &mut self.spans {
            span.take(count, now);
        }
    }

    /// When the next may leave; `None`: now.
    pub fn free_at(&self) -> Option<Instant> {
        let now = Instant::now();
        self.spans.iter().filter_map(Span::free_at).filter(|at| *at > now).max()
    }
}
