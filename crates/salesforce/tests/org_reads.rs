//! Reading from a local org.

mod against;

use against::{all_changes, beginning, client, client_with, data_calls, org, seed, text};
use connector::{ChangesOf, Connector, FaultKind, Kind, Mark};
use local_org::{Fault, FaultRule};
use serde_json::json;

#[tokio::test]
async fn check_says_who_we_are() {
    let org = org();
    let client = client(&org);
    let account = client.check().await.expect("an account");
    assert_eq!((account.id, account.user_id), (org.org_id(), org.users().0));
    assert!(!account.user.is_empty());
    let offset = account.clock_offset_ms.expect("an offset");
    assert!(offset.abs() < 5_000, "{offset}");
    assert_eq!(account.usage.map(|usage| usage.allowed), Some(15_000));
}

#[tokio::test]
async fn a_wrong_secret_is_a_matter_of_credentials_and_appears_nowhere() {
    let org = org();
    let fault = client_with(&org, "wrong-secret-4711").check().await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Credentials, "{fault:?}");
    assert!(!format!("{fault:?}").contains("4711") && !fault.hint.is_empty());
}

#[tokio::test]
async fn the_description_of_an_object_becomes_fields() {
    let org = org();
    let client = client(&org);
    let names = client.objects().await.expect("objects");
    assert!(names.iter().any(|object| object.name == "Account" && object.createable));
    let account = client.describe("Account", &[]).await.expect("an object");
    let field = |name: &str| account.field(name).expect("a field");
    assert_eq!(
        (account.id_field.as_str(), account.version_field.as_str()),
        ("Id", "SystemModstamp")
    );
    assert_eq!((field("Name").kind, field("Name").length), (Kind::Text, 255));
    assert_eq!(field("AnnualRevenue").kind, Kind::Number);
    assert_eq!(field("NumberOfEmployees").kind, Kind::Integer);
    assert_eq!(field("BillingAddress").kind, Kind::Structure);
    assert_eq!(field("BillingCity").compound.as_deref(), Some("BillingAddress"));
    assert_eq!(field("ParentId").kind, Kind::Id);
    assert_eq!(field("ParentId").reference_to, ["Account"]);
    assert!(field("External_Id__c").external_id && field("External_Id__c").unique);
    assert!(field("SystemModstamp").read_only());
    assert!(field("Rating").choices.iter().any(|choice| choice == "Hot"));
    let fault = client.describe("Nothing__c", &[]).await.expect_err("a fault");
    assert_eq!(fault.kind, FaultKind::Schema);
}

