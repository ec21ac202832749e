//! A table is registered by what the other system says of its object.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{LocalOrg, Options, specimen};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::json;

use super::until;
use crate::connections::{connect_crm, create_crm, with_org};

fn connected() -> (LocalOrg, Cluster, Client) {
    let (org, cluster) = with_org(Options { objects: vec![specimen()], ..Options::default() }, &[]);
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    (org, cluster, c)
}

#[track_caller]
fn settle(c: &mut Client, sync: &str) {
    assert_eq!(
        query_one(c, &format!("SELECT settled, parked FROM sync.wait('{sync}', '60s')")),
        "t|0",
        "{:?}\n{:?}",
        rows(c, "SELECT sync, state, detail FROM sync.status"),
        rows(c, "SELECT key, state, attempts, message, detail FROM sync.queue"),
    );
}

#[test]
fn columns_are_found_by_the_names_of_the_fields() {
    let (org, _cluster, mut c) = connected();
    let id = org.insert("Account", json!({"Name": "there", "AnnualRevenue": 12.5})).unwrap();
    run(
        &mut c,
        r#"CREATE TABLE accounts (id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, "Name" text, annual_revenue numeric(18,2),
             numberofemployees integer, external_id varchar(80), phone varchar(10), rating integer, site text GENERATED ALWAYS AS ('x') STORED,
             system_modstamp timestamp, fax character(20), type text, mine text)"#,
    );
    let mut lines = rows(
        &mut c,
        r#"SELECT field, "column", type, travels, note
             FROM sync.register_table('accounts', connection => 'crm', object => 'account', direction => 'both')
            WHERE "column" IS NOT NULL"#,
    );
    lines.sort();
    let computed = "the other system computes it, or its user may not write it";
    assert_eq!(
        lines,
        [
            "AnnualRevenue|annual_revenue|numeric(18,2)|both|values are rounded to 2 digits after the point here",
            "External_Id__c|external_id|character varying(80)|both|",
            "Fax|fax|character(20)||the column would have to be text or varchar",
            &format!("Id|sf_id|character varying(18)|pull|{computed}"),
            "Name|Name|text|both|",
            "NumberOfEmployees|numberofemployees|integer|both|",
            "Phone|phone|character varying(10)|both|values of more than 10 characters are refused here",
            "Rating|rating|integer||the column would have to be text or varchar",
            "Site|site|text|push|the table computes the column",
            &format!("SystemModstamp|system_modstamp|timestamp without time zone|pull|{computed}"),
            "Type|type|text|both|",
        ]
    );
    settle(&mut c, "public.accounts");
    until(
        &mut c,
        "SELECT sf_id, \"Name\", annual_revenue FROM accounts",
        &format!("{id}|there|12.50"),
    );
    // Both ways from then on.
    run(
        &mut c,
        "UPDATE accounts SET annual_revenue = 13; INSERT INTO accounts (\"Name\") VALUES ('new')",
    );
    settle(&mut c, "public.accounts");
    assert_eq!(org.get(&id).unwrap()["AnnualRevenue"].as_f64(), Some(13.0));
    assert_eq!(org.count("Account"), 2);
    org.edit(&id, json!({"NumberOfEmployees": 7})).unwrap();
    run(&mut c, "SELECT sync.pull('public.accounts', '1')");
    settle(&mut c, "public.accounts");
    assert_eq!(query_one(&mut c, "SELECT numberofemployees FROM accounts WHERE id = 1"), "7");
}

