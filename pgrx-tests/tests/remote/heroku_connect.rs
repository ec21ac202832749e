//! Leaving Heroku Connect: `sync.import_heroku_connect` on a schema as Connect would have left it.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Object, Options};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::{Value, json};

use super::until;
use crate::connections::{connect_crm, with_org};

/// What Connect puts into a schema beside its tables. Its functions find each other by the search path of whoever writes.
const LOGS: &str = "
    CREATE SCHEMA salesforce;
    CREATE TABLE salesforce._trigger_log (id serial PRIMARY KEY, txid bigint, created_at timestamptz DEFAULT now(),
      updated_at timestamptz DEFAULT now(), processed_at timestamptz, processed_tx bigint, state varchar(8), action varchar(7),
      table_name varchar(128), record_id integer, sfid varchar(18), old text, \"values\" text, sf_result integer, sf_message text);
    CREATE TABLE salesforce._trigger_log_archive (LIKE salesforce._trigger_log);
    CREATE SCHEMA connect;
    CREATE FUNCTION connect.get_xmlbinary() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('xmlbinary') $$;";

/// A column of a table of Connect's, and the field that it holds.
struct Held {
    field: &'static str,
    column: &'static str,
    sql_type: &'static str,
}

const fn held(field: &'static str, column: &'static str, sql_type: &'static str) -> Held {
    Held { field, column, sql_type }
}

/// The table of an object, with Connect's columns, indexes and triggers.
fn table(object: &str, held: &[Held]) -> String {
    let table = object.to_lowercase();
    let columns: String = held.iter().map(|h| format!(", {} {}", h.column, h.sql_type)).collect();
    format!(
        "CREATE TABLE salesforce.{table} (id serial PRIMARY KEY, sfid varchar(18), systemmodstamp timestamp, isdeleted boolean,
           _hc_lastop varchar(32), _hc_err text{columns});
         CREATE UNIQUE INDEX hcu_idx_{table}_sfid ON salesforce.{table} (sfid);
         CREATE FUNCTION salesforce.hc_{table}_logger() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
             INSERT INTO salesforce._trigger_log (txid, state, action, table_name, record_id, sfid)
               SELECT txid_current(), 'NEW', TG_OP, TG_TABLE_NAME, r.id, r.sfid FROM (SELECT (COALESCE(NEW, OLD)).*) r;
             RETURN NULL;
           END $$;
         CREATE FUNCTION salesforce.hc_{table}_status() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN
             IF get_xmlbinary() = 'base64' THEN NEW._hc_lastop := 'PENDING'; NEW._hc_err := NULL; END IF;
             RETURN NEW;
           END $$;"
    )
}

/// Its triggers, once it has its rows.
fn triggers(object: &str) -> String {
    let table = object.to_lowercase();
    format!(
        "CREATE TRIGGER hc_{table}_logtrigger AFTER INSERT OR UPDATE OR DELETE ON salesforce.{table} FOR EACH ROW
           WHEN (connect.get_xmlbinary() = 'base64') EXECUTE FUNCTION salesforce.hc_{table}_logger();
         CREATE TRIGGER hc_{table}_status_trigger BEFORE INSERT OR UPDATE ON salesforce.{table} FOR EACH ROW
           EXECUTE FUNCTION salesforce.hc_{table}_status();"
    )
}

/// A row for each record of the org, with a key that tells where it came from.
fn fill(org: &LocalOrg, c: &mut Client, object: &str, held: &[Held]) {
    let (mut names, mut given) = (String::new(), String::new());
    for h in held {
        names += &format!(", {}", h.column);
        given += &match (h.sql_type, h.field.split_once('.')) {
            (_, Some(_)) => format!(", r->>'{}'", h.field),
            ("timestamp", _) => format!(", timezone('UTC', (r->>'{}')::timestamptz)", h.field),
            (of_type, _) => format!(", (r->>'{}')::{of_type}", h.field),
        };
    }
    let mut records = org.records(object);
    for record in &mut records {
        for h in held {
            if let Some((relationship, key)) = h.field.split_once('.') {
                let lookup = relationship
                    .strip_suffix("__r")
                    .map_or(format!("{relationship}Id"), |stem| format!("{stem}__c"));
                let parent = record[&lookup].as_str().and_then(|id| org.get(id));
                record[h.field] = parent.map_or(Value::Null, |parent| parent[key].clone());
            }
        }
    }
    let list = Value::Array(records).to_string().replace('\'', "''");
    let table = object.to_lowercase();
    run(
        c,
        &format!(
            "INSERT INTO salesforce.{table} (id, sfid, systemmodstamp, isdeleted, _hc_lastop{names})
               SELECT n * 7, r->>'Id', timezone('UTC', (r->>'SystemModstamp')::timestamptz), (r->>'IsDeleted')::boolean, 'SYNCED'{given}
                 FROM jsonb_array_elements('{list}') WITH ORDINALITY AS l (r, n);
             SELECT setval(pg_get_serial_sequence('salesforce.{table}', 'id'), 100000);"
        ),
    );
}

