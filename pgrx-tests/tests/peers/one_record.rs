//! `sync.pull` and `sync.push` of two tables in this database: both merge the record again.

use pgrx_tests::{query_one, refusal, run};

use super::{prepared, settle, synced};

/// Two tables with keys of two columns, and a row whose edit was given up.
fn given_up() -> (pgrx_tests::Db<'static>, cluster::postgres::Client) {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int, place text, v text, w text, PRIMARY KEY (id, place));
           CREATE TABLE b (id int, place text, v text CHECK (v <> 'bad'), w text, PRIMARY KEY (id, place));
           INSERT INTO a VALUES (1, 'Bern, old', 'one', 'w'), (2, 'x', 'two', 'w');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional",
             "error_handling": {"retry_strategy": {"max_attempts": 1}}}');"#,
    );
    synced(&mut c, "s");
    run(&mut c, "UPDATE a SET v = 'bad' WHERE id = 1");
    assert_eq!(settle(&mut c, "s"), 1);
    run(&mut c, "SELECT sync.discard(id, reason => 'not now') FROM sync.queue");
    synced(&mut c, "s");
    run(&mut c, "ALTER TABLE b DROP CONSTRAINT b_v_check");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "one");
    (db, c)
}

/// P3. By the key as `sync.trace` and `sync.queue` write it, a comma in it or not.
#[test]
fn a_record_is_merged_again_when_a_person_says_so() {
    for call in ["push", "pull"] {
        let (_db, mut c) = given_up();
        // Together with an edit that has not been settled yet.
        run(
            &mut c,
            &format!(
                "BEGIN; UPDATE b SET w = 'edited' WHERE id = 1; SELECT sync.{call}('s', '(1, Bern, old)'); COMMIT"
            ),
        );
        synced(&mut c, "s");
        for table in ["a", "b"] {
            assert_eq!(
                query_one(&mut c, &format!("SELECT v, w FROM {table} WHERE id = 1")),
                "bad|edited",
                "{call} {table}"
            );
        }
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    }
}

#[test]
fn a_key_that_no_row_has_is_refused() {
    let (_db, mut c) = given_up();
    for key in ["(3, x)", "(1, Bern)", "1", "(one, x)", "()", ""] {
        let said = refusal(&mut c, &format!("SELECT sync.push('s', '{key}')"));
        assert!(
            said.starts_with("02000 no row of public.a or public.b has this key")
                && said.contains("\nHINT"),
            "{key}: {said}"
        );
    }
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._queue"), "0");
}

/// What the type says to a key that is none is raised, and the session goes on.
#[test]
fn a_key_that_its_type_refuses_leaves_the_session_as_it_was() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id regclass PRIMARY KEY, v text); CREATE TABLE b (id regclass PRIMARY KEY, v text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b"}')"#,
    );
    let said = refusal(&mut c, "SELECT sync.push('s', 'no_such_table')");
    assert!(said.starts_with("42P01"), "{said}");
    assert_eq!(query_one(&mut c, "SELECT 1"), "1");
}

/// In a transaction that is prepared, too: the worker hears of it when it is committed.
#[test]
fn a_push_in_a_prepared_transaction_is_seen_when_it_is_committed() {
    let (_db, mut c) = given_up();
    if query_one(&mut c, "SHOW max_prepared_transactions") == "0" {
        return;
    }
    run(&mut c, "BEGIN; SELECT sync.push('s', '(1, Bern, old)'); PREPARE TRANSACTION 'one_record'");
    run(&mut c, "COMMIT PREPARED 'one_record'");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "bad");
}
