//! C1: a connected worker is in nobody's way who wants the database for himself.

use std::time::{Duration, Instant};

use pgrx_tests::{Shared, db, query_one, run};

use super::{both, settle, status, two_tables, until, worker, workers};

const LONGEST: Duration = Duration::from_secs(2);

#[test]
fn a_database_is_dropped_within_two_seconds_also_while_its_worker_is_busy() {
    let mut admin = Shared::cluster().connect("postgres").unwrap();
    for force in ["", "WITH (FORCE)"] {
        let db = db();
        let mut client = db.connect();
        two_tables(&mut client);
        settle(&mut client);
        run(&mut client, "INSERT INTO a.t SELECT n, 'x' FROM generate_series(10, 60000) n");
        until(&mut client, "SELECT count(*) > 2 FROM b.t", "t");
        drop(client);
        let started = Instant::now();
        run(&mut admin, &format!("DROP DATABASE {} {force}", db.name()));
        assert!(started.elapsed() < LONGEST, "{force}: {:?}", started.elapsed());
        Shared::cluster()
            .wait_until("the worker is gone", || workers(Shared::cluster(), db.name()).is_empty());
    }
}

/// A13: a copy by CREATE DATABASE … TEMPLATE carries no mark, starts nothing, and says so.
#[test]
fn a_database_copied_as_a_template_stays_fenced_until_it_is_activated() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    drop(client);
    let copy = format!("{}_copy", db.name());
    let mut admin = db.cluster().connect("postgres").unwrap();
    let started = Instant::now();
    run(&mut admin, &format!("CREATE DATABASE {copy} TEMPLATE {}", db.name()));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    // The original goes on.
    let mut client = db.connect();
    run(&mut client, "UPDATE a.t SET v = 'original' WHERE id = 1");
    settle(&mut client);
    assert_eq!(both(&mut client), "1original 2two / 1original 2two");

    let mut client = db.cluster().connect(&copy).unwrap();
    run(&mut client, "UPDATE a.t SET v = 'copy' WHERE id = 1");
    assert_eq!(
        status(&mut client),
        "fenced: this database is a copy of another one; SELECT sync.activate() if this database is meant to sync"
    );
    let refusal = pgrx_tests::refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert!(refusal.contains("fenced") && refusal.contains("sync.activate()"), "{refusal}");
    assert!(workers(db.cluster(), &copy).is_empty());
    assert_eq!(both(&mut client), "1copy 2two / 1one 2two");

    run(&mut client, "SELECT sync.activate()");
    settle(&mut client);
    assert_eq!(both(&mut client), "1copy 2two / 1copy 2two");
    assert_eq!(query_one(&mut client, "SELECT count(*) FROM sync.conflicts"), "0");
    drop(client);
    run(&mut admin, &format!("DROP DATABASE {copy}"));
}

#[test]
fn a_database_can_be_renamed_and_its_worker_comes_back() {
    let db = db();
    let mut client = db.connect();
    two_tables(&mut client);
    settle(&mut client);
    drop(client);
    let name = format!("{} renamed", db.name());
    let mut admin = db.cluster().connect("postgres").unwrap();
    let started = Instant::now();
    run(&mut admin, &format!("ALTER DATABASE {} RENAME TO \"{name}\"", db.name()));
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
    let mut client = db.cluster().connect(&name).unwrap();
    run(&mut client, "UPDATE a.t SET v = 'renamed' WHERE id = 1");
    settle(&mut client);
    assert_eq!(both(&mut client), "1renamed 2two / 1renamed 2two");
    worker(db.cluster(), &name);
    drop(client);
    run(&mut admin, &format!("DROP DATABASE \"{name}\""));
}
