//! Clients of Salesforce that others wrote, in sessions with the org: what they rely on, the org has to do.
//!
//! Each script in `python` drives simple-salesforce and each in `node` jsforce or salesforce-pubsub-api-client, in the versions that
//! `python/requirements.txt` and `node/package-lock.json` pin. A script asserts, and ends with a line that begins
//! with its name and `passed`. To add one, put it there and name it in a test here.

mod client;

use client::{NODE, PYTHON, run};

#[test]
fn simple_salesforce_has_a_session() {
    run(&PYTHON, "session.py");
}

#[test]
fn simple_salesforce_logs_in() {
    run(&PYTHON, "login.py");
}

#[test]
fn jsforce_logs_in() {
    run(&NODE, "login.mjs");
}

#[test]
fn the_pubsub_client_is_told_of_changes() {
    run(&NODE, "pubsub.mjs");
}

#[test]
fn jsforce_has_a_session() {
    run(&NODE, "session.mjs");
}

#[test]
fn simple_salesforce_works_in_bulk() {
    run(&PYTHON, "bulk.py");
}

#[test]
fn jsforce_works_in_bulk() {
    run(&NODE, "bulk.mjs");
}
