//! Which records take part: rows enter a filter and leave it, and some go one way only.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, settle, synced, together};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, name text, note text, active bool NOT NULL DEFAULT true);
     CREATE TABLE b (id int PRIMARY KEY, name text, note text, hidden bool NOT NULL DEFAULT false);";
const FIELDS: &str = r#""field_mappings": [{"source": "id", "target": "id"}, {"source": "name", "target": "name"},
     {"source": "note", "target": "note"}]"#;

fn create(rest: &str) -> String {
    format!(
        r#"SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional", {rest}, {FIELDS}}}');"#
    )
}

fn both(c: &mut cluster::postgres::Client) -> [Vec<String>; 2] {
    ["a", "b"].map(|table| rows(c, &format!("SELECT id, name, note FROM {table} ORDER BY id")))
}

#[test]
fn a_row_that_enters_the_filter_is_created_and_one_that_leaves_it_is_released() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO a VALUES (1, 'one', NULL, true), (2, 'two', NULL, false); {}",
        create(r#""where": "active""#)
    ));
    run(&mut c, "INSERT INTO a VALUES (3, 'three', NULL, false), (4, 'four', NULL, true)");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "4"]);
    run(&mut c, "UPDATE a SET active = true WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name FROM b ORDER BY id"), ["1|one", "2|two", "4|four"]);
    // Released: neither side is written, whichever is edited, nor does a delete travel.
    run(&mut c, "UPDATE a SET active = false, name = 'mine'; ");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET note = 'theirs'; UPDATE a SET note = NULL");
    synced(&mut c, "s");
    run(&mut c, "DELETE FROM a WHERE id = 4; DELETE FROM b WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(
        both(&mut c),
        [vec!["1|mine|", "2|mine|", "3|mine|"], vec!["1|one|theirs", "4|four|theirs"]]
    );
    // Back again the edits of both sides are merged; what was deleted meanwhile is made anew.
    run(&mut c, "UPDATE a SET active = true WHERE id IN (1, 2)");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(
        both(&mut c),
        [
            vec!["1|mine|theirs", "2|mine|", "3|mine|"],
            vec!["1|mine|theirs", "2|mine|", "4|four|theirs"]
        ]
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}

#[test]
fn a_row_can_be_paused_and_goes_on_with_what_happened_meanwhile() {
    let (_db, mut c) = prepared(&format!("{TABLES} {}", create(r#""target_where": "NOT hidden""#)));
    run(&mut c, "INSERT INTO a VALUES (1, 'one'), (2, 'two')");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET hidden = true, name = 'eins' WHERE id = 1");
    synced(&mut c, "s");
    run(
        &mut c,
        "UPDATE a SET name = 'ONE', note = 'n' WHERE id = 1; UPDATE a SET name = 'TWO' WHERE id = 2",
    );
    synced(&mut c, "s");
    assert_eq!(both(&mut c), [["1|ONE|n", "2|TWO|"], ["1|eins|", "2|TWO|"]]);
    // Both renamed it: the later edit stands, and the other is told.
    run(&mut c, "UPDATE b SET hidden = false WHERE id = 1");
    synced(&mut c, "s");
    synced(&mut c, "s");
    let [a, b] = both(&mut c);
    assert_eq!(a, b);
    assert!(a[0].ends_with("|n"), "{a:?}");
    assert_eq!(query_one(&mut c, "SELECT field FROM sync.conflicts"), "name");
}

#[test]
fn another_filter_is_asked_of_all_rows() {
    let (_db, mut c) = prepared(&format!("{TABLES} {}", create(r#""where": "id > 2""#)));
    run(&mut c, "INSERT INTO a SELECT i, 'n' || i FROM generate_series(1, 4) i");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["3", "4"]);
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"where": "id < 4"}')"#);
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "2", "3", "4"]);
    run(&mut c, "UPDATE a SET name = 'x'; DELETE FROM b WHERE id = 4");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name FROM b ORDER BY id"), ["1|x", "2|x", "3|x"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM a"), "4");
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"where": null}')"#);
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, name FROM b ORDER BY id"), ["1|x", "2|x", "3|x", "4|x"]);
}

