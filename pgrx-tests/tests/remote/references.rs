//! A foreign key here is a lookup there: the links of the parents' sync translate between them.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Options};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::{Value, json};

use super::until;
use crate::connections::{connect_crm, with_org};

const TABLES: &str = "
    CREATE TABLE account (id serial PRIMARY KEY, name text);
    CREATE TABLE contact (id serial PRIMARY KEY, name text, account_id bigint REFERENCES account DEFERRABLE,
                          boss_id int REFERENCES contact DEFERRABLE INITIALLY DEFERRED);";

fn org() -> (LocalOrg, Cluster, Client) {
    let (org, cluster) = with_org(Options { history: true, ..Options::default() }, &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(&mut c, TABLES);
    (org, cluster, c)
}

fn accounts(c: &mut Client) {
    run(
        c,
        r#"SELECT sync.create_sync('accounts', '{
             "source": {"connection": "crm", "object": "Account"}, "target": "account",
             "field_mappings": [{"source": "Name", "target": "name"}],
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1}}')"#,
    );
}

/// Contacts, whose table is the source here; `reference` is what the mapping of the account says beside its columns.
fn contacts(c: &mut Client, reference: &str) {
    run(
        c,
        &format!(
            r#"SELECT sync.create_sync('contacts', '{{
                 "source": "contact", "target": {{"connection": "crm", "object": "Contact"}},
                 "field_mappings": [{{"source": "name", "target": "LastName"}},
                   {{"source": "account_id", "target": "AccountId"{reference}}},
                   {{"source": "boss_id", "target": "ReportsToId"}}],
                 "sync_type": "bidirectional", "ongoing_sync": {{"polling_interval_seconds": 1}}}}')"#
        ),
    );
}

#[track_caller]
fn settled(c: &mut Client) {
    for sync in ["accounts", "contacts"] {
        let told = query_one(c, &format!("SELECT settled, parked FROM sync.wait('{sync}', '60s')"));
        assert_eq!(
            told,
            "t|0",
            "{:?}",
            rows(c, "SELECT sync, key, state, message, detail FROM sync.queue")
        );
    }
}

/// `name: account, boss` of the contacts of the org, by name.
fn there(org: &LocalOrg) -> Vec<String> {
    let (accounts, contacts) = (org.records("Account"), org.records("Contact"));
    let named = |of: &[Value], id: &Value, name: &str| {
        if id.is_null() {
            return "-".to_owned();
        }
        let found = of.iter().find(|record| record["Id"] == *id);
        found.map_or_else(
            || id.to_string(),
            |record| record[name].as_str().unwrap_or("?").to_owned(),
        )
    };
    let mut all: Vec<String> = contacts
        .iter()
        .map(|contact| {
            format!(
                "{}: {}, {}",
                contact["LastName"].as_str().unwrap_or("?"),
                named(&accounts, &contact["AccountId"], "Name"),
                named(&contacts, &contact["ReportsToId"], "LastName")
            )
        })
        .collect();
    all.sort_unstable();
    all
}

/// The same of the tables.
const HERE: &str = "SELECT string_agg(format('%s: %s, %s', c.name, COALESCE(a.name, '-'), COALESCE(b.name, '-')), '; ' ORDER BY c.name)
      FROM contact c LEFT JOIN account a ON a.id = c.account_id LEFT JOIN contact b ON b.id = c.boss_id";

#[track_caller]
fn becomes(org: &LocalOrg, c: &mut Client, wanted: &[&str]) {
    let same = cluster::poll(std::time::Duration::from_secs(60), || there(org) == wanted);
    assert!(
        same,
        "{:?}\n{:?}",
        there(org),
        rows(c, "SELECT sync, key, state, message, detail FROM sync.queue")
    );
    until(c, HERE, &wanted.join("; "));
}

