//! A local org, and a subscriber of it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use connector::Secret;
use egress::{Policy, Rules};
use local_org::{LocalOrg, Options};
use pubsub::{Change, Client, Event, Field, Identity, Kind, Start, Subscription, Trouble, Value};
use serde_json::Value as Json;

pub(crate) const ACCOUNTS: &str = "/data/AccountChangeEvent";

/// An org that captures changes of accounts, contacts and specimens.
pub(crate) fn org() -> LocalOrg {
    let objects = ["Account", "Contact", "Specimen__c"].map(str::to_owned).to_vec();
    LocalOrg::start(Options {
        change_events: objects,
        objects: vec![local_org::specimen()],
        ..Options::default()
    })
    .expect("an org")
}

pub(crate) fn identity(org: &LocalOrg) -> Identity {
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}",
        org.client_id(),
        org.client_secret()
    );
    let answer = ureq::post(format!("{}/services/oauth2/token", org.url()))
        .content_type("application/x-www-form-urlencoded")
        .send(form)
        .expect("a login")
        .body_mut()
        .read_to_string()
        .expect("its answer");
    let answer: Json = serde_json::from_str(&answer).expect("JSON");
    let token = answer["access_token"].as_str().expect("a token").to_owned();
    Identity { token: Secret::new(token), instance_url: org.url().to_owned(), org_id: org.org_id() }
}

pub(crate) fn client(org: &LocalOrg) -> Client {
    let allowed_hosts = org.events_address();
    let policy = Policy::parse(&Rules { allowed_hosts, ..Rules::default() }).expect("a policy");
    Client::new(&format!("http://{allowed_hosts}"), &policy).expect("a client")
}

pub(crate) async fn subscribe(org: &LocalOrg, start: Start) -> Subscription {
    try_subscribe(org, ACCOUNTS, start).await.expect("a stream")
}

pub(crate) async fn try_subscribe(
    org: &LocalOrg,
    topic: &str,
    start: Start,
) -> Result<Subscription, Trouble> {
    client(org).subscribe(&identity(org), topic, &start).await
}

/// The next event within a time in which anything comes.
pub(crate) async fn next(stream: &mut Subscription) -> Result<Event, Trouble> {
    tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("something comes")
}

pub(crate) async fn change(stream: &mut Subscription) -> Change {
    match next(stream).await.expect("an event").kind {
        Kind::Changed(change) => change,
        other => panic!("no change: {other:?}"),
    }
}

/// The value of a field as the REST API calls it, if the change tells it.
pub(crate) fn told<'a>(change: &'a Change, name: &str) -> Option<&'a Value> {
    change.fields.iter().find(|(field, _)| field.rest_name() == name).map(|(_, value)| value)
}

pub(crate) fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

pub(crate) fn names(fields: &[(Field, Value)]) -> Vec<String> {
    let mut names: Vec<String> = fields.iter().map(|(field, _)| field.rest_name()).collect();
    names.sort_unstable();
    names
}
