/// A moment in the form of a mark, in milliseconds since 1970.
pub(crate) fn milliseconds(at: &str) -> Option<i64> {
    let number = |from: usize, to: usize| at.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // The year begins in March, so that the leap day is its last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719_469;
    let seconds = days * 86_400 + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    Some(seconds * 1000 + number(20, 23)?)
}

#[test]
fn moments_are_counted_from_1970() {
    assert_eq!(milliseconds("1970-01-01T00:00:00.000Z"), Some(0));
    assert_eq!(milliseconds("2000-02-29T12:00:01.500Z"), Some(951_825_601_500));
    assert_eq!(milliseconds("2026-11-26T10:20:57.001Z"), Some(1_795_688_457_001));
    assert_eq!(milliseconds("yesterday"), None);
}
