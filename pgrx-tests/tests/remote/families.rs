//! Parents and their children that are new at the same time leave in one call (Composite Graph).

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{FaultRule, Field, FieldType, LocalOrg, Options};
use pgrx_tests::{query_one, rows, run};

use super::until;
use crate::connections::{connect_crm, with_org};

/// Accounts with a key of people's making, and contacts that name their account by it.
fn families() -> (LocalOrg, Cluster, Client) {
    let (org, cluster) = with_org(Options::default(), &[]);
    let key = Field::new("ERP_Id__c", FieldType::String).length(20).unique().external_id();
    org.define_field("Account", key).unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE contact (id serial PRIMARY KEY, sf_id text UNIQUE, name text, account_erp text);
           CREATE TABLE account (id serial PRIMARY KEY, sf_id text UNIQUE, name text, erp text);
           SELECT sync.create_sync('contacts', '{
             "source": "contact", "target": {"connection": "crm", "object": "Contact"},
             "field_mappings": [{"source": "sf_id", "target": "Id"}, {"source": "name", "target": "LastName"},
               {"source": "account_erp", "target": "Account.ERP_Id__c"}],
             "error_handling": {"retry_strategy": {"max_attempts": 1}},
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 3600}}');
           SELECT sync.create_sync('accounts', '{
             "source": "account", "target": {"connection": "crm", "object": "Account"},
             "identity": {"field": "ERP_Id__c", "column": "erp"},
             "field_mappings": [{"source": "sf_id", "target": "Id"}, {"source": "name", "target": "Name"},
               {"source": "erp", "target": "ERP_Id__c"}],
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 3600}}')"#,
    );
    settled(&mut c, "t|0", "t|0");
    org.clear_calls();
    (org, cluster, c)
}

#[track_caller]
fn settled(c: &mut Client, accounts: &str, contacts: &str) {
    for (sync, wanted) in [("accounts", accounts), ("contacts", contacts)] {
        let told = query_one(c, &format!("SELECT settled, parked FROM sync.wait('{sync}', '60s')"));
        assert_eq!(
            told,
            wanted,
            "{sync}: {:?}",
            rows(c, "SELECT sync, key, state, message FROM sync.queue")
        );
    }
}

/// How many calls were made of this path.
fn calls(org: &LocalOrg, ending: &str) -> usize {
    org.calls().iter().filter(|call| call.path.ends_with(ending)).count()
}

/// Names of contacts with those of their accounts.
fn there(org: &LocalOrg) -> Vec<String> {
    let accounts = org.records("Account");
    let named = |contact: &serde_json::Value| {
        let account = accounts.iter().find(|account| account["Id"] == contact["AccountId"]);
        format!(
            "{} of {}",
            contact["LastName"],
            account.map_or(&contact["AccountId"], |a| &a["Name"])
        )
        .replace('"', "")
    };
    let mut all: Vec<String> = org.records("Contact").iter().map(named).collect();
    all.sort_unstable();
    all
}

const FAMILY: &str = "BEGIN;
    INSERT INTO contact (name, account_erp) VALUES ('x', '1'), ('y', '1'), ('z', '2');
    INSERT INTO account (name, erp) VALUES ('a', '1'), ('b', '2');
    COMMIT";

#[test]
fn a_family_of_one_transaction_is_one_call() {
    let (org, _cluster, mut c) = families();
    run(&mut c, FAMILY);
    settled(&mut c, "t|0", "t|0");
    assert_eq!(there(&org), ["x of a", "y of a", "z of b"]);
    assert_eq!(calls(&org, "/composite/graph"), 1, "{:?}", org.calls());
    // No other call wrote anything, and no child came before its parent.
    assert_eq!(calls(&org, "/composite") + calls(&org, "/composite/sobjects"), 0);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.errors"), "0");
    until(
        &mut c,
        "SELECT (SELECT count(*) FROM contact WHERE sf_id LIKE '003%') + (SELECT count(*) FROM account WHERE sf_id LIKE '001%')",
        "5",
    );
    // A child alone goes as ever.
    run(&mut c, "INSERT INTO contact (name, account_erp) VALUES ('late', '2')");
    settled(&mut c, "t|0", "t|0");
    assert_eq!(there(&org)[0], "late of b");
    assert_eq!(calls(&org, "/composite/graph"), 1);
    assert_eq!(org.unserved().len(), 0, "{:?}", org.unserved());
}

#[test]
fn a_record_that_is_refused_keeps_neither_its_parent_nor_its_siblings() {
    let (org, _cluster, mut c) = families();
    run(&mut c, &FAMILY.replace("'y'", "NULL"));
    settled(&mut c, "t|0", "t|1");
    let queue = "SELECT sync, state, message FROM sync.queue";
    assert_eq!(rows(&mut c, queue), ["contacts|review|Required fields are missing: [LastName]"]);
    assert_eq!(calls(&org, "/composite/graph"), 2, "{:?}", org.calls());
    assert_eq!(there(&org), ["x of a", "z of b"]);
    run(&mut c, "UPDATE contact SET name = 'y' WHERE name IS NULL");
    settled(&mut c, "t|0", "t|0");
    assert_eq!(there(&org), ["x of a", "y of a", "z of b"]);
}

#[test]
fn a_refused_parent_keeps_its_own_children_waiting_and_no_others() {
    let (org, _cluster, mut c) = families();
    run(&mut c, &FAMILY.replace("('a', '1')", "(NULL, '1')"));
    until(&mut c, "SELECT count(*) FROM sync.queue", "3");
    assert_eq!(there(&org), ["z of b"]);
    assert_eq!(
        rows(&mut c, "SELECT sync, state, count(*) FROM sync.queue GROUP BY 1, 2 ORDER BY 1")[1..],
        ["contacts|waiting for parent|2"]
    );
    run(&mut c, "UPDATE account SET name = 'a' WHERE name IS NULL");
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    assert_eq!(there(&org), ["x of a", "y of a", "z of b"]);
}

#[test]
fn a_lost_answer_doubles_nobody() {
    for fault in [local_org::Fault::CutAfter, local_org::Fault::CutBefore] {
        let (org, _cluster, mut c) = families();
        org.fault(FaultRule::once(fault).path("/composite/graph"));
        run(&mut c, FAMILY);
        until(&mut c, "SELECT count(*) FROM contact WHERE sf_id IS NOT NULL", "3");
        settled(&mut c, "t|0", "t|0");
        assert_eq!(there(&org), ["x of a", "y of a", "z of b"]);
        assert_eq!(org.records("Account").len(), 2);
    }
}
