//! `mapping_options` and the transformations that come along: how values are written on the other side.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, settle, synced};

fn create(tables: &str, options: &str, mappings: &str) -> String {
    format!(
        r#"{tables} SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional",
             {options} "field_mappings": [{{"source": "id", "target": "id"}}, {mappings}]}}');"#
    )
}

#[test]
fn phone_numbers_and_addresses_come_into_one_form_both_ways() {
    let (_db, mut c) = prepared(&create(
        "CREATE TABLE a (id int PRIMARY KEY, phone text, email text); CREATE TABLE b (LIKE a INCLUDING ALL);",
        r#""mapping_options": {"phone_region": "CH"},"#,
        r#"{"source": "phone", "target": "phone", "transformation": "format_phone"},
           {"source": "email", "target": "email", "transformation": "email_norm"}"#,
    ));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, '044 668 18 00', '  Ada@Example.COM '), (2, '+1 (415) 555-2671', NULL),
                (3, 'ask Bob', ''), (4, '044 668 18 00 x12', NULL), (5, '117', NULL)",
    );
    synced(&mut c, "s");
    // What is no number, or more than one, or a short code, stays.
    assert_eq!(
        rows(&mut c, "TABLE b ORDER BY id"),
        [
            "1|+41446681800|ada@example.com",
            "2|+14155552671|",
            "3|ask Bob|",
            "4|044 668 18 00 x12|",
            "5|117|"
        ]
    );
    run(&mut c, "UPDATE b SET phone = '044 668 18 01' WHERE id = 1");
    synced(&mut c, "s");
    synced(&mut c, "s");
    // The side that was edited keeps what it was given; nothing goes round.
    assert_eq!(
        query_one(&mut c, "SELECT phone, email FROM a WHERE id = 1"),
        "+41446681801|  Ada@Example.COM "
    );
    assert_eq!(query_one(&mut c, "SELECT phone FROM b WHERE id = 1"), "044 668 18 01");
    assert_eq!(query_one(&mut c, "SELECT sync.format_phone('+41446681800', NULL)"), "+41446681800");
    let text = refusal(&mut c, "SELECT sync.format_phone('1', 'XX')");
    assert!(text.starts_with("22023") && text.contains("XX"), "{text}");
}

const MOMENTS: &str =
    "CREATE TABLE a (id int PRIMARY KEY, at timestamptz, day date, local timestamp, n timestamptz);
     CREATE TABLE b (id int PRIMARY KEY, at text, day text, local timestamptz, n bigint);";

#[test]
fn moments_are_written_as_the_document_says_and_read_back() {
    let fields = r#"{"source": "at", "target": "at"}, {"source": "day", "target": "day"},
                    {"source": "local", "target": "local"}"#;
    let cases = [
        ("iso8601", "2026-03-29T00:30:00.250000Z", "2026-03-29"),
        ("DD.MM.YYYY HH24:MI:SS.US", "29.03.2026 01:30:00.250000", "29.03.2026 00:00:00.000000"),
        ("epoch_ms", "1774744200250", "1774738800000"),
    ];
    for (format, at, day) in cases {
        let options = format!(
            r#""mapping_options": {{"timestamp_format": "{format}", "time_zone": "Europe/Zurich"}},"#
        );
        let (_db, mut c) = prepared(&create(MOMENTS, &options, fields));
        run(
            &mut c,
            "SET timezone = 'Asia/Tokyo'; INSERT INTO a VALUES (1, '2026-03-29 00:30:00.25Z', '2026-03-29', '2026-07-01 12:00')",
        );
        synced(&mut c, "s");
        run(&mut c, "SET timezone = 'UTC'");
        assert_eq!(
            query_one(&mut c, "SELECT at, day, local FROM b"),
            format!("{at}|{day}|2026-07-01 10:00:00+00"),
            "{format}"
        );
        // And back: the same text is the same moment.
        run(&mut c, &format!("INSERT INTO b VALUES (2, '{at}', '{day}', '2026-01-01 12:00Z')"));
        synced(&mut c, "s");
        assert_eq!(
            query_one(&mut c, "SELECT at, day, local FROM a WHERE id = 2"),
            "2026-03-29 00:30:00.25+00|2026-03-29|2026-01-01 13:00:00",
            "{format}"
        );
    }
    let (_db, mut c) = prepared(&create(
        MOMENTS,
        r#""mapping_options": {"timestamp_format": "epoch_ms"},"#,
        r#"{"source": "n", "target": "n"}, {"source": "at", "target": "at", "transformation": "iso8601"}"#,
    ));
    run(
        &mut c,
        "INSERT INTO b VALUES (1, NULL, NULL, NULL, -1), (2, '2026-01-01T00:00:00Z', NULL, NULL, 1774744200251)",
    );
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT at, extract(epoch FROM n) * 1000 FROM a ORDER BY id"),
        ["|-1.000000", "2026-01-01 00:00:00+00|1774744200251.000000"]
    );
}

