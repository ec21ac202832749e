//! One account, one allowance of calls: whoever calls it shares it, and a part is left to others.

use cluster::postgres::Client;
use local_org::{Fault, FaultRule, LocalOrg, Options};
use pgrx_tests::{query_one, refusal, rows, run};

use super::{accounts, names, settle, until};

/// What the local org allows, and what of it is never used here.
const ALLOWED: u64 = 15_000;
const SHARE: u64 = 12_000;

const QUEUED: &str = "SELECT count(*) FROM sync.queue";
const USED: &str = "SELECT api_used, api_limit FROM sync.connections";
const RAISED: u64 = 10 * ALLOWED;

/// A person looks: his calls wait for nothing, and tell the governor what the org says.
fn look(c: &mut Client) {
    let found =
        rows(c, "SELECT what, ok, detail FROM sync.test_connection('crm') WHERE what = 'quota'");
    assert_eq!(found.len(), 1, "{found:?}");
}

/// Lets others use so much of the allowance that a handful of calls is left to us.
fn use_up(org: &LocalOrg, c: &mut Client) {
    org.set_usage(SHARE - 50, ALLOWED);
    look(c);
    look(c);
}

/// The states of connection and sync while calls wait, which say why and until when.
#[track_caller]
fn held(c: &mut Client) {
    until(c, "SELECT state FROM sync.status", "waiting");
    let said = query_one(c, "SELECT detail FROM sync.status");
    for part in [
        "calls wait so that those the account is allowed last",
        "of 15000 calls were used in the last 24 hours",
        "It goes on by itself",
        "next try at 20",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(query_one(c, "SELECT next_call_in > interval '30 s' FROM sync.connections"), "t");
    assert_eq!(query_one(c, QUEUED), "0");
}

#[test]
fn two_databases_share_the_allowance_of_one_org_with_those_who_look_at_it() {
    let (org, cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "CREATE DATABASE other");
    let mut other = cluster.connect("other").unwrap();
    run(&mut other, "CREATE EXTENSION sync_ext");
    // Another user there, and the URL in capitals: it is the same org.
    org.set_client("other", "secret");
    crate::connections::create_crm(&mut other, &org.url().replace("http", "HTTP"));
    run(
        &mut other,
        "SELECT sync.set_secret('crm', client_id => 'other', client_secret => 'secret')",
    );
    run(
        &mut other,
        "CREATE TABLE accounts (id SERIAL PRIMARY KEY, sf_id VARCHAR(18) UNIQUE, account_name VARCHAR(255),
           industry_type VARCHAR(100), annual_revenue DECIMAL(18,2), last_modified TIMESTAMP, last_sync TIMESTAMP)",
    );
    super::create_sync(&mut other, "{}");
    for (c, name) in [(&mut c, "one"), (&mut other, "two")] {
        run(c, &format!("INSERT INTO accounts (account_name) VALUES ('{name}')"));
        settle(c);
    }

    // What the first database's person uses, the second's worker may not.
    use_up(&org, &mut c);
    run(&mut other, "INSERT INTO accounts (account_name) VALUES ('three')");
    held(&mut other);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('four')");
    held(&mut c);
    let (used, _) = org.usage();
    assert!(used < SHARE, "{used}");
    // Both count what the org counts.
    for c in [&mut c, &mut other] {
        until(c, USED, &format!("{used}|{ALLOWED}"));
    }
    look(&mut other);
    let (looked, _) = org.usage();
    assert!(looked > used);
    assert_eq!(query_one(&mut c, USED), format!("{looked}|{ALLOWED}"));
    assert_eq!(names(&org), ["one", "two"]);

    org.set_usage(looked, RAISED);
    look(&mut c);
    for c in [&mut c, &mut other] {
        settle(c);
        until(c, "SELECT state FROM sync.status", "running");
        assert_eq!(query_one(c, "SELECT count(*) FROM sync.errors"), "0");
        until(c, "SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL", "4");
    }
    assert_eq!(names(&org), ["four", "one", "three", "two"]);
}

