//! The cap: a sync that does not run holds the log back only so long.

use super::{assert_equal, create_sync, differences, fill, pair, segments, settle, small_log};
use cluster::Db;
use cluster::postgres::Client;
use pgrx_tests::{query_one, refusal, rows, run};

fn database(name: &str) -> Db<'static> {
    let db = small_log().database(name).unwrap();
    run(&mut db.connect(), "CREATE EXTENSION sync_ext");
    db
}

/// A table, and a peer that has more of its own.
fn with_notes(db: &Db) -> Client {
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE SCHEMA peer;
         CREATE TABLE public.t (id int PRIMARY KEY, v text);
         CREATE TABLE peer.t (id int PRIMARY KEY, v text, note text)",
    );
    client
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

/// Until what was owed is settled.
#[track_caller]
fn settle_queue(db: &Db, client: &mut Client) {
    let nothing = "SELECT count(*) FROM sync.queue";
    db.wait_until("the queue is worked through", || query_one(client, nothing) == "0");
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

/// P2, P4: a record whose key was changed keeps what only its peer has of it.
#[test]
fn a_key_changed_while_the_log_is_let_go_of_does_not_make_another_record() {
    let db = database("renamed");
    let mut client = with_notes(&db);
    create_sync(&mut client, "t", "public.t", "peer.t", "one_way", "");
    run(&mut client, "INSERT INTO t SELECT i, 'base' FROM generate_series(0, 4) i");
    settle(&mut client, "t");
    run(&mut client, "UPDATE peer.t SET note = 'note ' || id");
    settle(&mut client, "t");
    run(&mut client, "SELECT sync.pause('t')");
    // Changed once, twice in one transaction, and twice with the log let go of in between.
    run(
        &mut client,
        "UPDATE t SET id = 11 WHERE id = 1;
         BEGIN; UPDATE t SET id = 20 WHERE id = 2; UPDATE t SET id = 21, v = 'edited' WHERE id = 20; COMMIT;
         UPDATE t SET id = 30 WHERE id = 3",
    );
    wait_for_cap(&db, &mut client);
    run(&mut client, "UPDATE t SET id = 31 WHERE id = 30");
    let queued = "SELECT count(*) FROM sync.queue WHERE key = '31'";
    db.wait_until("the log lets go of it once more", || {
        fill(&mut client);
        query_one(&mut client, queued) == "1"
    });
    run(&mut client, "SELECT sync.resume('t')");
    settle_queue(&db, &mut client);
    settle(&mut client, "t");
    assert_eq!(
        rows(&mut client, "SELECT id, v, note FROM peer.t WHERE id > 0 ORDER BY id"),
        ["4|base|note 4", "11|base|note 1", "21|edited|note 2", "31|base|note 3"]
    );
}

/// P2, P4: the name in between says nothing of its own, in whatever order the names are taken up.
#[test]
fn keys_changed_twice_at_once_while_the_log_is_let_go_of_stay_one_record_each() {
    let db = database("twice");
    let mut client = with_notes(&db);
    create_sync(
        &mut client,
        "t",
        "public.t",
        "peer.t",
        "one_way",
        r#", "performance_settings": {"batch_size": 10}"#,
    );
    run(&mut client, "INSERT INTO t SELECT i, 'base' FROM generate_series(0, 20) i");
    settle(&mut client, "t");
    run(&mut client, "UPDATE peer.t SET note = 'note ' || id; SELECT sync.pause('t')");
    run(
        &mut client,
        "BEGIN; UPDATE t SET id = id + 100 WHERE id > 0; UPDATE t SET id = id + 100 WHERE id > 0; COMMIT",
    );
    wait_for_cap(&db, &mut client);
    run(&mut client, "SELECT sync.resume('t')");
    settle_queue(&db, &mut client);
    settle(&mut client, "t");
    assert_eq!(
        rows(
            &mut client,
            "SELECT count(*), count(*) FILTER (WHERE note = 'note ' || (id - 200)) FROM peer.t WHERE id > 0"
        ),
        ["20|20"]
    );
}

/// P2, P9: a sync that stopped in the middle of a batch is also owed what a transaction with lower
/// numbers commits later.
#[test]
fn what_is_committed_late_into_the_middle_of_a_batch_is_owed_too() {
    let db = database("late");
    let (mut client, mut late, mut holder) = (db.connect(), db.connect(), db.connect());
    pair(&mut client, "one_way");
    run(
        &mut client,
        "INSERT INTO t SELECT i, 'base', 'base' FROM generate_series(0, 4999) i;
         CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN WHILE NOT pg_try_advisory_xact_lock(1) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END $$;
         CREATE TRIGGER stand AFTER UPDATE ON peer.t FOR EACH ROW WHEN (NEW.id = 2500) EXECUTE FUNCTION stand()",
    );
    settle(&mut client, "t");
    run(&mut late, "BEGIN; UPDATE t SET v = 'late' WHERE id = 0");
    run(&mut holder, "SELECT pg_advisory_lock(1)");
    run(&mut client, "UPDATE t SET v = 'edited' WHERE id BETWEEN 1 AND 4950");
    let stands = "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'sync_ext%' AND wait_event = 'PgSleep' AND datname = current_database()";
    let stopped = |client: &mut Client, expected: &str| {
        db.wait_until("the worker in the middle of it", || query_one(client, stands) == expected);
    };
    stopped(&mut client, "1");
    run(&mut client, "SELECT sync.pause('t')");
    run(&mut holder, "SELECT pg_advisory_unlock(1)");
    stopped(&mut client, "0");
    run(&mut late, "COMMIT");
    // Of another row than the late one.
    let frozen = query_one(&mut client, "SELECT frozen IS NOT NULL FROM sync._cursor");
    db.wait_until("the log is let go of", || {
        run(
            &mut client,
            "DO $$ BEGIN FOR i IN 1..100 LOOP
                 UPDATE public.t SET w = repeat(md5(i::text || clock_timestamp()::text), 200) WHERE id = 999; COMMIT;
             END LOOP; END $$",
        );
        query_one(&mut client, "SELECT count(*) FROM sync.queue WHERE key = '999'") == "1"
    });
    assert_eq!(frozen, "t", "the batch was not left in the middle");
    run(&mut client, "SELECT sync.resume('t')");
    settle_queue(&db, &mut client);
    settle(&mut client, "t");
    assert_equal(&mut client);
}

/// A sync that runs and cannot work is no different from one that is paused.
#[test]
fn a_failing_sync_holds_the_log_no_longer_than_it_may() {
    let db = database("failing");
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
    // Far from its greatest size.
    fill(&mut client);
    fill(&mut client);
    db.wait_until("the log is emptied although the sync fails", || {
        segments(&mut client).iter().sum::<u64>() < 1 << 20
    });
    run(&mut client, "ALTER TABLE peer.t ADD PRIMARY KEY (id)");
    db.wait_until("the tables are equal again", || {
        differences(&mut client, "public.t", "peer.t").is_empty()
    });
    settle(&mut client, "t");
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

/// What a batch would ask about is asked about too where the log could not be kept: rows that leave a filter with the other
/// side's, and values that are gone, of either side. What else was changed keeps its key, its time and its place.
#[test]
fn what_a_person_is_asked_about_is_asked_about_after_the_log_was_emptied() {
    for (number, (change, says, confirmed)) in [
        ("UPDATE t SET v = 'out' WHERE id > 250", "of public.t are outside the filter", "251|251"),
        (
            "UPDATE t SET w = NULL WHERE id > 250",
            "of public.t lost the value of a field",
            "401|251",
        ),
        (
            "UPDATE peer.t SET w = NULL WHERE id > 250",
            "of peer.t lost the value of a field",
            "401|251",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        for answer in ["confirm", "discard"] {
            let db = database(&format!("asked_{number}_{answer}"));
            let mut client = db.connect();
            pair(&mut client, "bidirectional");
            run(
                &mut client,
                "ALTER TABLE peer.t ADD own text; INSERT INTO t SELECT i, 'base', 'base' FROM generate_series(0, 400) i",
            );
            run(
                &mut client,
                r#"SELECT sync.alter_sync('t', '{"where": "v <> ''out''", "on_filter_exit": "delete", "exclude_fields": ["own"]}')"#,
            );
            settle(&mut client, "t");
            let (source, target) =
                ("SELECT count(*), count(w) FROM t", "SELECT count(*), count(w) FROM peer.t");
            let (from, to) =
                if change.contains("peer") { (target, source) } else { (source, target) };
            assert_eq!(query_one(&mut client, to), "401|401");
            run(&mut client, "UPDATE peer.t SET own = 'kept' WHERE id = 1");
            run(&mut client, &format!("SELECT sync.pause('t'); {change}"));
            run(
                &mut client,
                "UPDATE t SET v = 'source' WHERE id = 2; UPDATE t SET id = 1001 WHERE id = 1",
            );
            run(&mut client, "UPDATE peer.t SET v = 'target' WHERE id = 2");
            wait_for_cap(&db, &mut client);
            run(&mut client, "SELECT sync.resume('t')");
            db.wait_until("a decision is asked for", || {
                query_one(&mut client, "SELECT state FROM sync.status") == "needs decision"
            });
            let detail = query_one(&mut client, "SELECT detail FROM sync.status");
            assert!(detail.contains(says), "{detail}");
            assert_eq!(query_one(&mut client, to), "401|401", "{detail}");
            if !change.contains("peer") {
                let refused = refusal(&mut client, "SELECT sync.cancel_load('t')");
                assert!(refused.starts_with("55000"), "{refused}");
            }
            let before = query_one(&mut client, from);
            run(&mut client, &format!("SELECT sync.resume('t', {answer} => true)"));
            settle(&mut client, "t");
            settle(&mut client, "t");
            let after = if answer == "confirm" { confirmed } else { "401|401" };
            assert_eq!(query_one(&mut client, to), after, "{change} {answer}");
            assert_eq!(query_one(&mut client, from), before, "{change} {answer}");
            assert_eq!(
                rows(
                    &mut client,
                    "SELECT v FROM t WHERE id = 2 UNION ALL SELECT v FROM peer.t WHERE id = 2"
                ),
                ["target"; 2]
            );
            assert_eq!(
                rows(&mut client, "SELECT id, own FROM peer.t WHERE id IN (1, 1001)"),
                ["1001|kept"]
            );
            assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.queue"), "0");
        }
    }
}
