//! More than one sync: chains, rings, fans, and two that would write the same column.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{prepared, rest};

const THREE: &str =
    "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
                     CREATE TABLE c (id int PRIMARY KEY, v text);";

fn two_way(name: &str, source: &str, target: &str) -> String {
    format!(
        r#"SELECT sync.create_sync('{name}', '{{"source": "{source}", "target": "{target}", "sync_type": "bidirectional"}}');"#
    )
}

/// A8: what one sync writes is a change for the next.
#[test]
fn a_change_runs_through_a_chain_in_both_directions() {
    let (_db, mut c) =
        prepared(&format!("{THREE} {} {}", two_way("ab", "a", "b"), two_way("bc", "b", "c")));
    run(&mut c, "INSERT INTO a VALUES (1, 'from a'); INSERT INTO c VALUES (2, 'from c')");
    rest(&mut c, &["ab", "bc"]);
    for table in ["a", "b", "c"] {
        assert_eq!(rows(&mut c, &format!("TABLE {table} ORDER BY id")), ["1|from a", "2|from c"]);
    }
    run(&mut c, "UPDATE c SET v = 'edited' WHERE id = 1; DELETE FROM a WHERE id = 2");
    rest(&mut c, &["ab", "bc"]);
    for table in ["a", "b", "c"] {
        assert_eq!(rows(&mut c, &format!("TABLE {table} ORDER BY id")), ["1|edited"]);
    }
}

/// P6: a change stops where it meets its own value.
#[test]
fn a_ring_of_one_way_syncs_settles() {
    let (_db, mut c) = prepared(&format!(
        r#"{THREE} SELECT sync.create_sync('ab', '{{"source": "a", "target": "b"}}');
           SELECT sync.create_sync('bc', '{{"source": "b", "target": "c"}}');
           SELECT sync.create_sync('ca', '{{"source": "c", "target": "a"}}');"#
    ));
    let ring = ["ab", "bc", "ca"];
    run(&mut c, "INSERT INTO a VALUES (1, 'x')");
    rest(&mut c, &ring);
    run(&mut c, "UPDATE b SET v = 'y'");
    rest(&mut c, &ring);
    run(&mut c, "INSERT INTO c VALUES (2, 'z')");
    rest(&mut c, &ring);
    for table in ["a", "b", "c"] {
        assert_eq!(rows(&mut c, &format!("TABLE {table} ORDER BY id")), ["1|y", "2|z"]);
    }
    run(&mut c, "DELETE FROM b WHERE id = 1");
    rest(&mut c, &ring);
    for table in ["a", "b", "c"] {
        assert_eq!(rows(&mut c, &format!("TABLE {table} ORDER BY id")), ["2|z"], "{table}");
    }
}

#[test]
fn one_source_feeds_two_targets() {
    let (_db, mut c) =
        prepared(&format!("{THREE} {} {}", two_way("ab", "a", "b"), two_way("ac", "a", "c")));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, 'x'); INSERT INTO b VALUES (2, 'y'); INSERT INTO c VALUES (3, 'z')",
    );
    rest(&mut c, &["ab", "ac"]);
    for table in ["a", "b", "c"] {
        assert_eq!(rows(&mut c, &format!("TABLE {table} ORDER BY id")), ["1|x", "2|y", "3|z"]);
    }
    run(&mut c, "DELETE FROM b WHERE id = 3; UPDATE c SET v = 'X' WHERE id = 1");
    rest(&mut c, &["ab", "ac"]);
    for table in ["a", "b", "c"] {
        assert_eq!(rows(&mut c, &format!("TABLE {table} ORDER BY id")), ["1|X", "2|y"]);
    }
}

#[test]
fn two_syncs_that_write_the_same_column_are_refused() {
    let (_db, mut c) = prepared(&format!(
        r#"{THREE} SELECT sync.create_sync('ac', '{{"source": "a", "target": "c"}}');"#
    ));
    let refused =
        refusal(&mut c, r#"SELECT sync.create_sync('bc', '{"source": "b", "target": "c"}')"#);
    assert_eq!(
        refused,
        "22023 column \"v\" of public.c is written by sync \"ac\" already\n\
         DETAIL: Two syncs that write the same column would overwrite each other for ever.\n\
         HINT: Leave the column out of one of them, or let it go the other way only."
    );
    let refused =
        refusal(&mut c, r#"SELECT sync.create_sync('again', '{"source": "a", "target": "c"}')"#);
    assert!(refused.contains("is written by sync \"ac\" already"), "{refused}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._sync"), "1");
    // Different columns of one table may come from different tables.
    run(&mut c, "ALTER TABLE c ADD w text; ALTER TABLE b ADD w text");
    run(
        &mut c,
        r#"SELECT sync.create_sync('bc', '{"source": "b", "target": "c", "include_fields": ["id", "w"]}');
           INSERT INTO a VALUES (1, 'from a')"#,
    );
    rest(&mut c, &["ac", "bc"]);
    run(&mut c, "INSERT INTO b VALUES (1, 'unused', 'from b')");
    rest(&mut c, &["ac", "bc"]);
    assert_eq!(query_one(&mut c, "TABLE c"), "1|from a|from b");
}

#[test]
fn a_cycle_that_never_comes_to_rest_is_refused_with_its_way() {
    let ring = |last: &str| {
        format!(
            r#"SELECT sync.create_sync('ca', '{{"source": "c", "target": "a", "field_mappings": [{{"source": "id", "target": "id"}}, {{"source": "v", "target": "v"{last}}}]}}')"#
        )
    };
    let (_db, mut c) = prepared(&format!(
        r#"{THREE} SELECT sync.create_sync('ab', '{{"source": "a", "target": "b"}}'); {}"#,
        two_way("bc", "b", "c")
    ));
    assert_eq!(
        refusal(&mut c, &ring(r#", "transformation": "v || '.'""#).replace("'.'", "''.''")),
        "22023 sync \"ca\" would close a cycle that never comes to rest\n\
         DETAIL: A value goes around and is another one each time: public.c.v -> public.a.v (sync \"ca\", changed) -> public.b.v (sync \"ab\") -> public.c.v (sync \"bc\").\n\
         HINT: Leave the field out of one of these syncs, let it go the other way only, or take the expression away."
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._sync"), "2");
    // What is the same however often it is done comes to rest, and so does what stands still.
    run(&mut c, &ring(r#", "transformation": "lower""#));
    run(&mut c, "INSERT INTO a VALUES (1, 'LOUD')");
    rest(&mut c, &["ab", "bc", "ca"]);
    assert_eq!(
        rows(&mut c, "SELECT v FROM a UNION ALL SELECT v FROM b UNION ALL SELECT v FROM c"),
        ["loud"; 3]
    );
    let refused = refusal(
        &mut c,
        r#"SELECT sync.alter_sync('ab', '{"field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "repeat(v, 2)"}]}')"#,
    );
    assert!(refused.starts_with("22023 sync \"ab\" would close a cycle"), "{refused}");
}
