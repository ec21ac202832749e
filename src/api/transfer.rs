//! The configuration as one document for a repository: `sync.export` writes it, `sync.import` makes the syncs what it
//! says. Neither knows a secret.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, changing, hubs, or_raise, owned, refuse, syncs};
use crate::border::inwards;
use crate::connection;
use crate::engine::plan;
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use pgrx::AnyElement;
use pgrx::prelude::*;
use serde_json::{Map, Value as Json, json};

/// What a document of this form calls itself, at the key `sync_ext`.
const FORM: i64 = 1;

/// `sync.export(name text DEFAULT NULL) RETURNS jsonb`
#[pg_extern(sql = false)]
fn export(name: Option<&[u8]>) -> Option<AnyElement> {
    speech::function(|| border::jsonb(&or_raise(written(name.map(inwards).as_deref()))))
}

/// `sync.import(configuration jsonb, dry_run bool, drop_missing bool) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn import_configuration(
    configuration: AnyElement,
    dry_run: bool,
    drop_missing: bool,
) -> TableIterator<
    'static,
    (
        name!(kind, Vec<u8>),
        name!(name, Vec<u8>),
        name!(action, Vec<u8>),
        name!(detail, Option<Vec<u8>>),
    ),
> {
    let done = speech::function(|| {
        let wanted = border::document(configuration.datum());
        or_raise(Wanted::read(&wanted).and_then(|wanted| wanted.make(dry_run, drop_missing)))
    });
    let row = |done: Done| {
        let detail = done.detail.as_deref().map(border::text);
        (border::text(done.kind), border::text(&done.name), border::text(done.action), detail)
    };
    TableIterator::new(done.into_iter().map(row).collect::<Vec<_>>())
}

/// `sync.document_schema() RETURNS jsonb`
#[pg_extern(sql = false)]
fn document_schema() -> Option<AnyElement> {
    speech::function(|| border::jsonb(&document::schema()))
}

/// `sync._patch(before jsonb, after jsonb) RETURNS jsonb`
#[pg_extern(sql = false)]
fn patch_between(before: AnyElement, after: AnyElement) -> Option<AnyElement> {
    speech::function(|| {
        let [before, after] = [before, after].map(|document| border::document(document.datum()));
        border::jsonb(&difference(Some(&before), &after))
    })
}

/// The caller's syncs and hubs with their documents; those of a hub are in it.
fn own() -> [Map<String, Json>; 2] {
    let of = |table: &str, condition: &str| {
        let rows = sql::as_extension(|| {
            sql::read(
                &format!(
                    "SELECT s.name, s.document::pg_catalog.text, s.owner::pg_catalog.oid FROM sync.{table} s {condition} ORDER BY s.name"
                ),
                &[],
            )
        });
        let mut own = Map::new();
        for row in rows {
            let [Some(name), Some(document), Some(owner)] = row.as_slice() else { continue };
            let member = "SELECT pg_catalog.pg_has_role($1::pg_catalog.oid, 'USAGE')";
            if sql::one(member, &[Arg::Text(owner)]).as_deref() == Some("t") {
                let document = serde_json::from_str(document).unwrap_or(Json::Null);
                own.insert(name.clone(), document);
            }
        }
        own
    };
    [of("_sync", "WHERE s.hub IS NULL"), of("_hub", "")]
}

/// Settings of a connection, as documents have them.
fn settings(connection: &connection::Connection) -> Json {
    let settings: Map<String, Json> = connection::settings(connection.server)
        .into_iter()
        .map(|(key, value)| (key, Json::String(value)))
        .collect();
    json!({ "type": connection.system, "credentials": settings })
}

fn may_use(connection: &connection::Connection) -> bool {
    let may = "SELECT pg_catalog.has_server_privilege($1::pg_catalog.oid, 'USAGE')";
    sql::one(may, &[Arg::Oid(connection.server)]).as_deref() == Some("t")
}

fn written(name: Option<&str>) -> Result<Json, Failure> {
    let [mut syncs, mut hubs] = own();
    if let Some(name) = name {
        if !hubs.contains_key(name) {
            // Says what there is, or whose it is.
            owned(name);
        }
        hubs.retain(|known, _| known == name);
        syncs.retain(|known, _| known == name);
        if syncs.is_empty() && hubs.is_empty() {
            return Err(refuse(
                "42809",
                format!("sync \"{name}\" is made from the document of a hub"),
                "Its document is not its own.",
                "Export the hub.",
            ));
        }
    }
    let mentioned = Json::from_iter([("", json!(syncs)), ("hubs", json!(hubs))]).to_string();
    let connections: Map<String, Json> = connection::all()
        .into_iter()
        .filter(|c| {
            may_use(c) && (name.is_none() || mentioned.contains(&json!(c.name).to_string()))
        })
        .map(|c| (c.name.clone(), settings(&c)))
        .collect();
    Ok(json!({ "sync_ext": FORM, "connections": connections, "hubs": hubs, "syncs": syncs }))
}

/// What was done, or would be.
struct Done {
    kind: &'static str,
    name: String,
    action: &'static str,
    detail: Option<String>,
}

/// A configuration that is to be made.
struct Wanted {
    connections: Map<String, Json>,
    hubs: Map<String, Json>,
    syncs: Map<String, Json>,
}

