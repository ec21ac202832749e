//! Rows and records that leave the filter and take the other side's along, where one side is another system's.

use local_org::{Fault, FaultRule, Field, FieldType, LocalOrg, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{ACCOUNTS, accounts, create_sync, names, settle, until};
use crate::connections::{connect_crm, with_org};

const OURS: &str = r#"{"where": "last_sync IS NULL", "on_filter_exit": "delete"}"#;
const THEIRS: &str =
    r#"{"source_where": "\"Industry\" IS DISTINCT FROM ''Secret''", "on_filter_exit": "delete"}"#;
const ROWS: &str = "SELECT string_agg(account_name, ',' ORDER BY account_name) FROM accounts";

fn id_of(org: &LocalOrg, name: &str) -> String {
    let record = org.records("Account").into_iter().find(|r| r["Name"] == name).unwrap();
    record["Id"].as_str().unwrap().to_owned()
}

#[test]
fn a_row_that_leaves_deletes_the_record_whatever_becomes_of_the_answer() {
    for fault in [None, Some(Fault::CutAfter), Some(Fault::CutBefore)] {
        let (org, cluster, mut c) = accounts(Options::default(), OURS);
        run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
        settle(&mut c);
        until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
        let id = id_of(&org, "one");
        if let Some(fault) = fault.clone() {
            org.fault(FaultRule::once(fault).path("composite"));
        }
        run(&mut c, "UPDATE accounts SET last_sync = now() WHERE account_name = 'one'");
        settle(&mut c);
        assert!(
            cluster::poll(std::time::Duration::from_secs(30), || names(&org) == ["two"]),
            "{fault:?}"
        );
        settle(&mut c);
        run(&mut c, "UPDATE accounts SET industry_type = 'Energy' WHERE account_name = 'one'");
        settle(&mut c);
        assert_eq!(query_one(&mut c, ROWS), "one,two");
        assert_eq!(names(&org), ["two"]);
        // Back, it is another record over there, once.
        run(&mut c, "UPDATE accounts SET last_sync = NULL WHERE account_name = 'one'");
        settle(&mut c);
        assert!(
            cluster::poll(std::time::Duration::from_secs(30), || names(&org) == ["one", "two"]),
            "{fault:?} {:?}",
            rows(&mut c, "SELECT * FROM sync.queue")
        );
        settle(&mut c);
        assert_ne!(id_of(&org, "one"), id);
        org.edit(&id_of(&org, "one"), json!({"Industry": "Retail"})).unwrap();
        until(&mut c, "SELECT industry_type FROM accounts WHERE account_name = 'one'", "Retail");
        settle(&mut c);
        assert_eq!(query_one(&mut c, ROWS), "one,two");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
        drop(cluster);
    }
}

#[test]
fn a_record_of_the_org_that_leaves_takes_its_row_along() {
    let (org, _cluster, mut c) = accounts(Options::default(), THEIRS);
    let one = org.insert("Account", json!({"Name": "one", "Industry": "Energy"})).unwrap();
    org.insert("Account", json!({"Name": "two", "Industry": "Energy"})).unwrap();
    until(&mut c, ROWS, "one,two");
    settle(&mut c);
    org.edit(&one, json!({"Industry": "Secret"})).unwrap();
    until(&mut c, ROWS, "two");
    settle(&mut c);
    assert_eq!(names(&org), ["one", "two"]);
    org.edit(&one, json!({"AnnualRevenue": 5})).unwrap();
    run(&mut c, &format!("SELECT sync.pull('accounts', '{one}')"));
    settle(&mut c);
    assert_eq!(query_one(&mut c, ROWS), "two");
    org.edit(&one, json!({"Industry": "Banking"})).unwrap();
    until(&mut c, ROWS, "one,two");
    settle(&mut c);
    run(&mut c, "UPDATE accounts SET account_name = 'eins' WHERE account_name = 'one'");
    settle(&mut c);
    assert!(cluster::poll(std::time::Duration::from_secs(30), || names(&org) == ["eins", "two"]));
    // What we write can take it out as well.
    run(&mut c, "UPDATE accounts SET industry_type = 'Secret' WHERE account_name = 'two'");
    until(&mut c, ROWS, "eins");
    settle(&mut c);
    assert_eq!(names(&org), ["eins", "two"]);
    assert_eq!(org.get(&id_of(&org, "two")).unwrap()["Industry"], "Secret");
}

#[test]
fn an_edit_over_there_that_nobody_knew_of_is_told_when_its_record_is_deleted() {
    let (org, _cluster, mut c) = accounts(Options::default(), OURS);
    run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one')");
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "1");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    settle(&mut c);
    org.edit(&id_of(&org, "one"), json!({"Industry": "Energy"})).unwrap();
    run(&mut c, "UPDATE accounts SET last_sync = now()");
    settle(&mut c);
    assert!(cluster::poll(std::time::Duration::from_secs(30), || names(&org).is_empty()));
    until(
        &mut c,
        "SELECT kind || ' ' || field FROM sync.conflicts",
        "update_deleted industry_type",
    );
    assert_eq!(query_one(&mut c, ROWS), "one");
}

