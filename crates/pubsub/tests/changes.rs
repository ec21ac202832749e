//! What is committed in a local org, as a subscriber is told it.

mod against;

use against::{ACCOUNTS, change, identity, names, next, org, subscribe, text, told, try_subscribe};
use local_org::{EventSettings, LocalOrg, Options};
use pubsub::{ChangeType, Kind, Start, Trouble, Value};
use serde_json::json;

#[tokio::test]
async fn every_way_of_changing_a_record_becomes_an_event() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let id = org
        .insert("Account", json!({"Name": "Acme", "NumberOfEmployees": 7, "AnnualRevenue": 1.5}))
        .expect("an account");
    let created = change(&mut stream).await;
    assert_eq!((created.change, &created.ids), (ChangeType::Created, &vec![id.clone()]));
    assert_eq!(created.entity, "Account");
    assert_eq!(told(&created, "Name"), Some(&text("Acme")));
    assert_eq!(told(&created, "NumberOfEmployees"), Some(&Value::Integer(7)));
    assert_eq!(told(&created, "AnnualRevenue"), Some(&Value::Number(1.5)));
    assert_eq!(
        told(&created, "Industry"),
        Some(&Value::Null),
        "what is empty is told of a new record"
    );
    assert_eq!(created.user, org.users().1);
    assert_eq!(created.client(), Some("SfdcInternalAPI/"));

    org.edit(&id, json!({"Industry": "Energy", "AnnualRevenue": null})).expect("edited");
    let updated = change(&mut stream).await;
    assert_eq!((updated.change, &updated.ids), (ChangeType::Updated, &vec![id.clone()]));
    assert_eq!(names(&updated.fields), ["AnnualRevenue", "Industry", "LastModifiedDate"]);
    assert_eq!(told(&updated, "AnnualRevenue"), Some(&Value::Null));
    assert!(updated.transaction != created.transaction && updated.sequence == 1);
    assert!(updated.committed_at >= created.committed_at && updated.committed_at % 1000 == 0);

    org.delete(&id).expect("deleted");
    let deleted = change(&mut stream).await;
    assert_eq!((deleted.change, deleted.fields.len()), (ChangeType::Deleted, 0));
    org.undelete(&id).expect("undeleted");
    let undeleted = change(&mut stream).await;
    assert_eq!(undeleted.change, ChangeType::Undeleted);
    assert_eq!(told(&undeleted, "Industry"), Some(&text("Energy")));

    // Gone for good makes no event, and neither does an object that is not captured.
    org.purge(&id).expect("purged");
    org.insert("Lead", json!({"LastName": "King", "Company": "K"})).expect("a lead");
    let other = org.insert("Account", json!({"Name": "Next"})).expect("an account");
    assert_eq!(change(&mut stream).await.ids, [other]);
}

#[tokio::test]
async fn a_merge_is_told_as_what_became_of_each_record() {
    let org = org();
    let account = |name: &str| org.insert("Account", json!({"Name": name})).expect("an account");
    let (master, loser) = (account("a"), account("b"));
    let values = json!({"LastName": "King", "AccountId": loser});
    let contact = org.insert("Contact", values).expect("a contact");
    let mut stream =
        try_subscribe(&org, "/data/ChangeEvents", Start::Latest).await.expect("a stream");
    org.merge(&master, &[&loser], json!({"Industry": "Energy"})).expect("merged");
    let moved = change(&mut stream).await;
    assert_eq!((moved.change, &moved.ids), (ChangeType::Updated, &vec![contact]));
    assert_eq!(told(&moved, "AccountId"), Some(&text(&master)));
    let gone = change(&mut stream).await;
    assert_eq!(
        (gone.change, &gone.ids, gone.fields.len()),
        (ChangeType::Deleted, &vec![loser.clone()], 0)
    );
    let changed = change(&mut stream).await;
    assert_eq!((changed.change, &changed.ids), (ChangeType::Updated, &vec![master]));
    assert_eq!(told(&changed, "Industry"), Some(&text("Energy")));
    assert!(moved.transaction == gone.transaction && gone.transaction == changed.transaction);
    org.undelete(&loser).expect("undeleted");
    let back = change(&mut stream).await;
    assert_eq!((back.change, &back.ids), (ChangeType::Undeleted, &vec![loser]));
    assert_eq!(told(&back, "Name"), Some(&text("b")));
}

