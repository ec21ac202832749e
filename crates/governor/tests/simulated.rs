//! Days of simulated time against an org that counts exactly.

use std::collections::VecDeque;
use std::mem::size_of;
use std::time::Duration;

use governor::{DAY, Governor, Kind, Limits, Urgency};

const ALLOWED: u64 = 100_000;
const SHARE: u64 = 80_000;
const LIMITS: Limits = Limits { reserve_share: 0.2, assumed: 15_000 };
/// The fixed point of a clock is any.
const START: Duration = Duration::from_secs(1_234_567);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Counts the calls of a rolling day to the moment, and says what it counted some time ago.
#[derive(Default)]
struct Org {
    calls: VecDeque<(Duration, u64)>,
    used: u64,
    highest: u64,
    others: u64,
}

impl Org {
    fn at(&mut self, now: Duration) {
        while let Some((time, n)) = self.calls.front().copied() {
            if time + DAY > now {
                break;
            }
            self.used -= n;
            self.calls.pop_front();
        }
    }

    fn call(&mut self, n: u64, now: Duration) {
        self.at(now);
        self.calls.push_back((now, n));
        self.used += n;
        self.highest = self.highest.max(self.used + self.others);
    }

    fn said(&mut self, now: Duration) -> u64 {
        self.at(now);
        self.used + self.others
    }
}

/// Calls as fast as it may, but with this pause between two at least; every tenth brings a hint, that of
/// so many hints before.
fn demand(
    governor: &mut Governor,
    org: &mut Org,
    from: Duration,
    until: Duration,
    pause: Duration,
    late: usize,
) -> u64 {
    let (mut now, mut calls) = (from, 0);
    let mut hints: VecDeque<u64> = VecDeque::new();
    loop {
        let at = governor.next_call_at(now, Urgency::Change);
        assert!(at >= now);
        if at > now {
            now = at;
            if now >= until {
                return calls;
            }
            continue;
        }
        governor.note_call(Kind::Push, 1, now);
        org.call(1, now);
        calls += 1;
        if calls % 10 == 1 {
            hints.push_back(org.said(now));
        }
        if hints.len() > late {
            governor.usage(hints.pop_front().unwrap(), ALLOWED, now);
        }
        now += pause;
        if now >= until {
            return calls;
        }
    }
}

#[test]
fn continuous_demand_uses_the_share_and_never_the_reserve() {
    // Also where the other side never says anything again.
    for late in [0, 5, usize::MAX] {
        let (mut governor, mut org) = (Governor::new(LIMITS), Org::default());
        governor.usage(0, ALLOWED, START);
        let mut days = Vec::new();
        for day in 0..2 {
            let from = START + DAY * day;
            days.push(demand(
                &mut governor,
                &mut org,
                from,
                from + DAY,
                Duration::from_millis(200),
                late,
            ));
        }
        assert!(org.highest <= SHARE, "late {late}: {} {days:?}", org.highest);
        assert!(days.iter().all(|calls| *calls > SHARE * 95 / 100), "late {late}: {days:?}");
    }
}

#[test]
fn continuous_demand_is_spread_over_the_day() {
    let (mut governor, mut org) = (Governor::new(LIMITS), Org::default());
    for hour in 0..30 {
        let from = START + seconds(3600) * hour;
        let calls = demand(
            &mut governor,
            &mut org,
            from,
            from + seconds(3600),
            Duration::from_millis(200),
            3,
        );
        let even = SHARE / 24;
        // The first hour has what is saved up besides.
        assert!(
            calls > even * 3 / 4 && (calls < even * 5 / 4 || hour == 0),
            "hour {hour}: {calls}"
        );
    }
}

#[test]
fn what_is_not_urgent_never_waits_at_a_trickle() {
    let (mut governor, mut org) = (Governor::new(LIMITS), Org::default());
    // One call a minute, each alone, from the very first.
    for minute in 0..3 * 1440 {
        let now = START + seconds(60 * minute);
        for urgency in [Urgency::Background, Urgency::Change, Urgency::Person] {
            assert_eq!(governor.next_call_at(now, urgency), now, "minute {minute}");
        }
        governor.note_call(Kind::Push, 1, now);
        org.call(1, now);
        governor.usage(org.said(now), ALLOWED, now);
    }
}

#[test]
fn a_burst_goes_at_once_where_plenty_is_left() {
    let mut governor = Governor::new(LIMITS);
    governor.usage(0, ALLOWED, START);
    let now = START + seconds(7200);
    let burst = (0..).take_while(|_| {
        let goes = governor.next_call_at(now, Urgency::Change) == now;
        if goes {
            governor.note_call(Kind::Push, 1, now);
        }
        goes
    });
    let burst = burst.count();
    assert!((1_000..2_000).contains(&burst), "{burst}");
    // And then at the pace of the day, about one in 1.1 seconds.
    let wait = governor.next_call_at(now, Urgency::Change) - now;
    assert!(wait > Duration::from_millis(10) && wait < seconds(2), "{wait:?}");
}

