//! All worker slots in use: a state that is said, not a loop.

use cluster::Options;
use pgrx_tests::{db, query_one, refusal, run};

use super::{both, own, said, settle, status, two_tables, until, worker, workers};

const HINT: &str = "HINT: Increase max_worker_processes and restart the server.";

/// C3. Two slots are taken by the launchers of sync_ext and of logical replication.
#[test]
fn a_database_without_a_worker_slot_says_so_and_is_served_when_one_is_free() {
    let cluster = own(Options::new("slots").conf("max_worker_processes = 3"));
    let mut admin = cluster.connect("postgres").unwrap();
    run(&mut admin, "CREATE DATABASE other");
    two_tables(&mut admin);
    settle(&mut admin);
    worker(&cluster, "postgres");

    let warning = said(&cluster, "other", "CREATE EXTENSION sync_ext");
    assert!(
        warning.contains("its worker cannot start: all worker slots") && warning.contains("HINT:"),
        "{warning}"
    );
    let mut client = cluster.connect("other").unwrap();
    two_tables(&mut client);
    until(&mut client, "SELECT state FROM sync.status", "no worker");
    until(
        &mut client,
        "SELECT detail FROM sync.status",
        "all worker slots are in use; increase max_worker_processes and restart the server",
    );
    let error = refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert!(error.starts_with("53400 there is no worker to wait for"), "{error}");
    assert!(error.ends_with(HINT), "{error}");
    assert_eq!(
        query_one(&mut client, "SELECT NOT ok FROM sync.doctor() WHERE what = 'worker slots'"),
        "t"
    );
    // Changes are captured all the same.
    run(&mut client, "UPDATE a.t SET v = 'captured' WHERE id = 1");

    run(&mut admin, "DROP EXTENSION sync_ext");
    cluster.wait_until("the slot goes to the other database", || {
        workers(&cluster, "other").len() == 1
    });
    settle(&mut client);
    assert_eq!(both(&mut client), "1captured 2two / 1captured 2two");
    let log = cluster.log_text();
    assert_eq!(log.matches("no sync_ext worker could be started").count(), 1, "{log}");
    assert!(log.contains("HINT:  Increase max_worker_processes by one for each database"), "{log}");
}

#[test]
fn without_a_slot_for_the_launcher_itself_status_and_wait_say_so() {
    let cluster = own(Options::new("noslots").conf("max_worker_processes = 0"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    assert_eq!(
        status(&mut client),
        "no worker: the launcher has not started, see the server log; max_worker_processes may be too small"
    );
    let error = refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert!(error.starts_with("53400") && error.ends_with(HINT), "{error}");
    run(&mut client, "UPDATE a.t SET v = 'captured' WHERE id = 1");
}

/// Shared memory has room for so many syncs of a database; those that have ended leave theirs.
#[test]
fn ended_syncs_make_room_for_others_to_be_waited_for() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)",
    );
    for _ in 0..260 {
        run(&mut client, r#"SELECT sync.create_sync('t', '{"source": "a", "target": "b"}')"#);
        settle(&mut client);
        run(&mut client, "SELECT sync.drop_sync('t')");
    }
    run(&mut client, "INSERT INTO a VALUES (1, 'last')");
    run(&mut client, r#"SELECT sync.create_sync('t', '{"source": "a", "target": "b"}')"#);
    settle(&mut client);
    assert_eq!(query_one(&mut client, "TABLE b"), "1|last");
}

#[test]
fn more_syncs_than_can_be_waited_for_are_synced_and_said_so() {
    let db = db();
    let mut client = db.connect();
    run(
        &mut client,
        r#"CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'first');
           DO $$ BEGIN FOR i IN 1..257 LOOP
               EXECUTE format('CREATE TABLE b%s (id int PRIMARY KEY, v text)', i);
               PERFORM sync.create_sync('t' || i, format('{"source": "a", "target": "b%s"}', i)::jsonb);
           END LOOP; END $$"#,
    );
    db.wait_until("the last of them is synced", || {
        query_one(&mut client, "SELECT count(*) FROM b257") == "1"
    });
    let error = refusal(&mut client, "SELECT * FROM sync.wait('t257', '60s')");
    assert!(
        error.starts_with("54000 sync \"t257\" cannot be waited for") && error.contains("256"),
        "{error}"
    );
    run(&mut client, "SELECT sync.drop_sync('t1')");
    assert_eq!(query_one(&mut client, "SELECT settled FROM sync.wait('t257', '60s')"), "t");
}
