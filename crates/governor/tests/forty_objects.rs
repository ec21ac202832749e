//! A day of forty objects against an org that allows 100,000 calls, as the worker goes about it: polling wished every 30
//! seconds (115,200 calls a day), changes that come at a trickle, others who use the org too, and a million changes at
//! once. One step is a second; a call takes no time.

use std::collections::VecDeque;
use std::time::Duration;

use governor::{DAY, Governor, Kind, Limits, Standing, Turns, Urgency};

const ALLOWED: u64 = 100_000;
const SHARE: u64 = 80_000;
const OBJECTS: usize = 40;
const WISHED: f64 = 30.0;
/// Most records of a call that writes.
const CALL: u64 = 800;
/// Each object has a change every so many seconds.
const TRICKLE: u64 = 1200;
const START: u64 = 1_234_567;
const HOUR: u64 = 3600;

/// The calls of a rolling day, ours and those of others, exactly.
#[derive(Default)]
struct Org {
    calls: VecDeque<(u64, u64)>,
    used: u64,
}

impl Org {
    fn call(&mut self, now: u64, n: u64) {
        self.calls.push_back((now, n));
        self.used += n;
    }

    fn used(&mut self, now: u64) -> u64 {
        while let Some(&(at, n)) = self.calls.front() {
            if at + DAY.as_secs() > now {
                break;
            }
            self.used -= n;
            self.calls.pop_front();
        }
        self.used
    }
}

#[derive(Default)]
struct Object {
    poll_due: u64,
    polled_at: u64,
    /// Changes that have not left, and since when the first of them waits.
    changes: u64,
    since: u64,
}

/// What came of a day.
#[derive(Debug, Default)]
struct Seen {
    /// The most that was used of any 24 hours when a call of ours had left.
    highest: u64,
    polls: u64,
    pushes: u64,
    /// The longest that an object was not asked for changes.
    longest_poll: u64,
    /// How long changes waited at the most.
    longest_push: u64,
    /// Changes that left, and those that did not leave in the second in which they came.
    sent: u64,
    waited: u64,
    /// When the last change of the burst had left.
    drained: Option<u64>,
    standings: Vec<Standing>,
}

/// Calls of others in a second of the day, and changes of an object besides the trickle.
struct Day {
    others: fn(u64) -> u64,
    burst: fn(u64) -> u64,
    /// Does polling give way?
    stretch: bool,
}

impl Day {
    const PLAIN: Self = Self { others: |_| 0, burst: |_| 0, stretch: true };

    fn run(&self) -> Seen {
        let mut governor = Governor::new(Limits::default());
        let (mut org, mut turns, mut seen) = (Org::default(), Turns::default(), Seen::default());
        let order: Vec<i32> = (0..OBJECTS as i32).collect();
        let mut objects: Vec<Object> = (0..OBJECTS as u64)
            .map(|n| Object { poll_due: START + n % 30, polled_at: START, ..Object::default() })
            .collect();
        // As the login says.
        governor.usage(0, ALLOWED, Duration::from_secs(START));
        let mut stretch = 1.0;
        for second in 0..DAY.as_secs() {
            let now = START + second;
            let time = Duration::from_secs(now);
            let others = (self.others)(second);
            if others > 0 {
                org.call(now, others);
            }
            if second.is_multiple_of(10) && self.stretch {
                stretch = governor.polling(OBJECTS as f64 / WISHED, time);
            }
            if second % HOUR == HOUR - 1 {
                seen.standings.push(governor.standing(time));
            }
            for (n, object) in objects.iter_mut().enumerate() {
                let trickle = u64::from((second + 29 * n as u64) % TRICKLE == TRICKLE - 1);
                let more = trickle + (self.burst)(second);
                if more > 0 && object.changes == 0 {
                    object.since = now;
                }
                object.changes += more;
            }
            // As the worker does: where a sync has changes, whatever of it is first goes as urgently.
            let may = |governor: &Governor, urgency| governor.next_call_at(time, urgency) == time;
            let (mut change, mut background) = (true, true);
            for id in turns.begin(&order) {
                let object = &mut objects[id as usize];
                while object.changes > 0 || object.poll_due <= now {
                    let urgent = object.changes > 0;
                    let open = if urgent { &mut change } else { &mut background };
                    let urgency = if urgent { Urgency::Change } else { Urgency::Background };
                    *open = *open && may(&governor, urgency);
                    if !*open {
                        turns.waits();
                        break;
                    }
                    let kind = if object.poll_due <= now { Kind::Poll } else { Kind::Push };
                    governor.note_call(kind, 1, time);
                    org.call(now, 1);
                    seen.highest = seen.highest.max(org.used(now));
                    governor.usage(org.used(now), ALLOWED, time);
                    turns.called(id);
                    if kind == Kind::Poll {
                        seen.polls += 1;
                        seen.longest_poll = seen.longest_poll.max(now - object.polled_at);
                        object.polled_at = now;
                        object.poll_due = now + (WISHED * stretch) as u64;
                    } else {
                        seen.pushes += 1;
                        let sent = object.changes.min(CALL);
                        object.changes -= sent;
                        seen.sent += sent;
                        seen.longest_push = seen.longest_push.max(now - object.since);
                        seen.waited += if object.since < now { sent } else { 0 };
                    }
                }
            }
            if (self.burst)(second) > 0 {
                seen.drained = None;
            } else if seen.drained.is_none() && objects.iter().all(|o| o.changes < CALL) {
                seen.drained = Some(second);
            }
        }
        for object in &objects {
            let end = START + DAY.as_secs();
            seen.longest_poll = seen.longest_poll.max(end - object.polled_at);
        }
        assert_eq!(governor.used_by_us(Duration::from_secs(START + DAY.as_secs()))[0], seen.pushes);
        seen
    }
}

