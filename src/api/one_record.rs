//! One record now: `sync.pull` and `sync.push` find it and hand it over to the worker, by way of the queue.

use super::{or_raise, owned, refuse, wait};
use crate::border::inwards;
use crate::capture::attach;
use crate::connection;
use crate::engine::link;
use crate::engine::plan::{self, Column, Stored, Table};
use crate::engine::queue;
use crate::engine::remote::values;
use crate::engine::resolve::{fed_key, key_matches};
use crate::engine::settle::key_text_of;
use crate::engine::statement::{FED, ORD, Statement};
use crate::speech;
use crate::sql::{self, identifier};
use crate::worker::transaction::{Failure, savepoint};
use bumpalo::Bump;
use change::image::{self, Value};
use document::{Config, Direction};
use merge::Side;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// `sync.pull(name text, key text) RETURNS void`
#[pg_extern(sql = false)]
fn pull(name: &[u8], key: &[u8]) {
    speech::function(|| or_raise(ask(&inwards(name), &inwards(key), Way::Pull)));
}

/// `sync.push(name text, key text) RETURNS void`
#[pg_extern(sql = false)]
fn push(name: &[u8], key: &[u8]) {
    speech::function(|| or_raise(ask(&inwards(name), &inwards(key), Way::Push)));
}

/// Which way a record is asked to go, as seen from the table of this database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pull,
    Push,
}

fn ask(name: &str, key: &str, way: Way) -> Result<(), Failure> {
    let id = owned(name);
    wait::stopped(id, name);
    let Some(stored) = sql::as_extension(|| plan::stored(id)) else {
        return Err(refuse("42704", format!("sync \"{name}\" does not exist"), "", ""));
    };
    let (config, _) = plan::read_document(&stored.document)?;
    match &stored.object {
        None => ask_peers(&stored, &config, key)?,
        Some((connection, _)) => ask_remote(&stored, &config, connection, key, way)?,
    }
    attach::queue_changed();
    Ok(())
}

fn flows(config: &Config, from: Side) -> bool {
    match from {
        Side::Source => config.direction.to_target(),
        Side::Target => config.direction.to_source(),
    }
}

/// Both rows are in this database and are merged with one another, whichever of them was named.
fn ask_peers(stored: &Stored, config: &Config, key: &str) -> Result<(), Failure> {
    let mut names = Vec::new();
    let mut sides = Side::BOTH;
    sides.sort_by_key(|&side| !flows(config, side));
    for side in sides {
        let table = plan::table_of(stored, side)?;
        if let Some(found) = row_of(stored, &table, key) {
            queue_up(stored.id, side, &found, &key_text_of(&table, &found));
            return Ok(());
        }
        names.push(table.name);
    }
    Err(no_row(&names.join(" or "), key, "Name the key of a row that is there."))
}

fn ask_remote(
    stored: &Stored,
    config: &Config,
    connection: &str,
    key: &str,
    way: Way,
) -> Result<(), Failure> {
    let remote = if stored.source == pg_sys::InvalidOid { Side::Source } else { Side::Target };
    let local = remote.other();
    let (from, verb, other) = match way {
        Way::Push => (local, "sends nothing", "pull"),
        Way::Pull => (remote, "takes nothing from the other system", "push"),
    };
    if !flows(config, from) {
        return Err(refuse(
            "55000",
            format!("sync \"{}\" {verb}", stored.name),
            &format!("It goes one way only, {}.", described(config.direction)),
            &format!(
                "Use sync.{other}, or have it go both ways: \"sync_type\": \"bidirectional\"."
            ),
        ));
    }
    let table = plan::table_of(stored, local)?;
    let row = row_of(stored, &table, key);
    let id = row.as_ref().and_then(|row| {
        let (source, target) = sql::as_extension(|| link::keys(stored.id, local, row))?;
        Some(if remote == Side::Source { source } else { target })
    });
    match (row, id, way) {
        (Some(row), id, Way::Push) => {
            queue_up(stored.id, local, &row, &key_text_of(&table, &row));
            // What the other side holds is merged too, also where nothing has to be sent.
            if let Some(id) = id.filter(|_| flows(config, remote)) {
                queue_up(stored.id, remote, &id, &id_text(&id));
            }
            Ok(())
        }
        (_, Some(id), Way::Pull) => {
            queue_up(stored.id, remote, &id, &id_text(&id));
            Ok(())
        }
        (Some(_), None, Way::Pull) => Err(refuse(
            "02000",
            format!("the row of {} is linked to no record", table.name),
            "It was not sent yet, or its record was deleted: there is nothing to read.",
            &format!(
                "SELECT sync.push({}, {}); sends it.",
                sql::literal(&stored.name),
                sql::literal(key)
            ),
        )),
        (None, _, Way::Pull) => {
            let Some(id) = connection::record_id(connection, key) else {
                let hint = "Name the key of a row, or the id of a record of the other system.";
                return Err(no_row(&table.name, key, hint));
            };
            let Some(bytes) = image::encode_key([Value::Bytes(id.as_bytes())], &[-1]) else {
                return Ok(());
            };
            queue_up(stored.id, remote, &bytes, &id);
            speech::say(
                PgLogLevel::NOTICE,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("no row is linked with the record {id}"),
                Some("If the other system has it, it comes as a new row; if not, nothing happens."),
            );
            Ok(())
        }
        (None, _, Way::Push) => {
            let hint = "Only a row that is there can be sent; the delete of one is sent by itself.";
            Err(no_row(&table.name, key, hint))
        }
    }
}