#[test]
fn changes_slow_down_where_others_have_used_nearly_all() {
    let hour = |others| {
        let (mut governor, mut org) = (Governor::new(LIMITS), Org { others, ..Org::default() });
        governor.usage(others, ALLOWED, START);
        demand(&mut governor, &mut org, START, START + seconds(3600), Duration::from_millis(200), 1)
    };
    let (alone, half, nearly) = (hour(0), hour(40_000), hour(78_000));
    assert!(alone > 3_000 && (1_500..3_000).contains(&half), "{alone} {half}");
    assert!(nearly < 150, "{nearly}");
    // In the reserve already: a call a quarter of an hour, to see whether it still is so.
    assert!(hour(85_000) <= 5, "{}", hour(85_000));
}

#[test]
fn what_others_let_go_of_is_used_again() {
    let (mut governor, mut org) = (Governor::new(LIMITS), Org { others: 85_000, ..Org::default() });
    governor.usage(85_000, ALLOWED, START);
    let pause = Duration::from_millis(200);
    demand(&mut governor, &mut org, START, START + seconds(3600), pause, 0);
    org.others = 10_000;
    let from = START + seconds(3600);
    let calls = demand(&mut governor, &mut org, from, from + seconds(7200), pause, 0);
    assert!(calls > 3_000, "{calls}");
}

#[test]
fn a_call_counts_for_a_day_and_for_a_quarter_of_an_hour_more_at_most() {
    for shift in [0, 1, 450, 899] {
        let mut governor = Governor::new(LIMITS);
        let start = seconds(900 * 2_000 + shift);
        governor.usage(0, ALLOWED, start);
        governor.note_call(Kind::Push, 50_000, start);
        governor.note_call(Kind::Push, 30_000, start + DAY / 2);
        let left = |after| governor.pace(start + after).unwrap().left;
        assert_eq!(left(DAY - Duration::from_millis(1)), 0, "{shift}");
        assert_eq!(left(DAY + seconds(900)), 50_000, "{shift}");
        assert_eq!(left(DAY / 2 * 3 + seconds(900)), SHARE, "{shift}");
        // Nothing goes before: where only our own calls fill the share, we know when they are forgotten.
        let at = governor.next_call_at(start + DAY / 2, Urgency::Change);
        assert!(at >= start + DAY && at <= start + DAY + seconds(900), "{shift}: {at:?}");
        // What is written later into the place of a forgotten quarter counts alone.
        let mut later = governor;
        later.note_call(Kind::Push, 7, start + DAY);
        assert!(later.used(start + DAY) >= 30_007);
        assert_eq!(later.used(start + DAY + seconds(900)), 30_007);
    }
}

/// Hints of answers that overtook each other: a low one does not open the gates.
#[test]
fn a_hint_that_jumps_down_does_not_let_calls_go() {
    let mut governor = Governor::new(LIMITS);
    governor.usage(79_990, ALLOWED, START);
    let before = governor.pace(START).unwrap();
    governor.usage(20, ALLOWED, START + seconds(1));
    let after = governor.pace(START + seconds(1)).unwrap();
    assert_eq!(before.left, 10);
    assert_eq!(after.left, 10);
    // In the next stretch of five minutes neither.
    governor.usage(20, ALLOWED, START + seconds(240));
    assert_eq!(governor.pace(START + seconds(240)).unwrap().left, 10);
    governor.usage(20, ALLOWED, START + seconds(900));
    assert!(governor.pace(START + seconds(900)).unwrap().left > 70_000);
}

#[test]
fn a_person_waits_for_no_pace_and_a_load_leaves_half_of_a_burst_to_changes() {
    let mut governor = Governor::new(LIMITS);
    governor.usage(0, ALLOWED, START);
    // Not in the one minute of ten that is for loads.
    let now = seconds(1_234_800) + seconds(300);
    let mut loaded = 0;
    while governor.next_call_at(now, Urgency::Background) == now {
        governor.note_call(Kind::Push, 1, now);
        loaded += 1;
    }
    assert!((500..1_000).contains(&loaded), "{loaded}");
    assert_eq!(governor.next_call_at(now, Urgency::Change), now);
    governor.note_call(Kind::Push, 80_000, now);
    assert!(governor.next_call_at(now, Urgency::Change) > now);
    assert_eq!(governor.next_call_at(now, Urgency::Person), now);
}

#[test]
fn changes_without_end_do_not_starve_a_load() {
    let (mut governor, mut now) = (Governor::new(LIMITS), START);
    let (mut changes, mut background) = (0, 0);
    while now < START + seconds(6 * 3600) {
        // The one that is asked first takes what is there.
        for (urgency, calls) in
            [(Urgency::Background, &mut background), (Urgency::Change, &mut changes)]
        {
            if governor.next_call_at(now, urgency) == now {
                governor.note_call(Kind::Push, 1, now);
                governor.usage(0, ALLOWED, now);
                *calls += 1;
            }
        }
        now += Duration::from_millis(200);
    }
    assert!(background > changes / 20 && background < changes / 2, "{background} of {changes}");
}

