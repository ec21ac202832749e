//! The extension comes and goes.

use std::time::Duration;

use pgrx_tests::{Shared, db, query_one, run};

const EXTENSION_SCHEMAS: &str = "SELECT count(*) FROM pg_namespace WHERE nspname = 'sync'";

#[test]
fn the_extension_is_created_in_its_declared_version() {
    let db = db();
    let mut client = db.connect();
    let sql = "SELECT extversion FROM pg_extension WHERE extname = 'sync_ext'";
    assert_eq!(query_one(&mut client, sql), "1.0");
}

#[test]
fn dropping_the_extension_leaves_nothing_and_it_can_be_created_again() {
    let db = db();
    let mut client = db.connect();
    run(&mut client, "DROP EXTENSION sync_ext");
    assert_eq!(query_one(&mut client, EXTENSION_SCHEMAS), "0");
    run(&mut client, "CREATE EXTENSION sync_ext");
    assert_eq!(query_one(&mut client, EXTENSION_SCHEMAS), "1");
}

#[test]
fn a_database_with_the_extension_can_be_dropped() {
    let db = db();
    let mut client = Shared::cluster().connect("postgres").unwrap();
    let started = std::time::Instant::now();
    run(&mut client, &format!("DROP DATABASE {}", db.name()));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
