use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use cluster::{Workspace, packages};

use crate::Arguments;
use crate::steps::{Steps, listening, visibly};

/// Pinned, with the parser that it asks for: another version may find other things.
const PGSPOT: &str = "0.9.4";
/// It commits, so that it can set no search path; all in it is qualified.
const COMMITS: &str = "sync.import_objects(connection text,objects text[],schema text,direction text,\
                       INOUT imported integer,INOUT present integer,INOUT failed integer)";

/// All of it, the measurements too.
const WORKSPACE: [&str; 2] = ["--workspace", "--features=xtask/measure"];

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let names = &arguments.names;
    let started = Instant::now();
    let major = cluster::major_from_environment()?;
    let mut steps = Steps::new(if names.is_empty() { 7 } else { 3 });
    let mut needed = packages::to_build_and_run(major);
    if names.is_empty() {
        needed.push(packages::to_scan());
        needed.extend(packages::to_run_foreign_clients());
    }
    steps.run("Debian packages", || packages::ensure(&needed, !arguments.has("--no-install")))?;
    let workspace = Workspace::locate()?;
    if let Some(note) = &workspace.note {
        eprintln!("      {note}");
    }

    let mut tests = TestCount {
        kills: arguments.number("--kills")?,
        runs: arguments.number("--runs")?,
        ..TestCount::default()
    };
    if names.is_empty() {
        steps.check("formatting (cargo fmt --check)", || formatting(&workspace));
        steps.check(&format!("install script (pgspot {PGSPOT})"), || install_script(&workspace));
    }
    steps.run(crate::quickstart::building()?, || cluster::prepared_server().map(drop))?;
    if names.is_empty() {
        steps.check("clippy", || clippy(&workspace, major));
        steps.check("tests of the plain crates", || {
            let exclude = ["--exclude=sync_ext", "--exclude=pgrx-tests"];
            tests.run(&workspace, &[&WORKSPACE[..], &exclude].concat(), names)
        });
        steps
            .check("integration tests", || tests.run(&workspace, &["--package=pgrx-tests"], names));
    } else {
        steps.check(&format!("tests named like {}", names.join(", ")), || {
            tests.run(&workspace, &[&WORKSPACE[..], &["--exclude=sync_ext"]].concat(), names)?;
            if tests.passed + tests.failed == 0 {
                bail!("0 tests matched");
            }
            Ok(())
        });
    }

    println!("\nsuite on PostgreSQL {major}:");
    for step in steps.all() {
        let verdict = if step.ok { "ok" } else { "FAILED" };
        println!("  {verdict:<7}{:>8.1} s  {}", step.took.as_secs_f64(), step.title);
    }
    for test in &tests.left_out {
        println!("  left out {test}");
    }
    let ok = steps.all().iter().all(|step| step.ok) && tests.failed == 0;
    println!(
        "suite: {}; {} tests passed, {} failed, {} ignored, {} left out; {:.1} s",
        if ok { "ok" } else { "FAILED" },
        tests.passed - tests.left_out.len() as u64,
        tests.failed,
        tests.ignored,
        tests.left_out.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Summed over the closing lines of all test binaries.
#[derive(Default)]
struct TestCount {
    /// How often the kill campaign kills, if told.
    kills: Option<u64>,
    /// How many runs the simulator makes, if told.
    runs: Option<u64>,
    passed: u64,
    failed: u64,
    ignored: u64,
    /// Tests that passed without having looked at anything, because something was missing here.
    left_out: Vec<String>,
}

impl TestCount {
    fn run(&mut self, workspace: &Workspace, which: &[&str], names: &[String]) -> Result<()> {
        let mut command = cargo(workspace);
        if let Some(kills) = self.kills {
            command.env("SYNC_EXT_KILLS", kills.to_string());
        }
        if let Some(runs) = self.runs {
            command.env("SYNC_EXT_RUNS", runs.to_string());
        }
        command.args(["test", "--no-fail-fast"]).args(which).arg("--").args(names);
        listening(&mut command, |line| self.add(line))
    }

    fn add(&mut self, line: &str) {
        // The harness may have begun a line of its own before it.
        if let Some((_, test)) = line.split_once("left out: ") {
            self.left_out.push(test.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            match part.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse().unwrap_or(0),
                Some((count, "ignored")) => self.ignored += count.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

fn cargo(workspace: &Workspace) -> Command {
    let mut command = cluster::cargo();
    command.current_dir(&workspace.root).stdin(Stdio::null());
    command
}

/// rustup's minimal profile comes without them.
fn component(workspace: &Workspace, subcommand: &str, component: &str) -> Result<()> {
    let there = cargo(workspace)
        .args([subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?
        .success();
    if !there {
        visibly(Command::new("rustup").args(["component", "add", component]))
            .with_context(|| format!("cargo {subcommand} is not installed"))?;
    }
    Ok(())
}

fn formatting(workspace: &Workspace) -> Result<()> {
    component(workspace, "fmt", "rustfmt")?;
    visibly(cargo(workspace).args(["fmt", "--all", "--check"]))
}

/// In the release profile, where the extension's dependencies have been built already.
fn clippy(workspace: &Workspace, major: u16) -> Result<()> {
    component(workspace, "clippy", "clippy")?;
    visibly(
        cargo(workspace)
            .arg("clippy")
            .args(WORKSPACE)
            .args(["--all-targets", "--release", "--", "--deny=warnings"])
            .env("PGRX_PG_CONFIG_PATH", cluster::pg_config(major)),
    )
}

fn install_script(workspace: &Workspace) -> Result<()> {
    let pgspot = pgspot(workspace)?;
    let mut scripts: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(workspace.root.join("sql"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "sql") {
            scripts.push(path);
        }
    }
    if scripts.is_empty() {
        bail!("there is no SQL script to check");
    }
    scripts.sort();
    for script in &scripts {
        scan(workspace, &pgspot, script)?;
    }
    Ok(())
}

fn scan(workspace: &Workspace, pgspot: &Path, script: &Path) -> Result<()> {
    // The guard line is psql's, not the server's; blanked, so that line numbers stay.
    let text = fs::read_to_string(script)?;
    let sql: Vec<&str> =
        text.lines().map(|line| if line.starts_with('\\') { "" } else { line }).collect();
    let copy = workspace.home.join("pgspot.sql");
    fs::write(&copy, sql.join("\n"))?;
    let output = Command::new(pgspot)
        .args(["--proc-without-search-path", COMMITS])
        .arg(&copy)
        .output()
        .context("running pgspot")?;
    let found = String::from_utf8_lossy(&output.stdout);
    eprintln!("      {}: {}", script.display(), found.trim().replace('\n', "\n      "));
    let clean = found.contains("Errors: 0 Warnings: 0 Unknown: 0");
    if !output.status.success() || !clean {
        bail!(
            "pgspot has findings in {}\n{}",
            script.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// In a Python environment of its own below our folder.
fn pgspot(workspace: &Workspace) -> Result<PathBuf> {
    let environment = workspace.home.join(format!("pgspot-{PGSPOT}"));
    let program = environment.join("bin/pgspot");
    if program.exists() {
        return Ok(program);
    }
    // Debian's own, which the package python3-venv belongs to.
    visibly(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
    visibly(
        Command::new(environment.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("pgspot=={PGSPOT}")),
    )?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_test_binaries_add_up() {
        let mut count = TestCount::default();
        count.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 9 filtered out; finished in 0.1s");
        count.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        count.add("test something ... ok");
        count.add("test x::y ... left out: x::y: only root can mount a file system");
        assert_eq!(count.left_out, ["x::y: only root can mount a file system"]);
        assert_eq!((count.passed, count.failed, count.ignored), (5, 1, 1));
    }
}
