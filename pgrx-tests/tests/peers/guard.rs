//! The guard: what would delete more than a sync's share of the other side waits for a person, who
//! sends it (`confirm`) or keeps the other side's rows (`discard`).

use cluster::postgres::Client;
use cluster::{Cluster, Options, Stop, prepared_server};
use pgrx_tests::{Db, query_one, refusal, rows, run};

use super::{becomes, prepared, rest, synced};

/// A linked pair of tables with so many rows.
fn pair(count: u32, more: &str) -> (Db<'static>, Client) {
    let (db, mut c) = prepared(&format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a SELECT i, 'x' FROM generate_series(1, {count}) i;
           SELECT sync.create_sync('s', '{{"source": "a", "target": "b" {more}}}');"#
    ));
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), count.to_string());
    (db, c)
}

const TWO_WAY: &str = r#", "sync_type": "bidirectional""#;
const COUNTS: &str = "SELECT (SELECT count(*) FROM a), (SELECT count(*) FROM b)";
const LINKS: &str = "SELECT count(*) FROM sync._link WHERE deleted_at IS NULL";

fn asks(db: &Db<'_>, c: &mut Client, sentence: &str) {
    becomes(db, c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(query_one(c, "SELECT detail FROM sync.status"), sentence);
    let refused = refusal(c, "SELECT sync.resume('s')");
    assert_eq!(
        refused,
        format!(
            "55000 sync \"s\" needs a decision\nDETAIL: It stopped because {sentence}.\n\
             HINT: SELECT sync.resume('s', confirm => true) to send the deletes, or sync.resume('s', discard => true) to keep the rows on the other side."
        )
    );
    assert!(refusal(c, "SELECT sync.wait('s')").starts_with("55000 sync \"s\" needs a decision"));
    assert_eq!(query_one(c, "SELECT state FROM sync.status"), "needs decision");
}

#[test]
fn a_mass_delete_is_sent_only_when_it_is_confirmed() {
    let (db, mut c) = pair(300, "");
    run(&mut c, "DELETE FROM a WHERE id <= 150");
    asks(
        &db,
        &mut c,
        "150 rows were deleted from public.a, more than the limit of 100; nothing has been deleted from public.b",
    );
    assert_eq!(query_one(&mut c, COUNTS), "150|300");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "150|150");
    // The next one asks again.
    run(&mut c, "DELETE FROM a WHERE id <= 280");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(query_one(&mut c, COUNTS), "20|150");
}

#[test]
fn a_discarded_mass_delete_keeps_the_rows_of_the_other_side() {
    let (db, mut c) = pair(300, TWO_WAY);
    run(&mut c, "DELETE FROM a WHERE id <= 150; UPDATE a SET v = 'edited' WHERE id = 200");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, COUNTS), "150|300");
    assert_eq!(query_one(&mut c, LINKS), "150");
    // What else was in the batch is sent, and the sync goes on.
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 200"), "edited");
    run(&mut c, "DELETE FROM a WHERE id = 151; INSERT INTO a VALUES (1, 'again')");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, COUNTS), "150|299");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "again");
    // A kept row is a record of its own now: edited there, it is new to this side.
    run(&mut c, "UPDATE b SET v = 'kept' WHERE id = 2");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "SELECT v FROM a WHERE id = 2"), "kept");
    // The next mass delete asks again.
    run(&mut c, "DELETE FROM b WHERE id > 160");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(query_one(&mut c, COUNTS), "151|159");
}

/// What is confirmed is what was asked about: a mass delete committed since asks for itself.
#[test]
fn what_is_deleted_after_the_question_is_judged_anew() {
    let (db, mut c) = pair(600, "");
    run(&mut c, "DELETE FROM a WHERE id <= 150");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    run(&mut c, "DELETE FROM a WHERE id BETWEEN 201 AND 350");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    asks(
        &db,
        &mut c,
        "150 rows were deleted from public.a, more than the limit of 100; nothing has been deleted from public.b",
    );
    assert_eq!(query_one(&mut c, COUNTS), "300|450");
    // Kept: that one only; a few deletes after it are sent as ever.
    run(&mut c, "DELETE FROM a WHERE id BETWEEN 401 AND 450");
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "250|400");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE id BETWEEN 201 AND 350"), "150");
    assert_eq!(query_one(&mut c, LINKS), "250");
}

