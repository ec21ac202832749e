//! `sync.preview`: what would be sent of one row, before anything is.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::one_record::{no_row, row_key};
use super::{border, or_raise, owned, refuse};
use crate::border::inwards;
use crate::engine::link;
use crate::engine::plan::screens;
use crate::engine::plan::{self, Field, How, Plan, Stored};
use crate::engine::statement::render;
use crate::speech;
use crate::sql::{self, identifier, literal};
use crate::worker::environment;
use crate::worker::transaction::{Failure, is_of_the_work, savepoint};
use change::image;
use merge::Side;
use pgrx::prelude::*;

/// A field as it would be sent; the first line is of the record as a whole.
#[derive(Default)]
struct Line {
    field: Option<String>,
    value: Option<String>,
    arrives: Option<String>,
    there: Option<String>,
    action: &'static str,
    detail: Option<String>,
}

/// `sync.preview(name text, key text) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn preview(
    name: &[u8],
    key: &[u8],
) -> TableIterator<
    'static,
    (
        name!(field, Option<Vec<u8>>),
        name!(value, Option<Vec<u8>>),
        name!(arrives, Option<Vec<u8>>),
        name!(there, Option<Vec<u8>>),
        name!(action, Vec<u8>),
        name!(detail, Option<Vec<u8>>),
    ),
> {
    let lines = speech::function(|| or_raise(of_row(&inwards(name), &inwards(key))));
    let text = |text: Option<String>| text.as_deref().map(border::text);
    let row = |line: Line| {
        let action = border::text(line.action);
        let [field, value] = [line.field, line.value].map(text);
        let [arrives, there, detail] = [line.arrives, line.there, line.detail].map(text);
        (field, value, arrives, there, action, detail)
    };
    TableIterator::new(lines.into_iter().map(row).collect::<Vec<_>>())
}

fn of_row(name: &str, key: &str) -> Result<Vec<Line>, Failure> {
    // Asked as the caller: the extension may see all.
    let id = owned(name);
    let Some(stored) = sql::as_extension(|| plan::stored(id)) else {
        return Err(refuse("42704", format!("sync \"{name}\" does not exist"), "", ""));
    };
    if stored.is_application() {
        return Err(refuse(
            "0A000",
            format!("sync \"{name}\" sends nothing"),
            "An application takes its changes as they are made.",
            "SELECT * FROM sync.deliveries;",
        ));
    }
    let (owner, path) = (stored.owner, stored.search_path.clone());
    sql::as_reader(owner, &path, || {
        // What an expression makes of a value must not depend on who looks at it.
        environment::assume_for_statements();
        shown(name, key, stored)
    })
}

fn shown(name: &str, key: &str, stored: Stored) -> Result<Vec<Line>, Failure> {
    let plan = plan::compile_as(stored, true)?;
    if plan.row_function.is_some() {
        return Err(refuse(
            "0A000",
            format!("the rows that sync \"{name}\" makes of a row cannot be shown"),
            "A function of yours makes them.",
            "Call the function with the row.",
        ));
    }
    // Of two tables the one that sends comes first.
    let mut sides: Vec<Side> =
        Side::BOTH.into_iter().filter(|&s| !plan.is_remote(s) && plan.flows_from(s)).collect();
    sides.sort_by_key(|&side| side as usize);
    let found = sides.iter().find_map(|&side| Some((side, row_key(plan.side(side), key)?)));
    let Some((from, row)) = found else {
        let tables: Vec<&str> = sides.iter().map(|&s| plan.side(s).name.as_str()).collect();
        if tables.is_empty() {
            return Err(refuse(
                "55000",
                format!("sync \"{name}\" sends no row of this database"),
                "It only takes what the other system has.",
                "SELECT * FROM sync.audit(…) compares what is there on both sides.",
            ));
        }
        return Err(no_row(&tables.join(" or "), key, "Name the key of a row that is there."));
    };
    Ok(lines(&plan, from, &row))
}

