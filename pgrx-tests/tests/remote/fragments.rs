//! The fifteen documents of the Stacksync text, byte for byte, each given to its call, and what comes of each by SQL.
//! That of the hub, F3, is with the hubs.

use cluster::postgres::Client;
use cluster::{Cluster, Options, prepared_server};
use local_org::LocalOrg;
use pgrx_tests::{query_one, rows, run};
use serde_json::json;

use super::until;
use crate::connections::connect_crm;

macro_rules! fragment {
    ($name:literal) => {
        include_str!(concat!("../../../crates/document/tests/fragments/", $name, ".json"))
    };
}

fn alter(c: &mut Client, sync: &str, document: &str) {
    run(c, &format!("SELECT sync.alter_sync('{sync}', $doc${document}$doc$)"));
}

/// How much of a sync is parked, once all that was changed here is settled.
#[track_caller]
fn parked(c: &mut Client, sync: &str) -> String {
    let answer = query_one(c, &format!("SELECT settled, parked FROM sync.wait('{sync}', '60s')"));
    answer.strip_prefix("t|").expect("settled").to_owned()
}

/// The database of the text with its table, and a server that may reach the org.
fn customer_data() -> (LocalOrg, Cluster, Client) {
    let org = LocalOrg::start(local_org::Options::default()).unwrap();
    let place = org.url().trim_start_matches("http://").to_owned();
    let hosts = format!("sync_ext.allowed_hosts = '{place}, yourinstance.salesforce.com'");
    let options = Options::new("fragments").conf(&hosts);
    let cluster = Cluster::start_new(prepared_server().unwrap(), options).unwrap();
    run(&mut cluster.connect("postgres").unwrap(), "CREATE DATABASE customer_data");
    let mut c = cluster.connect("customer_data").unwrap();
    run(
        &mut c,
        "CREATE EXTENSION sync_ext;
         CREATE TABLE accounts (id SERIAL PRIMARY KEY, sf_id VARCHAR(18) UNIQUE, account_name VARCHAR(255), industry_type VARCHAR(100),
             annual_revenue DECIMAL(18,2), last_modified TIMESTAMP, last_sync TIMESTAMP);
         CREATE INDEX idx_accounts_sf_id ON accounts(sf_id);",
    );
    (org, cluster, c)
}

#[test]
fn f12_to_f15_make_a_sync_that_waits_for_its_secrets_and_then_runs() {
    let (org, _cluster, mut c) = customer_data();
    let pieces = [fragment!("F12"), fragment!("F13"), fragment!("F14"), fragment!("F15")];
    let pieces = pieces.map(|piece| format!("$doc${piece}$doc$")).join(", ");
    run(&mut c, &format!("SELECT sync.create_sync('accounts', {pieces})"));
    until(&mut c, "SELECT state FROM sync.status", "needs credentials");
    assert_eq!(
        query_one(&mut c, "SELECT name, type, host FROM sync.connections"),
        "SF_Postgres_Accounts|salesforce|yourinstance.salesforce.com"
    );
    assert_eq!(
        query_one(&mut c, "SELECT source, direction, target FROM sync.status"),
        "SF_Postgres_Accounts:Account|<->|accounts"
    );
    // The instance of the text is nobody's: the org stands in for it.
    run(
        &mut c,
        &format!(
            r#"SELECT sync.alter_connection('SF_Postgres_Accounts', '{{"credentials": {{"instance_url": "{}"}}}}');
               SELECT sync.set_secret('SF_Postgres_Accounts', client_id => '{}', client_secret => '{}')"#,
            org.url(),
            org.client_id(),
            org.client_secret()
        ),
    );
    let theirs = json!({"Name": "Acme", "Industry": "Energy", "AnnualRevenue": 12.5});
    org.insert("Account", theirs).unwrap();
    run(&mut c, "INSERT INTO accounts (account_name, industry_type) VALUES ('Ours', 'Retail')");
    until(
        &mut c,
        "SELECT count(*) FROM accounts WHERE sf_id IS NOT NULL AND last_modified IS NOT NULL",
        "2",
    );
    assert_eq!(
        rows(&mut c, "SELECT account_name, industry_type, annual_revenue FROM accounts ORDER BY 1"),
        ["Acme|Energy|12.50", "Ours|Retail|"]
    );
    assert_eq!(super::names(&org), ["Acme", "Ours"]);
    // What F15 says of retries counts what the org answers for a record.
    org.add_rule(local_org::Rule {
        object: "Account".into(),
        action: local_org::RuleAction::Reject {
            field: "Name".into(),
            value: json!("bad"),
            message: "not here".into(),
        },
    });
    run(&mut c, "UPDATE accounts SET account_name = 'bad' WHERE account_name = 'Ours'");
    until(&mut c, "SELECT COALESCE(max(attempts), 0) FROM sync.queue WHERE state = 'review'", "3");
}

