//! A column that holds the key of a record's parent: `Account.ERP_Id__c` of a contact.

use cluster::Cluster;
use cluster::postgres::Client;
use local_org::{Field, FieldType, LocalOrg, Options};
use pgrx_tests::{query_one, refusal, rows, run};
use serde_json::{Value, json};

use super::until;
use crate::connections::{connect_crm, with_org};

/// An org whose accounts have a key of people's making, and a table of contacts.
fn family() -> (LocalOrg, Cluster, Client) {
    family_of(Options { history: true, ..Options::default() })
}

fn family_of(options: Options) -> (LocalOrg, Cluster, Client) {
    let (org, cluster) = with_org(options, &["sync_ext.describe_interval = 1"]);
    let key = Field::new("ERP_Id__c", FieldType::String).length(20).unique().external_id();
    org.define_field("Account", key).unwrap();
    let mut c = cluster.connect("postgres").unwrap();
    connect_crm(&mut c, &org);
    run(
        &mut c,
        "CREATE TABLE contact (id serial PRIMARY KEY, sf_id text UNIQUE, name text, account_erp text);
         CREATE TABLE account (id serial PRIMARY KEY, sf_id text UNIQUE, name text, erp text)",
    );
    (org, cluster, c)
}

/// A sync `contacts` of the table with the object, with one more mapping than the id's and the name's.
fn contacts(c: &mut Client, parent: &str, more: &str) {
    run(
        c,
        &format!(
            r#"SELECT sync.create_sync('contacts', '{{
                 "source": {{"connection": "crm", "object": "Contact"}}, "target": {{"table": "contact"}},
                 "field_mappings": [{{"source": "Id", "target": "sf_id"}}, {{"source": "LastName", "target": "name"}}{parent}],
                 "sync_type": "bidirectional", "ongoing_sync": {{"polling_interval_seconds": 1}}}}', '{more}')"#
        ),
    );
}

const PARENT: &str = r#", {"source": "Account.ERP_Id__c", "target": "account_erp"}"#;

fn account(org: &LocalOrg, key: &str) -> String {
    org.insert("Account", json!({"Name": key, "ERP_Id__c": key})).unwrap()
}

/// Waits until the contact of this name has this account.
#[track_caller]
fn has_parent(org: &LocalOrg, name: &str, account: Option<&str>) {
    let wanted = account.map_or(Value::Null, Value::from);
    let found = || org.records("Contact").into_iter().find(|record| record["LastName"] == name);
    let there = cluster::poll(std::time::Duration::from_secs(60), || {
        found().is_some_and(|record| record["AccountId"] == wanted)
    });
    assert!(there, "{wanted}: {:?}", found());
}

#[track_caller]
fn settled(c: &mut Client) {
    let told = query_one(c, "SELECT settled, parked FROM sync.wait('contacts', '60s')");
    assert_eq!(told, "t|0", "{:?}", rows(c, "SELECT key, state, message FROM sync.queue"));
}

#[test]
fn a_parents_key_travels_both_ways() {
    let (org, _cluster, mut c) = family();
    let (a, b) = (account(&org, "a"), account(&org, "b"));
    let theirs = org.insert("Contact", json!({"LastName": "theirs", "AccountId": a})).unwrap();
    let orphan = org.insert("Contact", json!({"LastName": "orphan"})).unwrap();
    contacts(&mut c, PARENT, "{}");
    let keys = "SELECT string_agg(name || ' ' || COALESCE(account_erp, '-'), ', ' ORDER BY name) FROM contact";
    until(&mut c, keys, "orphan -, theirs a");

    run(&mut c, "INSERT INTO contact (name, account_erp) VALUES ('ours', 'a')");
    has_parent(&org, "ours", Some(&a));
    run(&mut c, "UPDATE contact SET account_erp = 'b' WHERE name IN ('ours', 'orphan')");
    has_parent(&org, "ours", Some(&b));
    has_parent(&org, "orphan", Some(&b));
    run(&mut c, "UPDATE contact SET account_erp = NULL WHERE name = 'ours'");
    has_parent(&org, "ours", None);
    settled(&mut c);

    org.edit(&theirs, json!({"AccountId": b})).unwrap();
    org.edit(&orphan, json!({"AccountId": null})).unwrap();
    until(&mut c, keys, "orphan -, ours -, theirs b");
    settled(&mut c);
    // What was written does not come back as a change, and nothing else is written.
    let edits = |org: &LocalOrg| org.history().len();
    let before = edits(&org);
    run(&mut c, "UPDATE contact SET name = 'ours' WHERE name = 'ours'");
    settled(&mut c);
    assert_eq!(edits(&org), before);
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
    assert_eq!(org.unserved().len(), 0, "{:?}", org.unserved());
}

