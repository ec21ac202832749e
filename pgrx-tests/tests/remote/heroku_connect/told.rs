//! What the export and the tables say, what has no counterpart, and what is refused.

use cluster::Workspace;
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::{Value, json};

use super::{ACCOUNT, CONTACT, export, family, import, mapping, table};
use crate::remote::until;

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

/// The statements of docs/leaving-heroku-connect.md, one after the other, from the import on.
fn runbook() -> Vec<String> {
    let path = Workspace::locate().unwrap().root.join("docs/leaving-heroku-connect.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, page) = page.split_once("## 3. Import").unwrap();
    let mut statements = vec![String::new()];
    let mut inside = false;
    for line in page.lines().map(str::trim) {
        match line {
            "```sql" => inside = true,
            "```" => inside = false,
            _ if inside => {
                let line = line.split_once("--").map_or(line, |(line, _)| line).trim_end();
                let statement = statements.last_mut().unwrap();
                *statement += &format!("{line}\n");
                if line.ends_with(';') || line.ends_with("\\gexec") {
                    statements.push(String::new());
                }
            }
            _ => {}
        }
    }
    assert_eq!(statements.pop().unwrap(), "", "a statement without an end");
    statements
}

#[test]
fn the_runbook_does_what_it_says() {
    let (org, _cluster, mut c) = family();
    run(
        &mut c,
        "CREATE TABLE salesforce._sf_event_log (id int); CREATE TABLE salesforce._hcmeta (id int)",
    );
    let (mut switched, mut done) = (false, 0);
    for statement in runbook() {
        let account = mapping("Account", "read_write", &ACCOUNT, json!({}));
        let gone = mapping("Gone__c", "read_write", &[], json!({}));
        let export = export(&[account, mapping("Contact", "read_only", &CONTACT, json!({})), gone]);
        let statement = statement.replace(":'export'", &format!("'{export}'"));
        let result = match statement.strip_suffix("\\gexec\n") {
            Some(statement) => {
                let each = rows(&mut c, statement);
                run(&mut c, &each.join(";"));
                each
            }
            None => rows(&mut c, &statement),
        };
        done += 1;
        let says = |what: &str| statement.contains(what);
        match () {
            () if says("resume") => {
                until(&mut c, "SELECT count(*) FROM sync._link", "6");
                until(&mut c, "SELECT count(*) FROM sync.progress", "0");
            }
            () if says("a.records > 0") => {
                let kinds = ["linked pairs|3", "rows on source|3", "rows on target|3", "calls|"];
                let known = |row: &String| kinds.iter().any(|kind| row.contains(kind));
                assert!(result.len() >= 8 && result.iter().all(known), "{result:?}");
            }
            () if says("bidirectional") => {
                switched = true;
                assert_eq!(result.len(), 1, "{result:?}");
                run(&mut c, "UPDATE salesforce.account SET name = 'both ways' WHERE id = 7");
            }
            () if says("sync.wait") => {
                assert_eq!(result, [""; 0]);
                assert!(org.records("Account").iter().any(|r| r["Name"] == "both ways"));
            }
            () if says("one_way") => {
                let direction = "SELECT string_agg(DISTINCT direction, ' ') FROM sync.status";
                assert_eq!(query_one(&mut c, direction), "->");
            }
            () if says("gexec") => assert_eq!(result.len(), 4, "{result:?}"),
            () => {}
        }
        if says("drop_sync") {
            // What is said after the end is for those who stay.
            assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.status"), "0");
            run(&mut c, "SELECT FROM sync.import_heroku_connect('crm')");
        }
    }
    assert!(switched && done > 15, "{done}");
    let stamps = "SELECT sync.show('salesforce.account')->'stamp_columns'->>'state'";
    assert_eq!(query_one(&mut c, stamps), "_hc_lastop");
}
