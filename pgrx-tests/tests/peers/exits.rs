//! A row that leaves the filter takes the other side's record along, where the document says so.

use cluster::postgres::Client;
use pgrx_tests::{Db, query_one, rows, run};

use super::{becomes, prepared, rest, settle, synced, together};

const TABLES: &str =
    "CREATE TABLE a (id int PRIMARY KEY, name text, note text, active bool NOT NULL DEFAULT true);
     CREATE TABLE b (id int PRIMARY KEY, name text, note text, hidden bool NOT NULL DEFAULT false,
                     gone bool NOT NULL DEFAULT false, gone_at timestamptz);";
const FIELDS: &str = r#""field_mappings": [{"source": "id", "target": "id"}, {"source": "name", "target": "name"},
     {"source": "note", "target": "note"}]"#;
const TWO_WAY: &str = r#""sync_type": "bidirectional""#;

fn create(rest: &str) -> String {
    format!(
        r#"SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "on_filter_exit": "delete", {rest}, {FIELDS}}}');"#
    )
}

/// A sync of so many linked rows.
fn pair(count: u32, rest: &str) -> (Db<'static>, Client) {
    let (db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO a SELECT i, 'n' || i FROM generate_series(1, {count}) i; {}",
        create(rest)
    ));
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), count.to_string());
    (db, c)
}

fn both(c: &mut Client) -> [Vec<String>; 2] {
    ["a", "b"].map(|table| rows(c, &format!("SELECT id, name, note FROM {table} ORDER BY id")))
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)";
const STATE: &str = "SELECT state FROM sync.status";
const DETAIL: &str = "SELECT detail FROM sync.status";

