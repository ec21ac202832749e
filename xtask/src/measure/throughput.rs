use std::time::Instant;

use anyhow::Result;
use cluster::postgres::Client;
use cluster::{Cluster, Options};

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES, WIDE_COLUMNS, WIDE_VALUES};
use super::{Budget, Figure, Run, median};

const PLAIN: &str = "plain";
const CAPTURED: &str = "captured";

/// Two tables that differ only in being captured.
fn twins(name: &str, columns: &str, values: &str, rows: u32) -> Result<(Cluster, Client)> {
    let cluster = bench::cluster(Options::new(name).conf("autovacuum = off"))?;
    let mut client = cluster.connect(DATABASE)?;
    bench::table(&mut client, PLAIN, columns, values, rows)?;
    bench::table(&mut client, CAPTURED, columns, values, rows)?;
    bench::sync_with_peer(&mut client, CAPTURED, columns, Kind::OneWay)?;
    Ok((cluster, client))
}

/// Which of two goes first changes from round to round.
fn order(round: usize) -> [&'static str; 2] {
    if round.is_multiple_of(2) { [PLAIN, CAPTURED] } else { [CAPTURED, PLAIN] }
}

pub(super) fn bulk(_: &Run) -> Result<Vec<Figure>> {
    const ROUNDS: usize = 9;
    let (_cluster, mut client) = twins("bulk", SEVEN_COLUMNS, SEVEN_VALUES, 40_000)?;
    let mut ratios = Vec::new();
    for round in 0..=ROUNDS {
        let mut seconds = [0.0, 0.0];
        for table in order(round) {
            client.batch_execute(&format!("VACUUM {table}; "))?;
            client.batch_execute("CHECKPOINT")?;
            let started = Instant::now();
            client.batch_execute(&format!("UPDATE {table} SET counter = counter + 1"))?;
            seconds[usize::from(table == CAPTURED)] = started.elapsed().as_secs_f64();
            // The worker's part is another measurement.
            bench::wait(&mut client, CAPTURED)?;
        }
        // The first round warms up.
        if round > 0 {
            ratios.push(seconds[1] / seconds[0]);
        }
    }
    bench::check_equal(&mut client, CAPTURED)?;
    Ok(vec![Figure::new("bulk", median(&mut ratios), "ratio", Budget::AtMost(1.5))])
}

pub(super) fn wal(_: &Run) -> Result<Vec<Figure>> {
    let mut figures = wal_of("wal", SEVEN_COLUMNS, SEVEN_VALUES, 2.2)?;
    figures.extend(wal_of("wal_wide", WIDE_COLUMNS, WIDE_VALUES, 2.0)?);
    Ok(figures)
}

fn wal_of(name: &str, columns: &str, values: &str, budget: f64) -> Result<Vec<Figure>> {
    const UPDATES: i64 = 2000;
    let (_cluster, mut client) = twins("wal", columns, values, UPDATES as u32)?;
    bench::pause(&mut client, CAPTURED)?;
    let mut of = |table: &str| -> Result<f64> {
        client.batch_execute("CHECKPOINT")?;
        let statement =
            client.prepare(&format!("UPDATE {table} SET counter = counter + 1 WHERE id = $1"))?;
        let mut before = 0;
        // The first touch of a page after a checkpoint writes the whole page; the first pass takes that away.
        for _pass in 0..2 {
            before = bench::wal_bytes(&mut client)?;
            for id in 1..=UPDATES as i32 {
                client.execute(&statement, &[&id])?;
            }
        }
        Ok((bench::wal_bytes(&mut client)? - before) as f64 / UPDATES as f64)
    };
    let plain = of(PLAIN)?;
    let captured = of(CAPTURED)?;
    Ok(vec![
        Figure::new(name, captured / plain, "ratio", Budget::AtMost(budget)),
        Figure::new(format!("{name}_update_alone"), plain, "bytes", Budget::None),
        Figure::new(format!("{name}_of_capture"), captured - plain, "bytes", Budget::None),
    ])
}

pub(super) fn transactions(run: &Run) -> Result<Vec<Figure>> {
    const ROWS: u32 = 100_000;
    let rounds = if run.full { 20 } else { 10 };
    let (cluster, mut client) = twins("tps", SEVEN_COLUMNS, SEVEN_VALUES, ROWS)?;
    let ratio = |synchronous_commit: &str, seconds: &str, rounds: usize| -> Result<f64> {
        let mut ratios = Vec::new();
        for round in 0..rounds {
            let mut tps = [0.0, 0.0];
            for table in order(round) {
                let script = format!(
                    "\\set id random(1, {ROWS})\nUPDATE {table} SET counter = counter + 1 WHERE id = :id;\n"
                );
                let arguments =
                    ["--client=32", "--jobs=2", "--protocol=prepared", "--time", seconds];
                tps[usize::from(table == CAPTURED)] =
                    bench::pgbench(&cluster, DATABASE, &script, synchronous_commit, &arguments)?;
            }
            ratios.push(tps[1] / tps[0]);
        }
        Ok(median(&mut ratios))
    };
    // What capture costs the writers, and, beside it, what they see while the worker takes its share of the cores.
    bench::pause(&mut client, CAPTURED)?;
    ratio("off", "1", 1)?;
    let on = ratio("on", "3", rounds)?;
    let off = ratio("off", "3", rounds)?;
    bench::resume(&mut client, CAPTURED)?;
    bench::wait(&mut client, CAPTURED)?;
    let delivering = ratio("on", "3", 4)?;
    bench::wait(&mut client, CAPTURED)?;
    bench::check_equal(&mut client, CAPTURED)?;
    Ok(vec![
        Figure::new("tps", on, "ratio", Budget::AtLeast(0.88)),
        Figure::new("tps_async", off, "ratio", Budget::AtLeast(0.78)).synchronous_commit("off"),
        Figure::new("tps_while_delivering", delivering, "ratio", Budget::None),
    ])
}
