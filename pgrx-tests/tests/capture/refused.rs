//! Tables that cannot be synced are refused at once, with the reason and a way out, and nothing is left behind.

use super::{one_way, pair};
use pgrx_tests::cluster::postgres::Client;
use pgrx_tests::{db, query_one, refusal, run};

/// Tries to sync the table with a good one, both ways round; returns what was said of it as the source.
#[track_caller]
fn refused(client: &mut Client, table: &str) -> String {
    run(client, "CREATE TABLE IF NOT EXISTS good (id int PRIMARY KEY, v text)");
    let create = |source: &str, target: &str| {
        format!(
            r#"SELECT sync.create_sync('r', '{{"source": {{"table": "{source}"}}, "target": {{"table": "{target}"}}}}')"#
        )
    };
    let text = refusal(client, &create(table, "public.good"));
    let other = refusal(client, &create("public.good", table));
    assert!(other.starts_with("0A000") || !text.starts_with("0A000"), "{other}");
    assert!(text.contains("HINT: "), "no hint: {text}");
    let left = "SELECT (SELECT count(*) FROM sync._sync WHERE name = 'r') + (SELECT count(*) FROM pg_trigger WHERE tgname ~ '!sync' AND tgrelid = 'good'::regclass)";
    assert_eq!(query_one(client, left), "0");
    text
}

#[track_caller]
fn refused_because(setup: &str, table: &str, reason: &str, hint: &str) {
    let db = db();
    let mut client = db.connect();
    run(&mut client, setup);
    let text = refused(&mut client, table);
    assert!(text.starts_with("0A000 "), "{text}");
    let (_, rest) = text.split_once("\nDETAIL: ").unwrap();
    let (detail, advice) = rest.split_once("\nHINT: ").unwrap();
    assert!(detail.contains(reason), "detail: {detail}");
    assert!(advice.contains(hint), "hint: {advice}");
}

/// A4
#[test]
fn a_deferrable_key_is_refused() {
    for when in ["DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"] {
        let setup = format!("CREATE TABLE t (id int, v text, PRIMARY KEY (id) {when})");
        refused_because(&setup, "public.t", "DEFERRABLE", "NOT DEFERRABLE");
    }
}

/// A4: another index may serve instead.
#[test]
fn an_immediate_index_beside_a_deferrable_key_serves() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "id int PRIMARY KEY DEFERRABLE, code text NOT NULL UNIQUE");
    assert_eq!(query_one(&mut client, "SELECT source_key FROM sync._sync"), "{code}");
}

/// A4: neither a nullable, a partial, an expression index nor a hash of one is a key.
#[test]
fn a_table_without_a_key_is_refused() {
    refused_because(
        "CREATE TABLE t (id int, v text);
         ALTER TABLE t ADD UNIQUE (id);
         CREATE UNIQUE INDEX ON t (v) WHERE v IS NOT NULL;
         CREATE UNIQUE INDEX ON t (lower(v));
         ALTER TABLE t ADD EXCLUDE USING hash (id WITH =);",
        "public.t",
        "no primary key",
        "ADD PRIMARY KEY",
    );
}

/// A7
#[test]
fn inheritance_is_refused_on_either_end() {
    let setup = "CREATE TABLE parent (id int PRIMARY KEY, v text); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)";
    refused_because(setup, "public.parent", "inheritance", "partitioning");
    refused_because(setup, "public.child", "inheritance", "partitioning");
}

/// A7
#[test]
fn an_unlogged_table_is_refused() {
    refused_because(
        "CREATE UNLOGGED TABLE t (id int PRIMARY KEY)",
        "public.t",
        "unlogged",
        "SET LOGGED",
    );
}

#[test]
fn a_temporary_table_is_refused() {
    refused_because("CREATE TEMP TABLE t (id int PRIMARY KEY)", "pg_temp.t", "temporary", "lasts");
}

#[test]
fn views_are_refused() {
    refused_because("CREATE VIEW t AS SELECT 1 AS id", "public.t", "view", "below it");
    refused_because(
        "CREATE MATERIALIZED VIEW t AS SELECT 1 AS id; CREATE UNIQUE INDEX ON t (id)",
        "public.t",
        "materialized view",
        "below it",
    );
}

#[test]
fn a_foreign_table_is_refused() {
    refused_because(
        "CREATE FOREIGN DATA WRAPPER nobody; CREATE SERVER nowhere FOREIGN DATA WRAPPER nobody;
         CREATE FOREIGN TABLE t (id int) SERVER nowhere",
        "public.t",
        "foreign table",
        "where it lives",
    );
}

#[test]
fn tables_of_the_system_are_refused() {
    refused_because("", "pg_catalog.pg_class", "system", "your own");
    refused_because("", "sync._sync", "sync_ext itself", "your own");
    refused_because("CREATE SEQUENCE t", "public.t", "not a table", "Name a table");
}

/// A10: a row must be captured once.
#[test]
fn a_partition_of_a_captured_table_is_refused_and_so_is_the_root_of_a_captured_partition() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE middle PARTITION OF root FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
         CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (0) TO (5);
         CREATE TABLE b (id int PRIMARY KEY, v text);",
    );
    let create = |table: &str| {
        format!(
            r#"SELECT sync.create_sync('{table}', '{{"source": {{"table": "public.{table}"}}, "target": {{"table": "public.b"}}}}')"#
        )
    };
    for (first, others) in
        [("root", ["middle", "leaf"]), ("middle", ["root", "leaf"]), ("leaf", ["middle", "root"])]
    {
        run(&mut client, &create(first));
        for other in others {
            let text = refusal(&mut client, &create(other));
            assert!(
                text.starts_with("0A000") && text.contains(first) && text.contains("HINT"),
                "{text}"
            );
        }
        run(&mut client, &format!("SELECT sync.drop_sync('{first}')"));
    }
}

#[test]
fn a_table_is_not_synced_with_itself() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "CREATE TABLE t (id int PRIMARY KEY)");
    let text = refusal(
        &mut client,
        r#"SELECT sync.create_sync('s', '{"source": {"table": "t"}, "target": {"table": "public.t"}}')"#,
    );
    assert!(text.starts_with("22023"), "{text}");
    run(&mut client, "CREATE TABLE u (id int PRIMARY KEY)");
    one_way(&mut client, "s", "t", "u");
    let text = refusal(
        &mut client,
        r#"SELECT sync.create_sync('s', '{"source": {"table": "t"}, "target": {"table": "u"}}')"#,
    );
    assert!(text.starts_with("42710"), "{text}");
}
