//! What a sync does about a change of the columns of its tables in this database: each is noted in
//! `sync.schema_changes`, and followed by the policy of the sync, as those of another system's fields are.

use super::load::{self, Kind};
use super::plan::{self, Column, Plan, Stored};
use crate::capture::attach;
use crate::sql::{self, Arg, literal};
use crate::worker::transaction::{Failure, as_owner, transaction};
use document::SchemaPolicy;
use merge::Side;
use serde_json::{Value as Json, json};

/// What happened to a column.
enum What {
    Renamed(String),
    Dropped,
    Retyped(String),
}

struct Change {
    side: Side,
    column: Column,
    what: What,
}

/// What becomes of a sync whose tables have changed.
pub enum Followed {
    /// It goes on, with this document if it had to be changed.
    On(Option<Json>),
    Paused,
}

/// Follows what is other than when the sync was last planned.
///
/// # Errors
/// What reading and noting raised.
pub fn follow(stored: &Stored, old: &Plan) -> Result<Followed, Failure> {
    let changes = transaction(|| Ok(changes(old)))?;
    if changes.is_empty() {
        return Ok(Followed::On(None));
    }
    // What is made from the document of a hub is changed there.
    let of_hub = transaction(|| {
        let text = "SELECT 1 FROM sync._sync s WHERE s.id = $1 AND s.hub IS NOT NULL";
        Ok(sql::one(text, &[Arg::Int4(stored.id)]).is_some())
    })?;
    let policy = match old.config.schema_policy {
        SchemaPolicy::Adapt if of_hub => SchemaPolicy::Ignore,
        policy => policy,
    };
    let mut document = stored.document.clone();
    let mut followed = false;
    if policy == SchemaPolicy::Adapt {
        for change in &changes {
            followed |= adapt(&mut document, old, change);
        }
        // Only where all of it can be read after that, as an expression that names the column cannot.
        let tried = Stored { document: document.clone(), ..stored.clone() };
        followed &= as_owner(stored.owner, &stored.search_path, true, || {
            plan::compile_as(tried, true).map(drop)
        })
        .is_ok();
    }
    transaction(|| {
        for change in &changes {
            note(stored, old, change, policy, followed);
        }
        if policy == SchemaPolicy::Pause {
            let names: Vec<String> =
                changes.iter().map(|change| format!("\"{}\"", change.column.name)).collect();
            let reason = format!(
                "columns of its tables were changed ({}); see sync.schema_changes, then sync.resume",
                names.join(", ")
            );
            sql::query(
                "UPDATE sync._sync SET state = 'paused', reason = $2, changed_at = pg_catalog.clock_timestamp()
                  WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(stored.id), Arg::Text(&reason)],
            );
        }
        Ok(())
    })?;
    if policy == SchemaPolicy::Pause {
        return Ok(Followed::Paused);
    }
    if !followed {
        return Ok(Followed::On(None));
    }
    let stands = store(stored, &document)?;
    Ok(Followed::On(stands.then_some(document)))
}

/// The columns that the plan uses and that are not what they were.
fn changes(old: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    for side in Side::BOTH.into_iter().filter(|&side| !old.is_remote(side)) {
        let table = old.side(side);
        let now = sql::read(
            "SELECT a.attnum, a.attname, a.attisdropped, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod)
               FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0",
            &[Arg::Oid(table.oid)],
        );
        if now.is_empty() {
            // The table is gone, which is another matter.
            continue;
        }
        let named = |name: &str| now.iter().any(|row| row[1].as_deref() == Some(name));
        for column in &table.columns {
            let number = column.attnum.to_string();
            let Some(row) = now.iter().find(|row| row[0].as_deref() == Some(&number)) else {
                continue;
            };
            let name = row[1].clone().unwrap_or_default();
            let what = if row[2].as_deref() == Some("t") {
                // One that was made again in its place is told by its values.
                if named(&column.name) {
                    continue;
                }
                What::Dropped
            } else if name != column.name && !named(&column.name) {
                What::Renamed(name)
            } else if row[3].as_deref() != Some(&column.type_oid.to_u32().to_string()) {
                What::Retyped(row[4].clone().unwrap_or_default())
            } else {
                continue;
            };
            changes.push(Change { side, column: column.clone(), what });
        }
    }
    changes
}

/// Brings a document up to a change. False where there is nothing to bring up.
fn adapt(document: &mut Json, old: &Plan, change: &Change) -> bool {
    let side = if change.side == Side::Source { "source" } else { "target" };
    let was = change.column.name.as_str();
    let is = |value: &Json| value.as_str().is_some_and(|name| name.eq_ignore_ascii_case(was));
    match &change.what {
        // The cast between the two is made anew with the plan.
        What::Retyped(_) => false,
        What::Renamed(now) => {
            if let Some(list) = document.get_mut("field_mappings").and_then(Json::as_array_mut) {
                if old.config.fields.pairs(was) {
                    list.push(json!({ "source": was, "target": was }));
                }
            } else {
                document["field_mappings"] = mappings(old);
                for key in ["include_fields", "exclude_fields", "field_selection"] {
                    if let Some(map) = document.as_object_mut() {
                        map.remove(key);
                    }
                }
            }
            rename(document, "", side, was, now);
            true
        }
        What::Dropped => {
            let Some(map) = document.as_object_mut() else { return false };
            let Some(list) = map.get_mut("field_mappings").and_then(Json::as_array_mut) else {
                // It falls out of a sync of all equal names by itself.
                return false;
            };
            let before = list.len();
            list.retain(|mapping| !mapping.get(side).is_some_and(is));
            let (gone, none_left) = (list.len() < before, list.is_empty());
            if none_left && old.config.fields.alike.is_some() {
                map.remove("field_mappings");
                return gone;
            }
            gone && !none_left
        }
    }
}

