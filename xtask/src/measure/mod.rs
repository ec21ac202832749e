//! Measurements with their budgets. Wall-clock figures are ratios of interleaved runs where a machine's noise would
//! decide otherwise; instruction counts and bytes are exact.

mod audit;
mod bench;
mod capture;
mod drain;
mod latency;
mod load;
mod org;
mod polling;
mod registering;
mod resting;
mod throughput;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use cluster::packages;
use serde_json::json;

use crate::Arguments;

/// One measured value.
#[derive(Clone)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    budget: Budget,
    synchronous_commit: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Budget {
    AtMost(f64),
    AtLeast(f64),
    /// Printed for the reader.
    None,
}

impl Figure {
    pub(crate) fn new(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        budget: Budget,
    ) -> Figure {
        Figure { name: name.into(), value, unit, budget, synchronous_commit: "on" }
    }

    fn synchronous_commit(mut self, setting: &'static str) -> Figure {
        self.synchronous_commit = setting;
        self
    }

    fn ok(&self) -> bool {
        match self.budget {
            Budget::AtMost(limit) => self.value <= limit,
            Budget::AtLeast(limit) => self.value >= limit,
            Budget::None => true,
        }
    }
}

/// What a measurement may want to know.
pub(crate) struct Run {
    /// The long form of what has one.
    pub(crate) full: bool,
}

struct Measurement {
    name: &'static str,
    what: &'static str,
    measure: fn(&Run) -> Result<Vec<Figure>>,
}

