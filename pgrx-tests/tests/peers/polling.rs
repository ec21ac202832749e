//! Tables that are read from time to time: views, foreign tables, and what may have no trigger.

use cluster::postgres::Client;
use pgrx_tests::{Db, query_one, refusal, rows, run};

use super::{becomes, prepared, settle, synced};

/// A view over `parts`, polled into `b`.
fn view(more: &str) -> (Db<'static>, Client) {
    let (db, mut c) = prepared(&format!(
        r#"CREATE TABLE parts (id int, grp text, v int); CREATE INDEX ON parts (id);
           INSERT INTO parts SELECT i, 'g' || i % 3, i FROM generate_series(1, 300) i;
           CREATE VIEW a AS SELECT id, max(grp) AS grp, sum(v)::int AS v FROM parts GROUP BY id;
           CREATE TABLE b (id int PRIMARY KEY, grp text, v int);
           SELECT sync.create_sync('s', '{{"source": {{"table": "a", "key": "id"}}, "target": "b",
               "performance_settings": {{"change_detection": "polling"}} {more}}}');"#
    ));
    synced(&mut c, "s");
    (db, c)
}

fn alike(c: &mut Client) {
    synced(c, "s");
    let differ =
        "SELECT count(*) FROM ((TABLE a EXCEPT TABLE b) UNION ALL (TABLE b EXCEPT TABLE a)) d";
    assert_eq!(query_one(c, differ), "0");
}

#[test]
fn what_a_view_shows_comes_over_and_what_is_equal_is_not_written() {
    let (_db, mut c) = view("");
    alike(&mut c);
    run(&mut c, "CREATE TABLE before AS SELECT id, xmin::text AS x FROM b");
    run(&mut c, "INSERT INTO parts VALUES (1001, 'new', 1), (1, 'more', 10)");
    run(&mut c, "DELETE FROM parts WHERE id = 7; UPDATE parts SET id = 2002 WHERE id = 8");
    alike(&mut c);
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "11");
    let written = "SELECT count(*) FROM b LEFT JOIN before USING (id) WHERE b.xmin::text IS DISTINCT FROM before.x";
    assert_eq!(query_one(&mut c, written), "3");
    let says =
        "SELECT state, detail ~ '^in sync as of 2.*, when it was last read$' FROM sync.status";
    assert_eq!(query_one(&mut c, says), "running|t");
    // No lock was taken that a view does not need, and nothing hangs on it.
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._capture"), "0");
}

#[test]
fn it_is_read_as_often_as_the_document_says() {
    let (db, mut c) = view(r#", "ongoing_sync": {"polling_interval_seconds": 1}"#);
    // Nobody asks.
    run(&mut c, "INSERT INTO parts VALUES (1001, 'new', 1)");
    becomes(&db, &mut c, "SELECT count(*) FROM b", "301");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"ongoing_sync": {"polling_interval_seconds": 3600}}')"#,
    );
    synced(&mut c, "s");
    run(&mut c, "INSERT INTO parts VALUES (1002, 'new', 1)");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "301");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "302");
}

