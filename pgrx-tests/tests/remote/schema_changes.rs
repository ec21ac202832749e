//! Fields of the object that come, go and change.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Options};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::json;

use super::{accounts, settle, until};
use crate::connections::{connect_crm, with_org};

/// Objects are described anew every second.
const OFTEN: &[&str] = &["sync_ext.describe_interval = 1"];

/// A small object of four fields, in full in a table that was made for it, with this policy.
fn mirrored(policy: &str) -> (LocalOrg, Cluster, Client) {
    let thing = local_org::Object::new("Thing__c", "a01")
        .with(Field::new("Code__c", FieldType::String).length(40))
        .with(Field::new("Size__c", FieldType::Double).digits(8, 2));
    let (org, cluster) = with_org(Options { objects: vec![thing], ..Options::default() }, OFTEN);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    org.insert("Thing__c", json!({"Name": "one", "Code__c": "c1", "Size__c": 1})).unwrap();
    run(
        &mut c,
        "SELECT * FROM sync.register_table('things', connection => 'crm', object => 'Thing__c', direction => 'both', name => 'accounts')",
    );
    run(
        &mut c,
        &format!(
            r#"SELECT sync.alter_sync('accounts', '{{"schema_changes": "{policy}", "ongoing_sync": {{"polling_interval_seconds": 1}}}}')"#
        ),
    );
    until(&mut c, "SELECT count(*) FROM things", "1");
    settle(&mut c);
    (org, cluster, c)
}

fn text(name: &str, length: u32) -> Field {
    Field::new(name, FieldType::String).length(length)
}

/// Waits until the latest change says this.
#[track_caller]
fn followed(c: &mut Client, wanted: &str) {
    until(
        c,
        "SELECT COALESCE((SELECT field || ': ' || change || ', ' || effect FROM sync.schema_changes ORDER BY id DESC LIMIT 1), '')",
        wanted,
    );
}

#[test]
fn a_sync_of_all_fields_follows_what_becomes_of_them() {
    let (org, _cluster, mut c) = mirrored("adapt");
    org.define_field("Thing__c", text("Colour__c", 30)).unwrap();
    followed(
        &mut c,
        "Colour__c: field added, the field is synced now: SELECT sync.map_field('accounts', source => 'Colour__c', target => 'colour__c');",
    );
    let id = query_one(&mut c, "SELECT sf_id FROM things");
    org.edit(&id, json!({"Colour__c": "red"})).unwrap();
    until(&mut c, "SELECT colour__c FROM things", "red");
    // Longer texts, both ways.
    org.define_field("Thing__c", text("Colour__c", 60)).unwrap();
    followed(
        &mut c,
        "Colour__c: length changed, column colour__c was widened: ALTER TABLE public.things ALTER COLUMN colour__c TYPE varchar(60);",
    );
    let long = "x".repeat(60);
    run(&mut c, &format!("UPDATE things SET colour__c = '{long}'"));
    settle(&mut c);
    assert_eq!(org.get(&id).unwrap()["Colour__c"], json!(long));
    // The values of a field that goes stay here, and nothing else stops.
    org.remove_field("Thing__c", "Colour__c").unwrap();
    followed(
        &mut c,
        "Colour__c: field removed, the field is not mapped any more, column colour__c keeps its values",
    );
    run(&mut c, "UPDATE things SET name = 'two'");
    settle(&mut c);
    assert_eq!(org.get(&id).unwrap()["Name"], "two");
    assert_eq!(query_one(&mut c, "SELECT colour__c FROM things"), long);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    let remedy =
        query_one(&mut c, "SELECT remedy FROM sync.schema_changes ORDER BY id DESC LIMIT 1");
    assert!(
        remedy.starts_with("Once the field is there again: SELECT sync.map_field("),
        "{remedy}"
    );
}