fn lines(plan: &Plan, from: Side, row: &[u8]) -> Vec<Line> {
    let at = condition(plan, from, row, "source");
    let (from_table, to_table) = (plan.side(from), plan.side(from.other()));
    let linked = sql::as_extension(|| link::keys(plan.id, from, row));
    let other = linked.as_ref().map(|(source, target)| match from {
        Side::Source => target.clone(),
        Side::Target => source.clone(),
    });
    // Also where nothing is linked yet, a row of the same key may be there.
    let other = other.or_else(|| plan.same_key.then(|| row.to_vec()));
    let there = other
        .as_ref()
        .filter(|_| !plan.is_remote(from.other()))
        .map(|key| condition(plan, from.other(), key, "t"));
    let exists = there.as_ref().map(|there| {
        sql::one(&format!("SELECT 1 FROM {} AS t WHERE {there}", to_table.name), &[]).is_some()
    });
    let mut lines = Vec::new();
    let mut differs = false;
    let mut wrong = false;
    for field in plan.fields.iter().filter(|field| field.how[from as usize].is_some()) {
        let mut line = Line { field: Some(field.name(plan).to_owned()), ..Line::default() };
        if let Some(column) = field.column[from as usize] {
            let name = identifier(&from_table.columns[column].name);
            line.value = value_of(&format!("source.{name}"), &from_table.name, &at).ok().flatten();
        }
        match sent(plan, field, from).map(|sql| value_of(&sql, &from_table.name, &at)) {
            Some(Ok(arrives)) => line.arrives = arrives,
            Some(Err(why)) => line.detail = Some(why),
            None => line.detail = Some("the key of the record that it points to".to_owned()),
        }
        if let (Some(there), Some(column)) = (&there, field.column[from.other() as usize]) {
            let name = identifier(&to_table.columns[column].name);
            line.there = sql::one(
                &format!(
                    "SELECT t.{name}::pg_catalog.text FROM {} AS t WHERE {there}",
                    to_table.name
                ),
                &[],
            );
        }
        line.action = match () {
            () if line.detail.is_some() && line.arrives.is_none() && !is_reference(field, from) => {
                wrong = true;
                "fails"
            }
            () if field.required && line.arrives.is_none() => {
                wrong = true;
                line.detail = Some("the field is required, and empty".to_owned());
                "refused"
            }
            () if exists == Some(true) && line.arrives == line.there => "same",
            () => {
                differs = true;
                "send"
            }
        };
        lines.push(line);
    }
    for (place, rule) in broken(plan, from, &at) {
        if let Some(line) = lines.iter_mut().find(|line| line.field.as_deref() == Some(&place)) {
            wrong |= rule.1;
            line.action = if rule.1 { "refused" } else { line.action };
            line.detail = Some(rule.0);
        }
    }
    let filter = plan.screens.filters[from as usize].as_ref();
    let passes = filter.map(|filter| value_of(filter, &from_table.name, &at));
    let (action, detail) = match (passes, exists) {
        (Some(Ok(Some(passes))), _) if passes == "false" => {
            ("left out", Some("the row does not meet the condition of the sync".to_owned()))
        }
        (Some(Err(why)), _) => ("fails", Some(why)),
        _ if wrong => ("refused", Some("it would wait in sync.queue".to_owned())),
        (_, Some(true)) if differs => ("update", None),
        (_, Some(true)) => ("unchanged", None),
        (_, Some(false)) => ("create", None),
        (_, None) if linked.is_some() => {
            ("update", Some("what the other system holds is not looked at".to_owned()))
        }
        (_, None) => ("create", None),
    };
    let whole = Line { action, detail, ..Line::default() };
    std::iter::once(whole).chain(lines).collect()
}

fn is_reference(field: &Field, from: Side) -> bool {
    field.how[from as usize] == Some(How::Refer)
}

/// The SQL of what a side sends of a field; `None` where links translate it.
fn sent(plan: &Plan, field: &Field, from: Side) -> Option<String> {
    match field.how[from as usize].as_ref()? {
        How::Copy => {
            let column = &plan.side(from).columns[field.column[from as usize]?];
            Some(format!("source.{}", identifier(&column.name)))
        }
        How::Cast(text) | How::Evaluate(text) => Some(text.clone()),
        How::Refer => None,
    }
}

/// The condition that the row `alias` has this key.
fn condition(plan: &Plan, side: Side, key: &[u8], alias: &str) -> String {
    let table = plan.side(side);
    let parts = image::decode_key(key, &table.key_lengths()).unwrap_or_default();
    table
        .key_columns()
        .zip(&table.key_equals)
        .zip(&parts)
        .map(|((column, equals), part)| {
            format!(
                "{alias}.{} OPERATOR({equals}) CAST({} AS {})",
                identifier(&column.name),
                literal(&render(part, column)),
                column.cast
            )
        })
        .collect::<Vec<_>>()
        .join(" AND ")
}

/// The rules that what is sent breaks: of which field, why, and whether the record waits for it.
fn broken(plan: &Plan, from: Side, at: &str) -> Vec<(String, (String, bool))> {
    let fed = screens::fed(&plan.fields, from, [&plan.sides[0], &plan.sides[1]]);
    let columns: Option<Vec<String>> = fed
        .iter()
        .map(|(n, name, column)| {
            let sql = sent(plan, &plan.fields[*n], from)
                .unwrap_or_else(|| format!("NULL::{}", column.cast));
            Some(format!("CAST({sql} AS {}) AS {}", column.cast, identifier(name)))
        })
        .collect();
    let item = format!(
        "(SELECT {} FROM {} AS source WHERE {})",
        columns.unwrap_or_default().join(", "),
        plan.side(from).name,
        at
    );
    let mut broken = Vec::new();
    for rule in &plan.screens.rules {
        let Some(holds) = &rule.holds[from as usize] else { continue };
        let waits = matches!(
            rule.on_error,
            document::OnInvalid::RejectRecord | document::OnInvalid::StandardizeFormat
        );
        let why = match tried(&format!("SELECT ({holds})::pg_catalog.text FROM {item} AS f")) {
            Ok(Some(kept)) if kept == "true" => continue,
            Ok(_) => format!("breaks the rule {} of \"{}\"", rule.name, rule.path),
            Err(why) => why,
        };
        broken.push((plan.fields[rule.field].name(plan).to_owned(), (why, waits)));
    }
    broken
}

/// What an expression over a row comes to, as text; what it raises.
fn value_of(expression: &str, table: &str, at: &str) -> Result<Option<String>, String> {
    tried(&format!("SELECT ({expression})::pg_catalog.text FROM {table} AS source WHERE {at}"))
}

/// Runs a query of the user's own words where it can write nothing: what it raises is told.
fn tried(query: &str) -> Result<Option<String>, String> {
    savepoint(is_of_the_work, || sql::one(query, &[])).map_err(|failure| failure.message)
}
