//! Requests that the other system does not answer hold up nobody: not the server's end, nor that of the database, nor
//! that of the extension. What they were to do is found out afterwards.

use std::time::{Duration, Instant};

use cluster::postgres::Client;
use cluster::{Cluster, Stop};
use local_org::{Fault, FaultRule, LocalOrg, Options};
use pgrx_tests::{query_one, run};

use super::{accounts, names, settle, until};

/// On a machine that does much else besides; by itself it takes a tenth of it.
const SOON: Duration = Duration::from_secs(2);

/// A sync of which writes and looks for changes are with the org, which does not answer.
fn in_flight() -> (LocalOrg, Cluster, Client) {
    let (org, cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    hang(&org, &mut c, "two");
    (org, cluster, c)
}

/// Has the org leave a create and a look for changes without an answer.
fn hang(org: &LocalOrg, c: &mut Client, name: &str) {
    org.clear_calls();
    let slow = Fault::Latency { ms: 60_000 };
    let write = org.fault(FaultRule::always(slow.clone()).path("/composite"));
    let poll = org.fault(FaultRule::always(slow).path("/query"));
    run(c, &format!("INSERT INTO accounts (account_name) VALUES ('{name}')"));
    let out =
        cluster::poll(Duration::from_secs(30), || org.struck(write) > 0 && org.struck(poll) > 0);
    assert!(out, "{:#?}", org.calls());
}

#[test]
fn a_server_with_unanswered_requests_stops_soon_and_goes_on_without_a_twin() {
    let (org, mut cluster, mut c) = in_flight();
    for round in 0..3 {
        if round > 0 {
            hang(&org, &mut c, &format!("round {round}"));
        }
        drop(c);
        let took = cluster.stop(Stop::Fast).unwrap();
        assert!(took < SOON, "{took:?}");
        org.clear_faults();
        cluster.start().unwrap();
        c = cluster.connect("postgres").unwrap();
        settle(&mut c);
        until(&mut c, "SELECT count(*) FROM accounts WHERE sf_id IS NULL", "0");
    }
    assert_eq!(names(&org), ["one", "round 1", "round 2", "two"]);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "4");
    let log = cluster.log_text();
    assert!(!log.contains("PANIC") && !log.contains("exit code 2"), "{log}");
}

#[test]
fn the_extension_is_dropped_soon_with_unanswered_requests() {
    let (_org, cluster, mut c) = in_flight();
    let started = Instant::now();
    run(&mut c, "DROP EXTENSION sync_ext CASCADE");
    let took = started.elapsed();
    assert!(took < SOON, "{took:?}");
    cluster
        .wait_until("the worker is gone", || crate::life::workers(&cluster, "postgres").is_empty());
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "2");
}

#[test]
fn a_database_is_dropped_soon_with_unanswered_requests() {
    for force in ["", "WITH (FORCE)"] {
        let (_org, cluster, c) = in_flight();
        drop(c);
        let mut admin = cluster.connect("template1").unwrap();
        let started = Instant::now();
        run(&mut admin, &format!("DROP DATABASE postgres {force}"));
        let took = started.elapsed();
        assert!(took < SOON, "{force}: {took:?}");
    }
}

/// What was only looked for has not been sent: it is looked for again, and not taken for what may have been created.
#[test]
fn a_record_that_was_being_looked_for_is_looked_for_again() {
    let matching = r#"{"match_on": [{"source": "Name", "target": "account_name"}]}"#;
    let (org, mut cluster, mut c) = accounts(Options::default(), matching);
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}');
           INSERT INTO accounts (account_name) VALUES ('one')"#,
    );
    settle(&mut c);
    let known = org.insert("Account", serde_json::json!({"Name": "known"})).unwrap();
    let look = org.fault(FaultRule::always(Fault::Latency { ms: 60_000 }).path("/query"));
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('known')");
    assert!(cluster::poll(Duration::from_secs(30), || org.struck(look) > 0), "{:#?}", org.calls());
    drop(c);
    cluster.stop(Stop::Fast).unwrap();
    org.clear_faults();
    org.clear_calls();
    cluster.start().unwrap();
    c = cluster.connect("postgres").unwrap();
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
    let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE account_name = 'known'");
    assert_eq!(id, known);
    assert_eq!(names(&org), ["known", "one"]);
    // Nobody has asked for what was created since.
    let asked: Vec<_> =
        org.calls().into_iter().filter(|c| c.path.contains("CreatedDate")).collect();
    assert!(asked.is_empty(), "{asked:#?}");
}