#[test]
fn a_sync_that_pauses_waits_until_somebody_has_looked() {
    let (org, _cluster, mut c) = mirrored("pause");
    org.define_field("Thing__c", text("Colour__c", 30)).unwrap();
    until(&mut c, "SELECT state FROM sync.status", "paused");
    let detail = query_one(&mut c, "SELECT detail FROM sync.status");
    assert!(detail.contains("Colour__c") && detail.contains("sync.schema_changes"), "{detail}");
    let remedy = query_one(&mut c, "SELECT remedy FROM sync.schema_changes");
    run(&mut c, &remedy);
    run(&mut c, "SELECT sync.resume('accounts')");
    let id = query_one(&mut c, "SELECT sf_id FROM things");
    org.edit(&id, json!({"Colour__c": "red"})).unwrap();
    until(&mut c, "SELECT colour__c FROM things", "red");
}

#[test]
fn a_sync_that_ignores_changes_says_what_they_mean_for_it() {
    let (org, _cluster, mut c) = mirrored("ignore");
    org.define_field("Thing__c", text("Colour__c", 30)).unwrap();
    followed(&mut c, "Colour__c: field added, none: the field is not synced");
    org.define_field("Thing__c", text("Code__c", 50)).unwrap();
    followed(
        &mut c,
        "Code__c: length changed, values of more than 40 characters wait in the queue, column code__c does not hold them",
    );
    let remedy =
        query_one(&mut c, "SELECT remedy FROM sync.schema_changes WHERE field = 'Code__c'");
    run(&mut c, &remedy);
    // A right that is taken away: the sync stops, and goes on by itself once it is back.
    org.set_access("Thing__c", "Size__c", false, false).unwrap();
    followed(
        &mut c,
        "Size__c: field removed, the sync stops until the field is there again, or not mapped any more",
    );
    until(&mut c, "SELECT state FROM sync.status", "failing");
    let id = query_one(&mut c, "SELECT sf_id FROM things");
    run(&mut c, "UPDATE things SET size__c = 5, name = 'mine'");
    org.set_access("Thing__c", "Size__c", true, true).unwrap();
    until(&mut c, "SELECT state FROM sync.status", "running");
    settle(&mut c);
    let there = org.get(&id).unwrap();
    assert_eq!((&there["Size__c"], &there["Name"]), (&json!(5.0), &json!("mine")));
}

/// What is there already comes over, though neither side has been edited, and nothing is written for it over there.
#[test]
fn a_field_that_is_mapped_later_is_filled_and_wipes_nothing() {
    let (org, _cluster, mut c) = accounts(Options::default(), "{}");
    let ids: Vec<String> = (0..5)
        .map(|n| {
            org.insert(
                "Account",
                json!({"Name": format!("n{n}"), "Phone": format!("+{n}"), "Rating": "Hot"}),
            )
            .unwrap()
        })
        .collect();
    until(&mut c, "SELECT count(*) FROM accounts", "5");
    settle(&mut c);
    org.clear_calls();
    run(&mut c, "SELECT sync.map_field('accounts', source => 'Phone', target => 'phone')");
    until(
        &mut c,
        "SELECT string_agg(phone, ' ' ORDER BY account_name) FROM accounts",
        "+0 +1 +2 +3 +4",
    );
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    settle(&mut c);
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(org.get(id).unwrap()["Phone"], json!(format!("+{n}")));
    }
    assert_eq!(
        query_one(
            &mut c,
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'accounts'::regclass AND attname = 'phone'"
        ),
        "character varying(40)"
    );
    assert_eq!(rows(&mut c, "SELECT kind, field FROM sync.conflicts"), Vec::<String>::new());
    // And travels from then on.
    run(&mut c, "UPDATE accounts SET phone = '+9' WHERE account_name = 'n0'");
    settle(&mut c);
    assert_eq!(org.get(&ids[0]).unwrap()["Phone"], "+9");
    // One that this side computes nothing of, and the org alone may write.
    run(
        &mut c,
        "SELECT sync.map_field('accounts', 'Rating', 'rating', direction => 'source_to_target')",
    );
    until(&mut c, "SELECT count(*) FROM accounts WHERE rating = 'Hot'", "5");
}

