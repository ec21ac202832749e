//! `stamp_columns`: how it is with a row stands in the row.

use std::time::Duration;

use cluster::postgres::Client;
use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, settle, synced};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, name text, last_sync timestamp);
     CREATE TABLE b (id int PRIMARY KEY, name text NOT NULL, last_sync timestamp, sync_state text, sync_error text);";
const STAMPED: &str = r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
     "stamp_columns": {"synced_at": "last_sync", "state": "sync_state", "error": "sync_error"}}');"#;

/// Stamps are written right after what they tell of.
#[track_caller]
fn stamped(c: &mut Client, wanted: &[&str]) {
    let sql = "SELECT id, abs(extract(epoch FROM last_sync - timezone('UTC', now()))) < 60,
                      sync_state, sync_error FROM b ORDER BY id";
    let mut last = Vec::new();
    let found = cluster::poll(Duration::from_secs(20), || {
        last = rows(c, sql);
        last == wanted
    });
    assert!(found, "{last:?}, not {wanted:?}");
}

#[test]
fn a_row_says_when_it_was_synced_and_what_keeps_it_from_being() {
    let (_db, mut c) = prepared(&format!("{TABLES} INSERT INTO a VALUES (1, 'one'); {STAMPED}"));
    run(&mut c, "INSERT INTO a VALUES (2, 'two')");
    synced(&mut c, "s");
    stamped(&mut c, &["1|t|synced|", "2|t|synced|"]);
    // The source's column of the same name is none of the sync's.
    assert_eq!(rows(&mut c, "SELECT id, name, last_sync FROM a ORDER BY id"), ["1|one|", "2|two|"]);
    // A row that waits says why, and keeps the time of the last agreement.
    run(&mut c, "ALTER TABLE a ADD CHECK (name <> 'bad')");
    run(&mut c, "UPDATE b SET last_sync = 'epoch'; UPDATE b SET name = 'bad' WHERE id = 1");
    settle(&mut c, "s");
    let waits = "SELECT last_sync = 'epoch', sync_state, sync_error FROM b WHERE id = 1";
    assert!(cluster::poll(Duration::from_secs(20), || {
        let row = query_one(&mut c, waits);
        row.starts_with("t|retrying|") && row.contains("violates check constraint")
    }));
    run(&mut c, "UPDATE b SET name = 'good'");
    synced(&mut c, "s");
    stamped(&mut c, &["1|t|synced|", "2|t|synced|"]);
    // Stamps are nobody's changes.
    let captured = query_one(&mut c, "SELECT last_value FROM sync._log_seq");
    run(&mut c, "UPDATE b SET last_sync = now(), sync_state = 'x'");
    assert_eq!(query_one(&mut c, "SELECT last_value FROM sync._log_seq"), captured);
}

#[test]
fn what_is_wrong_with_stamps_keeps_nothing_from_being_synced() {
    let (db, mut c) =
        prepared(&format!("{TABLES} INSERT INTO a VALUES (1, 'one'), (2, 'two'); {STAMPED}"));
    synced(&mut c, "s");
    stamped(&mut c, &["1|t|synced|", "2|t|synced|"]);
    run(
        &mut c,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no stamps'; END $$;
         CREATE TRIGGER no BEFORE UPDATE OF sync_state ON b FOR EACH ROW EXECUTE FUNCTION no()",
    );
    run(&mut c, "UPDATE a SET name = 'x'");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT name FROM b"), ["x", "x"]);
    run(&mut c, "DROP TRIGGER no ON b; UPDATE b SET last_sync = NULL");
    // A row that somebody holds is not waited for.
    let mut other = db.connect();
    run(&mut other, "BEGIN; SELECT FROM b WHERE id = 1 FOR UPDATE");
    run(&mut c, "UPDATE a SET name = 'y' WHERE id = 2");
    settle(&mut c, "s");
    stamped(&mut c, &["1||synced|", "2|t|synced|"]);
    run(&mut other, "COMMIT");
}

#[test]
fn columns_that_cannot_be_stamped_are_refused_and_leave_nothing() {
    let (_db, mut c) = prepared(TABLES);
    let cases = [
        (r#"{"synced_at": "nowhere"}"#, "", "42703", "stamp_columns.synced_at"),
        (r#"{"synced_at": "sync_state"}"#, "", "22023", "timestamp"),
        (r#"{"state": "last_sync"}"#, "", "22023", "text"),
        (r#"{"error": "id"}"#, "", "22023", "text"),
        (
            r#"{"synced_at": "last_sync"}"#,
            r#", "field_mappings": [{"source": "id", "target": "id"}, {"source": "last_sync", "target": "last_sync"}]"#,
            "22023",
            "is synced",
        ),
    ];
    for (stamps, more, state, says) in cases {
        let text = refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "stamp_columns": {stamps}{more}}}')"#
            ),
        );
        assert!(text.starts_with(state) && text.contains(says), "{stamps}: {text}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}
