//! Work that would keep other syncs waiting goes to a worker of its own and comes back (DECISIONS C7).

use cluster::Options;
use cluster::postgres::Client;
use pgrx_tests::{query_one, rows, run};
use std::time::{Duration, Instant};

use super::{own, until, worker};

const JOBS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sync_ext job worker'";

/// The syncs `slow`, whose rows take a tenth of a second each, of `a` and `b`, and `fast` of `c` and `d`.
fn slow_and_fast(client: &mut Client) {
    run(
        client,
        r#"CREATE EXTENSION sync_ext;
           CREATE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(0.1); RETURN upper(v); END';
           CREATE TABLE a (id int PRIMARY KEY, v text);
           CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE TABLE c (id int PRIMARY KEY, v text);
           CREATE TABLE d (id int PRIMARY KEY, v text);
           SELECT sync.create_sync('slow', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "slow"}]}');
           SELECT sync.create_sync('fast', '{"source": "c", "target": "d", "sync_type": "bidirectional"}')"#,
    );
    settle(client, "slow");
    settle(client, "fast");
    assert_eq!(query_one(client, JOBS), "0");
    run(client, "INSERT INTO a SELECT i, 'x' FROM generate_series(1, 4) i");
    until(client, JOBS, "1");
}

/// The sync `big` of `big.a` and `big.b` with many rows, in a database that has another one.
fn begin_load(client: &mut Client, count: u32) {
    run(
        client,
        r#"CREATE EXTENSION IF NOT EXISTS sync_ext;
           CREATE TABLE c (id int PRIMARY KEY, v text);
           CREATE TABLE d (id int PRIMARY KEY, v text);
           SELECT sync.create_sync('fast', '{"source": "c", "target": "d", "sync_type": "bidirectional"}')"#,
    );
    settle(client, "fast");
    run(
        client,
        &format!(
            r#"CREATE SCHEMA big;
               CREATE TABLE big.a (id int PRIMARY KEY, v text, w text DEFAULT 'w');
               CREATE TABLE big.b (id int PRIMARY KEY, v text, w text);
               INSERT INTO big.a SELECT i, 'x' || i FROM generate_series(1, {count}) i;
               SELECT sync.create_sync('big', '{{"source": "big.a", "target": "big.b", "sync_type": "bidirectional"}}')"#
        ),
    );
    until(client, JOBS, "1");
}

#[track_caller]
fn settle(client: &mut Client, sync: &str) {
    let sql = format!("SELECT settled, parked FROM sync.wait('{sync}', '120s')");
    assert_eq!(query_one(client, &sql), "t|0", "{:?}", rows(client, "TABLE sync.status"));
}

#[track_caller]
fn assert_equal(client: &mut Client, one: &str, other: &str) {
    let sql = format!(
        "(TABLE {one} EXCEPT TABLE {other}) UNION ALL (TABLE {other} EXCEPT TABLE {one}) LIMIT 5"
    );
    assert_eq!(rows(client, &sql), Vec::<String>::new());
}

#[test]
fn a_slow_expression_keeps_only_its_own_sync_waiting() {
    let cluster = own(Options::new("slow"));
    let mut c = cluster.connect("postgres").unwrap();
    slow_and_fast(&mut c);
    run(&mut c, "INSERT INTO a SELECT i, 'x' FROM generate_series(101, 180) i");
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < Duration::from_secs(3) {
        rounds += 1;
        run(&mut c, &format!("INSERT INTO c VALUES ({rounds}, 'c')"));
        settle(&mut c, "fast");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM d"), rounds.to_string());
    }
    // 80 rows take eight seconds at least.
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b WHERE id > 100"), "0");
    assert!(rounds > 5, "{rounds}");
    settle(&mut c, "slow");
    assert_eq!(query_one(&mut c, "SELECT count(*), min(v) FROM b"), "84|X");
    // It stays there: the next change would keep the others waiting again.
    assert_eq!(query_one(&mut c, JOBS), "1");
    run(&mut c, "UPDATE a SET v = 'y' WHERE id = 1; DELETE FROM a WHERE id = 2");
    settle(&mut c, "slow");
    assert_eq!(rows(&mut c, "SELECT * FROM b WHERE id < 4 ORDER BY id"), ["1|Y", "3|X"]);
    assert_eq!(
        rows(&mut c, "SELECT sync, state FROM sync.status ORDER BY 1"),
        ["fast|running", "slow|running"]
    );
}

/// P10 with another process at work.
#[test]
fn a_load_under_writes_is_carried_out_by_a_job_worker_and_comes_back() {
    let cluster = own(Options::new("load"));
    let mut c = cluster.connect("postgres").unwrap();
    begin_load(&mut c, 150_000);
    for i in 1..=20 {
        run(
            &mut c,
            &format!(
                "UPDATE big.a SET v = 'edited' || {i} WHERE id % 20 = {i} AND id < 2000;
                 UPDATE big.b SET w = 'back' || {i} WHERE id % 20 = {i} AND id < 1000;
                 DELETE FROM big.a WHERE id = 100000 + {i};
                 INSERT INTO big.a VALUES (1000000 + {i}, 'new');
                 INSERT INTO c VALUES ({i}, 'c')"
            ),
        );
        settle(&mut c, "fast");
        assert_eq!(query_one(&mut c, "SELECT count(*) FROM d"), i.to_string());
    }
    settle(&mut c, "big");
    assert_equal(&mut c, "big.a", "big.b");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM big.b"), "150000");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM big.b WHERE v LIKE 'edited%'"), "1900");
    until(&mut c, JOBS, "0");
    run(
        &mut c,
        "UPDATE big.a SET v = 'after' WHERE id = 1; UPDATE big.b SET w = 'after' WHERE id = 1",
    );
    settle(&mut c, "big");
    assert_equal(&mut c, "big.a", "big.b");
    assert_eq!(query_one(&mut c, "SELECT v, w FROM big.b WHERE id = 1"), "after|after");
}

