//! Making a sync beside writers: nobody waits for long (C5), and nothing that is in flight is lost (A6, P10).

use std::time::{Duration, Instant};

use super::{equal, one_way, peer, settle, table};
use pgrx_tests::{db, query_one, refusal, rows, run};

const COLUMNS: &str = "id int PRIMARY KEY, v text, n int";
const CREATE: &str = r#"SELECT sync.create_sync('s', '{"source": {"table": "public.a"}, "target": {"table": "public.b"}, "sync_type": "bidirectional"}')"#;

/// C5
#[test]
fn behind_a_long_transaction_it_fails_within_seconds_and_names_it() {
    let db = db();
    let (mut client, mut holder, mut writer) = (db.connect(), db.connect(), db.connect());
    run(
        &mut client,
        &format!(
            "CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS}); INSERT INTO b VALUES (1, 'x', 1)"
        ),
    );
    // The second of the two tables: while we wait for it, writers of the first must not wait for us.
    run(&mut holder, "BEGIN; UPDATE b SET n = 2");
    let pid = query_one(&mut holder, "SELECT pg_backend_pid()");
    let writing = std::thread::spawn(move || {
        let mut longest = Duration::ZERO;
        let begun = Instant::now();
        let mut id = 0;
        while begun.elapsed() < Duration::from_secs(7) {
            id += 1;
            let one = Instant::now();
            run(&mut writer, &format!("INSERT INTO a VALUES ({id}, 'w', 0)"));
            longest = longest.max(one.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        longest
    });
    let begun = Instant::now();
    let text = refusal(&mut client, CREATE);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(
        text.starts_with("55P03")
            && text.contains(&format!("process {pid}"))
            && text.contains("HINT"),
        "{text}"
    );
    let longest = writing.join().unwrap();
    assert!(longest < Duration::from_millis(2500), "a writer waited {longest:?}");
    let left = "SELECT (SELECT count(*) FROM sync._sync) + (SELECT count(*) FROM sync._capture) + (SELECT count(*) FROM sync._cursor) + (SELECT count(*) FROM sync._load)
                     + (SELECT count(*) FROM pg_trigger WHERE tgname ~ '!sync') + (SELECT count(*) FROM pg_class WHERE relname ~ '^_link_')";
    assert_eq!(query_one(&mut client, left), "0");
    run(&mut holder, "COMMIT");
    run(&mut client, CREATE);
    equal(&mut client, "s", "a", "b");
}

/// C5: the waits for several tables and partitions together are no longer than that for one.
#[test]
fn behind_several_holders_no_writer_waits_longer_than_behind_one() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    let (mut first, mut second) = (db.connect(), db.connect());
    run(
        &mut client,
        &format!(
            "CREATE TABLE a ({COLUMNS}) PARTITION BY RANGE (id);
             CREATE TABLE a_0 PARTITION OF a FOR VALUES FROM (0) TO (1000000);
             CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (1000000) TO (1000001);
             CREATE TABLE a_2 PARTITION OF a FOR VALUES FROM (1000001) TO (1000002);
             CREATE TABLE b ({COLUMNS})"
        ),
    );
    run(&mut first, "BEGIN; INSERT INTO a_1 VALUES (1000000, 'x', 1)");
    run(&mut second, "BEGIN; INSERT INTO a_2 VALUES (1000001, 'x', 1)");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = std::sync::Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        let (mut longest, mut id) = (Duration::ZERO, 0);
        while !asked.load(std::sync::atomic::Ordering::Relaxed) {
            id += 1;
            let one = Instant::now();
            run(&mut writer, &format!("INSERT INTO a_0 VALUES ({id}, 'w', 0)"));
            longest = longest.max(one.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
        longest
    });
    // The one is let go of just before the wait for it would be over; the wait for the other begins.
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(1500));
        run(&mut first, "COMMIT");
    });
    let text = refusal(&mut client, CREATE);
    assert!(text.starts_with("55P03"), "{text}");
    letting_go.join().unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let longest = writing.join().unwrap();
    assert!(longest < Duration::from_millis(2500), "a writer waited {longest:?}");
    run(&mut second, "COMMIT");
    run(&mut client, CREATE);
    equal(&mut client, "s", "a", "b");
}

/// C5: what could not be removed beside a writer goes when the table is quiet.
#[test]
fn the_triggers_of_a_dropped_sync_go_once_its_tables_are_quiet() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(
        &mut client,
        &format!(
            "CREATE TABLE a ({COLUMNS}) PARTITION BY RANGE (id); CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (9);
             CREATE TABLE b ({COLUMNS}); CREATE TABLE c ({COLUMNS}); CREATE TABLE d ({COLUMNS})"
        ),
    );
    one_way(&mut client, "s", "public.a", "public.b");
    one_way(&mut client, "t", "public.c", "public.d");
    settle(&mut client, "s");
    run(&mut writer, "BEGIN; INSERT INTO a_1 VALUES (1, 'x', 1)");
    run(&mut client, "SELECT sync.drop_sync('s')");
    let left = "SELECT count(*) FROM pg_trigger WHERE tgname ~ '!sync' AND tgrelid IN ('a'::regclass, 'a_1'::regclass)";
    assert_ne!(query_one(&mut client, left), "0");
    run(&mut writer, "COMMIT");
    db.wait_until("the triggers are gone", || query_one(&mut client, left) == "0");
    // Those of other syncs are left alone.
    run(&mut client, "INSERT INTO c VALUES (1, 'x', 1)");
    equal(&mut client, "t", "c", "d");
}