fn described(direction: Direction) -> &'static str {
    match direction {
        Direction::SourceToTarget => "from source to target",
        Direction::TargetToSource => "from target to source",
        Direction::TwoWay => "both ways",
    }
}

pub(super) fn no_row(tables: &str, key: &str, hint: &str) -> Failure {
    refuse(
        "02000",
        format!("no row of {tables} has this key"),
        &format!("It reads \"{key}\"."),
        hint,
    )
}

fn queue_up(sync: i32, side: Side, key: &[u8], text: &str) {
    sql::as_extension(|| queue::ask(sync, side, key, text));
}

/// The id that a key of the other system holds.
fn id_text(key: &[u8]) -> String {
    let values = image::decode_key(key, &[-1]).unwrap_or_default();
    values.first().map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default()
}

/// The key of the row that people call so, as it stands in the row; looked up as the caller, with
/// whose rights the types' own functions run.
/// The same as the sync's owner: a view runs what he has put in it.
fn row_of(stored: &Stored, table: &Table, text: &str) -> Option<Vec<u8>> {
    sql::as_reader(stored.owner, &stored.search_path, || row_key(table, text))
}

pub(super) fn row_key(table: &Table, text: &str) -> Option<Vec<u8>> {
    let columns: Vec<&Column> = table.key_columns().collect();
    let parts: Vec<&str> = match text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
        Some(inner) if columns.len() > 1 => inner.split(", ").collect(),
        _ => vec![text],
    };
    readings(&parts, columns.len()).into_iter().find_map(|values| look_up(table, &columns, &values))
}

/// The ways in which so many values, joined by a comma, can read like this: a value may have a comma
/// of its own.
fn readings(parts: &[&str], count: usize) -> Vec<Vec<String>> {
    match count {
        0 => Vec::new(),
        1 => vec![vec![parts.join(", ")]],
        _ => (1..parts.len())
            .flat_map(|n| {
                readings(&parts[n..], count - 1)
                    .into_iter()
                    .map(move |rest| std::iter::once(parts[..n].join(", ")).chain(rest).collect())
            })
            .collect(),
    }
}

fn look_up(table: &Table, columns: &[&Column], texts: &[String]) -> Option<Vec<u8>> {
    let bump = Bump::new();
    // What is no value of a type is no key.
    let of_a_value = |failure: &Failure| failure.sqlstate.starts_with("22");
    let values = savepoint(of_a_value, || {
        let read = |(column, text): (&&Column, &String)| values::read(&bump, column, Some(text));
        columns.iter().zip(texts).map(read).collect::<Result<Vec<Value<'_>>, _>>().ok()
    });
    let values = values.ok().flatten()?;
    let lengths = table.key_lengths();
    let names: Vec<String> = columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
    let text = format!(
        "SELECT f.{ORD}, {} FROM {FED} AS f JOIN {} AS t ON {}",
        names.join(", "),
        table.name,
        key_matches(table)
    );
    let mut found = None;
    // SAFETY: an SPI connection of its own, for one statement.
    unsafe {
        pg_sys::SPI_connect();
        let statement = Statement::prepare(&text, FED, fed_key(table), false);
        statement.run(&bump, std::iter::once(values), columns, |_, key| {
            found = image::encode_key(key.iter().copied(), &lengths);
        });
        drop(statement);
        pg_sys::SPI_finish();
    }
    found
}
