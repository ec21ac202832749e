//! Changes that fire no row trigger (A7): noticed, recorded in `sync.gaps`, and made good.

use super::{equal, one_way, pair, settle, table};
use pgrx_tests::cluster::Db;
use pgrx_tests::cluster::postgres::Client;
use pgrx_tests::{db, query_one, rows, run};

const COLUMNS: &str = "id int PRIMARY KEY, v text, n int";

/// Waits until a gap with this reason has been noticed and reconciled.
#[track_caller]
fn reconciled(db: &Db<'_>, client: &mut Client, reason: &str) {
    let gap = format!(
        "SELECT bool_and(reconciled_at IS NOT NULL) FROM sync.gaps WHERE reason ~ '{reason}'"
    );
    db.wait_until(reason, || query_one(client, &gap) == "t");
}

fn filled(client: &mut Client) {
    pair(client, COLUMNS);
    run(client, "INSERT INTO a SELECT g, 'v' || g, g FROM generate_series(1, 20) g");
    equal(client, "s", "a", "b");
    assert!(rows(client, "SELECT * FROM sync.gaps").is_empty());
}

#[test]
fn values_rewritten_by_alter_type_are_found() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(&mut client, "ALTER TABLE a ALTER COLUMN n TYPE int USING n * 100");
    reconciled(&db, &mut client, "rewritten");
    assert_eq!(equal(&mut client, "s", "a", "b")[0], "(1,v1,100)");
}

#[test]
fn a_trigger_switched_off_and_on_is_put_right_and_what_it_missed_is_found() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(&mut client, "ALTER TABLE a DISABLE TRIGGER ALL");
    run(
        &mut client,
        "UPDATE a SET v = 'unseen' WHERE id = 1; DELETE FROM a WHERE id = 2; INSERT INTO a VALUES (100, 'unseen', 0)",
    );
    run(&mut client, "ALTER TABLE a ENABLE TRIGGER ALL");
    reconciled(&db, &mut client, "disabled");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 20);
    let always =
        "SELECT bool_and(tgenabled = 'A'), count(*) FROM pg_trigger WHERE tgrelid = 'a'::regclass";
    assert_eq!(query_one(&mut client, always), "t|2");
    run(
        &mut client,
        "SET session_replication_role = replica; DELETE FROM a WHERE id = 3; RESET session_replication_role",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 19);
}

/// The whole story in one transaction is told by the state it leaves.
#[test]
fn a_trigger_switched_off_and_on_within_a_transaction_is_noticed() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(
        &mut client,
        "BEGIN; ALTER TABLE a DISABLE TRIGGER ALL; UPDATE a SET n = -n; ALTER TABLE a ENABLE TRIGGER ALL; COMMIT",
    );
    reconciled(&db, &mut client, "disabled and enabled again");
    equal(&mut client, "s", "a", "b");
}

#[test]
fn a_trigger_that_was_dropped_comes_back() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    let name = query_one(
        &mut client,
        "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = 'a'::regclass AND tgtype & 1 = 1",
    );
    run(
        &mut client,
        &format!("BEGIN; DROP TRIGGER {name} ON a; UPDATE a SET v = 'unseen' WHERE id = 7; COMMIT"),
    );
    reconciled(&db, &mut client, "missing");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE a SET v = 'seen' WHERE id = 8");
    equal(&mut client, "s", "a", "b");
}

/// The table is held by somebody when the worker wants to put its trigger right.
#[test]
fn a_trigger_is_put_right_once_its_table_is_free() {
    let db = db();
    let (mut client, mut holder) = (db.connect(), db.connect());
    filled(&mut client);
    run(&mut client, "ALTER TABLE a DISABLE TRIGGER ALL");
    run(&mut holder, "BEGIN; UPDATE a SET v = 'unseen' WHERE id = 1");
    run(
        &mut client,
        "ALTER DATABASE CURRENT_DATABASE_IS_NOT_A_NAME SET x.y = 1"
            .replace("CURRENT_DATABASE_IS_NOT_A_NAME", db.name())
            .as_str(),
    );
    let tried = "sync_ext worker cannot look at the tables of s";
    db.wait_until("the worker found the table held", || db.cluster().log_text().contains(tried));
    run(&mut holder, "COMMIT");
    reconciled(&db, &mut client, "disabled");
    equal(&mut client, "s", "a", "b");
}

