//! Rows that are there before the sync is.

use pgrx_tests::{query_one, rows, run};

use super::{becomes, prepared, settle, synced};

#[test]
fn rows_of_both_sides_with_the_same_key_are_paired() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text, own text);
           INSERT INTO a VALUES (1, 'same'), (2, 'from a'), (3, 'only a');
           INSERT INTO b VALUES (1, 'same', 'x'), (2, 'from b', 'x'), (4, 'only b', 'x');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}');"#,
    );
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "TABLE b ORDER BY id"),
        ["1|same|x", "2|from a|x", "3|only a|", "4|only b|x"]
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._link WHERE deleted_at IS NULL"), "3");
}

#[test]
fn match_on_pairs_rows_whose_keys_have_nothing_in_common() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, email text, name text);
           CREATE TABLE b (id serial PRIMARY KEY, mail text, name text);
           INSERT INTO a VALUES (10, 'ann@x', 'Ann'), (20, 'bob@x', 'Bob'), (30, 'cee@x', 'Cee');
           INSERT INTO b (mail, name) VALUES ('ann@x', 'Anne'), ('bob@x', 'Bob');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional", "match_on": ["mail"],
             "field_mappings": [{"source": "email", "target": "mail"}, {"source": "name", "target": "name"}]}');"#,
    );
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|ann@x|Ann", "2|bob@x|Bob", "3|cee@x|Cee"]);
    run(&mut c, "UPDATE b SET name = 'Robert' WHERE id = 2; DELETE FROM a WHERE id = 10");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["20|bob@x|Robert", "30|cee@x|Cee"]);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["2", "3"]);
}

/// Compared by what an expression makes of the values; two that become the same are for a person, on either side.
#[test]
fn match_on_compares_by_an_expression() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, email text, zip int, name text);
           CREATE TABLE b (id serial PRIMARY KEY, mail varchar(40), zip int, name text, value text DEFAULT 'unused');
           INSERT INTO a VALUES (10, 'Ann@X', 1, 'Ann'), (20, ' bob@x', 1, 'Bob'), (30, 'cee@x', 1, 'Cee'),
             (40, 'TWIN@x', 1, 'Twin'), (50, 'twin@x', 1, 'Twin'), (60, 'two@x', 1, 'Two'), (70, 'bob@x', 2, 'Bob 2');
           INSERT INTO b (mail, zip, name) VALUES ('ann@x ', 1, 'Anne'), ('BOB@x', 1, 'Bob'), ('twin@X', 1, 'T'),
             ('two@X', 1, 'one'), ('Two@x', 1, 'two');
           CREATE INDEX by_mail ON b (lower(trim(mail)));
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "match_on": [{"source": "email", "target": "mail", "expression": "lower(trim(value))"}, {"source": "zip", "target": "zip"}],
             "field_mappings": [{"source": "name", "target": "name"}, {"source": "zip", "target": "zip"},
               {"source": "email", "target": "mail"}]}');"#,
    );
    settle(&mut c, "s");
    becomes(
        &db,
        &mut c,
        "SELECT string_agg(key, ' ' ORDER BY key) FROM sync.queue WHERE direction = 'source to target'",
        "40 50 60",
    );
    run(&mut c, "UPDATE a SET name = name || '!' WHERE id <= 30 OR id = 70");
    settle(&mut c, "s");
    assert_eq!(
        rows(&mut c, "SELECT id, name, zip FROM b ORDER BY id"),
        ["1|Ann!|1", "2|Bob!|1", "3|T|1", "4|one|1", "5|two|1", "6|Cee!|1", "7|Bob 2!|2"]
    );
    assert_eq!(
        query_one(&mut c, "SELECT sync.show('s') -> 'match_on' -> 0 ->> 'expression'"),
        "lower(trim(value))"
    );
    for (expression, said) in [
        ("lower(vale)", r#"column "vale" does not exist"#),
        ("count(*)", r#""match_on[0].expression" is not an SQL expression of one value"#),
        ("value::json", "operator does not exist: json = json"),
    ] {
        let refused = pgrx_tests::refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('t', '{{"source": "a", "target": "b",
                     "field_mappings": [{{"source": "name", "target": "value"}}],
                     "match_on": [{{"source": "email", "target": "mail", "expression": "{expression}"}}]}}')"#
            ),
        );
        assert!(refused.contains(said), "{expression}: {refused:?}");
    }
}

/// P12: what could be either of two is for a person.
#[test]
fn a_row_that_matches_two_goes_to_review_and_settles_once_it_is_clear() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, email text);
           CREATE TABLE b (id serial PRIMARY KEY, mail text);
           INSERT INTO a VALUES (10, 'twin@x'), (20, 'one@x');
           INSERT INTO b (mail) VALUES ('twin@x'), ('twin@x'), ('one@x');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "match_on": ["mail"],
             "field_mappings": [{"source": "email", "target": "mail"}]}');"#,
    );
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(
        query_one(&mut c, "SELECT key, state, message, detail FROM sync.queue"),
        "10|review|the row cannot be paired with one of public.b|More than one row matches it; which one belongs to it is not for the sync to guess."
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "3");
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "needs review");
    run(&mut c, "DELETE FROM b WHERE id = 2");
    run(&mut c, "SELECT sync.retry(id) FROM sync.queue");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
    run(&mut c, "UPDATE a SET email = 'single@x' WHERE id = 10");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|single@x", "3|one@x"]);
}

