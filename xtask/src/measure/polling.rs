//! A large view that is polled: what a look takes that finds nothing, and one that finds something.

use std::time::Instant;

use anyhow::{Result, bail};
use cluster::Options;
use cluster::postgres::Client;

use super::bench::{self, DATABASE, SEVEN_COLUMNS, SEVEN_VALUES};
use super::{Budget, Figure, Run};

const ROWS: u32 = 1_000_000;

pub(super) fn of_view(_: &Run) -> Result<Vec<Figure>> {
    let cluster = bench::cluster(Options::new("polling"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, "account", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    client.batch_execute(&format!(
        r#"CREATE VIEW public.seen AS TABLE public.account; CREATE TABLE peer.seen ({SEVEN_COLUMNS});
           SELECT sync.create_sync('seen', '{{"source": {{"table": "public.seen", "key": "id"}}, "target": {{"table": "peer.seen"}},
               "performance_settings": {{"change_detection": "polling"}}, "ongoing_sync": {{"polling_interval_seconds": 3600}}}}')"#
    ))?;
    bench::wait(&mut client, "seen")?;
    client.batch_execute("VACUUM ANALYZE peer.seen")?;
    let worker = bench::worker(&cluster)?;
    // Whoever waits has it looked at again.
    let mut seconds = 0.0;
    let peak = bench::peak_while(worker, || {
        seconds = look(&mut client, 0)?;
        Ok(())
    })?;
    client.batch_execute("UPDATE public.account SET name = name || '!' WHERE id % 100 = 0")?;
    let found = look(&mut client, i64::from(ROWS) / 100)?;
    Ok(vec![
        Figure::new("polling_look", seconds, "s", Budget::None),
        Figure::new("polling_rate", f64::from(ROWS) / seconds, "rows/s", Budget::None),
        Figure::new("polling_found", found, "s", Budget::None),
        Figure::new("polling_memory", peak as f64 / 1e6, "MB", Budget::AtMost(150.0)),
    ])
}

/// How long it takes until everything is there, and that so many rows had to be written for it.
fn look(client: &mut Client, changed: i64) -> Result<f64> {
    client.batch_execute("DROP TABLE IF EXISTS peer.before; CREATE TABLE peer.before AS SELECT id, xmin::text AS x FROM peer.seen")?;
    let started = Instant::now();
    bench::wait(client, "seen")?;
    let seconds = started.elapsed().as_secs_f64();
    let sql =
        "SELECT count(*) FROM peer.seen s JOIN peer.before b USING (id) WHERE s.xmin::text <> b.x";
    let written: i64 = client.query_one(sql, &[])?.get(0);
    if written != changed {
        bail!("{written} rows were written, not {changed}");
    }
    bench::check_equal(client, "seen")?;
    Ok(seconds)
}
