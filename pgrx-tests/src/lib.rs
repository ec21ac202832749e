//! What the integration tests have in common. All of them share one cluster; each takes a database of its own.

use std::io::Write;

use cluster::postgres::{Client, SimpleQueryMessage};
pub use cluster::{self, Db, Shared};

/// A fresh database with the extension in it, dropped at the end.
#[track_caller]
pub fn db() -> Db<'static> {
    let database = Shared::database();
    run(&mut database.connect(), "CREATE EXTENSION sync_ext");
    database
}

/// May a test run that takes much time, memory or disk? Where not, says that it was left out, which the
/// suite counts.
pub fn expensive(why: &str) -> bool {
    let asked = std::env::var_os("SYNC_EXT_EXPENSIVE").is_some_and(|value| value != "0");
    if !asked {
        left_out(&format!("{why}; SYNC_EXT_EXPENSIVE=1 runs it"));
    }
    asked
}

/// Says that a test was left out and why. Straight to the standard output, past the test harness,
/// which keeps to itself what a passing test prints: nothing is left out in silence.
#[track_caller]
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stdout(), "{LEFT_OUT}{name}: {why}");
}

/// What the suite knows the line by.
pub const LEFT_OUT: &str = "left out: ";

/// Runs any number of statements; panics with the server's whole message where one fails.
#[track_caller]
pub fn run(client: &mut Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql) {
        panic!("{}\nin: {sql}", describe(&error));
    }
}

/// The rows of a query as psql's unaligned output has them: columns joined by `|`, null as an empty text.
#[track_caller]
pub fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = match client.simple_query(sql) {
        Ok(messages) => messages,
        Err(error) => panic!("{}\nin: {sql}", describe(&error)),
    };
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let values: Vec<&str> =
                    (0..row.len()).map(|column| row.get(column).unwrap_or("")).collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect()
}

/// The only row of a query, in the form of `rows`.
#[track_caller]
pub fn query_one(client: &mut Client, sql: &str) -> String {
    let mut rows = rows(client, sql);
    assert_eq!(rows.len(), 1, "rows of: {sql}");
    rows.remove(0)
}

/// The error of a statement that must fail: `SQLSTATE message`, then lines `DETAIL: …` and `HINT: …` where given.
#[track_caller]
pub fn refusal(client: &mut Client, sql: &str) -> String {
    match client.batch_execute(sql) {
        Ok(()) => panic!("this should have failed: {sql}"),
        Err(error) => describe(&error),
    }
}

fn describe(error: &cluster::postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return error.to_string() };
    let mut text = format!("{} {}", error.code().code(), error.message());
    for (label, part) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(part) = part {
            text += &format!("\n{label}: {part}");
        }
    }
    text
}
