use std::time::Duration;

use anyhow::Result;
use cluster::postgres::{Client, IsolationLevel};
use cluster::{Options, processes};

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES};
use super::{Budget, Figure, Run};

pub(super) fn idle(_: &Run) -> Result<Vec<Figure>> {
    const SPAN: Duration = Duration::from_secs(30);
    // Of the server itself, only what is ours may move.
    let cluster = bench::cluster(Options::new("idle").conf("autovacuum = off"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, 1000)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::TwoWay)?;
    let worker = bench::worker(&cluster)?;
    // Its queue has had something in it, as in any database that is in use.
    client.batch_execute("SELECT sync.push('account', '1')")?;
    bench::wait(&mut client, "account")?;
    // The work just done has its epilogue: rotation, and the server's note of running transactions, which comes up to
    // 25 s after the last record.
    client.batch_execute("CHECKPOINT")?;
    std::thread::sleep(Duration::from_secs(30));

    let (xid, wal, processor) = (
        next_xid(&mut client)?,
        bench::wal_bytes(&mut client)?,
        processes::processor_time(worker)?,
    );
    std::thread::sleep(SPAN);
    let processor = processes::processor_time(worker)?.saturating_sub(processor);
    let wal = bench::wal_bytes(&mut client)? - wal;
    let xid = next_xid(&mut client)? - xid;
    let percent = processor.as_secs_f64() / SPAN.as_secs_f64() * 100.0;
    Ok(vec![
        Figure::new("idle_transactions", xid as f64, "xids in 30 s", Budget::AtMost(0.0)),
        Figure::new("idle_wal", wal as f64, "bytes in 30 s", Budget::AtMost(0.0)),
        Figure::new("idle_processor", percent, "% of a core", Budget::AtMost(0.1)),
    ])
}

fn next_xid(client: &mut Client) -> Result<i64> {
    let sql = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8";
    Ok(client.query_one(sql, &[])?.get(0))
}

pub(super) fn dead_tuples(run: &Run) -> Result<Vec<Figure>> {
    const ROWS: u32 = 10_000;
    let seconds = if run.full { 600 } else { 60 };
    let cluster = bench::cluster(Options::new("dead"))?;
    let mut client = cluster.connect(DATABASE)?;
    client.batch_execute("CREATE EXTENSION pgstattuple")?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::OneWay)?;

    let mut holder = cluster.connect(DATABASE)?;
    let mut old_snapshot = holder
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    old_snapshot.query_one("SELECT count(*) FROM account", &[])?;

    let script = format!(
        "\\set id random(1, {ROWS})\nUPDATE account SET counter = counter + 1 WHERE id = :id;\n"
    );
    let time = format!("--time={seconds}");
    let arguments = ["--client=4", "--rate=2000", "--protocol=prepared", &time];
    bench::pgbench(&cluster, DATABASE, &script, "off", &arguments)?;
    let row = client.query_one(bench::IN_LOG, &[])?;
    let (dead, live): (i64, i64) = (row.get(0), row.get(1));
    bench::wait(&mut client, "account")?;
    bench::check_equal(&mut client, "account")?;
    // A link is rewritten in place, once for each row delivered: it bloats as the user's own table does.
    let sql = "SELECT coalesce(sum((public.pgstattuple(c.oid)).dead_tuple_count), 0)::int8 \
               FROM pg_class c WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^_link'";
    let dead_links: i64 = client.query_one(sql, &[])?.get(0);
    let changes: i64 = client.query_one("SELECT sum(counter) FROM account", &[])?.get(0);
    old_snapshot.rollback()?;
    Ok(vec![
        Figure::new("dead_tuples", dead as f64, "tuples", Budget::AtMost(0.0))
            .synchronous_commit("off"),
        Figure::new("dead_tuples_live", live as f64, "tuples", Budget::None)
            .synchronous_commit("off"),
        Figure::new(
            "dead_links",
            dead_links as f64 / changes as f64,
            "per change",
            Budget::AtMost(1.0),
        )
        .synchronous_commit("off"),
    ])
}

/// Fifteen fields.
const FIFTEEN_COLUMNS: &str = "id int PRIMARY KEY, counter int NOT NULL, name text NOT NULL, email text, phone text, \
     street text, city text, country text, website text, amount numeric(12, 2), discount numeric(5, 2), \
     created_at timestamptz, changed_at timestamptz, active boolean, rank int";
const FIFTEEN_VALUES: &str = "n, 0, 'customer ' || n, 'c' || n || '@example.com', '+41 44 ' || 1000000 + n, \
     n || ' Main Street', 'Springfield', 'Switzerland', 'https://example.com/' || n, n * 1.25, n % 100, \
     timestamptz '2026-01-01' + n * interval '1 second', timestamptz '2026-02-01' + n * interval '1 second', \
     n % 3 = 0, n % 17";

/// With `--full` ten million links.
pub(super) fn bytes(run: &Run) -> Result<Vec<Figure>> {
    const CHANGED: u32 = 100_000;
    let rows = if run.full { 100 * CHANGED } else { CHANGED };
    let cluster = bench::cluster(Options::new("bytes"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", FIFTEEN_COLUMNS, FIFTEEN_VALUES, rows)?;
    bench::sync_with_peer(&mut client, "account", FIFTEEN_COLUMNS, Kind::TwoWay)?;
    let link = bytes_per_row(&mut client, "^_link")?;
    let row: i64 = client.query_one("SELECT pg_relation_size('account')", &[])?.get(0);
    let row = row as f64 / f64::from(rows);

    let before = size(&mut client, "^_log_v1_[0-9]+$")?;
    bench::pause(&mut client, "account")?;
    let some = format!("UPDATE account SET counter = counter + 1 WHERE id <= {CHANGED}");
    client.batch_execute(&some)?;
    let log = (size(&mut client, "^_log_v1_[0-9]+$")? - before) as f64 / f64::from(CHANGED);
    bench::resume(&mut client, "account")?;
    bench::wait(&mut client, "account")?;
    bench::check_equal(&mut client, "account")?;
    let history = bytes_per_row(&mut client, "^_?history")?;
    Ok(vec![
        Figure::new("bytes_per_link", link, "bytes", Budget::None),
        Figure::new("link_to_row", link / row, "ratio", Budget::AtMost(1.8)),
        Figure::new("bytes_per_change_in_log", log, "bytes", Budget::None),
        Figure::new("bytes_per_change_in_history", history, "bytes", Budget::None),
    ])
}

/// Tables of our schema that hold rows themselves, by a pattern of their names.
fn tables(client: &mut Client, pattern: &str) -> Result<Vec<String>> {
    let sql = "SELECT c.oid::regclass::text FROM pg_class c \
               WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind = 'r' AND c.relname ~ $1";
    Ok(client.query(sql, &[&pattern])?.iter().map(|row| row.get(0)).collect())
}

/// With indexes and TOAST.
fn size(client: &mut Client, pattern: &str) -> Result<i64> {
    let mut size = 0;
    for table in tables(client, pattern)? {
        let sql = "SELECT pg_total_relation_size($1::text::regclass)";
        size += client.query_one(sql, &[&table])?.get::<_, i64>(0);
    }
    Ok(size)
}

fn bytes_per_row(client: &mut Client, pattern: &str) -> Result<f64> {
    let mut rows = 0;
    for table in tables(client, pattern)? {
        rows += client.query_one(&format!("SELECT count(*) FROM {table}"), &[])?.get::<_, i64>(0);
    }
    Ok(size(client, pattern)? as f64 / rows as f64)
}
