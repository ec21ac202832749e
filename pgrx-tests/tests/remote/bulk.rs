//! Loads of objects so large that they are read by a job.

use std::time::Duration;

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{BulkManners, Fault, FaultRule, LocalOrg, Match, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{ACCOUNTS, create_sync, settle, until};
use crate::connections::{connect_crm, with_org};

/// Just enough for a job.
const RECORDS: usize = 20_000;

/// An org with its accounts, whose jobs end at once and have pages of 4,000 records, and an empty table.
fn filled(page: usize) -> (LocalOrg, Cluster, Client, Vec<String>) {
    let (org, cluster) = with_org(Options::default(), &[]);
    org.set_bulk(BulkManners { polls: 0, page, ..BulkManners::default() });
    let insert = |n| org.insert("Account", json!({"Name": format!("n{n}")})).unwrap();
    let ids = (0..RECORDS).map(insert).collect();
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(&mut c, ACCOUNTS);
    (org, cluster, c, ids)
}

fn asked(org: &LocalOrg, method: &str, part: &str) -> usize {
    org.calls().iter().filter(|call| call.method == method && call.path.contains(part)).count()
}

/// Both sides are the same, and nothing was written over there.
#[track_caller]
fn same(c: &mut Client, org: &LocalOrg, edits: usize) {
    settle(c);
    let mut there: Vec<String> = org
        .records("Account")
        .iter()
        .map(|r| format!("{}|{}", r["Id"].as_str().unwrap(), r["Name"].as_str().unwrap()))
        .collect();
    there.sort();
    let mut here: Vec<String> = rows(c, "SELECT sf_id || '|' || account_name FROM accounts");
    here.sort();
    assert!(here == there, "{} rows here, {} records there", here.len(), there.len());
    assert_eq!(query_one(c, "SELECT count(*) FROM sync.conflicts"), "0");
    assert_eq!(asked(org, "PATCH", "/composite") + asked(org, "POST", "/sobjects"), edits);
}

#[test]
fn a_large_object_is_loaded_by_a_job_in_a_few_calls() {
    let (org, _cluster, mut c, _) = filled(4000);
    org.clear_calls();
    create_sync(&mut c, "{}");
    until(&mut c, "SELECT count(*) FROM accounts", &RECORDS.to_string());
    same(&mut c, &org, 0);
    assert_eq!(asked(&org, "POST", "/jobs/query"), 1);
    // Pages of bearable size are read as they are.
    assert_eq!(asked(&org, "GET", "/results"), RECORDS / 4000);
    let calls = org.calls().iter().filter(|call| call.path.contains("/data/v")).count();
    assert!(calls < 25, "{calls} calls");
    // And the job is put away.
    assert!(cluster::poll(Duration::from_secs(20), || asked(&org, "DELETE", "/jobs/query") == 1));
}

#[test]
fn large_pages_are_read_in_pieces() {
    let (org, _cluster, mut c, _) = filled(50_000);
    create_sync(&mut c, "{}");
    until(&mut c, "SELECT count(*) FROM accounts", &RECORDS.to_string());
    same(&mut c, &org, 0);
    assert!(asked(&org, "GET", "/results") > 1);
}

/// P8, P10: a worker that ends in the middle goes on with the page it was at, of the same job; what happened
/// meanwhile on either side is merged, whatever the job's result says of it.
#[test]
fn a_load_by_a_job_goes_on_after_a_crash_beside_edits_of_both_sides() {
    let (org, mut cluster, mut c, ids) = filled(1000);
    // The third page of the result takes its time, and so do all behind it.
    let slow = FaultRule {
        skip: 3,
        matches: Match { path: Some("/results".into()), ..Match::default() },
        ..FaultRule::always(Fault::Latency { ms: 1500 })
    };
    org.fault(slow);
    create_sync(&mut c, "{}");
    until(&mut c, "SELECT (SELECT count(*) FROM accounts) >= 2000", "t");
    let state = query_one(&mut c, "SELECT expected || '|' || (job IS NOT NULL) FROM sync.progress");
    assert_eq!(state, format!("{RECORDS}|true"));
    // On both sides, of records that have been read and of some that have not.
    for id in [&ids[0], &ids[1], &ids[RECORDS - 1]] {
        org.edit(id, json!({"Name": "edited there"})).unwrap();
    }
    for id in [&ids[2], &ids[RECORDS - 2]] {
        org.delete(id).unwrap();
    }
    run(
        &mut c,
        &format!("UPDATE accounts SET account_name = 'edited here' WHERE sf_id = '{}'", ids[3]),
    );
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('made here')");
    let before: i64 = query_one(&mut c, "SELECT done FROM sync.progress").parse().unwrap();
    assert!(before >= 1000, "{before}");
    drop(c);
    cluster.crash().unwrap();
    org.clear_faults();
    cluster.start().unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    assert_eq!(asked(&org, "POST", "/jobs/query"), 1);
    let whole =
        org.calls().iter().filter(|c| c.path.contains("/results") && c.query.is_empty()).count();
    assert!(whole <= 1, "the result was read {whole} times from its beginning");
    settle(&mut c);
    // What was edited there comes with the changes.
    let edited = "SELECT count(*) FROM accounts WHERE account_name = 'edited there'";
    until(&mut c, edited, "3");
    until(&mut c, "SELECT count(*) FROM accounts", &(RECORDS - 1).to_string());
    let named = |c: &mut Client, id: &str| {
        query_one(c, &format!("SELECT max(account_name) FROM accounts WHERE sf_id = '{id}'"))
    };
    assert_eq!(named(&mut c, &ids[0]), "edited there");
    assert_eq!(named(&mut c, &ids[RECORDS - 1]), "edited there");
    assert_eq!(org.get(&ids[3]).unwrap()["Name"], "edited here");
    assert_eq!(org.records("Account").iter().filter(|r| r["Name"] == "made here").count(), 1);
    assert_eq!(org.records("Account").len(), RECORDS - 1);
    let mut here: Vec<String> = rows(&mut c, "SELECT sf_id || '|' || account_name FROM accounts");
    let mut there: Vec<String> = org
        .records("Account")
        .iter()
        .map(|r| format!("{}|{}", r["Id"].as_str().unwrap(), r["Name"].as_str().unwrap()))
        .collect();
    here.sort();
    there.sort();
    assert!(here == there);
}

#[test]
fn a_job_that_fails_is_made_anew_and_one_more_is_not() {
    for (failures, jobs, listed) in [(Some(1), 2, false), (None, 2, true)] {
        let (org, _cluster, mut c, _) = filled(4000);
        let fails = FaultRule {
            matches: Match { path: Some("/results".into()), ..Match::default() },
            ..FaultRule::once(Fault::ExpireJob)
        };
        org.fault(FaultRule { times: failures, skip: 1, ..fails });
        create_sync(&mut c, "{}");
        until(&mut c, "SELECT count(*) FROM sync.progress", "0");
        same(&mut c, &org, 0);
        assert_eq!(asked(&org, "POST", "/jobs/query"), jobs);
        let pages = org
            .calls()
            .iter()
            .filter(|c| c.query.iter().any(|q| q.1.contains("ORDER BY Id")))
            .count();
        assert_eq!(pages > 5, listed, "{pages} pages were listed");
        assert_eq!(query_one(&mut c, "SELECT state FROM sync.status"), "running");
    }
}
