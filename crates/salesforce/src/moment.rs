use std::fmt::Write;

/// A moment of the other side's clock, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment {
    /// Since 1970.
    pub(crate) seconds: i64,
    pub(crate) millis: u32,
}

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    pub(crate) year: i64,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

/// Hours, minutes and seconds of a day; fractions below a millisecond are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    pub(crate) hour: u32,
    pub(crate) minute: u32,
    pub(crate) second: u32,
    pub(crate) millis: u32,
}

/// The years in which Salesforce has dates (object reference, field types date and dateTime).
pub(crate) const YEARS: std::ops::RangeInclusive<i64> = 1700..=4000;

impl Moment {
    /// Reads `2026-05-01 07:25:37.123+00` and all that PostgreSQL or Salesforce say in its stead:
    /// `T` between the parts, no zone or `Z` for UTC, `+0200`, `-03:30`, no fraction, a day alone.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (day, rest) = text.split_at_checked(text.find([' ', 'T']).unwrap_or(text.len()))?;
        let day = Day::parse(day)?;
        let Some(rest) = rest.strip_prefix([' ', 'T']) else {
            return Some(Self { seconds: day.number() * 86_400, millis: 0 });
        };
        let at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at_checked(at)?;
        let clock = Clock::parse(clock)?;
        let seconds = day.number() * 86_400
            + i64::from(clock.hour * 3600 + clock.minute * 60 + clock.second)
            - offset(zone)?;
        Some(Self { seconds, millis: clock.millis })
    }

    pub(crate) fn year(self) -> i64 {
        self.parts().0.year
    }

    fn parts(self) -> (Day, u32) {
        let of_day = u32::try_from(self.seconds.rem_euclid(86_400)).unwrap_or_default();
        (Day::from_number(self.seconds.div_euclid(86_400)), of_day)
    }

    fn write(self, between: char, end: impl FnOnce(&mut String)) -> String {
        let (day, of_day) = self.parts();
        let mut text = day.text();
        text.push(between);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        let _ = write!(text, "{hour:02}:{minute:02}:{second:02}");
        end(&mut text);
        text
    }

    /// As PostgreSQL says it under `TimeZone = UTC`, in whole seconds: more Salesforce does not keep.
    pub(crate) fn in_sql(self) -> String {
        self.write(' ', |text| text.push_str("+00"))
    }

    /// As a mark, a SOQL literal and a JSON value: `2026-11-26T10:20:57.000Z`.
    pub(crate) fn in_json(self) -> String {
        self.write('T', |text| {
            let _ = write!(text, ".{:03}Z", self.millis);
        })
    }
}

impl Day {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !(4..=6).contains(&year.len()) {
            return None;
        }
        let this = Self { year: digits(year)?.into(), month: two(month)?, day: two(day)? };
        let leap = this.year % 4 == 0 && (this.year % 100 != 0 || this.year % 400 == 0);
        let last = match this.month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        ((1..=last).contains(&this.day) && this.year > 0).then_some(this)
    }

    pub(crate) fn text(self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// Days since 1970-01-01. Years begin in March here, so that the day that may be missing is the last.
    fn number(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let month = i64::from((self.month + 9) % 12);
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
            - 719_468
    }

    fn from_number(number: i64) -> Self {
        let number = number + 719_468;
        let era = number.div_euclid(146_097);
        let of_era = number.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let january = month >= 10;
        Self {
            year: year + era * 400 + i64::from(january),
            month: u32::try_from(if january { month - 9 } else { month + 3 }).unwrap_or_default(),
            day: u32::try_from(day).unwrap_or_default(),
        }
    }
}

