//! Values that are changed on their way: expressions, functions of the user's, built-ins.

use cluster::{Cluster, Options};
use pgrx_tests::{Shared, query_one, refusal, rows, run};

use super::{prepared, rest, settle, synced};

#[test]
fn several_columns_make_one_and_come_back_by_mappings_of_their_own() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, first text, last text);
           CREATE TABLE b (id int PRIMARY KEY, name text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "field_mappings": [
             {"source": "id", "target": "id"},
             {"source": ["first", "last"], "target": "name", "transformation": "first || '' '' || last"},
             {"source": "first", "target": "name", "direction": "target_to_source", "reverse": "split_part(name, '' '', 1)"},
             {"source": "last", "target": "name", "direction": "target_to_source", "reverse": "split_part(name, '' '', 2)"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'Ann', 'Ax')");
    run(&mut c, "INSERT INTO b VALUES (2, 'Bob Bx')");
    rest(&mut c, &["s"]);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|Ann Ax", "2|Bob Bx"]);
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|Ann|Ax", "2|Bob|Bx"]);
    run(&mut c, "UPDATE a SET last = 'Ay' WHERE id = 1");
    run(&mut c, "UPDATE b SET name = 'Rob Bx' WHERE id = 2");
    rest(&mut c, &["s"]);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|Ann Ay", "2|Rob Bx"]);
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|Ann|Ay", "2|Rob|Bx"]);
}

#[test]
fn a_function_of_the_users_is_applied_and_its_reverse_brings_edits_back() {
    let (_db, mut c) = prepared(
        r#"CREATE SCHEMA app;
           CREATE FUNCTION app.to_cents(euro numeric) RETURNS int8 LANGUAGE sql IMMUTABLE AS 'SELECT (euro * 100)::int8';
           CREATE FUNCTION app.to_euro(cents int8) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT cents / 100.0';
           CREATE FUNCTION shout(t text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN upper(t) || ''!''; END';
           CREATE TABLE a (id int PRIMARY KEY, price numeric(10,2), name text);
           CREATE TABLE b (id int PRIMARY KEY, cents int8, name text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "field_mappings": [
             {"source": "id", "target": "id"},
             {"source": "price", "target": "cents", "transformation": "app.to_cents", "reverse": "app.to_euro"},
             {"source": "name", "target": "name", "transformation": "shout"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 12.34, 'pen')");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|1234|PEN!");
    // Without a reverse the name goes one way only: the target's edit of it stays where it is.
    run(&mut c, "UPDATE b SET cents = 500, name = 'pencil'");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE a"), "1|5.00|pen");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|500|pencil");
    run(&mut c, "UPDATE a SET name = 'ink'");
    rest(&mut c, &["s"]);
    assert_eq!(query_one(&mut c, "TABLE b"), "1|500|INK!");
}

#[test]
fn trim_lower_and_upper_come_along() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, x text, y text, z varchar(9));
           CREATE TABLE b (id int PRIMARY KEY, x text, y text, z text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "x", "target": "x", "transformation": "trim"},
             {"source": "y", "target": "y", "transformation": "lower"}, {"source": "z", "target": "z", "transformation": "upper"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, '  x y ', 'ÄbC', 'Straße'), (2, NULL, NULL, NULL)");
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "TABLE b ORDER BY id"),
        ["1|x y|äbc|STRASSE".replace("SSE", "ßE").as_str(), "2|||"]
    );
}

#[test]
fn an_expression_sees_columns_that_are_not_synced_themselves() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, net numeric, vat numeric);
           CREATE TABLE b (id int PRIMARY KEY, gross numeric, made text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"},
             {"source": ["net", "vat"], "target": "gross", "transformation": "net + vat"},
             {"target": "made", "transformation": "''by '' || current_user"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 100, 19)");
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET vat = 7");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|107|by postgres");
}