/// A table and its copy, with the columns that the fragments name.
fn peers(c: &mut Client, more: &str) {
    let columns = r#"(id int PRIMARY KEY, "Id" text, "Name" text, email text, phone text, billing_address text, "LastModifiedDate" timestamptz)"#;
    run(
        c,
        &format!(
            r#"CREATE SCHEMA crm; CREATE SCHEMA erp; CREATE TABLE crm.people {columns}; CREATE TABLE erp.people {columns};
               SELECT sync.create_sync('people', '{{"source": "crm.people", "target": "erp.people"{more}}}')"#
        ),
    );
}

#[test]
fn f1_and_f2_turn_the_direction() {
    let (_org, _cluster, mut c) = customer_data();
    peers(&mut c, "");
    alter(&mut c, "people", fragment!("F1"));
    run(&mut c, "INSERT INTO crm.people (id, email) VALUES (1, 'a')");
    assert_eq!(parked(&mut c, "people"), "0");
    run(&mut c, "UPDATE erp.people SET email = 'b'");
    assert_eq!(parked(&mut c, "people"), "0");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT direction, c.email, e.email FROM sync.status, crm.people c, erp.people e"
        ),
        "->|a|b"
    );
    alter(&mut c, "people", fragment!("F2"));
    assert_eq!(parked(&mut c, "people"), "0");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT direction, c.email, e.email FROM sync.status, crm.people c, erp.people e"
        ),
        "<->|b|b"
    );
}

#[test]
fn f4_maps_a_table_and_formats_its_phones() {
    let (_org, _cluster, mut c) = customer_data();
    run(
        &mut c,
        &format!(
            r#"CREATE TABLE customer ("CustomerID" int PRIMARY KEY, "CustomerName" text, "PhoneNumber" text);
               CREATE TABLE client (client_id int PRIMARY KEY, full_name text, phone text);
               INSERT INTO customer VALUES (1, 'Ada', '+1 (415) 555-2671');
               SELECT sync.create_sync('customer', '{{"source": "customer", "target": "client"}}', $doc${}$doc$)"#,
            fragment!("F4")
        ),
    );
    assert_eq!(parked(&mut c, "customer"), "0");
    assert_eq!(rows(&mut c, "TABLE client"), ["1|Ada|+14155552671"]);
}