/// P8: whatever ends either worker, the sync is served by exactly one and nothing is lost.
#[test]
fn a_job_worker_that_is_ended_gives_its_sync_back() {
    let cluster = own(Options::new("ended"));
    let mut c = cluster.connect("postgres").unwrap();
    begin_load(&mut c, 250_000);
    let mut edits = 0;
    let mut edit = |c: &mut Client| {
        edits += 1;
        run(c, &format!("UPDATE big.a SET v = 'edit' || {edits} WHERE id % 100 = {edits}"));
    };
    for _ in 0..3 {
        edit(&mut c);
        until(&mut c, JOBS, "1");
        run(
            &mut c,
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE backend_type = 'sync_ext job worker'",
        );
    }
    until(&mut c, JOBS, "1");
    // The stream worker goes and the job worker stays.
    edit(&mut c);
    let stream = worker(&cluster, "postgres");
    run(&mut c, &format!("SELECT pg_terminate_backend({stream})"));
    cluster.wait_until("a new stream worker", || worker(&cluster, "postgres") != stream);
    edit(&mut c);
    run(&mut c, "INSERT INTO c VALUES (1, 'c')");
    settle(&mut c, "fast");
    settle(&mut c, "big");
    assert_equal(&mut c, "big.a", "big.b");
    assert_equal(&mut c, "c", "d");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM big.b"), "250000");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM sync.conflicts"), "0");
}

/// What a job worker knows of the log is its own, and the stream worker empties the log.
#[test]
fn the_log_is_emptied_while_a_job_worker_reads_it() {
    let cluster = own(Options::new("job-log")
        .conf("sync_ext.log_segment_size = '1MB'")
        .conf("sync_ext.log_rotate_interval = 0"));
    let mut c = cluster.connect("postgres").unwrap();
    slow_and_fast(&mut c);
    run(&mut c, "INSERT INTO c SELECT i, '' FROM generate_series(1, 500) i");
    let size =
        "SELECT sum(pg_relation_size(c.oid)) FROM pg_class c WHERE relname ~ '^_log_v1_[0-3]$'";
    let mut written = 0_u64;
    for round in 0..30 {
        run(&mut c, &format!("UPDATE c SET v = repeat(md5(id || '{round}'), 20)"));
        run(&mut c, &format!("UPDATE a SET v = 'round{round}' WHERE id = 1 + {round} % 4"));
        settle(&mut c, "fast");
        if round % 3 == 0 {
            settle(&mut c, "slow");
        }
        written = written.max(query_one(&mut c, size).parse().unwrap());
    }
    settle(&mut c, "slow");
    assert_equal(&mut c, "c", "d");
    assert_eq!(
        rows(&mut c, "SELECT v FROM b ORDER BY id"),
        ["ROUND28", "ROUND29", "ROUND26", "ROUND27"]
    );
    assert_eq!(query_one(&mut c, JOBS), "1");
    // 30 rounds of 0.7 MB; emptied segments are written to again.
    assert!(written < 12 << 20, "{written}");
    cluster.wait_until("all but the current segment is emptied", || {
        run(&mut c, "UPDATE c SET v = 'x' WHERE id = 1");
        query_one(&mut c, size).parse::<u64>().unwrap() < 3 << 20
    });
}

#[test]
fn a_job_worker_leaves_when_its_sync_stops_and_stands_in_nobodys_way() {
    let cluster = own(Options::new("stops"));
    let mut admin = cluster.connect("postgres").unwrap();
    run(&mut admin, "CREATE DATABASE app");
    let mut c = cluster.connect("app").unwrap();
    slow_and_fast(&mut c);
    run(&mut c, "SELECT sync.pause('slow')");
    until(&mut c, JOBS, "0");
    run(&mut c, "INSERT INTO a SELECT i, 'p' FROM generate_series(11, 15) i");
    run(&mut c, "SELECT sync.resume('slow')");
    settle(&mut c, "slow");
    assert_eq!(query_one(&mut c, "SELECT count(*) FROM b"), "9");
    until(&mut c, JOBS, "1");
    run(&mut c, "SELECT sync.drop_sync('slow')");
    until(&mut c, JOBS, "0");
    run(
        &mut c,
        r#"TRUNCATE b; SELECT sync.create_sync('slow', '{"source": "a", "target": "b", "field_mappings": [
             {"source": "id", "target": "id"}, {"source": "v", "target": "v", "transformation": "slow"}]}')"#,
    );
    until(&mut c, JOBS, "1");
    drop(c);
    run(&mut admin, "DROP DATABASE app");
    until(&mut admin, JOBS, "0");
}

#[test]
fn without_job_workers_the_stream_worker_does_it_all() {
    let cluster = own(Options::new("alone").conf("sync_ext.job_workers = 0"));
    let mut c = cluster.connect("postgres").unwrap();
    run(
        &mut c,
        r#"CREATE EXTENSION sync_ext;
           CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
           CREATE TABLE c (id int PRIMARY KEY, v text); CREATE TABLE d (id int PRIMARY KEY, v text);
           INSERT INTO a SELECT i, 'x' FROM generate_series(1, 60000) i;
           SELECT sync.create_sync('fast', '{"source": "c", "target": "d"}');
           SELECT sync.create_sync('big', '{"source": "a", "target": "b"}')"#,
    );
    let mut seen = 0;
    while query_one(&mut c, "SELECT count(*) FROM b") != "60000" {
        seen += query_one(&mut c, JOBS).parse::<i32>().unwrap();
    }
    settle(&mut c, "big");
    assert_eq!(seen, 0);
}
