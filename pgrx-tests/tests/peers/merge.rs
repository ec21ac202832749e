//! Edits that meet: of different fields, of the same field, of a record that the other side deletes.
//! The sync is paused while both sides are changed, so that the worker sees the edits together.

use cluster::postgres::Client;
use pgrx_tests::{Db, query_one, rows, run};

use super::{prepared, synced, together};

/// Two-way, three columns, one linked row `1|base|base|base`.
fn pair() -> (Db<'static>, Client) {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, x text, y text, z text);
           CREATE TABLE b (id int PRIMARY KEY, x text, y text, z text);
           INSERT INTO a VALUES (1, 'base', 'base', 'base');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    synced(&mut c, "s");
    (db, c)
}

fn both(c: &mut Client) -> String {
    let a = rows(c, "SELECT * FROM a ORDER BY id").join(" ");
    let b = rows(c, "SELECT * FROM b ORDER BY id").join(" ");
    assert_eq!(a, b);
    a
}

const CONFLICTS: &str = "SELECT key, kind, field, base, source_value, target_value, winner
                           FROM sync.conflicts ORDER BY field";

/// P3.
#[test]
fn edits_of_different_fields_on_both_sides_survive() {
    let (_db, mut c) = pair();
    together(&mut c, &["UPDATE a SET x = 'from a'", "UPDATE b SET y = 'from b'"]);
    assert_eq!(both(&mut c), "1|from a|from b|base");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

/// P2, P11: the loser is recorded with everything that is needed to bring it back.
#[test]
fn of_two_edits_of_one_field_the_later_wins_and_the_other_is_recorded() {
    let (_db, mut c) = pair();
    together(
        &mut c,
        &["UPDATE b SET x = 'earlier', y = 'b only'", "UPDATE a SET x = 'later', z = 'a only'"],
    );
    assert_eq!(both(&mut c), "1|later|b only|a only");
    assert_eq!(rows(&mut c, CONFLICTS), ["1|update_origin_differs|x|base|later|earlier|source"]);
    assert_eq!(
        query_one(&mut c, "SELECT reason FROM sync.conflicts"),
        "both sides changed the field; the source's change is the later one"
    );
    together(&mut c, &["UPDATE a SET x = 'earlier'", "UPDATE b SET x = 'latest'"]);
    assert_eq!(both(&mut c), "1|latest|b only|a only");
    assert_eq!(
        rows(&mut c, "SELECT base, source_value, target_value, winner FROM sync.conflicts LIMIT 1"),
        ["later|earlier|latest|target"]
    );
}

/// P11: one clock reading for both sides, as in one transaction.
#[test]
fn at_the_same_time_the_source_wins() {
    let (_db, mut c) = pair();
    // Both times are equal to the microsecond only where the clock stands still; a value changed
    // to the same on both sides is no conflict at all.
    together(&mut c, &["UPDATE a SET x = 'same'", "UPDATE b SET x = 'same'"]);
    assert_eq!(both(&mut c), "1|same|base|base");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

/// P4.
#[test]
fn a_delete_after_an_edit_of_the_other_side_deletes() {
    let (_db, mut c) = pair();
    together(&mut c, &["UPDATE b SET x = 'edited'", "DELETE FROM a"]);
    assert_eq!(both(&mut c), "");
    assert_eq!(rows(&mut c, CONFLICTS), ["1|update_deleted|x|base||edited|source"]);
}

/// P2: what an edit wrote is not lost with the record that was deleted against it.
#[test]
fn a_record_deleted_against_edits_leaves_every_edited_value_in_the_conflicts() {
    let (_db, mut c) = pair();
    together(&mut c, &["UPDATE a SET x = 'lost', y = 'too'", "DELETE FROM b"]);
    assert_eq!(both(&mut c), "");
    assert_eq!(
        rows(&mut c, CONFLICTS),
        ["1|update_deleted|x|base|lost||target", "1|update_deleted|y|base|too||target"]
    );
    assert_eq!(
        query_one(&mut c, "SELECT DISTINCT reason FROM sync.conflicts"),
        "the target deleted the record, the source changed the field; the target's change is the later one"
    );
}

#[test]
fn an_edit_after_a_delete_of_the_other_side_brings_the_record_back() {
    let (_db, mut c) = pair();
    together(&mut c, &["DELETE FROM a", "UPDATE b SET x = 'edited'"]);
    assert_eq!(both(&mut c), "1|edited|base|base");
    assert_eq!(rows(&mut c, CONFLICTS), ["1|update_deleted|x|base||edited|target"]);
}

#[test]
fn deleted_on_both_sides_is_no_conflict_and_stays_deleted() {
    let (_db, mut c) = pair();
    together(&mut c, &["DELETE FROM a", "DELETE FROM b"]);
    assert_eq!(both(&mut c), "");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    // The key can be used again.
    together(&mut c, &["INSERT INTO b VALUES (1, 'again', '', '')"]);
    assert_eq!(both(&mut c), "1|again||");
}

/// A10: delete and insert of one key are an update; what only the other side has is kept.
#[test]
fn a_row_deleted_and_inserted_again_is_the_same_record() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, x text);
           CREATE TABLE b (id int PRIMARY KEY, x text, own text);
           INSERT INTO a VALUES (1, 'base');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    synced(&mut c, "s");
    run(&mut c, "UPDATE b SET own = 'kept'");
    together(&mut c, &["DELETE FROM a", "INSERT INTO a VALUES (1, 'again')"]);
    assert_eq!(query_one(&mut c, "TABLE b"), "1|again|kept");
    run(&mut c, "BEGIN; DELETE FROM a; INSERT INTO a VALUES (1, 'third'); COMMIT");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|third|kept");
}

