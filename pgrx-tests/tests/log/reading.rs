//! What reading a batch costs.

use super::{create_sync, pair, settle};
use pgrx_tests::{db, query_one, run};

/// The worker finds a batch by its map of the log's blocks: what lies there for others is not read again.
#[test]
fn a_small_batch_is_read_without_going_through_the_whole_log() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(
        &mut client,
        "CREATE TABLE big (id int PRIMARY KEY, v text); CREATE TABLE peer.big (LIKE big INCLUDING ALL)",
    );
    create_sync(&mut client, "big", "big", "peer.big", "one_way", "");
    // Paused, so that its changes stay in the log.
    run(
        &mut client,
        "SELECT sync.pause('big'); INSERT INTO big SELECT i, 'old' FROM generate_series(1, 200000) i",
    );
    settle(&mut client, "t");
    let blocks: u64 =
        query_one(&mut client, "SELECT pg_relation_size('sync._log_v1_0') / 8192").parse().unwrap();
    assert!(blocks > 1000, "{blocks} blocks");
    let mut touched = || -> u64 {
        query_one(
            &mut client,
            "SELECT heap_blks_read + heap_blks_hit FROM pg_statio_all_tables WHERE relid = 'sync._log_v1_0'::regclass",
        )
        .parse()
        .unwrap()
    };
    let mut before = touched();
    let mut same = 0;
    db.wait_until("the worker has reported its reading", || {
        let now = touched();
        same = if now == before { same + 1 } else { 0 };
        before = now;
        // Longer than a second, in which statistics are held back.
        same > 80
    });
    let mut writer = db.connect();
    for n in 1..=40 {
        run(&mut writer, &format!("INSERT INTO t VALUES ({n})"));
        settle(&mut writer, "t");
    }
    db.wait_until("the worker reports again", || {
        run(&mut writer, "UPDATE t SET v = clock_timestamp()::text WHERE id = 1");
        touched() >= before + 40
    });
    let read = touched() - before;
    assert!(read < blocks, "{read} blocks were looked at for 40 changes, the log has {blocks}");
}