impl Clock {
    /// `07:25:37.123456`; fractions and seconds may be missing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let mut parts = whole.split(':');
        let (hour, minute) = (two(parts.next()?)?, two(parts.next()?)?);
        let second = parts.next().map_or(Some(0), two)?;
        if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let millis = fraction.bytes().chain(*b"000").take(3);
        let millis = millis.fold(0, |all, b| all * 10 + u32::from(b - b'0'));
        Some(Self { hour, minute, second, millis })
    }

    /// As PostgreSQL says a time: without the zeros at the end of a fraction.
    pub(crate) fn in_sql(self) -> String {
        let mut text = format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second);
        if self.millis > 0 {
            let _ = write!(text, ".{:03}", self.millis);
            text.truncate(text.trim_end_matches('0').len());
        }
        text
    }

    /// `10:20:30.000Z` (REST API guide, valid date and dateTime formats; field type time).
    pub(crate) fn in_json(self) -> String {
        format!("{:02}:{:02}:{:02}.{:03}Z", self.hour, self.minute, self.second, self.millis)
    }
}

/// Seconds east of Greenwich.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z") {
        return Some(0);
    }
    let west = zone.starts_with('-');
    let figures: String = zone.get(1..)?.chars().filter(|c| *c != ':').collect();
    if !matches!(figures.len(), 2 | 4 | 6) {
        return None;
    }
    let part = |at| figures.get(at..at + 2).map_or(Some(0), two);
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    if hours > 15 || minutes > 59 || seconds > 59 {
        return None;
    }
    let east = i64::from(hours * 3600 + minutes * 60 + seconds);
    Some(if west { -east } else { east })
}

fn two(text: &str) -> Option<u32> {
    (text.len() == 2).then(|| digits(text)).flatten()
}

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Clock, Day, Moment};

    #[test]
    fn every_form_of_a_moment_is_read() {
        let cases = [
            ("2026-05-01 07:25:37.123+00", "2026-05-01 07:25:37+00"),
            ("2026-05-01 07:25:37", "2026-05-01 07:25:37+00"),
            ("2026-05-01T07:25:37.000+0000", "2026-05-01 07:25:37+00"),
            ("2026-05-01T07:25:37Z", "2026-05-01 07:25:37+00"),
            ("2026-05-01 07:25", "2026-05-01 07:25:00+00"),
            ("2026-05-01", "2026-05-01 00:00:00+00"),
            ("2026-05-01 00:30:00+02", "2026-04-30 22:30:00+00"),
            ("2026-12-31 23:00:00-03:30", "2027-01-01 02:30:00+00"),
            ("1890-01-01 00:00:00+00:53:28", "1889-12-31 23:06:32+00"),
            ("1969-12-31 23:59:59.999+00", "1969-12-31 23:59:59+00"),
            ("2024-02-29 12:00:00+00", "2024-02-29 12:00:00+00"),
            ("1700-03-01 00:00:00+00", "1700-03-01 00:00:00+00"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Moment::parse(text).map(Moment::in_sql).as_deref(),
                Some(expected),
                "{text}"
            );
        }
        let bad = [
            "",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00+00 BC",
            "0044-03-15 BC",
            "2026-13-01 00:00:00+00",
            "2026-02-29 00:00:00+00",
            "2026-05-01 24:00:00+00",
            "2026-05-01 07:60:00+00",
            "2026-05-01 07:25:37.x+00",
            "2026-05-01 07:25:37+0",
            "2026-05-01 07:25:37+00 ",
            "2026-5-1",
            "20260501",
            "2026-05-01ü07:25:37",
            "2026-05-01 07:25:37+é0",
        ];
        for text in bad {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_counted_there_and_back() {
        for number in -150_000..800_000 {
            let day = Day::from_number(number);
            assert_eq!(day.number(), number);
            assert_eq!(Day::parse(&day.text()), Some(day));
        }
    }

    #[test]
    fn marks_keep_milliseconds() {
        let moment = Moment::parse("2026-11-26T10:20:57.042Z").expect("a moment");
        assert_eq!(moment.in_json(), "2026-11-26T10:20:57.042Z");
    }

    #[test]
    fn times_of_day() {
        let time = |text: &str| Clock::parse(text).map(|c| (c.in_sql(), c.in_json()));
        let pair = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(time("10:20:30"), pair("10:20:30", "10:20:30.000Z"));
        assert_eq!(time("10:20:30.1204"), pair("10:20:30.12", "10:20:30.120Z"));
        assert_eq!(time("24:00:00"), None);
    }
}
