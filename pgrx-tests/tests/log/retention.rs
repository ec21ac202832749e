//! What is kept for a while and then goes: what happened to records, and that they were there.

use super::{pair, settle};
use pgrx_tests::{db, query_one, run};

#[test]
fn errors_conflicts_gaps_and_tombstones_past_their_days_go_and_younger_ones_stay() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    // More than go at once, and one young one of each kind.
    run(
        &mut client,
        "INSERT INTO sync._error (sync, attempt, sqlstate, message, at)
         SELECT s.id, 1, '00000', 'error', now() - d * interval '1 day' FROM sync._sync s, (SELECT 31 FROM generate_series(1, 12000) UNION ALL SELECT 29) AS t (d);
         INSERT INTO sync._conflict (sync, key_text, kind, field, winner, reason, at)
         SELECT s.id, '1', 'update_origin_differs', 'v', 'source', 'test', now() - d * interval '1 day' FROM sync._sync s, unnest(ARRAY[31, 29]) AS d;
         INSERT INTO sync._gap (relation, sync, reason, noticed_at, reconciled_at)
         SELECT 't', s.id, d || ' days', now() - d * interval '1 day', now() - d * interval '1 day' FROM sync._sync s, unnest(ARRAY[31, 29]) AS d;
         INSERT INTO sync._gap (relation, sync, reason, noticed_at) SELECT 't', s.id, 'not made good', now() - interval '31 days' FROM sync._sync s;
         INSERT INTO sync._link (sync, layout, deleted_at, key)
         SELECT s.id, 0, now() - d * interval '1 day', int4send(10000 + d) FROM sync._sync s, unnest(ARRAY[89, 91]) AS d;
         INSERT INTO sync._link (sync, layout, deleted_at, key)
         SELECT s.id, 0, now() - interval '100 days', int4send(n) FROM sync._sync s, generate_series(1000000, 1080000) AS n;
         INSERT INTO t VALUES (1, 'linked')",
    );
    settle(&mut client, "t");
    // Links are gone through once a day, and after a start.
    run(
        &mut client,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = current_database()",
    );
    for (left, of) in
        [("1", "sync._error"), ("1", "sync._conflict"), ("2", "sync._gap"), ("2", "sync._link")]
    {
        let count = format!("SELECT count(*) FROM {of}");
        db.wait_until(of, || query_one(&mut client, &count) == left);
    }
    assert_eq!(
        query_one(&mut client, "SELECT at > now() - interval '30 days' FROM sync._error"),
        "t"
    );
    assert_eq!(
        query_one(&mut client, "SELECT at > now() - interval '30 days' FROM sync._conflict"),
        "t"
    );
    assert_eq!(
        query_one(&mut client, "SELECT string_agg(reason, ', ' ORDER BY id) FROM sync._gap"),
        "29 days, not made good"
    );
    assert_eq!(
        query_one(
            &mut client,
            "SELECT count(*) FROM sync._link WHERE deleted_at > now() - interval '90 days'"
        ),
        "1"
    );
    run(&mut client, "UPDATE t SET v = 'still linked'");
    settle(&mut client, "t");
    assert_eq!(query_one(&mut client, "SELECT v FROM peer.t"), "still linked");
}
