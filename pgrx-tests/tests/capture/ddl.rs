//! The table changes while it is synced (P13), also while changes of its old form still wait (A11).

use super::{equal, logged, one_way, pair, peer, settle, table, two_way};
use pgrx_tests::cluster::postgres::Client;
use pgrx_tests::{db, query_one, rows, run};

const COLUMNS: &str = "id int PRIMARY KEY, v text, n int";

fn filled(client: &mut Client) {
    pair(client, COLUMNS);
    run(client, "INSERT INTO a SELECT g, 'v' || g, g FROM generate_series(1, 5) g");
    equal(client, "s", "a", "b");
}

/// A11: the default of rows that were there before is nowhere in them.
#[test]
fn a_column_added_with_a_default_is_synced_once_both_sides_have_it() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(&mut client, "ALTER TABLE a ADD COLUMN extra text DEFAULT 'fast'");
    run(&mut client, "UPDATE a SET v = 'x' WHERE id = 1");
    settle(&mut client, "s");
    run(&mut client, "ALTER TABLE b ADD COLUMN extra text");
    run(&mut client, "UPDATE a SET n = 9 WHERE id = 2; DELETE FROM a WHERE id = 3");
    db.wait_until("the column is synced", || {
        settle(&mut client, "s");
        table(&mut client, "a") == table(&mut client, "b")
    });
    run(&mut client, "UPDATE a SET extra = 'slow' WHERE id = 4");
    let after = equal(&mut client, "s", "a", "b");
    assert_eq!(after, ["(1,x,1,fast)", "(2,v2,9,fast)", "(4,v4,4,slow)", "(5,v5,5,fast)"]);
}

/// A11: images without the column, of rows that have it by the default, are complete by their shape.
#[test]
fn changes_from_before_a_column_came_are_read_after_it() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS}, extra int)"));
    two_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1), (2, 'y', 2)");
    settle(&mut client, "s");
    run(&mut client, "SELECT sync.pause('s')");
    run(&mut client, "UPDATE a SET v = 'before' WHERE id = 1; INSERT INTO a VALUES (3, 'z', 3)");
    run(&mut client, "ALTER TABLE a ADD COLUMN extra int DEFAULT 7");
    run(&mut client, "UPDATE a SET v = 'after' WHERE id = 2");
    run(&mut client, "ALTER TABLE a ALTER COLUMN v TYPE varchar(100), ALTER COLUMN n TYPE bigint");
    run(&mut client, "ALTER TABLE b ALTER COLUMN n TYPE bigint");
    run(&mut client, "UPDATE a SET n = 10000000000 WHERE id = 3");
    run(&mut client, "SELECT sync.resume('s')");
    let after = equal(&mut client, "s", "a", "b");
    assert_eq!(after, ["(1,before,1,7)", "(2,after,2,7)", "(3,z,10000000000,7)"]);
    assert_eq!(logged(&mut client, "new->>'v' = 'before' AND new->>'n' = '1'"), 1);
}

#[test]
fn an_unmapped_column_may_go_and_its_type_too() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        &format!(
            "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE a ({COLUMNS}, m mood); CREATE TABLE b ({COLUMNS})"
        ),
    );
    one_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1, 'ok')");
    settle(&mut client, "s");
    run(
        &mut client,
        "SELECT sync.pause('s'); UPDATE a SET v = 'y', m = NULL; ALTER TABLE a DROP COLUMN m; DROP TYPE mood; UPDATE a SET n = 2; SELECT sync.resume('s')",
    );
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,y,2)"]);
}

