//! Behaviour of the crate as its users see it.

mod accepted;
mod fragments;
mod hubs;
mod inconsistent;
mod joining;
mod mapping;
mod properties;
mod refused;

use document::{Config, Connection, Context, Error, Notice};
use serde_json::{Value, json};

/// The database that the documents of these tests are read in.
fn context() -> Context {
    let connection =
        |name: &str, system: &str| Connection { name: name.to_owned(), system: system.to_owned() };
    Context {
        database: "customer_data".to_owned(),
        connections: vec![
            connection("crm", "salesforce"),
            connection("erp", "netsuite"),
            connection("desk_eu", "zendesk"),
            connection("desk_us", "zendesk"),
        ],
    }
}

/// The least document of two tables.
fn base() -> Value {
    json!({"source": "portal.users", "target": "salesforce.account"})
}

/// The least document, changed by `patch`.
fn patched(patch: Value) -> Value {
    document::merge_patch(&base(), &[patch]).expect("a patch of a test is an object")
}

fn read(doc: &Value) -> Result<(Config, Vec<Notice>), Error> {
    Config::read(doc, &context())
}