/// The question outlives the worker and the server.
#[test]
fn the_answer_holds_for_the_same_deletes_after_a_restart() {
    let mut cluster =
        Cluster::start_new(prepared_server().unwrap(), Options::new("guard")).unwrap();
    run(&mut cluster.connect("postgres").unwrap(), "CREATE DATABASE asked");
    let mut c = cluster.connect("asked").unwrap();
    run(
        &mut c,
        r#"CREATE EXTENSION sync_ext;
           CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a SELECT i, 'x' FROM generate_series(1, 600) i;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');"#,
    );
    synced(&mut c, "s");
    run(&mut c, "DELETE FROM a WHERE id <= 150");
    let asked = "SELECT state FROM sync.status";
    cluster.wait_until("the question", || query_one(&mut c, asked) == "needs decision");
    run(&mut c, "DELETE FROM a WHERE id BETWEEN 201 AND 350");
    drop(c);
    cluster.restart(Stop::Immediate).unwrap();
    let mut c = cluster.connect("asked").unwrap();
    // Before the worker is there again, that is what it says.
    cluster.wait_until("the question again", || query_one(&mut c, asked) == "needs decision");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    cluster.wait_until("the second question", || {
        query_one(&mut c, "SELECT count(*) FROM b") == "450"
            && query_one(&mut c, asked) == "needs decision"
    });
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "300|300");
}

#[test]
fn a_truncate_is_never_taken_for_granted() {
    let (db, mut c) = pair(3, "");
    run(&mut c, "TRUNCATE a");
    asks(&db, &mut c, "public.a was truncated; nothing has been deleted from public.b");
    assert_eq!(query_one(&mut c, COUNTS), "0|3");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    rest(&mut c, &["s"]);
    becomes(&db, &mut c, COUNTS, "0|0");
    run(&mut c, "INSERT INTO a VALUES (1, 'new')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|new");
}

#[test]
fn a_discarded_truncate_keeps_the_rows_of_the_other_side() {
    let (db, mut c) = pair(150, TWO_WAY);
    run(&mut c, "TRUNCATE a");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    run(&mut c, "INSERT INTO a VALUES (7, 'after')");
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    rest(&mut c, &["s"]);
    becomes(&db, &mut c, LINKS, "1");
    assert_eq!(query_one(&mut c, COUNTS), "1|150");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 7"), "after");
    run(&mut c, "INSERT INTO a VALUES (8, 'more')");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 8"), "more");
    assert_eq!(query_one(&mut c, COUNTS), "2|150");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
}

/// Deletes that no trigger saw, found by comparing: all of them are counted before the first is sent,
/// however thin they lie.
#[test]
fn deletes_found_by_comparing_are_counted_before_the_first_is_sent() {
    let (db, mut c) = pair(12_000, r#", "delete_limit": 30"#);
    // Ten in each piece of the links that is looked at, and so few in the last one.
    let unseen = "BEGIN; ALTER TABLE a DISABLE TRIGGER ALL; DELETE FROM a WHERE id % 300 = 0; ALTER TABLE a ENABLE TRIGGER ALL; COMMIT";
    run(&mut c, unseen);
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    let detail = query_one(&mut c, "SELECT detail FROM sync.status");
    assert!(
        detail.ends_with(
            " or more rows are gone from public.a, more than the limit of 30; nothing has been deleted from public.b"
        ),
        "{detail}"
    );
    assert_eq!(query_one(&mut c, COUNTS), "11960|12000");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    becomes(&db, &mut c, COUNTS, "11960|11960");
    // As many as it may.
    run(&mut c, &unseen.replace("id % 300 = 0", "id % 400 = 1"));
    becomes(&db, &mut c, COUNTS, "11930|11930");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
}

#[test]
fn more_deletes_than_one_piece_holds_are_asked_about_under_a_large_limit() {
    let (db, mut c) = pair(14_000, r#", "delete_limit": 6000"#);
    run(
        &mut c,
        "BEGIN; ALTER TABLE a DISABLE TRIGGER ALL; DELETE FROM a WHERE id % 2 = 0; ALTER TABLE a ENABLE TRIGGER ALL; COMMIT",
    );
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(query_one(&mut c, COUNTS), "7000|14000");
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    synced(&mut c, "s");
    becomes(&db, &mut c, LINKS, "7000");
    assert_eq!(query_one(&mut c, COUNTS), "7000|14000");
}

/// Rows are compared with both sides: those that the other side lacks by then would be deleted.
#[test]
fn comparing_the_rows_of_one_side_asks_before_it_deletes_what_the_other_lacks() {
    let (db, mut c) = pair(3000, TWO_WAY);
    // Nothing in the catalogs tells of it afterwards.
    let always = enable_always(&mut c);
    run(
        &mut c,
        &format!(
            "BEGIN; ALTER TABLE b DISABLE TRIGGER ALL; DELETE FROM b WHERE id > 1000; ALTER TABLE b {always}; COMMIT"
        ),
    );
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "trim", "reverse": "none"}]}')"#,
    );
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(query_one(&mut c, COUNTS), "3000|1000");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    rest(&mut c, &["s"]);
    becomes(&db, &mut c, COUNTS, "1000|1000");
}