/// A11: what nobody can render any more does not stop anything.
#[test]
fn a_type_dropped_while_its_values_wait_stops_nothing() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        &format!(
            "CREATE TYPE mood AS ENUM ('ok', 'sad'); CREATE TABLE a ({COLUMNS}, m mood); CREATE TABLE b ({COLUMNS}, m text)"
        ),
    );
    one_way(&mut client, "s", "public.a", "public.b");
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1, 'ok')");
    settle(&mut client, "s");
    run(&mut client, "SELECT sync.pause('s')");
    run(&mut client, "UPDATE a SET v = 'y', m = 'sad'");
    run(&mut client, "ALTER TABLE a ALTER COLUMN m TYPE text; DROP TYPE mood");
    run(&mut client, "SELECT sync.resume('s')");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,y,1,sad)"]);
    let shown = "SELECT new->>'m' FROM sync.change_log WHERE operation = 'UPDATE'";
    assert_eq!(query_one(&mut client, shown), "(type was dropped)");
}

/// A mapped column that goes stops the sync with its name, and it goes on when it is back.
#[test]
fn a_mapped_column_that_goes_stops_the_sync_until_it_is_back() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS})"));
    let mapped =
        r#"{"field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v"}]}"#;
    peer(&mut client, "s", "public.a", "public.b", mapped);
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1)");
    settle(&mut client, "s");
    run(&mut client, "ALTER TABLE a DROP COLUMN v");
    run(&mut client, "INSERT INTO a VALUES (2, 2)");
    db.wait_until("the sync says what is missing", || {
        query_one(
            &mut client,
            "SELECT state = 'failing' AND detail ~ 'column \"v\"' FROM sync.status",
        ) == "t"
    });
    run(&mut client, "ALTER TABLE a ADD COLUMN v text DEFAULT 'back'");
    run(&mut client, "UPDATE a SET v = 'new' WHERE id = 2");
    db.wait_until("the sync goes on", || {
        rows(&mut client, "SELECT id, v FROM b ORDER BY id") == ["1|back", "2|new"]
    });
    // Said in a transaction of its own, after the one that wrote the rows.
    db.wait_until("nothing is wrong any more", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "running"
    });
}

/// A sync that is stopped by its table can be helped with `alter_sync`.
#[test]
fn a_renamed_column_is_mapped_again() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS})"));
    let mapped = |v: &str| {
        format!(
            r#"{{"field_mappings": [{{"source": "id", "target": "id"}}, {{"source": "{v}", "target": "v"}}]}}"#
        )
    };
    peer(&mut client, "s", "public.a", "public.b", &mapped("v"));
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1)");
    settle(&mut client, "s");
    run(&mut client, "ALTER TABLE a RENAME COLUMN v TO words");
    run(&mut client, "UPDATE a SET words = 'y'");
    db.wait_until("the sync says what is missing", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "failing"
    });
    run(&mut client, &format!("SELECT sync.alter_sync('s', '{}')", mapped("words")));
    settle(&mut client, "s");
    assert_eq!(rows(&mut client, "SELECT id, v FROM b"), ["1|y"]);
}

/// The links are kept by the key: one that is no longer paired is not guessed at.
#[test]
fn a_renamed_key_stops_the_sync_until_it_is_mapped() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(&mut client, "ALTER TABLE a RENAME COLUMN id TO number");
    run(
        &mut client,
        "UPDATE a SET v = 'x' WHERE number = 1; DELETE FROM a WHERE number = 2; INSERT INTO a VALUES (6, 'six', 6)",
    );
    db.wait_until("the sync says that its key is gone", || {
        query_one(&mut client, "SELECT state = 'failing' AND detail ~ 'key' FROM sync.status")
            == "t"
    });
    run(
        &mut client,
        r#"SELECT sync.alter_sync('s', '{"field_mappings": [{"source": "number", "target": "id"}, {"source": "v", "target": "v"}, {"source": "n", "target": "n"}]}')"#,
    );
    let after = equal(&mut client, "s", "a", "b");
    assert_eq!(after, ["(1,x,1)", "(3,v3,3)", "(4,v4,4)", "(5,v5,5)", "(6,six,6)"]);
}

