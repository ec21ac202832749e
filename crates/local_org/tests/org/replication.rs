//! What changed and what went in a span of time, and records by way of others.

use crate::client::{Client, encode};
use serde_json::{Value, json};

/// Two minutes around what was done so far, as a client asks for it.
fn span(client: &Client, call: &str) -> Value {
    let now = client.org.now();
    client.org.set_clock_skew_ms(120_000);
    let target = format!(
        "{call}/?start={}&end={}",
        encode(&now.replace("+0000", "Z")),
        encode(&client.org.now())
    );
    let reply = client.get(&target);
    client.org.set_clock_skew_ms(0);
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

#[test]
fn changes_and_deletions_are_told_by_their_time() {
    let client = Client::start();
    let (stays, goes, purged, back) =
        (client.account("a"), client.account("b"), client.account("c"), client.account("d"));
    for id in [&goes, &purged, &back] {
        client.org.delete(id).expect("deleted");
    }
    client.org.purge(&purged).expect("purged");
    client.org.undelete(&back).expect("back");
    let updated = span(&client, "/sobjects/Account/updated");
    assert_eq!(updated["ids"], json!([stays, back]));
    let deleted = span(&client, "/sobjects/Account/deleted");
    let ids: Vec<&Value> =
        deleted["deletedRecords"].as_array().expect("records").iter().map(|r| &r["id"]).collect();
    assert_eq!(ids, [&json!(goes), &json!(purged)]);
    assert!(
        deleted["deletedRecords"][0]["deletedDate"]
            .as_str()
            .is_some_and(|d| d.ends_with(".000+0000"))
    );
    assert!(
        deleted["earliestDateAvailable"].is_string() && deleted["latestDateCovered"].is_string()
    );
}

#[test]
fn what_is_not_committed_yet_holds_the_covered_date_back() {
    let client = Client::start();
    let id = client.account("a");
    client
        .org
        .edit_late(&id, json!({"Name": "b"}), std::time::Duration::from_secs(600))
        .expect("edited");
    let stamp = client.org.now();
    let updated = span(&client, "/sobjects/Account/updated");
    assert!(updated["latestDateCovered"].as_str() <= Some(&stamp), "{updated} {stamp}");
}

#[test]
fn wrong_spans_are_refused() {
    let client = Client::start();
    for (call, span) in [
        ("updated", "start=2026-01-01T00:00:00Z&end=2026-01-01T00:00:30Z"),
        ("updated", "start=2001-01-01T00:00:00Z&end=2001-01-02T00:00:00Z"),
        ("deleted", "start=yesterday&end=2001-01-02T00:00:00Z"),
    ] {
        let reply = client.get(&format!("/sobjects/Account/{call}?{span}"));
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "INVALID_REPLICATION_DATE"),
            "{span}"
        );
    }
    assert_eq!(client.get("/sobjects/Account/updated").code(), "MISSING_ARGUMENT");
    assert_eq!(client.get("/sobjects/Nothing/deleted").status, 404);
}

#[test]
fn parents_and_children_are_read_by_way_of_a_record() {
    let client = Client::start();
    let account = client.account("Acme");
    let contact = client
        .org
        .insert("Contact", json!({"LastName": "Doe", "AccountId": account}))
        .expect("saved");
    let parent = client.get(&format!("/sobjects/Contact/{contact}/Account?fields=Name")).json();
    assert_eq!(parent["Name"], "Acme");
    let children =
        client.get(&format!("/sobjects/Account/{account}/Contacts?fields=Id,LastName")).json();
    assert_eq!(
        (&children["totalSize"], &children["records"][0]["Id"]),
        (&json!(1), &json!(contact))
    );
    assert_eq!(client.get(&format!("/sobjects/Account/{account}/Strangers")).status, 404);
    assert_eq!(client.get(&format!("/sobjects/Contact/{contact}/ReportsTo")).status, 404);
    let described = client.get("/sobjects/Account/describe").json();
    let names: Vec<&str> = described["childRelationships"]
        .as_array()
        .expect("relationships")
        .iter()
        .filter_map(|r| r["relationshipName"].as_str())
        .collect();
    assert!(
        ["Contacts", "Opportunities", "ChildAccounts", "Specimens__r"]
            .iter()
            .all(|n| names.contains(n))
    );
}

#[test]
fn the_list_of_objects_can_be_asked_again() {
    let client = Client::start();
    let first = client.get("/sobjects");
    let since = [("If-Modified-Since", first.headers["last-modified"].as_str())];
    let again = client.call_with("GET", "/sobjects", &since, &Value::Null).expect("an answer");
    assert_eq!((first.status, again.status), (200, 304));
    client.org.define_object(local_org::Object::new("New__c", ""));
    let again = client.call_with("GET", "/sobjects", &since, &Value::Null).expect("an answer");
    assert_eq!(again.status, 200);
}