#[test]
fn a_key_has_to_be_named_and_to_be_one() {
    let (_db, mut c) = prepared(
        r"CREATE VIEW a AS SELECT 1 AS id, 'x'::text AS name, '1'::json AS j;
          CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
          CREATE VIEW loosely AS SELECT 'x'::text COLLATE loose AS id, 1 AS v;
          CREATE TABLE b (id int PRIMARY KEY, name text); CREATE TABLE t (id int, name text); CREATE TABLE bl (id text PRIMARY KEY, v int);",
    );
    let mut refused = |source: &str, target: &str, more: &str| {
        refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('s', '{{"source": {source}, "target": "{target}", "performance_settings": {{"change_detection": "{more}"}}}}')"#
            ),
        )
    };
    for (source, target, of, message, help) in [
        (r#""a""#, "b", "database_triggers", "0A000 public.a cannot be synced", "polling"),
        (r#""a""#, "b", "polling", "0A000 the rows of public.a cannot be told apart", r#""key""#),
        (r#""t""#, "b", "polling", "0A000 public.t cannot be synced", r#""key""#),
        (
            r#"{"table": "a", "key": "nr"}"#,
            "b",
            "polling",
            "42703 column \"nr\" of public.a does not exist",
            "id, name, j",
        ),
        (
            r#"{"table": "a", "key": ["id", "ID"]}"#,
            "b",
            "polling",
            "42701 \"source.key\" names column \"id\" twice",
            "once",
        ),
        (
            r#"{"table": "a", "key": "j"}"#,
            "b",
            "polling",
            "0A000 column \"j\" of public.a cannot be part of a key",
            "json",
        ),
        (
            r#"{"table": "loosely", "key": "id"}"#,
            "bl",
            "polling",
            "0A000 column \"id\" of public.loosely",
            "deterministic",
        ),
    ] {
        let said = refused(source, target, of);
        assert!(said.starts_with(message) && said.contains(help), "{source}: {said}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}

#[test]
fn rows_that_share_a_key_wait_for_a_person_and_the_others_go() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE p (id int, v text); INSERT INTO p SELECT i, 'x' FROM generate_series(1, 40) i;
           CREATE VIEW a AS TABLE p; CREATE TABLE b (id int PRIMARY KEY, v text);
           SELECT sync.create_sync('s', '{"source": {"table": "a", "key": "id"}, "target": "b",
               "performance_settings": {"change_detection": "polling", "batch_size": 4}}')"#,
    );
    synced(&mut c, "s");
    // Also where a batch ends between the two, or all of it is one key.
    run(&mut c, "INSERT INTO p SELECT i, 'y' FROM generate_series(4, 40, 4) i");
    run(&mut c, "INSERT INTO p SELECT 21, 'z' FROM generate_series(1, 9) i");
    run(&mut c, "UPDATE p SET v = 'news' WHERE id = 2");
    assert_eq!(settle(&mut c, "s"), 11);
    assert_eq!(query_one(&mut c, "SELECT string_agg(DISTINCT v, ',' ORDER BY v) FROM b"), "news,x");
    let why = "SELECT DISTINCT state, sqlstate, message FROM sync.queue";
    assert_eq!(rows(&mut c, why), ["review|21000|more than one row of public.a has this key"]);
    let told = query_one(&mut c, "SELECT count(*) FROM sync.errors");
    settle(&mut c, "s");
    let said = rows(&mut c, "SELECT key, attempt, message, at FROM sync.errors ORDER BY at");
    assert_eq!(said.len().to_string(), told, "said once: {said:#?}");
    // Neither of them is taken when the record is tried again.
    run(&mut c, "SELECT sync.retry_all('s')");
    settle(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE v IN ('y', 'z')"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue WHERE state = 'review'"), "11");
    run(&mut c, "DELETE FROM p WHERE v = 'x' AND id % 4 = 0; DELETE FROM p WHERE v = 'z'");
    synced(&mut c, "s");
    assert_eq!(
        query_one(&mut c, "SELECT count(*), count(*) FILTER (WHERE v = 'y') FROM b"),
        "40|10"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
}

#[test]
fn rows_without_a_key_are_left_out_and_told_once() {
    let (_db, mut c) = view("");
    run(&mut c, "INSERT INTO parts VALUES (NULL, 'nobody', 1), (1001, 'new', 1)");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "301");
    let told = "SELECT sqlstate, message FROM sync.errors";
    assert_eq!(rows(&mut c, told), ["22004|rows of public.a have no key"]);
}

#[test]
fn a_view_that_is_suddenly_empty_deletes_nothing_without_asking() {
    let (_db, mut c) = view("");
    run(&mut c, "CREATE TABLE aside AS TABLE parts; TRUNCATE parts");
    assert!(refusal(&mut c, "SELECT sync.wait('s', '60s')").contains("needs a decision"));
    let says = "SELECT detail FROM sync.status";
    assert_eq!(
        query_one(&mut c, says),
        "300 or more rows are gone from public.a, more than the limit of 100; nothing has been deleted from public.b"
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "300");
    // It was a mistake.
    run(&mut c, "INSERT INTO parts TABLE aside; SELECT sync.resume('s', confirm => true)");
    alike(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "300");
    // The next time it asks again.
    run(&mut c, "TRUNCATE parts");
    assert!(refusal(&mut c, "SELECT sync.wait('s', '60s')").contains("needs a decision"));
}

#[test]
fn what_a_person_decides_about_rows_that_are_gone_holds() {
    for (answer, left) in [("confirm", "0"), ("discard", "300")] {
        let (db, mut c) = view(r#", "ongoing_sync": {"polling_interval_seconds": 1}"#);
        run(&mut c, "TRUNCATE parts");
        becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
        run(&mut c, &format!("SELECT sync.resume('s', {answer} => true)"));
        synced(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), left, "{answer}");
        // It asks no second time about the same.
        run(&mut c, "INSERT INTO parts VALUES (5000, 'g', 1)");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 5000"), "1");
    }
}

#[test]
fn a_view_whose_values_are_suddenly_gone_empties_nothing_without_asking() {
    for (answer, full) in [("confirm", "0"), ("discard", "300")] {
        let (db, mut c) = view(r#", "ongoing_sync": {"polling_interval_seconds": 1}"#);
        run(&mut c, "UPDATE parts SET grp = NULL");
        becomes(&db, &mut c, "SELECT state FROM sync.status", "needs decision");
        let says = query_one(&mut c, "SELECT detail FROM sync.status");
        assert!(
            says.ends_with("or more rows of public.a lost the value of a field, more than the limit of 100; nothing has been emptied in public.b"),
            "{says}"
        );
        assert_eq!(query_one(&mut c, "SELECT count(grp) FROM b"), "300");
        assert!(refusal(&mut c, "SELECT sync.resume('s')").contains("the empty values"));
        run(&mut c, &format!("SELECT sync.resume('s', {answer} => true)"));
        synced(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(grp) FROM b"), full, "{answer}");
        run(&mut c, "UPDATE parts SET grp = 'again' WHERE id = 3");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT grp FROM b WHERE id = 3"), "again");
    }
}

#[test]
fn rows_of_a_view_that_leave_the_filter_take_the_copies_along_and_are_counted() {
    for (answer, after) in [("confirm", "149"), ("discard", "299")] {
        let (_db, mut c) = view(r#", "where": "v < 10000", "on_filter_exit": "delete""#);
        run(&mut c, "UPDATE parts SET v = v + 10000 WHERE id = 7");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "299");
        run(&mut c, "UPDATE parts SET v = v + 10000 WHERE id <= 151");
        assert!(refusal(&mut c, "SELECT sync.wait('s', '60s')").contains("needs a decision"));
        let says = query_one(&mut c, "SELECT detail FROM sync.status");
        assert!(
            says.ends_with("or more rows of public.a are outside the filter, more than the limit of 100; nothing has been deleted from public.b"),
            "{says}"
        );
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "299");
        run(&mut c, &format!("SELECT sync.resume('s', {answer} => true)"));
        synced(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), after);
        run(&mut c, "UPDATE parts SET v = id");
        synced(&mut c, "s");
        alike(&mut c);
    }
}

/// What is known not to be sent empties nothing, and is no reason to ask.
#[test]
fn rows_outside_the_filter_may_lose_their_values() {
    let (_db, mut c) = view(r#", "where": "v < 10000""#);
    run(&mut c, "UPDATE parts SET v = v + 10000 WHERE id <= 150");
    synced(&mut c, "s");
    run(&mut c, "UPDATE parts SET grp = NULL WHERE id <= 150");
    synced(&mut c, "s");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(grp) FROM b"), "300");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
}

#[test]
fn a_view_that_fails_is_named_and_deletes_nothing() {
    let (db, mut c) = view(r#", "ongoing_sync": {"polling_interval_seconds": 1}"#);
    run(
        &mut c,
        "CREATE OR REPLACE VIEW a AS SELECT id, max(grp) AS grp, (sum(v) / (count(*) - 1))::int AS v FROM parts GROUP BY id",
    );
    becomes(&db, &mut c, "SELECT detail ~ 'division by zero' FROM sync.status", "t");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "300");
    run(
        &mut c,
        "CREATE OR REPLACE VIEW a AS SELECT id, max(grp) AS grp, sum(v)::int + 1 AS v FROM parts GROUP BY id",
    );
    becomes(&db, &mut c, "SELECT count(*) FROM b WHERE v = id + 1", "300");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
}

#[test]
fn what_a_view_calls_can_write_nothing() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE p (id int); INSERT INTO p VALUES (1); CREATE TABLE traces (x int);
           CREATE FUNCTION sly(x int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO traces VALUES (x); RETURN x; END $$;
           CREATE VIEW a AS SELECT id, sly(id) AS v FROM p; CREATE TABLE b (id int PRIMARY KEY, v int);
           SELECT sync.create_sync('s', '{"source": {"table": "a", "key": "id"}, "target": "b",
               "performance_settings": {"change_detection": "polling"}}')"#,
    );
    becomes(&db, &mut c, "SELECT detail ~ 'read-only' FROM sync.status", "t");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM traces"), "0");
}

#[test]
fn a_foreign_table_a_materialized_view_and_a_table_of_somebody_else_are_read() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE p (id int PRIMARY KEY, v text); INSERT INTO p SELECT i, 'x' FROM generate_series(1, 1200) i;
           CREATE MATERIALIZED VIEW m AS TABLE p; CREATE UNIQUE INDEX ON m (id);
           CREATE TABLE b (id int PRIMARY KEY, v text); CREATE TABLE bm (id int PRIMARY KEY, v text); CREATE TABLE bt (id int PRIMARY KEY, v text);
           CREATE EXTENSION postgres_fdw"#,
    );
    let (host, port) = (
        query_one(&mut c, "SELECT split_part(current_setting('unix_socket_directories'), ',', 1)"),
        query_one(&mut c, "SHOW port"),
    );
    run(
        &mut c,
        &format!(
            "CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{}');
             CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user 'postgres');
             CREATE FOREIGN TABLE f (id int NOT NULL, v text) SERVER here OPTIONS (table_name 'p')",
            db.name()
        ),
    );
    let polling = r#""performance_settings": {"change_detection": "polling"}"#;
    run(
        &mut c,
        &format!(
            r#"SELECT sync.create_sync('f', '{{"source": {{"table": "f", "key": "id"}}, "target": "b", {polling}}}');
               SELECT sync.create_sync('m', '{{"source": {{"table": "m", "key": "id"}}, "target": "bm", {polling}}}');
               SELECT sync.create_sync('t', '{{"source": "p", "target": "bt", {polling}}}');"#
        ),
    );
    let counts =
        "SELECT (SELECT count(*) FROM b), (SELECT count(*) FROM bm), (SELECT count(*) FROM bt)";
    for sync in ["f", "m", "t"] {
        synced(&mut c, sync);
    }
    assert_eq!(query_one(&mut c, counts), "1200|1200|1200");
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'p'::regclass"),
        "0"
    );
    run(
        &mut c,
        "DELETE FROM p WHERE id <= 5; UPDATE p SET v = 'new' WHERE id = 600; INSERT INTO p VALUES (9999, 'y')",
    );
    run(&mut c, "REFRESH MATERIALIZED VIEW m");
    for (sync, table) in [("f", "b"), ("m", "bm"), ("t", "bt")] {
        synced(&mut c, sync);
        let differ = format!(
            "SELECT count(*) FROM ((TABLE p EXCEPT TABLE {table}) UNION ALL (TABLE {table} EXCEPT TABLE p)) d"
        );
        assert_eq!(query_one(&mut c, &differ), "0", "{sync}");
    }
    // The other server is away for a while.
    run(&mut c, "ALTER SERVER here OPTIONS (SET port '1')");
    run(&mut c, "UPDATE p SET v = 'late' WHERE id = 700");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('f', '{"ongoing_sync": {"polling_interval_seconds": 1}}')"#,
    );
    becomes(
        &db,
        &mut c,
        "SELECT detail ~ 'could not connect' FROM sync.status WHERE sync = 'f'",
        "t",
    );
    run(&mut c, &format!("ALTER SERVER here OPTIONS (SET port '{port}')"));
    becomes(&db, &mut c, "SELECT v FROM b WHERE id = 700", "late");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "1196");
}

