//! `sync.repair` of two tables: what `sync.audit` finds is put right, by the sync's own rules or by a person's word.

use cluster::postgres::Client;
use pgrx_tests::{query_one, refusal, rows, run};

use super::audit::{counts, unseen};
use super::{prepared, settle, synced};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, v text, w text); CREATE TABLE b (id int PRIMARY KEY, v text, w text);
    INSERT INTO a SELECT n, 'v' || n, 'w' FROM generate_series(1, 20) n;";

fn tables(more: &str) -> (pgrx_tests::Db<'static>, Client) {
    let (db, mut c) = prepared(&format!(
        r#"{TABLES} SELECT sync.create_sync('s', '{{"source": "a", "target": "b"}}', '{more}')"#
    ));
    synced(&mut c, "s");
    (db, c)
}

const TWO_WAY: &str = r#"{"sync_type": "bidirectional"}"#;

fn row(c: &mut Client, table: &str, id: u32) -> String {
    rows(c, &format!("SELECT v, w FROM {table} WHERE id = {id}")).join(",")
}

/// Both say so: the base that was agreed on, and the source, which nobody has touched.
#[test]
fn what_was_edited_on_the_target_of_a_one_way_sync_is_put_right() {
    let (_db, mut c) = tables("{}");
    run(
        &mut c,
        "UPDATE b SET v = 'edited' WHERE id < 4; DELETE FROM b WHERE id = 5; INSERT INTO b VALUES (99, 'own', 'w')",
    );
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s')"), "4");
    synced(&mut c, "s");
    assert_eq!(counts(&mut c), ["only on target|1"]);
    assert_eq!(row(&mut c, "b", 2), "v2|w");
    assert_eq!(row(&mut c, "b", 5), "v5|w");
    assert_eq!(row(&mut c, "b", 99), "own|w");
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s')"), "0");
    // Edits and the sync go on as before.
    run(&mut c, "UPDATE a SET v = 'next' WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(row(&mut c, "b", 2), "next|w");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

/// Edits that nobody captured: the side that moved away from what was agreed on is the one that was edited.
#[test]
fn a_two_way_sync_brings_uncaptured_edits_to_the_other_side() {
    let (_db, mut c) = tables(TWO_WAY);
    unseen(
        &mut c,
        "UPDATE a SET v = 'a' WHERE id = 1; UPDATE b SET v = 'b' WHERE id = 2; UPDATE a SET v = 'a' WHERE id = 3; UPDATE b SET w = 'b' WHERE id = 3",
    );
    synced(&mut c, "s");
    assert_eq!(counts(&mut c), ["differs|3"]);
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s')"), "3");
    synced(&mut c, "s");
    for (id, expected) in [(1, "a|w"), (2, "b|w"), (3, "a|b")] {
        assert_eq!(row(&mut c, "a", id), expected);
        assert_eq!(row(&mut c, "b", id), expected);
    }
    assert_eq!(counts(&mut c), [""; 0]);
}

#[test]
fn a_person_says_whose_value_stands() {
    for (keep, expected) in [("source", "a"), ("target", "b")] {
        let (_db, mut c) = tables(TWO_WAY);
        unseen(
            &mut c,
            "UPDATE a SET v = 'a' WHERE id = 1; UPDATE b SET v = 'b' WHERE id = 1;
             UPDATE a SET v = 'a' WHERE id = 2; UPDATE b SET v = 'b' WHERE id = 3",
        );
        run(&mut c, &format!("SELECT sync.repair('s', keep => '{keep}')"));
        synced(&mut c, "s");
        assert_eq!(counts(&mut c), [""; 0], "{keep}");
        assert_eq!(row(&mut c, "a", 1), format!("{expected}|w"));
        // Also where only the other side was edited.
        let (second, third) = if keep == "source" { ("a", "v3") } else { ("v2", "b") };
        assert_eq!(row(&mut c, "b", 2), format!("{second}|w"), "{keep}");
        assert_eq!(row(&mut c, "a", 3), format!("{third}|w"), "{keep}");
        // The value that was overwritten is not lost.
        let conflict =
            "SELECT key, source_value, target_value, winner FROM sync.conflicts WHERE key = '1'";
        assert_eq!(query_one(&mut c, conflict), format!("1|a|b|{keep}"));
    }
}

/// A pair that was only linked has agreed to differ: nothing but a repair makes it alike.
#[test]
fn pairs_that_were_agreed_to_differ_are_put_right() {
    for (call, expected) in [
        ("sync.repair('s')", "a"),
        ("sync.repair('s', keep => 'target')", "b"),
        ("sync.repair('s', keep => 'source')", "a"),
    ] {
        let (_db, mut c) = prepared(
            r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
               INSERT INTO a VALUES (1, 'a'), (2, 'same'); INSERT INTO b VALUES (1, 'b'), (2, 'same');
               SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "initial_sync": {"strategy": "match_only"}}')"#,
        );
        synced(&mut c, "s");
        let detail = "SELECT detail FROM sync.audit('s') WHERE key = '1'";
        assert_eq!(query_one(&mut c, detail), "both are as they were when they were last compared");
        assert_eq!(query_one(&mut c, &format!("SELECT {call}")), "1");
        synced(&mut c, "s");
        for table in ["a", "b"] {
            assert_eq!(
                query_one(&mut c, &format!("SELECT v FROM {table} WHERE id = 1")),
                expected,
                "{call}"
            );
        }
        assert_eq!(counts(&mut c), [""; 0], "{call}");
    }
}

#[test]
fn rows_of_the_target_are_created_at_the_source_only_on_request() {
    let (_db, mut c) = tables(TWO_WAY);
    unseen(&mut c, "INSERT INTO a VALUES (101, 'a', 'w'); INSERT INTO b VALUES (102, 'b', 'w')");
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s')"), "1");
    synced(&mut c, "s");
    assert_eq!(counts(&mut c), ["only on target|1"]);
    assert_eq!(row(&mut c, "b", 101), "a|w");
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s', create_missing => true)"), "1");
    synced(&mut c, "s");
    assert_eq!(counts(&mut c), [""; 0]);
    assert_eq!(row(&mut c, "a", 102), "b|w");
}

/// Deletes that nobody captured travel as the sync has it, or the rows are made again.
#[test]
fn a_row_whose_partner_is_gone_goes_too_or_is_made_again() {
    for (keep, a, b) in [("NULL", "", ""), ("'source'", "1", ""), ("'target'", "", "2")] {
        let (_db, mut c) = tables(TWO_WAY);
        // Row 1 is gone from the target, row 2 from the source.
        unseen(&mut c, "DELETE FROM b WHERE id = 1; DELETE FROM a WHERE id = 2");
        assert_eq!(counts(&mut c), ["link without row|2"]);
        run(&mut c, &format!("SELECT sync.repair('s', keep => {keep})"));
        synced(&mut c, "s");
        assert_eq!(counts(&mut c), [""; 0], "{keep}");
        let left = "SELECT COALESCE(string_agg(id::text, ',' ORDER BY id), '') FROM a WHERE id < 3";
        let expected = [a, b].concat();
        assert_eq!(query_one(&mut c, left), expected, "{keep}");
        assert_eq!(query_one(&mut c, &left.replace("FROM a", "FROM b")), expected, "{keep}");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0", "{keep}");
    }
}

/// P1: never more than a person would be asked about, and nothing of it is left in the queue.
#[test]
fn a_repair_that_would_delete_many_rows_is_refused() {
    let (_db, mut c) = tables(r#"{"sync_type": "bidirectional", "delete_limit": 3}"#);
    unseen(&mut c, "DELETE FROM b WHERE id < 5");
    let said = refusal(&mut c, "SELECT sync.repair('s')");
    assert!(
        said.starts_with("55000 a repair of sync \"s\" would delete 4") && said.contains("\nHINT"),
        "{said}"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s', keep => 'source')"), "4");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "20");
    assert_eq!(counts(&mut c), [""; 0]);
}

/// An edit that comes between the repair and its being carried out is merged with it, and is not lost.
#[test]
fn an_edit_meanwhile_is_not_lost() {
    let (_db, mut c) = tables(TWO_WAY);
    unseen(&mut c, "UPDATE b SET v = 'unseen' WHERE id IN (1, 2)");
    // Before and after it in the same transaction, of the same field and of another, on either side.
    run(
        &mut c,
        "BEGIN; UPDATE a SET w = 'before' WHERE id = 1; SELECT sync.repair('s', keep => 'source'); UPDATE b SET w = 'after' WHERE id = 2; COMMIT",
    );
    synced(&mut c, "s");
    synced(&mut c, "s");
    for (id, edited) in [(1, "|before"), (2, "|after")] {
        let row = [row(&mut c, "a", id), row(&mut c, "b", id)];
        assert!(row[0] == row[1] && row[0].ends_with(edited), "{row:?}");
    }
    run(&mut c, "SELECT sync.repair('s', keep => 'source')");
    synced(&mut c, "s");
    assert_eq!(counts(&mut c), [""; 0]);
    // An edit of the very field: it stands, or where it stood beside what was overruled.
    unseen(&mut c, "UPDATE b SET v = 'unseen' WHERE id = 3");
    run(
        &mut c,
        "BEGIN; SELECT sync.repair('s', keep => 'source'); UPDATE b SET v = 'new' WHERE id = 3; COMMIT",
    );
    synced(&mut c, "s");
    let stands = [row(&mut c, "a", 3), row(&mut c, "b", 3)];
    let noted = "SELECT count(*) FROM sync.conflicts WHERE key = '3' AND target_value = 'new'";
    assert_eq!(stands[0], stands[1]);
    assert!(stands[0] == "new|w" || query_one(&mut c, noted) == "1", "{stands:?}");
}

/// Where a person decides, a repair asks; what was decided by it stands.
#[test]
fn where_people_decide_a_repair_asks_them() {
    let (_db, mut c) =
        tables(r#"{"sync_type": "bidirectional", "conflict_resolution": {"strategy": "manual"}}"#);
    unseen(
        &mut c,
        "UPDATE a SET v = 'a' WHERE id < 3; UPDATE b SET v = 'b' WHERE id < 3; UPDATE a SET v = 'c' WHERE id = 3",
    );
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s')"), "3");
    synced(&mut c, "s");
    let asked = "SELECT key, source_value, target_value FROM sync.conflicts WHERE winner IS NULL ORDER BY key";
    assert_eq!(rows(&mut c, asked), ["1|a|b", "2|a|b"]);
    assert_eq!(row(&mut c, "b", 3), "c|w");
    assert_eq!(counts(&mut c), ["in conflict|2"]);
    run(&mut c, "SELECT sync.resolve_all('s', keep => 'target')");
    synced(&mut c, "s");
    assert_eq!(row(&mut c, "a", 1), "b|w");
    assert_eq!(counts(&mut c), [""; 0]);
}

/// Rows of the same key that were never linked; a person's word counts more than what the document says of such pairs.
#[test]
fn pairs_without_a_link_are_linked() {
    for (keep, expected) in [("NULL", "a b"), ("'target'", "b b")] {
        let (_db, mut c) = tables(
            r#"{"sync_type": "bidirectional", "initial_sync": {"on_difference": "report"}}"#,
        );
        unseen(&mut c, "UPDATE a SET v = 'a' WHERE id = 1; UPDATE b SET v = 'b' WHERE id = 1");
        run(&mut c, "DELETE FROM sync._link");
        assert_eq!(counts(&mut c), ["not linked|20"]);
        assert_eq!(query_one(&mut c, &format!("SELECT sync.repair('s', keep => {keep})")), "20");
        synced(&mut c, "s");
        let both = "SELECT (SELECT v FROM a WHERE id = 1) || ' ' || (SELECT v FROM b WHERE id = 1)";
        assert_eq!(query_one(&mut c, both), expected, "{keep}");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._link"), "20");
    }
}

#[test]
fn thousands_are_put_right_at_once() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a SELECT n, 'v' FROM generate_series(1, 20000) n;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}')"#,
    );
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET v = 'edited'; DELETE FROM b WHERE id % 2 = 0");
    assert_eq!(query_one(&mut c, "SELECT sync.repair('s')"), "20000");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM (TABLE a EXCEPT TABLE b) d"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
}

/// What cannot be written waits, and is put right when it is tried again.
#[test]
fn a_repair_that_fails_is_still_one_when_it_is_tried_again() {
    let (_db, mut c) = tables(r#"{"error_handling": {"retry_strategy": {"max_attempts": 1}}}"#);
    run(&mut c, "UPDATE b SET v = 'edited' WHERE id = 1; ALTER TABLE b ADD CHECK (v <> 'v1')");
    run(&mut c, "SELECT sync.repair('s')");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(counts(&mut c), ["queued|1"]);
    run(&mut c, "ALTER TABLE b DROP CONSTRAINT b_v_check; SELECT sync.retry(id) FROM sync.queue");
    synced(&mut c, "s");
    assert_eq!(row(&mut c, "b", 1), "v1|w");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
}

/// It is no user's edit: it carries the sync's origin.
#[test]
fn a_repair_is_no_edit() {
    let (_db, mut c) = tables(TWO_WAY);
    run(
        &mut c,
        r#"SELECT sync.create_sync('out', '{"source": "b", "target": {"type": "application"}}')"#,
    );
    unseen(&mut c, "UPDATE b SET v = 'unseen' WHERE id = 1");
    run(&mut c, "SELECT sync.repair('s', keep => 'source')");
    synced(&mut c, "s");
    assert_eq!(row(&mut c, "b", 1), "v1|w");
    let told = "SELECT DISTINCT origin FROM sync.deliveries WHERE sync = 'out' AND key = '1' AND operation = 'UPDATE'";
    assert_eq!(query_one(&mut c, told), "s");
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_handed_over() {
    let (_db, mut c) = tables("{}");
    run(&mut c, "UPDATE b SET v = 'edited' WHERE id = 1");
    for (call, expected) in [
        ("sync.repair('s', keep => 'target')", "55000 sync \"s\" takes nothing from the target"),
        (
            "sync.repair('s', create_missing => true)",
            "55000 sync \"s\" takes nothing from the target",
        ),
        ("sync.repair('s', keep => 'left')", "22023 \"left\" is no side of sync \"s\""),
        ("sync.repair('t')", "42704 sync \"t\" does not exist"),
        ("sync.repair(NULL)", "22004 a sync has to be named"),
    ] {
        let said = refusal(&mut c, &format!("SELECT {call}"));
        assert!(said.starts_with(expected) && said.contains("\nHINT"), "{call}: {said}");
    }
    run(&mut c, "SELECT sync.pause('s')");
    let said = refusal(&mut c, "SELECT sync.repair('s')");
    assert!(said.starts_with("55000 sync \"s\" is paused"), "{said}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
}
