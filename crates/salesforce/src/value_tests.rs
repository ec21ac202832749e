use connector::{Column, FaultKind, Kind};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{canonical, from_json, to_json};

const KINDS: [Kind; 12] = [
    Kind::Id,
    Kind::Text,
    Kind::Choice,
    Kind::Choices,
    Kind::Boolean,
    Kind::Integer,
    Kind::Number,
    Kind::Date,
    Kind::DateTime,
    Kind::Time,
    Kind::Bytes,
    Kind::Structure,
];

fn column(kind: Kind) -> Column {
    Column { name: "Field__c".into(), kind, ..Column::default() }
}

#[test]
fn canonical_forms() {
    let cases = [
        (Kind::Text, "  a b\t", Some("a b")),
        (Kind::Text, " \n ", None),
        (Kind::Text, "", None),
        (Kind::Text, "a\r\nb\rc\r\r\nd", Some("a\nb\nc\n\nd")),
        (Kind::Text, "\u{1}a\u{0}\u{b}b", Some("ab")),
        (Kind::Text, "\u{a0}a", Some("\u{a0}a")),
        (Kind::Id, "001D000000IqhSL", Some("001D000000IqhSLIAZ")),
        (Kind::Choices, "{b,a,\"b\"}", Some("{a,b}")),
        (Kind::Choices, "b; a", Some("{a,b}")),
        (Kind::Choices, "{\"x;a\"}", Some("{a,x}")),
        (Kind::Choices, "{}", None),
        (Kind::Boolean, "t", Some("true")),
        (Kind::Boolean, "false", Some("false")),
        (Kind::Integer, "5.00", Some("5")),
        (Kind::Integer, "1e3", Some("1000")),
        (Kind::Number, "1.50", Some("1.5")),
        (Kind::Date, "2026-05-24", Some("2026-05-24")),
        (Kind::DateTime, "2026-05-01 07:25:37.999+02", Some("2026-05-01 05:25:37+00")),
        (Kind::Time, "10:20:30.000Z", Some("10:20:30")),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(canonical(kind, text).as_deref(), expected, "{kind:?} {text:?}");
    }
}

#[test]
fn values_become_json() {
    let cases = [
        (Kind::Text, Some(" a "), json!("a")),
        (Kind::Text, Some(""), Value::Null),
        (Kind::Text, None, Value::Null),
        (Kind::Boolean, Some("t"), json!(true)),
        (Kind::Boolean, None, json!(false)),
        (Kind::Integer, Some("7"), json!(7)),
        (Kind::Number, Some("7.00"), json!(7)),
        (Kind::Number, Some("0.1"), json!(0.1)),
        (Kind::Date, Some("2026-05-24"), json!("2026-05-24")),
        (Kind::DateTime, Some("2026-05-01 07:25:37.5+00"), json!("2026-05-01T07:25:37.000Z")),
        (Kind::Time, Some("10:20:30"), json!("10:20:30.000Z")),
        (Kind::Choices, Some("{b,a}"), json!("a;b")),
    ];
    for (kind, text, expected) in cases {
        assert_eq!(to_json(&column(kind), text).as_ref(), Ok(&expected), "{kind:?} {text:?}");
    }
}

#[test]
fn what_salesforce_cannot_hold_is_refused_with_its_field_and_without_its_value() {
    let cases = [
        (Kind::DateTime, "infinity"),
        (Kind::DateTime, "-infinity"),
        (Kind::DateTime, "0044-03-15 00:00:00+00 BC"),
        (Kind::DateTime, "1699-12-31 23:59:59+00"),
        (Kind::Date, "infinity"),
        (Kind::Date, "4001-01-01"),
        (Kind::Number, "NaN"),
        (Kind::Number, "Infinity"),
        (Kind::Number, "seven-of-nine"),
        (Kind::Integer, "1.5"),
        (Kind::Integer, "9223372036854775808"),
        (Kind::Boolean, "maybe"),
        (Kind::Time, "24:00:00"),
        (Kind::Choices, "{{a}}"),
        (Kind::Structure, "{}"),
        (Kind::Bytes, "\\x00"),
    ];
    for (kind, text) in cases {
        let fault = to_json(&column(kind), Some(text)).expect_err(text);
        assert_eq!(fault.kind, FaultKind::Refused);
        assert_eq!(fault.about.fields, ["Field__c"]);
        assert!(!fault.message.contains(text), "{}", fault.message);
    }
}

#[test]
fn a_text_that_is_too_long_is_refused_and_never_cut() {
    let column = Column { name: "Name".into(), kind: Kind::Text, length: 3, ..Column::default() };
    assert_eq!(to_json(&column, Some(" äöü ")), Ok(json!("äöü")));
    let fault = to_json(&column, Some("secret")).expect_err("too long");
    assert_eq!((fault.code.as_str(), fault.kind), ("STRING_TOO_LONG", FaultKind::Refused));
    assert!(fault.message.contains("Name") && !fault.message.contains("secret"));
}

#[test]
fn a_field_of_which_the_type_was_changed_is_a_fault() {
    for (kind, value) in [(Kind::Number, json!("abc")), (Kind::Text, json!({"a": 1}))] {
        let fault = from_json(&column(kind), &value).expect_err("another type");
        assert_eq!(fault.code, "FIELD_TYPE_CHANGED");
    }
    assert_eq!(from_json(&column(Kind::Choices), &json!("{;b")), Ok(Some("{b,\"{\"}".into())));
    assert_eq!(from_json(&column(Kind::Text), &json!(5)), Ok(Some("5".into())));
    assert_eq!(from_json(&column(Kind::Number), &json!(1.39e8)), Ok(Some("139000000".into())));
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ \\t\\r\\n\u{0}-\u{20}a-c;{}\",\\\\]{0,12}",
        "[0-9a-zA-Z]{15}",
        "-?[0-9]{1,25}(\\.[0-9]{0,20})?(e-?[0-9]{1,3})?",
        "[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-][01][0-9](:?[0-5][0-9])?)?)?",
        "[0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,7})?)?",
        "(\\{[a-c\", ;]{0,9}\\})",
        "t|f|true|FALSE|infinity|NaN",
        any::<f64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn canonical_twice_is_canonical_once(text in texts(), kind in prop::sample::select(&KINDS[..])) {
        let once = canonical(kind, &text);
        let twice = once.as_deref().and_then(|text| canonical(kind, text));
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_goes_there_comes_back_canonical(text in texts(), kind in prop::sample::select(&KINDS[..])) {
        let column = column(kind);
        if let Ok(sent) = to_json(&column, Some(&text)) {
            // Through bytes: that is where a number could change.
            let wire = serde_json::to_string(&sent).expect("JSON");
            let read: Value = serde_json::from_str(&wire).expect("JSON");
            let back = from_json(&column, &read).expect("of the same type");
            let expected = canonical(kind, &text);
            if kind == Kind::Boolean && expected.is_none() {
                prop_assert_eq!(back.as_deref(), Some("false"));
            } else {
                prop_assert_eq!(back, expected);
            }
        }
    }
}
