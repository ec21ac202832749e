//! Changes made while nobody works.

use super::{assert_equal, pair, settle};
use cluster::{Cluster, Options, Stop, prepared_server};
use pgrx_tests::{query_one, refusal, rows, run};

/// P15, P8: capture needs neither the library's preload nor a worker.
#[test]
fn changes_made_while_the_worker_is_off_or_not_loaded_are_picked_up() {
    let mut cluster = Cluster::start_new(prepared_server().unwrap(), Options::new("down")).unwrap();
    let database = "CREATE DATABASE down";
    run(&mut cluster.connect("postgres").unwrap(), database);
    let mut client = cluster.connect("down").unwrap();
    run(&mut client, "CREATE EXTENSION sync_ext");
    pair(&mut client, "bidirectional");
    run(&mut client, "INSERT INTO t VALUES (1, 'first')");
    settle(&mut client, "t");

    cluster.set("sync_ext.enabled = off").unwrap();
    cluster.reload().unwrap();
    cluster.wait_until("the worker knows", || {
        query_one(&mut client, "SELECT state FROM sync.status") == "off"
    });
    run(&mut client, "UPDATE t SET v = 'while off'");
    let told = refusal(&mut client, "SELECT settled FROM sync.wait('t', timeout => '60s')");
    assert!(told.contains("sync_ext.enabled is off"), "{told}");
    assert_eq!(
        rows(&mut client, "SELECT status FROM sync.change_log WHERE operation = 'UPDATE'"),
        ["pending"]
    );
    cluster.set("sync_ext.enabled = on").unwrap();
    cluster.reload().unwrap();
    settle(&mut client, "t");
    assert_equal(&mut client);

    drop(client);
    cluster.set("shared_preload_libraries = ''").unwrap();
    cluster.restart(Stop::Fast).unwrap();
    let mut client = cluster.connect("down").unwrap();
    run(
        &mut client,
        "UPDATE t SET v = 'not loaded'; INSERT INTO t VALUES (2, 'not loaded'); UPDATE peer.t SET w = 'not loaded'",
    );
    assert!(refusal(&mut client, "SELECT sync.wait('t')").starts_with("55000"));
    assert_eq!(
        query_one(&mut client, "SELECT count(*) FROM sync.change_log WHERE status = 'pending'"),
        "3"
    );
    drop(client);
    cluster.set("shared_preload_libraries = 'sync_ext'").unwrap();
    cluster.restart(Stop::Fast).unwrap();
    let mut client = cluster.connect("down").unwrap();
    settle(&mut client, "t");
    assert_equal(&mut client);
    assert_eq!(
        rows(&mut client, "SELECT v, w FROM t ORDER BY id"),
        ["not loaded|not loaded", "not loaded|"]
    );
}
