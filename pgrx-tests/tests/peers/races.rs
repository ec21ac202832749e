//! Edits that come between the decision and the write: none is lost (P1, P2).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pgrx_tests::{query_one, rows, run};

use super::{prepared, rest};

const KEYS: u64 = 8;

/// Several sessions on each side write numbered values into the same few rows. Every write is noted
/// in the same transaction. At the end both sides are equal, and of each side's last value of a row
/// it is known where it went: it is there, or it lost a conflict.
#[test]
fn every_last_value_survives_or_is_a_conflicts_loser() {
    let (db, mut c) = prepared(&format!(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, w text); CREATE TABLE b (id int PRIMARY KEY, v text, w text);
           CREATE TABLE written (n serial, side text, id int, v text);
           INSERT INTO a SELECT i, 'start', 'start' FROM generate_series(1, {KEYS}) i;
           SELECT sync.create_sync('s', '{{"source": "a", "target": "b", "sync_type": "bidirectional"}}');"#
    ));
    rest(&mut c, &["s"]);
    let stop = AtomicBool::new(false);
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for (side, column) in [("a", "v"), ("a", "w"), ("b", "v"), ("b", "v")] {
            let (db, stop, next) = (&db, &stop, &next);
            scope.spawn(move || {
                let mut session = db.connect();
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let (id, value) = (n * 7 % KEYS + 1, format!("{side}{n}"));
                    run(
                        &mut session,
                        &format!(
                            "BEGIN; UPDATE {side} SET {column} = '{value}' WHERE id = {id};
                             INSERT INTO written (side, id, v) VALUES ('{side}.{column}', {id}, '{value}'); COMMIT"
                        ),
                    );
                    // Hammering without a breath would leave the worker no processor at all.
                    std::thread::sleep(Duration::from_micros(500));
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
    });
    rest(&mut c, &["s"]);
    let differing = rows(
        &mut c,
        "SELECT a.*, b.* FROM a FULL JOIN b USING (id) WHERE (a.v, a.w) IS DISTINCT FROM (b.v, b.w)",
    );
    assert_eq!(differing, Vec::<String>::new());
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    // The last value a side wrote into a row, in the order of its row locks. What was overwritten
    // by the same side later, or after it had been synced by the other, is an ordinary edit.
    let lost = rows(
        &mut c,
        "WITH last AS (SELECT DISTINCT ON (side, id) side, id, v, n FROM written ORDER BY side, id, n DESC)
         SELECT l.side, l.id, l.v, a.v, a.w FROM last l JOIN a USING (id)
          WHERE l.v NOT IN (a.v, a.w)
            AND NOT EXISTS (SELECT FROM sync.conflicts k WHERE k.key = l.id::text AND l.v IN (k.source_value, k.target_value))
            AND NOT EXISTS (SELECT FROM last o WHERE o.id = l.id AND o.side <> l.side AND o.n > l.n
                              AND right(o.side, 1) = right(l.side, 1))",
    );
    assert_eq!(lost, Vec::<String>::new());
    // The field that only one side writes has that side's last value.
    let stale = rows(
        &mut c,
        "SELECT id, v, w FROM a WHERE w <> COALESCE((SELECT x.v FROM written x WHERE x.id = a.id AND x.side = 'a.w' ORDER BY n DESC LIMIT 1), w)",
    );
    assert_eq!(stale, Vec::<String>::new());
}

/// The worker waits for a row that the user holds and is about to change: his value is what it finds.
#[test]
fn an_edit_committed_while_the_worker_waits_for_the_row_is_not_overwritten() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text, w text); CREATE TABLE b (id int PRIMARY KEY, v text, w text);
           INSERT INTO a VALUES (1, 'start', 'start');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    rest(&mut c, &["s"]);
    let mut user = db.connect();
    for (round, columns) in
        [(1, "v = 'user 1'"), (2, "w = 'user 2'"), (3, "v = 'user 3', w = 'user 3'")]
    {
        run(&mut user, &format!("BEGIN; UPDATE b SET {columns} WHERE id = 1"));
        run(&mut c, &format!("UPDATE a SET v = 'worker {round}' WHERE id = 1"));
        db.wait_until("the worker to wait for the row", || {
            query_one(
                &mut c,
                "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity s USING (pid)
                  WHERE NOT l.granted AND s.datname = current_database() AND s.backend_type LIKE 'sync_ext%'",
            ) != "0"
        });
        run(&mut user, "COMMIT");
        rest(&mut c, &["s"]);
        assert_eq!(query_one(&mut c, "TABLE a"), query_one(&mut c, "TABLE b"));
    }
    // Captured before the worker's side, the user's v lost in rounds 1 and 3; his w never met another.
    assert_eq!(query_one(&mut c, "TABLE a"), "1|worker 3|user 3");
    assert_eq!(
        rows(
            &mut c,
            "SELECT field, source_value, target_value, winner FROM sync.conflicts ORDER BY id"
        ),
        ["v|worker 1|user 1|source", "v|worker 3|user 3|source"]
    );
}

/// The same for deletes: a row edited meanwhile is not deleted unseen.
#[test]
fn a_row_edited_while_its_delete_waits_is_a_conflict() {
    let (db, mut c) = prepared(
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           INSERT INTO a VALUES (1, 'start');
           SELECT sync.create_sync('s', '{"source": "a", "target": "b", "sync_type": "bidirectional"}');"#,
    );
    rest(&mut c, &["s"]);
    let mut user = db.connect();
    run(&mut user, "BEGIN; SELECT FROM b FOR UPDATE");
    run(&mut c, "DELETE FROM a");
    db.wait_until("the worker to wait for the row", || {
        query_one(
            &mut c,
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity s USING (pid)
              WHERE NOT l.granted AND s.datname = current_database() AND s.backend_type LIKE 'sync_ext%'",
        ) != "0"
    });
    run(&mut user, "UPDATE b SET v = 'later'; COMMIT");
    rest(&mut c, &["s"]);
    assert_eq!(rows(&mut c, "TABLE a"), ["1|later"]);
    assert_eq!(rows(&mut c, "TABLE b"), ["1|later"]);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT kind, field, base, source_value, target_value, winner FROM sync.conflicts"
        ),
        "update_deleted|v|start||later|target"
    );
}
