//! What the user of a connection may not do, found by a test of it.

use super::{connect_crm, with_org};
use cluster::postgres::Client;
use local_org::{Fault, FaultRule, LocalOrg, Object, Options};
use pgrx_tests::{rows, run};

fn findings(client: &mut Client) -> Vec<String> {
    rows(client, "SELECT what, ok, detail, remedy FROM sync.test_connection('crm')")
}

fn of<'a>(found: &'a [String], what: &str) -> Vec<&'a String> {
    found.iter().filter(|row| row.starts_with(what)).collect()
}

#[track_caller]
fn finds(client: &mut Client, start: &str, parts: &[&str]) {
    let found = findings(client);
    let fits = of(&found, start).iter().any(|row| parts.iter().all(|part| row.contains(part)));
    assert!(fits, "{start} {parts:?}\n{found:#?}");
}

fn synced(options: Options) -> (LocalOrg, cluster::Cluster, Client) {
    let (org, cluster) = with_org(options, &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE accounts (id serial PRIMARY KEY, sf_id text, name text, industry text, site text, modified timestamptz);
           SELECT sync.create_sync('accounts', '{"source": {"connection": "crm", "object": "Account"}, "target": "accounts",
             "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Name", "target": "name"},
               {"source": "Industry", "target": "industry"}, {"source": "LastModifiedDate", "target": "modified"}],
             "sync_type": "bidirectional"}');
           CREATE TABLE sites (id serial PRIMARY KEY, sf_id text, site text);
           SELECT sync.create_sync('sites', '{"source": {"connection": "crm", "object": "account"}, "target": "sites",
             "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Site", "target": "site"}]}')"#,
    );
    (org, cluster, c)
}

#[test]
fn a_field_that_is_hidden_or_read_only_is_named_with_its_remedy() {
    let (org, _cluster, mut c) = synced(Options::default());
    let found = findings(&mut c);
    // System fields are written by nobody, and no remark is due.
    assert!(found.iter().all(|row| row.contains("|t|")), "{found:#?}");
    assert_eq!(of(&found, "object ").len(), 1, "{found:#?}");
    finds(&mut c, "object Account|t|", &["Read, Create, Edit, Delete", "accounts, sites"]);

    org.set_access("Account", "Industry", true, false).unwrap();
    finds(
        &mut c,
        "field Account.Industry|f|",
        &[
            "may be read by the user and not written; mapped by accounts",
            "Edit Access",
            "field-level security",
        ],
    );
    org.set_access("Account", "Industry", false, false).unwrap();
    org.set_access("Account", "Site", false, false).unwrap();
    let read = ["is not there, or the user may not read it", "Read Access", "permission set"];
    finds(&mut c, "field Account.Industry|f|", &read);
    finds(&mut c, "field Account.Site|f|", &["mapped by sites"]);
    // A sync that only reads needs no more than that.
    org.set_access("Account", "Industry", true, true).unwrap();
    org.set_access("Account", "Site", true, false).unwrap();
    let found = findings(&mut c);
    assert!(of(&found, "field ").is_empty(), "{found:#?}");
    // Nobody has asked yet what a contact looks like.
    run(
        &mut c,
        r#"CREATE TABLE contacts (id serial PRIMARY KEY, name text);
           SELECT sync.create_sync('contacts', '{"source": {"connection": "crm", "object": "Contact"}, "target": "contacts",
             "field_mappings": [{"source": "LastNmae", "target": "name"}]}')"#,
    );
    finds(&mut c, "field Contact.LastNmae|f|", &["Perhaps \"LastName\" is meant"]);
}

/// Of an object that is only read no more is asked than that.
#[test]
fn a_right_on_the_object_that_is_missing_is_named() {
    let locked = Object { createable: false, deletable: false, ..Object::new("Locked__c", "a0L") };
    let shut = |name: &str, prefix: &str, queryable| Object {
        createable: false,
        updateable: false,
        deletable: false,
        queryable,
        ..Object::new(name, prefix)
    };
    let objects = vec![locked, shut("Seen__c", "a0S", true), shut("Shut__c", "a0H", false)];
    let (_org, _cluster, mut c) = synced(Options { objects, ..Options::default() });
    for (name, object, more) in [
        ("locked", "Locked__c", r#", "sync_type": "bidirectional""#),
        ("seen", "Seen__c", ""),
        ("shut", "Shut__c", ""),
        ("gone", "Gone__c", ""),
    ] {
        run(
            &mut c,
            &format!(
                r#"CREATE TABLE {name} (id serial PRIMARY KEY, sf_id text, name text);
                   SELECT sync.create_sync('{name}', '{{"source": {{"connection": "crm", "object": "{object}"}}, "target": "{name}",
                     "field_mappings": [{{"source": "Id", "target": "sf_id"}}, {{"source": "Name", "target": "name"}}]{more}}}')"#
            ),
        );
    }
    finds(
        &mut c,
        "object Locked__c|f|",
        &[
            "lacks Create, Delete, which locked needs",
            "Give the user Create, Delete",
            "permission set",
        ],
    );
    finds(&mut c, "object Seen__c|t|", &["the user has Read"]);
    finds(&mut c, "object Shut__c|f|", &["lacks Read, which shut needs"]);
    finds(&mut c, "object Gone__c|f|", &["NOT_FOUND", "Check that the object Gone__c exists"]);
}

#[test]
fn who_and_what_is_on_the_other_side_is_told() {
    let (org, _cluster, mut c) = synced(Options::default());
    org.set_usage(100, 1000);
    let (user, _) = org.users();
    finds(
        &mut c,
        "org|t|",
        &[&org.org_id(), "Local Org, Developer Edition, no sandbox, instance LOC0", "at 127.0.0.1"],
    );
    finds(&mut c, "user|t|", &["integration@example.com", &user]);
    finds(&mut c, "API version|t|", &["62.0; the org serves 31.0 to 66.0"]);
    finds(
        &mut c,
        "quota|t|",
        &["of 1000 calls of the day are used", "leave 200 of them to others"],
    );
    run(
        &mut c,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"api_version": "30.0"}}')"#,
    );
    finds(&mut c, "API version|f|", &["30.0 is not served", "api_version"]);
    run(
        &mut c,
        r#"SELECT sync.alter_connection('crm', '{"credentials": {"api_version": "67.0"}}')"#,
    );
    finds(&mut c, "API version|f|", &["67.0 is not served", "api_version"]);
    run(&mut c, r#"SELECT sync.alter_connection('crm', '{"credentials": {"api_version": null}}')"#);
    org.fault(
        FaultRule::always(Fault::Error {
            status: 403,
            code: "API_DISABLED_FOR_ORG".into(),
            message: "API is not enabled for this Organization or Partner".into(),
        })
        .path("/services/data/v"),
    );
    finds(&mut c, "login|f|", &["API is not enabled", "API Enabled", "permission set"]);
}