#[test]
fn a_record_of_the_org_is_marked_and_the_same_one_when_its_row_is_back() {
    for fault in [None, Some(Fault::CutAfter), Some(Fault::CutBefore)] {
        let (org, cluster) = with_org(Options::default(), &[]);
        org.define_field("Account", Field::new("Left__c", FieldType::Boolean)).unwrap();
        let mut c = cluster.connect("postgres").unwrap();
        connect_crm(&mut c, &org);
        run(&mut c, ACCOUNTS);
        create_sync(
            &mut c,
            r#"{"where": "last_sync IS NULL", "on_filter_exit": "delete",
                "on_target_delete": {"action": "mark", "column": "Left__c"}}"#,
        );
        run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
        settle(&mut c);
        until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
        let id = id_of(&org, "one");
        let is = |name: &str, marked: bool| {
            let found = cluster::poll(std::time::Duration::from_secs(30), || {
                org.records("Account")
                    .iter()
                    .any(|r| r["Name"] == name && (r["Left__c"] == true) == marked)
            });
            assert!(found, "{name} {marked} {fault:?}: {:?}", org.records("Account"));
        };
        if let Some(fault) = fault.clone() {
            org.fault(FaultRule::once(fault).path("composite"));
        }
        run(
            &mut c,
            "UPDATE accounts SET last_sync = now(), account_name = 'eins' WHERE account_name = 'one'",
        );
        is("one", true);
        settle(&mut c);
        settle(&mut c);
        // Nothing travels meanwhile.
        org.edit(&id, json!({"Industry": "Energy"})).unwrap();
        run(&mut c, "UPDATE accounts SET annual_revenue = 7 WHERE account_name = 'eins'");
        run(
            &mut c,
            "SELECT sync.pull('accounts', sf_id) FROM accounts WHERE account_name = 'eins'",
        );
        settle(&mut c);
        is("one", true);
        is("two", false);
        let row = "SELECT industry_type, annual_revenue FROM accounts WHERE account_name = 'eins'";
        assert_eq!(query_one(&mut c, row), "|7.00", "{fault:?}");
        run(&mut c, "UPDATE accounts SET last_sync = NULL WHERE account_name = 'eins'");
        is("eins", false);
        until(&mut c, row, "Energy|7.00");
        settle(&mut c);
        assert_eq!(id_of(&org, "eins"), id);
        assert_eq!(names(&org), ["eins", "two"]);
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    }
}

const STATE: &str = "SELECT state FROM sync.status";
const DETAIL: &str = "SELECT detail FROM sync.status";