/// Where the table is the source, and along a relationship of people's making.
#[test]
fn a_relationship_of_an_orgs_own_is_one_too() {
    let (org, _cluster, mut c) = family();
    let invoice = local_org::Object::new("Invoice__c", "a05")
        .with(Field::new("Payer__c", FieldType::Reference).references(&["Account"]).label("Payer"));
    org.define_object(invoice);
    let a = account(&org, "a");
    run(
        &mut c,
        r#"CREATE TABLE invoice (id serial PRIMARY KEY, sf_id text, name text, payer varchar(20));
           SELECT sync.create_sync('invoices', '{
             "source": "invoice", "target": {"connection": "crm", "object": "Invoice__c"},
             "field_mappings": [{"source": "sf_id", "target": "Id"}, {"source": "name", "target": "Name"},
               {"source": "payer", "target": "Payer__r.ERP_Id__c"}],
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1}}');
           INSERT INTO invoice (name, payer) VALUES ('one', 'a')"#,
    );
    let invoices = || org.records("Invoice__c");
    let sent = cluster::poll(std::time::Duration::from_secs(60), || {
        invoices().first().is_some_and(|record| record["Payer__c"] == a)
    });
    assert!(sent, "{:?}\n{:?}", invoices(), rows(&mut c, "SELECT * FROM sync.queue"));
    org.insert("Invoice__c", json!({"Name": "two", "Payer__c": a})).unwrap();
    until(&mut c, "SELECT COALESCE(max(payer), '') FROM invoice WHERE name = 'two'", "a");
}

/// The name is longer than one of PostgreSQL's may be, and the column of another type than the field.
#[test]
fn a_key_may_be_a_number_and_have_a_long_name() {
    let (org, _cluster, mut c) = family();
    let number = Field::new("A_Number_By_Which_Accounts_Are_Known__c", FieldType::Double);
    org.define_field("Account", number.digits(8, 0).unique().external_id()).unwrap();
    let payer = Field::new("The_Account_That_Pays_The_Bill__c", FieldType::Reference);
    org.define_field("Contact", payer.references(&["Account"])).unwrap();
    let numbered = |n: u32| {
        let account = json!({"Name": "n", "A_Number_By_Which_Accounts_Are_Known__c": n});
        org.insert("Account", account).unwrap()
    };
    let (seven, eight) = (numbered(7), numbered(8));
    let payer = json!({"LastName": "theirs", "The_Account_That_Pays_The_Bill__c": seven});
    org.insert("Contact", payer).unwrap();
    run(&mut c, "ALTER TABLE contact ADD payer int");
    contacts(
        &mut c,
        r#", {"source": "The_Account_That_Pays_The_Bill__r.A_Number_By_Which_Accounts_Are_Known__c", "target": "payer"}"#,
        "{}",
    );
    until(&mut c, "SELECT COALESCE(max(payer), 0) FROM contact", "7");
    run(&mut c, "UPDATE contact SET payer = 8");
    let pays = || org.records("Contact")[0]["The_Account_That_Pays_The_Bill__c"] == eight;
    let paid = cluster::poll(std::time::Duration::from_secs(60), pays);
    assert!(paid, "{:?}", rows(&mut c, "SELECT key, state, message, detail FROM sync.queue"));
    settled(&mut c);
}

