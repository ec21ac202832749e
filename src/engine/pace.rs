//! How fast a sync may go: so many calls, or records written, in any second, minute, hour or day. What counts is kept
//! in `sync._pace` too, so that neither a restart nor a change of hands begins anew.

use super::plan::Plan;
use crate::capture::row;
use crate::sql::{self, Arg};
use document::RateLimits;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Moments that are remembered of a span; of more, several are taken as one, at the time of the last.
const MOST_MOMENTS: u32 = 1000;
/// The finest time that is written down.
const FINEST: Duration = Duration::from_secs(1);

/// The spans that a document can name, the shortest first.
fn spans(limits: &RateLimits) -> impl Iterator<Item = (&'static str, Duration, u32)> {
    [
        ("a second", 1, limits.per_second),
        ("a minute", 60, limits.per_minute),
        ("an hour", 3600, limits.per_hour),
        ("a day", 86_400, limits.per_day),
    ]
    .into_iter()
    .filter_map(|(name, seconds, most)| Some((name, Duration::from_secs(seconds), most?)))
}

/// One span.
struct Span {
    name: &'static str,
    length: Duration,
    limit: u32,
    /// How many moments may lie in it, and what each of them stands for.
    most: usize,
    each: u32,
    moments: VecDeque<Instant>,
    /// What is left of the latest moment.
    left: u32,
}

impl Span {
    fn new(name: &'static str, length: Duration, limit: u32) -> Self {
        let each = limit.div_ceil(MOST_MOMENTS).max(1);
        let most = (limit / each) as usize;
        Self { name, length, limit, most, each, moments: VecDeque::new(), left: 0 }
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
        self.most.saturating_sub(self.moments.len()) * self.each as usize + self.left as usize
    }

    fn take(&mut self, count: usize, at: Instant) {
        let from_left = count.min(self.left as usize);
        self.left -= from_left as u32;
        if from_left > 0
            && let Some(moment) = self.moments.back_mut()
        {
            // All that it stands for lies in the span until the last of it does not.
            *moment = at;
        }
        let mut rest = count - from_left;
        while rest > 0 {
            self.moments.push_back(at);
            let part = rest.min(self.each as usize);
            self.left = self.each - part as u32;
            rest -= part;
        }
    }

    fn free_at(&self) -> Option<Instant> {
        if self.moments.len() < self.most || self.left > 0 {
            return None;
        }
        // More may have been taken than there was room for: then the last of those in excess counts.
        let over = self.moments.len() - self.most;
        self.moments.get(over).map(|&at| at + self.length)
    }
}

/// The spans of a sync.
#[derive(Default)]
pub struct Pace {
    limits: RateLimits,
    spans: Vec<Span>,
}

impl Pace {
    /// Is what is remembered of other limits than these?
    pub fn is_of_other(&self, limits: &RateLimits) -> bool {
        self.limits != *limits
    }

    /// Begins with what was done so long ago, the longest ago first.
    pub fn set(&mut self, limits: &RateLimits, done: &[(Duration, usize)]) {
        self.limits = limits.clone();
        self.spans =
            spans(limits).map(|(name, length, most)| Span::new(name, length, most)).collect();
        let now = Instant::now();
        for &(age, count) in done {
            let at = now.checked_sub(age).unwrap_or(now);
            for span in self.spans.iter_mut().filter(|span| age < span.length) {
                span.take(count, at);
            }
        }
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
        self.held().map(|held| held.0)
    }

    /// The same with the limit that holds it, in words.
    pub fn held(&self) -> Option<(Instant, String)> {
        let now = Instant::now();
        let held = self.spans.iter().filter_map(|span| Some((span.free_at()?, span)));
        held.filter(|(at, _)| *at > now)
            .max_by_key(|(at, _)| *at)
            .map(|(at, span)| (at, format!("rate limit of {} {}", span.limit, span.name)))
    }
}

/// Writes down what a sync with limits has done, or is about to.
pub fn note(plan: &Plan, count: usize) {
    let Some((_, longest, _)) = spans(&plan.config.rate_limits).last() else { return };
    if count == 0 {
        return;
    }
    let step = (longest / MOST_MOMENTS).max(FINEST).as_micros() as i64;
    // Where it is read again all of a step counts as done at its end.
    let end = (row::now().div_euclid(step) + 1) * step;
    let oldest = end - step - longest.as_micros() as i64;
    sql::as_extension(|| {
        sql::often(
            "WITH old AS (DELETE FROM sync._pace WHERE sync = $1 AND at < '2000-01-01 00:00:00+00'::timestamptz + $4::float8 * interval '1 microsecond')
             INSERT INTO sync._pace AS p (sync, at, count)
             VALUES ($1, '2000-01-01 00:00:00+00'::timestamptz + $2::float8 * interval '1 microsecond', $3::int8)
             ON CONFLICT (sync, at) DO UPDATE SET count = p.count + EXCLUDED.count",
            &[
                Arg::Int4(plan.id),
                Arg::Text(&end.to_string()),
                Arg::Text(&count.to_string()),
                Arg::Text(&oldest.to_string()),
            ],
        )
    });
}

/// What a sync has done, and how long ago, the longest ago first.
pub fn noted(sync: i32) -> Vec<(Duration, usize)> {
    sql::read(
        "SELECT (GREATEST(0, EXTRACT(epoch FROM pg_catalog.clock_timestamp() - at)) * 1000)::int8, count
           FROM sync._pace WHERE sync = $1 ORDER BY at",
        &[Arg::Int4(sync)],
    )
    .iter()
    .filter_map(|row| {
        let [age, count] = [0, 1].map(|n| row[n].as_deref().and_then(|n| n.parse::<u64>().ok()));
        Some((Duration::from_millis(age?), count? as usize))
    })
    .collect()
}

/// A sync waits for no limit any more.
pub fn take_back(sync: i32) {
    sql::query("DELETE FROM sync._pace_wait WHERE sync = $1", &[Arg::Int4(sync)]);
}

/// Has `sync.status` say what a sync waits for.
pub fn tell(sync: i32, until: Instant, limit: &str) {
    let wait = until.saturating_duration_since(Instant::now()).as_secs_f64();
    sql::query(
        "INSERT INTO sync._pace_wait AS w (sync, until, reason) VALUES ($1, pg_catalog.clock_timestamp() + $2::float8 * interval '1 second', $3)
         ON CONFLICT (sync) DO UPDATE SET until = EXCLUDED.until, reason = EXCLUDED.reason",
        &[Arg::Int4(sync), Arg::Text(&wait.to_string()), Arg::Text(limit)],
    );
}
