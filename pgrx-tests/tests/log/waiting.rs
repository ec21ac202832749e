//! `sync.wait`.

use super::{pair, settle};
use pgrx_tests::{db, query_one, refusal, run};
use std::time::Instant;

#[test]
fn wait_refuses_in_a_transaction_that_has_written() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "BEGIN; INSERT INTO t VALUES (1)");
    assert!(refusal(&mut client, "SELECT sync.wait('t')").starts_with("25001"));
    run(&mut client, "ROLLBACK; BEGIN");
    settle(&mut client, "t");
    run(&mut client, "COMMIT");
}

#[test]
fn wait_says_when_the_time_was_up() {
    let db = db();
    let (mut client, mut gate) = (db.connect(), db.connect());
    pair(&mut client, "one_way");
    run(
        &mut client,
        "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
         CREATE TRIGGER gate AFTER INSERT ON peer.t FOR EACH ROW EXECUTE FUNCTION gate();",
    );
    run(&mut gate, "SELECT pg_advisory_lock(7)");
    run(&mut client, "INSERT INTO t VALUES (1)");
    assert_eq!(
        query_one(
            &mut client,
            "SELECT settled, waited BETWEEN '100ms' AND '20s' FROM sync.wait('t', timeout => '100ms')"
        ),
        "f|t"
    );
    run(&mut gate, "SELECT pg_advisory_unlock(7)");
    settle(&mut client, "t");
}

#[test]
fn wait_for_a_paused_sync_is_refused_at_once() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "SELECT sync.pause('t'); INSERT INTO t VALUES (1)");
    let begun = Instant::now();
    let error = refusal(&mut client, "SELECT sync.wait('t', timeout => '60s')");
    assert!(error.starts_with("55000") && error.contains("sync.resume"), "{error}");
    assert!(begun.elapsed().as_millis() < 1500, "{:?}", begun.elapsed());
    // However little time there is, it is not passed off as slowness.
    assert!(refusal(&mut client, "SELECT sync.wait('t', timeout => '0s')").starts_with("55000"));
}

/// P12: a parked record does not keep anybody waiting, and is counted.
#[test]
fn wait_counts_what_was_parked() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(
        &mut client,
        "ALTER TABLE peer.t ADD CHECK (v <> 'bad'); INSERT INTO t VALUES (1, 'bad'), (2, 'bad'), (3, 'good')",
    );
    assert_eq!(
        query_one(&mut client, "SELECT settled, parked FROM sync.wait('t', timeout => '60s')"),
        "t|2"
    );
    assert_eq!(query_one(&mut client, "SELECT string_agg(id::text, ' ') FROM peer.t"), "3");
}
