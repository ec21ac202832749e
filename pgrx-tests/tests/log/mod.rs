//! The log of changes: what is read out of it and in which order, rotation, the cap, and what users see of it.

mod backlog;
mod cap;
mod change_log;
mod decoding;
mod down;
mod history;
mod listening;
mod order;
mod others;
mod reading;
mod replicated;
mod retention;
mod rotation;
mod statement_order;
mod waiting;

use cluster::postgres::Client;
use cluster::{Cluster, Options, prepared_server};
use pgrx_tests::{query_one, rows, run};
use std::sync::OnceLock;

/// `public.t` and `peer.t`, alike and empty, and the sync `t` between them.
#[track_caller]
fn pair(client: &mut Client, sync_type: &str) {
    run(
        client,
        "CREATE SCHEMA IF NOT EXISTS peer;
         CREATE TABLE public.t (id int PRIMARY KEY, v text, w text);
         CREATE TABLE peer.t (id int PRIMARY KEY, v text, w text);",
    );
    create_sync(client, "t", "public.t", "peer.t", sync_type, "");
}

/// A sync of two tables; `more` is further keys of its document, with a leading comma.
#[track_caller]
fn create_sync(client: &mut Client, name: &str, from: &str, to: &str, kind: &str, more: &str) {
    let document = format!(
        r#"{{"source": {{"table": "{from}"}}, "target": {{"table": "{to}"}}, "sync_type": "{kind}"{more}}}"#
    );
    run(client, &format!("SELECT sync.create_sync('{name}', '{document}')"));
    settle(client, name);
}

/// Waits until everything that was committed is settled, with nothing put aside.
#[track_caller]
fn settle(client: &mut Client, sync: &str) {
    let state = query_one(
        client,
        &format!("SELECT settled, parked FROM sync.wait('{sync}', timeout => '180s')"),
    );
    if state != "t|0" {
        let story = rows(client, "TABLE sync.queue");
        let status = rows(client, "SELECT state, detail FROM sync.status");
        panic!("{sync} is not settled: {state}\n{status:?}\n{story:?}");
    }
}

/// The rows that are not on both sides.
#[track_caller]
fn differences(client: &mut Client, from: &str, to: &str) -> Vec<String> {
    rows(
        client,
        &format!(
            "(SELECT 'source', * FROM (TABLE {from} EXCEPT TABLE {to}) a LIMIT 5)
             UNION ALL (SELECT 'target', * FROM (TABLE {to} EXCEPT TABLE {from}) b LIMIT 5)"
        ),
    )
}

#[track_caller]
fn assert_equal(client: &mut Client) {
    assert_eq!(differences(client, "public.t", "peer.t"), Vec::<String>::new());
}

/// A cluster whose log rotates each MB, is capped after two seconds or 12 MB, and is read 1,000 changes at a time.
fn small_log() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let options = Options::new("small-log")
            .conf("max_worker_processes = 32")
            .conf("max_prepared_transactions = 20")
            .conf("wal_level = logical")
            .conf("autovacuum = off")
            .conf("sync_ext.log_segment_size = '1MB'")
            .conf("sync_ext.log_rotate_interval = 0")
            .conf("sync_ext.log_keep = '2s'")
            .conf("sync_ext.log_max_size = '12MB'")
            .conf("sync_ext.read_limit = 1000");
        prepared_server().and_then(|server| Cluster::start_new(server, options)).expect("a cluster")
    })
}

/// Writes about 1.3 MB into the log, in changes of the row 0 of `public.t`.
#[track_caller]
fn fill(client: &mut Client) {
    run(client, "INSERT INTO public.t VALUES (0) ON CONFLICT DO NOTHING");
    // A statement of its own, or it could not commit.
    run(
        client,
        "DO $$ BEGIN FOR i IN 1..100 LOOP
             UPDATE public.t SET v = repeat(md5(i::text || clock_timestamp()::text), 200) WHERE id = 0; COMMIT;
         END LOOP; END $$",
    );
}

/// Bytes of each segment of the log.
#[track_caller]
fn segments(client: &mut Client) -> Vec<u64> {
    query_one(
        client,
        "SELECT concat_ws(',', pg_relation_size('sync._log_v1_0'), pg_relation_size('sync._log_v1_1'),
                          pg_relation_size('sync._log_v1_2'), pg_relation_size('sync._log_v1_3'))",
    )
    .split(',')
    .map(|bytes| bytes.parse().unwrap_or_default())
    .collect()
}
