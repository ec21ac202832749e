//! Parents that are told by an external id of theirs, at a local org.

mod against;

use against::{accounts, beginning, client, data_calls, org, seed};
use connector::{
    Before, BulkJob, Column, Connector, Done, FaultKind, Identity, Outcome, Record, Write,
    WriteBatch,
};
use local_org::{Field, FieldType, LocalOrg};
use salesforce::Salesforce;
use serde_json::{Value, json};

const KEY: &str = "Account.External_Id__c";

/// The last name and the account of a contact.
fn columns() -> Vec<Column> {
    vec![
        Column { name: "LastName".into(), length: 80, ..Column::default() },
        Column {
            name: KEY.into(),
            length: 40,
            lookup: Some("AccountId".into()),
            ..Column::default()
        },
    ]
}

fn batch(read_before: bool, writes: Vec<Write>) -> WriteBatch {
    WriteBatch { object: "Contact".into(), ..accounts(columns(), read_before, writes) }
}

fn given(name: &str, key: Option<&str>) -> Vec<(usize, Option<String>)> {
    vec![(0, Some(name.to_owned())), (1, key.map(str::to_owned))]
}

fn account(org: &LocalOrg, key: &str) -> String {
    org.insert("Account", json!({"Name": key, "External_Id__c": key})).expect("an account")
}

fn contact(org: &LocalOrg, name: &str, account: Option<&str>) -> String {
    org.insert("Contact", json!({"LastName": name, "AccountId": account})).expect("a contact")
}

fn parent(org: &LocalOrg, id: &str) -> Value {
    org.get(id).expect("a contact")["AccountId"].clone()
}