#[tokio::test]
async fn all_records_are_listed_page_by_page() {
    let org = org();
    let ids = seed(&org, 4100);
    org.delete(&ids[7]).expect("deleted");
    let (client, columns) = (client(&org), [text("Name")]);
    let (mut listed, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = client.list("Account", &columns, after.as_deref()).await.expect("a page");
        pages += 1;
        listed.extend(page.records.into_iter().map(|record| record.id));
        after = listed.last().cloned();
        if !page.more {
            break;
        }
    }
    let expected: Vec<String> = ids.iter().filter(|id| **id != ids[7]).cloned().collect();
    assert_eq!((listed.len(), pages), (4099, 3));
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn every_field_of_an_object_can_be_asked_for() {
    let org = org();
    seed(&org, 3);
    let client = client(&org);
    let account = client.describe("Account", &[]).await.expect("an object");
    let columns: Vec<_> = account.fields.iter().map(|field| field.column()).collect();
    let page = client.list("Account", &columns, None).await.expect("a page");
    assert_eq!(page.records.len(), 3);
    let fetched =
        client.fetch("Account", &columns, &[page.records[0].id.clone()]).await.expect("records");
    assert_eq!(fetched[0].as_ref(), Some(&page.records[0]), "both ways tell the same");
    for (column, value) in columns.iter().zip(&page.records[0].values) {
        assert_eq!(client.canonical(column, value.as_deref()), *value, "{}", column.name);
    }
}

#[tokio::test]
async fn changes_come_in_their_order_with_deletes_and_each_once() {
    let org = org();
    let ids = seed(&org, 4500);
    org.edit(&ids[3], json!({"Name": "changed"})).expect("edited");
    org.delete(&ids[5]).expect("deleted");
    let client = client(&org);
    let changes = all_changes(&client, &[text("Name")], beginning()).await;
    assert_eq!(changes.len(), 4500);
    let marks: Vec<(&str, &str)> =
        changes.iter().map(|r| (r.version.as_str(), r.id.as_str())).collect();
    assert!(marks.is_sorted());
    let of = |id: &str| changes.iter().find(|record| record.id == id).expect("a change");
    assert_eq!(of(&ids[3]).values, [Some("changed".to_owned())]);
    assert!(of(&ids[5]).deleted && of(&ids[5]).values.len() == 1);
    assert!(!of(&ids[4]).deleted);
    // From its last moment on, that moment included, without anything before.
    let last = changes.last().expect("a change");
    let again =
        all_changes(&client, &[], Mark { at: last.version.clone(), id: String::new() }).await;
    assert!(!again.is_empty() && again.iter().all(|record| record.version == last.version));
    let mark = Mark { at: last.version.clone(), id: last.id.clone() };
    assert!(all_changes(&client, &[], mark).await.is_empty());
}

#[tokio::test]
async fn records_are_fetched_in_the_order_that_was_asked() {
    let org = org();
    let ids = seed(&org, 5);
    org.delete(&ids[1]).expect("deleted");
    let asked =
        [ids[4].clone(), ids[1].clone(), ids[0][..15].to_owned(), "001000000999999AAA".to_owned()];
    let client = client(&org);
    let found = client.fetch("Account", &[text("Name")], &asked).await.expect("records");
    let found: Vec<Option<(String, bool)>> =
        found.into_iter().map(|r| r.map(|r| (r.id, r.deleted))).collect();
    let wanted = [
        Some((ids[4].clone(), false)),
        Some((ids[1].clone(), true)),
        Some((ids[0].clone(), false)),
        None,
    ];
    assert_eq!(found, wanted);
    // A second call only because of what is not there.
    assert_eq!(client.calls(), 2);
}

#[tokio::test]
async fn records_are_found_by_their_external_id() {
    let org = org();
    for n in 0..600 {
        let values = json!({"Name": "x", "External_Id__c": format!("key {n} with 'quotes' and \\ of some length")});
        org.insert("Account", values).expect("an account");
    }
    let client = client(&org);
    let columns = [text("External_Id__c")];
    let values: Vec<String> =
        (100..700).map(|n| format!("key {n} with 'quotes' and \\ of some length")).collect();
    let found = client.find("Account", &columns, "External_Id__c", &values).await.expect("records");
    assert_eq!(found.len(), 500);
    assert!(found.iter().all(|r| r.values[0].as_ref().is_some_and(|value| values.contains(value))));
}

#[tokio::test]
async fn only_our_own_creates_are_taken_for_ours() {
    let org = org();
    seed(&org, 3);
    let client = client(&org);
    let start = org.now().replace("+0000", "Z");
    let create =
        connector::Write::Create { identity: None, fields: vec![(0, Some("ours".into()))] };
    let batch = against::accounts(vec![text("Name")], false, vec![create]);
    client.write(&batch).await.expect("outcomes");
    // The clock of records has whole seconds.
    let since = format!("{}.000Z", start.get(..19).expect("a moment"));
    let ours = client.created_since("Account", &[text("Name")], &since).await.expect("records");
    assert_eq!(ours.iter().map(|r| r.values[0].as_deref()).collect::<Vec<_>>(), [Some("ours")]);
}

#[tokio::test]
async fn a_session_that_ends_is_renewed_unseen() {
    let org = org();
    let ids = seed(&org, 1);
    let client = client(&org);
    for _ in 0..3 {
        org.expire_sessions();
        let found = client.fetch("Account", &[text("Name")], &ids).await.expect("records");
        assert!(found[0].is_some());
    }
}

#[tokio::test]
async fn a_used_up_day_is_quota() {
    let org = org();
    let client = client(&org);
    client.objects().await.expect("objects");
    org.set_usage(15_000, 15_000);
    let fault = client.list("Account", &[], None).await.expect_err("a fault");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Quota, "REQUEST_LIMIT_EXCEEDED"));
    assert!(fault.retry_after.is_some_and(|wait| wait.as_secs() >= 60));
}

#[tokio::test]
async fn reads_that_are_cut_or_answered_in_html_can_be_repeated() {
    let org = org();
    seed(&org, 10);
    let client = client(&org);
    for fault in [Fault::Html503, Fault::CutBefore, Fault::CutDuring, Fault::CutAfter] {
        org.fault(FaultRule::once(fault.clone()).path("/query"));
        let answer = client.list("Account", &[text("Name")], None).await;
        assert_eq!(answer.expect_err("a fault").kind, FaultKind::Transient, "{fault:?}");
        let page = client.list("Account", &[text("Name")], None).await.expect("a page");
        assert_eq!(page.records.len(), 10);
    }
}

