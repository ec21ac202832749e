//! Names that want to be something else: nothing of them is ever read as SQL.

use super::{equal, logged, peer, settle};
use pgrx_tests::{db, query_one, rows, run};

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

const HOSTILE: [&str; 12] = [
    "a\"b",
    "x'; DROP TABLE canary;--",
    "x\"; DROP TABLE canary;--",
    "$$; DROP TABLE canary; $$",
    "back\\slash\\' OR 1=1",
    "line\nbreak\ttab",
    "dots.and.dots",
    "%I %s %L $1",
    "{\"json\": [null]}",
    " leading and trailing ",
    "__sync_ord",
    "source",
];

/// B, C: one sync through each hostile name as schema, table, column, type and sync.
#[test]
fn hostile_names_are_only_names() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "CREATE TABLE canary ()");
    for (n, hostile) in HOSTILE.iter().enumerate() {
        let (schema, name) = (quote(hostile), quote(&format!("{hostile}{n}")));
        let (source, target) =
            (format!("{schema}.{name}"), format!("{schema}.{}", quote(&format!("{n}{hostile}"))));
        run(
            &mut client,
            &format!(
                "CREATE SCHEMA {schema}; CREATE TYPE {schema}.{0} AS ENUM ({1}, 'other');
                 CREATE TABLE {source} (id int, {0} {schema}.{0}, \"plain\" text, PRIMARY KEY (id));
                 CREATE TABLE {target} ({0} text, id bigint PRIMARY KEY, \"plain\" text);",
                quote(hostile),
                literal(hostile)
            ),
        );
        // Its value is converted, so that the name goes through an expression as well.
        peer(&mut client, hostile, &source, &target, r#"{"delete_limit": 1000}"#);
        run(
            &mut client,
            &format!("INSERT INTO {source} VALUES (1, {}, 'x'), (2, NULL, NULL)", literal(hostile)),
        );
        settle(&mut client, hostile);
        run(
            &mut client,
            &format!(
                "UPDATE {source} SET {} = 'other', plain = {} WHERE id = 2; DELETE FROM {source} WHERE id = 1",
                quote(hostile),
                literal(hostile)
            ),
        );
        settle(&mut client, hostile);
        let arrived = rows(
            &mut client,
            &format!("SELECT id, {}, plain = {} FROM {target}", quote(hostile), literal(hostile)),
        );
        assert_eq!(arrived, ["2|other|t"], "{hostile}");
        let sync = literal(hostile);
        run(
            &mut client,
            &format!(
                "SELECT * FROM sync.trace({sync}, '2'); SELECT sync.show({sync}); SELECT sync.pause({sync}); SELECT sync.resume({sync}); SELECT * FROM sync.status; SELECT * FROM sync.change_log"
            ),
        );
        run(&mut client, &format!("SELECT sync.drop_sync({sync})"));
    }
    run(&mut client, "SELECT * FROM canary; SELECT * FROM sync.doctor()");
    assert_eq!(logged(&mut client, "true"), 0);
}

/// Two-way, with the name in the key: through matching, pairing and checked writes.
#[test]
fn hostile_names_of_keys_are_only_names() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "CREATE TABLE canary ()");
    for (n, hostile) in HOSTILE.iter().enumerate() {
        let column = quote(hostile);
        let (source, target) = (format!("public.a{n}"), format!("public.b{n}"));
        run(
            &mut client,
            &format!(
                "CREATE TABLE {source} ({column} text PRIMARY KEY, v text); CREATE TABLE {target} ({column} text PRIMARY KEY, v text)"
            ),
        );
        let name = format!("two {hostile}");
        run(
            &mut client,
            &format!(
                "INSERT INTO {source} VALUES ({0}, 'source'); INSERT INTO {target} VALUES ({0}, 'source'), ('k', 'target')",
                literal(hostile)
            ),
        );
        peer(&mut client, &name, &source, &target, r#"{"sync_type": "bidirectional"}"#);
        settle(&mut client, &name);
        run(
            &mut client,
            &format!(
                "UPDATE {target} SET v = 'changed', {column} = {column} || '!' WHERE v = 'source'; INSERT INTO {source} VALUES ('l', 'source')"
            ),
        );
        settle(&mut client, &name);
        let expected =
            format!("SELECT v FROM {source} WHERE {column} = {} || '!'", literal(hostile));
        assert_eq!(query_one(&mut client, &expected), "changed", "{hostile}");
        // A row that was only on the target before a first load from the source does not travel back.
        run(
            &mut client,
            &format!(
                "DELETE FROM {target} WHERE {column} = 'k'; SELECT sync.drop_sync({})",
                literal(&name)
            ),
        );
        equal_tables(&mut client, &source, &target);
    }
    run(&mut client, "SELECT * FROM canary");
}

fn equal_tables(client: &mut pgrx_tests::cluster::postgres::Client, source: &str, target: &str) {
    let (expected, actual) = (super::table(client, source), super::table(client, target));
    assert_eq!(actual, expected, "{target} against {source}");
}

/// A sync's name may have 200 bytes, and every identifier 63.
#[test]
fn the_longest_names_are_taken_and_longer_ones_refused() {
    let db = db();
    let mut client = db.connect();
    let long = "n".repeat(63);
    run(
        &mut client,
        &format!(
            "CREATE SCHEMA {long}; CREATE TABLE {long}.{long} ({long} int PRIMARY KEY); CREATE TABLE {long}.b ({long} int PRIMARY KEY)"
        ),
    );
    let name = "s".repeat(200);
    peer(&mut client, &name, &format!("{long}.{long}"), &format!("{long}.b"), "{}");
    run(&mut client, &format!("INSERT INTO {long}.{long} VALUES (1)"));
    assert_eq!(equal(&mut client, &name, &format!("{long}.{long}"), &format!("{long}.b")), ["(1)"]);
    let text = pgrx_tests::refusal(
        &mut client,
        &format!(
            "SELECT sync.create_sync('{name}s', '{{\"source\": {{\"table\": \"x\"}}, \"target\": {{\"table\": \"y\"}}}}')"
        ),
    );
    assert!(text.starts_with("42622"), "{text}");
}
