//! Plays the SQL files of a folder in the order of their names, in one psql session, showing each statement and what
//! it answers.
//!
//! ```sql
//! --# A title
//! --| A line of narration.
//! -- An ordinary comment belongs to the statement that follows and is shown with it.
//! SELECT 1;
//! --! The next statement is to fail: its error is part of the show.
//! SELECT 1/0;
//! ```
//!
//! A statement ends with a line that ends in `;` or `\gx` outside of a dollar-quoted body. Names of variables
//! (`\set`, `\gset`) and transactions last from one statement to the next.

use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use cluster::Cluster;

#[derive(Debug, PartialEq, Eq)]
enum Item {
    Title(String),
    Narration(String),
    Statement { sql: String, fails: bool },
}

/// The variables are psql's, and the environment's of the programs that it starts.
pub(crate) fn play(
    cluster: &Cluster,
    database: &str,
    variables: &[(&str, &str)],
    folder: &Path,
) -> Result<()> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut session = Session::open(cluster, database, variables)?;
    for file in &files {
        for item in parse(&fs::read_to_string(file)?) {
            session.show(&item).with_context(|| file.display().to_string())?;
        }
    }
    Ok(())
}

fn parse(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut sql = String::new();
    let mut fails = false;
    for line in text.lines() {
        if sql.is_empty() {
            if let Some(title) = line.strip_prefix("--#") {
                items.push(Item::Title(title.trim().to_owned()));
                continue;
            }
            if let Some(narration) = line.strip_prefix("--|") {
                items.push(Item::Narration(narration.trim().to_owned()));
                continue;
            }
            if line.starts_with("--!") {
                fails = true;
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
        }
        sql += line;
        sql.push('\n');
        let inside_body = sql.matches("$$").count() % 2 == 1;
        let line = line.trim_end();
        let ends = line.ends_with(';') || line.ends_with("\\gx") || line.ends_with("\\gset");
        let command = line.starts_with('\\');
        if (ends && !inside_body && !line.starts_with("--")) || command {
            items.push(Item::Statement { sql: std::mem::take(&mut sql), fails });
            fails = false;
        }
    }
    if !sql.trim().is_empty() {
        items.push(Item::Statement { sql, fails });
    }
    items
}

struct Session {
    psql: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    terminal: bool,
    /// The last line was one of a narration.
    narrating: bool,
}

/// What psql echoes after a statement, with its own account of whether it failed.
const END: &str = "end of statement, error:";

impl Session {
    fn open(cluster: &Cluster, database: &str, variables: &[(&str, &str)]) -> Result<Session> {
        let psql = cluster.client_program("psql", database);
        // One pipe for results, notices and errors, so that they stay in their order.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>&1"]).arg(psql.get_program());
        for (variable, value) in psql.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        for (name, value) in variables {
            command.env(name, value).arg(format!("--set={name}={value}"));
        }
        let mut psql = command
            // The org is on this machine, whatever leads out of it.
            .env("no_proxy", "127.0.0.1")
            // What the demonstration waits for without an end of its own.
            .env("PGOPTIONS", "-c statement_timeout=60s")
            .args([
                "--no-psqlrc",
                "--pset=null=(null)",
                "--pset=footer=off",
                "--pset=format=wrapped",
                "--pset=columns=108",
                "--set=SHOW_CONTEXT=never",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting psql")?;
        let input = psql.stdin.take().context("psql has no input")?;
        let output = BufReader::new(psql.stdout.take().context("psql has no output")?);
        Ok(Session {
            psql,
            input,
            output,
            terminal: std::io::stdout().is_terminal(),
            narrating: false,
        })
    }

    fn show(&mut self, item: &Item) -> Result<()> {
        match item {
            Item::Title(title) => {
                println!("\n\n{}", self.styled("1", &format!("== {title} ==")));
                self.narrating = false;
                Ok(())
            }
            Item::Narration(line) => {
                if !std::mem::replace(&mut self.narrating, true) {
                    println!();
                }
                println!("{line}");
                Ok(())
            }
            Item::Statement { sql, fails } => self.run(sql, *fails),
        }
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn run(&mut self, sql: &str, fails: bool) -> Result<()> {
        self.narrating = false;
        println!();
        for line in sql.lines() {
            println!("{}", self.styled("36", &format!("    {line}")));
        }
        write!(self.input, "{sql}\n\\echo '{END}' :ERROR\n")?;
        self.input.flush()?;
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                let status = self.psql.wait()?;
                bail!("psql ended with {status}\n{answer}");
            }
            if let Some((before, error)) = line.split_once(END) {
                answer += before;
                if !says_nothing(&answer) {
                    println!("{}", answer.trim_end());
                }
                return match (error.trim() == "true", fails) {
                    (true, false) => bail!("this statement failed:\n{sql}"),
                    (false, true) => bail!("this statement should have failed:\n{sql}"),
                    _ => Ok(()),
                };
            }
            answer += &line;
        }
    }
}

/// Nothing at all, or the table that psql makes of a function without a result: a heading, a line, and one empty row.
fn says_nothing(answer: &str) -> bool {
    if answer.trim().is_empty() {
        return true;
    }
    let mut lines = answer.trim_end_matches('\n').lines();
    let table = lines.next().is_some() && lines.next().is_some_and(|line| line.starts_with("--"));
    table && lines.all(|line| line.trim().is_empty())
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(sql: &str, fails: bool) -> Item {
        Item::Statement { sql: sql.to_owned(), fails }
    }

    #[test]
    fn only_the_result_of_a_void_function_is_not_shown() {
        assert!(says_nothing(""));
        assert!(says_nothing(" pause \n-------\n \n\n"));
        assert!(!says_nothing(" count \n-------\n     0\n\n"));
        assert!(!says_nothing("UPDATE 1\n"));
    }

    #[test]
    fn a_file_is_cut_into_titles_narration_and_statements() {
        let text = "--# One\n--| said\n\n-- why\nSELECT 1;\n--! fails\nDO $$\nBEGIN\n  PERFORM 1/0;\nEND\n$$;\n\\set a 1\n";
        assert_eq!(
            parse(text),
            [
                Item::Title("One".to_owned()),
                Item::Narration("said".to_owned()),
                statement("-- why\nSELECT 1;\n", false),
                statement("DO $$\nBEGIN\n  PERFORM 1/0;\nEND\n$$;\n", true),
                statement("\\set a 1\n", false),
            ]
        );
    }
}
