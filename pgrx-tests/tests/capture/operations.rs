//! Every statement and every kind of transaction that writes rows.

use super::{equal, logged, one_way, pair, peer, settle, table, two_way};
use pgrx_tests::{Shared, db, query_one, refusal, rows, run};

const COLUMNS: &str = "id int PRIMARY KEY, v text, n int";

#[test]
fn an_update_that_changes_nothing_is_not_recorded() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(
        &mut client,
        "INSERT INTO a VALUES (1, 'x', NULL); UPDATE a SET v = v, n = NULL; UPDATE a SET v = 'x'",
    );
    settle(&mut client, "s");
    assert_eq!(logged(&mut client, "true"), 1);
}

#[test]
fn an_update_of_a_column_that_no_sync_wants_is_not_recorded() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b (id int PRIMARY KEY, v text)"),
    );
    one_way(&mut client, "s", "public.a", "public.b");
    run(
        &mut client,
        "INSERT INTO a VALUES (1, 'x', 1); UPDATE a SET n = 2; UPDATE a SET n = 3, v = 'y'; UPDATE a SET n = 4",
    );
    settle(&mut client, "s");
    assert_eq!(logged(&mut client, "true"), 2);
    assert_eq!(table(&mut client, "b"), ["(1,y)"]);
    let kept = "SELECT new FROM sync.change_log WHERE operation = 'UPDATE'";
    assert_eq!(query_one(&mut client, kept), "{\"v\": \"y\", \"id\": 1}");
}

/// A changed key is the same record: what only the target knows stays with it.
#[test]
fn a_changed_key_keeps_the_record() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS}, note text)"));
    two_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1), (2, 'y', 2)");
    settle(&mut client, "s");
    run(&mut client, "UPDATE b SET note = 'of the target ' || id");
    run(&mut client, "UPDATE a SET id = 10 WHERE id = 1");
    settle(&mut client, "s");
    run(
        &mut client,
        "BEGIN; UPDATE a SET id = 11 WHERE id = 10; UPDATE a SET id = 12, v = 'z' WHERE id = 11; COMMIT",
    );
    settle(&mut client, "s");
    assert_eq!(
        table(&mut client, "b"),
        ["(12,z,1,\"of the target 1\")", "(2,y,2,\"of the target 2\")"]
    );
    run(&mut client, "UPDATE b SET id = 20 WHERE id = 2");
    settle(&mut client, "s");
    assert_eq!(table(&mut client, "a"), ["(12,z,1)", "(20,y,2)"]);
}

#[test]
fn two_keys_swapped_through_a_third_are_swapped() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS}, note text)"));
    one_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1, 'one', 1), (2, 'two', 2)");
    settle(&mut client, "s");
    run(&mut client, "UPDATE b SET note = v");
    run(
        &mut client,
        "BEGIN; UPDATE a SET id = -1 WHERE id = 1; UPDATE a SET id = 1 WHERE id = 2; UPDATE a SET id = 2 WHERE id = -1; COMMIT",
    );
    settle(&mut client, "s");
    let pairs = rows(&mut client, "SELECT id, v FROM b ORDER BY id");
    assert_eq!(pairs, ["1|two", "2|one"]);
}

/// Decision 7: what a TRUNCATE would delete waits for a person.
#[test]
fn a_truncate_asks_before_it_deletes() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1), (2, 'y', 2)");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "TRUNCATE a; INSERT INTO a VALUES (3, 'z', 3)");
    let refused = refusal(&mut client, "SELECT sync.wait('s')");
    assert!(refused.starts_with("55000") && refused.contains("truncated"), "{refused}");
    assert_eq!(query_one(&mut client, "SELECT state FROM sync.status"), "needs decision");
    assert_eq!(table(&mut client, "b").len(), 2);
    run(&mut client, "SELECT sync.resume('s', confirm => true)");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(3,z,3)"]);
}

#[test]
fn merge_upsert_copy_and_returning_are_captured() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(
        &mut client,
        "INSERT INTO a SELECT g, 'old', g FROM generate_series(1, 6) g;
         MERGE INTO a USING (VALUES (1, 'merged'), (2, NULL), (7, 'new')) AS m (id, v) ON a.id = m.id
          WHEN MATCHED AND m.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = m.v WHEN NOT MATCHED THEN INSERT VALUES (m.id, m.v, 0);
         INSERT INTO a VALUES (3, 'upserted', 1), (8, 'upserted', 1) ON CONFLICT (id) DO UPDATE SET v = excluded.v;
         INSERT INTO a VALUES (4, 'ignored', 1) ON CONFLICT DO NOTHING;",
    );
    let returned = rows(
        &mut client,
        "WITH gone AS (DELETE FROM a WHERE id = 5 RETURNING *) INSERT INTO a SELECT id + 100, v, n FROM gone RETURNING id",
    );
    assert_eq!(returned, ["105"]);
    let mut copy = client.copy_in("COPY a FROM STDIN").unwrap();
    std::io::Write::write_all(&mut copy, b"200\tcopied\t1\n201\t\\N\t\\N\n").unwrap();
    copy.finish().unwrap();
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 9);
    assert_eq!(
        query_one(&mut client, "SELECT string_agg(id || coalesce(v, '-'), ' ' ORDER BY id) FROM b"),
        "1merged 3upserted 4old 6old 7new 8upserted 105old 200copied 201-"
    );
}

