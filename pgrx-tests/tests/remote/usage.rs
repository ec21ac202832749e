//! How the calls of an account go: `sync.api_usage` says it, and polling gives way where they would not last.

use std::time::Duration;

use local_org::{LocalOrg, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{accounts, settle, until};

const ALLOWED: u64 = 15_000;
const STATE: &str = "SELECT state FROM sync.api_usage";

/// Requests that asked for changes.
fn polls(org: &LocalOrg) -> usize {
    let asks = |call: &&local_org::Call| {
        call.query.iter().any(|(_, value)| value.contains("ORDER BY SystemModstamp"))
    };
    org.calls().iter().filter(asks).count()
}

#[test]
fn polling_gives_way_where_calls_are_few_and_changes_go_at_once() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    assert_eq!(query_one(&mut c, STATE), "ok");

    // 1,000 calls are left to us. To poll each second would take 86,400 a day.
    org.set_usage(11_000, ALLOWED);
    until(&mut c, STATE, "slowed");
    until(&mut c, "SELECT polling_stretch > 50 FROM sync.api_usage", "t");
    let said = query_one(&mut c, "SELECT detail FROM sync.api_usage");
    assert!(said.contains("times as rare as wished, so that changes need not wait"), "{said}");
    // The intervals that had begun end.
    std::thread::sleep(Duration::from_secs(2));
    let before = polls(&org);
    std::thread::sleep(Duration::from_secs(6));
    assert!(polls(&org) <= before + 1, "{before} {}", polls(&org));
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('two')");
    until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
    assert_eq!(query_one(&mut c, "SELECT next_call_in IS NULL FROM sync.connections"), "t");

    // By what they were for, ours are all that the org did not hear of from others.
    let usage = "SELECT used_by_us = push + poll + load + other, push >= 2, poll >= 1, load >= 1, other >= 2,
                        allowed, reserve, remaining < 1000, per_hour < 50, expected > 0, reserve_at IS NULL, events_by_us, events_allowed
                   FROM sync.api_usage";
    assert_eq!(query_one(&mut c, usage), "t|t|t|t|t|15000|3000|t|t|t|t|0|10000");
    let same = cluster::poll(Duration::from_secs(20), || {
        query_one(&mut c, "SELECT used FROM sync.api_usage") == org.usage().0.to_string()
    });
    assert!(same, "{} {:?}", org.usage().0, rows(&mut c, "SELECT * FROM sync.api_usage"));

    // Where the allowance is raised it is as wished again.
    org.set_usage(org.usage().0, 100 * ALLOWED);
    query_one(&mut c, "SELECT count(*) FROM sync.test_connection('crm')");
    until(&mut c, "SELECT state, polling_stretch FROM sync.api_usage", "ok|1.00");
    org.insert("Account", json!({"Name": "three"})).unwrap();
    until(&mut c, "SELECT count(sf_id) FROM accounts", "3");

    // And where others use all but the reserve, nothing goes.
    org.set_usage(90 * ALLOWED, 100 * ALLOWED);
    until(&mut c, STATE, "stopped");
    assert_eq!(query_one(&mut c, "SELECT remaining FROM sync.api_usage"), "0");
}

#[test]
fn what_was_never_called_is_said_to_be_unknown() {
    let db = pgrx_tests::db();
    let mut c = db.connect();
    crate::connections::create_crm(&mut c, "https://never-called.my.salesforce.com");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT connection, state, used IS NULL, expected IS NULL FROM sync.api_usage"
        ),
        "crm|unknown|t|t"
    );
}