/// A table that is not there is made, and every type of the org goes to and fro in it.
#[test]
fn a_table_is_made_and_holds_all_values() {
    let (org, _cluster, mut c) = connected();
    run(&mut c, "CREATE SCHEMA salesforce; SET search_path = salesforce");
    let lines = rows(
        &mut c,
        r#"SELECT field, "column", type, travels FROM sync.register_table('specimen', connection => 'crm', object => 'Specimen__c',
             direction => 'both', name => 'specimen') WHERE field ~ '__c$|^Id$|^Name$' ORDER BY field COLLATE "C""#,
    );
    assert_eq!(
        lines,
        [
            "Account__c|account__c|character varying(18)|both",
            "Code__c|code__c|character varying(40)|both",
            "Colour__c|colour__c|character varying(255)|both",
            "Day__c|day__c|date|both",
            "Flag__c|flag__c|boolean|both",
            "Group__c|group__c|character varying(40)|both",
            "Id|sf_id|character varying(18)|pull",
            "Moment__c|moment__c|timestamp with time zone|both",
            "Name|name|character varying(80)|both",
            "Notes__c|notes__c|character varying(131072)|both",
            "Number__c|number__c|numeric|both",
            "Serial__c|serial__c|character varying(30)|pull",
            "Tags__c|tags__c|text[]|both",
            "Time__c|time__c|time without time zone|both",
            "Title__c|title__c|character varying(255)|pull",
        ]
    );
    assert_eq!(
        query_one(
            &mut c,
            "SELECT string_agg(column_name, ',' ORDER BY column_name) FROM information_schema.columns
              WHERE table_schema = 'salesforce' AND table_name = 'specimen' AND is_nullable = 'NO'"
        ),
        "id"
    );
    let account = org.insert("Account", json!({"Name": "parent"})).unwrap();
    run(
        &mut c,
        &format!(
            "INSERT INTO specimen (name, code__c, number__c, flag__c, day__c, moment__c, time__c, colour__c, tags__c, notes__c, account__c)
             VALUES ('one', 'c1', 123456.78, true, '2024-02-29', '2024-03-31 01:30:00+00', '23:59:58', 'Red', '{{One,Two}}', repeat('n', 100000), '{account}')"
        ),
    );
    settle(&mut c, "specimen");
    let id = query_one(&mut c, "SELECT sf_id FROM specimen");
    let record = org.get(&id).unwrap();
    for (field, value) in [
        ("Code__c", json!("c1")),
        ("Number__c", json!(123_456.78)),
        ("Flag__c", json!(true)),
        ("Day__c", json!("2024-02-29")),
        ("Moment__c", json!("2024-03-31T01:30:00.000+0000")),
        ("Time__c", json!("23:59:58.000Z")),
        ("Colour__c", json!("Red")),
        ("Tags__c", json!("One;Two")),
        ("Notes__c", json!("n".repeat(100_000))),
        ("Account__c", json!(account)),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    // What the org computes arrives, and does not go back.
    until(&mut c, "SELECT title__c, serial__c FROM specimen", "one/c1|S-0001");
    org.edit(
        &id,
        json!({"Number__c": -0.125, "Flag__c": false, "Day__c": null, "Moment__c": "2038-01-19T03:14:08.000+0000", "Time__c": "00:00:00.000Z",
               "Colour__c": "Blue", "Tags__c": "Three", "Notes__c": "short", "Account__c": null}),
    )
    .unwrap();
    run(&mut c, "SELECT sync.pull('specimen', '1'); SET timezone = 'UTC'");
    settle(&mut c, "specimen");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT number__c, flag__c, day__c, moment__c, time__c, colour__c, tags__c, notes__c, account__c FROM specimen"
        ),
        "-0.125|f||2038-01-19 03:14:08+00|00:00:00|Blue|{Three}|short|"
    );
    // Refused where it is written, and not cut.
    assert!(refusal(&mut c, "UPDATE specimen SET code__c = repeat('x', 41)").starts_with("22001"));
    run(&mut c, "UPDATE specimen SET title__c = 'mine'");
    settle(&mut c, "specimen");
    assert_eq!(org.get(&id).unwrap()["Title__c"], json!("one/c1"));
}

#[test]
fn a_direction_decides_what_is_made_and_mapped() {
    let (org, _cluster, mut c) = connected();
    let id = org.insert("Specimen__c", json!({"Name": "one", "Code__c": "c"})).unwrap();
    let made = |c: &mut Client, table: &str, more: &str| {
        rows(
            c,
            &format!(
                r#"SELECT field || '|' || coalesce("column", '') || '|' || coalesce(travels, '')
                     FROM sync.register_table('{table}', connection => 'crm', object => 'Specimen__c'{more}) WHERE field IN ('Id', 'Code__c', 'Title__c')
                    ORDER BY field COLLATE "C""#
            ),
        )
    };
    assert_eq!(
        made(&mut c, "pulled", ""),
        ["Code__c|code__c|pull", "Id|sf_id|pull", "Title__c|title__c|pull"]
    );
    until(
        &mut c,
        "SELECT string_agg(concat_ws('|', sf_id, code__c, title__c), ',') FROM pulled",
        &format!("{id}|c|one/c"),
    );
    run(&mut c, "UPDATE pulled SET code__c = 'mine'; SELECT sync.drop_sync('public.pulled')");
    assert_eq!(org.get(&id).unwrap()["Code__c"], json!("c"));
    assert_eq!(
        made(&mut c, "pushed", ", direction => 'push'"),
        ["Code__c|code__c|push", "Id||", "Title__c||"]
    );
    settle(&mut c, "public.pushed");
    run(&mut c, "INSERT INTO pushed (name, code__c) VALUES ('two', 'p')");
    settle(&mut c, "public.pushed");
    assert_eq!(org.count("Specimen__c"), 2);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM pushed"), "1");
    // Registered again, an existing table is taken as it is.
    assert_eq!(
        made(&mut c, "pulled", ", direction => 'both'"),
        ["Code__c|code__c|both", "Id|sf_id|pull", "Title__c|title__c|pull"]
    );
}