#[test]
fn what_a_foreign_key_cascades_is_captured() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE a (id int PRIMARY KEY, p int REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE, q int DEFAULT 9 REFERENCES parent ON DELETE SET NULL);
         CREATE TABLE b (id int PRIMARY KEY, p int, q int);
         INSERT INTO parent VALUES (1), (2), (9);
         INSERT INTO a VALUES (1, 1, 9), (2, 2, 9), (3, 1, 1);",
    );
    one_way(&mut client, "s", "public.a", "public.b");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "UPDATE parent SET id = 20 WHERE id = 2; DELETE FROM parent WHERE id = 9");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,1,)", "(2,20,)", "(3,1,1)"]);
    run(&mut client, "DELETE FROM parent WHERE id = 1");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(2,20,)"]);
}

/// A10: a row that moves to another partition is updated, not deleted and created.
#[test]
fn a_row_that_changes_its_partition_is_one_update() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
         CREATE TABLE a_n PARTITION OF a FOR VALUES IN ('n'); CREATE TABLE a_s PARTITION OF a FOR VALUES IN ('s');
         CREATE TABLE c (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE c_1 PARTITION OF c FOR VALUES FROM (0) TO (10); CREATE TABLE c_2 PARTITION OF c FOR VALUES FROM (10) TO (20);
         CREATE TABLE b (id int, region text, v text, note text, PRIMARY KEY (id, region));
         CREATE TABLE d (id int PRIMARY KEY, v text, note text);",
    );
    one_way(&mut client, "s", "public.a", "public.b");
    one_way(&mut client, "t", "public.c", "public.d");
    run(
        &mut client,
        "INSERT INTO a VALUES (1, 'n', 'x'), (2, 'n', 'y'); INSERT INTO c VALUES (1, 'x')",
    );
    settle(&mut client, "s");
    settle(&mut client, "t");
    run(&mut client, "UPDATE b SET note = 'kept'; UPDATE d SET note = 'kept'");
    run(
        &mut client,
        "BEGIN; DELETE FROM a WHERE id = 2; INSERT INTO a VALUES (2, 'n', 'again'); COMMIT; UPDATE a SET region = 's', v = 'moved' WHERE id = 1; UPDATE c SET id = 15",
    );
    settle(&mut client, "s");
    settle(&mut client, "t");
    let after = rows(&mut client, "SELECT id, region, v, note FROM b ORDER BY id");
    assert_eq!(
        after[1], "2|n|again|kept",
        "deleted and inserted again in one transaction is an update"
    );
    assert_eq!(after[0], "1|s|moved|kept");
    assert_eq!(rows(&mut client, "SELECT * FROM d"), ["15|x|kept"]);
}

/// A7: the mode of bulk loaders skips ordinary triggers, not ours.
#[test]
fn changes_in_replica_mode_are_captured() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(
        &mut client,
        "SET session_replication_role = replica; INSERT INTO a VALUES (1, 'x', 1); UPDATE a SET v = 'y'; RESET session_replication_role",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,y,1)"]);
}

/// A1: the log carries the top transaction, whatever rolled back inside it.
#[test]
fn savepoints_and_exception_blocks_leave_what_was_committed() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(
        &mut client,
        "BEGIN; SAVEPOINT s1; INSERT INTO a VALUES (1, 'rolled back', 1); ROLLBACK TO s1;
         INSERT INTO a VALUES (1, 'kept', 1); SAVEPOINT s2; UPDATE a SET v = 'wrong'; ROLLBACK TO s2; SAVEPOINT s3; UPDATE a SET n = 2; RELEASE s3; COMMIT;
         CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             INSERT INTO a VALUES (2, 'outer', 0);
             BEGIN INSERT INTO a VALUES (3, 'inner', 0); UPDATE a SET v = 'wrong' WHERE id = 2; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN INSERT INTO a VALUES (4, 'handled', 0); END;
             BEGIN UPDATE a SET n = 7 WHERE id = 2; EXCEPTION WHEN others THEN NULL; END;
         END $$;
         SELECT f();",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,kept,2)", "(2,outer,7)", "(4,handled,0)"]);
    assert_eq!(
        logged(
            &mut client,
            "old->>'v' = 'wrong' OR new->>'v' IN ('wrong', 'inner', 'rolled back')"
        ),
        0
    );
}

/// A1: a tick that is taken while a savepoint is open does not claim what it wrote.
#[test]
fn a_savepoint_open_while_others_sync_loses_nothing() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    pair(&mut client, COLUMNS);
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1), (2, 'x', 2)");
    equal(&mut client, "s", "a", "b");
    run(
        &mut writer,
        "BEGIN; UPDATE a SET v = 'first' WHERE id = 2; SAVEPOINT s; UPDATE a SET v = 'second' WHERE id = 1",
    );
    run(&mut client, "INSERT INTO a VALUES (3, 'other', 3)");
    settle(&mut client, "s");
    assert_eq!(table(&mut client, "b"), ["(1,x,1)", "(2,x,2)", "(3,other,3)"]);
    run(&mut writer, "COMMIT");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,second,1)", "(2,first,2)", "(3,other,3)"]);
}

