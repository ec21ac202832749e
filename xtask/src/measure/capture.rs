use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use cluster::{Cluster, Options, Stop};

use super::bench::{self, DATABASE, Kind, SEVEN_COLUMNS, SEVEN_VALUES, WIDE_COLUMNS, WIDE_VALUES};
use super::{Budget, Figure, Run};

/// The difference between two runs of these lengths is free of what start and end cost.
const SHORT: u32 = 200;
const LONG: u32 = 1200;

/// callgrind over a single-user server, each run on a fresh copy of one data directory: exact to about a hundred
/// instructions.
pub(super) fn instructions(_: &Run) -> Result<Vec<Figure>> {
    let mut cluster = bench::cluster(Options::new("capture").conf("autovacuum = off"))?;
    let mut client = cluster.connect(DATABASE)?;
    for (table, columns, values) in [
        ("plain", SEVEN_COLUMNS, SEVEN_VALUES),
        ("captured", SEVEN_COLUMNS, SEVEN_VALUES),
        ("wide_plain", WIDE_COLUMNS, WIDE_VALUES),
        ("wide_captured", WIDE_COLUMNS, WIDE_VALUES),
    ] {
        bench::table(&mut client, table, columns, values, 2000)?;
    }
    for (table, columns) in [("captured", SEVEN_COLUMNS), ("wide_captured", WIDE_COLUMNS)] {
        bench::sync_with_peer(&mut client, table, columns, Kind::OneWay)?;
    }
    drop(client);
    cluster.stop(Stop::Fast)?;

    let mut figures = Vec::new();
    for (name, plain, captured, budget) in [
        ("capture", "plain", "captured", 25_000.0),
        ("capture_wide", "wide_plain", "wide_captured", 45_000.0),
    ] {
        let plain = per_update(&cluster, plain)?;
        let captured = per_update(&cluster, captured)?;
        figures.push(Figure::new(name, captured - plain, "instructions", Budget::AtMost(budget)));
        figures.push(Figure::new(
            format!("{name}_update_alone"),
            plain,
            "instructions",
            Budget::None,
        ));
    }
    Ok(figures)
}

fn per_update(stopped: &Cluster, table: &str) -> Result<f64> {
    let short = run_of(stopped, table, SHORT)?;
    let long = run_of(stopped, table, LONG)?;
    Ok((long as f64 - short as f64) / f64::from(LONG - SHORT))
}

fn run_of(stopped: &Cluster, table: &str, updates: u32) -> Result<u64> {
    let copy = stopped.copy_stopped(Options::new("callgrind"))?;
    let server = copy.server();
    let mut child = server
        .command_under("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", copy.directory().join("callgrind.out").display()))
        .arg(server.program("postgres"))
        .args(["--single", "-D"])
        .arg(copy.data())
        .arg(DATABASE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting valgrind")?;
    // A single-user server takes one line as one command.
    let statement = format!(
        "DO $$ BEGIN FOR i IN 1..{updates} LOOP UPDATE public.{table} SET counter = counter + 1 WHERE id = i; END LOOP; END $$\n"
    );
    child.stdin.take().context("no input")?.write_all(statement.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || text.contains("ERROR:") || text.contains("FATAL:") {
        bail!("the single-user server failed ({}):\n{text}", output.status);
    }
    text.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .with_context(|| format!("callgrind counted nothing:\n{text}"))
}
