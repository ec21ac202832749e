//! `sync.map_field`: one more field of a sync, with a column made for it where there is none. What is there already is
//! brought over while both sides are being written. `sync.unmap_field`: one less.

use super::{border, changing, compiled, or_raise, owned, refuse, syncs};
use crate::border::inwards;
use crate::connection;
use crate::engine::plan::{self, Plan, Stored, Table};
use crate::engine::remote::{columns, needs, side};
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::Failure;
use connector::Field;
use document::{Alike, Fields};
use merge::Side;
use pgrx::prelude::*;
use serde_json::{Value as Json, json};

/// `sync.map_field(name text, source text, target text, direction text) RETURNS text`
#[pg_extern(sql = false)]
fn map_field(
    name: Option<&[u8]>,
    source: Option<&[u8]>,
    target: Option<&[u8]>,
    direction: Option<&[u8]>,
) -> Vec<u8> {
    speech::function(|| {
        let (Some(name), Some(source), Some(target)) = (name, source, target) else {
            or_raise(Err(refuse(
                "22004",
                "map_field needs a sync, a source and a target".into(),
                "One of them is null.",
                "For example: SELECT sync.map_field('accounts', source => 'Region__c', target => 'region').",
            )))
        };
        let [name, source, target] = [name, source, target].map(inwards);
        let direction = direction.map(inwards);
        let mapped = changing(&name, || map(&name, &source, &target, direction.as_deref()));
        border::text(&or_raise(mapped))
    })
}

fn map(name: &str, source: &str, target: &str, direction: Option<&str>) -> Result<String, Failure> {
    let id = owned(name);
    let Some(stored) = sql::as_extension(|| plan::stored(id)) else {
        return Err(refuse("42704", format!("sync \"{name}\" does not exist"), "", ""));
    };
    let plan = compiled(&stored)?;
    refuse_twice(&plan, source, target)?;
    let mut entry = json!({"source": source, "target": target});
    if let Some(direction) = direction {
        entry["direction"] = json!(direction);
    }
    match plan.remote_side() {
        Some(remote) => {
            let (theirs, ours) =
                if remote == Side::Source { (source, target) } else { (target, source) };
            let field = described(&stored, theirs)?;
            let local = &whole(&plan, remote.other())?;
            if local.like(ours).is_none() {
                add_column(
                    local,
                    ours,
                    &columns::sql_type(&field).map_err(|why| {
                        refuse(
                            "0A000",
                            format!(
                                "field {} of {} cannot be synced",
                                field.name,
                                plan.side(remote).name
                            ),
                            &format!("It is of a kind that is not carried: {why}."),
                            "Map the fields it is made of, where there are such.",
                        )
                    })?,
                );
            }
        }
        None => {
            let [from, to] = &[whole(&plan, Side::Source)?, whole(&plan, Side::Target)?];
            let Some(column) = from.like(source) else {
                return Err(missing(from, source));
            };
            if to.like(target).is_none() {
                let of_type = sql::one(
                    "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a
                      WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.=) $2::pg_catalog.int2",
                    &[Arg::Oid(from.oid), Arg::Int4(i32::from(from.columns[column].attnum))],
                );
                add_column(to, target, &of_type.unwrap_or_default());
            }
        }
    }
    // The column that was just made is seen.
    sql::seeing_own_work(|| {
        let mut patch = beside(&stored, &plan, entry)?;
        if let Some(excluded) = stored.document.get("exclude_fields").and_then(Json::as_array) {
            // What is mapped is excluded no more.
            let is = |name: &Json, mapped: &str| {
                name.as_str().is_some_and(|name| name.eq_ignore_ascii_case(mapped))
            };
            let still = excluded.iter().filter(|name| !is(name, source) && !is(name, target));
            patch["exclude_fields"] = some(still.cloned().collect());
        }
        syncs::alter(name, &[patch])
    })
}

