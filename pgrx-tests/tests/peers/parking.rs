//! P12: a record that cannot be applied blocks its own key and nothing else.

use pgrx_tests::{query_one, refusal, rows, run};

use super::{becomes, prepared, settle, synced};

const PATIENT: &str = r#""error_handling": {"retry_strategy": {"max_attempts": 3, "initial_delay_seconds": 0.05, "backoff_factor": 1.5}}"#;

fn one_way(more: &str) -> String {
    format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, n int); CREATE TABLE b (id int PRIMARY KEY, v text NOT NULL, n int CHECK (n > 0));
           {more} SELECT sync.create_sync('s', '{{"source": "a", "target": "b", {PATIENT}}}');"#
    )
}

#[test]
fn every_kind_of_refusal_parks_its_key_with_the_reason() {
    let (_db, mut c) = prepared(&one_way(
        "CREATE UNIQUE INDEX once ON b (v) WHERE v LIKE 'unique%';
         CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.v = 'raise' THEN RAISE EXCEPTION 'not on my watch' USING DETAIL = 'because', HINT = 'ask nicely'; END IF;
           RETURN NEW; END $$;
         CREATE TRIGGER no BEFORE INSERT OR UPDATE ON b FOR EACH ROW EXECUTE FUNCTION no();",
    ));
    run(
        &mut c,
        "INSERT INTO a VALUES (1, 'fine', 1), (2, NULL, 1), (3, 'x', -1), (4, 'raise', 1),
                              (5, 'unique', 1), (6, 'unique', 1), (7, 'fine', 7)",
    );
    assert_eq!(settle(&mut c, "s"), 4);
    assert_eq!(rows(&mut c, "SELECT id FROM b ORDER BY id"), ["1", "5", "7"]);
    assert_eq!(
        rows(&mut c, "SELECT key, sqlstate, message FROM sync.queue ORDER BY key"),
        [
            "2|23502|null value in column \"v\" of relation \"b\" violates not-null constraint",
            "3|23514|new row for relation \"b\" violates check constraint \"b_n_check\"",
            "4|P0001|not on my watch",
            "6|23505|duplicate key value violates unique constraint \"once\""
        ]
    );
    assert_eq!(
        rows(&mut c, "SELECT DISTINCT detail, hint FROM sync.errors WHERE key = '4'"),
        ["because|ask nicely"]
    );
    // Changes of other keys go on, and later ones of the parked keys are not applied out of order.
    run(&mut c, "UPDATE a SET n = 70 WHERE id = 7; UPDATE a SET n = 40 WHERE id = 4");
    settle(&mut c, "s");
    assert_eq!(rows(&mut c, "SELECT id, n FROM b ORDER BY id"), ["1|1", "5|1", "7|70"]);
    // The edit that mends it clears it.
    run(
        &mut c,
        "UPDATE a SET v = 'mended' WHERE id IN (2, 4); UPDATE a SET n = 3 WHERE id = 3; DELETE FROM a WHERE id = 6",
    );
    synced(&mut c, "s");
    assert_eq!(
        rows(&mut c, "TABLE b ORDER BY id"),
        ["1|fine|1", "2|mended|1", "3|x|3", "4|mended|40", "5|unique|1", "7|fine|70"]
    );
}

#[test]
fn attempts_are_counted_and_end_in_review() {
    let (db, mut c) = prepared(&one_way(""));
    run(&mut c, "INSERT INTO a VALUES (1, 'x', -1)");
    settle(&mut c, "s");
    becomes(&db, &mut c, "SELECT state, attempts, next_try FROM sync.queue", "review|3|");
    assert_eq!(query_one(&mut c, "SELECT count(*), max(attempt) FROM sync.errors"), "3|3");
    assert_eq!(
        query_one(&mut c, "SELECT state, detail FROM sync.status"),
        "needs review|1 records need a person, see sync.queue"
    );
    // It rests there, and a retry once the cause is gone settles it.
    run(&mut c, "ALTER TABLE b DROP CONSTRAINT b_n_check");
    run(&mut c, "SELECT sync.retry(id) FROM sync.queue");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|x|-1");
}

