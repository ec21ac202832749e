//! `sync.preview`: what would be sent of one row, before anything is.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, synced};

fn shown(c: &mut cluster::postgres::Client, key: &str) -> Vec<String> {
    rows(c, &format!("SELECT * FROM sync.preview('s', '{key}')"))
}

#[test]
fn a_row_is_shown_as_it_would_arrive_field_by_field() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, name text, email text, n int, active bool DEFAULT true);
           CREATE TABLE b (id int PRIMARY KEY, name text, email text, half int);
           INSERT INTO a VALUES (1, ' Ada ', 'ada@example.com', 4, true), (2, 'Bob', 'nobody', 5, true), (3, 'Cy', NULL, 0, true),
                                (4, 'Di', NULL, 2, false);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "where": "active", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "name", "target": "name", "transformation": "trim"},
             {"source": "email", "target": "email"}, {"source": "n", "target": "half", "transformation": "20 / n"}],
             "validation_rules": [{"field": "email", "rule": "email_format"}]}');
           SELECT sync.pause('s')"#,
    );
    assert_eq!(
        shown(&mut c, "1"),
        [
            "||||create|",
            "id|1|1||send|",
            "name| Ada |Ada||send|",
            "email|ada@example.com|ada@example.com||send|",
            "half|4|5||send|"
        ]
    );
    assert_eq!(
        shown(&mut c, "2"),
        [
            "||||refused|it would wait in sync.queue",
            "id|2|2||send|",
            "name|Bob|Bob||send|",
            "email|nobody|nobody||refused|breaks the rule email_format of \"validation_rules[0]\"",
            "half|5|4||send|"
        ]
    );
    assert_eq!(shown(&mut c, "3")[4], "half|0|||fails|division by zero");
    assert_eq!(shown(&mut c, "3")[0], "||||refused|it would wait in sync.queue");
    assert!(shown(&mut c, "4")[0].starts_with("||||left out|"));
    // Nothing has been sent; and once it has, only what differs would be.
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "0");
    run(&mut c, "DELETE FROM a WHERE id IN (2, 3); SELECT sync.resume('s')");
    synced(&mut c, "s");
    assert_eq!(shown(&mut c, "1")[0], "||||unchanged|");
    run(&mut c, "UPDATE b SET name = 'mine'");
    assert_eq!(
        shown(&mut c, "1")[..3],
        ["||||update|", "id|1|1|1|same|", "name| Ada |Ada|mine|send|"]
    );
    let text = refusal(&mut c, "SELECT * FROM sync.preview('s', '9')");
    assert!(text.starts_with("02000") && text.contains("\"9\""), "{text}");
    assert!(refusal(&mut c, "SELECT * FROM sync.preview('nowhere', '9')").starts_with("42704"));
}

#[test]
fn a_transformation_writes_nothing_when_it_is_only_shown() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, name text); CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE seen (name text);
           CREATE FUNCTION note(text) RETURNS text LANGUAGE sql AS 'INSERT INTO seen VALUES ($1) RETURNING $1';
           INSERT INTO a VALUES (1, 'one');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "name", "target": "name", "transformation": "note"}]}');"#,
    );
    let lines = shown(&mut c, "1");
    assert!(
        lines[2].starts_with("name|one|||fails|") && lines[2].contains("read-only"),
        "{lines:?}"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM seen"), "0");
    run(&mut c, "INSERT INTO seen VALUES ('still writable')");
    // A cancelled look is cancelled, and the session is as usable as before.
    run(
        &mut c,
        "CREATE OR REPLACE FUNCTION note(text) RETURNS text LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(60)'; SET statement_timeout = '200ms'",
    );
    assert!(refusal(&mut c, "SELECT * FROM sync.preview('s', '1')").starts_with("57014"));
    run(&mut c, "SET statement_timeout = 0; INSERT INTO seen VALUES ('and again')");
}
