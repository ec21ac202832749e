//! Edits that cross each other: each of these once set a row back or forgot an edit.

use cluster::postgres::Client;
use pgrx_tests::{Db, db, query_one, rows, run};

/// A two-way pair `a.t` and `b.t`; `b.t` has a column of its own.
fn pair(db: &Db<'_>, settings: &str) -> Client {
    let mut client = db.connect();
    run(
        &mut client,
        &format!(
            r#"CREATE SCHEMA a; CREATE SCHEMA b;
               CREATE TABLE a.t (id int PRIMARY KEY, f text, g text);
               CREATE TABLE b.t (id int PRIMARY KEY, f text, g text, own text);
               INSERT INTO a.t VALUES (1, 'f0', 'g0');
               SELECT sync.create_sync('s', '{{"source": {{"table": "a.t"}}, "target": {{"table": "b.t"}}, "sync_type": "bidirectional",
                   "error_handling": {{"retry_strategy": {{"max_attempts": 1000, "initial_delay_seconds": 0.05, "backoff_factor": 1}}}}{settings}}}')"#
        ),
    );
    settle(&mut client);
    client
}

fn settle(client: &mut Client) {
    assert_eq!(query_one(client, "SELECT settled FROM sync.wait('s', '60 s')"), "t");
}

const LOGGED: &str =
    "SELECT (SELECT count(*) FROM sync._log_v1_0) + (SELECT count(*) FROM sync._log_v1_1)
    + (SELECT count(*) FROM sync._log_v1_2) + (SELECT count(*) FROM sync._log_v1_3)";

/// P6, P7: what the worker wrote comes back through the log after the next edit, which has a lower
/// number because its transaction began before. It must not be taken for an edit of the other side.
#[test]
fn an_echo_that_comes_late_sets_nothing_back() {
    let db = db();
    let mut client = pair(&db, r#", "performance_settings": {"batch_size": 1}"#);
    let before: i64 = query_one(&mut client, LOGGED).parse().unwrap();
    let mut slow = db.connect();
    run(&mut client, "SELECT sync.pause('s')");
    run(&mut client, "UPDATE a.t SET f = 'first' WHERE id = 1");
    run(&mut slow, "BEGIN; UPDATE a.t SET f = 'second' WHERE id = 1");
    run(&mut client, "SELECT sync.resume('s')");
    db.wait_until("the first edit arrives", || {
        query_one(&mut client, "SELECT f FROM b.t") == "first"
    });
    run(&mut slow, "COMMIT");
    settle(&mut client);
    assert_eq!(rows(&mut client, "SELECT a.f, b.f FROM a.t a, b.t b"), ["second|second"]);
    let after: i64 = query_one(&mut client, LOGGED).parse().unwrap();
    assert_eq!(after - before, 4, "two edits, written once each");
}

/// P2, P12: a parked edit of one side is still owed when the other side's next edit of the record goes
/// through.
#[test]
fn a_parked_edit_is_not_forgotten_over_an_edit_of_the_other_side() {
    let db = db();
    let mut client = pair(&db, "");
    run(&mut client, "ALTER TABLE b.t ADD CONSTRAINT picky CHECK (f <> 'refused')");
    run(&mut client, "UPDATE a.t SET f = 'refused' WHERE id = 1");
    settle(&mut client);
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.queue"), "1");
    run(&mut client, "UPDATE b.t SET g = 'mine' WHERE id = 1");
    settle(&mut client);
    run(&mut client, "ALTER TABLE b.t DROP CONSTRAINT picky");
    db.wait_until("both edits arrive", || {
        rows(&mut client, "SELECT a.f, a.g, b.f, b.g FROM a.t a, b.t b")
            == ["refused|mine|refused|mine"]
    });
    settle(&mut client);
    assert_eq!(rows(&mut client, "SELECT * FROM sync.queue"), [""; 0]);
}

/// P1, P9: a renamed row whose partner is locked waits under both names, and is renamed there in the end,
/// not deleted and made anew without what only the partner holds.
#[test]
fn a_row_renamed_while_its_partner_is_locked_stays_the_same_record() {
    let db = db();
    let mut client = pair(&db, "");
    let mut holder = db.connect();
    run(&mut holder, "BEGIN; UPDATE b.t SET own = 'kept' WHERE id = 1");
    run(&mut client, "UPDATE a.t SET id = 2 WHERE id = 1");
    db.wait_until("the row is put aside", || {
        query_one(&mut client, "SELECT count(*) > 0 FROM sync.queue") == "t"
    });
    run(&mut client, "UPDATE a.t SET id = 3, g = 'later' WHERE id = 2");
    settle(&mut client);
    run(&mut holder, "COMMIT");
    db.wait_until("the row is renamed", || {
        rows(&mut client, "SELECT id, g, own FROM b.t ORDER BY id") == ["3|later|kept"]
    });
    settle(&mut client);
    // Its names in between are looked at once more when their time comes.
    db.wait_until("the queue is empty", || {
        query_one(&mut client, "SELECT count(*) FROM sync.queue") == "0"
    });
}

/// P9: one locked row does not keep the others waiting for their turn.
#[test]
fn a_locked_row_holds_up_only_itself() {
    let db = db();
    let mut client = pair(&db, "");
    run(&mut client, "INSERT INTO a.t SELECT i, 'f', 'g' FROM generate_series(2, 300) i");
    settle(&mut client);
    let mut holder = db.connect();
    run(&mut holder, "BEGIN; UPDATE b.t SET own = 'held' WHERE id = 150");
    run(&mut client, "UPDATE a.t SET f = 'new'");
    db.wait_until("all but one arrive", || {
        query_one(&mut client, "SELECT count(*) FROM b.t WHERE f = 'new'") == "299"
    });
    run(&mut holder, "COMMIT");
    db.wait_until("the last one arrives", || {
        query_one(&mut client, "SELECT count(*) FROM b.t WHERE f = 'new'") == "300"
    });
}