/// P7: the org refuses a child whose parent is not there yet.
#[test]
fn a_child_waits_for_its_parent_to_be_there() {
    let (org, _cluster, mut c) = family();
    contacts(&mut c, PARENT, "{}");
    run(
        &mut c,
        r#"SELECT sync.create_sync('accounts', '{
             "source": {"connection": "crm", "object": "Account"}, "target": {"table": "account"},
             "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Name", "target": "name"},
               {"source": "ERP_Id__c", "target": "erp"}],
             "sync_type": "bidirectional", "ongoing_sync": {"polling_interval_seconds": 1}}')"#,
    );
    run(
        &mut c,
        "INSERT INTO contact (name, account_erp) VALUES ('early', 'late'), ('never', 'no')",
    );
    let waiting = "SELECT string_agg(state || ' ' || (message ~ 'Foreign key external ID')::text, ', ' ORDER BY key) FROM sync.queue";
    until(&mut c, waiting, "waiting for parent true, waiting for parent true");
    assert_eq!(org.count("Contact"), 0);
    run(&mut c, "INSERT INTO account (name, erp) VALUES ('Late', 'late')");
    let parent = || org.records("Account").first().map(|record| record["Id"].clone());
    assert!(cluster::poll(std::time::Duration::from_secs(60), || parent().is_some()));
    has_parent(&org, "early", parent().unwrap().as_str());
    // The other one still waits, and holds up nobody.
    until(&mut c, waiting, "waiting for parent true");
    run(&mut c, "UPDATE contact SET account_erp = NULL WHERE name = 'never'");
    has_parent(&org, "never", None);
    until(&mut c, "SELECT count(*) FROM sync.queue", "0");
}

/// A parent's new key touches none of its children: comparing all finds it.
#[test]
fn a_parents_new_key_is_found_when_all_is_compared() {
    let (org, _cluster, mut c) = family();
    let a = account(&org, "a");
    org.insert("Contact", json!({"LastName": "theirs", "AccountId": a})).unwrap();
    contacts(&mut c, PARENT, "{}");
    until(&mut c, "SELECT COALESCE(max(account_erp), '') FROM contact", "a");
    settled(&mut c);
    org.edit(&a, json!({"ERP_Id__c": "a2"})).unwrap();
    run(
        &mut c,
        r#"SELECT sync.alter_sync('contacts', '{"ongoing_sync": {"reconcile_interval_seconds": 1}}')"#,
    );
    until(&mut c, "SELECT COALESCE(max(account_erp), '') FROM contact", "a2");
    has_parent(&org, "theirs", Some(&a));
}