#[tokio::test]
async fn every_kind_of_field_is_told() {
    let org = org();
    let topic = "/data/Specimen__ChangeEvent";
    let mut stream = try_subscribe(&org, topic, Start::Latest).await.expect("a stream");
    let values = json!({
        "Code__c": "c", "Number__c": 1.25, "Flag__c": true, "Day__c": "1969-12-31", "Moment__c": "2026-05-01T07:25:37.000Z",
        "Time__c": "10:20:30.000Z", "Colour__c": "Red", "Tags__c": "Two;One", "Notes__c": "a\r\nb", "Name": "s",
    });
    let id = org.insert("Specimen__c", values).expect("a specimen");
    let created = change(&mut stream).await;
    for (field, value) in [
        ("Number__c", Value::Number(1.25)),
        ("Flag__c", Value::Boolean(true)),
        ("Day__c", Value::Integer(-86_400_000)),
        ("Moment__c", Value::Integer(1_777_620_337_000)),
        ("Time__c", Value::Integer(37_230_000)),
        ("Tags__c", text("One;Two")),
        ("Notes__c", text("a\r\nb")),
        ("Serial__c", text("S-0001")),
        ("Account__c", Value::Null),
    ] {
        assert_eq!(told(&created, field), Some(&value), "{field}");
    }
    assert_eq!(told(&created, "Title__c"), None, "formulas are not captured");
    org.edit(&id, json!({"Flag__c": false})).expect("edited");
    assert_eq!(told(&change(&mut stream).await, "Flag__c"), Some(&Value::Boolean(false)));
}

#[tokio::test]
async fn parts_of_compound_fields_are_told_by_themselves() {
    let org = org();
    let topic = "/data/ContactChangeEvent";
    let mut stream = try_subscribe(&org, topic, Start::Latest).await.expect("a stream");
    let values = json!({"FirstName": "Ada", "LastName": "King", "MailingCity": "London", "MailingStreet": "1 St James"});
    let id = org.insert("Contact", values).expect("a contact");
    let created = change(&mut stream).await;
    assert_eq!(told(&created, "MailingCity"), Some(&text("London")));
    assert_eq!(told(&created, "FirstName"), Some(&text("Ada")));
    assert_eq!(told(&created, "MailingLatitude"), Some(&Value::Null));

    org.edit(&id, json!({"LastName": "Lovelace", "MailingCity": null})).expect("edited");
    let updated = change(&mut stream).await;
    assert_eq!(names(&updated.fields), ["LastModifiedDate", "LastName", "MailingCity"]);
    assert_eq!(told(&updated, "LastName"), Some(&text("Lovelace")));
    assert_eq!(told(&updated, "MailingCity"), Some(&Value::Null));

    // The last part that was filled: the address as a whole is emptied.
    org.edit(&id, json!({"MailingStreet": null})).expect("edited");
    let updated = change(&mut stream).await;
    assert!(updated.untold.is_empty());
    assert_eq!(told(&updated, "MailingStreet"), Some(&Value::Null));
    assert_eq!(told(&updated, "MailingCity"), Some(&Value::Null));
}

#[tokio::test]
async fn the_name_of_a_person_account_is_told_by_its_parts() {
    let options = Options {
        person_accounts: true,
        change_events: vec!["Account".into(), "Contact".into()],
        ..Options::default()
    };
    let org = LocalOrg::start(options).expect("an org");
    let mut stream = subscribe(&org, Start::Latest).await;
    let id =
        org.insert("Account", json!({"FirstName": "Ada", "LastName": "King"})).expect("a person");
    let created = change(&mut stream).await;
    assert_eq!((created.change, &created.ids), (ChangeType::Created, &vec![id.clone()]));
    assert_eq!(told(&created, "LastName"), Some(&text("King")));
    org.edit(&id, json!({"LastName": "Lovelace"})).expect("edited");
    let updated = change(&mut stream).await;
    assert_eq!(told(&updated, "LastName"), Some(&text("Lovelace")));
    assert_eq!(told(&updated, "FirstName"), None);
    // A business beside it has a name in one piece.
    org.insert("Account", json!({"Name": "Acme"})).expect("an account");
    assert_eq!(told(&change(&mut stream).await, "Name"), Some(&text("Acme")));
}