fn created(outcome: &Outcome) -> String {
    match &outcome.result {
        Ok(Done::Created { id }) => id.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_key_of_the_parent_is_described_as_a_field_of_the_child() {
    let org = org();
    let client = client(&org);
    let names = ["account.external_id__C", "Account.Name", "Owner.Username", "Nobody.Key__c"];
    let names = names.map(str::to_owned);
    let plain = client.describe("Contact", &[]).await.expect("an object");
    let contact = client.describe("Contact", &names).await.expect("an object");
    assert_eq!(contact.fields.len(), plain.fields.len() + 1);
    assert!(contact.own_fields().eq(plain.fields.iter()));
    let field = contact.field(KEY).expect("the field");
    let account = client.describe("Account", &[]).await.expect("an object");
    let key = account.field("External_Id__c").expect("the key");
    assert_eq!(
        (field.name.as_str(), field.kind, field.length, field.lookup.as_deref()),
        (KEY, key.kind, key.length, Some("AccountId"))
    );
    assert!(field.createable && field.updateable && field.nillable && !field.external_id);
    let whys: Vec<&str> = names[1..]
        .iter()
        .filter_map(|name| contact.unfit(name))
        .map(|unfit| unfit.why.as_str())
        .collect();
    assert!(whys[0].contains("Name of Account is no external id"), "{whys:?}");
    assert!(whys[1].contains("several objects: Group, User"), "{whys:?}");
    assert!(whys[2].contains("Contact has no relationship \"Nobody\""), "{whys:?}");
    assert!(contact.unfit[0].hint.contains("External_Id__c"), "{:?}", contact.unfit);

    // Nothing is sent again that still holds, and what has changed is.
    org.clear_calls();
    assert_eq!(client.describe("Contact", &names).await.expect("the same"), contact);
    let statuses: Vec<Option<u16>> = org.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [Some(304), Some(304)]);
    org.set_access("Account", "External_Id__c", false, false).expect("hidden");
    let contact = client.describe("Contact", &names).await.expect("an object");
    assert!(contact.field(KEY).is_none());
    assert!(contact.unfit(KEY).expect("why").why.contains("has no field"), "{:?}", contact.unfit);
    org.set_access("Contact", "AccountId", true, false).expect("read-only");
    org.set_access("Account", "External_Id__c", true, false).expect("shown");
    let contact = client.describe("Contact", &names).await.expect("an object");
    assert!(contact.field(KEY).expect("the field").read_only(), "as the lookup is");
}

#[tokio::test]
async fn a_parent_of_the_same_object_is_described_already() {
    let org = org();
    let client = client(&org);
    let names = ["Parent.External_Id__c".to_owned(), "Owner.Username".to_owned()];
    let account = client.describe("Account", &names).await.expect("an object");
    let field = account.field("Parent.External_Id__c").expect("the field");
    assert_eq!(field.lookup.as_deref(), Some("ParentId"));
    assert_eq!(data_calls(&org), 1);
}

/// All records of a bulk read.
async fn read_by_job(client: &Salesforce, job: &BulkJob) -> Vec<Record> {
    let bulk = client.bulk().expect("bulk jobs");
    while !bulk.state(job).await.expect("a state").has_ended() {}
    bulk.page(job, &columns(), None, None).await.expect("a page").records
}

#[tokio::test]
async fn every_way_to_read_yields_the_parents_key() {
    let org = org();
    let (a, b) = (account(&org, "a"), seed(&org, 1).remove(0));
    let ids = [
        contact(&org, "of a", Some(&a)),
        contact(&org, "without", None),
        contact(&org, "of one without a key", Some(&b)),
    ];
    let client = client(&org);
    let columns = columns();
    let records = client.list("Contact", &columns, None).await.expect("a page").records;
    let keys: Vec<Option<&str>> = records.iter().map(|r| r.values[1].as_deref()).collect();
    assert_eq!(keys, [Some("a"), None, None]);
    let changes = client.changes("Contact", &columns, &beginning()).await.expect("a page");
    assert_eq!(changes.records, records);
    let fetched = client.fetch("Contact", &columns, &ids).await.expect("records");
    assert_eq!(fetched.into_iter().flatten().collect::<Vec<_>>(), records);
    let found = client.find("Contact", &columns, KEY, &["a".to_owned(), "b".to_owned()]).await;
    assert_eq!(found.expect("records"), records[..1]);
    let job = client.bulk().expect("jobs").start_read("Contact", &columns).await.expect("a job");
    let mut read = read_by_job(&client, &job).await;
    read.sort_by(|x, y| x.id.cmp(&y.id));
    assert_eq!(read, records);
    // What a retrieve takes is said of the object's own fields only.
    let retrieves = |call: &local_org::Call| call.path.contains("/composite/sobjects/");
    assert!(!org.calls().iter().any(retrieves));
}

#[tokio::test]
async fn one_that_is_gone_is_told_with_its_parent() {
    let org = org();
    let a = account(&org, "a");
    let mut ids: Vec<String> = (0..3).map(|n| contact(&org, &format!("c{n}"), Some(&a))).collect();
    org.delete(&ids[1]).expect("deleted");
    ids.push("003000000999999AAA".to_owned());
    ids.push("no id".to_owned());
    let found = client(&org).fetch("Contact", &columns(), &ids).await.expect("records");
    let told: Vec<Option<(bool, Option<&str>)>> = found
        .iter()
        .map(|r| r.as_ref().map(|r| (r.deleted, r.values.get(1).and_then(|v| v.as_deref()))))
        .collect();
    let a = Some("a");
    assert_eq!(told, [Some((false, a)), Some((true, a)), Some((false, a)), None, None]);
}

#[tokio::test]
async fn a_write_names_the_parent_by_its_key_and_empties_the_lookup() {
    let org = org();
    let (a, b) = (account(&org, "a"), account(&org, "b"));
    let external = Field::new("Key__c", FieldType::String).unique().external_id();
    org.define_field("Contact", external).expect("a field");
    let old = contact(&org, "old", Some(&a));
    let moved = contact(&org, "moved", Some(&a));
    let identity = Some(Identity { field: "Key__c".into(), value: "k".into() });
    let writes = vec![
        Write::Create { identity: None, fields: given("new", Some("A")) },
        Write::Create { identity, fields: given("by key", Some("b")) },
        Write::Update { id: old.clone(), fields: vec![(1, None)] },
        Write::Update { id: moved.clone(), fields: given("moved", Some("b")) },
        Write::Create { identity: None, fields: given("early", Some("c")) },
        Write::Update { id: moved.clone(), fields: vec![(1, Some("x".repeat(300)))] },
    ];
    let client = client(&org);
    let outcomes = client.write(&batch(true, writes)).await.expect("outcomes");
    assert_eq!((client.calls(), data_calls(&org)), (1, 1));
    assert_eq!(parent(&org, &created(&outcomes[0])), json!(a), "matched as the org matches keys");
    assert_eq!(parent(&org, &created(&outcomes[1])), json!(b));
    assert_eq!((parent(&org, &old), parent(&org, &moved)), (Value::Null, json!(b)));
    let before = |n: usize| match &outcomes[n].before {
        Before::There(record) => record.values[1].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((before(2), before(3)), (Some("a".to_owned()), Some("a".to_owned())));
    let fault = outcomes[4].result.as_ref().expect_err("no parent");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Dependency, "INVALID_FIELD"));
    let fault = outcomes[5].result.as_ref().expect_err("too long for the parent's field");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Refused, "STRING_TOO_LONG"));

    account(&org, "c");
    let again = vec![Write::Create { identity: None, fields: given("early", Some("c")) }];
    created(&client.write(&batch(true, again)).await.expect("outcomes")[0]);
}

