//! The cap: a sync that does not run holds the log back only so long.

use super::{assert_equal, differences, fill, pair, segments, settle, small_log};
use cluster::Db;
use cluster::postgres::Client;
use pgrx_tests::{query_one, rows, run};

fn database(name: &str) -> Db<'static> {
    let db = small_log().database(name).unwrap();
    run(&mut db.connect(), "CREATE EXTENSION sync_ext");
    db
}

/// Until the log has let go of what a paused sync is owed.
#[track_caller]
fn wait_for_cap(db: &Db, client: &mut Client) {
    fill(client);
    db.wait_until("the log is emptied although the sync is paused", || {
        segments(client).iter().sum::<u64>() < 1 << 20
            && query_one(client, "SELECT (SELECT count(*) FROM sync.queue) + (SELECT count(*) FROM sync.progress) > 0") == "t"
    });
}

/// P2, P3, P4: one row a key, and nothing is lost by it: deletes, key changes, edits of different fields, conflicts.
#[test]
fn what_a_paused_sync_is_owed_becomes_one_queue_row_a_key_and_loses_nothing() {
    let db = database("paused");
    let mut client = db.connect();
    pair(&mut client, "bidirectional");
    run(&mut client, "INSERT INTO t SELECT i, 'base', 'base' FROM generate_series(0, 5) i");
    settle(&mut client, "t");
    run(&mut client, "SELECT sync.pause('t')");
    for n in 1..=3 {
        run(&mut client, &format!("UPDATE t SET v = 'edit {n}' WHERE id = 1"));
    }
    run(
        &mut client,
        "DELETE FROM t WHERE id = 2;
         UPDATE t SET id = 30 WHERE id = 3;
         INSERT INTO t VALUES (6, 'new', 'new');
         UPDATE t SET v = 'source' WHERE id = 4; UPDATE peer.t SET w = 'target' WHERE id = 4;
         UPDATE t SET v = 'source' WHERE id = 5; UPDATE peer.t SET v = 'target' WHERE id = 5",
    );
    wait_for_cap(&db, &mut client);
    assert_eq!(
        rows(
            &mut client,
            "SELECT direction, key FROM sync.queue WHERE state = 'pending' ORDER BY 1, key::int"
        ),
        [
            "source to target|0",
            "source to target|1",
            "source to target|2",
            "source to target|3",
            "source to target|4",
            "source to target|5",
            "source to target|6",
            "source to target|30",
            "target to source|4",
            "target to source|5",
        ]
    );
    assert_eq!(query_one(&mut client, "SELECT v FROM peer.t WHERE id = 1"), "base");
    run(&mut client, "SELECT sync.resume('t')");
    settle(&mut client, "t");
    assert_equal(&mut client);
    assert_eq!(
        rows(&mut client, "SELECT id, v, w FROM t WHERE id > 0 ORDER BY id"),
        ["1|edit 3|base", "4|source|target", "5|target|base", "6|new|new", "30|base|base"]
    );
    assert_eq!(
        rows(
            &mut client,
            "SELECT key, field, base, source_value, target_value, winner FROM sync.conflicts"
        ),
        ["5|v|base|source|target|target"]
    );
}

/// The guard is asked about deletes that went through the queue as about any others.
#[test]
fn many_deletes_of_a_paused_sync_still_need_a_decision() {
    let db = database("deletes");
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "INSERT INTO t SELECT i, 'base' FROM generate_series(0, 400) i");
    settle(&mut client, "t");
    run(&mut client, "SELECT sync.pause('t'); DELETE FROM t WHERE id > 0");
    wait_for_cap(&db, &mut client);
    run(&mut client, "SELECT sync.resume('t')");
    db.wait_until("a decision is asked for", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "needs decision"
    });
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM peer.t"), "401");
    run(&mut client, "SELECT sync.resume('t', confirm => true)");
    settle(&mut client, "t");
    assert_equal(&mut client);
}

/// A sync that can't even be compiled must not hold the log for ever; what it is owed is found by comparing.
#[test]
fn a_sync_that_cannot_work_holds_the_log_no_longer_than_its_size() {
    let db = database("broken");
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "INSERT INTO t VALUES (1, 'first'), (2, 'first')");
    settle(&mut client, "t");
    run(
        &mut client,
        "ALTER TABLE peer.t DROP CONSTRAINT t_pkey; UPDATE t SET v = 'edited' WHERE id = 1; DELETE FROM t WHERE id = 2",
    );
    db.wait_until("the sync fails", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "failing"
    });
    db.wait_until("the log is emptied although the sync fails", || {
        let full = segments(&mut client).iter().sum::<u64>() > 12 << 20;
        if !full {
            fill(&mut client);
        }
        query_one(&mut client, "SELECT count(*) > 0 FROM sync.progress") == "t"
    });
    db.wait_until("the log is small again", || segments(&mut client).iter().sum::<u64>() < 9 << 20);
    run(&mut client, "ALTER TABLE peer.t ADD PRIMARY KEY (id)");
    db.wait_until("the tables are equal again", || {
        differences(&mut client, "public.t", "peer.t").is_empty()
    });
    settle(&mut client, "t");
}