#[tokio::test]
async fn a_long_text_that_changed_a_little_has_to_be_read() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let long: String = (0..200).map(|n| format!("line {n} of the text\n")).collect();
    let id = org.insert("Account", json!({"Name": "a", "Description": long})).expect("an account");
    assert_eq!(told(&change(&mut stream).await, "Description"), Some(&text(&long)));
    org.edit(&id, json!({"Description": long.replace("line 7 ", "row 7 ")})).expect("edited");
    let updated = change(&mut stream).await;
    assert_eq!(told(&updated, "Description"), None);
    assert_eq!(updated.untold.iter().map(|f| f.rest_name()).collect::<Vec<_>>(), ["Description"]);
}

#[tokio::test]
async fn one_channel_tells_all_objects_in_the_order_of_their_transactions() {
    let org = org();
    let mut stream =
        try_subscribe(&org, "/data/ChangeEvents", Start::Latest).await.expect("a stream");
    let account = org.insert("Account", json!({"Name": "a"})).expect("an account");
    let values = json!({"LastName": "King", "AccountId": account});
    let contact = org.insert("Contact", values).expect("a contact");
    // The contact goes with its account: one transaction.
    org.delete(&account).expect("deleted");
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = change(&mut stream).await;
        seen.push((event.entity, event.change, event.ids, event.sequence, event.transaction));
    }
    assert_eq!((&seen[0].0[..], &seen[1].0[..]), ("Account", "Contact"));
    assert_eq!((&seen[2].0[..], &seen[2].2, seen[2].3), ("Account", &vec![account], 1));
    assert_eq!((&seen[3].0[..], &seen[3].2, seen[3].3), ("Contact", &vec![contact], 2));
    assert_eq!(seen[2].4, seen[3].4);
    assert!(seen[1].4 != seen[2].4);
}

#[tokio::test]
async fn the_same_change_of_many_records_comes_in_few_events() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let insert = |n| org.insert("Account", json!({"Name": format!("n{n}")})).expect("an account");
    let ids: Vec<String> = (0..20).map(insert).collect();
    for _ in 0..20 {
        change(&mut stream).await;
    }
    let records: Vec<_> = ids
        .iter()
        .map(|id| json!({"attributes": {"type": "Account"}, "Id": id, "Industry": "Energy"}))
        .collect();
    let who = identity(&org);
    ureq::patch(format!("{}/services/data/v62.0/composite/sobjects", org.url()))
        .header("Authorization", format!("Bearer {}", who.token.reveal()))
        .header("Sforce-Call-Options", "client=some_app")
        .content_type("application/json")
        .send(json!({"allOrNone": true, "records": records}).to_string())
        .expect("written");
    let (one, two) = (change(&mut stream).await, change(&mut stream).await);
    assert_eq!([one.ids.clone(), two.ids.clone()].concat(), ids);
    assert_eq!((one.sequence, two.sequence, &one.transaction), (1, 2, &two.transaction));
    assert_eq!(one.origin, "com/salesforce/api/rest/62.0;client=some_app");
    assert_eq!((one.user.clone(), one.client()), (org.users().0, Some("some_app")));
    assert_eq!(told(&two, "Industry"), Some(&text("Energy")));
}

#[tokio::test]
async fn events_keep_the_schema_that_they_were_made_under() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    org.insert("Account", json!({"Name": "before"})).expect("an account");
    let field = local_org::Field::new("Extra__c", local_org::FieldType::String);
    org.define_field("Account", field).expect("a field");
    org.insert("Account", json!({"Name": "after", "Extra__c": "x"})).expect("an account");
    let (before, after) = (change(&mut stream).await, change(&mut stream).await);
    assert_eq!((told(&before, "Name"), told(&before, "Extra__c")), (Some(&text("before")), None));
    assert_eq!(told(&after, "Extra__c"), Some(&text("x")));
}

#[tokio::test]
async fn what_a_user_may_not_see_is_not_told() {
    let org = org();
    org.set_access("Account", "Industry", false, false).expect("set");
    let mut stream = subscribe(&org, Start::Latest).await;
    let id = org.insert("Account", json!({"Name": "a", "Industry": "Energy"})).expect("an account");
    assert_eq!(told(&change(&mut stream).await, "Industry"), Some(&Value::Null));
    org.edit(&id, json!({"Industry": "Banking", "Site": "s"})).expect("edited");
    assert_eq!(names(&change(&mut stream).await.fields), ["LastModifiedDate", "Site"]);
}