fn partitioned(client: &mut Client) {
    run(
        client,
        &format!(
            "CREATE TABLE a ({COLUMNS}) PARTITION BY RANGE (id);
             CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (10); CREATE TABLE a_2 PARTITION OF a FOR VALUES FROM (10) TO (100);
             CREATE TABLE b ({COLUMNS});
             INSERT INTO a SELECT g, 'v' || g, g FROM generate_series(1, 20) g;"
        ),
    );
    one_way(client, "s", "public.a", "public.b");
    assert_eq!(equal(client, "s", "a", "b").len(), 20);
}

#[test]
fn truncating_one_partition_asks_and_then_deletes_its_rows_only() {
    let db = db();
    let mut client = db.connect();
    partitioned(&mut client);
    run(&mut client, "TRUNCATE a_1");
    db.wait_until("the sync asks", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "needs decision"
    });
    run(&mut client, "SELECT sync.resume('s', confirm => true)");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 11);
    assert_eq!(
        query_one(&mut client, "SELECT bool_and(reconciled_at IS NOT NULL) FROM sync.gaps"),
        "t"
    );
}

#[test]
fn a_new_partition_is_captured_from_its_first_row_and_its_truncate_too() {
    let db = db();
    let mut client = db.connect();
    partitioned(&mut client);
    run(
        &mut client,
        "CREATE TABLE a_3 PARTITION OF a FOR VALUES FROM (100) TO (200); INSERT INTO a VALUES (100, 'x', 0)",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 21);
    let own = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'a_3'::regclass AND tgtype & 32 = 32 AND tgenabled = 'A'";
    db.wait_until("the partition has its truncate trigger", || query_one(&mut client, own) == "1");
    run(&mut client, "TRUNCATE a_3");
    db.wait_until("the sync asks", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "needs decision"
    });
    run(&mut client, "SELECT sync.resume('s', confirm => true)");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 20);
}

#[test]
fn the_rows_of_an_attached_partition_arrive_and_those_of_a_detached_one_go() {
    let db = db();
    let mut client = db.connect();
    partitioned(&mut client);
    run(
        &mut client,
        &format!(
            "CREATE TABLE more ({COLUMNS}); INSERT INTO more SELECT g, 'm', g FROM generate_series(200, 204) g"
        ),
    );
    run(&mut client, "ALTER TABLE a ATTACH PARTITION more FOR VALUES FROM (200) TO (300)");
    reconciled(&db, &mut client, "more was attached");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 25);
    run(&mut client, "UPDATE more SET v = 'changed' WHERE id = 200");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "ALTER TABLE a DETACH PARTITION more");
    reconciled(&db, &mut client, "detached");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 20);
    run(&mut client, "INSERT INTO more VALUES (250, 'alone', 0); TRUNCATE more; DROP TABLE a_2");
    db.wait_until("the rows of the dropped partition are gone", || {
        settle(&mut client, "s");
        table(&mut client, "b").len() == 9
    });
    // It had triggers of ours before: attaching it again does not meet them.
    run(
        &mut client,
        "ALTER TABLE a ATTACH PARTITION more FOR VALUES FROM (200) TO (300); INSERT INTO a VALUES (201, 'again', 1)",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 10);
}

/// The triggers of a leaf alone.
#[test]
fn a_leaf_whose_trigger_was_switched_off_is_noticed() {
    let db = db();
    let mut client = db.connect();
    partitioned(&mut client);
    run(&mut client, "ALTER TABLE a_1 DISABLE TRIGGER ALL");
    run(&mut client, "UPDATE a SET v = 'unseen' WHERE id = 1; ALTER TABLE a_1 ENABLE TRIGGER ALL");
    reconciled(&db, &mut client, "a_1 was disabled");
    equal(&mut client, "s", "a", "b");
}

