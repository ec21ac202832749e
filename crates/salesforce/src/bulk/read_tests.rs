use super::{page, records};
use connector::{Column, FaultKind, Kind};
use egress::header::HeaderMap;
use egress::{Response, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::value;

const KINDS: [Kind; 10] = [
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
];

const HEAD: &str = "\"Id\",\"SystemModstamp\",\"Name\"\n";

fn name() -> Vec<Column> {
    vec![Column { name: "Name".into(), kind: Kind::Text, length: 255, ..Column::default() }]
}

fn row(id: &str, name: &str) -> String {
    format!("\"{id}\",\"2026-05-01T07:25:37.000Z\",\"{name}\"\n")
}

#[test]
fn a_page_has_exactly_the_records_that_the_org_says() {
    let text = format!("{HEAD}{}{}", row("001000000000001", "a"), row("001000000000002", ""));
    let read = records(&name(), text.as_bytes(), 2).expect("records");
    assert_eq!(
        (read[0].id.as_str(), read[0].version.as_str()),
        ("001000000000001AAA", "2026-05-01T07:25:37.000Z")
    );
    assert_eq!([&read[0].values, &read[1].values], [&vec![Some("a".to_owned())], &vec![None]]);
    for told in [1, 3] {
        assert_eq!(
            records(&name(), text.as_bytes(), told).expect_err("a fault").kind,
            FaultKind::Transient
        );
    }
    assert_eq!(records(&name(), HEAD.as_bytes(), 0), Ok(vec![]));
    assert_eq!(records(&name(), b"", 0), Ok(vec![]));
}

#[test]
fn a_page_of_something_else_is_refused() {
    let good = row("001000000000001", "a");
    for text in [
        format!("\"Id\",\"SystemModstamp\",\"Site\"\n{good}"),
        format!("\"Id\",\"SystemModstamp\"\n{good}"),
        format!("\"Id\",\"Name\",\"SystemModstamp\"\n{good}"),
        format!("{HEAD}{}", row("001", "a")),
        format!("{HEAD}{}", row("001000000000001ZZZ", "a")),
        format!("{HEAD}{}", good.replace("2026-", "yesterday")),
    ] {
        assert_eq!(
            records(&name(), text.as_bytes(), 1).expect_err(&text).code,
            "UNEXPECTED_ANSWER"
        );
    }
    let mut number = name();
    number[0].kind = Kind::Number;
    let text = format!("{HEAD}{good}");
    assert_eq!(
        records(&number, text.as_bytes(), 1).expect_err("a type").code,
        "FIELD_TYPE_CHANGED"
    );
}

#[test]
fn the_id_can_be_asked_for_as_a_column() {
    let id =
        |name: &str| Column { name: name.into(), kind: Kind::Id, length: 18, ..Column::default() };
    let columns = [id("ID"), name().swap_remove(0)];
    let text = format!("{HEAD}{}", row("001000000000001", "a"));
    let read = records(&columns, text.as_bytes(), 1).expect("a record");
    assert_eq!(read[0].values, [Some("001000000000001AAA".to_owned()), Some("a".to_owned())]);
}

#[test]
fn a_page_without_its_headers_could_be_the_last_or_not() {
    let answer = |headers: &[(&'static str, &'static str)]| Response {
        status: StatusCode::OK,
        headers: headers
            .iter()
            .map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value")))
            .collect::<HeaderMap>(),
        body: format!("{HEAD}{}", row("001000000000001", "a")).into_bytes(),
    };
    let (locator, number) = (("sforce-locator", "MTA"), ("sforce-numberofrecords", "1"));
    assert_eq!(
        page(&name(), &answer(&[locator, number])).expect("a page").next.as_deref(),
        Some("MTA")
    );
    assert_eq!(
        page(&name(), &answer(&[("sforce-locator", "null"), number])).expect("a page").next,
        None
    );
    for headers in [vec![locator], vec![number], vec![("sforce-locator", ""), number]] {
        assert!(page(&name(), &answer(&headers)).is_err(), "{headers:?}");
    }
}

/// Values as the org can hold them, in JSON and as a cell of CSV.
fn values() -> impl Strategy<Value = (Kind, Value, String)> {
    let text = |kind| {
        "[a-z;{}\",\\\\ äö\\r\\n\\t]{1,8}".prop_map(move |text: String| (kind, json!(text), text))
    };
    prop_oneof![
        text(Kind::Text),
        text(Kind::Choice),
        text(Kind::Choices),
        prop::sample::select(&KINDS[..]).prop_map(|kind| (kind, Value::Null, String::new())),
        any::<bool>().prop_map(|b| (Kind::Boolean, json!(b), b.to_string())),
        any::<i32>().prop_map(|n| (Kind::Integer, json!(n), n.to_string())),
        (-1e15..1e15f64).prop_map(|n| (Kind::Number, json!(n), format!("{n:E}"))),
        (1700..4000u32, 1..13u32, 1..29u32).prop_map(|(y, m, d)| {
            let text = format!("{y:04}-{m:02}-{d:02}");
            (Kind::Date, json!(text), text)
        }),
        (1700..4000u32, 0..24u32, 0..60u32).prop_map(|(y, h, m)| {
            let text = format!("{y:04}-05-01T{h:02}:{m:02}:37.000");
            (Kind::DateTime, json!(format!("{text}+0000")), format!("{text}Z"))
        }),
        (0..24u32, 0..60u32).prop_map(|(h, m)| {
            let text = format!("{h:02}:{m:02}:30.000Z");
            (Kind::Time, json!(text), text)
        }),
    ]
}

fn quoted(cells: &[String]) -> String {
    let cells: Vec<String> =
        cells.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
    cells.join(",") + "\n"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A field reads the same in bulk as record by record, or a copy filled in one way would look changed in the other.
    #[test]
    fn a_value_is_the_same_text_as_over_rest((kind, json, cell) in values()) {
        let column = Column { name: "F__c".into(), kind, ..Column::default() };
        let text = "\"Id\",\"SystemModstamp\",\"F__c\"\n".to_owned()
            + &quoted(&["001000000000001AAA".into(), "2026-05-01T07:25:37.000Z".into(), cell]);
        let read = records(std::slice::from_ref(&column), text.as_bytes(), 1).expect("a record");
        prop_assert_eq!(&read[0].values[0], &value::from_json(&column, &json).expect("a value"));
    }

    /// One byte changed or cut off: a fault, or every record still has an id of an org and a value that stands in the text.
    #[test]
    fn a_damaged_page_never_yields_a_record_of_other_cells(
        names in prop::collection::vec("[a,\"\\n]{0,5}", 1..4),
        at in any::<prop::sample::Index>(),
        byte in prop::option::of(prop_oneof![any::<u8>(), prop::sample::select(&b"\",\n\r"[..])]),
    ) {
        let mut text = HEAD.to_owned();
        for (n, name) in names.iter().enumerate() {
            text += &quoted(&[format!("001{n:012}"), "2026-05-01T07:25:37.000Z".into(), name.clone()]);
        }
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match byte {
            Some(byte) => bytes[at] = byte,
            None => bytes.truncate(at),
        }
        if let Ok(read) = records(&name(), &bytes, names.len()) {
            // The one byte can only have fallen into the cells of one record.
            let whole = read.iter().zip(&names).enumerate().filter(|(n, (record, name))| {
                record.id == crate::id::long(&format!("001{n:012}"))
                    && record.values[0] == value::canonical(Kind::Text, name)
            });
            prop_assert!(whole.count() + 1 >= names.len(), "{:?}", read);
            prop_assert_eq!(read.len(), names.len());
        }
    }

    #[test]
    fn no_page_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), told in 0..3usize) {
        let _ = records(&name(), &bytes, told);
        let _ = records(&name(), &[HEAD.as_bytes(), &bytes].concat(), told);
    }
}