/// P12: an expression that fails for one record parks that record.
#[test]
fn an_expression_that_fails_parks_its_record_only() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, n int);
           CREATE TABLE b (id int PRIMARY KEY, share numeric);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "n", "target": "share", "transformation": "100 / n"}]}');"#,
    );
    run(&mut c, "INSERT INTO a SELECT i, i - 3 FROM generate_series(1, 20) i");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "19");
    assert_eq!(query_one(&mut c, "SELECT key, message FROM sync.queue"), "3|division by zero");
    run(&mut c, "UPDATE a SET n = 50 WHERE id = 3");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT share FROM b WHERE id = 3"), "2");
}

#[test]
fn what_is_not_an_expression_of_one_value_is_refused() {
    let (_db, mut c) = prepared(
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (id int PRIMARY KEY, n int);",
    );
    for expression in [
        "n); DELETE FROM a; --",
        "n, n",
        "sum(n)",
        "generate_series(1, n)",
        "n FROM a WHERE true OR (1=1",
        "row_number() OVER ()",
        "nothing + 1",
        "no_such_function(n)",
    ] {
        let document = format!(
            r#"{{"source": "a", "target": "b", "field_mappings": [{{"source": "id", "target": "id"}},
               {{"source": "n", "target": "n", "transformation": "{expression}"}}]}}"#
        );
        let refused = refusal(&mut c, &format!("SELECT sync.create_sync('s', '{document}')"));
        assert!(!refused.starts_with("XX"), "{expression}: {refused}");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._sync"), "0", "{expression}");
    }
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!sync%'"),
        "0"
    );
}

/// B1: transforms run where nothing can be written and nothing of another's can be read.
#[test]
fn a_transform_that_writes_or_reads_what_its_owner_may_not_is_refused() {
    let db = pgrx_tests::db();
    let mut c = db.connect();
    let role = format!("{}_owner", db.name());
    run(
        &mut c,
        &format!(
            r#"CREATE ROLE {role} LOGIN; SELECT sync.grant('{role}'); GRANT CREATE ON SCHEMA public TO {role};
               CREATE TABLE vault (secret text); INSERT INTO vault VALUES ('top');"#
        ),
    );
    let mut owner = db.connect_as(&role);
    run(
        &mut owner,
        r#"CREATE TABLE diary (line text);
           CREATE TABLE a (id int PRIMARY KEY, what text, v text);
           CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE FUNCTION look(what text) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN
               IF what = 'write' THEN INSERT INTO diary VALUES ('was here'); END IF;
               IF what = 'peek' THEN RETURN (SELECT secret FROM vault); END IF;
               RETURN current_user;
             END $$;
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "what", "target": "v", "transformation": "look"}]}');
           INSERT INTO a VALUES (1, 'write'), (2, 'peek'), (3, 'fine');"#,
    );
    assert_eq!(settle(&mut owner, "s"), 2);
    assert_eq!(rows(&mut owner, "TABLE b"), [format!("3|{role}")]);
    assert_eq!(
        rows(&mut owner, "SELECT key, sqlstate FROM sync.queue ORDER BY key"),
        ["1|25006", "2|42501"]
    );
    assert_eq!(query_one(&mut owner, "SELECT count(*) FROM diary"), "0");
    run(&mut c, &format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role};"));
}

/// B3: the server does not time a background worker's statements; the worker does.
#[test]
fn a_transform_that_sleeps_is_cut_and_parks_its_record() {
    let options = Options::new("impatient").conf("sync_ext.apply_timeout = 300");
    let cluster = Cluster::start_new(Shared::cluster().server(), options).unwrap();
    let db = cluster.database("impatient").unwrap();
    let mut c = db.connect();
    run(
        &mut c,
        r#"CREATE EXTENSION sync_ext;
           CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql AS
             'BEGIN IF v = ''slow'' THEN PERFORM pg_sleep(60); END IF; RETURN v; END';
           SELECT sync.create_sync('s', '{"source": "a", "target": "b",
             "error_handling": {"retry_strategy": {"max_attempts": 1}}, "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "slow"}]}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (1, 'quick'), (2, 'slow'), (3, 'quick')");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "3"]);
    assert_eq!(
        query_one(&mut c, "SELECT key, sqlstate, message FROM sync.queue"),
        "2|57014|canceling statement due to statement timeout"
    );
}
