//! Logical replication of the database itself.

use super::{assert_equal, fill, pair, segments, settle, small_log};
use pgrx_tests::{query_one, run};

/// A12: neither rows of the log nor its emptying reach a subscriber, and a publication FOR ALL TABLES stops nothing.
#[test]
fn the_log_stays_out_of_logical_decoding() {
    let db = small_log().database("decoding").unwrap();
    let mut client = db.connect();
    run(&mut client, "CREATE EXTENSION sync_ext");
    run(&mut client, "CREATE PUBLICATION everything FOR ALL TABLES");
    run(&mut client, "SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')");
    pair(&mut client, "bidirectional");
    run(&mut client, "INSERT INTO t VALUES (0)");
    let first = segments(&mut client);
    let first = first.iter().position(|&bytes| bytes > 0).unwrap_or_default();
    fill(&mut client);
    run(
        &mut client,
        "UPDATE t SET v = 'source', w = '1'; UPDATE peer.t SET w = 'target'; INSERT INTO t VALUES (1); DELETE FROM t WHERE id = 1",
    );
    settle(&mut client, "t");
    assert_equal(&mut client);
    db.wait_until("a segment has been emptied", || segments(&mut client)[first] == 0);
    run(
        &mut client,
        "CREATE TEMP TABLE decoded AS SELECT data FROM pg_logical_slot_get_changes('decoding', NULL, NULL)",
    );
    assert_eq!(
        query_one(&mut client, "SELECT count(*) FROM decoded WHERE data ~ '_log_v1|TRUNCATE'"),
        "0"
    );
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) > 0 FROM decoded WHERE data ~ 'table public.t: UPDATE'"
        ),
        "t"
    );
    assert_eq!(
        query_one(
            &mut client,
            "SELECT ok, detail ~ 'everything' FROM sync.doctor() WHERE what = 'publications'"
        ),
        "f|t"
    );
    run(&mut client, "SELECT pg_drop_replication_slot('decoding')");
}