/// The fields of a plan of all equal names, each told.
fn mappings(old: &Plan) -> Json {
    let name = |side: Side, field: &plan::Field| {
        field.column[side as usize].map(|c| old.side(side).columns[c].name.clone())
    };
    let told = old.fields.iter().filter(|field| field.how.iter().any(Option::is_some));
    told.filter_map(|field| {
        let (source, target) = (name(Side::Source, field)?, name(Side::Target, field)?);
        Some(json!({ "source": source, "target": target }))
    })
    .collect()
}

/// Puts a column's new name wherever the document names a column of that side. What it says as SQL stays.
fn rename(value: &mut Json, key: &str, side: &str, was: &str, now: &str) {
    const OF_TARGET: [&str; 4] = ["field", "fields", "timestamp_field", "match_on"];
    let own = key == side
        || side == "target" && OF_TARGET.contains(&key)
        || key == "column"
        || matches!(key, "synced_at" | "state" | "error");
    match value {
        Json::String(text) if own && text.eq_ignore_ascii_case(was) => *text = now.to_owned(),
        Json::Array(list) => list.iter_mut().for_each(|item| rename(item, key, side, was, now)),
        Json::Object(map) => {
            for (inner, value) in map {
                // What the endpoints are is said by the same words.
                let endpoint = key.is_empty() && matches!(inner.as_str(), "source" | "target");
                if !endpoint {
                    rename(value, inner, side, was, now);
                }
            }
        }
        _ => {}
    }
}

fn note(stored: &Stored, old: &Plan, change: &Change, policy: SchemaPolicy, followed: bool) {
    let table = &old.side(change.side).name;
    let (what, was, is) = match &change.what {
        What::Renamed(now) => ("column renamed", change.column.name.clone(), now.clone()),
        What::Dropped => ("column dropped", change.column.name.clone(), String::new()),
        What::Retyped(now) => ("column retyped", change.column.cast.clone(), now.clone()),
    };
    let fields = &old.config.fields;
    let mapped = fields.alike.is_none()
        || match change.side {
            Side::Source => fields.names_source(&change.column.name),
            Side::Target => fields.names_target(&change.column.name),
        };
    let alter =
        |patch: &str| Some(format!("SELECT sync.alter_sync({}, '{patch}')", literal(&stored.name)));
    let (effect, remedy) = match (policy, &change.what) {
        (SchemaPolicy::Pause, _) => (
            "the sync is paused".to_owned(),
            Some(format!("SELECT sync.resume({})", literal(&stored.name))),
        ),
        (_, What::Retyped(_)) => {
            ("its values are cast to the new type, and compared once".to_owned(), None)
        }
        (_, What::Renamed(now)) if followed => {
            (format!("the document names \"{now}\" in its place"), None)
        }
        (_, What::Dropped) if followed => ("its field is taken out of the sync".to_owned(), None),
        (_, What::Dropped) if !mapped => ("its field is no longer synced".to_owned(), None),
        (_, What::Renamed(_)) if !mapped => (
            "its field is no longer synced: the other side has no column of that name".to_owned(),
            alter("{\"field_mappings\": …}"),
        ),
        _ => (
            format!("the sync stops: its document names a column that {table} has no longer"),
            alter("{\"field_mappings\": …}"),
        ),
    };
    sql::query(
        "INSERT INTO sync._schema_change (sync, field, change, was, is_now, effect, remedy)
         VALUES ($1, $2, $3, NULLIF($4, ''), NULLIF($5, ''), $6, $7)",
        &[
            Arg::Int4(stored.id),
            Arg::Text(&format!("{table}.{}", change.column.name)),
            Arg::Text(what),
            Arg::Text(&was),
            Arg::Text(&is),
            Arg::Text(&effect),
            Arg::OptText(remedy.as_deref()),
        ],
    );
}

/// Puts the document in force, unless somebody has put another one there meanwhile. What was changed of the column before
/// capture knew its new name is compared.
fn store(stored: &Stored, document: &Json) -> Result<bool, Failure> {
    let now = Stored { document: document.clone(), ..stored.clone() };
    let plan = as_owner(stored.owner, &stored.search_path, true, || plan::compile_as(now, true))?;
    transaction(|| {
        let (source_columns, source_key) = plan::recorded(&plan, Side::Source);
        let (target_columns, target_key) = plan::recorded(&plan, Side::Target);
        let done = sql::query(
            &format!(
                "UPDATE sync._sync SET document = $2::pg_catalog.jsonb, changed_at = pg_catalog.clock_timestamp(),
                        source_columns = {source_columns}, source_key = {source_key},
                        target_columns = {target_columns}, target_key = {target_key}
                  WHERE id = $1 AND document = $3::pg_catalog.jsonb RETURNING id"
            ),
            &[
                Arg::Int4(stored.id),
                Arg::Text(&document.to_string()),
                Arg::Text(&stored.document.to_string()),
            ],
        );
        if done.is_empty() {
            return Ok(false);
        }
        for side in Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side)) {
            attach::watch(plan.side(side).oid);
            if plan.flows_from(side) {
                load::request(stored.id, side, Kind::Rows, "the table was changed");
            }
        }
        Ok(true)
    })
}
