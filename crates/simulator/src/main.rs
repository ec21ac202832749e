//! `simulator [--runs N] [--seed S] [--bug NAME]`: runs the cases of N seeds from S on, and prints the first that breaks
//! a promise, as small as it could be made.

use simulator::{Bug, Case, generate, run, shrink};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

fn main() -> ExitCode {
    match asked() {
        Ok((runs, seed, bug)) => go(runs, seed, bug),
        Err(why) => {
            eprintln!("{why}\nsimulator [--runs N] [--seed S] [--bug NAME]");
            ExitCode::from(2)
        }
    }
}

fn asked() -> Result<(u64, u64, Option<Bug>), String> {
    let (mut runs, mut seed, mut bug) = (10_000, 0, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} wants a number"));
        match name.as_str() {
            "--runs" => runs = number()?,
            "--seed" => seed = number()?,
            "--bug" => {
                let known = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == value);
                bug =
                    Some(known.ok_or_else(|| format!("no bug is called {value}: {:?}", Bug::ALL))?);
            }
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok((runs, seed, bug))
}

fn go(runs: u64, first: u64, bug: Option<Bug>) -> ExitCode {
    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(first), AtomicU64::new(0));
    let (edits, conflicts) = (AtomicU64::new(0), AtomicU64::new(0));
    let lowest = AtomicU64::new(u64::MAX);
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs {
                        break;
                    }
                    match run(seed, bug) {
                        Ok(report) => {
                            edits.fetch_add(report.edits, Ordering::Relaxed);
                            conflicts.fetch_add(report.conflicts, Ordering::Relaxed);
                        }
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            lowest.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let lowest = lowest.into_inner();
    if failed > 0
        && let Err(failure) = run(lowest, bug)
    {
        let (case, failure) = shrink(&generate(lowest), bug, failure);
        println!("seed {lowest} breaks {}: {}", failure.promise, failure.what);
        show(&case);
        println!("again: cargo run --release -p simulator -- --runs 1 --seed {lowest}");
    }
    println!(
        "simulator: {runs} runs, {failed} failed, seeds {first} to {}, {} edits, {} conflicts, {:.1} s",
        first + runs - 1,
        edits.into_inner(),
        conflicts.into_inner(),
        begun.elapsed().as_secs_f64()
    );
    if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(case: &Case) {
    println!("{} fields", case.fields);
    for (n, side) in case.sides.iter().enumerate() {
        println!("side {n}: {side:?}");
    }
    for (n, sync) in case.syncs.iter().enumerate() {
        println!("sync {n}: sides {:?}, deletes {:?}", sync.sides, sync.deletes);
        for flow in &sync.flows {
            println!("    {flow:?}");
        }
    }
    for (n, step) in case.steps.iter().enumerate() {
        println!("{n:4} {step:?}");
    }
}
