//! What `cargo quickstart`, `cargo suite` and `cargo measure` run.

mod demo;
mod measure;
mod quickstart;
mod steps;
mod suite;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo quickstart [--keep | --stop] [--no-install]
    builds the extension and shows it at work in a throwaway cluster
    --keep        leaves the cluster running and says how to connect to it
    --stop        ends and removes the cluster that --keep left
cargo suite [--no-install] [NAME...]
    checks and tests everything; with NAMEs, only the tests whose name contains one of them
cargo measure [--json] [--full] [--no-install] [NAME...]
    measures, and compares with the budgets; with NAMEs, only these measurements
    --json        one JSON object a line
    --full        the long form of what has one

--no-install      names missing Debian packages instead of installing them
SYNC_EXT_PG_MAJOR=NN in the environment chooses another PostgreSQL than 15.
";

/// The command line: names, and the flags that the command knows.
struct Arguments {
    flags: Vec<String>,
    names: Vec<String>,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>, known: &[&str]) -> Result<Arguments> {
        let (flags, names): (Vec<String>, Vec<String>) =
            arguments.partition(|argument| argument.starts_with('-'));
        for flag in &flags {
            if !known.contains(&flag.as_str()) {
                bail!("unknown option {flag}\n\n{USAGE}");
            }
        }
        Ok(Arguments { flags, names })
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    fn no_names(&self) -> Result<()> {
        match self.names.first() {
            Some(name) => bail!("unexpected argument {name}\n\n{USAGE}"),
            None => Ok(()),
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    match command.as_str() {
        "quickstart" => {
            let arguments = Arguments::parse(arguments, &["--keep", "--stop", "--no-install"])?;
            arguments.no_names()?;
            quickstart::run(&arguments)
        }
        "suite" => suite::run(&Arguments::parse(arguments, &["--no-install"])?),
        "measure" => {
            measure::run(&Arguments::parse(arguments, &["--json", "--full", "--no-install"])?)
        }
        _ => {
            print!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
