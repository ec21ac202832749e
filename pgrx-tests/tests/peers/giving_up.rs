//! What happens after the last attempt, how long is waited before each, and what a person does about many at once.

use std::time::Duration;

use pgrx_tests::{query_one, refusal, rows, run};

use super::{becomes, prepared, settle, synced};

fn create(errors: &str) -> String {
    format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, n int); CREATE TABLE b (id int PRIMARY KEY, v text NOT NULL, n int CHECK (n > 0));
           SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional", "error_handling": {errors}}}');"#
    )
}

#[test]
fn a_record_can_be_skipped_until_it_is_changed_again() {
    let (db, mut c) = prepared(&create(
        r#"{"retry_strategy": {"max_attempts": 2, "initial_delay_seconds": 0.05}, "fallback": {"action": "skip"}}"#,
    ));
    run(&mut c, "INSERT INTO a VALUES (1, NULL, 1), (2, 'two', 2)");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.errors WHERE message ~ '^skipped'", "1");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id FROM b"), ["2"]);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT key, attempt, sqlstate, message, detail FROM sync.errors LIMIT 1"
        ),
        "1|2|23502|skipped after the last attempt|null value in column \"v\" of relation \"b\" violates not-null constraint"
    );
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
    let given_up =
        "SELECT key, queue_state FROM sync.change_log WHERE status = 'parked' ORDER BY seq";
    assert_eq!(rows(&mut c, given_up), ["1|skipped"]);
    assert_eq!(
        rows(&mut c, "SELECT outcome FROM sync.errors WHERE outcome IS NOT NULL"),
        ["skipped"]
    );
    run(&mut c, "UPDATE a SET v = 'one' WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, v FROM b ORDER BY id"), ["1|one", "2|two"]);
    // What is given up was that change, none that is made good before or after.
    run(&mut c, "UPDATE a SET n = -1 WHERE id = 1");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.errors WHERE outcome = 'skipped'", "2");
    run(&mut c, "ALTER TABLE b DROP CONSTRAINT b_n_check; UPDATE a SET n = -2 WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, given_up), ["1|skipped", "1|skipped"]);
    run(&mut c, "ALTER TABLE b ADD CHECK (n < 9)");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"error_handling": {"fallback": {"action": "queue_for_manual_review"}}}')"#,
    );
    run(&mut c, "UPDATE a SET n = 9 WHERE id = 1");
    becomes(&db, &mut c, "SELECT state FROM sync.queue", "review");
    run(&mut c, "UPDATE a SET n = 8 WHERE id = 1");
    synced(&mut c, "s");
    assert_eq!(rows(&mut c, given_up), ["1|skipped", "1|skipped", "1|settled later"]);
}

#[test]
fn a_sync_can_wait_with_its_record() {
    let (db, mut c) = prepared(&create(
        r#"{"retry_strategy": {"max_attempts": 1}, "fallback": {"action": "pause_sync"}}"#,
    ));
    synced(&mut c, "s");
    run(&mut c, "INSERT INTO a VALUES (1, NULL, 1)");
    becomes(&db, &mut c, "SELECT state FROM sync.status", "paused");
    let why = query_one(&mut c, "SELECT detail FROM sync.status");
    assert!(
        why.starts_with("the record 1 needs a person: null value") && why.contains("sync.resume"),
        "{why}"
    );
    run(&mut c, "INSERT INTO a VALUES (2, 'two', 2)");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "0");
    assert_eq!(query_one(&mut c, "SELECT key, state FROM sync.queue"), "1|review");
    run(&mut c, "SELECT sync.resume('s')");
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "SELECT id FROM b"), ["2"]);
    run(&mut c, "UPDATE a SET v = 'one' WHERE id = 1");
    synced(&mut c, "s");
}

#[test]
fn delays_grow_to_a_ceiling_and_a_part_of_them_is_chance() {
    let (db, mut c) = prepared(&create(
        r#"{"retry_strategy": {"max_attempts": 100, "initial_delay_seconds": 0.1, "backoff_factor": 100, "max_delay_seconds": 0.2, "jitter": 1}}"#,
    ));
    // Without the ceiling the third attempt would come after a thousand seconds.
    run(&mut c, "INSERT INTO a SELECT i, NULL, 1 FROM generate_series(1, 20) i");
    becomes(&db, &mut c, "SELECT min(attempts) >= 5 FROM sync.queue", "t");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('s', '{"error_handling": {"retry_strategy": {"initial_delay_seconds": 1000, "max_delay_seconds": 1000}}}')"#,
    );
    becomes(
        &db,
        &mut c,
        "SELECT min(next_try) > now() FROM sync.queue WHERE next_try - now() > interval '3 seconds'",
        "t",
    );
    becomes(&db, &mut c, "SELECT count(DISTINCT next_try - at) > 10 FROM sync.queue", "t");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT max(next_try) - now() <= interval '1000 seconds' FROM sync.queue"
        ),
        "t"
    );
}

