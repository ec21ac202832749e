//! Backlogs so long that they are written by jobs.

use std::collections::BTreeSet;

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{BulkManners, Fault, FaultRule, LocalOrg, Match, Options, Rule, RuleAction};
use pgrx_tests::{rows, run};

use super::{accounts, settle, until};
use crate::connections::{connect_crm, with_org};

const ROWS: usize = 9_000;

fn asked(org: &LocalOrg, method: &str, part: &str) -> usize {
    org.calls().iter().filter(|call| call.method == method && call.path.contains(part)).count()
}

/// An org whose jobs take so many looks, and a sync with it. Some objects have an identity.
fn synced(polls: u64, more: &str) -> (LocalOrg, Cluster, Client) {
    let (org, cluster, mut c) = accounts(Options::default(), more);
    org.set_bulk(BulkManners { polls, ..BulkManners::default() });
    settle(&mut c);
    org.clear_calls();
    (org, cluster, c)
}

const INSERT: &str = "INSERT INTO accounts (account_name, annual_revenue, industry_type)
    SELECT 'n' || i, i, CASE WHEN i % 3 = 0 THEN 'Energy' END FROM generate_series(1, 9000) i";

/// Every row is a record, once.
#[track_caller]
fn same(c: &mut Client, org: &LocalOrg, count: usize) {
    let mut here: Vec<String> = rows(
        c,
        "SELECT concat_ws('|', sf_id, account_name, annual_revenue::int, industry_type) FROM accounts WHERE sf_id IS NOT NULL",
    );
    here.sort();
    let records = org.records("Account");
    let mut there: Vec<String> = records
        .iter()
        .map(|r| {
            let text = |name: &str| r[name].as_str().map(str::to_owned);
            let revenue = r["AnnualRevenue"].as_f64().map(|n| n.to_string());
            let parts = [text("Id"), text("Name"), revenue, text("Industry")];
            parts.into_iter().flatten().collect::<Vec<_>>().join("|")
        })
        .collect();
    there.sort();
    assert_eq!(there.len(), count);
    assert!(here == there, "{:?}\n{:?}", &here[..here.len().min(5)], &there[..there.len().min(5)]);
    let names: BTreeSet<&str> = records.iter().filter_map(|r| r["Name"].as_str()).collect();
    assert_eq!(names.len(), count, "some are there twice");
    until(
        c,
        "SELECT (SELECT count(*) FROM sync._intent) + (SELECT count(*) FROM sync._write_job)",
        "0",
    );
}

#[test]
fn a_long_backlog_of_new_rows_takes_a_few_calls() {
    for identity in ["{}", r#"{"identity": "External_Id__c"}"#] {
        let (org, _cluster, mut c) = synced(1, identity);
        org.add_rule(Rule {
            object: "Account".into(),
            action: RuleAction::Reject {
                field: "Name".into(),
                value: "n4711".into(),
                message: "no perfume".into(),
            },
        });
        run(&mut c, INSERT);
        until(&mut c, "SELECT count(sf_id) FROM accounts", &(ROWS - 1).to_string());
        same(&mut c, &org, ROWS - 1);
        // The refused one waits with its reason, and goes on when it is mended.
        let waits = "SELECT key || ' ' || (message || COALESCE(detail, '') LIKE '%no perfume%') FROM sync.queue";
        assert_eq!(rows(&mut c, waits), ["4711 true"]);
        run(&mut c, "UPDATE accounts SET account_name = 'mended' WHERE id = 4711");
        until(&mut c, "SELECT count(sf_id) FROM accounts", &ROWS.to_string());
        settle(&mut c);
        same(&mut c, &org, ROWS);
        assert!(asked(&org, "POST", "/jobs/ingest") >= 1);
        let writes = asked(&org, "POST", "/composite") + asked(&org, "PATCH", "/composite");
        assert!(writes < 6, "{writes} calls beside the job");
        // And the job is put away.
        assert!(cluster::poll(std::time::Duration::from_secs(20), || {
            asked(&org, "DELETE", "/jobs/ingest") == asked(&org, "POST", "/jobs/ingest")
        }));
    }
}

/// What is changed or deleted here while its job is under way waits for it.
#[test]
fn rows_that_change_while_their_job_is_under_way() {
    let (org, _cluster, mut c) = synced(2, "{}");
    run(&mut c, INSERT);
    until(&mut c, "SELECT count(*) > 0 FROM sync._write_job", "t");
    run(
        &mut c,
        "UPDATE accounts SET account_name = 'edited' WHERE id = 5; DELETE FROM accounts WHERE id = 6",
    );
    until(&mut c, "SELECT count(sf_id) FROM accounts", &(ROWS - 1).to_string());
    settle(&mut c);
    same(&mut c, &org, ROWS - 1);
    assert!(org.records("Account").iter().any(|r| r["Name"] == "edited"));
    assert!(!org.records("Account").iter().any(|r| r["Name"] == "n6"));
}

