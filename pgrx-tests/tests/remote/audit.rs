//! `sync.audit` and `sync.repair` with an org as a side.

use std::sync::atomic::{AtomicBool, Ordering};

use cluster::postgres::Client;
use local_org::Options;
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{accounts, settle, until};

fn counts(c: &mut Client) -> Vec<String> {
    rows(
        c,
        "SELECT what, records FROM sync.audit('accounts', show => 0)
          WHERE records > 0 AND what NOT IN ('rows on source', 'rows on target', 'linked pairs', 'calls')",
    )
}

/// So many accounts on both sides; the org is asked for changes so seldom that nothing of what happens there is heard of
/// by itself.
fn linked(n: u32) -> (local_org::LocalOrg, cluster::Cluster, Client) {
    let (org, cluster, mut c) = accounts(Options::default(), "{}");
    run(
        &mut c,
        &format!(
            "INSERT INTO accounts (account_name, annual_revenue) SELECT 'name ' || n, n FROM generate_series(1, {n}) n"
        ),
    );
    settle(&mut c);
    until(
        &mut c,
        "SELECT count(*) FROM accounts WHERE sf_id IS NULL OR last_modified IS NULL",
        "0",
    );
    settle(&mut c);
    (org, cluster, c)
}

fn rarely(c: &mut Client) {
    run(
        c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    settle(c);
}

/// Writes of ours that nobody captures.
fn unseen(c: &mut Client, sql: &str) {
    run(
        c,
        &format!(
            "BEGIN; ALTER TABLE accounts DISABLE TRIGGER USER; {sql}; ALTER TABLE accounts ENABLE TRIGGER USER;
             UPDATE pg_trigger SET tgenabled = 'A' WHERE tgfoid = 'sync._capture'::regproc; COMMIT"
        ),
    );
}

#[test]
fn an_org_and_a_table_in_sync_have_no_findings() {
    let (org, _cluster, mut c) = linked(300);
    org.clear_calls();
    let lines = rows(&mut c, "SELECT what, records FROM sync.audit('accounts') WHERE records > 0");
    assert_eq!(lines[..3], ["rows on source|300", "rows on target|300", "linked pairs|300"]);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[3].starts_with("calls|"), "{lines:?}");
}

#[test]
fn each_kind_of_difference_is_told_and_put_right() {
    let (org, _cluster, mut c) = linked(20);
    rarely(&mut c);
    unseen(
        &mut c,
        "UPDATE accounts SET account_name = 'unseen' WHERE id = 1; DELETE FROM accounts WHERE id = 2;
         INSERT INTO accounts (id, account_name) VALUES (100, 'new')",
    );
    settle(&mut c);
    assert_eq!(counts(&mut c), ["differs|1", "only on target|1", "link without row|1"]);
    let found = rows(
        &mut c,
        "SELECT what, key, length(remote_id), field, source_value, target_value, detail FROM sync.audit('accounts') WHERE records IS NULL ORDER BY 1",
    );
    assert_eq!(
        found,
        [
            "differs|1|18|account_name|name 1|unseen|the target was changed",
            "link without row|2|18||||its row of public.accounts is gone",
            "only on target|100|||||crm:Account has no record for it",
        ]
    );
    assert_eq!(query_one(&mut c, "SELECT sync.repair('accounts', keep => 'crm')"), "2");
    settle(&mut c);
    until(&mut c, "SELECT count(*) FROM sync._queue", "0");
    assert_eq!(query_one(&mut c, "SELECT account_name FROM accounts WHERE id = 1"), "name 1");
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM accounts WHERE account_name = 'name 2'"),
        "1"
    );
    assert_eq!(query_one(&mut c, "SELECT sync.repair('accounts', create_missing => true)"), "1");
    settle(&mut c);
    until(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL", "0");
    assert_eq!(org.count("Account"), 21);
    // Theirs for ours: sent, and the record as it then is.
    unseen(&mut c, "UPDATE accounts SET account_name = 'unseen' WHERE id = 1");
    run(&mut c, "SELECT sync.repair('accounts', keep => 'local')");
    settle(&mut c);
    let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE id = 1");
    assert_eq!(org.get(&id).unwrap()["Name"], "unseen");
    let left = counts(&mut c);
    assert!(left.iter().all(|line| line.starts_with("pending")), "{left:?}");
}

/// What the org has changed and nobody has asked it for is on its way.
#[test]
fn edits_that_the_next_poll_brings_are_pending() {
    let (org, _cluster, mut c) = linked(5);
    rarely(&mut c);
    let id = |c: &mut Client, n: u32| {
        query_one(c, &format!("SELECT sf_id FROM accounts WHERE id = {n}"))
    };
    let (first, second) = (id(&mut c, 1), id(&mut c, 2));
    // The clock of marks counts seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    org.edit(&first, json!({"Name": "theirs"})).unwrap();
    org.insert("Account", json!({"Name": "new"})).unwrap();
    org.delete(&second).unwrap();
    assert_eq!(counts(&mut c), ["pending|3"]);
}

/// A record that is gone from the org without a word: made again there, or its row goes.
#[test]
fn a_record_that_vanished_is_told_and_made_again_or_its_row_goes() {
    for (call, left) in
        [("sync.repair('accounts', keep => 'local')", "5"), ("sync.repair('accounts')", "4")]
    {
        let (org, _cluster, mut c) = linked(5);
        rarely(&mut c);
        let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE id = 3");
        org.purge(&id).unwrap();
        assert_eq!(counts(&mut c), ["link without row|1"], "{call}");
        assert_eq!(query_one(&mut c, &format!("SELECT {call}")), "1");
        settle(&mut c);
        until(&mut c, "SELECT count(*) FROM accounts", left);
        until(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL", "0");
        assert_eq!(org.count("Account").to_string(), left, "{call}");
    }
}

/// Both sides are written while it looks.
#[test]
fn running_writers_are_no_false_alarm() {
    let (org, cluster, mut c) = linked(200);
    let ids = rows(&mut c, "SELECT sf_id FROM accounts ORDER BY id");
    let stop = AtomicBool::new(false);
    let mut writer = cluster.connect("postgres").unwrap();
    std::thread::scope(|scope| {
        let (stop, org, ids) = (&stop, &org, &ids);
        scope.spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                run(
                    &mut writer,
                    &format!(
                        "UPDATE accounts SET account_name = 'ours {n}' WHERE id % 10 = {}",
                        n % 10
                    ),
                );
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        scope.spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let _ =
                    org.edit(&ids[n * 7 % ids.len()], json!({"Industry": format!("theirs {n}")}));
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let mut seen = Vec::new();
        for _ in 0..25 {
            seen.extend(
                counts(&mut c)
                    .into_iter()
                    .filter(|line| !line.starts_with("pending") && !line.starts_with("queued")),
            );
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(seen, [""; 0]);
    });
}