#[tokio::test]
async fn a_key_that_several_parents_have_is_refused() {
    let org = org();
    let external = Field::new("Loose__c", FieldType::String).external_id();
    org.define_field("Account", external).expect("a field");
    for name in ["one", "two"] {
        org.insert("Account", json!({"Name": name, "Loose__c": "l"})).expect("an account");
    }
    let mut batch =
        batch(false, vec![Write::Create { identity: None, fields: given("whose", Some("l")) }]);
    batch.columns[1].name = "Account.Loose__c".into();
    let outcomes = client(&org).write(&batch).await.expect("outcomes");
    let fault = outcomes[0].result.as_ref().expect_err("a fault");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Refused, "DUPLICATE_EXTERNAL_ID"));
    assert!(fault.hint.contains("Several parents"), "{fault:?}");
}

#[tokio::test]
async fn what_was_there_before_many_updates_is_read_in_as_many_calls_as_it_takes() {
    let org = org();
    let a = account(&org, "a");
    let ids: Vec<String> = (0..601).map(|n| contact(&org, &format!("c{n}"), Some(&a))).collect();
    org.delete(&ids[7]).expect("deleted");
    let write = |id: &String| Write::Update { id: id.clone(), fields: vec![(1, None)] };
    let client = client(&org);
    let outcomes = client.write(&batch(true, ids.iter().map(write).collect())).await;
    let outcomes = outcomes.expect("outcomes");
    // A query has room for fewer ids than a call for updates.
    assert_eq!(client.calls(), 2);
    for (n, (outcome, id)) in outcomes.iter().zip(&ids).enumerate() {
        if n == 7 {
            assert_eq!((&outcome.result, &outcome.before), (&Ok(Done::Gone), &Before::Missing));
            continue;
        }
        let Before::There(record) = &outcome.before else { panic!("{n}: {outcome:?}") };
        assert_eq!((record.id == *id, record.values[1].as_deref()), (true, Some("a")));
        assert_eq!(parent(&org, id), Value::Null);
    }
}

#[tokio::test]
async fn a_job_names_parents_in_its_header() {
    let org = org();
    let a = account(&org, "a");
    let old = contact(&org, "old", Some(&a));
    let moved = contact(&org, "moved", None);
    let client = client(&org);
    let bulk = client.bulk().expect("jobs");
    let create = |name, key| Write::Create { identity: None, fields: given(name, key) };
    let update = |id: &str, key: Option<&str>| Write::Update {
        id: id.to_owned(),
        fields: vec![(1, key.map(str::to_owned))],
    };
    let creates = batch(false, vec![create("n", Some("a")), create("m", Some("no"))]);
    let updates = batch(false, vec![update(&old, None), update(&moved, Some("a"))]);
    let mut told = Vec::new();
    for batch in [&creates, &updates] {
        let job = bulk.start_write(batch).await.expect("a job");
        bulk.commit_write(&job).await.expect("committed");
        while !bulk.state(&job).await.expect("a state").has_ended() {}
        told.extend(bulk.outcomes(&job, batch).await.expect("outcomes"));
    }
    assert_eq!(parent(&org, &created(&told[0])), json!(a));
    let fault = told[1].result.as_ref().expect_err("no parent");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Dependency, "INVALID_FIELD"));
    assert_eq!(told[2].result, Ok(Done::Updated { id: old.clone() }));
    assert_eq!((parent(&org, &old), parent(&org, &moved)), (Value::Null, json!(a)));
}