/// The actions that put the triggers of `b` into the state they were in.
fn enable_always(c: &mut Client) -> String {
    query_one(
        c,
        "SELECT string_agg('ENABLE ALWAYS TRIGGER ' || quote_ident(tgname), ', ') FROM pg_trigger WHERE tgrelid = 'b'::regclass",
    )
}

/// A7: dropping a table never means to delete its rows elsewhere.
#[test]
fn a_dropped_table_deletes_nothing_and_asks() {
    let (db, mut c) = pair(3, "");
    run(&mut c, "DROP TABLE a");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(
        query_one(&mut c, "SELECT detail FROM sync.status"),
        "the source table a was dropped; nothing has been deleted from public.b"
    );
    let hint = "HINT: SELECT sync.drop_sync('s') to end it, the rows of the other table stay; or sync.resume('s', discard => true) to leave it paused. A table made again is another one: sync it anew.";
    assert_eq!(
        refusal(&mut c, "SELECT sync.resume('s')"),
        format!(
            "55000 sync \"s\" needs a decision\nDETAIL: It stopped because the source table a was dropped; nothing has been deleted from public.b.\n{hint}"
        )
    );
    assert!(refusal(&mut c, "SELECT sync.wait('s')").ends_with(hint));
    // Not even when somebody confirms it, nor when there is a table of that name again.
    run(&mut c, "CREATE TABLE a (id int PRIMARY KEY, v text)");
    assert_eq!(
        refusal(&mut c, "SELECT sync.resume('s', confirm => true)"),
        format!(
            "55000 sync \"s\" cannot go on without its table\nDETAIL: It stopped because the source table a was dropped; nothing has been deleted from public.b. There is nothing to confirm: a dropped table deletes no rows.\n{hint}"
        )
    );
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "paused");
    assert_eq!(query_one(&mut c, LINKS), "3");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "3");
    // It asks again when it is to run.
    run(&mut c, "SELECT sync.resume('s')");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    run(&mut c, "SELECT sync.drop_sync('s')");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "3");
    // The new table is adopted by a new sync, in which the rows there are are paired.
    run(&mut c, "INSERT INTO a VALUES (1, 'x'), (4, 'new')");
    run(&mut c, r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b"}')"#);
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "2|4");
}

#[test]
fn a_dropped_target_asks_too() {
    let (db, mut c) = pair(3, TWO_WAY);
    run(&mut c, "DROP TABLE b");
    becomes(
        &db,
        &mut c,
        "SELECT state || ': ' || detail FROM sync.status",
        "needs decision: the target table b was dropped; nothing has been deleted from public.a",
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM a"), "3");
}

#[test]
fn the_limit_may_be_a_number_or_a_percentage() {
    let (db, mut c) = pair(50, r#", "delete_limit": 5"#);
    run(&mut c, "DELETE FROM a WHERE id <= 5");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "45|45");
    run(&mut c, "DELETE FROM a WHERE id <= 11");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    synced(&mut c, "s");
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"delete_limit": "10%"}')"#);
    rest(&mut c, &["s"]);
    run(&mut c, "DELETE FROM a WHERE id <= 14");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "36|36");
    run(&mut c, "DELETE FROM a WHERE id <= 18");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(query_one(&mut c, COUNTS), "32|36");
}

/// A10: what is there again at the end of the batch, or went on under another key, was not deleted.
#[test]
fn only_records_that_end_are_counted() {
    let (db, mut c) = pair(300, "");
    run(
        &mut c,
        "BEGIN; DELETE FROM a; INSERT INTO a SELECT i, 'again' FROM generate_series(1, 300) i; COMMIT",
    );
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET id = id + 1000");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT count(*), min(id) FROM b WHERE v = 'again'"), ["300|1001"]);
    // Rows that come do not make up for rows that go.
    run(
        &mut c,
        "BEGIN; DELETE FROM a; INSERT INTO a SELECT i, 'new' FROM generate_series(1, 300) i; COMMIT",
    );
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
}

