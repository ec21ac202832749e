//! C4, P15: a server that was started without the library still takes writes, and loses none.

use cluster::{Options, Stop};
use pgrx_tests::{query_one, refusal, run};

use super::{both, own, said, settle, status, two_tables};

#[test]
fn changes_made_while_the_library_was_not_preloaded_are_captured_and_synced_later() {
    let mut cluster = own(Options::new("preload"));
    let mut client = cluster.connect("postgres").unwrap();
    two_tables(&mut client);
    settle(&mut client);
    drop(client);

    cluster.set("shared_preload_libraries = ''").unwrap();
    cluster.restart(Stop::Fast).unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    run(
        &mut client,
        "UPDATE a.t SET v = 'unattended' WHERE id = 1;
         DELETE FROM b.t WHERE id = 2;
         INSERT INTO a.t VALUES (3, 'three');
         CREATE ROLE writer; GRANT USAGE ON SCHEMA a TO writer; GRANT INSERT ON a.t TO writer;
         SET ROLE writer; INSERT INTO a.t VALUES (4, 'four'); RESET ROLE",
    );
    let sentence = "the library was not loaded when the server started; set shared_preload_libraries = 'sync_ext' and restart the server";
    assert_eq!(status(&mut client), format!("no worker: {sentence}"));
    let error = refusal(&mut client, "SELECT * FROM sync.wait('t')");
    assert_eq!(
        error,
        "55000 there is no worker to wait for\nDETAIL: The library sync_ext was not loaded when the server started.\nHINT: Set shared_preload_libraries = 'sync_ext' and restart the server."
    );
    assert_eq!(
        query_one(&mut client, "SELECT NOT ok FROM sync.doctor() WHERE what = 'library preloaded'"),
        "t"
    );
    let warning = said(
        &cluster,
        "postgres",
        r#"CREATE TABLE a.u (id int PRIMARY KEY); CREATE TABLE b.u (id int PRIMARY KEY);
           SELECT sync.create_sync('u', '{"source": {"table": "a.u"}, "target": {"table": "b.u"}}')"#,
    );
    assert!(
        warning.contains("WARNING:") && warning.contains("HINT:  Set shared_preload_libraries"),
        "{warning}"
    );
    run(&mut client, "CREATE DATABASE other");
    let warning = said(&cluster, "other", "CREATE EXTENSION sync_ext");
    assert!(
        warning.contains("WARNING:") && warning.contains("HINT:  Set shared_preload_libraries"),
        "{warning}"
    );
    drop(client);

    cluster.set("shared_preload_libraries = 'sync_ext'").unwrap();
    cluster.restart(Stop::Fast).unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    settle(&mut client);
    assert_eq!(both(&mut client), "1unattended 3three 4four / 1unattended 3three 4four");
}