/// The same where the table is the source: its rows, with a column that is still empty, are compared first.
#[test]
fn a_new_column_empties_nothing_over_there() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE accounts (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, name text);
           INSERT INTO accounts (name) SELECT 'n' || n FROM generate_series(1, 5) n;
           SELECT sync.create_sync('accounts', '{"source": {"table": "accounts"}, "target": {"connection": "crm", "object": "Account"},
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1},
             "field_mappings": [{"source": "name", "target": "Name"}]}')"#,
    );
    settle(&mut c);
    let ids: Vec<String> =
        org.records("Account").iter().map(|r| r["Id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 5);
    for id in &ids {
        org.edit(id, json!({"Phone": format!("+{id}")})).unwrap();
    }
    org.clear_calls();
    run(&mut c, "SELECT sync.map_field('accounts', source => 'phone', target => 'Phone')");
    until(&mut c, "SELECT count(*) FROM accounts WHERE phone LIKE '+001%'", "5");
    until(&mut c, "SELECT count(*) FROM sync.progress", "0");
    settle(&mut c);
    for id in &ids {
        assert_eq!(org.get(id).unwrap()["Phone"], json!(format!("+{id}")));
    }
    let writes = |c: &local_org::Call| c.path.contains("/composite") && c.body.contains("PATCH");
    assert!(!org.calls().iter().any(writes), "something was written over there");
    assert_eq!(rows(&mut c, "SELECT key, kind, field FROM sync.conflicts"), Vec::<String>::new());
}

#[test]
fn a_field_that_cannot_be_mapped_is_refused_and_leaves_no_column() {
    let (_org, _cluster, mut c) = accounts(Options::default(), "{}");
    settle(&mut c);
    let cases = [
        (
            "'accounts', 'Phne', 'phone'",
            "42703",
            "has no field \"Phne\"",
            "Perhaps you meant Phone",
        ),
        (
            "'accounts', 'Name', 'other'",
            "42710",
            "\"Name\" of crm:Account is mapped already",
            "sync.alter_sync",
        ),
        ("'accounts', 'Phone', 'account_name'", "42710", "mapped already", "sync.alter_sync"),
        (
            "'accounts', 'BillingAddress', 'address'",
            "0A000",
            "cannot be synced",
            "Map the fields it is made of",
        ),
        ("'nothing', 'Phone', 'phone'", "42704", "does not exist", "There are: accounts"),
        ("'accounts', NULL, 'phone'", "22004", "needs a sync", "For example"),
        ("'accounts', 'Phone', 'phone', 'sideways'", "22023", "direction", ""),
    ];
    for (arguments, _state, message, hint) in cases {
        let refused = refusal(&mut c, &format!("SELECT sync.map_field({arguments})"));
        assert!(refused.contains(message) && refused.contains(hint), "{arguments}: {refused}");
    }
    assert_eq!(
        query_one(
            &mut c,
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'accounts'::regclass AND attnum > 0 AND NOT attisdropped"
        ),
        "7"
    );
}

/// The same between two tables of this database.
#[test]
fn a_column_is_mapped_later_between_tables() {
    let (_org, _cluster, mut c) = accounts(Options::default(), "{}");
    run(
        &mut c,
        "CREATE TABLE a (id int PRIMARY KEY, x text, y numeric(6, 2)); CREATE TABLE b (id int PRIMARY KEY, x text);
         INSERT INTO a VALUES (1, 'one', 1.50)",
    );
    run(
        &mut c,
        r#"SELECT sync.create_sync('ab', '{"source": {"table": "a"}, "target": {"table": "b"}, "sync_type": "bidirectional",
             "field_mappings": [{"source": "id", "target": "id"}, {"source": "x", "target": "x"}]}')"#,
    );
    until(&mut c, "SELECT count(*) FROM b", "1");
    run(&mut c, "SELECT sync.map_field('ab', 'y', 'why')");
    until(&mut c, "SELECT why FROM b", "1.50");
    run(&mut c, "UPDATE b SET why = 2");
    until(&mut c, "SELECT y FROM a", "2.00");
    assert_eq!(
        rows(
            &mut c,
            "SELECT key, kind, field, base, source_value, target_value, reason FROM sync.conflicts"
        ),
        Vec::<String>::new()
    );
    // One that is there already.
    run(&mut c, "ALTER TABLE a ADD z int; ALTER TABLE b ADD z int; UPDATE a SET z = 7");
    run(&mut c, "SELECT sync.map_field('ab', 'z', 'z')");
    until(&mut c, "SELECT z FROM b", "7");
}