const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        name: "capture",
        what: "instructions that capture adds to a single-row UPDATE",
        measure: capture::instructions,
    },
    Measurement {
        name: "wal",
        what: "WAL of a single-row UPDATE, with capture and without",
        measure: throughput::wal,
    },
    Measurement {
        name: "bulk",
        what: "UPDATE of 40,000 rows, with capture and without",
        measure: throughput::bulk,
    },
    Measurement {
        name: "tps",
        what: "transactions at 32 clients, with capture and without",
        measure: throughput::transactions,
    },
    Measurement {
        name: "latency",
        what: "from commit to the row in a peer table",
        measure: latency::to_peer,
    },
    Measurement {
        name: "drain",
        what: "draining a backlog to a peer, ours and native logical replication",
        measure: drain::against_native,
    },
    Measurement {
        name: "backlog",
        what: "draining 1,000,000 changes of one batch and of several",
        measure: drain::backlog,
    },
    Measurement {
        name: "drain_merge",
        what: "draining changes of both sides of the same records, and of one side",
        measure: drain::merging,
    },
    Measurement {
        name: "latency_org",
        what: "from commit to the request at a local org",
        measure: org::latency,
    },
    Measurement {
        name: "events_org",
        what: "from a change at a local org, told by an event, to the row",
        measure: org::told,
    },
    Measurement {
        name: "drain_org",
        what: "draining a backlog to a local org, by a sync and by its client alone",
        measure: org::drain,
    },
    Measurement {
        name: "backlog_org",
        what: "a million changes that wait for a local org: the worker's memory, dead tuples of the log",
        measure: org::backlog,
    },
    Measurement {
        name: "calls_org",
        what: "calls to a local org for 20,000 changed records",
        measure: org::calls,
    },
    Measurement {
        name: "load_org",
        what: "the first load of 1,000,000 accounts of a local org, and COPY of the same rows",
        measure: load::from_org,
    },
    Measurement {
        name: "audit",
        what: "an audit of two tables of 1,000,000 rows",
        measure: audit::of_peers,
    },
    Measurement {
        name: "polling",
        what: "a look at a view of 1,000,000 rows that is polled",
        measure: polling::of_view,
    },
    Measurement {
        name: "memory",
        what: "the worker's own memory while it drains 1,000,000 changes",
        measure: drain::memory,
    },
    Measurement { name: "idle", what: "what an idle database costs", measure: resting::idle },
    Measurement {
        name: "dead_tuples",
        what: "dead tuples in the log and among the links under an old snapshot",
        measure: resting::dead_tuples,
    },
    Measurement {
        name: "bytes",
        what: "bytes a link, a change in the log, a change in the history",
        measure: resting::bytes,
    },
    Measurement {
        name: "register_wait",
        what: "a writer's longest wait while a sync is created",
        measure: registering::register_wait,
    },
    Measurement {
        name: "drop_database",
        what: "DROP DATABASE of a database at work",
        measure: registering::drop_database,
    },
    Measurement {
        name: "recovery",
        what: "from kill -9 of the worker to the first delivery",
        measure: registering::recovery,
    },
];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let chosen: Vec<&Measurement> = MEASUREMENTS
        .iter()
        .filter(|m| arguments.names.is_empty() || arguments.names.iter().any(|name| m.name == name))
        .collect();
    for name in &arguments.names {
        if !MEASUREMENTS.iter().any(|measurement| measurement.name == name) {
            let known: Vec<&str> =
                MEASUREMENTS.iter().map(|measurement| measurement.name).collect();
            bail!("there is no measurement {name}; there are {}", known.join(", "));
        }
    }
    let mut needed = packages::to_build_and_run(cluster::major_from_environment()?);
    if chosen.iter().any(|measurement| measurement.name == "capture") {
        needed.push(packages::to_count_instructions());
    }
    packages::ensure(&needed, !arguments.has("--no-install"))?;
    eprintln!("{} ...", crate::quickstart::building()?);
    let server = cluster::prepared_server()?;

    let json = arguments.has("--json");
    let run = Run { full: arguments.has("--full") };
    if !json {
        println!("PostgreSQL {}, {} cores, load {}", server.major, cores(), load());
        println!(
            "{:<32} {:>14} {:<14} {:>6} {:>12}  verdict",
            "measured", "value", "unit", "commit", "budget"
        );
    }
    let mut ok = true;
    for (number, measurement) in chosen.iter().enumerate() {
        eprintln!(
            "[{}/{}] {}: {} ...",
            number + 1,
            chosen.len(),
            measurement.name,
            measurement.what
        );
        let started = Instant::now();
        match (measurement.measure)(&run) {
            Ok(figures) => {
                for figure in &figures {
                    ok &= figure.ok();
                    if json { print_json(figure) } else { print_line(figure) }
                }
            }
            Err(error) => {
                ok = false;
                eprintln!("error: {}: {error:#}", measurement.name);
            }
        }
        eprintln!("      {:.1} s, load now {}", started.elapsed().as_secs_f64(), load());
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_line(figure: &Figure) {
    let budget = match figure.budget {
        Budget::AtMost(limit) => format!("≤ {limit}"),
        Budget::AtLeast(limit) => format!("≥ {limit}"),
        Budget::None => String::new(),
    };
    let verdict = match (figure.budget, figure.ok()) {
        (Budget::None, _) => "",
        (_, true) => "ok",
        (_, false) => "OVER BUDGET",
    };
    println!(
        "{:<32} {:>14} {:<14} {:>6} {budget:>12}  {verdict}",
        figure.name,
        readable(figure.value),
        figure.unit,
        figure.synchronous_commit
    );
}

fn readable(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

fn print_json(figure: &Figure) {
    let budget = match figure.budget {
        Budget::AtMost(limit) | Budget::AtLeast(limit) => json!(limit),
        Budget::None => serde_json::Value::Null,
    };
    println!(
        "{}",
        json!({
            "name": figure.name,
            "value": figure.value,
            "unit": figure.unit,
            "budget": budget,
            "ok": figure.ok(),
            "synchronous_commit": figure.synchronous_commit,
            "cores": cores(),
            "load": load(),
        })
    );
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The value below which the share `p` of the sample lies.
pub(crate) fn percentile(sample: &mut [f64], p: f64) -> f64 {
    sample.sort_by(f64::total_cmp);
    let rank = (p * sample.len() as f64).ceil() as usize;
    sample[rank.clamp(1, sample.len()) - 1]
}

pub(crate) fn median(sample: &mut [f64]) -> f64 {
    sample.sort_by(f64::total_cmp);
    let middle = sample.len() / 2;
    if sample.len() % 2 == 1 { sample[middle] } else { (sample[middle - 1] + sample[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_medians_are_those_of_the_textbook() {
        let mut sample: Vec<f64> = (1..=300).rev().map(f64::from).collect();
        assert_eq!(percentile(&mut sample, 0.5), 150.0);
        assert_eq!(percentile(&mut sample, 0.99), 297.0);
        assert_eq!(percentile(&mut sample, 1.0), 300.0);
        assert_eq!(median(&mut sample), 150.5);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }

    #[test]
    fn a_budget_is_met_at_its_limit() {
        assert!(Figure::new("a", 2.0, "", Budget::AtMost(2.0)).ok());
        assert!(!Figure::new("a", 2.1, "", Budget::AtMost(2.0)).ok());
        assert!(!Figure::new("a", 1.9, "", Budget::AtLeast(2.0)).ok());
    }
}