/// P8: shared memory is cleared by the crash, and the first answer tells how much others have left.
#[test]
fn after_a_crash_the_org_says_first_what_is_left_and_the_reserve_stays_untouched() {
    let (org, cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    org.set_usage(SHARE + 100, ALLOWED);
    let pid = cluster.pids_of("sync_ext worker").unwrap()[0];
    cluster::processes::kill(pid).unwrap();
    cluster.wait_until("the server restarts", || c.simple_query("SELECT 1").is_err());
    let mut again = None;
    cluster.wait_until("the server is back", || {
        again = cluster.connect("postgres").ok();
        again.is_some()
    });
    let mut c = again.unwrap();
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    held(&mut c);
    // To ask is the one call that it took.
    let (used, _) = org.usage();
    assert!(used <= SHARE + 101, "{used}");
    assert_eq!(names(&org), ["one"]);

    org.set_usage(used, RAISED);
    look(&mut c);
    settle(&mut c);
    assert_eq!(names(&org), ["one", "two"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.errors"), "0");
}

/// What the governor knows outlives the worker, which finds out nothing by asking again.
#[test]
fn a_worker_that_begins_anew_knows_what_was_used() {
    let (org, cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    use_up(&org, &mut c);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    held(&mut c);
    let (used, pid) = (org.usage().0, cluster.pids_of("sync_ext worker").unwrap()[0]);
    run(&mut c, &format!("SELECT pg_terminate_backend({pid})"));
    cluster.wait_until("another worker is there", || {
        cluster.pids_of("sync_ext worker").unwrap().first().is_some_and(|&p| p != pid)
    });
    run(&mut c, "UPDATE accounts SET account_name = 'later' WHERE account_name = 'two'");
    held(&mut c);
    assert_eq!((org.usage().0, query_one(&mut c, USED)), (used, format!("{used}|{ALLOWED}")));
    org.set_usage(used, RAISED);
    look(&mut c);
    settle(&mut c);
    assert_eq!(names(&org), ["later", "one"]);
}

/// All is used up by others: the org refuses, which burns no record's attempts, and a person is told.
#[test]
fn calls_that_are_all_used_up_are_waited_for() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    let number = org.fault(FaultRule::always(Fault::Quota));
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    until(&mut c, "SELECT state FROM sync.status", "waiting");
    let said = query_one(&mut c, "SELECT detail FROM sync.status");
    for part in ["TotalRequests Limit exceeded", "REQUEST_LIMIT_EXCEEDED", "next try at 20"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let text = refusal(&mut c, "SELECT * FROM sync.objects('crm')");
    for part in [
        "53400 the calls of connection \"crm\" are used up",
        "DETAIL: ",
        "sync.test_connection('crm')",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let struck = org.struck(number);
    let found = rows(&mut c, "SELECT what, ok, detail, remedy FROM sync.test_connection('crm')");
    assert!(found.last().unwrap().contains("Limit exceeded"), "{found:?}");
    assert_eq!(org.struck(number), struck + 1);
    assert_eq!(query_one(&mut c, QUEUED), "0");
    org.clear_faults();
    look(&mut c);
    settle(&mut c);
    assert_eq!(names(&org), ["one", "two"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) > 3 FROM sync.objects('crm')"), "t");
}

/// More accounts than have a place in shared memory: calls are counted by each process, and it is said once.
#[test]
fn accounts_beyond_the_places_in_shared_memory_are_called_all_the_same() {
    let (org, cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    let place = org.url().trim_start_matches("http://").to_owned();
    let ports: Vec<String> = (1..=66).map(|port| format!("127.0.0.1:{port}")).collect();
    run(
        &mut c,
        &format!("ALTER SYSTEM SET sync_ext.allowed_hosts = '{place}, {}'", ports.join(", ")),
    );
    run(&mut c, "SELECT pg_reload_conf()");
    until(&mut c, "SELECT current_setting('sync_ext.allowed_hosts') ~ ':66'", "t");
    run(
        &mut c,
        r#"DO $$ BEGIN FOR port IN 1 .. 66 LOOP
             PERFORM sync.create_connection('c' || port, format('{"type": "salesforce", "credentials": {"instance_url": "http://127.0.0.1:%s"}}', port)::jsonb);
             PERFORM sync.set_secret('c' || port, client_id => 'x', client_secret => 'y');
           END LOOP; END $$"#,
    );
    for _ in 0..2 {
        let reached = "SELECT count(*) FROM generate_series(1, 66) n, sync.test_connection('c' || n) t WHERE t.what = 'reached'";
        assert_eq!(query_one(&mut c, reached), "66");
    }
    let said = "counts the calls of this process by themselves";
    assert_eq!(cluster.log_text().matches(said).count(), 1);
    look(&mut c);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    settle(&mut c);
    assert_eq!(names(&org), ["one", "two"]);
    // Its own place is where it was.
    let used = "SELECT api_used FROM sync.connections WHERE name = 'crm'";
    cluster
        .wait_until("both count the same", || query_one(&mut c, used) == org.usage().0.to_string());
}
