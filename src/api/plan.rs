//! What a sync would take: `sync.plan` for a document, `sync.plan_objects` for objects of a connection. Both ask the
//! other side and make nothing.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, compiled, hubs, or_raise, syncs};
use crate::border::inwards;
use crate::connection;
use crate::engine::plan::{self, Plan};
use crate::engine::polled;
use crate::engine::remote::{bulk, columns, needs, poll};
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::governors;
use crate::worker::transaction::{Failure, within};
use connector::{Field, Object};
use document::InitialSync;
use merge::Side;
use pgrx::AnyArray;
use pgrx::prelude::*;
use salesforce::estimate::{Line, OBJECTS_AT_ONCE, Wish, estimate};
use serde_json::Value as Json;
use std::time::Duration;

/// A line, and the object that it is about; none: all together.
struct Row(Option<String>, Line);

/// As SQL has it.
fn table(
    rows: Vec<Row>,
) -> TableIterator<
    'static,
    (
        name!(object, Option<Vec<u8>>),
        name!(what, Vec<u8>),
        name!(detail, Vec<u8>),
        name!(figure, Option<f64>),
    ),
> {
    let row = |Row(object, line): Row| {
        let object = object.as_deref().map(border::text);
        (object, border::text(line.what), border::text(&line.detail), line.figure)
    };
    TableIterator::new(rows.into_iter().map(row).collect::<Vec<_>>())
}

/// `sync.plan(name text, VARIADIC pieces jsonb[]) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn plan_sync(
    name: &[u8],
    pieces: AnyArray,
) -> TableIterator<
    'static,
    (
        name!(object, Option<Vec<u8>>),
        name!(what, Vec<u8>),
        name!(detail, Vec<u8>),
        name!(figure, Option<f64>),
    ),
> {
    table(speech::function(|| or_raise(of_document(&inwards(name), &border::documents(&pieces)))))
}

/// `sync.plan_objects(connection text, objects text[], direction text) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn plan_objects(
    connection: &[u8],
    objects: AnyArray,
    direction: &[u8],
) -> TableIterator<
    'static,
    (
        name!(object, Option<Vec<u8>>),
        name!(what, Vec<u8>),
        name!(detail, Vec<u8>),
        name!(figure, Option<f64>),
    ),
> {
    table(speech::function(|| {
        let objects = border::texts(&objects);
        or_raise(of_objects(&inwards(connection), &objects, &inwards(direction)))
    }))
}

fn of_objects(connection: &str, objects: &[String], direction: &str) -> Result<Vec<Row>, Failure> {
    let (pull, push) = super::register::directions(direction)?;
    let connection = connection::usable(connection)?;
    let mut rows = Vec::new();
    for (name, described) in
        objects.iter().zip(connection::describe_and_count(&connection, objects, &[])?)
    {
        let (object, records) = match described {
            Ok(described) => described,
            Err(failure) => {
                rows.push(Row(Some(name.clone()), problem(&failure)));
                continue;
            }
        };
        // As sync.register_table takes them.
        let fields: Vec<&Field> =
            object.fields.iter().filter(|f| columns::sql_type(f).is_ok()).collect();
        let sent = fields.iter().copied().filter(|f| f.name != object.id_field).collect();
        let wish = Wish {
            object: &object,
            fields,
            sent,
            pull,
            push,
            load: true,
            records,
            rows: 0,
            job_from: bulk::FEWEST,
            interval: poll::INTERVAL,
            identity: false,
        };
        rows.extend(estimate(&wish).into_iter().map(|line| Row(Some(object.name.clone()), line)));
    }
    rows.extend(totals(&rows, &connection).into_iter().map(|line| Row(None, line)));
    Ok(rows)
}

fn problem(failure: &Failure) -> Line {
    let more = [&failure.detail, &failure.hint].into_iter().flatten();
    let detail = more.fold(failure.message.clone(), |text, more| format!("{text} - {more}"));
    Line { what: "problem", detail, figure: None }
}

fn of_document(name: &str, pieces: &[Json]) -> Result<Vec<Row>, Failure> {
    if let Some(hub) = hubs::named(name) {
        let document = document::merge_patch(&hub.document, pieces)?;
        return hub.as_owner(|| of_hub(name, &document));
    }
    match document::join_create(pieces).ok().filter(document::is_hub) {
        Some(hub) => of_hub(name, &hub),
        None => of_sync(name, pieces),
    }
}

fn of_hub(name: &str, document: &Json) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (_, spoke) in hubs::apart(name, document)? {
        match of_sync("", &[spoke.document]) {
            Ok(lines) => rows.extend(lines),
            Err(failure) => rows.push(Row(Some(spoke.name), problem(&failure))),
        }
    }
    Ok(rows)
}

