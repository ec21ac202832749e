//! Rows and records become pairs: what is equal is not written, what was not sent is not written over.

use std::time::Duration;

use local_org::LocalOrg;
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::{Value, json};

use super::{family, import, resume, two_way, versions};
use crate::remote::until;

#[test]
fn tables_become_syncs_that_pair_their_rows_and_write_none() {
    let (org, _cluster, mut c) = family();
    let before = (versions(&mut c, "account"), versions(&mut c, "contact"));
    assert_eq!(
        import(&mut c, ""),
        ["Account|salesforce.account||created|", "Contact|salesforce.contact||created|"]
    );
    assert_eq!(
        rows(&mut c, "SELECT sync, state, direction FROM sync.status ORDER BY sync"),
        ["salesforce.account|paused|->", "salesforce.contact|paused|->"]
    );
    resume(&mut c);
    let links = "SELECT count(*) FROM sync._link WHERE deleted_at IS NULL";
    until(&mut c, links, "6");
    let conflicts = "SELECT key, field, source_value, target_value FROM sync.conflicts";
    assert_eq!(rows(&mut c, conflicts), [""; 0]);
    assert_eq!((versions(&mut c, "account"), versions(&mut c, "contact")), before);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.queue"), "0");
    // The org's changes come, and what is written here stays here. Triggers can tell who writes.
    run(
        &mut c,
        "CREATE TABLE seen (who text);
         CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES (session_user); RETURN NULL; END $$;
         CREATE ROLE app; GRANT INSERT ON seen TO app; GRANT USAGE ON SCHEMA salesforce TO app; GRANT ALL ON salesforce.account TO app;
         CREATE TRIGGER of_the_app AFTER UPDATE ON salesforce.account FOR EACH ROW WHEN (session_user = 'app') EXECUTE FUNCTION see();
         CREATE TRIGGER of_all AFTER UPDATE ON salesforce.account FOR EACH ROW EXECUTE FUNCTION see()",
    );
    let records = org.records("Account");
    let id = records[0]["Id"].as_str().unwrap();
    org.edit(id, json!({"Name": "there", "Tags__c": "green;blue", "AnnualRevenue": 0.1})).unwrap();
    run(&mut c, "UPDATE salesforce.account SET name = 'here' WHERE id = 14");
    until(
        &mut c,
        "SELECT name || tags__c || annualrevenue FROM salesforce.account WHERE id = 7",
        "theregreen;blue0.1",
    );
    assert!(!org.calls().iter().any(|call| call.method == "PATCH" || call.body.contains("here")));
    run(
        &mut c,
        "TRUNCATE seen; SET SESSION AUTHORIZATION app; UPDATE salesforce.account SET id = id WHERE id = 14; RESET SESSION AUTHORIZATION",
    );
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM seen WHERE who = 'app'"), "2");
    org.edit(id, json!({"NumberOfEmployees": 77})).unwrap();
    until(&mut c, "SELECT numberofemployees FROM salesforce.account WHERE id = 7", "77");
    let superuser = "SELECT rolname FROM pg_roles WHERE oid = 10";
    let superuser = query_one(&mut c, superuser);
    assert_eq!(rows(&mut c, "SELECT who FROM seen WHERE who <> 'app'"), [superuser]);

    // Both ways: what was written here meanwhile goes over, and every kind of column.
    two_way(&mut c);
    run(
        &mut c,
        "UPDATE salesforce.account SET annualrevenue = 12345.67, numberofemployees = 9, tags__c = 'red;green', industry = NULL
           WHERE id = 21;
         UPDATE salesforce.contact SET account__erp_id__c = 'k1' WHERE id = 14;
         INSERT INTO salesforce.account (name, erp_id__c) VALUES ('new', 'k9');
         INSERT INTO salesforce.contact (lastname, account__erp_id__c) VALUES ('child', 'k9');
         DELETE FROM salesforce.contact WHERE id = 7",
    );
    until(&mut c, "SELECT count(*) FROM salesforce.account WHERE sfid IS NULL", "0");
    until(
        &mut c,
        "SELECT count(*) FROM salesforce.contact WHERE sfid IS NULL OR accountid IS NULL",
        "0",
    );
    let account = |name: &str| org.records("Account").into_iter().find(|r| r["Name"] == name);
    let contacts = || {
        let of = |r: &Value| {
            format!("{} {}", r["LastName"].as_str().unwrap(), r["AccountId"].as_str().unwrap())
        };
        let mut all: Vec<String> = org.records("Contact").iter().map(of).collect();
        all.sort();
        all
    };
    let wanted = |org: &LocalOrg| {
        let a3 = account("a3").unwrap();
        org.count("Account") == 4
            && account("here").is_some()
            && a3["AnnualRevenue"] == 12345.67
            && a3["NumberOfEmployees"] == 9
            && a3["Tags__c"] == "red;green"
            && a3["Industry"].is_null()
            && contacts()
                == [
                    format!("c2 {id}"),
                    format!("c3 {}", a3["Id"].as_str().unwrap()),
                    format!("child {}", account("new").unwrap()["Id"].as_str().unwrap()),
                ]
    };
    assert!(
        cluster::poll(Duration::from_secs(60), || wanted(&org)),
        "{:?}\n{:?}\n{:?}",
        org.records("Account"),
        contacts(),
        rows(&mut c, "SELECT * FROM sync.queue")
    );
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    // Nobody has written into a log that nobody reads.
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM salesforce._trigger_log"), "0");
}

