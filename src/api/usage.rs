//! How the calls of an account go, for `sync.api_usage` and `sync.connections`.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::border;
use crate::connection;
use crate::worker::governors::{self, Reading};
use governor::Standing;
use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

/// `sync._api_usage(server oid) RETURNS TABLE (…)`: what is known of the account that a connection leads to; no row where
/// nobody has called it since the server was started.
#[pg_extern(sql = false)]
fn api_usage(
    server: Oid,
) -> TableIterator<
    'static,
    (
        name!(state, Vec<u8>),
        name!(detail, Vec<u8>),
        name!(used, i64),
        name!(allowed, Option<i64>),
        name!(push, i64),
        name!(poll, i64),
        name!(load, i64),
        name!(other, i64),
        name!(reserve, i64),
        name!(remaining, Option<i64>),
        name!(per_hour, Option<f64>),
        name!(polling_stretch, f64),
        name!(expected, Option<i64>),
        name!(reserve_in, Option<f64>),
        name!(events_by_us, i64),
        name!(events_used, i64),
        name!(events_allowed, Option<i64>),
        name!(wait, f64),
    ),
> {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let row = governors::read(connection::account(server)).map(|reading| {
        let state = match reading.standing {
            Standing::Ok => "ok",
            Standing::Slowed => "slowed",
            Standing::Stopped => "stopped",
        };
        let [push, poll, load, other] = reading.by_us.map(number);
        let reserve_in = reading.forecast.and_then(|f| f.reserve_reached);
        (
            border::text(state),
            border::text(&sentence(&reading)),
            number(reading.used),
            reading.allowed.map(number),
            push,
            poll,
            load,
            other,
            number(reading.reserve),
            reading.left.map(number),
            reading.an_hour,
            reading.stretch,
            reading.forecast.map(|f| number(f.expected)),
            reserve_in.map(|time| time.as_secs_f64()),
            number(reading.events_by_us),
            number(reading.events_used),
            reading.events_allowed.map(number),
            reading.wait.as_secs_f64(),
        )
    });
    TableIterator::new(row)
}

/// What a person should know of it, in words.
fn sentence(reading: &Reading) -> String {
    let mut parts = Vec::new();
    let wait = reading.wait.as_secs_f64();
    match reading.standing {
        Standing::Ok => parts.push("everything goes when it is due".to_owned()),
        Standing::Slowed => {
            if reading.stretch > 1.0 {
                parts.push(format!(
                    "polling is {:.1} times as rare as wished, so that changes need not wait",
                    reading.stretch
                ));
            }
            if wait > 0.0 {
                parts.push(format!("changes gather, and go with the next call in {wait:.0} s"));
            }
        }
        Standing::Stopped if reading.left == Some(0) => parts.push(format!(
            "the {} calls that are left to others begin; it goes on once calls of the last 24 hours no longer count",
            reading.reserve
        )),
        Standing::Stopped => {
            parts.push("the other side takes no calls at the moment; it is tried again".to_owned());
        }
    }
    if reading.allowed.is_none() {
        parts.push("the other side has not said how many calls it allows".to_owned());
    }
    if let Some(forecast) = reading.forecast {
        if let Some(time) = forecast.reserve_reached.filter(|time| !time.is_zero()) {
            parts.push(format!(
                "at the pace of the last hours nothing but the reserve would be left in {:.0} h, were calls not held back",
                (time.as_secs_f64() / 3600.0).ceil()
            ));
        } else {
            parts.push(format!("{} calls in 24 hours are expected", forecast.expected));
        }
    }
    let spent = |allowed| reading.events_used >= allowed - allowed / 5;
    if reading.events_allowed.is_some_and(spent) {
        parts.push(
            "events are used up but for the reserve, and changes come with polling".to_owned(),
        );
    }
    parts.join("; ")
}
