//! Syncs whose changes an application takes: they have a table and no other side.

use super::{refuse, syncs};
use crate::capture::attach;
use crate::engine::plan::{self, Stored, Table, read_table};
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::{Alike, Config, Endpoint};
use serde_json::Value as Json;

pub(super) fn create(
    stored: &Stored,
    config: &Config,
    hub: Option<&str>,
) -> Result<String, Failure> {
    let (table, columns) = columns(stored, config)?;
    syncs::check_owner(&table)?;
    let nothing = ("NULL".to_owned(), "NULL".to_owned());
    syncs::insert_row(stored, "->", [recorded(&table, &columns), nothing], hub);
    attach::attach(&[table.oid]);
    attach::watch(table.oid);
    attach::configuration_changed();
    Ok(summary(stored, &table, columns.len(), "created"))
}

pub(super) fn alter(stored: &Stored, config: &Config, document: Json) -> Result<String, Failure> {
    let source = sql::as_reader(stored.owner, &stored.search_path, || {
        plan::resolve(&config.source, "source")
    })?;
    let same = stored.is_application()
        && config.target == Endpoint::Application
        && source == stored.source;
    if !same {
        return Err(refuse(
            "0A000",
            format!("sync \"{}\" cannot be moved to another table", stored.name),
            "What an application takes are the changes of the table that the sync was made with.",
            "Create a new sync for the other table, and end this one with sync.drop_sync.",
        ));
    }
    let (table, columns) = columns(stored, config)?;
    let (list, key) = recorded(&table, &columns);
    sql::as_extension(|| {
        sql::query(
            &format!(
                "UPDATE sync._sync SET document = $2::pg_catalog.jsonb, changed_at = pg_catalog.clock_timestamp(),
                        source_columns = {list}, source_key = {key} WHERE id = $1"
            ),
            &[Arg::Int4(stored.id), Arg::Text(&document.to_string())],
        )
    });
    attach::attach(&[table.oid]);
    attach::watch(table.oid);
    attach::configuration_changed();
    Ok(summary(stored, &table, columns.len(), "changed"))
}

fn summary(stored: &Stored, table: &Table, columns: usize, what: &str) -> String {
    let s = if columns == 1 { "" } else { "s" };
    format!("sync \"{}\" {what}: {} -> application, {columns} column{s}", stored.name, table.name)
}

/// The table, and the columns whose changes are told.
fn columns(stored: &Stored, config: &Config) -> Result<(Table, Vec<String>), Failure> {
    let table = read_table(stored.source, "source")?;
    let Some(Alike { include, exclude }) = &config.fields.alike else {
        return Ok((table, Vec::new()));
    };
    for name in include.iter().flatten() {
        if table.like(name).is_none() {
            let known: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
            return Err(refuse(
                "42703",
                format!("column \"{name}\" of {} does not exist", table.name),
                "It is named in \"include_fields\".",
                &format!("The table has: {}.", known.join(", ")),
            ));
        }
    }
    let listed = |names: &[String], name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let key: Vec<&str> = table.key_columns().map(|c| c.name.as_str()).collect();
    let told = |name: &str| {
        key.contains(&name)
            || include.as_deref().is_none_or(|names| listed(names, name)) && !listed(exclude, name)
    };
    let columns = table.columns.iter().map(|c| c.name.clone()).filter(|name| told(name)).collect();
    Ok((table, columns))
}

/// What capture records, as SQL arrays.
fn recorded(table: &Table, columns: &[String]) -> (String, String) {
    let list = |names: Vec<&str>| {
        let items: Vec<String> = names.into_iter().map(sql::literal).collect();
        format!("ARRAY[{}]::text[]", items.join(", "))
    };
    (
        list(columns.iter().map(String::as_str).collect()),
        list(table.key_columns().map(|c| c.name.as_str()).collect()),
    )
}
