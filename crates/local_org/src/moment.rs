//! Moments as the API writes them, and the org's own clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, in UTC.
pub(crate) type Millis = i64;

/// One day.
pub(crate) const DAY: Millis = 86_400_000;

/// Days since 1970 of a date of the Gregorian calendar; counted in eras of 400 years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// As the REST API writes a datetime: `2026-05-01T07:25:37.000+0000`. Texts of it compare as moments.
pub(crate) fn text(at: Millis) -> String {
    let (year, month, day) = civil(at.div_euclid(DAY));
    let of_day = at.rem_euclid(DAY);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}+0000")
}

/// As HTTP headers have it: `Fri, 01 May 2026 07:25:37 GMT`.
pub(crate) fn http(at: Millis) -> String {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let days = at.div_euclid(DAY);
    let (year, month, day) = civil(days);
    let weekday = WEEKDAYS[days.rem_euclid(7) as usize];
    let month = MONTHS[(month - 1) as usize];
    let of_day = at.rem_euclid(DAY) / 1000;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads what [`http`] writes.
pub(crate) fn from_http(text: &str) -> Option<Millis> {
    let rest = text.split_once(", ")?.1;
    let parts: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|m| *m == month)? + 1;
    let date = format!("{year}-{month:02}-{day}");
    moment(&format!("{date}T{time}Z"), false)
}

/// `YYYY-MM-DD` of a year that Salesforce takes, 1700 to 4000 (SOAP API guide, Primitive Data Types).
pub(crate) fn is_date(text: &str) -> bool {
    parse_date(text).is_some_and(|_| (1700..=4000).contains(&number(&text[..4]).unwrap_or(0)))
}

fn number(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn parse_date(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [y, m, d] = parts[..] else { return None };
    if (y.len(), m.len(), d.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day) = (number(y)?, number(m)?, number(d)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days(year, month, day);
    (civil(days) == (year, month, day)).then_some(days)
}

/// Milliseconds of `HH:MM:SS[.fff]`, and whether there was a fraction.
fn parse_clock(text: &str) -> Option<(i64, bool)> {
    let (clock, fraction) = match text.split_once('.') {
        Some((clock, fraction)) => (clock, Some(fraction)),
        None => (text, None),
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let [h, m, s] = parts[..] else { return None };
    if [h, m, s].iter().any(|part| part.len() != 2) {
        return None;
    }
    let (hour, minute, second) = (number(h)?, number(m)?, number(s)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let milli = match fraction {
        Some(digits) => number(&format!("{:0<3}", digits.get(..3.min(digits.len()))?))?,
        None => 0,
    };
    if fraction.is_some_and(|digits| number(digits).is_none()) {
        return None;
    }
    Some((((hour * 60 + minute) * 60 + second) * 1000 + milli, fraction.is_some()))
}

/// A datetime with `Z` or an offset. In a body it needs its milliseconds, in a query it does not.
pub(crate) fn moment(text: &str, with_fraction: bool) -> Option<Millis> {
    let (date, rest) = text.split_once('T')?;
    let date = parse_date(date)?;
    let zone = rest.find(['Z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone);
    let (clock, fraction) = parse_clock(clock)?;
    if with_fraction && !fraction {
        return None;
    }
    let offset = if zone == "Z" {
        0
    } else {
        let (sign, digits) = zone.split_at(1);
        let digits = digits.replace(':', "");
        if digits.len() != 4 || !digits.is_ascii() {
            return None;
        }
        let (hours, minutes) = (number(&digits[..2])?, number(&digits[2..])?);
        let minutes = hours * 60 + minutes;
        if sign == "-" { -minutes } else { minutes }
    };
    Some(date * DAY + clock - offset * 60_000)
}

/// `10:20:30.000Z` and its shorter forms, as the API gives it back.
pub(crate) fn time(text: &str) -> Option<String> {
    let (millis, _) = parse_clock(text.strip_suffix('Z').unwrap_or(text))?;
    Some(format!("{}Z", &self::text(millis)[11..23]))
}

/// What this machine's clock shows.
pub(crate) fn system() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as Millis
}

/// The org's clock: that of this machine and a skew, and never running backwards by itself.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    skew: Millis,
    last: Millis,
}

impl Clock {
    pub(crate) fn now(&mut self) -> Millis {
        self.last = self.last.max(system() + self.skew);
        self.last
    }

    /// Changing the skew is the one way in which the clock can go back.
    pub(crate) fn set_skew(&mut self, skew: Millis) {
        *self = Self { skew, last: Millis::MIN };
    }

    /// The latest that was told.
    pub(crate) fn last(&self) -> Millis {
        self.last
    }

    /// Goes on from a moment that was told before, never from an earlier one.
    pub(crate) fn go_on_from(&mut self, last: Millis, skew: Millis) {
        *self = Self { skew, last };
    }

    pub(crate) fn skew(&self) -> Millis {
        self.skew
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datetimes_are_read_and_written() {
        for (given, told) in [
            ("2026-05-01T07:25:37.000+0000", "2026-05-01T07:25:37.000+0000"),
            ("2026-05-01T07:25:37.123Z", "2026-05-01T07:25:37.123+0000"),
            ("2026-05-01T00:25:37.000+01:30", "2026-04-30T22:55:37.000+0000"),
            ("1970-01-01T00:00:00.0-0100", "1970-01-01T01:00:00.000+0000"),
            ("2024-02-29T23:59:59.999Z", "2024-02-29T23:59:59.999+0000"),
            ("1700-01-01T00:00:00.000Z", "1700-01-01T00:00:00.000+0000"),
        ] {
            assert_eq!(moment(given, true).map(text).as_deref(), Some(told));
        }
    }

    #[test]
    fn wrong_datetimes_are_refused() {
        for wrong in [
            "2013-08-12T15:20:00X",
            "2013-08-12T15:20:00.000",
            "2013-08-12T15:20:00Z",
            "2013-02-30T15:20:00.000Z",
            "2013-08-12 15:20:00.000Z",
            "2013-08-12T25:20:00.000Z",
            "2013-08-12T15:20:00.00xZ",
            "T",
            "",
            "2013-08-12T15:20:00.000+1",
            "é013-08-12T15:20:00.é00+é",
            "2013-08-12T15:20:00.000+aéb",
        ] {
            assert_eq!(moment(wrong, true), None, "{wrong}");
        }
        assert!(moment("2013-08-12T15:20:00Z", false).is_some());
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_refused(text in "[0-9T:.Z+é-]{0,30}|.{0,40}") {
            let _ = (moment(&text, true), moment(&text, false), time(&text), is_date(&text), from_http(&text));
        }

        #[test]
        fn every_moment_comes_back(at in -8_000_000_000_000i64..64_000_000_000_000) {
            proptest::prop_assert_eq!(moment(&text(at), true), Some(at));
        }
    }

    #[test]
    fn dates_of_headers_come_back() {
        let at = 1_777_620_337_000;
        assert_eq!(http(at), "Fri, 01 May 2026 07:25:37 GMT");
        assert_eq!(from_http(&http(at)), Some(at));
        assert_eq!(from_http("yesterday"), None);
    }

    #[test]
    fn dates_and_times() {
        assert!(is_date("2024-02-29") && !is_date("2023-02-29"));
        assert!(!is_date("1699-12-31") && !is_date("24-02-29") && !is_date("2024-2-29"));
        assert_eq!(time("10:20:30.5Z").as_deref(), Some("10:20:30.500Z"));
        assert_eq!(time("10:20"), None);
    }
}