const NULLS: &str =
    "CREATE TABLE a (id int PRIMARY KEY, name text, n int); CREATE TABLE b (LIKE a INCLUDING ALL);";
const DEFAULTS: &str = r#"{"source": "name", "target": "name", "default": "none"}, {"source": "n", "target": "n", "default": 7}"#;

#[test]
fn a_null_is_preserved_ignored_or_takes_the_default() {
    let cases = [
        // Of a record that is made, one that is emptied later, and what comes back of it.
        ("preserve", "none|7", "|"),
        ("ignore", "none|7", "x|1"),
        ("default", "none|7", "none|7"),
    ];
    for (nulls, made, emptied) in cases {
        let options = format!(r#""mapping_options": {{"handle_nulls": "{nulls}"}},"#);
        let (_db, mut c) = prepared(&create(NULLS, &options, DEFAULTS));
        run(&mut c, "INSERT INTO a VALUES (1, NULL, NULL), (2, 'x', 1)");
        synced(&mut c, "s");
        run(&mut c, "UPDATE a SET name = NULL, n = NULL WHERE id = 2");
        synced(&mut c, "s");
        synced(&mut c, "s");
        let of =
            |c: &mut _, id: u32| query_one(c, &format!("SELECT name, n FROM b WHERE id = {id}"));
        assert_eq!((of(&mut c, 1).as_str(), of(&mut c, 2).as_str()), (made, emptied), "{nulls}");
        assert_eq!(rows(&mut c, "SELECT name, n FROM a ORDER BY id"), ["|", "|"], "{nulls}");
        // An edit of the other side is no conflict with what was empty.
        run(&mut c, "UPDATE b SET name = 'y' WHERE id = 2");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT name FROM a WHERE id = 2"), "y", "{nulls}");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    }
}

#[test]
fn a_required_field_is_not_sent_empty() {
    let (_db, mut c) = prepared(&create(
        NULLS,
        "",
        r#"{"source": "name", "target": "name", "required": true}, {"source": "n", "target": "n", "required": true, "default": 7}"#,
    ));
    run(&mut c, "INSERT INTO a VALUES (1, NULL, NULL), (2, 'two', NULL), (3, 'three', 3)");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["2|two|7", "3|three|3"]);
    let parked = query_one(&mut c, "SELECT key, state, sqlstate, message FROM sync.queue");
    assert_eq!(parked, "1|review|23502|the required field \"name\" is empty");
    // What is emptied later stays on the other side; the rest of the record waits with it.
    run(
        &mut c,
        "UPDATE a SET name = NULL, n = 4 WHERE id = 3; UPDATE a SET name = 'one' WHERE id = 1",
    );
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|one|7", "2|two|7", "3|three|3"]);
    run(&mut c, "UPDATE a SET name = 'III' WHERE id = 3");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name, n FROM b WHERE id = 3"), "III|4");
}

#[test]
fn options_that_cannot_work_are_refused_and_leave_nothing() {
    let (_db, mut c) = prepared(
        "CREATE TABLE a (id int PRIMARY KEY, name text, n int, at timestamptz); CREATE TABLE b (LIKE a INCLUDING ALL);",
    );
    let cases = [
        (
            r#""mapping_options": {"time_zone": "Mars/Olympus"},"#,
            r#"{"source": "at", "target": "at"}"#,
            "22023",
            "Mars/Olympus",
        ),
        ("", r#"{"source": "n", "target": "n", "default": "many"}"#, "22P02", "many"),
        (
            "",
            r#"{"source": "n", "target": "name", "transformation": "iso8601"}"#,
            "22023",
            "field_mappings[1]",
        ),
    ];
    for (options, mapping, state, says) in cases {
        let text = refusal(&mut c, &create("", options, mapping));
        assert!(text.starts_with(state) && text.contains(says), "{text}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}
