use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Numbered steps, each announced before it starts and closed with the time it took.
pub(crate) struct Steps {
    total: usize,
    done: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) title: String,
    pub(crate) took: Duration,
    pub(crate) ok: bool,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Steps {
        Steps { total, done: Vec::new() }
    }

    pub(crate) fn run<T>(&mut self, title: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.done.len() + 1;
        eprintln!("[{number}/{}] {title} ...", self.total);
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        let ok = result.is_ok();
        eprintln!(
            "      {} {:.1} s",
            if ok { "done in" } else { "FAILED after" },
            took.as_secs_f64()
        );
        self.done.push(Step { title: title.to_owned(), took, ok });
        result
    }

    /// Like `run`, but a failure is reported and remembered, and what follows still runs.
    pub(crate) fn check(&mut self, title: &str, step: impl FnOnce() -> Result<()>) {
        if let Err(error) = self.run(title, step) {
            eprintln!("error: {error:#}");
        }
    }

    pub(crate) fn all(&self) -> &[Step] {
        &self.done
    }
}

/// Runs a program with its own output.
pub(crate) fn visibly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{} failed with {status}", command.get_program().to_string_lossy());
    }
    Ok(())
}

/// Runs a program with its own output, also giving each line of its standard output to `line`.
pub(crate) fn listening(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("running {command:?}"))?;
    let output = child.stdout.take().context("no output")?;
    for text in BufReader::new(output).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).into_owned();
        println!("{text}");
        line(&text);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed with {status}", command.get_program().to_string_lossy());
    }
    Ok(())
}