/// A key of several columns, some of them texts, in the order of their collations.
#[test]
fn keys_of_several_columns_are_gone_through_in_order() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE p (area text, nr int, v text);
           INSERT INTO p SELECT chr(64 + i % 20) || CASE WHEN i % 2 = 0 THEN 'ä' ELSE 'a' END, i, 'x' FROM generate_series(1, 3000) i;
           CREATE VIEW a AS TABLE p; CREATE TABLE b (area text, nr int, v text, PRIMARY KEY (area, nr));
           SELECT sync.create_sync('s', '{"source": {"table": "a", "key": ["area", "nr"]}, "target": "b",
               "performance_settings": {"change_detection": "polling", "batch_size": 7}}')"#,
    );
    alike(&mut c);
    run(&mut c, "DELETE FROM p WHERE nr % 100 = 0; UPDATE p SET v = 'y' WHERE nr % 70 = 0");
    alike(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "2970");
}

#[test]
fn a_table_can_go_over_to_triggers_and_back() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'x' FROM generate_series(1, 50) i;
           CREATE TABLE b (id int PRIMARY KEY, v text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "performance_settings": {"change_detection": "polling"},
               "ongoing_sync": {"polling_interval_seconds": 3600}}')"#,
    );
    synced(&mut c, "s");
    run(
        &mut c,
        "SELECT sync.pause('s'); DELETE FROM a WHERE id = 1; UPDATE a SET v = 'y' WHERE id = 2",
    );
    let shown = query_one(
        &mut c,
        r#"SELECT string_agg(detail, '; ') FROM sync.plan('s', '{"performance_settings": null}')"#,
    );
    assert!(shown.contains("changes of public.a are captured"), "{shown}");
    run(&mut c, r#"SELECT sync.alter_sync('s', '{"performance_settings": null}')"#);
    run(&mut c, "INSERT INTO a VALUES (100, 'z'); SELECT sync.resume('s')");
    alike(&mut c);
    run(&mut c, "UPDATE a SET v = 'captured' WHERE id = 3; DELETE FROM a WHERE id = 4");
    alike(&mut c);
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"performance_settings": {"change_detection": "polling"}}')"#,
    );
    run(&mut c, "UPDATE a SET v = 'polled' WHERE id = 5; DELETE FROM a WHERE id = 6");
    alike(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "48");
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'a'::regclass"),
        "0"
    );
}