#[tokio::test]
async fn a_late_transaction_comes_when_it_commits() {
    let org = org();
    let mut stream = subscribe(&org, Start::Latest).await;
    let id = org.insert("Account", json!({"Name": "a"})).expect("an account");
    change(&mut stream).await;
    org.edit_late(&id, json!({"Site": "late"}), std::time::Duration::from_millis(300))
        .expect("begun");
    let other = org.insert("Account", json!({"Name": "b"})).expect("an account");
    assert_eq!(change(&mut stream).await.ids, [other]);
    let late = change(&mut stream).await;
    assert_eq!((&late.ids[0], told(&late, "Site")), (&id, Some(&text("late"))));
}

#[tokio::test]
async fn beyond_the_limit_of_a_transaction_the_object_has_overflown() {
    let org = org();
    org.set_events(EventSettings { overflow: Some(2), ..EventSettings::default() }).expect("set");
    let mut stream =
        try_subscribe(&org, "/data/ChangeEvents", Start::Latest).await.expect("a stream");
    let account = org.insert("Account", json!({"Name": "a"})).expect("an account");
    change(&mut stream).await;
    for n in 0..3 {
        let values = json!({"LastName": format!("l{n}"), "AccountId": account});
        org.insert("Contact", values).expect("a contact");
        change(&mut stream).await;
    }
    // Four deletes of one transaction: three of the same content would come as one event.
    org.set_events(EventSettings { overflow: Some(1), ..EventSettings::default() }).expect("set");
    org.delete(&account).expect("deleted");
    assert_eq!(change(&mut stream).await.ids, [account]);
    let kind = next(&mut stream).await.expect("an event").kind;
    assert_eq!(kind, Kind::Overflow { entity: "Contact".into() });
}

#[tokio::test]
async fn more_objects_than_allowed_are_not_selected() {
    let org = org();
    let six = ["Account", "Contact", "Lead", "Opportunity", "User", "Specimen__c"];
    let objects = Some(six.map(str::to_owned).to_vec());
    let refused = org.set_events(EventSettings { objects, ..EventSettings::default() });
    assert_eq!(refused.expect_err("refused").code, "LIMIT_EXCEEDED");
    assert!(try_subscribe(&org, ACCOUNTS, Start::Latest).await.is_ok(), "the old ones stay");
}

#[tokio::test]
async fn a_subscriber_goes_on_behind_a_restart_of_an_org_in_a_file() {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pubsub-restart");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("org.state");
    let start = || {
        LocalOrg::start(Options {
            change_events: vec!["Account".into()],
            persist: Some(file.clone()),
            ..Options::default()
        })
        .expect("an org")
    };
    let org = start();
    let mut stream = subscribe(&org, Start::Latest).await;
    org.insert("Account", json!({"Name": "seen"})).expect("an account");
    let seen = next(&mut stream).await.expect("an event").replay_id;
    org.insert("Account", json!({"Name": "unseen"})).expect("an account");
    let last = next(&mut stream).await.expect("an event").replay_id;
    // As it was while it ran: what comes after this copy is lost to it.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let running = loop {
        let text = std::fs::read_to_string(&file).expect("a state");
        if text.contains("unseen") {
            break text;
        }
        assert!(std::time::Instant::now() < until, "it is not saved");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    org.insert("Account", json!({"Name": "lost"})).expect("an account");
    let lost = next(&mut stream).await.expect("an event").replay_id;
    drop(org);

    // Stopped as it should be, it has all of them.
    let org = start();
    let mut stream = subscribe(&org, Start::After(seen.clone())).await;
    assert_eq!(told(&change(&mut stream).await, "Name"), Some(&text("unseen")));
    assert_eq!(told(&change(&mut stream).await, "Name"), Some(&text("lost")));
    org.insert("Account", json!({"Name": "new"})).expect("an account");
    assert_eq!(told(&change(&mut stream).await, "Name"), Some(&text("new")));
    drop(org);

    // Out of the copy, it knows the ids up to it, and refuses that of an event that it has no more.
    std::fs::write(&file, running).expect("written");
    let org = start();
    org.insert("Account", json!({"Name": "after"})).expect("an account");
    let mut stream = subscribe(&org, Start::After(last)).await;
    assert_eq!(told(&change(&mut stream).await, "Name"), Some(&text("after")));
    let refused = try_subscribe(&org, ACCOUNTS, Start::After(lost)).await;
    assert!(matches!(refused, Err(Trouble::Lost(_))));
    drop(org);
    let _ = std::fs::remove_dir_all(&folder);
}