/// A record that was deleted while nobody watched is not made again for the row that it has left behind.
#[test]
fn a_row_whose_record_is_gone_waits_for_a_person() {
    let (org, _cluster, mut c) = family();
    let ids: Vec<String> =
        org.records("Contact").iter().map(|r| r["Id"].as_str().unwrap().to_owned()).collect();
    for id in &ids[..2] {
        org.delete(id).unwrap();
        org.purge(id).unwrap();
    }
    import(&mut c, "");
    resume(&mut c);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM salesforce.contact"), "3");
    two_way(&mut c);
    until(&mut c, "SELECT count(*) FROM sync.queue WHERE state = 'review'", "2");
    assert_eq!(org.count("Contact"), 1);
    let told =
        query_one(&mut c, "SELECT sqlstate, message, detail FROM sync.queue WHERE key = '7'");
    let wanted = format!(
        "02000|the row holds the id of a record that the other system does not have|The id is {}. The record was deleted there, or the user of the connection may not see it.",
        ids[0]
    );
    assert_eq!(told, wanted);
    // One goes, for the other a record is made.
    run(
        &mut c,
        "DELETE FROM salesforce.contact WHERE id = 7; UPDATE salesforce.contact SET sfid = NULL WHERE id = 14",
    );
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
    until(&mut c, "SELECT count(sfid) FROM salesforce.contact", "2");
    assert_eq!(org.count("Contact"), 2);
    assert_ne!(query_one(&mut c, "SELECT sfid FROM salesforce.contact WHERE id = 14"), ids[1]);
}

#[test]
fn what_was_not_sent_is_not_written_over() {
    let (org, _cluster, mut c) = family();
    let ids: Vec<String> =
        org.records("Account").iter().map(|r| r["Id"].as_str().unwrap().to_owned()).collect();
    // One edit waits, one was refused, one row is new; and a delete has not been sent.
    run(
        &mut c,
        "ALTER TABLE salesforce.account DISABLE TRIGGER USER;
         UPDATE salesforce.account SET name = 'waits', _hc_lastop = 'PENDING' WHERE id = 7;
         UPDATE salesforce.account SET name = 'refused', _hc_lastop = 'FAILED', _hc_err = '{}' WHERE id = 14;
         INSERT INTO salesforce.account (name, erp_id__c) VALUES ('new', 'k9');
         INSERT INTO salesforce._trigger_log (state, action, table_name, record_id) VALUES
           ('NEW', 'DELETE', 'account', 1), ('SUCCESS', 'DELETE', 'account', 2), ('READONLY', 'UPDATE', 'contact', 7);
         CREATE TABLE told AS SELECT * FROM sync.import_heroku_connect('crm')",
    );
    assert_eq!(
        rows(&mut c, "SELECT object, access FROM told"),
        ["Account|read_write", "Contact|read_only"]
    );
    let note = query_one(&mut c, "SELECT note FROM told WHERE object = 'Account'");
    assert!(
        note.contains(
            "3 rows hold what Heroku Connect has not sent or the org has refused, 1 of them new"
        ),
        "{note}"
    );
    assert!(note.contains("1 deletes have not been sent"), "{note}");
    org.edit(&ids[2], json!({"Name": "later"})).unwrap();
    run(&mut c, "UPDATE salesforce.account SET systemmodstamp = 'epoch'");
    resume(&mut c);
    until(
        &mut c,
        "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL AND sync = 'salesforce.account'",
        "3",
    );
    // Each side has kept its own, and a person decides; but not about what the org computes.
    let stamps = "SELECT count(*) FROM salesforce.account WHERE systemmodstamp > 'epoch'";
    assert_eq!(query_one(&mut c, stamps), "3");
    let names = "SELECT string_agg(name, ' ' ORDER BY id) FROM salesforce.account";
    assert_eq!(query_one(&mut c, names), "waits refused a3 new");
    run(
        &mut c,
        "SELECT sync.resolve(id, keep => 'crm') FROM sync.conflicts WHERE target_value IN ('a3', 'refused')",
    );
    until(&mut c, names, "waits a2 later new");
    two_way(&mut c);
    run(
        &mut c,
        "SELECT sync.resolve(id, keep => 'local') FROM sync.conflicts WHERE winner IS NULL",
    );
    until(&mut c, "SELECT count(*) FROM salesforce.account WHERE sfid IS NULL", "0");
    let there = || {
        let of = |r: &Value| r["Name"].as_str().unwrap_or_default().to_owned();
        let mut all: Vec<String> = org.records("Account").iter().map(of).collect();
        all.sort();
        all
    };
    let done =
        cluster::poll(Duration::from_secs(30), || there() == ["a2", "later", "new", "waits"]);
    assert!(done, "{:?}", there());
    assert_eq!(query_one(&mut c, names), "waits a2 later new");
}