/// A3: a user's trigger that changes a row of the same statement.
#[test]
fn a_trigger_that_writes_into_its_own_statement_does_not_turn_the_order_round() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    run(
        &mut client,
        "INSERT INTO a VALUES (1, 'x', 0), (2, 'x', 0), (3, 'x', 0);
         CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN IF NEW.id = 1 THEN UPDATE a SET n = n + 100 WHERE id = 2; DELETE FROM a WHERE id = 3; END IF; RETURN NULL; END $$;
         CREATE TRIGGER more AFTER UPDATE ON a FOR EACH ROW EXECUTE FUNCTION more();
         UPDATE a SET n = n + 1;",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,x,1)", "(2,x,101)"]);
}

/// P9: a prepared transaction's changes come with COMMIT PREPARED, which calls nobody.
#[test]
fn prepared_transactions_come_when_they_are_committed() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    let name = db.name().to_owned();
    // The first write of all: the shape is seen in a transaction that is not there yet.
    run(
        &mut client,
        &format!("BEGIN; INSERT INTO a VALUES (1, 'prepared', 1); PREPARE TRANSACTION '{name}_1'"),
    );
    run(
        &mut client,
        &format!(
            "BEGIN; INSERT INTO a VALUES (2, 'thrown away', 2); PREPARE TRANSACTION '{name}_2'"
        ),
    );
    run(&mut client, "INSERT INTO a VALUES (3, 'after', 3)");
    settle(&mut client, "s");
    assert_eq!(table(&mut client, "b"), ["(3,after,3)"]);
    run(&mut client, &format!("ROLLBACK PREPARED '{name}_2'"));
    run(&mut client, &format!("COMMIT PREPARED '{name}_1'"));
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,prepared,1)", "(3,after,3)"]);
}

/// A11: a shape first seen in a transaction that is rolled back is stored again by the next.
#[test]
fn a_shape_that_was_rolled_back_is_stored_again() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, COLUMNS);
    let name = db.name().to_owned();
    run(
        &mut client,
        "BEGIN; INSERT INTO a VALUES (1, 'x', 1); ROLLBACK; INSERT INTO a VALUES (1, 'y', 1)",
    );
    equal(&mut client, "s", "a", "b");
    run(&mut client, "ALTER TABLE a ALTER v TYPE varchar");
    run(
        &mut client,
        &format!("BEGIN; INSERT INTO a VALUES (2, 'x', 1); PREPARE TRANSACTION '{name}'"),
    );
    run(&mut client, "INSERT INTO a VALUES (3, 'z', 1)");
    run(&mut client, &format!("ROLLBACK PREPARED '{name}'"));
    run(&mut client, "UPDATE a SET n = 5");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,y,5)", "(3,z,5)"]);
}

/// The bypass of a superuser leaves a mark and is made good.
#[test]
fn what_went_past_capture_is_found_again() {
    let db = db();
    let mut client = db.connect();
    peer_of_hundred(&mut client);
    run(
        &mut client,
        "SET sync_ext.capture = off;
         INSERT INTO a VALUES (1000, 'new', 0); UPDATE a SET v = 'changed' WHERE id = 5; DELETE FROM a WHERE id = 6;
         RESET sync_ext.capture;",
    );
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 100);
    assert_eq!(logged(&mut client, "new->>'v' = 'changed'"), 0);
    let gap = "SELECT reason ~ 'sync_ext.capture', reconciled_at IS NOT NULL FROM sync.gaps";
    assert_eq!(rows(&mut client, gap), ["t|t"]);
    // In a savepoint that is rolled back, and after it.
    run(
        &mut client,
        "BEGIN; SET LOCAL sync_ext.capture = off; SAVEPOINT s; UPDATE a SET n = 1 WHERE id = 1; ROLLBACK TO s; UPDATE a SET n = 2 WHERE id = 2; COMMIT",
    );
    equal(&mut client, "s", "a", "b");
}

fn peer_of_hundred(client: &mut pgrx_tests::cluster::postgres::Client) {
    pair(client, COLUMNS);
    run(client, "INSERT INTO a SELECT g, 'x', 0 FROM generate_series(1, 100) g");
    equal(client, "s", "a", "b");
}

/// A two-way sync sees the bypass on the target as well.
#[test]
fn a_bypass_on_the_target_is_found_too() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS})"));
    peer(&mut client, "s", "public.a", "public.b", r#"{"sync_type": "bidirectional"}"#);
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1)");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "SET sync_ext.capture = off; UPDATE b SET v = 'y'; RESET sync_ext.capture");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,y,1)"]);
    assert_eq!(Shared::cluster().log_text().matches("PANIC").count(), 0);
}