/// P4: across batches the deleted row stays deleted until it is inserted again.
#[test]
fn a_row_inserted_again_after_its_delete_was_synced_is_created_again() {
    let (_db, mut c) = pair();
    run(&mut c, "DELETE FROM a");
    synced(&mut c, "s");
    assert_eq!(both(&mut c), "");
    run(&mut c, "INSERT INTO b VALUES (1, 'new', 'new', 'new')");
    synced(&mut c, "s");
    assert_eq!(both(&mut c), "1|new|new|new");
}

#[test]
fn the_same_key_inserted_on_both_sides_becomes_one_record() {
    let (_db, mut c) = pair();
    together(
        &mut c,
        &[
            "INSERT INTO a VALUES (2, 'a', 'same', NULL)",
            "INSERT INTO b VALUES (2, 'b', 'same', 'z')",
        ],
    );
    assert_eq!(both(&mut c), "1|base|base|base 2|b|same|z");
    assert_eq!(
        rows(&mut c, CONFLICTS),
        ["2|insert_exists|x||a|b|target", "2|insert_exists|z|||z|target"]
    );
}

/// P6: at rest nothing more is captured, and a repeated value is not sent again.
#[test]
fn nothing_echoes_at_rest() {
    let (_db, mut c) = pair();
    run(&mut c, "INSERT INTO a SELECT i, 'x', 'y', 'z' FROM generate_series(2, 50) i");
    run(&mut c, "UPDATE b SET z = 'from b' WHERE id % 2 = 0");
    synced(&mut c, "s");
    synced(&mut c, "s");
    let counts =
        "SELECT (SELECT last_value FROM sync._log_seq), (SELECT count(*) FROM sync._history)";
    let before = query_one(&mut c, counts);
    for _ in 0..5 {
        synced(&mut c, "s");
    }
    assert_eq!(query_one(&mut c, counts), before);
    // An update that changes no synced value is not even captured.
    run(&mut c, "UPDATE a SET x = x");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, counts), before);
}

/// Each move is a delete and an insert; a key that has been left may be there again in the same piece of work, of the same
/// row or of another.
#[test]
fn rows_that_move_between_partitions_and_back_arrive() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (region text, id int, f text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
           CREATE TABLE a_n PARTITION OF a FOR VALUES IN ('n'); CREATE TABLE a_s PARTITION OF a FOR VALUES IN ('s');
           CREATE TABLE b (region text, id int, f text, PRIMARY KEY (region, id));
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}')"#,
    );
    synced(&mut c, "s");
    for n in 0..100 {
        run(&mut c, "SELECT sync.pause('s')");
        for m in 0..6 {
            let k = (n * 7 + m * 3) % 2 + 1;
            let r = ["n", "s"][(n / 3 + m) % 2];
            let op = (n * 5 + m * m * 3 + n / 7) % 5;
            let sql = match op {
                0 => format!("INSERT INTO a VALUES ('{r}', {k}, '{n}-{m}') ON CONFLICT DO NOTHING"),
                1 => format!("UPDATE a SET f = '{n}-{m}' WHERE region = '{r}' AND id = {k}"),
                2 | 3 => format!(
                    "UPDATE a x SET region = CASE region WHEN 'n' THEN 's' ELSE 'n' END WHERE region = '{r}' AND id = {k} AND NOT EXISTS (SELECT FROM a y WHERE y.id = x.id AND y.region <> x.region)"
                ),
                _ => format!("DELETE FROM a WHERE region = '{r}' AND id = {k}"),
            };
            run(&mut c, &sql);
        }
        run(&mut c, "SELECT sync.resume('s')");
        synced(&mut c, "s");
        assert_eq!(
            rows(&mut c, "TABLE b ORDER BY 1, 2"),
            rows(&mut c, "TABLE a ORDER BY 1, 2"),
            "round {n}"
        );
    }
}