#[test]
fn a_foreign_key_is_a_lookup_both_ways() {
    let (org, _cluster, mut c) = org();
    let theirs = org.insert("Account", json!({"Name": "theirs"})).unwrap();
    let boss = org.insert("Contact", json!({"LastName": "boss", "AccountId": theirs})).unwrap();
    org.insert("Contact", json!({"LastName": "clerk", "ReportsToId": boss})).unwrap();
    // The children's sync first: it is the parents' that has to be served, and loaded, first.
    accounts(&mut c);
    contacts(&mut c, "");
    becomes(&org, &mut c, &["boss: theirs, -", "clerk: -, boss"]);
    settled(&mut c);
    assert_eq!(
        query_one(
            &mut c,
            "SELECT count(*) FROM sync.errors WHERE sync = 'contacts' AND key NOT LIKE '003%'"
        ),
        "0"
    );

    run(
        &mut c,
        "BEGIN;
         INSERT INTO account (name) VALUES ('ours');
         INSERT INTO contact (name, account_id, boss_id)
              VALUES ('new', (SELECT id FROM account WHERE name = 'ours'), (SELECT id FROM contact WHERE name = 'boss'));
         UPDATE contact SET account_id = (SELECT id FROM account WHERE name = 'ours') WHERE name = 'clerk';
         COMMIT",
    );
    becomes(&org, &mut c, &["boss: theirs, -", "clerk: ours, boss", "new: ours, boss"]);
    settled(&mut c);

    let new =
        |name: &str| org.records("Contact").into_iter().find(|r| r["LastName"] == name).unwrap();
    let id = new("new")["Id"].as_str().unwrap().to_owned();
    org.edit(&id, json!({"AccountId": theirs, "ReportsToId": null})).unwrap();
    becomes(&org, &mut c, &["boss: theirs, -", "clerk: ours, boss", "new: theirs, -"]);
    settled(&mut c);
    // Nothing of it was an edit that had to go back.
    let writes = org.history().len();
    run(&mut c, "UPDATE contact SET name = name; UPDATE account SET name = name");
    settled(&mut c);
    assert_eq!(org.history().len(), writes);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

#[test]
fn a_child_waits_for_its_parent_and_goes_the_moment_it_is_there() {
    let (org, _cluster, mut c) = org();
    accounts(&mut c);
    contacts(&mut c, r#", "reference": "accounts""#);
    settled(&mut c);
    run(&mut c, "SELECT sync.pause('accounts')");
    run(
        &mut c,
        "INSERT INTO account (name) VALUES ('late'); INSERT INTO contact (name, account_id) VALUES ('early', 1), ('none', NULL)",
    );
    until(&mut c, "SELECT COALESCE(max(state), '') FROM sync.queue", "waiting for parent");
    assert_eq!(
        rows(&mut c, "SELECT sync, key, sqlstate, message, detail FROM sync.queue"),
        ["contacts|1|23503|the record that \"account_id\" points to is not synced yet|\
          \"account_id\" of public.contact is 1, and sync \"accounts\" has no such record on both sides."]
    );
    becomes_there(&org, &["none: -, -"]);
    // By now it would be tried again in half a minute.
    run(&mut c, "UPDATE sync._queue SET next_at = now() + interval '1 hour'");
    run(&mut c, "SELECT sync.resume('accounts')");
    becomes(&org, &mut c, &["early: late, -", "none: -, -"]);
    settled(&mut c);
}

#[track_caller]
fn becomes_there(org: &LocalOrg, wanted: &[&str]) {
    let same = cluster::poll(std::time::Duration::from_secs(60), || there(org) == wanted);
    assert!(same, "{:?}", there(org));
}

/// New at the same time, each the other's boss; one that is its own; and one whose boss comes later in the table.
#[test]
fn records_that_point_to_one_another_go_in_two_passes() {
    let (org, _cluster, mut c) = org();
    accounts(&mut c);
    contacts(&mut c, "");
    settled(&mut c);
    run(
        &mut c,
        "BEGIN; INSERT INTO account (name) VALUES ('a');
         INSERT INTO contact (id, name, account_id, boss_id) VALUES (1, 'x', 1, 2), (2, 'y', 1, 3), (3, 'z', NULL, 1), (4, 'self', 1, 4),
                             (5, 'low', NULL, 6), (6, 'high', NULL, NULL);
         COMMIT",
    );
    let all = ["high: -, -", "low: -, high", "self: a, self", "x: a, y", "y: a, z", "z: -, x"];
    becomes(&org, &mut c, &all);
    settled(&mut c);
    assert_eq!(org.records("Contact").len(), 6);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

/// Keys that no two of the tables share.
#[test]
fn a_field_may_point_to_records_of_several_syncs() {
    let (org, _cluster, mut c) = org();
    run(
        &mut c,
        r#"CREATE TABLE client (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text);
           CREATE TABLE deal (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text, stage text, closes date);
           CREATE TABLE todo (id serial PRIMARY KEY, subject text, about uuid);
           SELECT sync.create_sync('clients', '{"source": "client", "target": {"connection": "crm", "object": "Account"},
             "field_mappings": [{"source": "name", "target": "Name"}], "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1}}');
           SELECT sync.create_sync('deals', '{"source": "deal", "target": {"connection": "crm", "object": "Opportunity"},
             "field_mappings": [{"source": "name", "target": "Name"}, {"source": "stage", "target": "StageName"}, {"source": "closes", "target": "CloseDate"}],
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1}}');
           SELECT sync.create_sync('todos', '{"source": "todo", "target": {"connection": "crm", "object": "Task"},
             "field_mappings": [{"source": "subject", "target": "Subject"}, {"source": "about", "target": "WhatId", "reference": ["clients", "deals"]}],
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1}}');
           INSERT INTO client (name) VALUES ('client'); INSERT INTO deal (name, stage, closes) VALUES ('deal', 'Prospecting', '2030-01-01');
           INSERT INTO todo (subject, about) SELECT 'call', id FROM client UNION ALL SELECT 'sign', id FROM deal"#,
    );
    let about = || {
        let mut all: Vec<String> = org
            .records("Task")
            .iter()
            .map(|r| {
                format!(
                    "{} {:.3}",
                    r["Subject"].as_str().unwrap(),
                    r["WhatId"].as_str().unwrap_or("-")
                )
            })
            .collect();
        all.sort_unstable();
        all
    };
    let there =
        cluster::poll(std::time::Duration::from_secs(60), || about() == ["call 001", "sign 006"]);
    assert!(
        there,
        "{:?} {:?}",
        about(),
        rows(&mut c, "SELECT sync, state, message, detail FROM sync.queue")
    );
    let deal = org.records("Opportunity")[0]["Id"].clone();
    let task = org.records("Task").into_iter().find(|r| r["Subject"] == "call").unwrap();
    org.edit(task["Id"].as_str().unwrap(), json!({"WhatId": deal})).unwrap();
    until(&mut c, "SELECT count(*) FROM todo WHERE about = (SELECT id FROM deal)", "2");
}

#[test]
fn a_reference_that_does_not_fit_is_refused() {
    let (org, _cluster, mut c) = org();
    org.define_field("Contact", Field::new("Code__c", FieldType::String)).unwrap();
    accounts(&mut c);
    let mut refused = |reference: &str, column: &str| {
        refusal(
            &mut c,
            &format!(
                r#"SELECT sync.create_sync('contacts', '{{
                     "source": "contact", "target": {{"connection": "crm", "object": "Contact"}},
                     "field_mappings": [{{"source": "name", "target": "LastName"}},
                       {{"source": "{column}", "target": "AccountId", "reference": {reference}}}]}}')"#
            ),
        )
    };
    assert_eq!(
        refused("\"acounts\"", "account_id"),
        "42704 sync \"acounts\" does not exist\n\
         DETAIL: \"field_mappings[1].reference\" names it as the sync of the records that the field points to. Between the same systems there are: contacts, accounts.\n\
         HINT: Create the sync of those records first, or name another one; a sync that belongs to somebody else cannot be named."
    );
    let wrong = refused("\"accounts\"", "name");
    assert!(
        wrong.starts_with(
            "22023 column \"name\" of public.contact cannot hold keys of public.account"
        ),
        "{wrong}"
    );
    let twice = refused("[\"accounts\", \"accounts\"]", "account_id");
    assert!(twice.contains("field_mappings[1].reference"), "{twice}");
    contacts(&mut c, r#", "reference": "accounts""#);
    assert_eq!(
        refusal(&mut c, "SELECT sync.drop_sync('accounts')"),
        "2BP01 sync \"accounts\" is named by another one\n\
         DETAIL: By its records those of \"contacts\" know what they point to.\n\
         HINT: End that one first, or take the \"reference\" out of its document with sync.alter_sync."
    );
    run(&mut c, "SELECT sync.drop_sync('contacts'); SELECT sync.drop_sync('accounts')");
}
