//! Parents and their children in one call, at a local org.

mod against;

use std::sync::Arc;

use against::{accounts, client, data_calls, org, text};
use connector::{Column, Connector, Done, Fault, FaultKind, Identity, Outcome, Write, WriteBatch};
use local_org::{FaultRule, LocalOrg};
use serde_json::json;

fn account(key: &str) -> Write {
    Write::Create {
        identity: Some(Identity { field: "External_Id__c".into(), value: key.to_owned() }),
        fields: vec![(0, Some(key.to_owned()))],
    }
}

/// Without a last name a contact is refused.
fn contact(name: Option<&str>, account: &str) -> Write {
    Write::Create {
        identity: None,
        fields: vec![(0, name.map(str::to_owned)), (1, Some(account.to_owned()))],
    }
}

/// Children first: the order is the connector's business.
fn batches(contacts: Vec<Write>, parents: Vec<Write>) -> [Arc<WriteBatch>; 2] {
    let columns = vec![
        text("LastName"),
        Column {
            name: "Account.External_Id__c".into(),
            length: 40,
            lookup: Some("AccountId".into()),
            ..Column::default()
        },
    ];
    let children = WriteBatch { object: "Contact".into(), ..accounts(columns, true, contacts) };
    let columns = vec![text("Name"), text("External_Id__c")];
    [Arc::new(children), Arc::new(accounts(columns, true, parents))]
}

fn id(outcome: &Outcome) -> &str {
    match &outcome.result {
        Ok(Done::Created { id } | Done::Updated { id }) => id,
        other => panic!("{other:?}"),
    }
}

fn fault(outcome: &Outcome) -> &Fault {
    outcome.result.as_ref().expect_err("a fault")
}

fn count(org: &LocalOrg, object: &str) -> usize {
    org.records(object).len()
}

#[tokio::test]
async fn parents_and_children_are_one_call() {
    let org = org();
    let there = org.insert("Account", json!({"Name": "there", "External_Id__c": "b/.. ?%"}));
    let client = client(&org);
    client.check().await.expect("a login");
    org.clear_calls();
    let contacts =
        vec![contact(Some("x"), "a"), contact(Some("y"), "b/.. ?%"), contact(Some("z"), "a")];
    let written = batches(contacts, vec![account("a"), account("b/.. ?%"), account("alone")]);
    let outcomes = client.write_together(&written).await.expect("outcomes");
    assert_eq!(data_calls(&org), 1);
    assert!(org.calls()[0].path.ends_with("/composite/graph"), "{:?}", org.calls()[0].path);
    let parents: Vec<&str> = outcomes[1].iter().map(id).collect();
    assert_eq!(outcomes[1][1].result, Ok(Done::Updated { id: there.expect("an account") }));
    for (contact, parent) in outcomes[0].iter().zip([0, 1, 0]) {
        assert_eq!(org.get(id(contact)).expect("a contact")["AccountId"], parents[parent]);
    }
    assert_eq!((count(&org, "Account"), count(&org, "Contact")), (3, 3));
}

#[tokio::test]
async fn a_refused_record_takes_back_its_own_graph_and_no_other() {
    let org = org();
    let client = client(&org);
    let contacts = vec![contact(Some("x"), "a"), contact(None, "a"), contact(Some("z"), "b")];
    let written = batches(contacts, vec![account("a"), account("b")]);
    let outcomes = client.write_together(&written).await.expect("outcomes");
    let culprit = fault(&outcomes[0][1]);
    assert_eq!(
        (culprit.kind, culprit.code.as_str()),
        (FaultKind::Refused, "REQUIRED_FIELD_MISSING")
    );
    assert_eq!(culprit.about.fields, ["LastName"]);
    assert!(culprit.about.request_id.is_some());
    for halted in [&outcomes[0][0], &outcomes[1][0]] {
        assert_eq!(fault(halted).kind, FaultKind::Cascade, "{halted:?}");
    }
    assert_eq!(org.get(id(&outcomes[0][2])).expect("a contact")["AccountId"], id(&outcomes[1][1]));
    assert_eq!((count(&org, "Account"), count(&org, "Contact")), (1, 1));
}

#[tokio::test]
async fn what_does_not_fit_goes_one_object_after_the_other_parents_first() {
    let org = org();
    let client = client(&org);
    let contacts = (0..600).map(|n| contact(Some(&n.to_string()), "a")).collect();
    let outcomes =
        client.write_together(&batches(contacts, vec![account("a")])).await.expect("outcomes");
    assert!(outcomes.iter().flatten().all(|outcome| outcome.result.is_ok()));
    assert_eq!((count(&org, "Account"), count(&org, "Contact")), (1, 600));

    // More families than graphs go in one call: the rest goes by the ordinary way.
    let keys: Vec<String> = (0..100).map(|n| format!("k{n}")).collect();
    let contacts = keys.iter().map(|key| contact(Some(key), key)).collect();
    let parents = keys.iter().map(|key| account(key)).collect();
    let outcomes = client.write_together(&batches(contacts, parents)).await.expect("outcomes");
    for (contact, parent) in outcomes[0].iter().zip(&outcomes[1]) {
        assert_eq!(org.get(id(contact)).expect("a contact")["AccountId"], id(parent));
    }
}

/// As a request of its own; in a graph it would be a reference.
#[tokio::test]
async fn a_text_that_looks_like_a_reference_is_a_text() {
    let org = org();
    let client = client(&org);
    let written = batches(vec![contact(Some("@{n0.id}"), "a")], vec![account("a")]);
    let outcomes = client.write_together(&written).await.expect("outcomes");
    let record = org.get(id(&outcomes[0][0])).expect("a contact");
    assert_eq!(
        (&record["LastName"], &record["AccountId"]),
        (&json!("@{n0.id}"), &json!(id(&outcomes[1][0])))
    );
}

/// An org that knows no graphs, or takes none of this user's.
#[tokio::test]
async fn a_request_that_is_refused_as_a_whole_carried_nothing_out_and_goes_otherwise() {
    let org = org();
    let client = client(&org);
    client.check().await.expect("a login");
    org.clear_calls();
    org.fault(FaultRule::named("INVALID_TYPE").expect("a rule").path("/composite/graph"));
    let written = batches(vec![contact(Some("x"), "a")], vec![account("a")]);
    let outcomes = client.write_together(&written).await.expect("outcomes");
    assert_eq!(org.get(id(&outcomes[0][0])).expect("a contact")["AccountId"], id(&outcomes[1][0]));
    assert_eq!(data_calls(&org), 3);
}
