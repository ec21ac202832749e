//! Leaving Heroku Connect: `sync.import_heroku_connect` on a schema as Connect would have left it.

use std::time::Duration;

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Options};
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

/// One mapping with all that an export may say, and others with something wrong.
fn full_export() -> String {
    let account = mapping(
        "Account",
        "read_write",
        &ACCOUNT,
        json!({"upsert_field": "ERP_Id__c", "sf_max_daily_api_calls": 5000,
               "indexes": {"Id": {"unique": true}, "Industry": {"unique": false}}}),
    );
    let contact = mapping(
        "Contact",
        "read_only",
        &CONTACT,
        json!({"fields": {"Id": {}, "LastName": {}, "Old__c": {}, "Email": {}}}),
    );
    let gone = mapping("Acount", "read_only", &[], json!({}));
    let no_table = mapping("Lead", "read_only", &[], json!({}));
    export(&[contact, account, gone, no_table])
}

#[test]
fn an_export_says_what_is_mapped_and_what_lacks_is_told() {
    let (_org, _cluster, mut c) = family();
    run(&mut c, &table("Opportunity", &[]));
    let argument = format!(", export => '{}'", full_export());
    let wanted = [
        "Acount|salesforce.acount|read_only|failed|",
        "Account|salesforce.account|read_write|created|",
        "Contact|salesforce.contact|read_only|created|",
        "Lead|salesforce.lead|read_only|failed|salesforce.lead is no table of Heroku Connect: It is not there, or has not the columns of one.",
        "|salesforce.opportunity||left out|the export has no mapping of it",
    ];
    // First as it would be, of which nothing stays.
    let dry = import(&mut c, &format!("{argument}, dry_run => true"));
    let made = |line: &String| line.replace("would be created", "created");
    let starts = |lines: &[String]| {
        assert_eq!(lines.len(), wanted.len(), "{lines:?}");
        for (line, wanted) in lines.iter().map(made).zip(wanted) {
            assert!(line.starts_with(wanted), "{line}, not {wanted}");
        }
    };
    starts(&dry);
    assert!(dry[1].contains("would be created"), "{dry:?}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync._object"), "0");
    let disabled = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'hc\\_%' AND tgenabled = 'D'";
    assert_eq!(query_one(&mut c, disabled), "0");

    run(
        &mut c,
        &format!("CREATE TABLE told AS SELECT * FROM sync.import_heroku_connect('crm'{argument})"),
    );
    starts(&rows(
        &mut c,
        "SELECT object, \"table\", access, outcome, CASE WHEN outcome <> 'created' THEN note END FROM told",
    ));
    assert_eq!(
        query_one(&mut c, "SELECT remedy FROM told WHERE object = 'Acount'"),
        "Perhaps you meant \"Account\"."
    );
    assert_eq!(
        query_one(&mut c, "SELECT remedy FROM told WHERE object = 'Lead'"),
        "Restore it, or make another: SELECT * FROM sync.register_table('salesforce.lead', 'crm', 'Lead');"
    );
    assert_eq!(
        rows(&mut c, "SELECT string_to_table(note, E'\\n') FROM told WHERE object = 'Account'"),
        [
            "no unique index tells rows apart by erp_id__c: a record whose row was not given its id would get another row",
            "industry has lost the index that it was to have",
            "its triggers were disabled: hc_account_logtrigger, hc_account_status_trigger",
        ]
    );
    assert_eq!(
        rows(
            &mut c,
            "SELECT n, r FROM told, ROWS FROM (string_to_table(note, E'\\n'), string_to_table(remedy, E'\\n')) AS l (n, r)
              WHERE object = 'Contact' ORDER BY n"
        ),
        [
            "field Email of the export has no column|SELECT sync.map_field('salesforce.contact', source => 'Email', target => 'email') makes it.",
            "field Old__c is left out: Contact has no such field|If it is there, give the user of the connection Read Access to it, end the sync, and import it again.",
            "its triggers were disabled: hc_contact_logtrigger, hc_contact_status_trigger|",
        ]
    );
    assert_eq!(query_one(&mut c, disabled), "4");
    let document: Value =
        serde_json::from_str(&query_one(&mut c, "SELECT sync.show('salesforce.account')")).unwrap();
    assert_eq!(document["identity"], json!({"field": "ERP_Id__c"}));
    assert_eq!(document["performance_settings"]["rate_limits"]["per_day"], 5000);
    assert_eq!(document["match_on"], json!([{"source": "Id", "target": "sfid"}]));
    assert_eq!(document["on_difference"], "source");
    let of = |field: &str| {
        let all = document["field_mappings"].as_array().unwrap();
        all.iter().find(|m| m["source"] == field).cloned().unwrap()
    };
    assert_eq!(of("AnnualRevenue"), json!({"source": "AnnualRevenue", "target": "annualrevenue"}));
    assert_eq!(
        of("CreatedDate"),
        json!({"source": "CreatedDate", "target": "createddate", "direction": "source_to_target"})
    );
    // Only what was mapped, and of a read-only mapping nothing goes back, whatever the sync is told.
    let document: Value =
        serde_json::from_str(&query_one(&mut c, "SELECT sync.show('salesforce.contact')")).unwrap();
    assert_eq!(
        document["field_mappings"],
        json!([{"source": "Id", "target": "sfid"},
               {"source": "LastName", "target": "lastname", "direction": "source_to_target"}])
    );
    // Called again it makes what lacks.
    run(&mut c, &table("Lead", &[]));
    let again = import(&mut c, &argument);
    assert_eq!(again.iter().filter(|line| line.contains("|present|")).count(), 2, "{again:?}");
    assert!(again.contains(&"Lead|salesforce.lead|read_only|created|".to_owned()), "{again:?}");
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
    resume(&mut c);
    until(
        &mut c,
        "SELECT count(*) FROM sync.conflicts WHERE winner IS NULL AND sync = 'salesforce.account'",
        "3",
    );
    // Each side has kept its own, and a person decides.
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