#[test]
fn two_ways_can_be_for_some_records_only() {
    let (_db, mut c) = prepared(&format!("{TABLES} {}", create(r#""two_way_where": "active""#)));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, 'one', NULL, true), (2, 'two', NULL, false), (3, 'three', NULL, false)",
    );
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "2", "3"]);
    run(&mut c, "UPDATE b SET name = name || '!'; DELETE FROM b WHERE id = 3");
    synced(&mut c, "s");
    // A copy that was deleted where nothing is decided is made again.
    assert_eq!(
        both(&mut c),
        [["1|one!|", "2|two|", "3|three|"], ["1|one!|", "2|two!|", "3|three|"]]
    );
    run(&mut c, "UPDATE a SET note = 'n'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name, note FROM b WHERE id = 2"), "two!|n");
    // A record that comes among them: what its target was edited to meanwhile arrives.
    run(&mut c, "UPDATE a SET active = true WHERE id = 2");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET note = 'back' WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name, note FROM a WHERE id = 2"), "two!|back");
    run(&mut c, "DELETE FROM b WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM a WHERE id = 2"), "0");
}

#[test]
fn a_condition_that_raises_parks_its_record_alone() {
    let (_db, mut c) = prepared(&format!("{TABLES} {}", create(r#""where": "10 / id > 0""#)));
    together(&mut c, &[]);
    run(&mut c, "INSERT INTO a VALUES (1, 'one'), (0, 'zero'), (20, 'twenty')");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "SELECT id FROM b"), ["1"]);
    assert_eq!(query_one(&mut c, "SELECT key, sqlstate FROM sync.queue"), "0|22012");
}

#[test]
fn conditions_that_are_none_are_refused_and_leave_nothing() {
    let (_db, mut c) = prepared(TABLES);
    let cases = [
        ("no_such", "42703", "no_such"),
        ("id", "", "bool"),
        ("true; DROP TABLE a", "42601", ";"),
        ("true) FROM a AS x WHERE (true", "42601", "FROM"),
        ("count(*) > 0", "", "where"),
        ("generate_series(1, 2) > 0", "", ""),
    ];
    for (condition, state, says) in cases {
        let text = refusal(&mut c, &create(&format!(r#""where": "{condition}""#)));
        assert!(text.starts_with(state) && text.contains(says), "{condition}: {text}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM a"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}

/// By its key alone it is known to which record a row belongs: that travels, and nothing else.
#[test]
fn a_released_row_takes_its_new_key_along() {
    let (_db, mut c) = prepared(&format!(
        "{TABLES} INSERT INTO a VALUES (1, 'one', NULL, true), (2, 'two', NULL, true); {}",
        create(r#""where": "active""#)
    ));
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET id = 5, active = false, name = 'five' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(both(&mut c), [["2|two|", "5|five|"], ["2|two|", "5|one|"]]);
    run(&mut c, "UPDATE b SET note = 'theirs' WHERE id = 5; UPDATE b SET id = 7 WHERE id = 5");
    synced(&mut c, "s");
    assert_eq!(both(&mut c), [["2|two|", "7|five|"], ["2|two|", "7|one|theirs"]]);
    run(&mut c, "UPDATE a SET active = true WHERE id = 7");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(both(&mut c), [["2|two|", "7|five|theirs"], ["2|two|", "7|five|theirs"]]);
    // Where both have got another one, the later stands.
    run(&mut c, "UPDATE a SET active = false WHERE id = 7");
    synced(&mut c, "s");
    together(&mut c, &["UPDATE a SET id = 8 WHERE id = 7", "UPDATE b SET id = 9 WHERE id = 7"]);
    assert_eq!(both(&mut c), [["2|two|", "9|five|theirs"], ["2|two|", "9|five|theirs"]]);
    run(&mut c, "UPDATE a SET active = true WHERE id = 9");
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET name = 'nine' WHERE id = 9");
    synced(&mut c, "s");
    assert_eq!(both(&mut c), [["2|two|", "9|nine|theirs"], ["2|two|", "9|nine|theirs"]]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}