/// What becomes of the triggers, and that those that are left break nobody's writes but their own.
#[test]
fn triggers_are_disabled_dropped_or_kept() {
    let enabled = "SELECT count(*) FILTER (WHERE tgenabled <> 'D'), count(*) FROM pg_trigger WHERE tgname LIKE 'hc\\_%'";
    for (triggers, wanted, says) in [
        ("disable", "0|4", "were disabled"),
        ("drop", "0|0", "were dropped"),
        ("keep", "4|4", "are kept"),
    ] {
        let (org, _cluster, mut c) = family();
        let told = rows(
            &mut c,
            &format!(
                "SELECT note FROM sync.import_heroku_connect('crm', triggers => '{triggers}')"
            ),
        );
        assert!(told.iter().all(|note| note.contains(says)), "{told:?}");
        assert_eq!(query_one(&mut c, enabled), wanted);
        resume(&mut c);
        until(&mut c, "SELECT count(*) FROM sync._link", "6");
        let write = "UPDATE salesforce.account SET name = 'x' WHERE id = 7";
        if triggers == "keep" {
            // The function is not found, for its caller and for us.
            assert!(refusal(&mut c, write).contains("get_xmlbinary"));
            let id = org.records("Account")[0]["Id"].as_str().unwrap().to_owned();
            org.edit(&id, json!({"Name": "y"})).unwrap();
            until(
                &mut c,
                "SELECT count(*) FROM sync.queue WHERE message LIKE '%get_xmlbinary%'",
                "1",
            );
        } else {
            run(&mut c, write);
            assert_eq!(query_one(&mut c, "SELECT count(*) FROM salesforce._trigger_log"), "0");
        }
    }
}

#[test]
fn columns_of_connects_own_are_kept_or_stamped() {
    let (org, _cluster, mut c) = family();
    import(&mut c, ", stamp => true");
    resume(&mut c);
    until(
        &mut c,
        "SELECT count(*) FROM salesforce.account WHERE _hc_lastop = 'synced' AND _hc_err IS NULL",
        "3",
    );
    two_way(&mut c);
    run(&mut c, "UPDATE salesforce.account SET name = NULL WHERE id = 14");
    until(
        &mut c,
        "SELECT _hc_lastop IN ('retrying', 'review') AND _hc_err IS NOT NULL FROM salesforce.account WHERE id = 14",
        "t",
    );
    assert!(org.records("Account").iter().all(|r| r["Name"].is_string()));
    run(&mut c, "UPDATE salesforce.account SET name = 'mended' WHERE id = 14");
    until(
        &mut c,
        "SELECT _hc_lastop = 'synced' AND _hc_err IS NULL FROM salesforce.account WHERE id = 14",
        "t",
    );
}
