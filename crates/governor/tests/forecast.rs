//! What is foreseen of an account's calls, and what of its events may be used.

use std::time::Duration;

use governor::{Governor, Kind, Limits, Standing};

const ALLOWED: u64 = 100_000;
const START: Duration = Duration::from_secs(900 * 2_000);
const HOUR: Duration = Duration::from_secs(3600);

/// So many hours with so many calls of ours, and of others, in each.
fn hours(hours: u32, ours: u32, others: u64) -> (Governor, Duration) {
    let mut governor = Governor::new(Limits::default());
    governor.usage(0, ALLOWED, START);
    for minute in 1..=hours * 60 {
        let now = START + Duration::from_secs(60) * minute;
        governor.note_call(Kind::Push, ours / 60, now);
        let used = u64::from(minute) * (u64::from(ours / 60) + others / 60);
        governor.usage(used, ALLOWED, now);
    }
    (governor, START + HOUR * hours)
}

fn near(is: f64, expected: f64) -> bool {
    (is - expected).abs() <= expected * 0.07
}

#[test]
fn a_pace_that_can_be_kept_up_reaches_no_reserve() {
    let (governor, now) = hours(5, 1_200, 0);
    let forecast = governor.forecast(now).expect("a limit");
    assert!(near(forecast.ours_an_hour, 1_200.0), "{forecast:?}");
    assert!(near(forecast.expected as f64, 24.0 * 1_200.0), "{forecast:?}");
    assert_eq!((forecast.reserve_reached, forecast.others_an_hour), (None, 0.0), "{forecast:?}");
    assert_eq!(governor.standing(now), Standing::Ok);
    assert_eq!(governor.reserve(), 20_000);
}

#[test]
fn a_pace_that_cannot_be_kept_up_is_said_with_its_hour() {
    let (governor, now) = hours(5, 6_000, 0);
    let forecast = governor.forecast(now).expect("a limit");
    // 30,000 are used, and 6,000 an hour fill the 80,000.
    let reached = forecast.reserve_reached.expect("it is reached").as_secs_f64() / 3600.0;
    assert!((7.8..9.2).contains(&reached), "{forecast:?}");
    // Before that it is held back.
    assert_eq!(forecast.expected, 80_000, "{forecast:?}");
}

#[test]
fn others_that_use_more_and_more_are_foreseen() {
    let (governor, now) = hours(4, 0, 9_000);
    let forecast = governor.forecast(now).expect("a limit");
    assert!(near(forecast.others_an_hour, 9_000.0), "{forecast:?}");
    let reached = forecast.reserve_reached.expect("it is reached").as_secs_f64() / 3600.0;
    assert!((4.4..5.5).contains(&reached), "{forecast:?}");
    assert_eq!(forecast.expected, ALLOWED, "{forecast:?}");
    // Where they stand still, what is left is spread; where they go on, less goes now.
    let mut still = Governor::new(Limits::default());
    still.usage(36_000, ALLOWED, now);
    let pace = |governor: &Governor| governor.pace(now).expect("a limit");
    assert_eq!(pace(&still).left, pace(&governor).left);
    assert!(pace(&governor).rate < pace(&still).rate * 0.6, "{:?}", pace(&governor));
    assert!(pace(&governor).rate > 0.0);
}

#[test]
fn nothing_is_foreseen_where_there_is_no_limit() {
    let governor = Governor::new(Limits { assumed: 0, ..Limits::default() });
    assert_eq!(governor.forecast(START), None);
    assert_eq!(governor.standing(START), Standing::Ok);
}

#[test]
fn calls_are_known_by_what_they_are_for() {
    let mut governor = Governor::new(Limits::default());
    for (n, kind) in Kind::ALL.into_iter().enumerate() {
        governor.note_call(kind, n as u32 + 1, START);
    }
    for kind in Kind::ALL {
        governor.note_call(kind, 10, START + HOUR);
    }
    assert_eq!(governor.used_by_us(START + HOUR), [11, 12, 13, 14]);
    assert_eq!(governor.used_by_us(START + HOUR * 25), [10, 10, 10, 10]);
    assert_eq!(governor.used(START + HOUR), 50);
}

#[test]
fn it_stands_where_others_have_used_all_but_the_reserve() {
    let mut governor = Governor::new(Limits::default());
    governor.usage(80_000, ALLOWED, START);
    assert_eq!(governor.standing(START), Standing::Stopped);
    let mut refused = Governor::new(Limits::default());
    refused.note_call(Kind::Push, 1, START);
    refused.blocked_until(START, None);
    assert_eq!(refused.standing(START), Standing::Stopped);
}

#[test]
fn polling_is_as_wished_where_there_is_enough() {
    let mut governor = Governor::new(Limits::default());
    governor.usage(0, ALLOWED, START);
    assert!(governor.polling(0.1, START) == 1.0);
    assert_eq!(governor.standing(START), Standing::Ok);
    // Who only begins need not be slow.
    assert!(governor.polling(4.0, START) == 1.0);
    governor.note_call(Kind::Poll, 600, START);
    assert!((2.0..4.0).contains(&governor.polling(4.0, START)));
    governor.note_call(Kind::Poll, 200, START);
    assert!(governor.polling(4.0, START) > 5.0 && governor.stretch() > 5.0);
    assert_eq!(governor.standing(START), Standing::Slowed);
    let mut unlimited = Governor::new(Limits { assumed: 0, ..Limits::default() });
    assert!(unlimited.polling(1_000.0, START) == 1.0);
}

#[test]
fn events_leave_a_reserve_to_others_as_calls_do() {
    let mut governor = Governor::new(Limits::default());
    assert!(governor.may_listen(0, 1, START), "nobody meters them");
    governor.note_events(100, START);
    governor.events_usage(6_100, 10_000, START);
    assert_eq!((governor.events_used(START), governor.events_by_us(START)), (6_100, 100));
    governor.note_events(1_899, START);
    assert!(governor.may_listen(0, 1, START));
    governor.note_events(1, START);
    assert!(!governor.may_listen(0, 1, START), "8,000 of 10,000");
    assert!(
        governor.may_listen(0, 1, START + HOUR * 25),
        "a day later nothing is known to be used"
    );
}

#[test]
fn the_less_important_objects_are_told_less_before_all_are_told_nothing() {
    let mut governor = Governor::new(Limits::default());
    governor.events_usage(3_999, 10_000, START);
    let told =
        |governor: &Governor| (0..4).filter(|&rank| governor.may_listen(rank, 4, START)).count();
    assert_eq!(told(&governor), 4, "half of the 8,000 that are ours is for all");
    let mut before = 4;
    for _ in 0..8 {
        governor.note_events(500, START);
        let now = told(&governor);
        assert!(now <= before && (now == 0 || governor.may_listen(0, 4, START)));
        before = now;
    }
    assert_eq!(before, 1, "7,999 of 8,000: the most important one");
    governor.note_events(1, START);
    assert_eq!(told(&governor), 0);
}
