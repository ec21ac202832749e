//! What a batch holds and in which order it is applied, when transactions overlap.

use super::{assert_equal, create_sync, differences, pair, settle};
use pgrx_tests::{db, query_one, rows, run};
use std::sync::atomic::{AtomicBool, Ordering};

/// A1: the log carries the top-level transaction. With the subtransaction's id the row would count as seen while its
/// transaction is still open.
#[test]
fn a_savepoint_open_while_others_are_delivered_is_not_lost() {
    let db = db();
    let (mut a, mut b) = (db.connect(), db.connect());
    pair(&mut a, "one_way");
    run(&mut a, "INSERT INTO t SELECT i, 'first' FROM generate_series(1, 4) i");
    settle(&mut a, "t");
    run(
        &mut a,
        "BEGIN; UPDATE t SET v = 'outer' WHERE id = 1; SAVEPOINT s; UPDATE t SET v = 'inner' WHERE id = 2",
    );
    run(&mut b, "UPDATE t SET v = 'other' WHERE id = 3");
    settle(&mut b, "t");
    assert_eq!(
        query_one(&mut b, "SELECT string_agg(v, ' ' ORDER BY id) FROM peer.t"),
        "first first other first"
    );
    run(&mut a, "UPDATE t SET v = 'inner' WHERE id = 4; COMMIT");
    settle(&mut b, "t");
    assert_eq!(
        query_one(&mut b, "SELECT string_agg(v, ' ' ORDER BY id) FROM peer.t"),
        "outer inner other inner"
    );
}