#[test]
fn what_cannot_be_imported_is_refused_with_its_place() {
    let (_org, _cluster, mut c) = family();
    let mut refused = |arguments: &str, wanted: &[&str]| {
        let told = refusal(&mut c, &format!("SELECT FROM sync.import_heroku_connect({arguments})"));
        for wanted in wanted {
            assert!(told.contains(wanted), "{arguments}: {told}, not {wanted}");
        }
    };
    refused("NULL", &["22004", "needs the connection"]);
    refused("'nobody'", &["42704"]);
    refused("'crm', 'sales'", &["3F000", "schema \"sales\" does not exist"]);
    refused("'crm', 'public'", &["42P01", "has no tables of Heroku Connect", "_hc_lastop"]);
    refused("'crm', triggers => 'off'", &["22023", "\"off\"", "drop, or keep"]);
    for (export, wanted) in [
        ("[]", "\"mappings\" should be a list of mappings; it is missing."),
        (r#"{"mappings": {}}"#, "it is {}."),
        (r#"{"mappings": []}"#, "is an empty list"),
        (
            r#"{"mappings": [3]}"#,
            "\"mappings[0].object_name\" should be an object's name; it is missing.",
        ),
        (r#"{"mappings": [{"object_name": "A"}]}"#, "\"mappings[0].config\""),
        (
            r#"{"mappings": [{"object_name": "A", "config": {"access": "write"}}]}"#,
            "\"mappings[0].config.access\" should be \"read_only\" or \"read_write\"; it is \"write\".",
        ),
        (
            r#"{"mappings": [{"object_name": "A", "config": {"fields": ["Id"]}}]}"#,
            "\"mappings[0].config.fields\" should be an object of fields",
        ),
        (
            r#"{"mappings": [{"object_name": "A", "config": {"sf_max_daily_api_calls": "many"}}]}"#,
            "\"mappings[0].config.sf_max_daily_api_calls\"",
        ),
        (
            r#"{"mappings": [{"object_name": "A", "config": {"upsert_field": 1}}]}"#,
            "\"mappings[0].config.upsert_field\"",
        ),
        (
            r#"{"mappings": [{"object_name": "A", "config": {}}, {"object_name": "a", "config": {}}]}"#,
            "\"a\" is mapped twice",
        ),
    ] {
        refused(
            &format!("'crm', export => '{export}'"),
            &["22023", wanted, "heroku connect:export"],
        );
    }
    // Names are names, whatever is in them.
    refused("'crm', $$s\"; DROP SCHEMA salesforce; --$$", &["3F000"]);
    let hostile =
        export(&[mapping("A\"; DROP TABLE salesforce.account; --", "read_only", &[], json!({}))]);
    refused(&format!("'crm', export => '{hostile}'"), &["22023", "mappings[0].object_name"]);
    let table = r#"salesforce."x""; DROP TABLE salesforce.account; --""#;
    run(
        &mut c,
        &format!("CREATE TABLE {table} (id serial PRIMARY KEY, sfid varchar(18), _hc_lastop text)"),
    );
    let told = import(&mut c, ", dry_run => true");
    assert!(told[0].starts_with("x\"; DROP TABLE salesforce.account; --|"), "{told:?}");
    assert!(told[0].contains("|failed|the org has no object of this name"), "{told:?}");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM salesforce.account"), "3");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
    run(&mut c, &format!("DROP TABLE {table}"));

    // A table that could not take a record, or whose columns cannot take a field.
    run(
        &mut c,
        "ALTER TABLE salesforce.contact ALTER id DROP DEFAULT;
         ALTER TABLE salesforce.account ALTER numberofemployees TYPE text, DROP industry,
           ADD industry text GENERATED ALWAYS AS (upper(name)) STORED, ADD own text, ADD parent__erp_id__c text, ADD owner__name text",
    );
    let told = import(&mut c, "");
    assert_eq!(told[0], "Account|salesforce.account||created|");
    assert!(
        told[1].starts_with(
            "Contact|salesforce.contact||failed|records of the other system would get no key"
        ),
        "{told:?}"
    );
    run(&mut c, "SELECT sync.drop_sync('salesforce.account')");
    let notes = rows(
        &mut c,
        "SELECT string_to_table(note, E'\\n') FROM sync.import_heroku_connect('crm', dry_run => true) WHERE object = 'Account'",
    );
    for wanted in [
        "nothing says whether it was mapped read-only: it is taken for read_write",
        "column numberofemployees is left out: the column would have to be integer or bigint",
        "column industry is left out: the table computes it",
        "column own is left out: Account has no such field",
        "column owner__name is left out: \"Owner\" of Account may lead to records of several objects: Group, User",
    ] {
        assert!(notes.iter().any(|note| note == wanted), "{notes:#?}, without {wanted}");
    }
    // Whose connection it is, and whose tables.
    run(
        &mut c,
        "CREATE ROLE maker; SELECT sync.\"grant\"('maker'); GRANT USAGE ON SCHEMA salesforce TO maker; SET ROLE maker",
    );
    let told = refusal(&mut c, "SELECT FROM sync.import_heroku_connect('crm')");
    assert!(told.contains("permission denied for connection"), "{told}");
    run(&mut c, "RESET ROLE; GRANT USAGE ON FOREIGN SERVER crm TO maker; SET ROLE maker");
    let told = import(&mut c, "");
    assert!(told[0].contains("|failed|permission denied for table account"), "{told:?}");
}
