//! What becomes of a row whose other side was deleted: it goes too, stays, or is marked.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, synced, together};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, name text);
     CREATE TABLE b (id int PRIMARY KEY, name text, gone bool NOT NULL DEFAULT false, gone_at timestamptz);";

fn create(rest: &str) -> String {
    format!(
        r#"SELECT sync.create_sync('s', '{{"source": "a", "target": "b", {rest}}}');
           INSERT INTO a SELECT i, 'n' || i FROM generate_series(1, 4) i"#
    )
}

#[test]
fn a_row_that_stays_belongs_to_nobody_until_its_other_side_is_there_again() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} {}",
        create(r#""sync_type": "bidirectional", "on_source_delete": "keep""#)
    ));
    synced(&mut c, "s");
    run(&mut c, "DELETE FROM a WHERE id < 4");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "4");
    // Edited, it brings nothing back; deleted and made anew, it is a row like any other.
    run(&mut c, "UPDATE b SET name = 'mine'; DELETE FROM b WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a"), ["4|mine"]);
    run(&mut c, "INSERT INTO b VALUES (2, 'new')");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["2|new", "4|mine"]);
    run(&mut c, "INSERT INTO a VALUES (3, 'again')");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET name = name || '!' WHERE id IN (1, 3)");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["2|new", "3|again!", "4|mine"]);
    assert_eq!(
        rows(&mut c, "SELECT id, name FROM b ORDER BY id"),
        ["1|mine!", "2|new", "3|again!", "4|mine"]
    );
    // The other way deletes travel as ever.
    run(&mut c, "DELETE FROM b WHERE id = 4");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM a ORDER BY id"), ["2", "3"]);
}

#[test]
fn a_row_is_marked_in_the_place_of_a_delete() {
    for (column, marked) in [("gone", "gone"), ("gone_at", "gone_at > now() - interval '1 minute'")]
    {
        for kind in ["one_way", "bidirectional"] {
            let (_db, mut c) = prepared(&format!(
                "{TABLES} {}",
                create(&format!(
                    r#""sync_type": "{kind}", "on_source_delete": {{"action": "mark", "column": "{column}"}}"#
                ))
            ));
            synced(&mut c, "s");
            run(&mut c, "DELETE FROM a WHERE id < 3");
            synced(&mut c, "s");
            synced(&mut c, "s");
            let found = rows(
                &mut c,
                &format!("SELECT id, name, COALESCE({marked}, false) FROM b ORDER BY id"),
            );
            assert_eq!(found, ["1|n1|t", "2|n2|t", "3|n3|f", "4|n4|f"], "{column} {kind}");
            run(
                &mut c,
                "UPDATE b SET name = 'x' WHERE id = 1; UPDATE a SET name = 'y' WHERE id = 3",
            );
            synced(&mut c, "s");
            assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["3|y", "4|n4"]);
            assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
        }
    }
}

#[test]
fn a_delete_against_an_edit_is_decided_before_it_is_a_mark() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} {}",
        create(
            r#""sync_type": "bidirectional", "on_source_delete": {"action": "mark", "column": "gone"},
               "conflict_resolution": {"strategy": "last_write_wins", "deletes": "edit_wins"}"#
        )
    ));
    synced(&mut c, "s");
    together(&mut c, &["DELETE FROM a WHERE id = 1", "UPDATE b SET name = 'kept' WHERE id = 1"]);
    assert_eq!(query_one(&mut c, "SELECT name FROM a WHERE id = 1"), "kept");
    assert_eq!(query_one(&mut c, "SELECT gone FROM b WHERE id = 1"), "f");
}

#[test]
fn what_stays_is_not_guarded_against_and_what_is_marked_is() {
    for (policy, asks) in [(r#""keep""#, false), (r#"{"action": "mark", "column": "gone"}"#, true)]
    {
        let (_db, mut c) = prepared(&format!(
            "{TABLES} {}",
            create(&format!(r#""on_source_delete": {policy}, "delete_limit": 2"#))
        ));
        synced(&mut c, "s");
        run(&mut c, "DELETE FROM a");
        if asks {
            let state = "SELECT state FROM sync.status";
            assert!(cluster::poll(std::time::Duration::from_secs(30), || query_one(&mut c, state)
                == "needs decision"));
            run(&mut c, "SELECT sync.resume('s', confirm => true)");
        }
        synced(&mut c, "s");
        let marked = if asks { "4|4" } else { "4|0" };
        assert_eq!(
            query_one(&mut c, "SELECT count(*), count(*) FILTER (WHERE gone) FROM b"),
            marked
        );
    }
}

#[test]
fn marks_that_cannot_be_set_are_refused_and_leave_nothing() {
    let (_db, mut c) = prepared(
        "CREATE TABLE a (id int PRIMARY KEY, name text, gone bool);
         CREATE TABLE b (id int PRIMARY KEY, name text, gone bool, never bool GENERATED ALWAYS AS (false) STORED);",
    );
    let cases = [
        ("nowhere", "42703", "on_source_delete.column"),
        ("name", "22023", "boolean"),
        ("gone", "22023", "exclude_fields"),
        ("never", "22023", "computed"),
        ("id", "22023", "on_source_delete.column"),
    ];
    for (column, state, says) in cases {
        let text = refusal(
            &mut c,
            &create(&format!(r#""on_source_delete": {{"action": "mark", "column": "{column}"}}"#)),
        );
        assert!(text.starts_with(state) && text.contains(says), "{column}: {text}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}
