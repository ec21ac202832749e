//! What `cargo quickstart`, `cargo suite` and `cargo measure` run.

mod demo;
#[cfg(feature = "measure")]
mod measure;
mod org;
mod quickstart;
mod steps;
mod suite;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo quickstart [--keep | --stop] [--no-install]
    builds the extension and shows it at work in a throwaway cluster, with a stand-in for a Salesforce org
    --keep        leaves cluster and org running and says how to reach them
    --stop        ends and removes what --keep left
cargo suite [--kills N] [--runs N] [--no-install] [NAME...]
    checks and tests everything; with NAMEs, only the tests whose name contains one of them
    --kills N     how often the kill campaign (the test kills_at_random_points) kills; 100 if not told
    --runs N      how many runs the simulator makes; 10000 if not told
cargo measure [--json] [--full] [--no-install] [NAME...]
    measures, and compares with the budgets; with NAMEs, only these measurements
    --json        one JSON object a line
    --full        the long form of what has one

--no-install      names missing Debian packages instead of installing them
SYNC_EXT_PG_MAJOR=NN in the environment chooses another PostgreSQL than 15.
";

/// The command line: names, and the flags that the command knows.
#[derive(Debug)]
struct Arguments {
    flags: Vec<String>,
    names: Vec<String>,
}

impl Arguments {
    /// A known flag that ends in `=` takes a value, after the sign or as the next argument.
    fn parse(mut arguments: impl Iterator<Item = String>, known: &[&str]) -> Result<Arguments> {
        let (mut flags, mut names) = (Vec::new(), Vec::new());
        while let Some(argument) = arguments.next() {
            let name = argument.split_inclusive('=').next().unwrap_or_default();
            let with_value = format!("{}=", name.trim_end_matches('='));
            if !argument.starts_with('-') {
                names.push(argument);
            } else if known.contains(&argument.as_str()) && !argument.ends_with('=')
                || argument.len() > name.len() && known.contains(&name)
            {
                flags.push(argument);
            } else if argument == name && known.contains(&with_value.as_str()) {
                let Some(value) = arguments.next() else {
                    bail!("{argument} wants a value\n\n{USAGE}")
                };
                flags.push(format!("{with_value}{value}"));
            } else {
                bail!("unknown option {argument}\n\n{USAGE}");
            }
        }
        Ok(Arguments { flags, names })
    }

    /// The number that a flag was given.
    fn number(&self, flag: &str) -> Result<Option<u64>> {
        let value = self.flags.iter().find_map(|f| f.strip_prefix(flag)?.strip_prefix('='));
        match value.map(str::parse) {
            None => Ok(None),
            Some(Ok(number)) => Ok(Some(number)),
            Some(Err(_)) => bail!("{flag} wants a number\n\n{USAGE}"),
        }
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
        "suite" => {
            suite::run(&Arguments::parse(arguments, &["--no-install", "--kills=", "--runs="])?)
        }
        #[cfg(feature = "measure")]
        "measure" => {
            measure::run(&Arguments::parse(arguments, &["--json", "--full", "--no-install"])?)
        }
        _ => {
            print!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split(' ').map(str::to_owned), &["--no-install", "--kills="])
    }

    #[test]
    fn flags_values_and_names_are_told_apart() {
        let given = parse("life --kills 1000 --no-install log").unwrap();
        assert_eq!(given.number("--kills").unwrap(), Some(1000));
        assert!(given.has("--no-install"));
        assert_eq!(given.names, ["life", "log"]);
        assert_eq!(parse("--kills=5").unwrap().number("--kills").unwrap(), Some(5));
        assert_eq!(parse("life").unwrap().number("--kills").unwrap(), None);
        assert!(parse("--kills many").unwrap().number("--kills").is_err());
        for wrong in ["--kills", "--kill 5", "--no-install=5", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