#[test]
fn after_the_daily_limit_is_exceeded_it_is_tried_once_in_a_quarter_of_an_hour() {
    let mut governor = Governor::new(LIMITS);
    governor.usage(99_990, ALLOWED, START);
    let (mut now, mut tries) = (START, 0);
    governor.note_call(Kind::Push, 1, now);
    governor.blocked_until(now, None);
    let end = START + seconds(6 * 3600);
    while now < end {
        now = governor.next_call_at(now, Urgency::Person).max(now + Duration::from_millis(100));
        if governor.next_call_at(now, Urgency::Person) == now {
            governor.note_call(Kind::Push, 1, now);
            tries += 1;
            governor.blocked_until(now + seconds(1), None);
        }
    }
    assert!((20..=25).contains(&tries), "{tries}");
}

#[test]
fn a_call_that_is_tried_before_its_time_lets_the_others_go_if_it_goes_through() {
    let mut governor = Governor::new(LIMITS);
    governor.usage(ALLOWED, ALLOWED, START);
    assert_eq!(governor.allowed(), Some(ALLOWED));
    governor.note_call(Kind::Push, 1, START);
    governor.blocked_until(START, None);
    // One that was on its way already proves nothing.
    governor.went_through(START + seconds(1));
    assert!(governor.next_call_at(START + seconds(2), Urgency::Person) > START + seconds(2));
    for goes in [false, true] {
        let now = START + seconds(10);
        governor.try_now(now);
        governor.note_call(Kind::Push, 1, now);
        // Until it is answered nobody follows it.
        assert!(governor.next_call_at(now, Urgency::Person) > now);
        if goes {
            governor.usage(ALLOWED, 2 * ALLOWED, now);
            governor.went_through(now);
        } else {
            assert!(governor.blocked_until(now, None) > now + seconds(60));
        }
        assert_eq!(governor.next_call_at(now, Urgency::Person) == now, goes);
    }
    // Where nothing was refused it is a call like any other.
    let (mut governor, now) = (Governor::new(LIMITS), START);
    governor.try_now(now);
    governor.note_call(Kind::Push, 1, now);
    assert_eq!(governor.next_call_at(now, Urgency::Person), now);
}

#[test]
fn too_many_at_once_are_tried_again_soon_and_ever_more_rarely() {
    let mut governor = Governor::new(LIMITS);
    governor.usage(100, ALLOWED, START);
    let mut now = START;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        governor.note_call(Kind::Push, 5, now);
        let until = governor.blocked_until(now, None);
        // Of the same wave.
        assert_eq!(governor.blocked_until(now, None), until);
        assert_eq!(governor.next_call_at(now, Urgency::Person), until);
        pauses.push((until - now).as_secs());
        now = until;
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 900, 900, 900]);

    // One call tries it, and the others wait for what comes of it.
    governor.note_call(Kind::Push, 1, now);
    assert!(governor.next_call_at(now, Urgency::Change) > now);
    governor.went_through(now);
    assert_eq!(governor.next_call_at(now, Urgency::Change), now);
    assert_eq!(governor.blocked_until(now, None), now + seconds(15));
}

#[test]
fn the_other_side_can_ask_for_a_longer_pause_and_not_for_ever() {
    let mut governor = Governor::new(LIMITS);
    assert_eq!(governor.blocked_until(START, Some(seconds(3600))), START + seconds(3600));
    assert_eq!(governor.blocked_until(START, Some(Duration::MAX)), START + DAY);
    // What was answered before the refusal proves nothing.
    governor.went_through(START + seconds(1));
    assert_eq!(governor.next_call_at(START, Urgency::Person), START + DAY);
}

#[test]
fn before_the_other_side_has_said_anything_a_small_allowance_is_assumed() {
    let governor = Governor::new(LIMITS);
    assert_eq!(governor.next_call_at(START, Urgency::Change), START);
    assert_eq!(governor.pace(START).unwrap().left, 12_000);
    let unlimited = Governor::new(Limits { assumed: 0, ..LIMITS });
    assert_eq!(unlimited.pace(START), None);
}

#[test]
fn a_clock_that_goes_back_or_jumps_breaks_nothing() {
    let mut governor = Governor::new(LIMITS);
    for now in [START, seconds(5), Duration::ZERO, START * 1000, Duration::MAX, START] {
        governor.usage(50_000, ALLOWED, now);
        governor.note_call(Kind::Push, 100, now);
        for urgency in [Urgency::Background, Urgency::Change, Urgency::Person] {
            assert!(governor.next_call_at(now, urgency) >= now);
        }
        governor.blocked_until(now, Some(now));
        governor.went_through(now);
    }
    let nothing = Limits { reserve_share: f64::NAN, assumed: 1 };
    let governor = Governor::new(nothing);
    assert!(governor.next_call_at(START, Urgency::Change) >= START);
}

/// It lies in shared memory, one for each account.
#[test]
fn a_governor_is_small_plain_data() {
    fn plain<T: Copy + Send + Sync + 'static>() -> usize {
        size_of::<T>()
    }
    assert!(plain::<Governor>() <= 2560, "{}", plain::<Governor>());
}