#[test]
fn match_only_pairs_and_writes_nothing() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a VALUES (1, 'a'), (2, 'only a'); INSERT INTO b VALUES (1, 'b'), (3, 'only b');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "initial_sync": {"strategy": "match_only"}}');"#,
    );
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|a", "2|only a"]);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|b", "3|only b"]);
    run(
        &mut c,
        "UPDATE b SET v = 'edited' WHERE id = 1; DELETE FROM b WHERE id = 3; UPDATE a SET v = 'now' WHERE id = 2",
    );
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|edited", "2|now"]);
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|edited", "2|now"]);
}

#[test]
fn without_an_initial_sync_only_what_changes_from_now_on_travels() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a VALUES (1, 'old'), (2, 'old');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "initial_sync": {"strategy": "none"}}');"#,
    );
    run(&mut c, "INSERT INTO a VALUES (3, 'new'); UPDATE a SET v = 'touched' WHERE id = 2");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["2|touched", "3|new"]);
}

#[test]
fn a_two_way_load_runs_from_source_to_target() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a VALUES (1, 'a'), (2, 'only a'); INSERT INTO b VALUES (1, 'b'), (3, 'only b');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "TABLE b ORDER BY id"), ["1|a", "2|only a", "3|only b"]);
    // full_load runs from source to target: what only the target has stays there.
    assert_eq!(rows(&mut c, "TABLE a ORDER BY id"), ["1|a", "2|only a"]);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT kind, field, source_value, target_value, winner FROM sync.conflicts"
        ),
        "insert_exists|v|a|b|source"
    );
    run(&mut c, "UPDATE b SET v = 'edited' WHERE id = 3");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM a WHERE id = 3"), "edited");
}

/// Which of two rows belongs to the one over there nobody guesses, whichever side the two are on.
#[test]
fn rows_that_match_the_same_row_go_to_review() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id serial PRIMARY KEY, email text, v text); CREATE TABLE b (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), email text, v text);
           INSERT INTO a (email, v) VALUES ('twin', 'first'), ('twin', 'second'), ('one', 'a'), ('new', 'n');
           INSERT INTO b (email, v) VALUES ('twin', 'theirs'), ('one', 'b');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "match_on": ["email"],
             "field_mappings": [{"source": "email", "target": "email"}, {"source": "v", "target": "v"}]}', '{"performance_settings": {"batch_size": 1}}');"#,
    );
    becomes(
        &db,
        &mut c,
        "SELECT string_agg(email || ' ' || v, ', ' ORDER BY email) FROM b",
        "new n, one a, twin theirs",
    );
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue WHERE state = 'review'", "2");
    assert_eq!(
        rows(&mut c, "SELECT DISTINCT message, detail FROM sync.queue"),
        [
            "the row cannot be paired with one of public.b|Another row here matches it too; which one belongs to it is not for the sync to guess."
        ]
    );
    run(&mut c, "UPDATE a SET email = 'other' WHERE v = 'second'");
    run(&mut c, "SELECT sync.retry(id) FROM sync.queue");
    becomes(
        &db,
        &mut c,
        "SELECT string_agg(email || ' ' || v, ', ' ORDER BY email) FROM b",
        "new n, one a, other second, twin first",
    );
}

#[test]
fn rows_that_differ_when_they_are_paired_are_what_the_document_says() {
    let cases = [
        ("one_way", "source", "from a", "from a"),
        ("one_way", "target", "from a", "from b"),
        ("one_way", "report", "from a", "from b"),
        ("bidirectional", "source", "from a", "from a"),
        ("bidirectional", "target", "from b", "from b"),
        ("bidirectional", "report", "from a", "from b"),
    ];
    for (kind, policy, a, b) in cases {
        let (_db, mut c) = prepared(&format!(
            r#"CREATE TABLE a (id int PRIMARY KEY, v text, w text); CREATE TABLE b (LIKE a INCLUDING ALL);
               INSERT INTO a VALUES (1, 'from a', 'same'), (2, 'only a', NULL); INSERT INTO b VALUES (1, 'from b', 'same');
               SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "{kind}", "on_difference": "{policy}"}}')"#
        ));
        synced(&mut c, "s");
        let found =
            ["a", "b"].map(|t| query_one(&mut c, &format!("SELECT v FROM {t} WHERE id = 1")));
        assert_eq!(found, [a, b], "{kind} {policy}");
        assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 2"), "only a");
        let told = rows(
            &mut c,
            "SELECT kind, field, source_value, target_value, winner FROM sync.conflicts",
        );
        let winner = if policy == "report" { "" } else { policy };
        assert_eq!(told, [format!("insert_exists|v|from a|from b|{winner}")], "{kind} {policy}");
        // Whatever became of it, the next edit travels; and a person may decide before that.
        if policy == "report" && kind == "bidirectional" {
            run(&mut c, "SELECT sync.resolve_all('s', 'target')");
            synced(&mut c, "s");
            assert_eq!(query_one(&mut c, "SELECT v FROM a WHERE id = 1"), "from b");
        }
        run(&mut c, "UPDATE a SET v = 'edited' WHERE id = 1");
        synced(&mut c, "s");
        assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "edited", "{kind} {policy}");
    }
}