/// A1, for the subtransaction that an EXCEPTION block is.
#[test]
fn an_exception_block_open_while_others_are_delivered_is_not_lost() {
    let db = db();
    let (mut b, mut gate) = (db.connect(), db.connect());
    pair(&mut b, "one_way");
    run(&mut b, "INSERT INTO t VALUES (1, 'first'), (2, 'first')");
    settle(&mut b, "t");
    run(&mut gate, "SELECT pg_advisory_lock(1)");
    let mut a = db.connect();
    let writer = std::thread::spawn(move || {
        run(
            &mut a,
            "DO $$ BEGIN
                BEGIN UPDATE t SET v = 'in the block' WHERE id = 1; PERFORM pg_advisory_xact_lock(1);
                EXCEPTION WHEN division_by_zero THEN NULL; END;
             END $$",
        );
    });
    db.wait_until("the writer waits", || {
        query_one(&mut b, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "1"
    });
    run(&mut b, "UPDATE t SET v = 'other' WHERE id = 2");
    settle(&mut b, "t");
    run(&mut gate, "SELECT pg_advisory_unlock(1)");
    writer.join().unwrap();
    settle(&mut b, "t");
    assert_eq!(query_one(&mut b, "SELECT v FROM peer.t WHERE id = 1"), "in the block");
}

/// A1: what a rolled-back savepoint wrote is no change. A11: nor is the shape it stored the only one there is.
#[test]
fn what_a_savepoint_rolled_back_never_arrives_and_what_follows_it_does() {
    let db = db();
    let (mut a, mut b) = (db.connect(), db.connect());
    pair(&mut a, "one_way");
    // The first change of the table by this session: its shape goes with the savepoint.
    run(
        &mut b,
        "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1, 'rolled back'); ROLLBACK TO s;
         INSERT INTO t VALUES (2, 'kept'); COMMIT",
    );
    settle(&mut a, "t");
    assert_eq!(rows(&mut a, "SELECT id, v FROM peer.t"), ["2|kept"]);
    run(
        &mut b,
        "BEGIN; INSERT INTO t VALUES (3, 'rolled back'); ROLLBACK; INSERT INTO t VALUES (4, 'kept')",
    );
    settle(&mut a, "t");
    assert_eq!(rows(&mut a, "SELECT id, v FROM peer.t ORDER BY id"), ["2|kept", "4|kept"]);
    assert_eq!(query_one(&mut a, "SELECT count(*) FROM sync.change_log"), "2");
}

/// A11: a shape that came with a column is gone with its transaction, the next writer stores it again.
#[test]
fn a_shape_that_is_rolled_back_with_an_alter_table_is_stored_again() {
    let db = db();
    let (mut a, mut b) = (db.connect(), db.connect());
    pair(&mut a, "one_way");
    run(&mut a, "INSERT INTO t VALUES (1, 'first')");
    run(
        &mut b,
        "BEGIN; SAVEPOINT s; ALTER TABLE t ALTER v TYPE varchar(50); UPDATE t SET v = 'rolled back'; ROLLBACK TO s;
         UPDATE t SET v = 'kept'; COMMIT;
         ALTER TABLE t ALTER v TYPE varchar(60); UPDATE t SET v = 'again'",
    );
    db.wait_until("the last value arrives", || {
        query_one(&mut a, "SELECT max(v) FROM peer.t") == "again"
    });
    settle(&mut a, "t");
    assert_equal(&mut a);
}

/// P7: a transaction that took its id first may write a row last. Ordered by (xid, number) the older value would win.
#[test]
fn the_last_writer_of_a_row_wins_whatever_its_transaction_id() {
    let db = db();
    let (mut a, mut b) = (db.connect(), db.connect());
    pair(&mut a, "one_way");
    run(&mut a, "INSERT INTO t VALUES (1, 'first')");
    settle(&mut a, "t");
    // Held back, so that both are in one batch.
    run(&mut b, "SELECT sync.pause('t')");
    run(&mut a, "BEGIN; SELECT pg_current_xact_id()");
    run(&mut b, "UPDATE t SET v = 'b'");
    run(&mut a, "UPDATE t SET v = 'a, the last'; COMMIT");
    run(&mut b, "SELECT sync.resume('t')");
    settle(&mut b, "t");
    assert_eq!(query_one(&mut b, "SELECT v FROM peer.t"), "a, the last");
}

/// P9: below the cluster's xmin nothing would be delivered while this session is idle in another database.
#[test]
fn an_idle_transaction_in_another_database_holds_nothing_back() {
    let (db, other) = (db(), db());
    let (mut a, mut idle) = (db.connect(), other.connect());
    pair(&mut a, "one_way");
    run(&mut idle, "BEGIN; SELECT pg_current_xact_id()");
    run(&mut a, "INSERT INTO t VALUES (1, 'now')");
    settle(&mut a, "t");
    assert_eq!(query_one(&mut a, "SELECT v FROM peer.t"), "now");
    run(&mut idle, "ROLLBACK");
}

/// P9: a prepared transaction delays its own rows, and COMMIT PREPARED, which wakes nobody, is noticed.
#[test]
fn a_prepared_transaction_delays_only_its_own_rows() {
    let db = db();
    let (mut a, mut b) = (db.connect(), db.connect());
    pair(&mut a, "one_way");
    let name = db.name();
    run(
        &mut b,
        &format!("BEGIN; INSERT INTO t VALUES (1, 'prepared'); PREPARE TRANSACTION '{name}'"),
    );
    run(&mut a, "INSERT INTO t VALUES (2, 'other')");
    settle(&mut a, "t");
    assert_eq!(rows(&mut a, "SELECT id FROM peer.t"), ["2"]);
    run(&mut b, &format!("COMMIT PREPARED '{name}'"));
    db.wait_until("the prepared row arrives by itself", || {
        query_one(&mut a, "SELECT count(*) FROM peer.t") == "2"
    });
    assert_equal(&mut a);
}

/// A2: what the worker writes into B has to go on to C. Were the tick taken with an id of its own, its changes would
/// count as read as soon as somebody else commits in between.
#[test]
fn the_workers_own_changes_go_on_while_others_commit() {
    let db = db();
    let mut a = db.connect();
    run(
        &mut a,
        "CREATE TABLE noise (i int); CREATE SCHEMA peer;
         CREATE TABLE public.t (id int PRIMARY KEY, v text); CREATE TABLE peer.t (id int PRIMARY KEY, v text);
         CREATE TABLE peer.u (id int PRIMARY KEY, v text)",
    );
    create_sync(&mut a, "ab", "public.t", "peer.t", "bidirectional", "");
    create_sync(&mut a, "bc", "peer.t", "peer.u", "bidirectional", "");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut noise = db.connect();
            while !stop.load(Ordering::Relaxed) {
                run(&mut noise, "INSERT INTO noise VALUES (1)");
            }
        });
        for i in 0..150 {
            run(&mut a, &format!("INSERT INTO public.t VALUES ({i}, 'new')"));
            run(&mut a, &format!("UPDATE public.t SET v = 'edited' WHERE id = {}", i / 2));
        }
        stop.store(true, Ordering::Relaxed);
    });
    settle(&mut a, "ab");
    settle(&mut a, "bc");
    assert_equal(&mut a);
    assert_eq!(differences(&mut a, "public.t", "peer.u"), Vec::<String>::new());
}