fn of_sync(name: &str, pieces: &[Json]) -> Result<Vec<Row>, Failure> {
    let (plan, is_new) = syncs::planned(name, pieces)?;
    let mut rows: Vec<Row> = Vec::new();
    if !is_new {
        rows.extend(changes(&plan, pieces)?.into_iter().map(|line| Row(None, line)));
    }
    rows.extend(advice(&plan).map(|line| Row(None, line)));
    rows.extend(syncs::lost(&plan).into_iter().map(|lost| {
        let detail = format!("{lost}; for example {}", lost.example);
        Row(None, Line { what: "warning", detail, figure: Some(lost.lost as f64) })
    }));
    let Some((remote, of)) = plan.remote() else {
        if is_new && plan.config.initial != InitialSync::None {
            let from = if plan.flows_from(Side::Source) { Side::Source } else { Side::Target };
            let detail = format!("of {}, brought over or compared", plan.side(from).name);
            let figure = rows_of(&plan, from);
            rows.push(Row(None, Line { what: "first load: rows", detail, figure }));
        }
        if let Some(side) = plan.polled() {
            let seconds = plan.config.polling_interval.unwrap_or(polled::INTERVAL).as_secs();
            let detail = format!(
                "{} is read every {seconds} s, all of its rows each time",
                plan.side(side).name
            );
            let figure = rows_of(&plan, side);
            rows.push(Row(None, Line { what: "polling: rows", detail, figure }));
        }
        let detail = "both sides are tables of this database: no other system is called";
        let line = Line { what: "polling: calls a day", detail: detail.into(), figure: Some(0.0) };
        rows.push(Row(None, line));
        return Ok(rows);
    };
    let connection = connection::usable(&of.connection)?;
    let of_parents = needs::of_parents(&plan.config, remote == Side::Source);
    let objects = std::slice::from_ref(&of.object);
    let described = connection::describe_and_count(&connection, objects, &of_parents)?;
    let Some(described) = described.into_iter().next() else { return Ok(Vec::new()) };
    let (object, records) = described?;
    let (fields, unknown) = travelling(&plan, remote, &object, |_| true);
    let (sent, _) =
        travelling(&plan, remote, &object, |f| f.how[remote.other() as usize].is_some());
    let load = is_new && plan.config.initial != InitialSync::None;
    let push = plan.flows_from(remote.other());
    let wish = Wish {
        object: &object,
        fields,
        sent,
        pull: plan.flows_from(remote),
        push,
        load,
        records,
        job_from: bulk::FEWEST,
        rows: if push && load {
            rows_of(&plan, remote.other()).unwrap_or_default() as u64
        } else {
            0
        },
        interval: plan.config.polling_interval.unwrap_or(poll::INTERVAL),
        identity: plan.config.identity.is_some(),
    };
    let mut lines = estimate(&wish);
    for name in unknown {
        if let Some(unfit) = object.unfit(&name) {
            let detail = format!("{}: {} {}", name, unfit.why, unfit.hint);
            lines.push(Line { what: "warning", detail, figure: None });
            continue;
        }
        let near = document::nearest(&name, object.fields.iter().map(|f| f.name.as_str()));
        let near = near.map(|near| format!("; perhaps \"{near}\" is meant")).unwrap_or_default();
        let detail = format!("{} has no field \"{name}\"{near}", object.name);
        lines.push(Line { what: "warning", detail, figure: None });
    }
    rows.extend(lines.into_iter().map(|line| Row(Some(object.name.clone()), line)));
    rows.extend(totals(&rows, &connection).into_iter().map(|line| Row(None, line)));
    Ok(rows)
}

/// What would be other than what runs, key by key, and what comes of it.
fn changes(plan: &Plan, pieces: &[Json]) -> Result<Vec<Line>, Failure> {
    let Some(stored) = sql::as_extension(|| plan::stored(plan.id)) else { return Ok(Vec::new()) };
    let wanted = document::merge_patch(&stored.document, pieces)?;
    let mut lines = Vec::new();
    differences("", Some(&stored.document), Some(&wanted), &mut lines);
    if lines.is_empty() {
        let detail = "the document is what runs already".to_owned();
        return Ok(vec![Line { what: "change", detail, figure: None }]);
    }
    let old = compiled(&stored).ok();
    for side in Side::BOTH {
        let table = &plan.side(side).name;
        let effect = |what: &str| Line { what: "effect", detail: what.to_owned(), figure: None };
        if syncs::widens(old.as_ref(), plan, side) {
            let rows = (!plan.is_remote(side)).then(|| rows_of(plan, side)).flatten();
            let detail = format!("the records of {table} are gone through once and compared");
            lines.push(Line { what: "effect", detail, figure: rows });
        }
        let captured = |plan: &Plan| plan.captured(side);
        match (old.as_ref().is_some_and(captured), captured(plan)) {
            (false, true) => lines.push(effect(&format!("changes of {table} are captured"))),
            (true, false) => lines.push(effect(&format!("changes of {table} no longer travel"))),
            _ => {}
        }
    }
    Ok(lines)
}

