use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cluster::Options;

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES};
use super::{Budget, Figure, Run, percentile};

/// One writer at 20 commits a second; another connection looks without pause until it sees the row.
pub(super) fn to_peer(_: &Run) -> Result<Vec<Figure>> {
    const SAMPLES: usize = 300;
    const PACE: Duration = Duration::from_millis(50);
    const GIVE_UP: Duration = Duration::from_secs(30);
    let cluster = bench::cluster(Options::new("latency"))?;
    let mut writer = cluster.connect(DATABASE)?;
    bench::table(&mut writer, "account", SEVEN_COLUMNS, SEVEN_VALUES, 10_000)?;
    bench::sync_with_peer(&mut writer, "account", SEVEN_COLUMNS, Kind::OneWay)?;
    let update = writer.prepare("UPDATE account SET counter = $2 WHERE id = $1")?;
    let mut reader = cluster.connect(DATABASE)?;
    let look = reader.prepare("SELECT counter FROM peer.account WHERE id = $1")?;

    let mut milliseconds = Vec::new();
    let mut next = Instant::now();
    for sample in 1..=SAMPLES as i32 {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now() + PACE;
        let id = sample * 31 % 10_000 + 1;
        writer.execute(&update, &[&id, &sample])?;
        let committed = Instant::now();
        while reader.query_one(&look, &[&id])?.get::<_, i32>(0) != sample {
            if committed.elapsed() > GIVE_UP {
                bail!(
                    "a change has not arrived within {GIVE_UP:?}; the server's log:\n{}",
                    cluster.log_tail(20)
                );
            }
        }
        milliseconds.push(committed.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(vec![
        Figure::new("latency_p50", percentile(&mut milliseconds, 0.5), "ms", Budget::AtMost(5.0)),
        Figure::new("latency_p99", percentile(&mut milliseconds, 0.99), "ms", Budget::AtMost(50.0)),
        Figure::new("latency_max", percentile(&mut milliseconds, 1.0), "ms", Budget::None),
    ])
}
