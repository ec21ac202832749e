//! Expressions of a document that want to be something else, or do what they may not.

use pgrx_tests::{db, query_one, refusal, rows, run};
use serde_json::json;

use super::{prepared, settle, synced};

/// What closes the brackets that a text is put in is no expression, whatever it comes to.
#[test]
fn an_expression_that_leaves_its_brackets_is_refused() {
    let (_db, mut c) = prepared(
        "CREATE TABLE a (id int PRIMARY KEY, v text, n int); CREATE TABLE b (LIKE a INCLUDING ALL);
         INSERT INTO a VALUES (1, 'x', 1);",
    );
    for (target, expression) in [
        // Of another type than its column: it would be read as what it is not.
        ("v", "'a') AS text) LIKE CAST((v"),
        ("n", "'a') AS text) || CAST((v) AS text) || CAST((n"),
        // The rest of the statement would be a comment.
        ("v", "v) AS text) --"),
        ("v", "v) AS text) /*"),
        ("v", "v, v"),
        ("v", "v) || (v"),
    ] {
        let document = json!({"source": "a", "target": "b", "field_mappings": [
            {"source": "id", "target": "id"}, {"source": "v", "target": target, "transformation": expression}]});
        let document = document.to_string().replace('\'', "''");
        let refused = refusal(&mut c, &format!("SELECT sync.create_sync('s', '{document}')"));
        assert!(refused.contains("field_mappings[1].transformation"), "{expression}: {refused}");
        assert!(refused.contains("DETAIL") && refused.contains("HINT"), "{expression}: {refused}");
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
}

/// However long or deep an expression is: it works, or is refused with its key, and the server stays up.
#[test]
fn an_expression_may_be_huge() {
    let (_db, mut c) = prepared(
        "CREATE TABLE a (id int PRIMARY KEY, n int); CREATE TABLE b (LIKE a INCLUDING ALL); INSERT INTO a VALUES (1, 5);",
    );
    let create = |expression: &str| {
        let document = json!({"source": "a", "target": "b", "field_mappings": [
            {"source": "id", "target": "id"}, {"source": "n", "target": "n", "transformation": expression}]});
        format!("SELECT sync.create_sync('s', {})", quoted(&document.to_string()))
    };
    // What is longer is not even given to PostgreSQL.
    let refused = refusal(&mut c, &create(&"/*".repeat(500_000)));
    assert!(refused.contains("\"field_mappings[1].transformation\" is too long"), "{refused:.300}");
    for expression in [
        "(".repeat(60_000),
        format!("{}n{}", "(".repeat(30_000), ")".repeat(30_000)),
        format!("n{}", " + 1".repeat(15_000)),
        format!("{}n", "- ".repeat(30_000)),
        format!("CASE WHEN {}true THEN n END", "NOT ".repeat(15_000)),
        "x".repeat(60_000),
        format!("'{}", "x".repeat(60_000)),
        format!("$x${}", "y".repeat(60_000)),
        "/*".repeat(30_000),
    ] {
        let start: String = expression.chars().take(20).collect();
        let refused = refusal(&mut c, &create(&expression));
        assert!(
            refused.contains("\"field_mappings[1].transformation\" cannot be used"),
            "{start}: {refused:.300}"
        );
        assert!(
            refused.len() < 2000 && refused.contains("DETAIL: ") && refused.contains("HINT: "),
            "{start}: {refused:.300}"
        );
    }
    let long = format!(
        "n{}+ CASE WHEN n IN (0{}) THEN 1 ELSE 0 END",
        " ".repeat(20_000),
        ", 5".repeat(13_000)
    );
    run(&mut c, &create(&long));
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b"), ["1|6"]);
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Names that a column may have, and that something of ours might be called, or that SQL might take for something else.
const NAMES: &[&str] = &[
    "a\";drop",
    "it's",
    "$1",
    "%s",
    "%I",
    "back\\slash",
    "größe ✓",
    "two words",
    "line\nbreak",
    "select",
    "user",
    "order",
    "Name",
    "source",
    "target",
    "f",
    "t",
    "r",
    "v",
    "x",
    "y",
    "value",
    "ord",
    "__sync_ord",
    "__sync_rows",
    "m0",
    "k0",
    "made",
    "sent",
    "back",
    "operation",
    "old",
    "new",
    "base",
    "ours",
    "theirs",
    "ctid_",
    "key",
    "n123456789012345678901234567890123456789012345678901234567890XX",
];

/// A sync that goes both ways with all that a document can ask of a column, whatever the column is called.
#[test]
fn columns_may_be_called_what_sql_allows() {
    let db = db();
    let mut c = db.connect();
    for name in NAMES {
        let column = format!("\"{}\"", name.replace('"', "\"\""));
        run(
            &mut c,
            &format!(
                "CREATE TABLE p (id int PRIMARY KEY, {column} text); CREATE TABLE q (LIKE p INCLUDING ALL);
                 CREATE TABLE a (id int PRIMARY KEY, {column} text, parent_ int REFERENCES p, deleted_ bool, at_ timestamptz);
                 CREATE TABLE b (id int PRIMARY KEY, {column} text, parent_ int REFERENCES q, deleted_ bool, at_ timestamptz);
                 INSERT INTO p VALUES (7, 'x'); INSERT INTO a VALUES (10, 'Ten', 7); INSERT INTO q VALUES (7, 'x'); INSERT INTO b VALUES (10, 'ten', 7)"
            ),
        );
        let parents = json!({"source": "p", "target": "q", "sync_type": "bidirectional"});
        let document = json!({
            "source": "a", "target": "b", "sync_type": "bidirectional",
            "field_mappings": [
                {"source": "id", "target": "id"},
                {"source": name, "target": name, "transformation": format!("lower({column})"), "reverse": format!("upper({column})"),
                 "required": true},
                {"source": "parent_", "target": "parent_", "reference": "parents"}],
            "where": format!("{column} <> 'hidden'"),
            "two_way_where": format!("{column} <> 'one way'"),
            "validation_rules": [
                {"field": name, "rule": "condition", "condition": format!("value <> 'bad' AND f.{column} <> 'worse'")},
                {"field": name, "rule": "length", "max": 100}],
            "match_on": [{"source": name, "target": name, "expression": "lower(value)"}],
            "conflict_resolution": {"strategy": "field_level_priority", "field_rules": [{"field": name, "priority_system": "target"}]},
            "on_source_delete": {"action": "mark", "column": "deleted_"},
            "stamp_columns": {"synced_at": "at_"},
        });
        for (sync, document) in [("parents", &parents), ("s", &document)] {
            run(
                &mut c,
                &format!("SELECT sync.create_sync('{sync}', {})", quoted(&document.to_string())),
            );
        }
        synced(&mut c, "parents");
        synced(&mut c, "s");
        run(
            &mut c,
            "INSERT INTO a VALUES (1, 'One', 7), (2, 'hidden', NULL), (3, 'bad', NULL), (4, 'worse', NULL)",
        );
        assert_eq!(settle(&mut c, "s"), 2, "{name}");
        let of = |table: &str| format!("SELECT id, {column}, parent_ FROM {table} ORDER BY id");
        assert_eq!(rows(&mut c, &of("b")), ["1|one|7", "10|ten|7"], "{name}");
        run(
            &mut c,
            &format!(
                "UPDATE b SET {column} = 'edited' WHERE id = 1; DELETE FROM a WHERE id IN (3, 4)"
            ),
        );
        settle(&mut c, "s");
        synced(&mut c, "s");
        assert_eq!(rows(&mut c, &of("a")), ["1|EDITED|7", "2|hidden|", "10|TEN|7"], "{name}");
        run(&mut c, "DELETE FROM a WHERE id = 10");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT deleted_ FROM b WHERE id = 10"), "t", "{name}");
        run(
            &mut c,
            "SELECT * FROM sync.preview('s', '1'); SELECT * FROM sync.audit('s'); SELECT * FROM sync.index_recommendations('s');
             SELECT * FROM sync.trace('s', '1'); SELECT * FROM sync.plan('s', '{\"delete_limit\": 5}');
             SELECT sync.drop_sync('s'); SELECT sync.drop_sync('parents'); DROP TABLE a, b, p, q",
        );
    }
}
