/// A number as Salesforce keeps it, an IEEE double, in plain decimal digits, as few as tell it from
/// its neighbours. `None` where it is no finite number.
pub(crate) fn canonical(text: &str) -> Option<String> {
    value(text).map(print)
}

pub(crate) fn value(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(value)
}

/// The standard library's form is the shortest and has no exponent.
pub(crate) fn print(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn numbers_are_plain_and_short() {
        let cases = [
            ("1.10", Some("1.1")),
            ("100", Some("100")),
            ("-0.0", Some("0")),
            ("1.39E8", Some("139000000")),
            ("1e-7", Some("0.0000001")),
            ("0.1", Some("0.1")),
            ("9007199254740993", Some("9007199254740992")),
            ("1e23", Some("100000000000000000000000")),
            ("NaN", None),
            ("Infinity", None),
            ("-infinity", None),
            ("1e999", None),
            ("abc", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(canonical(text).as_deref(), expected, "{text}");
        }
    }
}