#[test]
fn f5_gives_each_field_to_its_system() {
    let (_org, _cluster, mut c) = customer_data();
    peers(&mut c, r#", "sync_type": "bidirectional""#);
    alter(&mut c, "people", fragment!("F5"));
    run(&mut c, "INSERT INTO crm.people (id) VALUES (1)");
    assert_eq!(parked(&mut c, "people"), "0");
    run(&mut c, "SELECT sync.pause('people')");
    run(&mut c, "UPDATE crm.people SET email = 'crm', phone = 'crm', billing_address = 'crm'");
    run(&mut c, "UPDATE erp.people SET email = 'erp', phone = 'erp', billing_address = 'erp'");
    run(&mut c, "SELECT sync.resume('people')");
    assert_eq!(parked(&mut c, "people"), "0");
    for table in ["crm.people", "erp.people"] {
        let row = query_one(&mut c, &format!("SELECT email, billing_address, phone FROM {table}"));
        assert_eq!(row, "crm|erp|erp");
    }
    assert_eq!(
        rows(&mut c, "SELECT field, winner FROM sync.conflicts ORDER BY field"),
        ["billing_address|target", "email|source", "phone|target"]
    );
}

#[test]
fn f6_to_f11_are_laid_over_a_sync_one_after_the_other() {
    let (_org, _cluster, mut c) = customer_data();
    peers(&mut c, r#", "sync_type": "bidirectional""#);
    for document in
        [fragment!("F6"), fragment!("F7"), fragment!("F9"), fragment!("F10"), fragment!("F11")]
    {
        alter(&mut c, "people", document);
    }
    // F6: the second attempt comes after half a minute; and F7 has the doctor look at indexes.
    run(&mut c, "ALTER TABLE erp.people ADD CHECK (\"Name\" <> 'bad')");
    run(
        &mut c,
        "INSERT INTO crm.people (id, \"Name\", email, phone) VALUES (1, 'bad', NULL, NULL), (2, 'x', 'nobody', NULL),
             (3, 'y', 'y@example.com', ' +41446681800'), (4, 'z', NULL, 'none')",
    );
    assert_eq!(parked(&mut c, "people"), "3");
    assert_eq!(rows(&mut c, "SELECT id, phone FROM erp.people"), ["3|+41446681800"]);
    assert_eq!(
        rows(
            &mut c,
            "SELECT key, state, message, next_try - at > interval '25 seconds' FROM sync.queue ORDER BY key"
        ),
        [
            "1|retrying|new row for relation \"people\" violates check constraint \"people_Name_check\"|t",
            "2|review|the field \"email\" breaks the rule email_format|",
            "4|review|the field \"phone\" breaks the rule regex|"
        ]
    );
    assert!(rows(&mut c, "SELECT what FROM sync.doctor() WHERE what = 'indexes'").is_empty());
    assert_eq!(
        query_one(
            &mut c,
            "SELECT d -> 'performance_settings' ->> 'batch_size', d -> 'monitoring' -> 'logging' ->> 'level' FROM sync.show('people') AS d"
        ),
        "1000|info"
    );
    // F11: a trigger that appends a dot on each save comes back twice, and no more.
    run(
        &mut c,
        "CREATE FUNCTION dot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.\"Name\" := NEW.\"Name\" || '.'; RETURN NEW; END $$;
         CREATE TRIGGER dot BEFORE UPDATE ON erp.people FOR EACH ROW EXECUTE FUNCTION dot();
         CREATE TRIGGER dot BEFORE UPDATE ON crm.people FOR EACH ROW EXECUTE FUNCTION dot();",
    );
    run(&mut c, "UPDATE crm.people SET \"Name\" = 'round' WHERE id = 3");
    until(&mut c, "SELECT count(*) FROM sync.queue WHERE key = '3' AND state = 'review'", "1");
}

#[test]
fn f8_takes_some_fields_of_contacts() {
    let (org, _cluster, mut c) = customer_data();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        r#"CREATE TABLE contact (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "Id" text UNIQUE, "Name" text, "Email" text, "Phone" text,
               "LastModifiedDate" timestamptz, "CreatedById" text, "SystemModstamp" timestamptz, "LastName" text);
           SELECT sync.create_sync('contact', '{"source": {"connection": "crm", "object": "Contact"}, "target": "contact",
               "ongoing_sync": {"polling_interval_seconds": 1}}')"#,
    );
    alter(&mut c, "contact", fragment!("F8"));
    org.insert("Contact", json!({"LastName": "Lovelace", "Email": "ada@example.com"})).unwrap();
    until(&mut c, "SELECT count(*) FROM contact WHERE \"Email\" = 'ada@example.com'", "1");
    assert_eq!(
        query_one(
            &mut c,
            "SELECT \"Name\", \"Id\" IS NOT NULL, \"CreatedById\", \"SystemModstamp\", \"LastName\" FROM contact"
        ),
        "Lovelace|t|||"
    );
}