/// A line for each value that differs, by the path of its key.
fn differences(path: &str, now: Option<&Json>, wanted: Option<&Json>, lines: &mut Vec<Line>) {
    if now == wanted {
        return;
    }
    if let (Some(Json::Object(now)), Some(Json::Object(wanted))) = (now, wanted) {
        let mut keys: Vec<&String> = now.keys().chain(wanted.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            differences(&path, now.get(key), wanted.get(key), lines);
        }
        return;
    }
    let shown = |value: Option<&Json>| value.map_or("nothing".to_owned(), Json::to_string);
    let detail = format!("{path}: {} instead of {}", shown(wanted), shown(now));
    lines.push(Line { what: "change", detail, figure: None });
}

/// A word on a document that syncs whatever there is.
fn advice(plan: &Plan) -> Option<Line> {
    plan.config.fields.alike.as_ref().filter(|alike| alike.include.is_none())?;
    let alike = plan.fields.iter().skip(plan.config.fields.mapped.len());
    let names: Vec<&str> = alike.map(|field| field.name(plan)).collect();
    let detail = format!(
        "all fields that are called alike are synced: {}; those that both sides need can be named in \"include_fields\"",
        names.join(", ")
    );
    Some(Line { what: "advice", detail, figure: Some(names.len() as f64) })
}

/// The object's fields that a plan has, and names of the document that are none.
fn travelling<'a>(
    plan: &Plan,
    remote: Side,
    object: &'a Object,
    which: impl Fn(&plan::Field) -> bool,
) -> (Vec<&'a Field>, Vec<String>) {
    let (mut fields, mut unknown) = (Vec::new(), Vec::new());
    for field in plan.fields.iter().filter(|f| which(f)) {
        let inputs = &field.inputs[remote as usize];
        for &column in field.column[remote as usize].iter().chain(inputs) {
            let name = &plan.side(remote).columns[column].name;
            match object.field(name) {
                Some(field) if fields.iter().any(|known: &&Field| known.name == field.name) => {}
                Some(field) => fields.push(field),
                None if unknown.contains(name) => {}
                None => unknown.push(name.clone()),
            }
        }
    }
    (fields, unknown)
}

/// How long rows may be counted.
const COUNTED: Duration = Duration::from_secs(5);

/// About how many rows a table has, as the server last counted them; one that it never did is counted, as the sync's owner,
/// if that does not take long.
fn rows_of(plan: &Plan, side: Side) -> Option<f64> {
    let table = plan.side(side);
    let number = |text: Option<String>| text?.parse::<f64>().ok().filter(|n| *n >= 0.0);
    let known = number(sql::one(
        "SELECT c.reltuples FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(table.oid)],
    ));
    let count = format!("SELECT pg_catalog.count(*) FROM {}", table.name);
    let counted = || {
        let read = || sql::as_reader(plan.owner, &plan.search_path, || sql::one(&count, &[]));
        number(within(COUNTED, read)?)
    };
    known.or_else(counted)
}

/// All objects together, held against what the account allows.
fn totals(rows: &[Row], connection: &connection::Connection) -> Vec<Line> {
    let sum = |what: &str| -> f64 {
        rows.iter().filter(|row| row.1.what == what).filter_map(|row| row.1.figure).sum()
    };
    let what = "polling: calls a day";
    let objects = rows.iter().filter(|row| row.1.what == what).count();
    let calls = objects.div_ceil(OBJECTS_AT_ONCE);
    let polling = sum(what) * calls as f64 / objects.max(1) as f64;
    let detail = format!("all objects together, up to {OBJECTS_AT_ONCE} in a call");
    let mut lines = vec![Line { what, detail, figure: Some(polling) }];
    let Some(reading) = governors::read(connection::account(connection.server)) else {
        return lines;
    };
    if let Some(allowed) = reading.allowed {
        let share = allowed.saturating_sub(reading.reserve);
        let used = reading.used;
        let detail = if polling > share as f64 * 0.75 {
            format!(
                "of {allowed} a day, {used} of them used; {polling} would go to polling alone: its intervals will be stretched"
            )
        } else {
            format!("of {allowed} a day, {used} of them used; a fifth is left to others")
        };
        lines.push(Line { what: "calls that may be used", detail, figure: Some(share as f64) });
    }
    if let Some(allowed) = reading.events_allowed {
        lines.push(Line {
            what: "events that may be used",
            detail: format!(
                "of {allowed} a day, {} of them used; each change of an object that Change Data Capture tells of is one",
                reading.events_used
            ),
            figure: Some((allowed - allowed / 5) as f64),
        });
    }
    for what in ["first load: calls", "first push: calls", "disk: bytes"] {
        let figure = sum(what);
        if figure > 0.0 {
            lines.push(Line { what, detail: "all objects together".into(), figure: Some(figure) });
        }
    }
    lines
}
