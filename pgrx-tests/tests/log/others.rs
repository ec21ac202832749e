//! Syncs beside each other: one that is held up is not felt by the others.

use super::{assert_equal, create_sync, pair, settle};
use pgrx_tests::{db, query_one, run};

/// A14: each sync has its own place in the log.
#[test]
fn a_paused_sync_keeps_its_changes_and_the_others_go_on() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "one_way");
    run(&mut client, "CREATE TABLE peer.u (LIKE t INCLUDING ALL)");
    create_sync(&mut client, "u", "t", "peer.u", "one_way", "");
    run(&mut client, "SELECT sync.pause('u')");
    for n in 1..=20 {
        run(
            &mut client,
            &format!(
                "INSERT INTO t VALUES ({n}, 'first'); UPDATE t SET v = 'second' WHERE id = {}",
                n / 2
            ),
        );
    }
    settle(&mut client, "t");
    assert_equal(&mut client);
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM peer.u"), "0");
    let pending =
        "SELECT count(DISTINCT sync), count(*) FROM sync.change_log WHERE status = 'pending'";
    assert_eq!(query_one(&mut client, pending), "1|30");
    run(&mut client, "SELECT sync.resume('u')");
    settle(&mut client, "u");
    assert_eq!(super::differences(&mut client, "public.t", "peer.u"), Vec::<String>::new());
}