/// C5: ending a sync takes no lock that anybody waits for.
#[test]
fn a_sync_is_dropped_beside_a_writer() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(
        &mut client,
        &format!(
            "CREATE TABLE a ({COLUMNS}) PARTITION BY RANGE (id); CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (9); CREATE TABLE b ({COLUMNS})"
        ),
    );
    one_way(&mut client, "s", "public.a", "public.b");
    settle(&mut client, "s");
    run(&mut writer, "BEGIN; INSERT INTO a_1 VALUES (1, 'x', 1)");
    let begun = Instant::now();
    run(&mut client, "SELECT sync.drop_sync('s')");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    run(&mut writer, "UPDATE a SET n = 2; COMMIT");
    assert!(rows(&mut client, "SELECT * FROM sync._capture").is_empty());
    // With nobody in the way the triggers go too.
    one_way(&mut client, "s", "public.a", "public.b");
    settle(&mut client, "s");
    run(&mut client, "SELECT sync.drop_sync('s')");
    assert_eq!(
        query_one(&mut client, "SELECT count(*) FROM pg_trigger WHERE tgname ~ '!sync'"),
        "0"
    );
}

/// A6: a transaction that runs while a second sync asks for more columns.
#[test]
fn a_second_sync_loses_nothing_of_a_transaction_in_flight() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(
        &mut client,
        &format!(
            "CREATE TABLE a ({COLUMNS}); CREATE TABLE b (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, n int)"
        ),
    );
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1), (2, 'y', 2)");
    one_way(&mut client, "s", "public.a", "public.b");
    settle(&mut client, "s");
    run(&mut writer, "BEGIN; UPDATE a SET n = 10 WHERE id = 1");
    one_way(&mut client, "t", "public.a", "public.c");
    db.wait_until("the load waits for the writer", || {
        query_one(&mut client, "SELECT state FROM sync.status WHERE sync = 't'")
            == "waiting for writers"
    });
    assert!(table(&mut client, "c").is_empty());
    run(&mut writer, "UPDATE a SET n = 20 WHERE id = 2; COMMIT");
    settle(&mut client, "t");
    assert_eq!(table(&mut client, "c"), ["(1,10)", "(2,20)"]);
}

/// A6: the same where it is the target that is written to.
#[test]
fn a_second_sync_loses_nothing_that_its_target_has_in_flight() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(
        &mut client,
        &format!(
            "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b ({COLUMNS}); CREATE TABLE c (id int PRIMARY KEY, n int)"
        ),
    );
    run(&mut client, "INSERT INTO b VALUES (1, 'x', 1)");
    peer(&mut client, "s", "public.b", "public.a", r#"{"sync_type": "bidirectional"}"#);
    settle(&mut client, "s");
    run(&mut client, "INSERT INTO c VALUES (1, 1)");
    run(&mut writer, "BEGIN; UPDATE b SET n = 10");
    peer(&mut client, "t", "public.c", "public.b", r#"{"sync_type": "bidirectional"}"#);
    db.wait_until("the load waits for the writer", || {
        query_one(&mut client, "SELECT state FROM sync.status WHERE sync = 't'")
            == "waiting for writers"
    });
    run(&mut writer, "COMMIT");
    settle(&mut client, "t");
    assert_eq!(query_one(&mut client, "SELECT b.n = c.n FROM b JOIN c USING (id)"), "t");
}

/// A6: a mapping that grows.
#[test]
fn a_wider_mapping_loses_nothing_of_a_transaction_in_flight() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS})"));
    run(&mut client, "INSERT INTO a VALUES (1, 'x', 1), (2, 'y', 2)");
    let narrow =
        r#"{"field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v"}]}"#;
    peer(&mut client, "s", "public.a", "public.b", narrow);
    settle(&mut client, "s");
    run(&mut writer, "BEGIN; UPDATE a SET n = 10 WHERE id = 1");
    run(
        &mut client,
        r#"SELECT sync.alter_sync('s', '{"field_mappings": [{"source": "id", "target": "id"}, {"source": "v", "target": "v"}, {"source": "n", "target": "n"}]}')"#,
    );
    run(&mut writer, "UPDATE a SET n = 20 WHERE id = 2; COMMIT");
    assert_eq!(equal(&mut client, "s", "a", "b"), ["(1,x,10)", "(2,y,20)"]);
}

/// A6: a table that is captured for the first time.
#[test]
fn rows_written_while_a_sync_is_made_arrive() {
    let db = db();
    let (mut client, mut writer) = (db.connect(), db.connect());
    run(&mut client, &format!("CREATE TABLE a ({COLUMNS}); CREATE TABLE b ({COLUMNS})"));
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = std::sync::Arc::clone(&stop);
    let writing = std::thread::spawn(move || {
        let mut id = 0;
        while !asked.load(std::sync::atomic::Ordering::Relaxed) {
            id += 1;
            run(
                &mut writer,
                &format!(
                    "INSERT INTO a VALUES ({id}, 'w', 0); UPDATE a SET n = n + 1 WHERE id > {id} - 3; DELETE FROM a WHERE id = {id} - 10"
                ),
            );
        }
    });
    one_way(&mut client, "s", "public.a", "public.b");
    settle(&mut client, "s");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.join().unwrap();
    equal(&mut client, "s", "a", "b");
}
