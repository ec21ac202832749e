//! Logical replication into a database that syncs, and out of one.

use cluster::postgres::Client;
use cluster::{Cluster, Options, PATIENCE, poll, prepared_server};
use pgrx_tests::{query_one, refusal, rows, run};

use super::{assert_equal, pair, settle};

/// A server that can be on either end of a subscription.
fn logical(name: &str) -> Cluster {
    prepared_server()
        .and_then(|server| {
            Cluster::start_new(server, Options::new(name).conf("wal_level = logical"))
        })
        .expect("a cluster")
}

#[track_caller]
fn until(client: &mut Client, sql: &str, expected: &str) {
    let mut last = Vec::new();
    let reached = poll(PATIENCE, || {
        last = rows(client, sql);
        last == [expected]
    });
    assert!(reached, "expected {expected:?}, last {last:?}, of: {sql}");
}

/// Waits until a query has the same answer on both servers.
#[track_caller]
fn agree(one: &mut Client, other: &mut Client, sql: &str) {
    let equal = poll(PATIENCE, || {
        let answer = rows(one, sql);
        !answer[0].is_empty() && answer == rows(other, sql)
    });
    assert!(equal, "{:?} {:?}", rows(one, sql), rows(other, sql));
}

fn subscribe(cluster: &Cluster, client: &mut Client, database: &str, name: &str, with: &str) {
    run(
        client,
        &format!(
            "CREATE SUBSCRIPTION {name} CONNECTION 'host={} user=postgres dbname={database}' PUBLICATION {name} {with}",
            cluster.sockets().display()
        ),
    );
}

/// A7: what a subscription applies fires no ordinary trigger; it is captured and goes on like any change.
#[test]
fn changes_that_a_subscription_applies_are_captured_and_synced() {
    let cluster = logical("subscribed");
    run(&mut cluster.connect("postgres").unwrap(), "CREATE DATABASE origin");
    let mut origin = cluster.connect("origin").unwrap();
    run(
        &mut origin,
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text); INSERT INTO t VALUES (1, 'copied'), (2, 'copied');
         CREATE PUBLICATION feed FOR TABLE t",
    );
    // Within one server a subscription cannot make its slot itself: it would wait for its own transaction.
    run(&mut origin, "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')");
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, "CREATE EXTENSION sync_ext");
    pair(&mut client, "bidirectional");
    subscribe(&cluster, &mut client, "origin", "feed", "WITH (create_slot = false)");
    until(
        &mut client,
        "SELECT string_agg(id || v, ' ' ORDER BY id) FROM peer.t",
        "1copied 2copied",
    );
    run(
        &mut origin,
        "INSERT INTO t VALUES (3, 'inserted'); UPDATE t SET v = 'updated' WHERE id = 1; DELETE FROM t WHERE id = 2",
    );
    until(
        &mut client,
        "SELECT string_agg(id || v, ' ' ORDER BY id) FROM peer.t",
        "1updated 3inserted",
    );
    run(&mut client, "UPDATE peer.t SET w = 'back' WHERE id = 3");
    settle(&mut client, "t");
    assert_equal(&mut client);
    assert_eq!(
        query_one(
            &mut client,
            "SELECT string_agg(operation, ' ' ORDER BY seq) FROM sync.change_log WHERE origin = 'user'"
        ),
        "INSERT INSERT INSERT UPDATE DELETE UPDATE"
    );
    run(
        &mut client,
        "ALTER SUBSCRIPTION feed DISABLE; ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed",
    );
}

/// A12: who publishes all tables sends the state of the extension along. The subscriber's own identity
/// stays its own, and what arrives of the publisher's syncs does not run there.
#[test]
fn a_subscriber_to_all_tables_keeps_its_identity_and_does_not_run_the_publishers_syncs() {
    let (publisher, subscriber) = (logical("publisher"), logical("subscriber"));
    let mut from = publisher.connect("postgres").unwrap();
    let mut to = subscriber.connect("postgres").unwrap();
    run(&mut from, "CREATE EXTENSION sync_ext; CREATE PUBLICATION everything FOR ALL TABLES");
    run(&mut to, "CREATE EXTENSION sync_ext");
    run(
        &mut to,
        r#"CREATE SCHEMA peer;
           CREATE TABLE public.t (id int PRIMARY KEY, v text, w text); CREATE TABLE peer.t (id int PRIMARY KEY, v text, w text)"#,
    );
    let identity = "SELECT string_agg(i::text, ' ') FROM sync._installation i";
    let epochs = "SELECT string_agg(e::text, ' ') FROM sync._epoch e";
    super::super::life::worker(&subscriber, "postgres");
    until(&mut to, "SELECT count(*) FROM sync._epoch", "1");
    let before = (query_one(&mut to, identity), query_one(&mut to, epochs));
    // A worker makes the history's partitions, and a subscription wants every table to be there.
    let partitions = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY 1) FROM pg_inherits WHERE inhparent = 'sync._history'::regclass";
    agree(&mut from, &mut to, partitions);
    subscribe(&publisher, &mut to, "postgres", "everything", "");
    until(
        &mut to,
        "SELECT count(*) > 5 FROM pg_subscription_rel HAVING bool_and(srsubstate = 'r')",
        "t",
    );
    pair(&mut from, "one_way");
    until(
        &mut to,
        "SELECT state || ' ' || detail FROM sync.status",
        "fenced it came out of a dump; SELECT sync.activate() if this database is meant to sync",
    );
    assert_eq!((query_one(&mut to, identity), query_one(&mut to, epochs)), before);
    // It sends nothing of it, and its worker goes on.
    let captured = "SELECT last_value, is_called FROM sync._log_seq";
    let none = query_one(&mut to, captured);
    run(&mut to, "INSERT INTO t VALUES (1, 'by hand')");
    let refusal = refusal(&mut to, "SELECT * FROM sync.wait('t')");
    assert!(refusal.contains("fenced"), "{refusal}");
    assert_eq!(query_one(&mut to, "SELECT count(*) FROM peer.t"), "0");
    assert_eq!(query_one(&mut to, captured), none);
    assert!(!subscriber.log_text().contains("sync_ext worker:"), "{}", subscriber.log_tail(20));
    // Who publishes is told what not to do.
    assert_eq!(
        query_one(
            &mut from,
            "SELECT ok, detail, remedy FROM sync.doctor() WHERE what = 'publications'"
        ),
        "f|FOR ALL TABLES: everything|Name the tables of the publication: with FOR ALL TABLES the configuration and the links of sync_ext are replicated too."
    );
    run(&mut to, "DROP SUBSCRIPTION everything");
    assert_eq!((query_one(&mut to, identity), query_one(&mut to, epochs)), before);
}