/// Ten accounts on both sides, of which three may be deleted unasked.
fn ten(more: &str) -> (LocalOrg, cluster::Cluster, cluster::postgres::Client) {
    let (org, cluster, mut c) = accounts(Options::default(), more);
    run(&mut c, r#"SELECT sync.alter_sync('accounts', '{"delete_limit": 3}')"#);
    run(
        &mut c,
        "INSERT INTO accounts (account_name, industry_type) SELECT 'n' || i, 'Energy' FROM generate_series(0, 9) i",
    );
    settle(&mut c);
    until(&mut c, "SELECT count(sf_id) FROM accounts", "10");
    settle(&mut c);
    assert_eq!(names(&org).len(), 10);
    (org, cluster, c)
}

#[test]
fn rows_that_leave_are_counted_before_any_of_it_is_sent() {
    for (answer, after) in [("confirm", 5), ("discard", 10)] {
        let (org, _cluster, mut c) = ten(OURS);
        run(&mut c, "UPDATE accounts SET last_sync = now() WHERE account_name < 'n5'");
        until(&mut c, STATE, "needs decision");
        assert_eq!(
            query_one(&mut c, DETAIL),
            "5 rows of public.accounts left the filter, more than the limit of 3; nothing has been deleted from crm:Account"
        );
        assert_eq!(names(&org).len(), 10);
        run(&mut c, &format!("SELECT sync.resume('accounts', {answer} => true)"));
        settle(&mut c);
        assert!(
            cluster::poll(std::time::Duration::from_secs(30), || names(&org).len() == after),
            "{answer}: {:?}",
            names(&org)
        );
        // And by another filter.
        run(&mut c, r#"SELECT sync.alter_sync('accounts', '{"where": "account_name > ''n8''"}')"#);
        until(&mut c, STATE, "needs decision");
        assert_eq!(
            query_one(&mut c, DETAIL),
            "4 or more rows of public.accounts are outside the filter, more than the limit of 3; nothing has been deleted from crm:Account"
        );
        assert_eq!(names(&org).len(), after);
        run(&mut c, &format!("SELECT sync.resume('accounts', {answer} => true)"));
        settle(&mut c);
        let left = if answer == "confirm" { 1 } else { 10 };
        assert!(
            cluster::poll(std::time::Duration::from_secs(30), || names(&org).len() == left),
            "{answer}: {:?}",
            names(&org)
        );
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "10");
    }
}

#[test]
fn records_of_the_org_that_leave_are_counted_before_any_row_is_deleted() {
    for (answer, after) in [("confirm", "5"), ("discard", "10")] {
        let (org, _cluster, mut c) = ten(THEIRS);
        run(&mut c, "SELECT sync.pause('accounts')");
        for n in 0..5 {
            org.edit(&id_of(&org, &format!("n{n}")), json!({"Industry": "Secret"})).unwrap();
        }
        run(&mut c, "SELECT sync.resume('accounts')");
        until(&mut c, STATE, "needs decision");
        assert_eq!(
            query_one(&mut c, DETAIL),
            "5 or more records of crm:Account left the filter, more than the limit of 3; nothing of it has been deleted from public.accounts"
        );
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "10");
        run(&mut c, &format!("SELECT sync.resume('accounts', {answer} => true)"));
        settle(&mut c);
        until(&mut c, "SELECT count(*) FROM accounts", after);
        settle(&mut c);
        run(
            &mut c,
            r#"SELECT sync.alter_sync('accounts', '{"source_where": "\"Name\" > ''n8''"}')"#,
        );
        until(&mut c, STATE, "needs decision");
        assert_eq!(
            query_one(&mut c, DETAIL),
            "4 or more rows of crm:Account are outside the filter, more than the limit of 3; nothing has been deleted from public.accounts"
        );
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), after);
        run(&mut c, &format!("SELECT sync.resume('accounts', {answer} => true)"));
        settle(&mut c);
        until(
            &mut c,
            "SELECT count(*) FROM accounts",
            if answer == "confirm" { "1" } else { "10" },
        );
        settle(&mut c);
        assert_eq!(names(&org).len(), 10);
    }
}

/// What was answered for one side's rows is no answer for the other's.
#[test]
fn each_side_is_asked_about_by_itself() {
    let (org, _cluster, mut c) =
        ten(r#"{"on_filter_exit": "delete", "where": "last_sync IS NULL"}"#);
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts',
             '{"where": null, "source_where": "\"Name\" > ''n3''", "target_where": "account_name < ''n6''"}')"#,
    );
    let mut asked = Vec::new();
    for _ in 0..2 {
        until(&mut c, STATE, "needs decision");
        asked.push(query_one(&mut c, DETAIL));
        run(&mut c, "SELECT sync.resume('accounts', discard => true)");
    }
    settle(&mut c);
    asked.sort();
    assert!(asked[0].contains("rows of crm:Account are outside the filter"), "{asked:?}");
    assert!(asked[1].contains("rows of public.accounts are outside the filter"), "{asked:?}");
    assert_eq!(names(&org).len(), 10);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "10");
}
