//! Malformed documents through SQL: refused with the path, what is wrong and what would be right;
//! nothing is half-created.

use pgrx_tests::{query_one, refusal, run};

use super::prepared;

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, v text, n int);
    CREATE TABLE b (id int PRIMARY KEY, v text, n int GENERATED ALWAYS AS (1) STORED);
    CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE other (key int PRIMARY KEY);
    CREATE VIEW seen AS TABLE a; CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
    CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);";

/// What would be left of a sync that was half made.
const TRACES: &str = "SELECT (SELECT count(*) FROM sync._sync), (SELECT count(*) FROM sync._cursor), (SELECT count(*) FROM sync._load),
    (SELECT count(*) FROM sync._capture), (SELECT count(*) FROM pg_trigger WHERE tgname LIKE '!sync%'),
    (SELECT count(*) FROM pg_inherits WHERE inhparent = 'sync._link'::regclass)";

/// (document, SQLSTATE, what the error must speak of)
const CASES: &[(&str, &str, &[&str])] = &[
    ("null", "22023", &[]),
    ("[]", "22023", &[]),
    ("\"text\"", "22023", &[]),
    ("{}", "22023", &["source"]),
    (r#"{"source": "a"}"#, "22023", &["target"]),
    (r#"{"source": "a", "target": "b", "sorce": 1}"#, "22023", &["\"sorce\"", "source"]),
    (r#"{"source": "a", "target": 5}"#, "22023", &["\"target\""]),
    (
        r#"{"source": "a", "target": "b", "sync_type": "both"}"#,
        "22023",
        &["sync_type", "bidirectional"],
    ),
    (
        r#"{"source": "a", "target": "b", "error_handling": {"retry_strategy": {"max_attempts": 0}}}"#,
        "22023",
        &["error_handling.retry_strategy.max_attempts"],
    ),
    (
        r#"{"source": "a", "target": "b", "performance_settings": {"batch_size": "many"}}"#,
        "22023",
        &["performance_settings.batch_size"],
    ),
    (
        r#"{"source": "a", "target": "b", "field_mappings": [{"source": "id", "target": "id"}, {"source": "v"}]}"#,
        "22023",
        &["field_mappings[1]", "target"],
    ),
    (
        r#"{"source": "a", "target": "b", "field_mappings": [{"source": "id", "target": "id"}, {"source": "nope", "target": "v"}]}"#,
        "42703",
        &["nope", "field_mappings[1].source", "id, v, n"],
    ),
    (
        r#"{"source": "a", "target": "b", "field_mappings": [{"source": "v", "target": "v"}, {"source": "id", "target": "v"}]}"#,
        "22023",
        &["field_mappings[1].target"],
    ),
    (
        r#"{"source": "a", "target": "b", "field_mappings": [{"source": "n", "target": "n"}]}"#,
        "22023",
        &["\"n\" of public.b is generated"],
    ),
    (
        r#"{"source": "a", "target": "b", "include_fields": ["id", "gone"]}"#,
        "42703",
        &["gone", "include_fields"],
    ),
    (r#"{"source": "a", "target": "b", "match_on": ["gone"]}"#, "42703", &["gone", "match_on"]),
    (r#"{"source": "a", "target": "missing"}"#, "42P01", &["missing", "\"target\""]),
    (r#"{"source": "a", "target": "a"}"#, "22023", &["the same table"]),
    (r#"{"source": "empty", "target": "other"}"#, "22023", &["no field to sync", "field_mappings"]),
    (r#"{"source": "seen", "target": "b"}"#, "0A000", &["view"]),
    (r#"{"source": "fast", "target": "b"}"#, "0A000", &["unlogged", "SET LOGGED"]),
    (r#"{"source": "late", "target": "b"}"#, "0A000", &["DEFERRABLE"]),
    (r#"{"source": "sync._sync", "target": "b"}"#, "0A000", &["sync_ext itself"]),
    (
        r#"{"source": "a", "target": "b", "target_where": "true", "on_filter_exit": "delete"}"#,
        "22023",
        &["\"on_filter_exit\"", "\"target_where\"", "HINT: Give the side that sends"],
    ),
    (
        r#"{"source": "a", "target": "b", "where": "true", "on_filter_exit": "delete", "on_source_delete": "keep"}"#,
        "22023",
        &["\"on_filter_exit\"", "\"on_source_delete\"", "HINT: Set"],
    ),
    (
        r#"{"source": "a", "target": "b", "ongoing_sync": {"mode": "polling"}}"#,
        "22023",
        &["ongoing_sync.mode"],
    ),
    (
        r#"{"source": "a", "target": "b", "conflict_resolution": {"strategy": "system_priority"}}"#,
        "22023",
        &["conflict_resolution.priority_system"],
    ),
    (
        r#"{"source": "a", "target": "b", "conflict_resolution": {"strategy": "field_level_priority",
            "field_rules": [{"field": "nope", "priority_system": "source"}]}}"#,
        "42703",
        &["\"nope\"", "conflict_resolution.field_rules[0]", "id, v"],
    ),
];

#[test]
fn a_malformed_document_is_refused_and_leaves_nothing() {
    let (_db, mut c) = prepared(TABLES);
    for (document, sqlstate, words) in CASES {
        let document = document.replace('\'', "''");
        let refused = refusal(&mut c, &format!("SELECT sync.create_sync('s', '{document}')"));
        assert!(refused.starts_with(sqlstate), "{document}\n{refused}");
        for word in *words {
            assert!(refused.contains(word), "{document}\n{refused}\nlacks {word}");
        }
        assert!(refused.contains("\nDETAIL: "), "{document}\n{refused}");
        assert!(refused.contains("\nHINT: "), "{document}\n{refused}");
        assert_eq!(query_one(&mut c, TRACES), "0|0|0|0|0|0", "{document}");
    }
}

#[test]
fn pieces_that_contradict_each_other_are_refused_with_both_paths() {
    let (_db, mut c) = prepared(TABLES);
    let refused = refusal(
        &mut c,
        r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "one_way"}', '{"sync_settings": {"sync_type": "bidirectional"}}')"#,
    );
    assert!(refused.starts_with("22023"), "{refused}");
    assert!(refused.contains("sync_settings.sync_type"), "{refused}");
    assert_eq!(query_one(&mut c, TRACES), "0|0|0|0|0|0");
}

/// A secret in a document would be in the server's log, in dumps and on every screen.
#[test]
fn a_secret_in_a_document_is_refused_and_not_repeated() {
    let (_db, mut c) = prepared(TABLES);
    for key in ["client_secret", "password", "access_token", "refresh_token", "private_key"] {
        let refused = refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('s', '{{"source": {{"type": "salesforce", "object": "Account", "credentials": {{"{key}": "hunter2"}}}}, "target": "b"}}')"#
            ),
        );
        assert!(refused.contains(key), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
        assert_eq!(query_one(&mut c, TRACES), "0|0|0|0|0|0");
    }
}

#[test]
fn names_of_syncs_are_checked() {
    let (_db, mut c) = prepared(TABLES);
    let document = r#"{"source": "a", "target": "b"}"#;
    for (name, state) in [("", "22023"), ("  ", "22023"), (&"x".repeat(201) as &str, "42622")] {
        let refused = refusal(&mut c, &format!("SELECT sync.create_sync('{name}', '{document}')"));
        assert!(refused.starts_with(state), "{refused}");
    }
    run(&mut c, &format!("SELECT sync.create_sync('Ünïcode \"quoted\".dots; --', '{document}')"));
    let refused = refusal(
        &mut c,
        &format!("SELECT sync.create_sync('Ünïcode \"quoted\".dots; --', '{document}')"),
    );
    assert!(refused.starts_with("42710"), "{refused}");
    for call in ["show", "pause", "drop_sync"] {
        let refused = refusal(&mut c, &format!("SELECT sync.{call}('unknown')"));
        assert!(refused.starts_with("42704 sync \"unknown\" does not exist"), "{refused}");
        assert!(refused.contains("HINT: There are: Ünïcode"), "{refused}");
    }
    run(&mut c, "SELECT sync.drop_sync('Ünïcode \"quoted\".dots; --')");
}

/// A patch that makes the document wrong changes nothing.
#[test]
fn a_malformed_patch_leaves_the_sync_as_it_was() {
    let (_db, mut c) = prepared(TABLES);
    run(
        &mut c,
        r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b", "include_fields": ["id", "v"]}')"#,
    );
    let before = query_one(&mut c, "SELECT sync.show('s')");
    for patch in [
        r#"{"include_fields": ["id", "gone"]}"#,
        r#"{"target": "other"}"#,
        r#"{"source": null}"#,
        r#"{"batch_size": 5}"#,
        r#"{"delete_limit": "lots"}"#,
        r#"[1]"#,
    ] {
        let refused = refusal(&mut c, &format!("SELECT sync.alter_sync('s', '{patch}')"));
        assert!(refused.contains("\nHINT: "), "{patch}\n{refused}");
        assert_eq!(query_one(&mut c, "SELECT sync.show('s')"), before, "{patch}");
    }
}
