//! The life of the extension beside its server: workers, starts and stops, dumps, copies, trouble.

mod copies;
mod databases;
mod dropping;
mod dumps;
mod environment;
mod jobs;
mod layouts;
mod preload;
mod shutdown;
mod slots;
mod standby;
mod trouble;
mod upgrades;
mod worker;

use cluster::postgres::Client;
use cluster::{Cluster, Options, PATIENCE, poll, prepared_server};
use pgrx_tests::{query_one, rows, run};

/// A cluster of the test's own, because it is stopped, killed or configured.
#[track_caller]
pub(crate) fn own(options: Options) -> Cluster {
    match prepared_server().and_then(|server| Cluster::start_new(server, options)) {
        Ok(cluster) => cluster,
        Err(error) => panic!("{error:#}"),
    }
}

/// The extension and a two-way sync `t` of `a.t` and `b.t`, with the rows 1 and 2.
#[track_caller]
pub(crate) fn two_tables(client: &mut Client) {
    run(
        client,
        r#"CREATE EXTENSION IF NOT EXISTS sync_ext;
           CREATE SCHEMA a;
           CREATE SCHEMA b;
           CREATE TABLE a.t (id int PRIMARY KEY, v text);
           CREATE TABLE b.t (id int PRIMARY KEY, v text);
           INSERT INTO a.t VALUES (1, 'one'), (2, 'two')"#,
    );
    run(
        client,
        r#"SELECT sync.create_sync('t', '{"source": {"table": "a.t"}, "target": {"table": "b.t"}, "sync_type": "bidirectional"}')"#,
    );
}

#[track_caller]
pub(crate) fn settle(client: &mut Client) {
    assert_eq!(
        query_one(client, "SELECT settled FROM sync.wait('t', '60s')"),
        "t",
        "{:?}",
        rows(client, "SELECT state, detail FROM sync.status")
    );
}

/// Both tables, the second behind a slash.
#[track_caller]
pub(crate) fn both(client: &mut Client) -> String {
    query_one(
        client,
        "SELECT (SELECT string_agg(id || v, ' ' ORDER BY id) FROM a.t) || ' / ' || (SELECT string_agg(id || v, ' ' ORDER BY id) FROM b.t)",
    )
}

/// Process ids of the workers of a database.
#[track_caller]
pub(crate) fn workers(cluster: &Cluster, database: &str) -> Vec<i32> {
    let mut client = cluster.connect("postgres").unwrap();
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = $1";
    client.query(sql, &[&database]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// Waits for the one worker of a database and returns its process id.
#[track_caller]
pub(crate) fn worker(cluster: &Cluster, database: &str) -> i32 {
    let mut found = Vec::new();
    cluster.wait_until("a worker serves the database", || {
        found = workers(cluster, database);
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

/// Waits until a query's only value is as expected.
#[track_caller]
pub(crate) fn until(client: &mut Client, sql: &str, expected: &str) {
    let mut last = Vec::new();
    let reached = poll(PATIENCE, || {
        last = rows(client, sql);
        last == [expected]
    });
    assert!(reached, "expected {expected:?}, last {last:?}, of: {sql}");
}

/// What psql says beside the rows: notices, warnings and errors with their hints.
pub(crate) fn said(cluster: &Cluster, database: &str, sql: &str) -> String {
    let output = cluster
        .client_program("psql", database)
        .args(["--no-psqlrc", "--quiet", "--command", sql])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// State and sentence of the sync `t`.
#[track_caller]
pub(crate) fn status(client: &mut Client) -> String {
    query_one(client, "SELECT state || ': ' || detail FROM sync.status WHERE sync = 't'")
}
