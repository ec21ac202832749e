//! What is captured of a table, and what arrives in its peer.

mod ddl;
mod gaps;
mod names;
mod operations;
mod refused;
mod registering;
mod tables;
mod values;

use pgrx_tests::cluster::postgres::Client;
use pgrx_tests::{query_one, rows, run};

/// A one-way sync of all columns of equal name.
#[track_caller]
pub(crate) fn one_way(client: &mut Client, name: &str, source: &str, target: &str) {
    peer(client, name, source, target, "{}");
}

/// A two-way sync of all columns of equal name.
#[track_caller]
pub(crate) fn two_way(client: &mut Client, name: &str, source: &str, target: &str) {
    peer(client, name, source, target, r#"{"sync_type": "bidirectional"}"#);
}

/// A sync of two tables; `more` is another piece of its document.
#[track_caller]
pub(crate) fn peer(client: &mut Client, name: &str, source: &str, target: &str, more: &str) {
    let create = "SELECT sync.create_sync($1, jsonb_build_object('source', jsonb_build_object('table', $2::text),
                                                               'target', jsonb_build_object('table', $3::text)), $4::text::jsonb)";
    if let Err(error) = client.query(create, &[&name, &source, &target, &more]) {
        let what = error.as_db_error().map_or(error.to_string(), |e| format!("{e:?}"));
        panic!("{what}");
    }
}

/// Waits until everything committed before is synced, and nothing is parked.
#[track_caller]
pub(crate) fn settle(client: &mut Client, name: &str) {
    let waited = client
        .query_one("SELECT settled, parked FROM sync.wait($1, timeout => '60 seconds')", &[&name]);
    let state = waited.map(|row| (row.get::<_, bool>(0), row.get::<_, i64>(1)));
    if !matches!(state, Ok((true, 0))) {
        let status = rows(client, "SELECT * FROM sync.status");
        let queue = rows(client, "SELECT * FROM sync.queue");
        let errors = rows(client, "SELECT * FROM sync.errors");
        panic!("{state:?}\nstatus: {status:#?}\nqueue: {queue:#?}\nerrors: {errors:#?}");
    }
}

/// The rows of a table as texts, in order.
#[track_caller]
pub(crate) fn table(client: &mut Client, name: &str) -> Vec<String> {
    rows(client, &format!("SELECT row_of_it::text FROM {name} AS row_of_it ORDER BY 1"))
}

/// Settles the sync and checks that both tables hold the same rows; says which.
#[track_caller]
pub(crate) fn equal(client: &mut Client, name: &str, source: &str, target: &str) -> Vec<String> {
    settle(client, name);
    let expected = table(client, source);
    assert_eq!(table(client, target), expected, "{target} against {source}");
    expected
}

/// How many changes of a kind are in the log and in history, of users.
#[track_caller]
pub(crate) fn logged(client: &mut Client, condition: &str) -> i64 {
    query_one(
        client,
        &format!("SELECT count(*) FROM sync.change_log WHERE origin = 'user' AND ({condition})"),
    )
    .parse()
    .unwrap()
}

/// Source `a` and target `b` with the given columns, and a settled one-way sync `s` between them.
#[track_caller]
pub(crate) fn pair(client: &mut Client, columns: &str) {
    run(client, &format!("CREATE TABLE a ({columns}); CREATE TABLE b ({columns});"));
    one_way(client, "s", "public.a", "public.b");
    settle(client, "s");
}