/// P8: whoever starts after a crash asks the job what came of it, and creates nothing twice.
#[test]
fn a_crash_while_a_job_is_under_way_doubles_nothing() {
    for identity in ["{}", r#"{"identity": "External_Id__c"}"#] {
        let (org, mut cluster, mut c) = synced(3, identity);
        run(&mut c, INSERT);
        until(&mut c, "SELECT count(*) > 0 FROM sync._write_job", "t");
        // Begun, and not ended.
        assert!(cluster::poll(std::time::Duration::from_secs(30), || asked(
            &org,
            "PATCH",
            "/jobs/ingest"
        ) > 0));
        drop(c);
        cluster.crash().unwrap();
        cluster.start().unwrap();
        let mut c = cluster.connect("postgres").unwrap();
        until(&mut c, "SELECT count(sf_id) FROM accounts", &ROWS.to_string());
        settle(&mut c);
        same(&mut c, &org, ROWS);
    }
}

#[test]
fn what_a_job_did_not_do_is_done_otherwise_and_what_it_did_is_found() {
    let job = |method: &str, path: &str, fault| FaultRule {
        matches: Match { method: Some(method.into()), path: Some(path.into()), ..Match::default() },
        ..FaultRule::once(fault)
    };
    let faults = [
        // It cannot even be made.
        job(
            "POST",
            "/jobs/ingest",
            Fault::Error {
                status: 403,
                code: "FEATURENOTENABLED".into(),
                message: "no jobs".into(),
            },
        ),
        // Its commit is lost on the way there, and on the way back.
        job("PATCH", "/jobs/ingest", Fault::CutBefore),
        job("PATCH", "/jobs/ingest", Fault::CutAfter),
        // It fails before it has done anything.
        job("GET", "/jobs/ingest", Fault::FailJob { message: "InternalServerError : oops".into() }),
        // What it did cannot be had any more.
        job("GET", "/successfulResults", Fault::ExpireJob),
    ];
    for fault in faults {
        let (org, _cluster, mut c) = synced(1, "{}");
        org.fault(fault.clone());
        run(&mut c, INSERT);
        until(&mut c, "SELECT count(sf_id) FROM accounts", &ROWS.to_string());
        settle(&mut c);
        println!("{fault:?}");
        same(&mut c, &org, ROWS);
    }
}

/// Where the org decides nothing, nothing has to be read before it is written over.
#[test]
fn a_copy_in_the_org_is_filled_changed_and_emptied_by_jobs() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        "CREATE TABLE accounts (id serial PRIMARY KEY, account_name text, annual_revenue numeric, industry_type text)",
    );
    run(&mut c, INSERT);
    run(
        &mut c,
        r#"SELECT sync.create_sync('accounts', '{"source": {"table": "accounts"}, "target": {"connection": "crm", "object": "Account"},
             "sync_type": "one_way", "delete_limit": 1000000, "field_mappings": [{"source": "account_name", "target": "Name"},
               {"source": "annual_revenue", "target": "AnnualRevenue"}, {"source": "industry_type", "target": "Industry"}]}')"#,
    );
    let held = |org: &LocalOrg| -> f64 {
        org.records("Account").iter().filter_map(|r| r["AnnualRevenue"].as_f64()).sum()
    };
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    settle(&mut c);
    assert_eq!((org.records("Account").len(), held(&org)), (ROWS, 9000.0 * 9001.0 / 2.0));
    // Some of them lose a value, which is not the same as keeping it.
    run(
        &mut c,
        "UPDATE accounts SET annual_revenue = 2 * id, industry_type = NULLIF(industry_type, 'Energy')",
    );
    settle(&mut c);
    assert_eq!((org.records("Account").len(), held(&org)), (ROWS, 9000.0 * 9001.0));
    assert!(org.records("Account").iter().all(|r| r["Industry"].is_null()));
    run(&mut c, "DELETE FROM accounts WHERE id > 10");
    settle(&mut c);
    assert_eq!(org.records("Account").len(), 10);
    let made = |kind: &str| {
        org.calls().iter().filter(|call| call.method == "POST" && call.path.ends_with(kind)).count()
    };
    assert_eq!(made("/jobs/ingest"), 3);
    let beside = asked(&org, "POST", "/composite")
        + asked(&org, "PATCH", "/composite")
        + asked(&org, "DELETE", "/composite");
    assert!(beside < 6, "{beside} calls beside the jobs");
}
