use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::postgres::Client;
use cluster::{Cluster, Options, processes};

/// Seven columns, the row that the budgets speak of.
pub(crate) const SEVEN_COLUMNS: &str = "id int PRIMARY KEY, counter int NOT NULL, name text NOT NULL, \
     email text, amount numeric(12, 2), changed_at timestamptz, active boolean";

/// The expressions that fill them, over `n`.
pub(crate) const SEVEN_VALUES: &str = "n, 0, 'customer ' || n, 'c' || n || '@example.com', n * 1.25, \
     timestamptz '2026-01-01' + n * interval '1 second', n % 3 = 0";

/// A row of 1.2 kB that compresses badly; another column is the one that changes.
pub(crate) const WIDE_COLUMNS: &str =
    "id int PRIMARY KEY, counter int NOT NULL, body text NOT NULL";
pub(crate) const WIDE_VALUES: &str =
    "n, 0, (SELECT string_agg(md5(n || ' ' || i), '') FROM generate_series(1, 38) i)";

/// The database of every measurement.
pub(crate) const DATABASE: &str = "bench";

/// A server as one would run it, with a database that has the extension.
pub(crate) fn cluster(options: Options) -> Result<Cluster> {
    let options = options
        .fsync(true)
        .conf("shared_buffers = 256MB")
        .conf("max_wal_size = 8GB")
        .conf("checkpoint_timeout = 1h")
        .conf("max_connections = 100");
    let cluster = Cluster::start_new(cluster::prepared_server()?, options)?;
    cluster.psql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    cluster.psql(DATABASE, "CREATE EXTENSION sync_ext; CREATE SCHEMA peer")?;
    Ok(cluster)
}

/// Creates a filled table.
pub(crate) fn table(
    client: &mut Client,
    name: &str,
    columns: &str,
    values: &str,
    rows: u32,
) -> Result<()> {
    client.batch_execute(&format!(
        "CREATE TABLE {name} ({columns}); INSERT INTO {name} SELECT {values} FROM generate_series(1, {rows}) n;"
    ))?;
    client.batch_execute(&format!("VACUUM ANALYZE {name}")).context(name.to_owned())
}

/// How a sync of `public.<table>` with `peer.<table>` starts.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    OneWay,
    TwoWay,
}

/// Creates the peer of a filled table, an empty one, and a sync of its name that loads it; waits for the load.
pub(crate) fn sync_with_peer(
    client: &mut Client,
    table: &str,
    columns: &str,
    kind: Kind,
) -> Result<()> {
    client.batch_execute(&format!("CREATE TABLE peer.{table} ({columns})"))?;
    create_sync(client, table, kind, "full_load")?;
    wait(client, table)?;
    check_equal(client, table)
}

pub(crate) fn create_sync(
    client: &mut Client,
    table: &str,
    kind: Kind,
    initial: &str,
) -> Result<()> {
    let kind = match kind {
        Kind::OneWay => "one_way",
        Kind::TwoWay => "bidirectional",
    };
    client.batch_execute(&format!(
        r#"SELECT sync.create_sync('{table}', '{{"source": {{"table": "public.{table}"}}, "target": {{"table": "peer.{table}"}},
           "sync_type": "{kind}", "initial_sync": {{"strategy": "{initial}"}}}}'::jsonb)"#
    ))?;
    Ok(())
}

pub(crate) fn pause(client: &mut Client, sync: &str) -> Result<()> {
    client.batch_execute(&format!("SELECT sync.pause('{sync}')")).map_err(Into::into)
}

pub(crate) fn resume(client: &mut Client, sync: &str) -> Result<()> {
    client.batch_execute(&format!("SELECT sync.resume('{sync}')")).map_err(Into::into)
}

/// Until all that has been committed has arrived.
pub(crate) fn wait(client: &mut Client, sync: &str) -> Result<()> {
    client
        .batch_execute(&format!("SELECT * FROM sync.wait('{sync}', timeout => '600s')"))
        .map_err(Into::into)
}

/// A figure about a sync that did not deliver would be worthless.
pub(crate) fn check_equal(client: &mut Client, table: &str) -> Result<()> {
    let sql = format!(
        "SELECT count(*) FROM ((TABLE public.{table} EXCEPT ALL TABLE peer.{table}) \
         UNION ALL (TABLE peer.{table} EXCEPT ALL TABLE public.{table})) AS different"
    );
    let different: i64 = client.query_one(&sql, &[])?.get(0);
    if different != 0 {
        bail!(
            "{different} rows of {table} differ from its peer's although everything was to be delivered"
        );
    }
    Ok(())
}

/// The worker of the measured database.
pub(crate) fn worker(cluster: &Cluster) -> Result<i32> {
    let sql =
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'sync_ext worker' AND datname = $1";
    let rows = cluster.connect("postgres")?.query(sql, &[&DATABASE])?;
    let [row] = &rows[..] else { bail!("{} workers are running instead of one", rows.len()) };
    let pid = row.get(0);
    if !processes::is_alive(pid) {
        bail!("the worker is gone");
    }
    Ok(pid)
}

/// WAL written so far.
pub(crate) fn wal_bytes(client: &mut Client) -> Result<i64> {
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
    Ok(client.query_one(sql, &[])?.get(0))
}

/// One number from pgbench: transactions per second of `script` over `arguments`.
pub(crate) fn pgbench(
    cluster: &Cluster,
    database: &str,
    script: &str,
    synchronous_commit: &str,
    arguments: &[&str],
) -> Result<f64> {
    let file = cluster.directory().join("pgbench.sql");
    std::fs::write(&file, script)?;
    let output = cluster
        .client_program("pgbench", database)
        .env("PGOPTIONS", format!("-c synchronous_commit={synchronous_commit}"))
        .args(["--no-vacuum", "--file"])
        .arg(&file)
        .args(arguments)
        .output()
        .context("running pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("pgbench failed: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
    text.lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .with_context(|| format!("pgbench gave no tps:\n{text}"))
}

/// The most memory of its own that a process has while something is done.
pub(crate) fn peak_while(pid: i32, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<u64> {
        let watch = scope.spawn(|| -> Result<u64> {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(processes::anonymous_memory(pid).context("the worker is gone")?);
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(peak)
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        let peak = match watch.join() {
            Ok(peak) => peak,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        worked?;
        peak
    })
}

/// Dead and living rows in the segments of the log, as pgstattuple counts them.
pub(crate) const IN_LOG: &str = "SELECT coalesce(sum((public.pgstattuple(c.oid)).dead_tuple_count), 0)::int8, \
            coalesce(sum((public.pgstattuple(c.oid)).tuple_count), 0)::int8 \
     FROM pg_class c WHERE c.relnamespace = 'sync'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^_log_v1_[0-9]+$'";