/// The patch that puts a mapping beside what is synced already. Of the fields that are called alike one comes along by
/// itself.
fn beside(stored: &Stored, before: &Plan, entry: Json) -> Result<Json, Failure> {
    let list = |key: &str| stored.document.get(key).and_then(Json::as_array).cloned();
    if let Some(mut mappings) = list("field_mappings") {
        mappings.push(entry);
        return Ok(json!({ "field_mappings": mappings }));
    }
    if entry.get("direction").is_none() && compiled(stored)?.fields.len() > before.fields.len() {
        return Ok(json!({}));
    }
    Ok(match list("include_fields") {
        Some(mut included) => {
            included.extend(entry.get("target").cloned());
            json!({ "field_mappings": [entry], "include_fields": included })
        }
        None => json!({ "field_mappings": [entry], "field_selection": "all" }),
    })
}

/// `sync.unmap_field(name text, target text) RETURNS text`
#[pg_extern(sql = false)]
fn unmap_field(name: &[u8], target: &[u8]) -> Vec<u8> {
    speech::function(|| {
        let (name, target) = (inwards(name), inwards(target));
        border::text(&or_raise(changing(&name, || unmap(&name, &target))))
    })
}

/// The columns and what they hold stay as they are on both sides.
fn unmap(name: &str, target: &str) -> Result<String, Failure> {
    let id = owned(name);
    let Some(stored) = sql::as_extension(|| plan::stored(id)) else {
        return Err(refuse("42704", format!("sync \"{name}\" does not exist"), "", ""));
    };
    let (config, _) = plan::read_document(&stored.document)?;
    let list =
        |key: &str| stored.document.get(key).and_then(Json::as_array).cloned().unwrap_or_default();
    let called = |value: Option<&Json>| {
        value.and_then(Json::as_str).is_some_and(|text| text.eq_ignore_ascii_case(target))
    };
    let mappings = list("field_mappings");
    let left: Vec<Json> = mappings.iter().filter(|m| !called(m.get("target"))).cloned().collect();
    let included = list("include_fields");
    let still: Vec<Json> = included.iter().filter(|name| !called(Some(name))).cloned().collect();
    let patch = match &config.fields {
        Fields { alike: None, .. } if left.len() < mappings.len() && !left.is_empty() => {
            json!({ "field_mappings": left })
        }
        Fields { alike: Some(alike), mapped } if left.len() < mappings.len() => {
            let plan = compiled(&stored)?;
            let has = |side: Side, name: &str| match plan.is_remote(side) {
                true => described(&stored, name).is_ok(),
                false => whole(&plan, side).is_ok_and(|table| table.like(name).is_some()),
            };
            let (gone, mapped): (Vec<_>, Vec<_>) =
                mapped.iter().cloned().partition(|f| f.target.eq_ignore_ascii_case(target));
            let others = Fields { mapped, alike: Some(alike.clone()) };
            // What it was made of is not to be paired by its name instead.
            let mut exclude = alike.exclude.clone();
            for name in gone.iter().flat_map(|field| field.sources.iter().chain([&field.target])) {
                let there = Side::BOTH.into_iter().all(|side| has(side, name));
                if there && others.pairs(name) && !exclude.contains(name) {
                    exclude.push(name.clone());
                }
            }
            let exclude = exclude.into_iter().map(Json::from).collect();
            json!({ "field_mappings": some(left), "exclude_fields": some(exclude) })
        }
        _ if still.len() < included.len() && !still.is_empty() => {
            json!({ "include_fields": still })
        }
        Fields { alike: Some(Alike { include: None, exclude }), .. } => {
            let plan = compiled(&stored)?;
            let field = plan.fields.iter().find(|f| f.name(&plan).eq_ignore_ascii_case(target));
            let Some(field) = field else { return Err(not_mapped(&plan, target)) };
            let mut exclude = exclude.clone();
            exclude.push(field.name(&plan).to_owned());
            json!({ "exclude_fields": exclude })
        }
        _ => return Err(not_mapped(&compiled(&stored)?, target)),
    };
    syncs::alter(name, &[patch])
}