#[tokio::test]
async fn a_field_that_this_user_cannot_see_is_a_matter_of_the_schema() {
    let org = org();
    org.set_access("Account", "Phone", false, false).expect("access");
    let client = client(&org);
    let account = client.describe("Account", &[]).await.expect("an object");
    assert!(account.field("Phone").is_none());
    let fault = client.list("Account", &[text("Phone")], None).await.expect_err("a fault");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Schema, "INVALID_FIELD"));
}

#[tokio::test]
async fn the_count_of_calls_is_that_of_the_org() {
    let org = org();
    let ids = seed(&org, 2100);
    let client = client(&org);
    client.check().await.expect("an account");
    client.objects().await.expect("objects");
    client.list("Account", &[text("Name")], None).await.expect("a page");
    client.fetch("Account", &[text("Name")], &ids).await.expect("records");
    assert_eq!(client.calls(), org.usage().0);
    assert_eq!(client.calls(), data_calls(&org) as u64);
    assert!(client.usage().is_some());
}

#[tokio::test]
async fn records_are_counted_where_the_org_says_so() {
    let org = org();
    let client = client(&org);
    let ids = seed(&org, 3);
    org.delete(&ids[0]).expect("deleted");
    assert_eq!(client.count("account").await.expect("a count"), Some(2));
    // An object without records is left out of the answer.
    assert_eq!(client.count("Contact").await.expect("a count"), None);
    let fault = client.count("Account,Contact").await.expect_err("a fault");
    assert_eq!(fault.code, "INVALID_NAME");
}

/// A description has hundreds of kilobytes: it is only sent again once something has changed.
#[tokio::test]
async fn a_description_that_still_holds_is_not_sent_again() {
    let org = org();
    let client = client(&org);
    let first = client.describe("Account", &[]).await.expect("an object");
    org.clear_calls();
    assert_eq!(client.describe("account", &[]).await.expect("the same"), first);
    let statuses = |org: &local_org::LocalOrg| -> Vec<Option<u16>> {
        org.calls().iter().filter(|c| c.path.ends_with("/describe")).map(|c| c.status).collect()
    };
    assert_eq!(statuses(&org), [Some(304)]);
    org.set_access("Account", "Phone", false, false).expect("a field");
    let now = client.describe("Account", &[]).await.expect("an object");
    assert!(now.field("Phone").is_none() && first.field("Phone").is_some());
    assert_eq!(statuses(&org), [Some(304), Some(200)]);
}

/// Forty objects that are asked for their changes would use up a day's calls one by one.
#[tokio::test]
async fn the_changes_of_five_objects_cost_one_call() {
    let org = org();
    let client = client(&org);
    let ids = seed(&org, 3);
    org.delete(&ids[0]).expect("deleted");
    org.insert("Contact", json!({"LastName": "Adams"})).expect("a contact");
    let of = |object: &str, field: &str| ChangesOf {
        object: object.to_owned(),
        columns: vec![text(field)],
        since: beginning(),
    };
    let asked = [
        of("Account", "Name"),
        of("Contact", "LastName"),
        of("Contact", "Nothing__c"),
        of("Lead", "LastName"),
        of("Case", "Subject"),
    ];
    client.check().await.expect("a login");
    org.clear_calls();
    let answers = client.changes_of(&asked).await.expect("answers");
    assert_eq!(data_calls(&org), 1);
    let one = |n: usize| answers[n].as_ref().expect("a page");
    assert_eq!(*one(0), client.changes("Account", &asked[0].columns, &beginning()).await.unwrap());
    assert_eq!(one(0).records.iter().filter(|record| record.deleted).count(), 1);
    assert_eq!(one(1).records[0].values, [Some("Adams".to_owned())]);
    assert_eq!((one(3).records.len(), one(4).records.len()), (0, 0));
    // One that is refused spoils nothing for the others, and one that does not fit in is asked alone.
    assert_eq!(answers[2].as_ref().expect_err("a fault").kind, FaultKind::Schema);
    let long: Vec<_> = std::iter::repeat_n(text("Name"), 2000).collect();
    let asked = [ChangesOf { columns: long, ..asked[0].clone() }, asked[1].clone()];
    let answers = client.changes_of(&asked).await.expect("answers");
    assert_eq!(answers[0].as_ref().expect("a page").records.len(), 3);
    assert_eq!(answers[1].as_ref().expect("a page").records.len(), 1);
}
