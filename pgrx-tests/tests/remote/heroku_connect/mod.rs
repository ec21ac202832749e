//! Leaving Heroku Connect: `sync.import_heroku_connect` on a schema as Connect would have left it.

mod forty;
mod pairing;
mod told;

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Options};
use pgrx_tests::{rows, run};
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
         CREATE INDEX hc_idx_{table}_systemmodstamp ON salesforce.{table} (systemmodstamp);
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