/// A list as it stands in a patch: an empty one takes the key out.
fn some(list: Vec<Json>) -> Json {
    if list.is_empty() { Json::Null } else { Json::Array(list) }
}

fn not_mapped(plan: &Plan, target: &str) -> Failure {
    let known: Vec<&str> = plan.fields.iter().map(|field| field.name(plan)).collect();
    if known.len() == 1 && known[0].eq_ignore_ascii_case(target) {
        return refuse(
            "22023",
            format!("\"{target}\" is the last field of sync \"{}\"", plan.name),
            "A sync without a field has nothing to do.",
            "End it with sync.drop_sync, or stop it for a while with sync.pause.",
        );
    }
    let hint = match document::nearest(target, known.iter().copied()) {
        Some(near) => format!("Perhaps you meant \"{near}\"."),
        None => format!("The fields are, by their targets: {}.", known.join(", ")),
    };
    refuse("42703", format!("sync \"{}\" has no field \"{target}\"", plan.name), "", &hint)
}

/// A table with the columns that the sync does not use, too.
fn whole(plan: &Plan, side: Side) -> Result<Table, Failure> {
    plan.side(side).read_again(side.name())
}

fn refuse_twice(plan: &Plan, source: &str, target: &str) -> Result<(), Failure> {
    for (side, name) in [(Side::Source, source), (Side::Target, target)] {
        let mapped = plan.fields.iter().any(|f| {
            f.column[side as usize]
                .is_some_and(|c| plan.side(side).columns[c].name.eq_ignore_ascii_case(name))
        });
        if mapped {
            return Err(refuse(
                "42710",
                format!("\"{name}\" of {} is mapped already", plan.side(side).name),
                "",
                "Change its mapping with sync.alter_sync.",
            ));
        }
    }
    Ok(())
}

/// The field as it was described last, or else as the other system describes it now: it may be new.
fn described(stored: &Stored, name: &str) -> Result<Field, Failure> {
    let Some((connection, object)) = &stored.object else {
        return Err(refuse("XX000", "the sync has no object".into(), "", ""));
    };
    let known = side::described(connection, object);
    if let Some(field) = known.as_ref().and_then(|o| o.field(name)) {
        return Ok(field.clone());
    }
    let mut of_parents = needs::of_object(connection, object);
    if connection::is_of_parent(name) {
        of_parents.push(name.to_owned());
    }
    let now = connection::describe(&connection::usable(connection)?, object, &of_parents)?;
    side::store(connection, &now);
    if let Some(field) = now.field(name) {
        return Ok(field.clone());
    }
    if let Some(unfit) = now.unfit(name) {
        return Err(side::refuse_unfit(unfit));
    }
    let names: Vec<&str> = now.fields.iter().map(|f| f.name.as_str()).collect();
    let hint = match document::nearest(name, names.iter().copied()) {
        Some(near) => format!("Perhaps you meant {near}."),
        None => format!("The fields are: {}.", names.join(", ")),
    };
    Err(refuse(
        "42703",
        format!("object \"{object}\" has no field \"{name}\""),
        "It does not exist, or the user of the connection may not see it.",
        &hint,
    ))
}

fn missing(table: &Table, column: &str) -> Failure {
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let hint = match document::nearest(column, names.iter().copied()) {
        Some(near) => format!("Perhaps you meant \"{near}\"."),
        None => format!("The columns are: {}.", names.join(", ")),
    };
    refuse("42703", format!("column \"{column}\" of {} does not exist", table.name), "", &hint)
}

/// As the caller, whose right it takes.
fn add_column(table: &Table, name: &str, of_type: &str) {
    sql::query(
        &format!("ALTER TABLE {} ADD COLUMN {} {of_type}", table.name, identifier(name)),
        &[],
    );
}
