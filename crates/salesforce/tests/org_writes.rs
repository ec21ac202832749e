//! Writing to a local org.

mod against;

use against::{accounts, client, data_calls, named, org, seed, text};
use connector::{Before, Column, Connector, Done, FaultKind, Identity, Kind, Outcome, Write};
use local_org::{Fault, FaultRule};
use serde_json::json;

fn create(name: &str) -> Write {
    Write::Create { identity: None, fields: vec![(0, Some(name.to_owned()))] }
}

fn upsert(key: &str, name: &str) -> Write {
    Write::Create {
        identity: Some(Identity { field: "External_Id__c".into(), value: key.to_owned() }),
        fields: vec![(0, Some(name.to_owned()))],
    }
}

fn update(id: &str, name: &str) -> Write {
    Write::Update { id: id.to_owned(), fields: vec![(0, Some(name.to_owned()))] }
}

fn delete(id: &str) -> Write {
    Write::Delete { id: id.to_owned() }
}

fn columns() -> Vec<Column> {
    vec![text("Name"), text("External_Id__c")]
}

fn kind(outcome: &Outcome) -> Option<FaultKind> {
    outcome.result.as_ref().err().map(|fault| fault.kind)
}

#[tokio::test]
async fn each_kind_of_write_with_the_state_before_it() {
    let org = org();
    let ids = seed(&org, 4);
    org.edit(&ids[0], json!({"External_Id__c": "there"})).expect("edited");
    org.delete(&ids[3]).expect("deleted");
    let version = org.get(&ids[1]).expect("a record")["SystemModstamp"].clone();
    let client = client(&org);
    let writes = vec![
        create("created"),
        upsert("there", "found"),
        upsert("new", "made"),
        update(&ids[1], "updated"),
        delete(&ids[2]),
        update(&ids[3], "too late"),
    ];
    let outcomes = client.write(&accounts(columns(), true, writes)).await.expect("outcomes");
    assert_eq!(client.calls(), 1);

    let Ok(Done::Created { id }) = &outcomes[0].result else { panic!("{:?}", outcomes[0]) };
    assert_eq!(named(&org, id), "created");
    assert_eq!(outcomes[1].result, Ok(Done::Updated { id: ids[0].clone() }));
    assert_eq!(named(&org, &ids[0]), "found");
    let Ok(Done::Created { id }) = &outcomes[2].result else { panic!("{:?}", outcomes[2]) };
    assert_eq!(org.get(id).expect("a record")["External_Id__c"], "new");
    assert_eq!(outcomes[3].result, Ok(Done::Updated { id: ids[1].clone() }));
    let Before::There(before) = &outcomes[3].before else { panic!("{:?}", outcomes[3]) };
    assert_eq!(before.values[1], None);
    assert!(before.values[0].as_deref().is_some_and(|name| name.starts_with('n')));
    assert_eq!(
        Some(before.version.trim_end_matches('Z')),
        version.as_str().map(|v| v.trim_end_matches("+0000"))
    );
    assert_eq!(outcomes[4].result, Ok(Done::Deleted));
    assert!(matches!(outcomes[4].before, Before::There(_)));
    assert_eq!((&outcomes[5].result, &outcomes[5].before), (&Ok(Done::Gone), &Before::Missing));
}

#[tokio::test]
async fn what_is_gone_is_gone() {
    let org = org();
    let ids = seed(&org, 3);
    org.delete(&ids[0]).expect("deleted");
    org.delete(&ids[1]).expect("deleted");
    org.purge(&ids[1]).expect("purged");
    let client = client(&org);
    for read_before in [false, true] {
        let writes = vec![delete(&ids[0]), delete(&ids[1]), update("001000000999999AAA", "x")];
        let outcomes =
            client.write(&accounts(columns(), read_before, writes)).await.expect("outcomes");
        for outcome in &outcomes {
            assert_eq!(outcome.result, Ok(Done::Gone), "{read_before}");
        }
    }
}

#[tokio::test]
async fn eight_hundred_updates_are_one_call() {
    let org = org();
    let ids = seed(&org, 800);
    let client = client(&org);
    let writes = ids.iter().map(|id| update(id, "all")).collect();
    let outcomes = client.write(&accounts(columns(), true, writes)).await.expect("outcomes");
    assert!(
        outcomes.iter().all(|o| matches!(
            (&o.result, &o.before),
            (Ok(Done::Updated { .. }), Before::There(_))
        ))
    );
    assert_eq!((client.calls(), data_calls(&org)), (1, 1));
    assert!(org.records("Account").iter().all(|record| record["Name"] == "all"));
}