#[test]
fn confirm_and_discard_exclude_each_other() {
    let (_db, mut c) = pair(1, "");
    let refused = refusal(&mut c, "SELECT sync.resume('s', confirm => true, discard => true)");
    assert!(
        refused.starts_with("22023 \"confirm\" and \"discard\" exclude each other"),
        "{refused}"
    );
    // Without a question there is nothing to decide: neither is kept for the next one.
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    run(&mut c, "DELETE FROM a");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, COUNTS), "0|0");
}

const EMPTY: &str =
    "SELECT (SELECT count(*) FROM a WHERE v IS NULL), (SELECT count(*) FROM b WHERE v IS NULL)";

#[test]
fn a_mass_emptying_of_a_field_is_sent_only_when_it_is_confirmed() {
    let (db, mut c) = pair(300, TWO_WAY);
    run(&mut c, "UPDATE a SET v = NULL WHERE id <= 150");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    assert_eq!(
        query_one(&mut c, "SELECT detail FROM sync.status"),
        "150 rows of public.a lost the value of a field, more than the limit of 100; nothing has been emptied in public.b"
    );
    let refused = refusal(&mut c, "SELECT sync.resume('s')");
    assert!(
        refused.ends_with(
            "HINT: SELECT sync.resume('s', confirm => true) to send the empty values, or sync.resume('s', discard => true) to keep the values on the other side."
        ),
        "{refused}"
    );
    assert_eq!(query_one(&mut c, EMPTY), "150|0");
    run(&mut c, "SELECT sync.resume('s', confirm => true)");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, EMPTY), "150|150");
}

#[test]
fn a_discarded_emptying_keeps_the_values_of_the_other_side() {
    let (db, mut c) = pair(300, TWO_WAY);
    run(
        &mut c,
        "UPDATE b SET v = NULL WHERE id <= 150; UPDATE b SET v = 'edited' WHERE id = 200; DELETE FROM b WHERE id = 201",
    );
    becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    run(&mut c, "SELECT sync.resume('s', discard => true)");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, EMPTY), "0|150");
    assert_eq!(query_one(&mut c, "SELECT v FROM a WHERE id = 200"), "edited");
    // The next edit of such a row is merged like any other.
    run(&mut c, "UPDATE b SET v = 'filled' WHERE id = 1; UPDATE a SET v = 'from a' WHERE id = 2");
    rest(&mut c, &["s"]);
    assert_eq!(
        rows(&mut c, "SELECT id, a.v, b.v FROM a JOIN b USING (id) WHERE id <= 2 ORDER BY id"),
        ["1|filled|filled", "2|from a|from a"]
    );
}

#[test]
fn only_values_that_are_gone_are_counted() {
    let (_db, mut c) = pair(300, TWO_WAY);
    // There again at the end of the batch; new values; empty before; fewer than the limit.
    run(&mut c, "SELECT sync.pause('s')");
    run(&mut c, "UPDATE a SET v = NULL WHERE id <= 150");
    run(&mut c, "UPDATE a SET v = 'back' WHERE id <= 150");
    run(&mut c, "UPDATE a SET v = 'new' WHERE id > 150; UPDATE a SET v = NULL WHERE id > 200");
    run(&mut c, "SELECT sync.resume('s')");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, EMPTY), "100|100");
    run(&mut c, "UPDATE a SET v = NULL WHERE id > 199");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, EMPTY), "101|101");
}

/// The answer is one for the whole batch, and the question is about all of it.
#[test]
fn deletes_and_empty_values_of_one_batch_are_asked_about_together() {
    let (db, mut c) = super::prepared(
        r#"CREATE TABLE x (id int PRIMARY KEY, v text); CREATE TABLE y (LIKE x INCLUDING ALL);
           INSERT INTO x SELECT i, 'v' FROM generate_series(1, 400) i; SELECT sync.create_sync('s', '{"source": "x", "target": "y"}')"#,
    );
    super::synced(&mut c, "s");
    run(
        &mut c,
        "BEGIN; DELETE FROM x WHERE id <= 150; UPDATE x SET v = NULL WHERE id > 250; COMMIT",
    );
    super::becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
    let detail = query_one(&mut c, "SELECT detail FROM sync.status");
    assert!(
        detail.contains("150 rows were deleted from public.x")
            && detail.contains("150 rows of public.x lost the value of a field"),
        "{detail}"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*), count(v) FROM y"), "400|400");
}