#[test]
fn what_can_name_no_parent_is_refused_with_what_can() {
    let (org, _cluster, mut c) = family();
    org.insert("Contact", json!({"LastName": "theirs"})).unwrap();
    let owner = r#", {"source": "Owner.Username", "target": "account_erp"}"#;
    contacts(&mut c, owner, "{}");
    let detail = "SELECT COALESCE((SELECT state || ': ' || detail FROM sync.status WHERE sync = 'contacts'), '')";
    let said = |c: &mut Client, parts: &[&str]| {
        let mut last = String::new();
        let found = cluster::poll(std::time::Duration::from_secs(60), || {
            last = query_one(c, detail);
            parts.iter().all(|part| last.contains(part))
        });
        assert!(found, "{parts:?}: {last}");
    };
    said(
        &mut c,
        &[
            "failing",
            "several objects: Group, User",
            "Map the field with the parent's id instead, OwnerId",
        ],
    );
    let found = rows(&mut c, "SELECT what, ok, detail, remedy FROM sync.test_connection('crm')");
    let field = found.iter().find(|row| row.starts_with("field Contact.Owner.Username|f|"));
    assert!(
        field.is_some_and(|row| row.contains("OwnerId") && row.contains("contacts")),
        "{found:#?}"
    );
    // Another sync of the object is not concerned.
    run(
        &mut c,
        r#"CREATE TABLE other (id serial PRIMARY KEY, sf_id text, name text);
           SELECT sync.create_sync('other', '{
             "source": {"connection": "crm", "object": "Contact"}, "target": {"table": "other"},
             "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "LastName", "target": "name"}]}')"#,
    );
    until(&mut c, "SELECT COALESCE(max(name), '') FROM other", "theirs");
    // Known by now, it is refused at once; one that nobody has asked about yet a little later.
    let mapped = |name: &str| {
        format!(
            r#"SELECT sync.alter_sync('contacts', '{{"field_mappings": [{{"source": "Id", "target": "sf_id"}},
                 {{"source": "LastName", "target": "name"}}, {{"source": "{name}", "target": "account_erp"}}]}}')"#
        )
    };
    let refused = refusal(&mut c, &mapped("Owner.Username"));
    assert!(format!("{refused:?}").contains("several objects"), "{refused:?}");
    let warned = query_one(
        &mut c,
        r#"SELECT string_agg(detail, '') FROM sync.plan('more', '{
             "source": {"connection": "crm", "object": "Contact"}, "target": {"table": "contact"},
             "field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "Account.ERP_Id__c", "target": "name"},
               {"source": "Account.Site", "target": "account_erp"}]}') WHERE what = 'warning'"#,
    );
    assert!(warned.contains("Site of Account is no external id"), "{warned}");
    assert!(!warned.contains("has no field"), "{warned}");
    run(&mut c, &mapped("Account.Name"));
    said(
        &mut c,
        &["Name of Account is no external id", "The external ids of Account are", "ERP_Id__c"],
    );
    run(&mut c, &mapped("account.erp_id__c"));
    until(&mut c, "SELECT COALESCE(max(name), '') FROM contact", "theirs");
    settled(&mut c);
    // Without its field a relationship cannot be seen either.
    org.set_access("Contact", "AccountId", false, false).unwrap();
    said(&mut c, &["failing", "Contact has no relationship", "Read Access", "the field behind it"]);
    org.set_access("Contact", "AccountId", true, true).unwrap();
    until(&mut c, "SELECT state FROM sync.status WHERE sync = 'contacts'", "running");
}

/// An event tells that the lookup changed, and nothing of the parent's key.
#[test]
fn another_parent_is_heard_of_at_once_where_the_org_tells_of_changes() {
    let options = Options { change_events: vec!["Contact".into()], ..Options::default() };
    let (org, _cluster, mut c) = family_of(options);
    run(
        &mut c,
        &format!(
            r#"SELECT sync.alter_connection('crm', '{{"credentials": {{"pubsub_url": "http://{}"}}}}')"#,
            org.events_address()
        ),
    );
    let (a, b) = (account(&org, "a"), account(&org, "b"));
    let theirs = org.insert("Contact", json!({"LastName": "theirs", "AccountId": a})).unwrap();
    contacts(&mut c, PARENT, "{}");
    run(
        &mut c,
        r#"SELECT sync.alter_sync('contacts', '{"ongoing_sync": {"polling_interval_seconds": 600}}')"#,
    );
    let key = "SELECT COALESCE(max(account_erp), '') FROM contact";
    until(&mut c, key, "a");
    let listens = || org.event_streams() == 1;
    assert!(cluster::poll(std::time::Duration::from_secs(30), listens), "it is not told");
    org.edit(&theirs, json!({"AccountId": b})).unwrap();
    until(&mut c, key, "b");
    settled(&mut c);
    org.clear_calls();
    org.edit(&theirs, json!({"AccountId": a})).unwrap();
    until(&mut c, key, "a");
    let polls = org.calls().into_iter().filter(|call| call.path.contains("/queryAll"));
    assert_eq!(polls.map(|call| call.path).collect::<Vec<_>>(), Vec::<String>::new());
}