impl Wanted {
    fn read(document: &Json) -> Result<Self, Failure> {
        let bad = |message: &str, detail: String| {
            let hint = "Give what sync.export() returned.";
            refuse("22023", message.to_owned(), &detail, hint)
        };
        let Some(map) = document.as_object() else {
            return Err(bad("a configuration is a JSON object", String::new()));
        };
        if map.get("sync_ext") != Some(&json!(FORM)) {
            let found = map.get("sync_ext").map_or("missing".to_owned(), Json::to_string);
            let detail =
                format!("The key \"sync_ext\" says which form it has, {FORM}; it is {found}.");
            return Err(bad("this is no configuration of a form that can be read", detail));
        }
        let known = ["sync_ext", "connections", "hubs", "syncs"];
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            let detail = format!("The keys are: {}.", known.join(", "));
            return Err(bad(&format!("unknown key \"{key}\" in the configuration"), detail));
        }
        let part = |key: &str| match map.get(key) {
            None => Ok(Map::new()),
            Some(Json::Object(part)) => Ok(part.clone()),
            Some(other) => Err(bad(
                &format!("\"{key}\" must be an object of names and documents"),
                format!("It is {other}."),
            )),
        };
        Ok(Self { connections: part("connections")?, hubs: part("hubs")?, syncs: part("syncs")? })
    }

    /// Makes it all, or says what it would make. What is there already and alike is left alone.
    fn make(&self, dry_run: bool, drop_missing: bool) -> Result<Vec<Done>, Failure> {
        let mut done = Vec::new();
        let of =
            |kind, name: &str, action, detail| Done { kind, name: name.to_owned(), action, detail };
        let there = connection::all();
        for (name, wanted) in &self.connections {
            let found = there.iter().find(|c| c.name == *name);
            let now = found.map(settings);
            let in_place = |failure: Failure| within(failure, "connections", name);
            let (action, detail) = match found {
                Some(_) if now.as_ref() == Some(wanted) => ("unchanged", None),
                Some(found) => {
                    let patch = difference(now.as_ref(), wanted);
                    if !dry_run {
                        connection::alter(found, &patch).map_err(in_place)?;
                    }
                    ("changed", Some(patch.to_string()))
                }
                None => {
                    if !dry_run {
                        let (system, patch) =
                            connection::described(wanted, false).map_err(in_place)?;
                        let settings = match patch {
                            connection::Patch::Change(settings) => settings,
                            _ => Map::new(),
                        };
                        connection::create(name, &system.unwrap_or_default(), &settings)
                            .map_err(in_place)?;
                    }
                    ("created", Some("its secrets are stored with sync.set_secret".to_owned()))
                }
            };
            done.push(of("connection", name, action, detail));
        }
        let [syncs, hubs] = own();
        for (kind, key, wanted, there) in
            [("hub", "hubs", &self.hubs, &hubs), ("sync", "syncs", &self.syncs, &syncs)]
        {
            for (name, document) in wanted {
                let in_place = |failure: Failure| within(failure, key, name);
                let (action, detail) = match there.get(name) {
                    Some(now) if now == document => ("unchanged", None),
                    Some(now) => {
                        let patch = difference(Some(now), document);
                        if !dry_run {
                            alter(name, document).map_err(in_place)?;
                        }
                        ("changed", Some(patch.to_string()))
                    }
                    None => {
                        if dry_run {
                            check(name, document).map_err(in_place)?;
                        } else {
                            syncs::create(name, std::slice::from_ref(document))
                                .map_err(in_place)?;
                        }
                        ("created", None)
                    }
                };
                done.push(of(kind, name, action, detail));
            }
        }
        if drop_missing {
            for (kind, wanted, there) in [("sync", &self.syncs, &syncs), ("hub", &self.hubs, &hubs)]
            {
                let missing = there.keys().filter(|name| !wanted.contains_key(*name));
                let mut left: Vec<&String> = missing.collect();
                done.extend(left.iter().map(|name| of(kind, name, "dropped", None)));
                // Those first to whose records nobody's point.
                while !dry_run && !left.is_empty() {
                    let (before, mut refused) = (left.len(), None);
                    left.retain(|name| {
                        syncs::drop_named(name).map_err(|failure| refused = Some(failure)).is_err()
                    });
                    if let Some(failure) = refused.filter(|_| left.len() == before) {
                        return Err(failure);
                    }
                }
            }
        }
        Ok(done)
    }
}

/// Says of which part of the configuration something is wrong.
fn within(mut failure: Failure, part: &str, name: &str) -> Failure {
    let place = format!("It is about \"{name}\" of \"{part}\".");
    failure.detail = Some(match failure.detail {
        Some(detail) if !detail.is_empty() => format!("{detail} {place}"),
        _ => place,
    });
    failure
}

fn check(name: &str, document: &Json) -> Result<(), Failure> {
    if document::is_hub(document) {
        return hubs::apart(name, document).map(drop);
    }
    plan::read_document(document).map(drop)
}

/// Puts this document in the place of the one that is in force.
fn alter(name: &str, document: &Json) -> Result<(), Failure> {
    changing(name, || match hubs::named(name) {
        Some(hub) => {
            let patch = difference(Some(&hub.document), document);
            hubs::alter(&hub, &[patch]).map(drop)
        }
        None => syncs::alter_one(owned(name), name, document.clone()).map(drop),
    })
}

/// The merge patch (RFC 7396) that makes one document of another.
fn difference(now: Option<&Json>, wanted: &Json) -> Json {
    let (Some(Json::Object(now)), Json::Object(wanted)) = (now, wanted) else {
        return wanted.clone();
    };
    let mut patch = Map::new();
    for key in now.keys().filter(|key| !wanted.contains_key(*key)) {
        patch.insert(key.clone(), Json::Null);
    }
    for (key, value) in wanted {
        match now.get(key) {
            Some(held) if held == value => {}
            held => {
                patch.insert(key.clone(), difference(held, value));
            }
        }
    }
    Json::Object(patch)
}