/// An org that Connect has synced, and where its dump was restored.
fn left(org: &LocalOrg, cluster: &Cluster) -> Client {
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, org);
    run(&mut c, LOGS);
    c
}

const ACCOUNT: [Held; 7] = [
    held("Name", "name", "varchar(255)"),
    held("AnnualRevenue", "annualrevenue", "double precision"),
    held("NumberOfEmployees", "numberofemployees", "integer"),
    held("CreatedDate", "createddate", "timestamp"),
    held("Industry", "industry", "varchar(255)"),
    held("ERP_Id__c", "erp_id__c", "varchar(20)"),
    held("Tags__c", "tags__c", "varchar(4099)"),
];
const CONTACT: [Held; 3] = [
    held("LastName", "lastname", "varchar(80)"),
    held("AccountId", "accountid", "varchar(18)"),
    held("Account.ERP_Id__c", "account__erp_id__c", "varchar(20)"),
];

/// Accounts with a key of people's making, and a contact; and what Connect has of them.
fn family() -> (LocalOrg, Cluster, Client) {
    let (org, cluster) = with_org(Options { history: true, ..Options::default() }, &[]);
    let key = Field::new("ERP_Id__c", FieldType::String).length(20).unique().external_id();
    org.define_field("Account", key).unwrap();
    let tags = Field::new("Tags__c", FieldType::MultiPicklist).values(&["red", "green", "blue"]);
    org.define_field("Account", tags).unwrap();
    let mut parents = Vec::new();
    for n in 1..=3 {
        let record = json!({"Name": format!("a{n}"), "ERP_Id__c": format!("k{n}"), "AnnualRevenue": 1000.25 * f64::from(n),
          "NumberOfEmployees": n, "Industry": "Banking", "Tags__c": "red;blue"});
        parents.push(org.insert("Account", record).unwrap());
    }
    for (n, account) in parents.iter().enumerate() {
        org.insert("Contact", json!({"LastName": format!("c{}", n + 1), "AccountId": account}))
            .unwrap();
    }
    let mut c = left(&org, &cluster);
    for (object, held) in [("Account", &ACCOUNT[..]), ("Contact", &CONTACT)] {
        run(&mut c, &table(object, held));
        fill(&org, &mut c, object, held);
        run(&mut c, &triggers(object));
    }
    (org, cluster, c)
}

fn export(mappings: &[Value]) -> String {
    json!({"mappings": mappings, "version": 1}).to_string()
}

fn mapping(object: &str, access: &str, held: &[Held], more: Value) -> Value {
    let fields: serde_json::Map<String, Value> = ["Id", "IsDeleted", "SystemModstamp"]
        .into_iter()
        .chain(held.iter().map(|h| h.field))
        .map(|field| (field.to_owned(), json!({})))
        .collect();
    let mut config = json!({"access": access, "sf_notify_enabled": false, "sf_polling_seconds": 600,
      "sf_max_daily_api_calls": 30000, "fields": fields,
      "indexes": {"Id": {"unique": true}, "SystemModstamp": {"unique": false}}});
    if let (Value::Object(config), Value::Object(more)) = (&mut config, more) {
        config.extend(more);
    }
    json!({"object_name": object, "config": config})
}

/// Imports, and says what became of each mapping; beside `created` also why.
fn import(c: &mut Client, arguments: &str) -> Vec<String> {
    rows(
        c,
        &format!(
            "SELECT object, \"table\", access, outcome, CASE WHEN outcome NOT LIKE '%created' THEN note END
               FROM sync.import_heroku_connect('crm'{arguments})"
        ),
    )
}

/// The versions of all rows.
fn versions(c: &mut Client, table: &str) -> Vec<String> {
    rows(c, &format!("SELECT id, sfid, xmin FROM salesforce.{table} ORDER BY id"))
}

fn two_way(c: &mut Client) {
    run(
        c,
        r#"SELECT FROM sync.alter_syncs('{"sync_type": "bidirectional"}', matching => 'salesforce.%')"#,
    );
}

fn resume(c: &mut Client) {
    run(
        c,
        r#"SELECT FROM sync.alter_syncs('{"ongoing_sync": {"polling_interval_seconds": 1}}', matching => '%');
           SELECT sync.resume(sync) FROM sync.status"#,
    );
    until(c, "SELECT count(*) FROM sync.progress", "0");
}

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
    // The org's changes come, and what is written here stays here.
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