#[tokio::test]
async fn only_the_fields_that_are_given_change() {
    let org = org();
    let id =
        org.insert("Account", json!({"Name": "a", "Phone": "1", "Site": "s"})).expect("an account");
    let batch = accounts(
        vec![text("Phone"), text("Site")],
        false,
        vec![Write::Update { id: id.clone(), fields: vec![(0, None)] }],
    );
    client(&org).write(&batch).await.expect("outcomes");
    let record = org.get(&id).expect("a record");
    assert_eq!(
        (&record["Phone"], &record["Site"], &record["Name"]),
        (&json!(null), &json!("s"), &json!("a"))
    );
}

#[tokio::test]
async fn a_record_that_is_refused_leaves_the_others_alone() {
    let org = org();
    org.insert("Account", json!({"Name": "x", "External_Id__c": "taken"})).expect("an account");
    let client = client(&org);
    let keyed = Write::Create {
        identity: None,
        fields: vec![(0, Some("y".into())), (1, Some("taken".into()))],
    };
    let nameless = Write::Create { identity: None, fields: vec![(1, Some("k".into()))] };
    let long = create(&"x".repeat(256));
    let batch =
        accounts(columns(), false, vec![create("fine"), keyed, nameless, long, create("fine too")]);
    let outcomes = client.write(&batch).await.expect("outcomes");
    let kinds: Vec<_> = outcomes.iter().map(kind).collect();
    assert_eq!(
        kinds,
        [None, Some(FaultKind::Conflict), Some(FaultKind::Refused), Some(FaultKind::Refused), None]
    );
    let fault = |n: usize| outcomes[n].result.as_ref().expect_err("a fault");
    assert_eq!(fault(1).about.existing_id.as_deref(), org.records("Account")[0]["Id"].as_str());
    assert_eq!(
        (fault(2).code.as_str(), fault(2).about.fields.as_slice()),
        ("REQUIRED_FIELD_MISSING", ["Name".to_owned()].as_slice())
    );
    assert_eq!(fault(3).code, "STRING_TOO_LONG");
    assert_eq!(org.count("Account"), 3);
}

#[tokio::test]
async fn a_lock_and_a_missing_parent_are_told_apart() {
    let org = org();
    let ids = seed(&org, 2);
    let client = client(&org);
    org.fault(FaultRule::once(Fault::Record {
        code: "UNABLE_TO_LOCK_ROW".into(),
        message: "unable to obtain exclusive access to this record".into(),
    }));
    let batch = accounts(columns(), false, vec![update(&ids[0], "x")]);
    let outcomes = client.write(&batch).await.expect("outcomes");
    assert_eq!(kind(&outcomes[0]), Some(FaultKind::Transient));
    let parent =
        Column { name: "ParentId".into(), kind: Kind::Id, length: 18, ..Column::default() };
    let orphan =
        Write::Update { id: ids[1].clone(), fields: vec![(0, Some("001000000999999AAA".into()))] };
    let outcomes =
        client.write(&accounts(vec![parent], true, vec![orphan])).await.expect("outcomes");
    assert_eq!(kind(&outcomes[0]), Some(FaultKind::Dependency), "{:?}", outcomes[0]);
}

#[tokio::test]
async fn a_lost_answer_leaves_it_open_and_a_key_settles_it() {
    let org = org();
    let client = client(&org);
    client.check().await.expect("an account");
    for (fault, carried_out) in [
        (Fault::CutAfter, true),
        (Fault::CutDuring, true),
        (Fault::CutBefore, false),
        (Fault::Html503, false),
    ] {
        let key = format!("{fault:?}");
        org.fault(FaultRule::once(fault).path("/composite"));
        let batch = accounts(columns(), true, vec![upsert(&key, "once")]);
        let outcomes = client.write(&batch).await.expect("outcomes");
        assert_eq!(kind(&outcomes[0]), Some(FaultKind::Ambiguous), "{key}");
        let keys = [key.clone()];
        let found =
            client.find("Account", &columns(), "External_Id__c", &keys).await.expect("records");
        assert_eq!(found.len(), usize::from(carried_out), "{key}");
        let again = client.write(&batch).await.expect("outcomes");
        assert!(again[0].result.is_ok(), "{key}");
        let found =
            client.find("Account", &columns(), "External_Id__c", &keys).await.expect("records");
        assert_eq!(found.len(), 1, "{key}");
    }
}