#[test]
fn tables_and_schemas_may_be_renamed() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "CREATE SCHEMA x; CREATE SCHEMA y");
    run(&mut client, &format!("CREATE TABLE x.a ({COLUMNS}); CREATE TABLE y.b ({COLUMNS})"));
    two_way(&mut client, "s", "x.a", "y.b");
    run(&mut client, "INSERT INTO x.a VALUES (1, 'x', 1)");
    equal(&mut client, "s", "x.a", "y.b");
    run(&mut client, "ALTER TABLE x.a RENAME TO c; INSERT INTO x.c VALUES (2, 'y', 2)");
    equal(&mut client, "s", "x.c", "y.b");
    run(&mut client, "ALTER SCHEMA y RENAME TO z; UPDATE z.b SET v = 'z'");
    equal(&mut client, "s", "x.c", "z.b");
    run(
        &mut client,
        "ALTER TABLE x.c SET SCHEMA z; UPDATE z.c SET n = 5; CREATE TABLE x.c (id int)",
    );
    let after = equal(&mut client, "s", "z.c", "z.b");
    assert_eq!(after, ["(1,z,5)", "(2,z,5)"]);
}

#[test]
fn enum_values_may_come_and_change_their_names() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "CREATE TYPE mood AS ENUM ('sad', 'ok')");
    pair(&mut client, "id int PRIMARY KEY, m mood, ms mood[]");
    run(&mut client, "INSERT INTO a VALUES (1, 'sad', '{sad}')");
    equal(&mut client, "s", "a", "b");
    run(&mut client, "ALTER TYPE mood ADD VALUE 'new' BEFORE 'ok'");
    run(&mut client, "INSERT INTO a VALUES (2, 'new', '{new,ok}')");
    run(&mut client, "ALTER TYPE mood RENAME VALUE 'sad' TO 'gloomy'");
    run(&mut client, "UPDATE a SET ms = '{gloomy,new}'");
    assert_eq!(
        equal(&mut client, "s", "a", "b"),
        ["(1,gloomy,\"{gloomy,new}\")", "(2,new,\"{gloomy,new}\")"]
    );
    let shown = "SELECT old->>'ms' FROM sync.change_log WHERE operation = 'UPDATE' AND key = '1'";
    assert_eq!(query_one(&mut client, shown), "{gloomy}");
}

/// A11: shapes of a transaction that was rolled back in part are forgotten with it.
#[test]
fn ddl_between_savepoints_leaves_no_wrong_shape() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(
        &mut client,
        "BEGIN;
         UPDATE a SET v = 'first' WHERE id = 1;
         SAVEPOINT s1;
         ALTER TABLE a ADD COLUMN extra text DEFAULT 'gone';
         UPDATE a SET v = 'wrong', extra = 'wrong' WHERE id = 1;
         INSERT INTO a VALUES (10, 'wrong', 0, 'wrong');
         ROLLBACK TO s1;
         UPDATE a SET v = 'second' WHERE id = 2;
         ALTER TABLE a ADD COLUMN extra int DEFAULT 3;
         UPDATE a SET n = 30 WHERE id = 3;
         ALTER TABLE a DROP COLUMN extra;
         INSERT INTO a VALUES (11, 'third', 11);
         COMMIT;",
    );
    let after = equal(&mut client, "s", "a", "b");
    assert_eq!(
        after,
        ["(1,first,1)", "(11,third,11)", "(2,second,2)", "(3,v3,30)", "(4,v4,4)", "(5,v5,5)"]
    );
}

/// P13: VACUUM FULL, CLUSTER and a rewriting ALTER leave both sides equal.
#[test]
fn a_rewritten_table_stays_in_sync() {
    let db = db();
    let mut client = db.connect();
    filled(&mut client);
    run(&mut client, "VACUUM FULL a");
    run(&mut client, "UPDATE a SET v = 'x' WHERE id = 1");
    run(&mut client, "CLUSTER a USING a_pkey");
    run(&mut client, "DELETE FROM a WHERE id = 2");
    run(
        &mut client,
        "ALTER TABLE a ALTER COLUMN n TYPE bigint; ALTER TABLE b ALTER COLUMN n TYPE bigint",
    );
    run(&mut client, "INSERT INTO a VALUES (6, 'y', 10000000000)");
    assert_eq!(equal(&mut client, "s", "a", "b").len(), 5);
}
