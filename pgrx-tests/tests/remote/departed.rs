//! Deletes that are not to delete on the other side, where that is another system, or comes from one.

use local_org::{Fault, FaultRule, Field, FieldType, Options};
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::{ACCOUNTS, create_sync, names, settle, until};
use crate::connections::{connect_crm, with_org};

#[test]
fn a_record_of_the_org_is_marked_once_whatever_becomes_of_the_answer() {
    for fault in [None, Some(Fault::CutAfter), Some(Fault::CutBefore)] {
        let (org, cluster) = with_org(Options::default(), &[]);
        org.define_field("Account", Field::new("Left__c", FieldType::DateTime)).unwrap();
        let mut c = cluster.connect("postgres").unwrap();
        connect_crm(&mut c, &org);
        run(&mut c, ACCOUNTS);
        create_sync(&mut c, r#"{"on_target_delete": {"action": "mark", "column": "Left__c"}}"#);
        run(&mut c, "INSERT INTO accounts (account_name) VALUES ('one'), ('two')");
        settle(&mut c);
        until(&mut c, "SELECT count(sf_id) FROM accounts", "2");
        if let Some(fault) = fault.clone() {
            org.fault(FaultRule::once(fault).path("composite"));
        }
        run(&mut c, "DELETE FROM accounts WHERE account_name = 'one'");
        settle(&mut c);
        assert!(cluster::poll(std::time::Duration::from_secs(30), || {
            org.records("Account").iter().any(|r| r["Name"] == "one" && !r["Left__c"].is_null())
        }));
        settle(&mut c);
        assert_eq!(names(&org), ["one", "two"], "{fault:?}");
        let two = org.records("Account").into_iter().find(|r| r["Name"] == "two").unwrap();
        assert!(two["Left__c"].is_null());
        // An edit of what has stayed there brings nothing back; the others go on.
        let one = org.records("Account").into_iter().find(|r| r["Name"] == "one").unwrap();
        org.edit(one["Id"].as_str().unwrap(), json!({"Industry": "Energy"})).unwrap();
        org.edit(two["Id"].as_str().unwrap(), json!({"Industry": "Banking"})).unwrap();
        until(&mut c, "SELECT max(industry_type) FROM accounts", "Banking");
        settle(&mut c);
        assert_eq!(rows(&mut c, "SELECT account_name FROM accounts"), ["two"]);
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    }
}

#[test]
fn a_row_stays_when_the_org_deletes_its_record() {
    let (org, _cluster, mut c) = super::accounts(
        Options::default(),
        r#"{"on_source_delete": {"action": "mark", "column": "last_sync"}}"#,
    );
    let id = org.insert("Account", json!({"Name": "one"})).unwrap();
    until(&mut c, "SELECT count(*) FROM accounts", "1");
    settle(&mut c);
    org.delete(&id).unwrap();
    until(&mut c, "SELECT count(*) FROM accounts WHERE last_sync IS NOT NULL", "1");
    run(&mut c, "UPDATE accounts SET account_name = 'mine'");
    settle(&mut c);
    assert!(names(&org).is_empty());
    // Restored there, it is the same record again.
    org.undelete(&id).unwrap();
    org.edit(&id, json!({"Industry": "Energy"})).unwrap();
    until(&mut c, "SELECT string_agg(industry_type, ',') FROM accounts", "Energy");
    settle(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM accounts"), "1");
    assert_eq!(names(&org).len(), 1);
}

#[test]
fn edits_where_a_sync_only_writes_are_undone_on_either_side() {
    // Pulled only: the row is edited, and deleted.
    let (org, _cluster, mut c) = super::accounts(Options::default(), "{}");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('accounts', '{"sync_type": "one_way", "on_target_edit": "overwrite"}')"#,
    );
    org.insert("Account", json!({"Name": "one", "Industry": "Energy"})).unwrap();
    until(&mut c, "SELECT count(*) FROM accounts", "1");
    settle(&mut c);
    run(&mut c, "UPDATE accounts SET account_name = 'edited'");
    until(&mut c, "SELECT account_name FROM accounts", "one");
    run(&mut c, "DELETE FROM accounts");
    until(
        &mut c,
        "SELECT string_agg(account_name || industry_type, ',') FROM accounts",
        "oneEnergy",
    );
    settle(&mut c);
    assert_eq!(names(&org), ["one"]);
    run(&mut c, "SELECT sync.drop_sync('accounts')");
    // Pushed only: the record is edited.
    run(
        &mut c,
        r#"SELECT sync.create_sync('pushed', '{"source": "accounts", "target": {"connection": "crm", "object": "Account"},
             "on_target_edit": "overwrite", "match_on": [{"source": "sf_id", "target": "Id"}], "ongoing_sync": {"polling_interval_seconds": 1},
             "field_mappings": [{"source": "account_name", "target": "Name"}, {"source": "industry_type", "target": "Industry"}]}')"#,
    );
    let pushed = query_one(&mut c, "SELECT settled, parked FROM sync.wait('pushed', '60s')");
    assert_eq!(pushed, "t|0", "{:?}", rows(&mut c, "SELECT * FROM sync.queue"));
    let id = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
    org.edit(&id, json!({"Name": "edited there", "Phone": "1"})).unwrap();
    assert!(cluster::poll(std::time::Duration::from_secs(30), || names(&org) == ["one"]));
    assert_eq!(org.get(&id).unwrap()["Phone"], "1");
}
