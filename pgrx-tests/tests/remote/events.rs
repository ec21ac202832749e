//! Changes that the org tells as they are committed: they arrive long before anything is asked for.

use std::time::{Duration, Instant};

use cluster::postgres::Client;
use cluster::{Cluster, Stop};
use local_org::{EventFault, EventFaultRule, Fault, FaultRule, LocalOrg, Match, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{ACCOUNTS, create_sync, names, settle, until};
use crate::connections::{connect_crm, with_org};

/// An org that tells of its accounts, a sync that asks by itself every ten minutes only, and that it is told.
fn told() -> (LocalOrg, Cluster, Client) {
    let options = Options { change_events: vec!["Account".into()], ..Options::default() };
    let (org, cluster) = with_org(options, &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        &format!(
            r#"SELECT sync.alter_connection('crm', '{{"credentials": {{"pubsub_url": "http://{}"}}}}')"#,
            org.events_address()
        ),
    );
    run(&mut c, ACCOUNTS);
    create_sync(&mut c, "{}");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    settle(&mut c);
    assert!(cluster::poll(Duration::from_secs(30), || org.event_streams() == 1), "it is not told");
    (org, cluster, c)
}

/// So long it may take, of the ten minutes that asking takes.
const SOON: Duration = Duration::from_secs(20);

#[track_caller]
fn soon(c: &mut Client, sql: &str, wanted: &str) {
    let began = Instant::now();
    until(c, sql, wanted);
    assert!(began.elapsed() < SOON, "{sql} took {:?}", began.elapsed());
}

#[test]
fn a_record_that_is_made_changed_and_deleted_there_is_a_row_at_once() {
    let (org, _cluster, mut c) = told();
    let id = org.insert("Account", json!({"Name": "one", "Industry": "Energy"})).unwrap();
    let row = "SELECT max(account_name || '|' || COALESCE(industry_type, '')) FROM accounts";
    soon(&mut c, row, "one|Energy");
    org.edit(&id, json!({"Name": "two", "Industry": null})).unwrap();
    soon(&mut c, row, "two|");
    org.delete(&id).unwrap();
    soon(&mut c, "SELECT count(*) FROM accounts", "0");
    // The edit of a row that nobody has told of is still merged by value.
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('ours')");
    settle(&mut c);
    assert_eq!(names(&org), ["ours"]);
}

/// With `"mode": "polling"` nothing is told at once, and everything comes all the same.
#[test]
fn events_are_not_listened_to_where_the_document_wants_polling_only() {
    let (org, _cluster, mut c) = told();
    run(&mut c, r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"mode": "polling"}}')"#);
    settle(&mut c);
    org.insert("Account", json!({"Name": "told to nobody"})).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let names = "SELECT COALESCE(string_agg(account_name, ','), '') FROM accounts";
    assert_eq!(query_one(&mut c, names), "");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 1}}')"#,
    );
    until(&mut c, names, "told to nobody");
}

/// Where the events stand is kept with what they led to: a worker that starts is told what it has missed, whenever
/// the changes are asked for.
#[test]
fn what_happened_while_nobody_listened_is_told_afterwards() {
    let (org, mut cluster, mut c) = told();
    let id = org.insert("Account", json!({"Name": "one"})).unwrap();
    soon(&mut c, "SELECT count(*) FROM accounts WHERE account_name = 'one'", "1");
    // The row may have come by asking, before the stream had told anything to go on from.
    until(&mut c, "SELECT COALESCE(get_byte(told, 0) = ascii('r'), false) FROM sync._pull", "t");
    drop(c);
    cluster.stop(Stop::Fast).unwrap();
    org.edit(&id, json!({"Name": "two"})).unwrap();
    let asking = Match { path: Some("/query".into()), ..Match::default() };
    org.fault(FaultRule { matches: asking, ..FaultRule::always(Fault::Latency { ms: 60_000 }) });
    cluster.start().unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    soon(&mut c, "SELECT count(*) FROM accounts WHERE account_name = 'two'", "1");
    org.clear_faults();
}

/// P6: what we wrote ourselves is told too, and is not read for that.
#[test]
fn our_own_writes_are_not_read_because_they_are_told() {
    let (org, _cluster, mut c) = told();
    run(
        &mut c,
        "INSERT INTO accounts (account_name) SELECT 'n' || i FROM generate_series(1, 50) i",
    );
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "50");
    org.clear_calls();
    run(&mut c, "UPDATE accounts SET industry_type = 'Energy'");
    settle(&mut c);
    // One of somebody else comes behind them all.
    let id = query_one(&mut c, "SELECT sf_id FROM accounts WHERE account_name = 'n1'");
    org.edit(&id, json!({"Name": "theirs"})).unwrap();
    soon(&mut c, "SELECT count(*) FROM accounts WHERE account_name = 'theirs'", "1");
    let reads: Vec<String> = org
        .calls()
        .iter()
        .filter(|call| {
            call.path.ends_with("composite/sobjects/Account") || call.path.contains("/query")
        })
        .map(|call| call.path.clone())
        .collect();
    assert_eq!(reads.len(), 1, "{reads:?}");
}

#[test]
fn what_is_not_told_comes_by_asking() {
    let (org, _cluster, mut c) = told();
    let id = org.insert("Account", json!({"Name": "one"})).unwrap();
    soon(&mut c, "SELECT max(account_name) FROM accounts", "one");
    // An event without values; one that never comes, and the stream that ends, after which all is asked for.
    org.event_fault(EventFaultRule {
        object: None,
        times: Some(1),
        skip: 0,
        fault: EventFault::Gap,
    });
    org.edit(&id, json!({"Name": "told without its value"})).unwrap();
    soon(&mut c, "SELECT max(account_name) FROM accounts", "told without its value");
    org.event_fault(EventFaultRule {
        object: None,
        times: Some(1),
        skip: 0,
        fault: EventFault::Drop,
    });
    org.edit(&id, json!({"Name": "never told"})).unwrap();
    org.publish_gap("Account", "GAP_OVERFLOW", &[]).unwrap();
    soon(&mut c, "SELECT max(account_name) FROM accounts", "never told");
    org.move_instance();
    org.event_fault(EventFaultRule {
        object: None,
        times: Some(1),
        skip: 0,
        fault: EventFault::Reset,
    });
    org.edit(&id, json!({"Name": "in the middle of a move"})).unwrap();
    soon(&mut c, "SELECT max(account_name) FROM accounts", "in the middle of a move");
    assert_eq!(rows(&mut c, "SELECT * FROM sync.conflicts"), Vec::<String>::new());
}