#[tokio::test]
async fn a_lost_answer_says_what_of_a_batch_never_left() {
    let org = org();
    let ids = seed(&org, 1700);
    let client = client(&org);
    let mut rule = FaultRule::once(Fault::CutAfter).path("/composite");
    rule.skip = 1;
    org.fault(rule);
    let writes = ids.iter().map(|id| update(id, "new")).collect();
    let outcomes = client.write(&accounts(columns(), true, writes)).await.expect("outcomes");
    let count = |wanted: Option<FaultKind>| outcomes.iter().filter(|o| kind(o) == wanted).count();
    let counts =
        (count(None), count(Some(FaultKind::Ambiguous)), count(Some(FaultKind::Transient)));
    assert_eq!(counts, (800, 800, 100));
    assert_eq!(data_calls(&org), 2);
}

#[tokio::test]
async fn a_session_that_ends_before_a_write_costs_no_second_record() {
    let org = org();
    let client = client(&org);
    client.check().await.expect("an account");
    org.expire_sessions();
    let outcomes =
        client.write(&accounts(columns(), false, vec![create("once")])).await.expect("outcomes");
    assert!(outcomes[0].result.is_ok());
    assert_eq!(org.count("Account"), 1);
}

#[tokio::test]
async fn a_used_up_day_carries_nothing_out() {
    let org = org();
    let client = client(&org);
    client.check().await.expect("an account");
    org.set_usage(15_000, 15_000);
    let fault =
        client.write(&accounts(columns(), false, vec![create("x")])).await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Quota);
    assert_eq!(org.count("Account"), 0);
}

#[tokio::test]
async fn what_was_written_reads_back_as_its_canonical_form() {
    let org = org();
    let client = client(&org);
    let object = client.describe("Account", &[]).await.expect("an object");
    let column = |name: &str| object.field(name).expect("a field").column();
    let values = [
        ("Name", " Köln & Söhne \u{1F600} "),
        ("Description", "one\r\ntwo\tthree  "),
        ("AnnualRevenue", "1234567.890"),
        ("NumberOfEmployees", "42"),
        ("Rating", "Hot"),
        ("Website", "https://example.com/?a=b&c=d"),
        ("BillingLatitude", "50.937500000000001"),
    ];
    let columns: Vec<Column> = values.iter().map(|(name, _)| column(name)).collect();
    let fields =
        values.iter().enumerate().map(|(n, (_, value))| (n, Some((*value).to_owned()))).collect();
    let batch = accounts(columns.clone(), false, vec![Write::Create { identity: None, fields }]);
    let outcomes = client.write(&batch).await.expect("outcomes");
    let Ok(Done::Created { id }) = &outcomes[0].result else { panic!("{:?}", outcomes[0]) };
    let read = client
        .fetch("Account", &columns, std::slice::from_ref(id))
        .await
        .expect("records")
        .remove(0)
        .expect("a record");
    for ((column, (name, value)), read) in columns.iter().zip(values).zip(read.values) {
        assert_eq!(read, client.canonical(column, Some(value)), "{name}");
    }
}

/// The composite API would take it for a reference to another part of the request, and refuse the whole.
#[tokio::test]
async fn a_text_that_looks_like_a_reference_is_a_text() {
    const TEXT: &str = "@{step0.id} and @{nobody}";
    let org = org();
    let ids = seed(&org, 2);
    let client = client(&org);
    let writes = vec![
        update(&ids[0], "plain"),
        update(&ids[1], TEXT),
        create("plain"),
        create(TEXT),
        upsert("@{key}", "by key"),
    ];
    let outcomes = client.write(&accounts(columns(), true, writes)).await.expect("outcomes");
    for outcome in &outcomes {
        assert!(outcome.result.is_ok(), "{outcome:?}");
    }
    let Before::There(before) = &outcomes[1].before else { panic!("{:?}", outcomes[1]) };
    assert_eq!(before.values[0].as_deref(), Some("n1"));
    let Ok(Done::Created { id }) = &outcomes[3].result else { panic!("{:?}", outcomes[3]) };
    assert_eq!([named(&org, &ids[1]), named(&org, id)], [TEXT, TEXT]);
    assert_eq!(
        org.records("Account").iter().filter(|r| r["External_Id__c"] == "@{key}").count(),
        1
    );
}
