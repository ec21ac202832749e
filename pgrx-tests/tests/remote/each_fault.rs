//! Every fault that the org can be told to have, one after the other, while both sides are edited: whatever it is, both
//! sides are equal in the end, no record is doubled, and what was refused has been told with its code.
//! `SYNC_EXT_FAULT=INVALID_FIELD cargo suite every_error_by_name_1` has one only.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cluster::postgres::Client;
use local_org::{Fault, FaultRule, LocalOrg, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{accounts, settle, until};

/// The errors are shared out among so many orgs, which have them side by side.
const SHARES: usize = 4;
/// For a fault that a person has to look at there is somebody who does, after this.
const LOOKED_AT: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(180);
/// An error of each kind, for requests that read.
const READS: [&str; 5] = [
    "INVALID_SESSION_ID",
    "SERVER_UNAVAILABLE",
    "API_DISABLED_FOR_ORG",
    "JSON_PARSER_ERROR",
    "INSUFFICIENT_ACCESS",
];

/// What is refused is tried again soon, and often.
const QUICK: &str = r#"{"error_handling": {"retry_strategy": {"max_attempts": 1000, "initial_delay_seconds": 0.1, "backoff_factor": 1.1}},
        "delete_limit": 1000000}"#;

fn options() -> Options {
    Options { daily_limit: 10_000_000, ..Options::default() }
}

fn is_equal(c: &mut Client, org: &LocalOrg) -> bool {
    let here: Vec<String> = rows(c, "SELECT account_name FROM accounts ORDER BY 1");
    let here: Vec<&str> = here.iter().map(String::as_str).collect();
    let there = super::names(org);
    let distinct: BTreeSet<&String> = there.iter().collect();
    assert_eq!(distinct.len(), there.len(), "doubled: {there:?}");
    let mut here = here;
    here.sort_unstable();
    here == there && query_one(c, "SELECT count(*) FROM sync.queue") == "0"
}

/// Edits of all kinds on both sides while the faults strike; waits until both sides are equal again.
#[track_caller]
fn round(c: &mut Client, org: &LocalOrg, name: &str, faults: Vec<FaultRule>) -> Duration {
    let ids: Vec<String> =
        rows(c, "SELECT sf_id FROM accounts WHERE sf_id IS NOT NULL ORDER BY id LIMIT 4");
    for fault in faults {
        org.fault(fault);
    }
    let begun = Instant::now();
    run(
        c,
        &format!(
            "INSERT INTO accounts (account_name) SELECT '{name} made ' || i FROM generate_series(1, 3) i;
             UPDATE accounts SET account_name = '{name} edited' WHERE sf_id = '{}';
             DELETE FROM accounts WHERE sf_id = '{}'",
            ids[0], ids[1]
        ),
    );
    org.edit(&ids[2], json!({"Name": format!("{name} there")})).unwrap();
    org.insert("Account", json!({"Name": format!("{name} made there")})).unwrap();
    org.delete(&ids[3]).unwrap();
    let made = format!("SELECT count(*) FROM accounts WHERE account_name = '{name} made there'");
    loop {
        if is_equal(c, org) && query_one(c, &made) == "1" {
            break;
        }
        if begun.elapsed() > LOOKED_AT {
            run(c, "SELECT sync.retry(id) FROM sync.queue WHERE state = 'review'");
            let broken =
                "SELECT count(*) FROM sync.connections WHERE state IN ('refused', 'unreachable')";
            if query_one(c, broken) != "0" {
                // Somebody sees to it, and says so.
                rows(c, "SELECT * FROM sync.test_connection('crm')");
            }
        }
        assert!(
            begun.elapsed() < LONGEST,
            "{name}: not equal\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
            rows(c, "SELECT account_name FROM accounts ORDER BY 1"),
            super::names(org),
            rows(c, "SELECT key, state, attempts, message, detail FROM sync.queue"),
            rows(c, "SELECT sync, state, detail FROM sync.status"),
            rows(c, "SELECT name, state, detail FROM sync.connections"),
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    org.clear_faults();
    begun.elapsed()
}

fn share(number: usize) {
    let (org, _cluster, mut c) = accounts(options(), QUICK);
    let some: usize = 4 * FaultRule::names().count();
    run(
        &mut c,
        &format!(
            "INSERT INTO accounts (account_name) SELECT 'n' || i FROM generate_series(1, {some}) i"
        ),
    );
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", &some.to_string());
    let mut slow = Vec::new();
    // After these nothing is asked for minutes, as is held in `allowance` and `schema_changes`.
    let slow_ones = ["REQUEST_LIMIT_EXCEEDED", "LIMIT_EXCEEDED", "INVALID_FIELD"];
    let only = std::env::var("SYNC_EXT_FAULT").ok();
    let names = FaultRule::names().filter(|(code, _)| match &only {
        Some(only) => only == code,
        None => !slow_ones.contains(code),
    });
    for (code, of_record) in names.skip(number).step_by(SHARES) {
        let fault = || FaultRule::named(code).unwrap();
        let mut faults = if of_record {
            // So often that it does not pass as what is tried again at once.
            vec![fault().times(20)]
        } else {
            vec![fault().path("/composite")]
        };
        // A read that is refused is tried again after ten seconds: one of each kind.
        if only.is_some() || READS.contains(&code) {
            faults.push(fault().path("/query").times(1));
        }
        let took = round(&mut c, &org, code, faults);
        slow.push((took, code));
        if of_record {
            let gone = "the record is not there any more";
            let told = format!(
                "SELECT count(*) > 0 FROM sync.errors WHERE concat_ws(' ', message, detail) ~ '{code}|{gone}'"
            );
            assert_eq!(
                query_one(&mut c, &told),
                "t",
                "{code} was told nowhere: {:?}",
                rows(&mut c, "SELECT message, detail FROM sync.errors LIMIT 5")
            );
            run(&mut c, "DELETE FROM sync._error");
        }
    }
    slow.sort();
    println!("slowest: {:?}", &slow[slow.len().saturating_sub(8)..]);
}

#[test]
fn every_error_by_name_1() {
    share(0);
}

#[test]
fn every_error_by_name_2() {
    share(1);
}

#[test]
fn every_error_by_name_3() {
    share(2);
}

#[test]
fn every_error_by_name_4() {
    share(3);
}

#[test]
fn every_other_fault() {
    let (org, _cluster, mut c) = accounts(options(), QUICK);
    run(
        &mut c,
        "INSERT INTO accounts (account_name) SELECT 'n' || i FROM generate_series(1, 200) i",
    );
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "200");
    let faults = [
        ("latency", Fault::Latency { ms: 700 }),
        ("page", Fault::Html503),
        ("before", Fault::CutBefore),
        ("after", Fault::CutAfter),
        ("during", Fault::CutDuring),
        ("session", Fault::ExpireSession),
        ("slow", Fault::SlowBody { ms: 700 }),
    ];
    for (name, fault) in faults {
        let strikes = |path| FaultRule::once(fault.clone()).times(2).path(path);
        round(&mut c, &org, name, vec![strikes("/query"), strikes("/composite")]);
    }
}