/// Each of them would be captured for one sync only: both say so and keep what they are owed.
#[test]
fn a_synced_table_attached_to_a_synced_one_stops_both_and_loses_nothing() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        r#"CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
           CREATE TABLE first PARTITION OF root FOR VALUES FROM (0) TO (100);
           CREATE TABLE root_copy (id int PRIMARY KEY, v text);
           CREATE TABLE part (id int PRIMARY KEY, v text);
           CREATE TABLE part_copy (id int PRIMARY KEY, v text);
           INSERT INTO root VALUES (1, 'first'); INSERT INTO part VALUES (101, 'part');
           SELECT sync.create_sync('root', '{"source": "root", "target": "root_copy"}');
           SELECT sync.create_sync('part', '{"source": "part", "target": "part_copy"}');"#,
    );
    settle(&mut client, "root");
    settle(&mut client, "part");
    run(&mut client, "ALTER TABLE root ATTACH PARTITION part FOR VALUES FROM (100) TO (200)");
    let states = "SELECT string_agg(DISTINCT state, ' ') FROM sync.status";
    db.wait_until("both to stop", || query_one(&mut client, states) == "failing");
    let told = query_one(&mut client, "SELECT detail FROM sync.status WHERE sync = 'root'");
    assert!(
        told.contains("belongs to the same partitioned table as public.part, which is synced"),
        "{told}"
    );
    run(&mut client, "INSERT INTO root VALUES (2, 'meanwhile'), (102, 'meanwhile')");
    run(&mut client, "SELECT sync.drop_sync('part')");
    let same = "SELECT (SELECT array_agg(t ORDER BY id) FROM root t)::text = (SELECT array_agg(t ORDER BY id) FROM root_copy t)::text";
    db.wait_until("the rows of the partition", || query_one(&mut client, same) == "t");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM root_copy"), "4");
    run(&mut client, "UPDATE part SET v = 'later'");
    settle(&mut client, "root");
    assert_eq!(query_one(&mut client, same), "t");
}

#[test]
fn a_column_replaced_by_another_of_its_name_while_nobody_looks_is_noticed() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    // In one transaction: nobody sees the table without the column.
    run(
        &mut client,
        "BEGIN; ALTER TABLE a DROP COLUMN v; ALTER TABLE a ADD COLUMN v text DEFAULT 'anew'; COMMIT",
    );
    reconciled(&db, &mut client, "dropped and another");
    settle(&mut client, "s");
    let arrived = "SELECT count(*) FROM a JOIN b USING (id, v, n) WHERE v = 'anew'";
    assert_eq!(query_one(&mut client, arrived), "20");
}

/// P2, A11: the table is announced as changed between two writes of one transaction that meets its
/// shape for the first time and is rolled back. What is written under that shape later arrives.
#[test]
fn a_shape_rolled_back_after_the_table_was_announced_is_stored_again() {
    let db = db();
    let (mut client, mut other) = (db.connect(), db.connect());
    pair(&mut client, COLUMNS);
    run(&mut client, "BEGIN; INSERT INTO a SELECT g, 'lost', g FROM generate_series(1, 300) g");
    run(&mut other, "ANALYZE a");
    run(&mut client, "INSERT INTO a VALUES (1000, 'lost', 0); ROLLBACK");
    run(&mut client, "INSERT INTO a VALUES (1, 'kept', 1)");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,kept,1)"]);
    assert!(rows(&mut client, "SELECT * FROM sync.gaps").is_empty());
}

/// P2, A11: the same with a savepoint set after the shape was stored.
#[test]
fn a_shape_older_than_a_savepoint_that_is_rolled_back_to_is_stored_again() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(
        &mut client,
        "BEGIN; INSERT INTO a VALUES (1, 'lost', 1);
         SAVEPOINT s; INSERT INTO a VALUES (2, 'lost', 2); ROLLBACK TO s;
         INSERT INTO a VALUES (3, 'lost', 3); ROLLBACK",
    );
    run(&mut client, "INSERT INTO a VALUES (4, 'kept', 4)");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(4,kept,4)"]);
    assert!(rows(&mut client, "SELECT * FROM sync.gaps").is_empty());
}

/// P2, A11: a change whose shape is gone says neither whose it is nor what it was. All that a sync
/// captures is compared; nothing is passed over.
#[test]
fn changes_under_a_shape_that_is_gone_are_found_by_comparing() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(
        &mut client,
        "DELETE FROM sync._shape WHERE relation = 'a'::regclass;
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = current_database();
         UPDATE a SET v = 'edited' WHERE id = 1; DELETE FROM a WHERE id = 2; INSERT INTO a VALUES (100, 'new', 0)",
    );
    reconciled(&db, &mut client, "shape");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 20);
    assert_eq!(
        rows(&mut client, r#"SELECT DISTINCT "table", sync FROM sync.gaps"#),
        ["public.a|s"]
    );
    // Another session stores the shape again: from then on changes are read as ever.
    run(&mut db.connect(), "UPDATE a SET v = 'later' WHERE id = 3");
    equal(&mut client, "s", "a", "b");
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM sync.change_log WHERE key = '3' AND new ->> 'v' = 'later'"
        ),
        "1"
    );
}
