//! A local org, and the client at work with it.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::Duration;

use connector::{Column, Connector, Kind, Mark, Record, Secret, Write, WriteBatch};
use egress::{Policy, Rules};
use local_org::{LocalOrg, Options};
use salesforce::{Credentials, Salesforce, Settings};
use serde_json::{Value, json};

pub(crate) fn org() -> LocalOrg {
    LocalOrg::start(Options::default()).expect("an org")
}

pub(crate) fn client(org: &LocalOrg) -> Salesforce {
    client_with(org, org.client_secret())
}

pub(crate) fn client_with(org: &LocalOrg, secret: &str) -> Salesforce {
    let allowed_hosts = org.url().trim_start_matches("http://");
    let rules = Rules { allowed_hosts, timeout: Duration::from_secs(20), ..Rules::default() };
    let policy = Policy::parse(&rules).expect("a policy");
    let credentials = Credentials::ClientCredentials {
        client_id: org.client_id().to_owned(),
        client_secret: Secret::new(secret.to_owned()),
    };
    Salesforce::new(&Settings::new(org.url()), credentials, &policy).expect("a client")
}

pub(crate) fn text(name: &str) -> Column {
    Column { name: name.into(), kind: Kind::Text, length: 255, ..Column::default() }
}

pub(crate) fn accounts(columns: Vec<Column>, read_before: bool, writes: Vec<Write>) -> WriteBatch {
    WriteBatch { object: "Account".into(), columns, read_before, writes }
}

/// Accounts made by another user; their ids in order.
pub(crate) fn seed(org: &LocalOrg, count: usize) -> Vec<String> {
    let insert = |n| org.insert("Account", json!({"Name": format!("n{n}")})).expect("an account");
    let mut ids: Vec<String> = (0..count).map(insert).collect();
    ids.sort_unstable();
    ids
}

/// All changes from a mark on, page by page, as a caller reads them.
pub(crate) async fn all_changes(
    client: &Salesforce,
    columns: &[Column],
    mut mark: Mark,
) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let page = client.changes("Account", columns, &mark).await.expect("a page");
        if let Some(last) = page.records.last() {
            mark = Mark { at: last.version.clone(), id: last.id.clone() };
        }
        all.extend(page.records);
        if !page.more {
            return all;
        }
    }
}

pub(crate) fn beginning() -> Mark {
    Mark { at: "2000-01-01T00:00:00.000Z".into(), id: String::new() }
}

/// The requests of the REST API that reached the org.
pub(crate) fn data_calls(org: &LocalOrg) -> usize {
    org.calls().iter().filter(|call| call.path.starts_with("/services/data/")).count()
}

pub(crate) fn named(org: &LocalOrg, id: &str) -> Value {
    org.get(id).expect("a record")["Name"].clone()
}
