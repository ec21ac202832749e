//! `sync.change_log`: every change and what became of it.

use super::{create_sync, pair, settle};
use pgrx_tests::{db, query_one, rows, run};

/// The LaunchPad text's trigger log: table, operation, payload, origin, captured when, status, synced when.
#[test]
fn a_change_is_pending_until_it_is_synced_and_shows_its_values() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "bidirectional");
    // Transactions of their own: the worker hears of the pause when it is committed.
    run(&mut client, "SELECT sync.pause('t')");
    run(
        &mut client,
        "INSERT INTO t VALUES (1, 'first', 'same'); UPDATE t SET v = 'second'; DELETE FROM t",
    );
    let look = "SELECT operation, status, key, \"table\", origin, old, new, changed, captured_at IS NULL, synced_at IS NULL
                  FROM sync.change_log ORDER BY seq";
    let payload = [
        r#"INSERT|pending|1|t|user||{"v": "first", "w": "same", "id": 1}"#,
        r#"UPDATE|pending|1|t|user|{"v": "first", "id": 1}|{"v": "second", "w": "same", "id": 1}"#,
        r#"DELETE|pending|1|t|user|{"v": "second", "w": "same", "id": 1}|"#,
    ];
    for (row, expected) in rows(&mut client, look).iter().zip(payload) {
        assert!(row.starts_with(expected), "{row}\nis not {expected}");
        assert!(row.ends_with("|f|t"), "{row}");
    }
    assert_eq!(
        query_one(&mut client, "SELECT changed FROM sync.change_log WHERE operation = 'UPDATE'"),
        r#"["v"]"#
    );
    run(&mut client, "INSERT INTO t VALUES (2, 'kept')");
    run(&mut client, "SELECT sync.resume('t')");
    settle(&mut client, "t");
    assert_eq!(
        rows(
            &mut client,
            "SELECT key, status, synced_at >= captured_at FROM sync.change_log WHERE key = '2'"
        ),
        ["2|synced|t"]
    );
    // The worker's own write is no change of anybody's.
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM sync.change_log WHERE direction = 'target to source'"
        ),
        "0"
    );
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM sync.change_log WHERE status IN ('pending', 'sending')"
        ),
        "0"
    );
}

#[test]
fn a_change_that_changes_nothing_over_there_is_unchanged_and_a_conflict_is_one() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "bidirectional");
    run(&mut client, "INSERT INTO t VALUES (1, 'base'), (2, 'base')");
    settle(&mut client, "t");
    run(
        &mut client,
        "SELECT sync.pause('t');
         UPDATE t SET v = 'both' WHERE id = 1; UPDATE peer.t SET v = 'both' WHERE id = 1;
         UPDATE t SET v = 'mine' WHERE id = 2; UPDATE peer.t SET v = 'theirs' WHERE id = 2;
         SELECT sync.resume('t')",
    );
    settle(&mut client, "t");
    let look = "SELECT key, direction, status FROM sync.change_log WHERE operation = 'UPDATE' ORDER BY key, direction";
    assert_eq!(
        rows(&mut client, look),
        [
            "1|source to target|unchanged",
            "1|target to source|unchanged",
            "2|source to target|conflict",
            "2|target to source|conflict",
        ]
    );
}

/// P12: what is put aside says so, and what its queue row says.
#[test]
fn a_refused_change_is_parked_and_names_the_state_of_its_record() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(
        &mut client,
        "ALTER TABLE peer.t ADD CHECK (v <> 'bad'); INSERT INTO t VALUES (1, 'bad'), (2, 'good')",
    );
    assert_eq!(query_one(&mut client, "SELECT settled, parked FROM sync.wait('t')"), "t|1");
    assert_eq!(
        rows(&mut client, "SELECT key, status, queue_state FROM sync.change_log ORDER BY key"),
        ["1|parked|retrying", "2|synced|"]
    );
    run(&mut client, "UPDATE t SET v = 'better' WHERE id = 1");
    settle(&mut client, "t");
    assert_eq!(
        query_one(&mut client, "SELECT queue_state FROM sync.change_log WHERE status = 'parked'"),
        "settled later"
    );
}

#[test]
fn what_waits_in_the_batch_at_hand_is_sending() {
    let db = db();
    let (mut client, mut gate) = (db.connect(), db.connect());
    run(
        &mut client,
        "CREATE SCHEMA peer; CREATE TABLE t (id int PRIMARY KEY, v text, w text); CREATE TABLE peer.t (LIKE t INCLUDING ALL);
         CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
         CREATE TRIGGER gate AFTER INSERT ON peer.t FOR EACH ROW WHEN (NEW.id = 2) EXECUTE FUNCTION gate();",
    );
    create_sync(
        &mut client,
        "t",
        "t",
        "peer.t",
        "one_way",
        r#", "performance_settings": {"batch_size": 1}"#,
    );
    run(&mut gate, "SELECT pg_advisory_lock(7)");
    // Transactions of their own: one would arrive as one.
    run(&mut client, "SELECT sync.pause('t')");
    for id in 1..=3 {
        run(&mut client, &format!("INSERT INTO t VALUES ({id})"));
    }
    run(&mut client, "SELECT sync.resume('t')");
    let look = "SELECT key, status FROM sync.change_log ORDER BY key";
    // What is written after the tick is not in this batch.
    db.wait_until("the first row is there, the second one waits", || {
        rows(&mut client, look) == ["1|synced", "2|sending", "3|sending"]
    });
    run(&mut client, "INSERT INTO t VALUES (4)");
    assert_eq!(rows(&mut client, look), ["1|synced", "2|sending", "3|sending", "4|pending"]);
    run(&mut gate, "SELECT pg_advisory_unlock(7)");
    settle(&mut client, "t");
    assert_eq!(
        query_one(&mut client, "SELECT count(*) FROM sync.change_log WHERE status = 'synced'"),
        "4"
    );
}

/// A person who looks at what is pending must not pay for all that ever was.
#[test]
fn looking_at_what_is_pending_does_not_read_history() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    for status in ["pending", "sending"] {
        let plan = rows(
            &mut client,
            &format!("EXPLAIN SELECT * FROM sync.change_log WHERE status = '{status}'"),
        )
        .join("\n");
        assert!(plan.contains("_log_v1_3") && !plan.contains("_history"), "{plan}");
    }
    let plan = rows(&mut client, "EXPLAIN SELECT * FROM sync.change_log WHERE status = 'synced'")
        .join("\n");
    assert!(plan.contains("_history") && !plan.contains("_log_v1"), "{plan}");
}
