//! Many objects at once: `sync.import_objects`.

use cluster::postgres::Client;
use local_org::Options;
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::json;

use super::until;
use crate::connections::{connect_crm, with_org};

const SYNCS: &str = "SELECT sync FROM sync.status ORDER BY sync";

/// Imports, and says how many were made, were there, and failed.
fn import(c: &mut Client, arguments: &str) -> String {
    query_one(c, &format!("CALL sync.import_objects('crm', {arguments})"))
}

#[test]
fn objects_get_tables_and_syncs_parents_first_and_one_that_fails_stops_no_other() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    let account = org.insert("Account", json!({"Name": "one"})).unwrap();
    org.insert("Contact", json!({"LastName": "King", "AccountId": account})).unwrap();

    let counts = import(&mut c, "'{Contact, account,Acount,Opportunity}'");
    assert_eq!(counts, "3|0|1");
    assert_eq!(
        rows(&mut c, SYNCS),
        ["salesforce.account", "salesforce.contact", "salesforce.opportunity"]
    );
    // The parents were first.
    assert_eq!(
        query_one(
            &mut c,
            "SELECT to_regclass('salesforce.account')::oid < to_regclass('salesforce.contact')::oid"
        ),
        "t"
    );
    let log = cluster.log_text();
    let place = |what: &str| log.find(what).unwrap_or_else(|| panic!("{what}: {log}"));
    let failed = place("Acount: not imported:");
    assert!(log[failed..].contains("Perhaps you meant \"Account\"."), "{log}");
    until(&mut c, "SELECT count(*) FROM salesforce.contact WHERE last_name = 'King'", "1");
    until(
        &mut c,
        "SELECT count(*) FROM salesforce.contact c JOIN salesforce.account a ON a.sf_id = c.account_id",
        "1",
    );

    // Called again it makes what is missing. A table in the way of another object keeps that one alone.
    run(&mut c, "CREATE VIEW salesforce.lead AS SELECT 1 AS x");
    let counts = import(&mut c, "'{Contact,Account,Opportunity,Lead,Case}', direction => 'both'");
    assert_eq!(counts, "1|3|1");
    assert_eq!(rows(&mut c, SYNCS).len(), 4);
    run(&mut c, "DROP VIEW salesforce.lead");
    // Nor does what can be no name at all stop the others.
    assert_eq!(import(&mut c, "'{no name!,Contact}'"), "0|1|1");
    assert_eq!(import(&mut c, "'{Lead}', 'other place'"), "1|0|0");
    assert_eq!(query_one(&mut c, "SELECT to_regclass('\"other place\".lead') IS NOT NULL"), "t");
}

#[test]
fn what_cannot_be_imported_at_all_is_refused_before_anything_is_made() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    for none in ["'{}'", "NULL", "'{NULL,\"\"}'"] {
        let refused = refusal(&mut c, &format!("CALL sync.import_objects('crm', {none})"));
        assert!(refused.contains("needs the objects to import"), "{refused}");
        assert!(refused.contains("sync.objects"), "{refused}");
    }
    // It commits after each object, which nobody may within a transaction.
    run(&mut c, "BEGIN");
    let refused = refusal(&mut c, "CALL sync.import_objects('crm', '{Account}')");
    assert!(refused.contains("invalid transaction termination"), "{refused}");
    run(&mut c, "ROLLBACK");
    org.remove_client(org.client_id());
    let refused = refusal(&mut c, "CALL sync.import_objects('crm', '{Account,Contact}')");
    assert!(refused.contains("28000"), "{refused}");
    assert_eq!(
        query_one(&mut c, "SELECT count(*) FROM pg_namespace WHERE nspname = 'salesforce'"),
        "0"
    );

    // Whoever may make syncs may import.
    run(&mut c, "CREATE ROLE maker; SELECT sync.grant('maker'); SET ROLE maker");
    let refused = refusal(&mut c, "CALL sync.import_objects('crm', '{Account}')");
    assert!(refused.contains("permission denied for connection"), "{refused}");
}
