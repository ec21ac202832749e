//! An audit of two large tables: its time, and the memory that the session which asks for it takes.

use std::time::Instant;

use anyhow::{Result, bail};
use cluster::Options;
use cluster::postgres::Client;

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES};
use super::{Budget, Figure, Run};

const ROWS: u32 = 1_000_000;

/// An audit of a million rows is no reason to be afraid for a server's memory. What a session takes beside it (caches of
/// the catalogs, plans) is a tenth of that.
const MEMORY: Budget = Budget::AtMost(50.0);

pub(super) fn of_peers(_: &Run) -> Result<Vec<Figure>> {
    let cluster = bench::cluster(Options::new("audit"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    bench::sync_with_peer(&mut client, "account", SEVEN_COLUMNS, Kind::OneWay)?;
    client.batch_execute("VACUUM ANALYZE peer.account")?;
    let mut figures = Vec::new();

    // What SQL alone takes to compare them.
    let started = Instant::now();
    bench::check_equal(&mut client, "account")?;
    figures.push(Figure::new(
        "audit_by_except",
        started.elapsed().as_secs_f64(),
        "s",
        Budget::None,
    ));

    figures.extend(audit(&cluster, "audit", 0)?);
    // With a filter each row is asked about.
    client.batch_execute(r#"SELECT sync.alter_sync('account', '{"where": "id > 0"}')"#)?;
    bench::wait(&mut client, "account")?;
    figures.extend(audit(&cluster, "audit_rows", 0)?);
    client.batch_execute("UPDATE peer.account SET name = name || '!'")?;
    figures.extend(audit(&cluster, "audit_different", i64::from(ROWS))?);
    Ok(figures)
}

/// In a session of its own.
fn audit(cluster: &cluster::Cluster, name: &str, different: i64) -> Result<Vec<Figure>> {
    let mut client: Client = cluster.connect(DATABASE)?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
    let (mut found, mut seconds) = (0, 0.0);
    let peak = bench::peak_while(pid, || {
        let started = Instant::now();
        let sql = "SELECT records FROM sync.audit('account') WHERE what = 'differs' AND records IS NOT NULL";
        found = client.query_one(sql, &[])?.get(0);
        seconds = started.elapsed().as_secs_f64();
        Ok(())
    })?;
    if found != different {
        bail!("{found} records were found to differ, not {different}");
    }
    Ok(vec![
        Figure::new(name, seconds, "s", Budget::None),
        Figure::new(format!("{name}_rate"), f64::from(ROWS) / seconds, "rows/s", Budget::None),
        Figure::new(format!("{name}_memory"), peak as f64 / 1e6, "MB", MEMORY),
    ])
}