#[test]
fn what_cannot_be_registered_is_refused_and_leaves_nothing() {
    let (org, cluster) = with_org(Options::default(), &[]);
    let mut c = cluster.connect("postgres").unwrap();
    create_crm(&mut c, org.url());
    let refused = |c: &mut Client, arguments: &str, words: &[&str]| {
        let said = refusal(c, &format!("SELECT * FROM sync.register_table({arguments})"));
        for word in words {
            assert!(said.contains(word), "{arguments}: {word}: {said}");
        }
    };
    let made = "'made', connection => 'crm', object => 'Account'";
    refused(&mut c, made, &["28P01", "sync.set_secret"]);
    connect_secret(&mut c, &org);
    refused(&mut c, "'made', connection => 'crn', object => 'Account'", &["42704", "\"crm\""]);
    refused(
        &mut c,
        "'made', connection => 'crm', object => 'Acount'",
        &["Perhaps you meant \"Account\""],
    );
    refused(&mut c, "'made', connection => 'crm'", &["22004", "\nHINT"]);
    refused(&mut c, &format!("{made}, direction => 'up'"), &["22023", "\nHINT"]);
    refused(&mut c, "'a.b.c', connection => 'crm', object => 'Account'", &["0A000"]);
    refused(&mut c, "'nowhere.made', connection => 'crm', object => 'Account'", &["3F000"]);
    // This user may not write users.
    refused(
        &mut c,
        "'made', connection => 'crm', object => 'User', direction => 'both'",
        &["42501", "\nHINT"],
    );
    run(
        &mut c,
        r#"CREATE TABLE keyless (name text); CREATE TABLE unalike (id serial PRIMARY KEY, sf_id text, colour text);
           CREATE TABLE given (code text PRIMARY KEY, name text);
           CREATE TABLE twice (id serial PRIMARY KEY, "NAME" text, name text); CREATE VIEW seen AS SELECT 1 AS name"#,
    );
    for (table, words) in [
        ("keyless", ["keyless cannot be synced", "\nHINT"]),
        ("seen", ["It is a view", "\nHINT"]),
        ("unalike", ["42703", "The fields are: Id, "]),
        ("given", ["55000", "\"code\" of the key"]),
        ("twice", ["42702", "columns \"NAME\", \"name\""]),
    ] {
        refused(&mut c, &format!("'{table}', connection => 'crm', object => 'Account'"), &words);
    }
    org.fault(local_org::FaultRule::always(local_org::Fault::CutBefore));
    refused(&mut c, made, &["08", "\nHINT"]);
    org.clear_faults();
    assert_eq!(
        query_one(
            &mut c,
            "SELECT (SELECT count(*) FROM sync._sync), (SELECT count(*) FROM sync._object), to_regclass('made') IS NULL"
        ),
        "0|0|t"
    );
    // As the caller: with his rights, in his transaction.
    run(&mut c, "CREATE ROLE clerk LOGIN; SELECT sync.grant('clerk'); SET ROLE clerk");
    refused(&mut c, made, &["42501", "USAGE"]);
    run(&mut c, "RESET ROLE; GRANT USAGE ON FOREIGN SERVER crm TO clerk; SET ROLE clerk");
    refused(&mut c, made, &["42501", "schema public"]);
    run(&mut c, "RESET ROLE; CREATE SCHEMA clerk AUTHORIZATION clerk; SET ROLE clerk");
    run(&mut c, "BEGIN");
    run(
        &mut c,
        &format!("SELECT * FROM sync.register_table({})", made.replace("'made'", "'clerk.made'")),
    );
    run(&mut c, "ROLLBACK");
    assert_eq!(query_one(&mut c, "SELECT to_regclass('clerk.made') IS NULL"), "t");
    run(
        &mut c,
        &format!("SELECT * FROM sync.register_table({})", made.replace("'made'", "'clerk.made'")),
    );
    assert_eq!(
        query_one(
            &mut c,
            "SELECT relowner::regrole FROM pg_class WHERE oid = 'clerk.made'::regclass"
        ),
        "clerk"
    );
    refused(&mut c, &format!("{}, name => 'clerk.made'", made), &["42710", "\nHINT"]);
}

fn connect_secret(c: &mut Client, org: &LocalOrg) {
    run(
        c,
        &format!(
            "SELECT sync.set_secret('crm', client_id => '{}', client_secret => '{}')",
            org.client_id(),
            org.client_secret()
        ),
    );
}