#[test]
fn a_retry_while_the_cause_lasts_begins_to_count_anew() {
    let (db, mut c) = prepared(&one_way(""));
    run(&mut c, "INSERT INTO a VALUES (1, 'x', -1)");
    becomes(&db, &mut c, "SELECT state FROM sync.queue", "review");
    run(&mut c, "SELECT sync.retry(id) FROM sync.queue");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.errors", "6");
    becomes(&db, &mut c, "SELECT state, attempts FROM sync.queue", "review|3");
}

#[test]
fn a_discarded_record_stays_as_it_is_until_it_is_edited_again() {
    let (_db, mut c) = prepared(&one_way(""));
    run(&mut c, "INSERT INTO a VALUES (1, 'x', -1)");
    settle(&mut c, "s");
    let refused = refusal(&mut c, "SELECT sync.discard(4711, 'why')");
    assert!(refused.starts_with("02000 no queued record has the number 4711"), "{refused}");
    run(&mut c, "SELECT sync.discard(id, 'known to be wrong') FROM sync.queue");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "0");
    assert_eq!(
        query_one(&mut c, "SELECT message FROM sync.errors LIMIT 1"),
        "discarded: known to be wrong"
    );
    run(&mut c, "UPDATE a SET n = 1");
    synced(&mut c, "s");
    assert_eq!(query_one(&mut c, "TABLE b"), "1|x|1");
}

/// C6: whoever holds the row goes first; waiting for him costs the record no attempt.
#[test]
fn a_row_that_a_user_holds_is_retried_without_counting() {
    let (db, mut c) = prepared(&one_way(""));
    run(&mut c, "INSERT INTO a VALUES (1, 'x', 1), (2, 'x', 1)");
    synced(&mut c, "s");
    let mut user = db.connect();
    run(&mut user, "BEGIN; SELECT FROM b WHERE id = 1 FOR UPDATE");
    run(&mut c, "UPDATE a SET v = 'new'");
    // The other row is not kept waiting.
    becomes(&db, &mut c, "SELECT v FROM b WHERE id = 2", "new");
    becomes(&db, &mut c, "SELECT key, state, attempts FROM sync.queue", "1|retrying|0");
    assert_eq!(query_one(&mut c, "SELECT v FROM b WHERE id = 1"), "x");
    run(&mut user, "COMMIT");
    becomes(&db, &mut c, "SELECT v FROM b WHERE id = 1", "new");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
}

/// C6: the worker finds a deadlock first and is the one that gives way.
#[test]
fn a_users_transaction_is_never_the_victim_of_a_deadlock() {
    let (db, mut c) = prepared(&one_way(""));
    run(&mut c, "INSERT INTO a SELECT i, 'x', 1 FROM generate_series(1, 20) i");
    synced(&mut c, "s");
    let mut user = db.connect();
    for round in 0..5 {
        // The worker locks in the order of the keys and waits for 20, the user then asks for 1.
        run(&mut user, "BEGIN; UPDATE b SET n = n + 1 WHERE id = 20");
        run(&mut c, &format!("UPDATE a SET v = 'round {round}'"));
        db.wait_until("the worker to wait for the row", || {
            query_one(
                &mut c,
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity s USING (pid)
                  WHERE NOT l.granted AND s.datname = current_database() AND s.backend_type LIKE 'sync_ext%'",
            ) != "0"
        });
        run(&mut user, "UPDATE b SET n = n + 1 WHERE id = 1; COMMIT");
    }
    becomes(&db, &mut c, "SELECT count(*) FROM b WHERE v = 'round 4'", "20");
    becomes(&db, &mut c, "SELECT count(*) FROM sync.queue", "0");
    assert_eq!(query_one(&mut c, "SELECT n FROM b WHERE id = 20"), "6");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.errors"), "0");
}