#[test]
fn filters_transformations_rules_audit_and_push_are_the_same_for_a_view() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE p (id int, name text, active bool); INSERT INTO p SELECT i, 'n' || i, true FROM generate_series(1, 20) i;
           CREATE VIEW a AS TABLE p; CREATE TABLE b (id int PRIMARY KEY, name text);
           SELECT sync.create_sync('s', '{"source": {"table": "a", "key": "id"}, "target": "b", "source_where": "active",
               "field_mappings": [{"source": "id", "target": "id"}, {"source": "name", "target": "name", "transformation": "upper"}],
               "validation_rules": [{"field": "name", "rule": "length", "max": 5}],
               "performance_settings": {"change_detection": "polling"}, "ongoing_sync": {"polling_interval_seconds": 3600}}')"#,
    );
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*), min(name) FROM b"), "20|N1");
    run(
        &mut c,
        "UPDATE p SET name = 'too long a name' WHERE id = 1; UPDATE p SET active = false, name = 'off' WHERE id = 2",
    );
    run(&mut c, "UPDATE p SET name = 'three' WHERE id = 3");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(
        query_one(&mut c, "SELECT string_agg(name, ',' ORDER BY id) FROM b WHERE id <= 3"),
        "N1,N2,THREE"
    );
    run(&mut c, "UPDATE p SET name = 'one' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name FROM b WHERE id = 1"), "ONE");
    run(&mut c, "UPDATE b SET name = 'drift' WHERE id = 5");
    let found = "SELECT what, key, target_value FROM sync.audit('s') WHERE key IS NOT NULL";
    assert_eq!(rows(&mut c, found), ["differs|5|drift"]);
    run(&mut c, "SELECT sync.repair('s')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT name FROM b WHERE id = 5"), "N5");
    // One row can be sent without a look at all of them.
    run(&mut c, "UPDATE p SET name = 'now' WHERE id = 9");
    run(&mut c, "SELECT sync.push('s', '9')");
    becomes(&db, &mut c, "SELECT name FROM b WHERE id = 9", "NOW");
    let planned = "SELECT detail, figure > 0 FROM sync.plan('s2', '{\"source\": {\"table\": \"a\", \"key\": \"id\"}, \"target\": \"b2\",
        \"performance_settings\": {\"change_detection\": \"polling\"}}') WHERE what = 'polling: rows'";
    run(&mut c, "CREATE TABLE b2 (id int PRIMARY KEY, name text)");
    assert_eq!(rows(&mut c, planned), ["public.a is read every 30 s, all of its rows each time|t"]);
}
