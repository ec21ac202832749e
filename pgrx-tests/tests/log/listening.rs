//! DECISIONS B5: listeners are told what was synced, and never a value of a row.

use super::{assert_equal, pair, settle};
use cluster::postgres::Client;
use cluster::postgres::fallible_iterator::FallibleIterator;
use cluster::{Cluster, Options, PATIENCE, poll};
use pgrx_tests::{db, query_one, run};
use std::time::Duration;

/// Waits for notifications until their counts add up, and returns channel and payload of each.
#[track_caller]
fn told(listener: &mut Client, changes: i64) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut sum = 0;
    let heard = poll(PATIENCE, || {
        let mut notifications = listener.notifications();
        let mut news = notifications.timeout_iter(Duration::from_millis(50));
        while let Ok(Some(note)) = news.next() {
            let (_, rest) = note.payload().split_once("\"count\":").expect("a count");
            sum += rest.split(',').next().and_then(|n| n.parse::<i64>().ok()).expect("a number");
            told.push((note.channel().to_owned(), note.payload().to_owned()));
        }
        sum >= changes
    });
    assert!(heard && sum == changes, "{told:?}");
    told
}

#[test]
fn listeners_are_told_of_each_table_once_after_a_batch_and_of_no_value() {
    let db = db();
    let mut client = db.connect();
    pair(&mut client, "bidirectional");
    let mut listener = db.connect();
    run(&mut listener, r#"LISTEN "sync.public"; LISTEN "sync.peer""#);
    run(&mut client, "SELECT sync.pause('t')");
    run(
        &mut client,
        "BEGIN; INSERT INTO t VALUES (1, 'secret', 'w'), (2, 'secret', 'w'); DELETE FROM t WHERE id = 2; COMMIT;
         INSERT INTO peer.t SELECT i, 'secret' FROM generate_series(10, 14) i",
    );
    run(&mut client, "SELECT sync.resume('t')");
    settle(&mut client, "t");
    let told_now = told(&mut listener, 8);
    assert_eq!(told_now.len(), 2, "{told_now:?}");
    // What is said can be read in the change log; what the sync itself wrote is not told.
    for (channel, op, table) in
        [("sync.public", "", "public.t"), ("sync.peer", r#""op":"INSERT","#, "peer.t")]
    {
        let expected = query_one(
            &mut client,
            &format!(
                r#"SELECT format('{{"sync":"t","table":"{table}",{op}"count":%s,"from":"1:%s","to":"1:%s"}}', count(*), min(seq), max(seq))
                     FROM sync.change_log WHERE "table" = '{table}'::regclass::text AND origin = 'user'"#
            ),
        );
        assert!(
            told_now.iter().any(|(c, payload)| c == channel && *payload == expected),
            "{expected} of {told_now:?}"
        );
    }
    run(&mut client, "UPDATE t SET v = 'other' WHERE id = 1");
    let told_now = told(&mut listener, 1);
    assert!(told_now[0].1.contains(r#""op":"UPDATE""#), "{told_now:?}");
    // At rest nothing is sent, which would cost a transaction each time.
    settle(&mut client, "t");
    let mut notifications = listener.notifications();
    let mut news = notifications.timeout_iter(Duration::from_millis(300));
    assert!(news.next().unwrap().is_none());
}

#[test]
fn a_long_schema_is_listened_to_under_its_name_as_listen_cuts_it() {
    let db = db();
    let mut client = db.connect();
    let schema = "ü".repeat(31);
    run(
        &mut client,
        &format!(
            r#"CREATE SCHEMA "{schema}"; CREATE TABLE "{schema}".t (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY);
               SELECT sync.create_sync('t', '{{"source": {{"table": "{schema}.t"}}, "target": {{"table": "t"}}}}')"#
        ),
    );
    let mut listener = db.connect();
    run(&mut listener, &format!(r#"LISTEN "sync.{schema}""#));
    run(&mut client, &format!(r#"INSERT INTO "{schema}".t VALUES (1)"#));
    assert_eq!(told(&mut listener, 1)[0].0, format!("sync.{}", "ü".repeat(29)));
}

/// A listener who sleeps in a transaction keeps the queue from being emptied: the syncs do not add to it.
#[test]
fn a_queue_that_a_sleeping_listener_has_filled_is_left_alone_and_costs_no_batch() {
    if !pgrx_tests::expensive("it fills 2 GB of the server's notification queue") {
        return;
    }
    let server = cluster::prepared_server().unwrap();
    let cluster = Cluster::start_new(server, Options::new("queue")).unwrap();
    let mut client = cluster.connect("postgres").unwrap();
    run(&mut client, "CREATE EXTENSION sync_ext");
    pair(&mut client, "one_way");
    let mut listener = cluster.connect("postgres").unwrap();
    run(&mut listener, r#"LISTEN filler; LISTEN "sync.public""#);
    run(&mut listener, "BEGIN");
    while query_one(&mut client, "SELECT pg_notification_queue_usage() < 0.26") == "t" {
        run(
            &mut client,
            "DO $$ BEGIN FOR i IN 1..10000 LOOP PERFORM pg_notify('filler', i || repeat('x', 7900)); END LOOP; END $$",
        );
    }
    let filled = query_one(&mut client, "SELECT pg_notification_queue_usage()");
    run(&mut client, "INSERT INTO t SELECT generate_series(1, 100)");
    settle(&mut client, "t");
    assert_equal(&mut client);
    assert_eq!(query_one(&mut client, "SELECT pg_notification_queue_usage()"), filled);
    // What was not sent stays unsent; the next batch is told again when there is room.
    run(
        &mut client,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'",
    );
    let mut listener = cluster.connect("postgres").unwrap();
    run(&mut listener, "LISTEN \"sync.public\"");
    // The queue is emptied by the next one who sends.
    run(&mut client, "NOTIFY filler");
    let emptied = poll(PATIENCE, || {
        query_one(&mut client, "NOTIFY filler; SELECT pg_notification_queue_usage() < 0.2") == "t"
    });
    assert!(emptied);
    run(&mut client, "UPDATE t SET v = 'told' WHERE id = 1");
    assert!(told(&mut listener, 1)[0].1.contains("UPDATE"));
}