#[test]
fn polling_gives_way_so_that_changes_never_wait_at_a_trickle() {
    let seen = Day::PLAIN.run();
    assert!(seen.highest <= SHARE, "{seen:?}");
    assert_eq!((seen.sent, seen.waited, seen.longest_push), (2_880, 0, 0), "{seen:?}");
    // About every minute, each of them, and not more rarely than needs be.
    assert!(seen.longest_poll <= 65 && seen.polls > 55_000, "{seen:?}");
    assert!(seen.standings.iter().all(|s| *s == Standing::Slowed), "{seen:?}");
    // It is this that does it.
    let wilful = Day { stretch: false, ..Day::PLAIN }.run();
    assert!(wilful.waited > 0 && wilful.longest_poll > 6 * seen.longest_poll, "{wilful:?}");
}

#[test]
fn what_others_use_is_taken_from_polling_and_not_from_the_reserve() {
    // 1,500 an hour all day, and 10,000 at noon.
    let others = |second| match second {
        second if second == 12 * HOUR => 10_000,
        second => u64::from(second % 12 < 5),
    };
    let seen = Day { others, ..Day::PLAIN }.run();
    assert!(seen.highest <= SHARE && seen.highest > 70_000, "{seen:?}");
    assert_eq!((seen.sent, seen.waited), (2_880, 0), "{seen:?}");
    assert!(seen.longest_poll <= 400, "{seen:?}");
    assert!(!seen.standings.contains(&Standing::Stopped), "{seen:?}");
}

#[test]
fn a_million_changes_go_in_full_calls_and_starve_nobody() {
    let burst = |second| if second == 10 * HOUR { 25_000 } else { 0 };
    let seen = Day { burst, ..Day::PLAIN }.run();
    assert!(seen.highest <= SHARE, "{seen:?}");
    assert_eq!(seen.sent, 1_002_880, "{seen:?}");
    // 32 calls of each object, and those of the trickle.
    assert!(seen.pushes <= 2_880 + 32 * OBJECTS as u64, "{seen:?}");
    let drained = seen.drained.expect("drained") - 10 * HOUR;
    assert!(drained <= 400, "{drained}: {seen:?}");
    // What is only polled has its minute in ten.
    assert!(seen.longest_poll <= 720, "{seen:?}");

    // The same where others have used half of the day's calls.
    let others = |second| if second == 0 { 50_000 } else { 0 };
    let seen = Day { others, burst, ..Day::PLAIN }.run();
    assert!(seen.highest <= SHARE, "{seen:?}");
    assert_eq!(seen.sent, 1_002_880, "{seen:?}");
    let drained = seen.drained.expect("drained") - 10 * HOUR;
    assert!(drained <= HOUR, "{drained}: {seen:?}");
    assert!(seen.longest_poll <= HOUR / 2, "{seen:?}");
}