/// The parent, or its key, is told in one way only.
#[test]
fn a_sync_writes_the_parent_in_one_way_only() {
    let (org, _cluster, mut c) = family();
    let a = account(&org, "a");
    run(&mut c, "ALTER TABLE contact ADD account_id text");
    let both = format!(r#"{PARENT}, {{"source": "AccountId", "target": "account_id"}}"#);
    contacts(&mut c, &both, "{}");
    until(
        &mut c,
        "SELECT COALESCE((detail ~ '\"Account.ERP_Id__c\" and \"AccountId\" of Contact both say what AccountId points to')::text, '') FROM sync.status WHERE sync = 'contacts'",
        "true",
    );
    // To be told both is something else.
    let told = r#"{"field_mappings": [{"source": "Id", "target": "sf_id"}, {"source": "LastName", "target": "name"},
        {"source": "Account.ERP_Id__c", "target": "account_erp"},
        {"source": "AccountId", "target": "account_id", "direction": "source_to_target"}]}"#;
    run(&mut c, &format!("SELECT sync.alter_sync('contacts', '{told}')"));
    run(&mut c, "INSERT INTO contact (name, account_erp) VALUES ('ours', 'a')");
    has_parent(&org, "ours", Some(&a));
    until(&mut c, "SELECT COALESCE(max(account_id), '') FROM contact", &a);
}

/// Added to a sync that runs already, with a column of its own; and lost with the right to read it.
#[test]
fn a_parents_key_is_taken_along_later() {
    let (org, _cluster, mut c) = family();
    let a = account(&org, "a");
    org.insert("Contact", json!({"LastName": "theirs", "AccountId": a})).unwrap();
    contacts(&mut c, "", r#"{"schema_changes": "adapt"}"#);
    until(&mut c, "SELECT COALESCE(max(name), '') FROM contact", "theirs");
    let refused = refusal(
        &mut c,
        "SELECT sync.map_field('contacts', source => 'Account.ERP', target => 'erp')",
    );
    let refused = format!("{refused:?}");
    assert!(refused.contains("has no field") && refused.contains("ERP_Id__c"), "{refused}");
    run(
        &mut c,
        "SELECT sync.map_field('contacts', source => 'Account.ERP_Id__c', target => 'erp')",
    );
    until(&mut c, "SELECT COALESCE(max(erp), '') FROM contact", "a");
    let of_type = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'contact'::regclass AND attname = 'erp'";
    assert_eq!(query_one(&mut c, of_type), "character varying(20)");
    // A table that is made for all fields has none of a parent.
    let made = "SELECT count(*) FILTER (WHERE field ~ '[.]'), count(*) > 20 FROM sync.register_table('made', connection => 'crm', object => 'Contact')";
    assert_eq!(query_one(&mut c, made), "0|t");
    // That it was asked for is no change of the object.
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.schema_changes"), "0");
    assert!(
        rows(&mut c, "SELECT what, ok FROM sync.test_connection('crm')")
            .iter()
            .all(|row| row.ends_with("|t"))
    );

    org.set_access("Contact", "AccountId", true, false).unwrap();
    let lacks = "SELECT (detail || remedy) FROM sync.test_connection('crm') WHERE what = 'field Contact.Account.ERP_Id__c'";
    let found = query_one(&mut c, lacks);
    assert!(
        found.contains("read by the user and not written")
            && found.contains("Edit Access to AccountId"),
        "{found}"
    );
    org.set_access("Contact", "AccountId", true, true).unwrap();
    org.set_access("Account", "ERP_Id__c", false, false).unwrap();
    until(
        &mut c,
        "SELECT COALESCE((SELECT field || ': ' || change FROM sync.schema_changes ORDER BY id DESC LIMIT 1), '')",
        "Account.ERP_Id__c: field removed",
    );
    until(
        &mut c,
        "SELECT count(*) FROM sync.schema_changes WHERE effect ~ 'is not mapped any more'",
        "1",
    );
    run(&mut c, "UPDATE contact SET name = 'ours'");
    has_parent(&org, "ours", Some(&a));
    assert_eq!(query_one(&mut c, "SELECT erp FROM contact"), "a");
}