#[test]
fn a_row_that_leaves_deletes_the_other_sides_record_and_is_a_new_one_when_it_comes_back() {
    for kind in ["one_way", "bidirectional"] {
        let (_db, mut c) = pair(3, &format!(r#""sync_type": "{kind}", "where": "active""#));
        run(&mut c, "UPDATE a SET active = false WHERE id < 3");
        synced(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(both(&mut c), [vec!["1|n1|", "2|n2|", "3|n3|"], vec!["3|n3|"]], "{kind}");
        // Outside, neither an edit nor a delete brings anything about.
        run(&mut c, "UPDATE a SET note = 'outside' WHERE id = 1; DELETE FROM a WHERE id = 2");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, COUNTS), "2|1");
        run(&mut c, "UPDATE a SET active = true; UPDATE a SET name = 'three' WHERE id = 3");
        synced(&mut c, "s");
        synced(&mut c, "s");
        let all = vec!["1|n1|outside", "3|three|"];
        assert_eq!(both(&mut c), [all.clone(), all], "{kind}");
        run(&mut c, "UPDATE a SET note = 'linked'");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE note = 'linked'"), "2");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    }
}

#[test]
fn each_sides_filter_asks_its_own_rows_and_only_where_its_changes_travel() {
    let filters = r#""where": "active", "target_where": "NOT hidden""#;
    let (_db, mut c) = pair(4, &format!("{TWO_WAY}, {filters}"));
    run(
        &mut c,
        "UPDATE b SET hidden = true WHERE id = 1; UPDATE a SET active = false WHERE id = 2",
    );
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM a ORDER BY id"), ["2", "3", "4"]);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "3", "4"]);
    // Both leave: neither is deleted, and they are the same two when they are back.
    together(
        &mut c,
        &["UPDATE a SET active = false WHERE id = 3", "UPDATE b SET hidden = true WHERE id = 3"],
    );
    assert_eq!(query_one(&mut c, COUNTS), "3|3");
    run(&mut c, "UPDATE a SET active = true, name = 'a' WHERE id = 3");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET hidden = false, note = 'b' WHERE id = 3");
    synced(&mut c, "s");
    synced(&mut c, "s");
    let three = "SELECT a.name, a.note, b.name, b.note FROM a JOIN b USING (id) WHERE id = 3";
    assert_eq!(query_one(&mut c, three), "a|b|a|b");
    // One way, what becomes of the copy deletes nothing.
    let (_db, mut c) = pair(2, filters);
    run(&mut c, "UPDATE b SET hidden = true WHERE id = 1");
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET active = false WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "2|1");
}

#[test]
fn a_record_that_goes_one_way_is_not_deleted_by_its_copy() {
    let (_db, mut c) =
        pair(2, &format!(r#"{TWO_WAY}, "target_where": "NOT hidden", "two_way_where": "id = 2""#));
    run(&mut c, "UPDATE b SET hidden = true");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM a ORDER BY id"), ["1"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "2");
    // To be out of "two_way_where" is not to leave the filter.
    let (_db, mut c) =
        pair(2, &format!(r#"{TWO_WAY}, "where": "id < 9", "two_way_where": "active""#));
    run(&mut c, "UPDATE a SET active = false, name = 'x'");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name FROM b ORDER BY id"), ["1|x", "2|x"]);
}

#[test]
fn what_was_edited_meanwhile_is_decided_as_with_a_delete() {
    let leave = "UPDATE a SET active = false, note = 'left' WHERE id = 1";
    let edit = "UPDATE b SET name = 'edited' WHERE id = 1";
    let policy = |deletes: &str| {
        format!(
            r#"{TWO_WAY}, "where": "active", "conflict_resolution": {{"strategy": "last_write_wins"{deletes}}}"#
        )
    };
    const CONFLICTS: &str =
        "SELECT kind, field, source_value, target_value, winner FROM sync.conflicts";
    for (deletes, order, stays) in [
        (r#", "deletes": "delete_wins""#, [leave, edit], false),
        (r#", "deletes": "edit_wins""#, [edit, leave], true),
        ("", [edit, leave], false),
        ("", [leave, edit], true),
    ] {
        let (_db, mut c) = pair(2, &policy(deletes));
        together(&mut c, &order);
        let winner = if stays { "target" } else { "source" };
        assert_eq!(rows(&mut c, CONFLICTS), [format!("update_deleted|name||edited|{winner}")]);
        let reason = query_one(&mut c, "SELECT reason FROM sync.conflicts");
        assert!(reason.contains("took its row out of the filter"), "{reason}");
        assert_eq!(query_one(&mut c, "SELECT name, note FROM a WHERE id = 1"), "n1|left");
        let b = "SELECT name, note FROM b WHERE id = 1";
        assert_eq!(rows(&mut c, b), if stays { vec!["edited|"] } else { vec![] }, "{deletes}");
        // Let go, both go on by themselves, and are merged when the row is back.
        run(
            &mut c,
            "UPDATE a SET note = 'later' WHERE id = 1; UPDATE b SET hidden = true WHERE id = 1",
        );
        synced(&mut c, "s");
        assert_eq!(rows(&mut c, b), if stays { vec!["edited|"] } else { vec![] }, "{deletes}");
        run(&mut c, "UPDATE a SET active = true WHERE id = 1");
        synced(&mut c, "s");
        synced(&mut c, "s");
        let name = if stays { "edited" } else { "n1" };
        let merged = format!("1|{name}|later");
        assert_eq!(both(&mut c), [[&*merged, "2|n2|"], [&*merged, "2|n2|"]], "{deletes}");
    }
}

#[test]
fn a_person_decides_between_the_row_that_left_and_the_edit() {
    for (keep, after) in [("source", "2|1"), ("target", "2|2")] {
        let (_db, mut c) = pair(
            2,
            &format!(
                r#"{TWO_WAY}, "where": "active",
                   "conflict_resolution": {{"strategy": "last_write_wins", "deletes": "review"}}"#
            ),
        );
        together(
            &mut c,
            &[
                "UPDATE a SET active = false WHERE id = 1",
                "UPDATE b SET name = 'edited' WHERE id = 1",
            ],
        );
        assert_eq!(query_one(&mut c, COUNTS), "2|2");
        // Until then neither side is written, whichever is edited.
        run(&mut c, "UPDATE a SET note = 'a' WHERE id = 1");
        synced(&mut c, "s");
        run(&mut c, "UPDATE b SET name = 'again' WHERE id = 1");
        synced(&mut c, "s");
        assert_eq!(
            rows(
                &mut c,
                "SELECT a.name, a.note, b.name, b.note FROM a JOIN b USING (id) WHERE id = 1"
            ),
            ["n1|a|again|"]
        );
        let open = "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL";
        assert_ne!(query_one(&mut c, open), "0");
        run(&mut c, &format!("SELECT sync.resolve_all('s', keep => '{keep}')"));
        synced(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, COUNTS), after, "{keep}");
        assert_eq!(query_one(&mut c, open), "0", "{keep}");
        assert_eq!(rows(&mut c, "SELECT DISTINCT winner FROM sync.conflicts"), [keep]);
        run(&mut c, "UPDATE a SET active = true WHERE id = 1");
        synced(&mut c, "s");
        synced(&mut c, "s");
        let [a, b] = both(&mut c);
        assert_eq!(a, b, "{keep}");
        assert_eq!(a[0], if keep == "source" { "1|n1|a" } else { "1|again|a" });
    }
}

#[test]
fn a_record_is_marked_and_the_mark_is_taken_away_when_the_row_is_back() {
    for (column, marked) in [("gone", "gone"), ("gone_at", "gone_at IS NOT NULL")] {
        for kind in ["one_way", "bidirectional"] {
            let (_db, mut c) = pair(
                3,
                &format!(
                    r#""sync_type": "{kind}", "where": "active", "on_source_delete": {{"action": "mark", "column": "{column}"}}"#
                ),
            );
            let found = format!("SELECT id, name, {marked} FROM b ORDER BY id");
            run(&mut c, "UPDATE a SET active = false, name = 'left' WHERE id < 3");
            synced(&mut c, "s");
            synced(&mut c, "s");
            assert_eq!(rows(&mut c, &found), ["1|n1|t", "2|n2|t", "3|n3|f"], "{column} {kind}");
            run(&mut c, "UPDATE a SET note = 'outside' WHERE id < 3; DELETE FROM a WHERE id = 2");
            synced(&mut c, "s");
            assert_eq!(rows(&mut c, &found), ["1|n1|t", "2|n2|t", "3|n3|f"], "{column} {kind}");
            run(&mut c, "UPDATE a SET active = true WHERE id = 1");
            synced(&mut c, "s");
            synced(&mut c, "s");
            assert_eq!(rows(&mut c, &found), ["1|left|f", "2|n2|t", "3|n3|f"], "{column} {kind}");
            // And once more.
            run(&mut c, "UPDATE a SET active = false WHERE id = 1");
            synced(&mut c, "s");
            synced(&mut c, "s");
            assert_eq!(rows(&mut c, &found), ["1|left|t", "2|n2|t", "3|n3|f"], "{column} {kind}");
            assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
        }
    }
}

#[test]
fn a_child_that_leaves_with_its_parent_waits_for_nobody() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE pa (id int PRIMARY KEY, active bool); CREATE TABLE pb (id int PRIMARY KEY, active bool);
           CREATE TABLE ca (id int PRIMARY KEY, parent int REFERENCES pa, active bool);
           CREATE TABLE cb (id int PRIMARY KEY, parent int REFERENCES pb ON DELETE CASCADE, active bool);
           INSERT INTO pa VALUES (1, true), (2, true); INSERT INTO ca VALUES (1, 1, true), (2, 2, true), (3, 2, true);
           SELECT sync.create_sync('p', '{"source": "pa", "target": "pb", "where": "active", "on_filter_exit": "delete"}');
           SELECT sync.create_sync('c', '{"source": "ca", "target": "cb", "where": "active", "on_filter_exit": "delete"}');"#,
    );
    rest(&mut c, &["p", "c"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM cb"), "3");
    run(
        &mut c,
        "BEGIN; UPDATE ca SET active = false WHERE parent = 1; UPDATE pa SET active = false WHERE id = 1; COMMIT",
    );
    rest(&mut c, &["p", "c"]);
    assert_eq!(rows(&mut c, "SELECT id FROM cb ORDER BY id"), ["2", "3"]);
    assert_eq!(rows(&mut c, "SELECT id FROM pb"), ["2"]);
    // One that points to a row that is not synced leaves as well.
    run(&mut c, "UPDATE ca SET active = false, parent = 1 WHERE id = 3");
    rest(&mut c, &["p", "c"]);
    assert_eq!(rows(&mut c, "SELECT id FROM cb"), ["2"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}

#[test]
fn only_what_leaves_from_now_on_takes_anything_along() {
    let (_db, mut c) = pair(3, &format!(r#"{TWO_WAY}, "where": "active""#));
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"on_filter_exit": "release"}')"#);
    run(&mut c, "UPDATE a SET active = false WHERE id = 1");
    synced(&mut c, "s");
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"on_filter_exit": "delete"}')"#);
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET note = 'x' WHERE id = 1; UPDATE a SET active = false WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "3"]);
}

fn asks(db: &Db<'_>, c: &mut Client, sentence: &str) {
    becomes(db, c, STATE, "needs decision");
    assert_eq!(query_one(c, DETAIL), sentence);
}

#[test]
fn more_rows_than_a_batch_may_delete_leave_only_when_it_is_confirmed() {
    for answer in ["confirm", "discard"] {
        let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "active""#));
        run(&mut c, "UPDATE a SET active = false, note = 'left' WHERE id <= 150");
        asks(
            &db,
            &mut c,
            "150 rows of public.a left the filter, more than the limit of 100; nothing has been deleted from public.b",
        );
        assert_eq!(query_one(&mut c, COUNTS), "300|300");
        run(&mut c, &format!("SELECT sync.resume('s', {answer} => true)"));
        synced(&mut c, "s");
        let after = if answer == "confirm" { "300|150" } else { "300|300" };
        assert_eq!(query_one(&mut c, COUNTS), after);
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE note = 'left'"), "0");
        // Let go or made anew, they are the same in the end; and the next batch is asked about anew.
        run(&mut c, "UPDATE a SET active = true");
        synced(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE note = 'left'"), "150");
        run(&mut c, "UPDATE a SET active = false");
        becomes(&db, &mut c, STATE, "needs decision");
        assert_eq!(query_one(&mut c, COUNTS), "300|300");
    }
}

#[test]
fn rows_that_leave_and_rows_that_are_deleted_are_counted_together() {
    let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "active""#));
    run(
        &mut c,
        "BEGIN; UPDATE a SET active = false WHERE id <= 60; DELETE FROM a WHERE id > 240; COMMIT",
    );
    asks(
        &db,
        &mut c,
        "120 rows of public.a were deleted or left the filter, more than the limit of 100; nothing has been deleted from public.b",
    );
    assert_eq!(query_one(&mut c, COUNTS), "240|300");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "240|180");
}

#[test]
fn only_rows_that_have_left_by_the_end_of_a_batch_are_counted() {
    let (_db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "active""#));
    run(&mut c, "INSERT INTO a SELECT i, 'outside', NULL, false FROM generate_series(301, 600) i");
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.pause('s')");
    // There again; fewer than the limit; never inside.
    run(&mut c, "UPDATE a SET active = false WHERE id <= 150");
    run(&mut c, "UPDATE a SET active = true, note = 'back' WHERE id <= 150");
    run(
        &mut c,
        "UPDATE a SET active = false WHERE id > 200; UPDATE a SET note = 'x' WHERE id > 300",
    );
    run(&mut c, "SELECT sync.resume('s')");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "600|200");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE note = 'back'"), "150");
}

/// Also what the sync writes itself can take rows out of the filter.
#[test]
fn an_edit_of_the_copies_that_takes_the_rows_out_of_the_filter_is_asked_about() {
    let (db, mut c) =
        pair(300, &format!(r#"{TWO_WAY}, "where": "note IS DISTINCT FROM ''closed''""#));
    run(&mut c, "UPDATE b SET note = 'closed' WHERE id = 1");
    synced(&mut c, "s");
    becomes(&db, &mut c, COUNTS, "300|299");
    run(&mut c, "UPDATE b SET note = 'closed'");
    becomes(&db, &mut c, STATE, "needs decision");
    assert_eq!(query_one(&mut c, COUNTS), "300|299");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM a WHERE note = 'closed'"), "300");
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "300|299");
}

#[test]
fn a_condition_that_raises_hides_nothing_from_the_guard() {
    let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "active OR 10 / (id - 7) > 100""#));
    run(&mut c, "UPDATE a SET active = false, name = 'x' WHERE id <= 150");
    asks(
        &db,
        &mut c,
        "149 rows of public.a left the filter, more than the limit of 100; nothing has been deleted from public.b",
    );
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(query_one(&mut c, COUNTS), "300|151");
    assert_eq!(query_one(&mut c, "SELECT key, sqlstate FROM sync.queue"), "7|22012");
}

#[test]
fn another_filter_deletes_what_is_outside_only_when_it_is_confirmed() {
    let filter = r#"SELECT sync.alter_sync('s', '{"where": "id > 150"}')"#;
    for answer in ["confirm", "discard"] {
        let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "active""#));
        run(&mut c, filter);
        asks(
            &db,
            &mut c,
            "150 or more rows of public.a are outside the filter, more than the limit of 100; nothing has been deleted from public.b",
        );
        assert_eq!(query_one(&mut c, COUNTS), "300|300");
        run(&mut c, &format!("SELECT sync.resume('s', {answer} => true)"));
        synced(&mut c, "s");
        let after = if answer == "confirm" { "300|150" } else { "300|300" };
        assert_eq!(query_one(&mut c, COUNTS), after);
        run(&mut c, "UPDATE a SET note = 'x'; UPDATE b SET name = 'y' WHERE id = 1");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE note = 'x'"), "150");
        assert_eq!(query_one(&mut c, "SELECT name FROM a WHERE id = 1"), "n1");
        run(&mut c, r#"SELECT sync.alter_sync('s', '{"where": "id > 100"}')"#);
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE note = 'x'"), "200");
        // As many as it may.
        run(&mut c, r#"SELECT sync.alter_sync('s', '{"where": "id > 200"}')"#);
        synced(&mut c, "s");
        let after = if answer == "confirm" { "300|100" } else { "300|200" };
        assert_eq!(query_one(&mut c, COUNTS), after);
    }
}

#[test]
fn the_first_load_deletes_nothing() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO a SELECT i, 'n' || i, NULL, i > 150 FROM generate_series(1, 300) i;
         INSERT INTO b SELECT i, 'n' || i FROM generate_series(1, 300) i; {}",
        create(&format!(r#"{TWO_WAY}, "where": "active""#))
    ));
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "300|300");
}

/// The question is about all that the answer does.
#[test]
fn rows_that_leave_because_a_value_is_gone_are_asked_about_as_both() {
    let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "name IS NOT NULL""#));
    run(&mut c, "UPDATE a SET name = NULL WHERE id <= 150");
    asks(
        &db,
        &mut c,
        "150 rows of public.a lost the value of a field, more than the limit of 100; nothing has been emptied in public.b; and \
         150 rows of public.a left the filter, more than the limit of 100; nothing has been deleted from public.b",
    );
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(name) FROM b"), "300");
}

/// However few they are among the changes of other tables.
#[test]
fn rows_that_leave_are_seen_among_many_changes_of_others() {
    let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "where": "active""#));
    run(
        &mut c,
        r#"CREATE TABLE c (id int PRIMARY KEY, v text); CREATE TABLE d (LIKE c INCLUDING ALL);
           SELECT sync.create_sync('other', '{"source": "c", "target": "d"}')"#,
    );
    synced(&mut c, "other");
    run(
        &mut c,
        "BEGIN; INSERT INTO c SELECT i, 'x' FROM generate_series(1, 20000) i; UPDATE a SET active = false WHERE id <= 101;
         INSERT INTO c SELECT i, 'x' FROM generate_series(20001, 40000) i; COMMIT",
    );
    becomes(&db, &mut c, &format!("{STATE} WHERE sync = 's'"), "needs decision");
    assert_eq!(
        query_one(&mut c, &format!("{DETAIL} WHERE sync = 's'")),
        "101 rows of public.a left the filter, more than the limit of 100; nothing has been deleted from public.b"
    );
    assert_eq!(query_one(&mut c, COUNTS), "300|300");
}

#[test]
fn a_new_filter_of_each_side_is_asked_about_for_both() {
    let (db, mut c) = pair(300, &format!(r#"{TWO_WAY}, "source_where": "id > 0""#));
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"source_where": "id > 80", "target_where": "id <= 220"}')"#,
    );
    asks(
        &db,
        &mut c,
        "160 or more rows of public.a and public.b are outside the filter, more than the limit of 100; \
         nothing has been deleted from public.b and public.a",
    );
    assert_eq!(query_one(&mut c, COUNTS), "300|300");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "220|220");
}

/// What waits for a person to decide deletes nothing, and is no reason to ask.
#[test]
fn rows_of_which_a_person_is_to_decide_are_not_counted_again() {
    let (db, mut c) = pair(
        300,
        &format!(
            r#"{TWO_WAY}, "where": "active",
               "conflict_resolution": {{"strategy": "last_write_wins", "deletes": "review"}}"#
        ),
    );
    run(&mut c, "SELECT sync.pause('s'); UPDATE a SET active = false WHERE id <= 150");
    run(&mut c, "UPDATE b SET name = 'edited' WHERE id <= 150; SELECT sync.resume('s')");
    becomes(&db, &mut c, STATE, "needs decision");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    let open = "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL";
    assert_eq!(query_one(&mut c, open), "150");
    run(&mut c, "UPDATE a SET note = 'later' WHERE id <= 150");
    synced(&mut c, "s");
    run(&mut c, "SELECT sync.pause('s'); SELECT sync.resume('s')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "300|300");
    assert_eq!(query_one(&mut c, open), "150");
}

/// A marked record goes by another key with its row, and is the same one when it is back.
#[test]
fn a_row_that_leaves_under_another_key_stays_the_same_record() {
    let (_db, mut c) = pair(
        3,
        &format!(
            r#"{TWO_WAY}, "where": "active", "on_source_delete": {{"action": "mark", "column": "gone"}}"#
        ),
    );
    run(&mut c, "UPDATE a SET id = 5, active = false, name = 'five' WHERE id = 1");
    synced(&mut c, "s");
    synced(&mut c, "s");
    let b = "SELECT id, name, gone FROM b ORDER BY id";
    assert_eq!(rows(&mut c, b), ["2|n2|f", "3|n3|f", "5|n1|t"]);
    run(&mut c, "UPDATE a SET id = 6 WHERE id = 5");
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET active = true WHERE id = 6");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, b), ["2|n2|f", "3|n3|f", "6|five|f"]);
    assert_eq!(rows(&mut c, "SELECT id, name FROM a ORDER BY id"), ["2|n2", "3|n3", "6|five"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}
