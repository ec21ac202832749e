//! A row of a sync as a person edits it, by the names of fields or of its own columns: what is set in it is an edit like
//! any other, made with the rights of whoever asks.

use super::refuse;
use crate::engine::plan::Plan;
use crate::engine::settle::key_text;
use crate::engine::statement::render;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::Failure;
use change::image;
use merge::Side;
use serde_json::{Map, Value as Json};

/// Sets fields of the row that has this key on a side, and returns which. Raises what PostgreSQL says to the values.
///
/// # Errors
/// One of them is no field that travels from there, or there is no such row that the caller may change.
pub(super) fn set(
    plan: &Plan,
    side: Side,
    key: &[u8],
    values: &Map<String, Json>,
) -> Result<Vec<usize>, Failure> {
    let table = plan.side(side);
    let mut fields = Vec::new();
    let mut texts: Vec<Option<String>> = Vec::new();
    let mut set: Vec<String> = Vec::new();
    for (name, value) in values {
        let Some((n, column)) = field(plan, side, name) else {
            let known: Vec<&str> = plan
                .fields
                .iter()
                .filter(|field| {
                    field.column[side as usize].is_some() && field.how[side as usize].is_some()
                })
                .map(|field| field.name(plan))
                .collect();
            return Err(refuse(
                "42703",
                format!("\"{name}\" is no field of sync \"{}\" that can be set", plan.name),
                &format!(
                    "The fields that go from {} to the other side are: {}.",
                    table.name,
                    known.join(", ")
                ),
                "Name one of these, as sync.conflicts does, or its column in this table.",
            ));
        };
        let column = &table.columns[column];
        texts.push(match value {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        });
        set.push(format!(
            "{} = CAST(${} AS {})",
            identifier(&column.name),
            texts.len(),
            column.cast
        ));
        fields.push(n);
    }
    if set.is_empty() {
        return Err(refuse(
            "22023",
            "there is no value to set".to_owned(),
            "",
            "Give an object of fields and their values, such as '{\"phone\": \"+41 44 000 00 00\"}'.",
        ));
    }
    let lengths = table.key_lengths();
    let mut wanted: Vec<String> = Vec::new();
    let parts = image::decode_key(key, &lengths).unwrap_or_default();
    for ((column, equals), part) in table.key_columns().zip(&table.key_equals).zip(&parts) {
        texts.push(Some(render(part, column)));
        wanted.push(format!(
            "t.{} OPERATOR({equals}) CAST(${} AS {})",
            identifier(&column.name),
            texts.len(),
            column.cast
        ));
    }
    let text = format!(
        "UPDATE {} AS t SET {} WHERE {} RETURNING 1",
        table.name,
        set.join(", "),
        wanted.join(" AND ")
    );
    let args: Vec<Arg<'_>> = texts.iter().map(|text| Arg::OptText(text.as_deref())).collect();
    if parts.is_empty() || sql::query(&text, &args).len() != 1 {
        return Err(refuse(
            "02000",
            format!(
                "there is no row {} in {} that could be set",
                key_text(plan, side, key),
                table.name
            ),
            "It was deleted, or a row security policy hides it.",
            "Look at the record with sync.trace.",
        ));
    }
    Ok(fields)
}

/// The field of this name that travels from a side, and its column there. The name is the field's own, or that of the
/// column where no other field comes of it.
fn field(plan: &Plan, side: Side, name: &str) -> Option<(usize, usize)> {
    let sent = |n: usize| {
        let column = plan.fields[n].column[side as usize]?;
        plan.fields[n].how[side as usize].is_some().then_some((n, column))
    };
    if let Some(n) = (0..plan.fields.len()).find(|&n| plan.fields[n].name(plan) == name) {
        return sent(n);
    }
    let columns = &plan.side(side).columns;
    let mut of_column =
        (0..plan.fields.len()).filter_map(sent).filter(|&(_, c)| columns[c].name == name);
    of_column.next().filter(|_| of_column.next().is_none())
}
