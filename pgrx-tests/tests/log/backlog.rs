//! Large backlogs and batches.

use super::{assert_equal, pair, settle, small_log};
use cluster::{Db, processes};
use pgrx_tests::{query_one, run};
use std::time::{Duration, Instant};

/// kB of the worker's own memory.
fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}

fn worker(db: &Db) -> Option<i32> {
    let sql = format!(
        "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = '{}'",
        db.name()
    );
    let pid = query_one(&mut db.connect(), &sql).parse().ok()?;
    (pid != 0).then_some(pid)
}

/// A14: draining is linear, and the worker's memory has nothing to do with the length of the backlog.
#[test]
fn a_long_backlog_is_drained_in_bounded_memory_and_time() {
    let db = pgrx_tests::db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "INSERT INTO t SELECT i, 'first' FROM generate_series(0, 999) i");
    settle(&mut client, "t");
    run(&mut client, "SELECT sync.pause('t'); SET synchronous_commit = off");
    run(
        &mut client,
        "DO $$ BEGIN FOR i IN 1..200000 LOOP UPDATE public.t SET v = i::text WHERE id = i % 1000; COMMIT; END LOOP; END $$",
    );
    run(&mut client, "INSERT INTO t SELECT i, 'bulk' FROM generate_series(1000, 300999) i");
    let begun = Instant::now();
    run(&mut client, "SELECT sync.resume('t')");
    let pid = worker(&db).expect("a worker");
    let mut most = 0;
    let mut other = db.connect();
    std::thread::scope(|scope| {
        let drained = scope.spawn(move || settle(&mut other, "t"));
        while !drained.is_finished() {
            most = most.max(own_memory(pid));
            std::thread::sleep(Duration::from_millis(20));
        }
        drained.join().unwrap();
    });
    assert_equal(&mut client);
    assert!(most < 150 * 1024, "the worker took {most} kB");
    assert!(begun.elapsed() < Duration::from_secs(150), "it took {:?}", begun.elapsed());
    assert!(processes::is_alive(pid), "the worker must not have been replaced");
}

/// A3 and A14: the batch is read in parts, and the older image of a row that a trigger wrote lies in a later part than
/// the trigger's. The worker is ended meanwhile, so nothing it remembers decides (P8).
#[test]
fn a_statement_that_is_read_in_parts_keeps_its_order_over_restarts() {
    let db = small_log().database("parts").unwrap();
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION sync_ext");
    pair(&mut client, "one_way");
    run(
        &mut client,
        "INSERT INTO t SELECT i, 'first', 'first' FROM generate_series(1, 6000) i;
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF OLD.id % 10 = 0 THEN DELETE FROM public.t WHERE id = OLD.id + 3001;
            ELSE UPDATE public.t SET v = 'by the trigger' WHERE id = OLD.id + 3000; END IF;
            RETURN NULL; END $$;
         CREATE TRIGGER touch AFTER UPDATE ON public.t FOR EACH ROW WHEN (OLD.id <= 1500) EXECUTE FUNCTION touch()",
    );
    settle(&mut client, "t");
    run(&mut client, "UPDATE t SET v = 'by the statement'");
    for _ in 0..3 {
        if let Some(pid) = worker(&db) {
            run(&mut client, &format!("SELECT pg_terminate_backend({pid})"));
            db.wait_until("a new worker", || worker(&db).is_some_and(|new| new != pid));
        }
    }
    settle(&mut client, "t");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM t WHERE v = 'by the trigger'"), "1201");
    assert_equal(&mut client);
}
