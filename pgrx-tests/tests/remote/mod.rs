//! Two-way sync with another system, held against the local org.

mod allowance;
mod audit;
mod both_ways;
mod bulk;
mod campaign;
mod departed;
mod each_fault;
mod events;
mod exits;
mod families;
mod fencing;
mod first_load;
mod fragments;
mod heroku_connect;
mod hubs;
mod importing;
mod ingest;
mod loops;
mod losses;
mod lost_answers;
mod mending;
mod one_record;
mod planning;
mod polling;
mod reckoning;
mod references;
mod registering;
mod relations;
mod schema_changes;
mod screens;
mod several;
mod strategies;
mod trouble;
mod unanswered;
mod usage;

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::LocalOrg;
use pgrx_tests::{query_one, rows, run};

use crate::connections::{connect_crm, with_org};

/// The table of the Stacksync text.
pub(crate) const ACCOUNTS: &str =
    "CREATE TABLE accounts (id SERIAL PRIMARY KEY, sf_id VARCHAR(18) UNIQUE, account_name VARCHAR(255),
       industry_type VARCHAR(100), annual_revenue DECIMAL(18,2), last_modified TIMESTAMP, last_sync TIMESTAMP)";

/// That table, and the sync of it with the org's accounts; `more` is a further
/// piece of the document.
pub(crate) fn accounts(options: local_org::Options, more: &str) -> (LocalOrg, Cluster, Client) {
    accounts_on(with_org(options, &[]), more)
}

/// The same with an org and a cluster that are there already.
pub(crate) fn accounts_on(
    (org, cluster): (LocalOrg, Cluster),
    more: &str,
) -> (LocalOrg, Cluster, Client) {
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(&mut c, ACCOUNTS);
    create_sync(&mut c, more);
    (org, cluster, c)
}

/// An account on both sides, and its id; the org is asked for changes so rarely that nothing of what
/// happens there is heard of by itself.
pub(crate) fn rarely_asked() -> (LocalOrg, Cluster, Client, String) {
    let (org, cluster, mut c) = accounts(local_org::Options::default(), "{}");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    let id = query_one(&mut c, "SELECT sf_id FROM accounts");
    (org, cluster, c, id)
}

pub(crate) fn create_sync(c: &mut Client, more: &str) {
    run(
        c,
        &format!(
            r#"SELECT sync.create_sync('accounts', '{{
                 "source": {{"connection": "crm", "object": "Account"}}, "target": {{"table": "accounts"}},
                 "field_mappings": [
                   {{"source": "Id", "target": "sf_id"}},
                   {{"source": "Name", "target": "account_name"}},
                   {{"source": "Industry", "target": "industry_type"}},
                   {{"source": "AnnualRevenue", "target": "annual_revenue"}},
                   {{"source": "LastModifiedDate", "target": "last_modified"}}],
                 "sync_type": "bidirectional",
                 "ongoing_sync": {{"mode": "real_time", "polling_interval_seconds": 1}},
                 "conflict_resolution": {{"strategy": "last_write_wins", "timestamp_field": "LastModifiedDate"}}}}', '{more}')"#
        ),
    );
}

/// Waits until all that was changed here is there, or waits for somebody.
#[track_caller]
pub(crate) fn settle(c: &mut Client) {
    assert_eq!(
        query_one(c, "SELECT settled, parked FROM sync.wait('accounts', '60s')"),
        "t|0",
        "{:?}\n{:?}\n{:?}",
        rows(c, "SELECT sync, state, detail FROM sync.status"),
        rows(c, "SELECT key, state, attempts, message, detail FROM sync.queue"),
        rows(c, "SELECT name, state, detail FROM sync.connections"),
    );
}

/// The names of the org's accounts, in order.
pub(crate) fn names(org: &LocalOrg) -> Vec<String> {
    let mut names: Vec<String> = org
        .records("Account")
        .iter()
        .map(|r| r["Name"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort();
    names
}

/// Waits until a query of one value answers this.
#[track_caller]
pub(crate) fn until(c: &mut Client, sql: &str, wanted: &str) {
    let mut last = String::new();
    let found = cluster::poll(std::time::Duration::from_secs(60), || {
        last = query_one(c, sql);
        last == wanted
    });
    assert!(
        found,
        "{sql}: {last}, not {wanted}\n{:?}\n{:?}",
        rows(c, "SELECT sync, state, detail FROM sync.status"),
        rows(c, "SELECT key, state, attempts, message, detail FROM sync.queue")
    );
}
