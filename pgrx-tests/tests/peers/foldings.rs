//! E6: keys that are equal without being the same bytes.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, synced};

const CREATE: &str = r#"SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}')"#;

/// A link knows its record by the key's bytes: deleted as 'A' and inserted as 'a' it would be another
/// record on one side and the same on the other.
#[test]
fn a_key_that_takes_different_texts_for_equal_is_refused_with_a_hint() {
    let (_db, mut client) = prepared(
        "CREATE EXTENSION citext; CREATE DOMAIN code AS citext;
         CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
    );
    for key in ["k citext", "k text COLLATE folding", "k varchar(10) COLLATE folding", "k code"] {
        run(
            &mut client,
            &format!(
                "CREATE TABLE a ({key} PRIMARY KEY, v text); CREATE TABLE b (k text PRIMARY KEY, v text)"
            ),
        );
        let error = refusal(&mut client, CREATE);
        assert!(error.starts_with("0A000 public.a cannot be synced"), "{key}: {error}");
        assert!(error.contains("HINT: Create a unique index"), "{key}: {error}");
        // On the target's side just as well.
        run(
            &mut client,
            "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b",
        );
        let error = refusal(&mut client, CREATE);
        assert!(error.starts_with("0A000 public.b cannot be synced"), "{key}: {error}");
        run(&mut client, "DROP TABLE a, b");
    }
}

/// The hint helps, and other columns may be of such types.
#[test]
fn another_unique_index_is_the_key_where_the_primary_key_folds_case() {
    let (_db, mut client) = prepared(
        r#"CREATE EXTENSION citext;
           CREATE TABLE a (k citext PRIMARY KEY, id int NOT NULL UNIQUE, v citext); CREATE TABLE b (LIKE a INCLUDING ALL);
           INSERT INTO a VALUES ('A', 1, 'one'); INSERT INTO b VALUES ('a', 1, 'ONE');"#,
    );
    run(&mut client, CREATE);
    synced(&mut client, "s");
    run(
        &mut client,
        "DELETE FROM a WHERE id = 1; INSERT INTO a VALUES ('a', 1, 'uno'), ('B', 2, 'due')",
    );
    synced(&mut client, "s");
    run(&mut client, "UPDATE b SET k = 'b', v = 'DUE' WHERE id = 2");
    synced(&mut client, "s");
    assert_eq!(rows(&mut client, "SELECT k, id, v FROM a ORDER BY id"), ["a|1|uno", "b|2|DUE"]);
    assert_eq!(
        rows(
            &mut client,
            "SELECT k::text, id, v::text FROM a EXCEPT SELECT k::text, id, v::text FROM b"
        ),
        Vec::<String>::new()
    );
}

/// Texts that are compared exactly stay usable.
#[test]
fn keys_of_exact_texts_are_synced() {
    let (_db, mut client) = prepared("");
    for key in ["text", "varchar(10)", "char(5)", "name", "text COLLATE \"C\"", "uuid", "\"char\""]
    {
        run(
            &mut client,
            &format!(
                "CREATE TABLE a (k {key} PRIMARY KEY, v text); CREATE TABLE b (LIKE a INCLUDING ALL);
                 INSERT INTO a VALUES ({}, 'v')",
                if key == "uuid" { "gen_random_uuid()" } else { "'A'" }
            ),
        );
        run(&mut client, CREATE);
        synced(&mut client, "s");
        let paired = query_one(&mut client, "SELECT count(*) FROM a JOIN b USING (k, v)");
        assert_eq!(paired, "1", "{key}");
        run(&mut client, "SELECT sync.drop_sync('s')");
        run(&mut client, "DROP TABLE a, b");
    }
}
