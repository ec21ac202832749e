//! `simulator [--runs N] [--seed S] [--bug NAME]`: runs the cases of N seeds from S on, and prints the first that breaks
//! a promise, as small as it could be made.

use simulator::{Bug, Case, campaign, generate, shrink};
use std::process::ExitCode;

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
    let done = campaign(runs, first, bug);
    let ok = done.failed.is_empty();
    let line = done.to_string();
    if let Some((seed, failure)) = done.failed.into_iter().next() {
        let (case, failure) = shrink(&generate(seed), bug, failure);
        println!("seed {seed} breaks {}: {}", failure.promise, failure.what);
        show(&case);
        println!("again: cargo run --release -p simulator -- --runs 1 --seed {seed}");
    }
    println!("{line}");
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