/// Run it in a release build, with `--nocapture` for the rates.
#[test]
#[ignore = "a measurement"]
fn strictness_costs_less_than_reading_csv_twice_over() {
    const RECORDS: usize = 200_000;
    let columns: Vec<Column> = [
        ("Name", Kind::Text),
        ("Site", Kind::Text),
        ("AnnualRevenue", Kind::Number),
        ("NumberOfEmployees", Kind::Integer),
        ("CreatedDate", Kind::DateTime),
        ("OwnerId", Kind::Id),
        ("Active__c", Kind::Boolean),
        ("Description", Kind::Text),
    ]
    .map(|(name, kind)| Column { name: name.into(), kind, ..Column::default() })
    .into();
    let mut names = vec!["Id", "SystemModstamp"];
    names.extend(columns.iter().map(|column| column.name.as_str()));
    let mut text = quoted(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    for n in 0..RECORDS {
        text += &quoted(&[
            format!("001{n:012}"),
            "2026-05-01T07:25:37.000Z".into(),
            format!("Account {n}, \"the best\""),
            String::new(),
            format!("{}.25", n * 7),
            (n % 1000).to_string(),
            "2026-05-01T07:25:37.000Z".into(),
            "005000000000001AAA".into(),
            "true".into(),
            "some more words about it, as people write them\nin two lines".into(),
        ]);
    }
    let timed = |work: &mut dyn FnMut() -> usize| {
        let mut best = std::time::Duration::MAX;
        for _ in 0..5 {
            let begun = std::time::Instant::now();
            assert_eq!(work(), RECORDS);
            best = best.min(begun.elapsed());
        }
        best
    };
    let plain = timed(&mut || {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let mut row = csv::StringRecord::new();
        let mut count = 0;
        while reader.read_record(&mut row).expect("a record") {
            count += 1;
        }
        count
    });
    let strict = timed(&mut || {
        let (mut sheet, _) = crate::bulk::sheet::Sheet::new(text.as_bytes()).expect("a sheet");
        let mut count = 0;
        while sheet.next().expect("a record").is_some() {
            count += 1;
        }
        count
    });
    let whole = timed(&mut || records(&columns, text.as_bytes(), RECORDS).expect("records").len());
    let rate = |time: std::time::Duration| RECORDS as f64 / time.as_secs_f64();
    let megabytes = text.len() as f64 / 1e6;
    println!("{RECORDS} records of {} columns, {megabytes:.0} MB, records a second:", names.len());
    for (what, time) in [("csv alone", plain), ("checked", strict), ("into records", whole)] {
        println!("{what:>14} {:>9.0}, {:.0} MB/s", rate(time), megabytes / time.as_secs_f64());
    }
    assert!(strict < plain * 2, "{strict:?} against {plain:?}");
}
