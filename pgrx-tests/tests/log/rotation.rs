//! Rotation: what keeps a segment from being emptied, and that nobody waits for it.

use super::{assert_equal, fill, pair, segments, settle, small_log};
use cluster::postgres::Client;
use pgrx_tests::{query_one, rows, run};
use std::time::{Duration, Instant};

const MB: u64 = 1024 * 1024;

fn empty(sizes: &[u64]) -> usize {
    sizes.iter().filter(|&&bytes| bytes == 0).count()
}

/// A5, P9, P16: it pins the one segment it wrote to; the others go round.
#[test]
fn the_log_rotates_beside_an_old_prepared_transaction_and_a_repeatable_read_writer() {
    let db = small_log().database("prepared").unwrap();
    let (mut a, mut b, mut reader) = (db.connect(), db.connect(), db.connect());
    run(&mut a, "CREATE EXTENSION sync_ext");
    pair(&mut a, "one_way");
    run(&mut b, "BEGIN; INSERT INTO t VALUES (1, 'prepared'); PREPARE TRANSACTION 'old'");
    let pinned =
        segments(&mut reader).iter().position(|&bytes| bytes > 0).expect("a segment in use");
    // Its snapshot is older than all rotations; it writes before them and after them.
    run(&mut b, "BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO t VALUES (2, 'before')");
    let mut used = [false; 4];
    db.wait_until("the log has gone round past the pinned segment", || {
        let sizes = segments(&mut reader);
        if sizes.iter().sum::<u64>() - sizes[pinned] < 2 * MB {
            fill(&mut a);
        }
        for (used, bytes) in used.iter_mut().zip(&sizes) {
            *used |= *bytes > 0;
        }
        used == [true; 4] && sizes[pinned] > 0 && empty(&sizes) >= 2
    });
    assert_eq!(query_one(&mut a, "SELECT count(*) FROM peer.t WHERE id > 0"), "0");
    run(&mut b, "INSERT INTO t VALUES (3, 'after'); COMMIT");
    db.wait_until("the late rows arrive", || {
        rows(&mut a, "SELECT v FROM peer.t WHERE id > 0 ORDER BY id") == ["before", "after"]
    });
    run(&mut b, "COMMIT PREPARED 'old'");
    settle(&mut a, "t");
    assert_equal(&mut a);
    db.wait_until("the old segment is emptied", || {
        segments(&mut reader)[pinned] == 0 || {
            fill(&mut a);
            false
        }
    });
}

/// A5: emptying is never queued behind a reader, so nobody waits behind it either.
#[test]
fn a_reader_keeps_the_log_and_makes_nobody_wait() {
    let db = small_log().database("reader").unwrap();
    let (mut a, mut reader, mut look) = (db.connect(), db.connect(), db.connect());
    run(&mut a, "CREATE EXTENSION sync_ext");
    pair(&mut a, "one_way");
    run(&mut reader, "BEGIN; SELECT count(*) FROM sync.change_log");
    run(&mut a, "SET lock_timeout = '300ms'");
    db.wait_until("every segment is in use", || {
        fill(&mut a);
        // Another reader comes and goes meanwhile.
        run(&mut look, "SET lock_timeout = '300ms'; SELECT FROM sync._log_v1_0 LIMIT 1");
        empty(&segments(&mut look)) == 0
    });
    // With none free the log stays where it is, and says so.
    let doctor = "SELECT ok FROM sync.doctor() WHERE what = 'log rotation'";
    assert_eq!(query_one(&mut look, doctor), "f");
    fill(&mut a);
    settle(&mut a, "t");
    assert_equal(&mut a);
    run(&mut reader, "COMMIT");
    db.wait_until("what everybody has seen is emptied", || empty(&segments(&mut look)) >= 3);
    assert_eq!(query_one(&mut look, doctor), "t");
}

/// P16: no dead tuples and a bounded size, however old the oldest snapshot and the oldest transaction id are.
#[test]
fn under_an_old_snapshot_the_log_stays_small_and_has_no_dead_tuples() {
    let db = small_log().database("snapshot").unwrap();
    let (mut a, mut old, mut look) = (db.connect(), db.connect(), db.connect());
    run(&mut a, "CREATE EXTENSION sync_ext; CREATE EXTENSION pgstattuple");
    pair(&mut a, "one_way");
    run(
        &mut old,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id(); SELECT count(*) FROM peer.t",
    );
    let before = dead_in_catalogs(&mut look);
    let (begun, mut written, mut most) = (Instant::now(), 0, 0);
    while begun.elapsed() < Duration::from_secs(6) {
        fill(&mut a);
        written += 1;
        most = most.max(segments(&mut look).iter().sum::<u64>());
        if written % 8 == 0 {
            settle(&mut look, "t");
        }
        let dead = "SELECT sum((pgstattuple('sync._log_v1_' || n)).dead_tuple_count) FROM generate_series(0, 3) n";
        assert_eq!(query_one(&mut look, dead), "0");
    }
    settle(&mut a, "t");
    assert_equal(&mut a);
    db.wait_until("all but the current segment are emptied", || empty(&segments(&mut look)) >= 3);
    // A rotation by TRUNCATE would leave four of them each time.
    let left = dead_in_catalogs(&mut look).saturating_sub(before);
    assert!(left < 8, "{left} dead rows in the catalogs after {written} fillings");
    assert!(
        written < 10 || most < u64::from(written as u32) * MB,
        "{most} bytes of {written} MB were in the log at once"
    );
    run(&mut old, "COMMIT");
}

fn dead_in_catalogs(client: &mut Client) -> u64 {
    let sql = "SELECT sum((pgstattuple(c)).dead_tuple_count) FROM unnest('{pg_class,pg_index}'::regclass[]) c";
    query_one(client, sql).parse().unwrap()
}