#[test]
fn a_record_is_retried_with_other_values_and_takes_later_edits_along() {
    let (_db, mut c) = prepared(&create(r#"{"retry_strategy": {"max_attempts": 1}}"#));
    run(&mut c, "INSERT INTO a VALUES (1, NULL, 1), (2, NULL, 2)");
    assert_eq!(settle(&mut c, "s"), 2);
    run(&mut c, "UPDATE a SET n = 20 WHERE id = 2");
    let id = |c: &mut _, key: u32| {
        query_one(c, &format!("SELECT id FROM sync.queue WHERE key = '{key}'"))
    };
    let (one, two) = (id(&mut c, 1), id(&mut c, 2));
    run(&mut c, &format!(r#"SELECT sync.retry({two}, set => '{{"v": "two"}}')"#));
    assert_eq!(settle(&mut c, "s"), 1);
    assert_eq!(rows(&mut c, "TABLE b"), ["2|two|20"]);
    assert_eq!(query_one(&mut c, "SELECT v FROM a WHERE id = 2"), "two");
    for (set, state, says) in [
        (r#"{"w": 1}"#, "42703", "id, v, n"),
        (r#"{"n": "x"}"#, "22P02", "x"),
        (r#"[1]"#, "22023", "object"),
        (r#"{}"#, "22023", "no value"),
    ] {
        let text = refusal(&mut c, &format!("SELECT sync.retry({one}, set => '{set}')"));
        assert!(text.starts_with(state) && text.contains(says), "{text}");
    }
    assert_eq!(query_one(&mut c, "SELECT state FROM sync.queue"), "review");
    assert!(refusal(&mut c, "SELECT sync.retry(999999)").starts_with("02000"));
}

#[test]
fn a_retried_row_is_set_by_names_of_fields_or_of_its_columns() {
    let (_db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, mail text, first text, last text);
           CREATE TABLE b (id int PRIMARY KEY, address text CHECK (address <> ''), name text, initial text);
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "mail", "target": "address"},
             {"source": "last", "target": "name"},
             {"source": "last", "target": "initial", "transformation": "left(last, 1)"}],
             "error_handling": {"retry_strategy": {"max_attempts": 1}}}');
           INSERT INTO a VALUES (1, '', 'Ada', 'King')"#,
    );
    assert_eq!(settle(&mut c, "s"), 1);
    let id = query_one(&mut c, "SELECT id FROM sync.queue");
    let set = |values: &str| format!("SELECT sync.retry({id}, set => '{values}')");
    // A column that no field comes of, and one that two come of.
    for column in ["first", "last"] {
        let text = refusal(&mut c, &set(&format!(r#"{{"{column}": "x"}}"#)));
        assert!(text.starts_with("42703") && text.contains("its column in this table"), "{text}");
    }
    run(&mut c, &set(r#"{"mail": "ada", "name": "Lovelace"}"#));
    assert_eq!(settle(&mut c, "s"), 0);
    assert_eq!(rows(&mut c, "TABLE a"), ["1|ada|Ada|Lovelace"]);
    assert_eq!(rows(&mut c, "TABLE b"), ["1|ada|Lovelace|L"]);
}

#[test]
fn many_records_are_retried_or_given_up_at_once() {
    let (_db, mut c) = prepared(&create(r#"{"retry_strategy": {"max_attempts": 1}}"#));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, NULL, 1), (2, NULL, 2), (3, 'x', -1), (4, 'x', -2), (5, 'x', 5)",
    );
    assert_eq!(settle(&mut c, "s"), 4);
    assert_eq!(query_one(&mut c, "SELECT sync.retry_all(name => 's', sqlstate => '23502')"), "2");
    assert_eq!(settle(&mut c, "s"), 4);
    assert_eq!(
        query_one(&mut c, "SELECT sync.retry_all(message => '%b_n_check%', state => 'review')"),
        "2"
    );
    assert_eq!(settle(&mut c, "s"), 4);
    assert_eq!(
        query_one(&mut c, "SELECT sync.discard_all('never mind', 's', message => '%b_n_check%')"),
        "2"
    );
    assert_eq!(rows(&mut c, "SELECT key FROM sync.queue ORDER BY key"), ["1", "2"]);
    assert_eq!(
        rows(
            &mut c,
            "SELECT key, message FROM sync.errors WHERE message ~ 'discarded' ORDER BY key"
        ),
        ["3|discarded: never mind", "4|discarded: never mind"]
    );
    assert_eq!(
        rows(
            &mut c,
            "SELECT DISTINCT key, queue_state FROM sync.change_log WHERE status = 'parked' ORDER BY key"
        ),
        ["1|review", "2|review", "3|discarded", "4|discarded"]
    );
    run(&mut c, "UPDATE a SET n = 3 WHERE id = 3");
    assert_eq!(settle(&mut c, "s"), 2);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["3", "5"]);
    run(&mut c, "ALTER TABLE b ALTER v DROP NOT NULL");
    assert_eq!(query_one(&mut c, "SELECT sync.retry_all()"), "2");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "4");
    assert_eq!(query_one(&mut c, "SELECT sync.retry_all('s')"), "0");
    for (call, state, says) in [
        ("sync.retry_all('nowhere')", "42704", "nowhere"),
        ("sync.retry_all(state => 'lost')", "22023", "review"),
        ("sync.discard_all(NULL)", "22004", "reason"),
    ] {
        let text = refusal(&mut c, &format!("SELECT {call}"));
        assert!(text.starts_with(state) && text.contains(says), "{text}");
    }
}
