//! Making, changing and ending a sync.

use super::{border, changing, compiled, cycles, hubs, image, or_raise, outlets, owned, refuse};
use crate::border::inwards;
use crate::capture::attach;
use crate::connection;
use crate::engine::link;
use crate::engine::load::{self, Kind};
use crate::engine::plan::{self, Plan, Stored};
use crate::engine::samples;
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::Failure;
use document::{Config, Endpoint, InitialSync, Severity};
use merge::Side;
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::{AnyArray, AnyElement};
use serde_json::Value as Json;

/// `sync.create_sync(name text, VARIADIC pieces jsonb[]) RETURNS text`
#[pg_extern(sql = false)]
fn create_sync(name: &[u8], pieces: AnyArray) -> Vec<u8> {
    speech::function(|| {
        border::text(&or_raise(create(&inwards(name), &border::documents(&pieces))))
    })
}

/// `sync.alter_sync(name text, VARIADIC pieces jsonb[]) RETURNS text`
#[pg_extern(sql = false)]
fn alter_sync(name: &[u8], pieces: AnyArray) -> Vec<u8> {
    speech::function(|| border::text(&or_raise(alter(&inwards(name), &border::documents(&pieces)))))
}

/// `sync.drop_sync(name text) RETURNS void`
#[pg_extern(sql = false)]
fn drop_sync(name: &[u8]) {
    speech::function(|| or_raise(drop_named(&inwards(name))));
}

/// Ends a sync, or all of a hub.
pub(super) fn drop_named(name: &str) -> Result<(), Failure> {
    changing(name, || {
        if let Some(hub) = hubs::named(name) {
            return hubs::end(&hub);
        }
        let id = owned(name);
        hubs::check_free(id, name, "ended", "sync.drop_sync")?;
        drop_one(id, name)
    })
}

/// Ends a sync.
pub(super) fn drop_one(id: i32, name: &str) -> Result<(), Failure> {
    check_unnamed(id, name)?;
    end(id);
    Ok(())
}

/// A sync by whose links the fields of others are translated stays while their documents say so.
fn check_unnamed(id: i32, name: &str) -> Result<(), Failure> {
    let others = sql::as_extension(|| {
        sql::one(
            "SELECT pg_catalog.string_agg(pg_catalog.format('\"%s\"', s.name), ', ' ORDER BY s.name) FROM sync._sync s
              WHERE s.id <> $1
                AND EXISTS (SELECT FROM pg_catalog.jsonb_path_query(s.document, '$.field_mappings[*].reference[*]') AS r (named)
                             WHERE r.named = pg_catalog.to_jsonb($2))",
            &[Arg::Int4(id), Arg::Text(name)],
        )
    });
    others.map_or(Ok(()), |others| {
        Err(refuse(
            "2BP01",
            format!("sync \"{name}\" is named by another one"),
            &format!("By its records those of {others} know what they point to."),
            "End that one first, or take the \"reference\" out of its document with sync.alter_sync.",
        ))
    })
}

fn end(id: i32) {
    let tables = sql::as_extension(|| {
        let row = sql::query(
            "SELECT source::pg_catalog.oid, target::pg_catalog.oid FROM sync._sync WHERE id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            &[Arg::Int4(id)],
        );
        for table in [
            "_sync",
            "_cursor",
            "_load",
            "_queue",
            "_conflict",
            "_error",
            "_gap",
            "_intent",
            "_sending",
            "_write_job",
            "_pull",
            "_pace",
            "_pace_wait",
            "_schema_change",
            "_delivery",
        ] {
            let column = if table == "_sync" { "id" } else { "sync" };
            sql::query(
                &format!("DELETE FROM sync.{table} WHERE {column} OPERATOR(pg_catalog.=) $1"),
                &[Arg::Int4(id)],
            );
        }
        sql::query(&format!("DROP TABLE IF EXISTS sync.{}", identifier(&link::partition(id))), &[]);
        row
    });
    for oid in tables.iter().flatten().flatten().filter_map(|o| o.parse::<u32>().ok()) {
        attach::watch(Oid::from(oid));
    }
    attach::configuration_changed();
}

/// `sync.show(name text) RETURNS jsonb`: the document as it is in force.
#[pg_extern(sql = false)]
fn show(name: &[u8]) -> Option<AnyElement> {
    speech::function(|| {
        let name = inwards(name);
        border::jsonb(&match hubs::named(&name) {
            Some(hub) => hub.document,
            None => document_of(owned(&name)),
        })
    })
}

pub(super) fn document_of(id: i32) -> Json {
    sql::as_extension(|| {
        sql::one(
            "SELECT document FROM sync._sync WHERE id OPERATOR(pg_catalog.=) $1",
            &[Arg::Int4(id)],
        )
    })
    .and_then(|text| serde_json::from_str(&text).ok())
    .unwrap_or(Json::Null)
}

fn say(notices: &[document::Notice]) {
    for notice in notices {
        let mut text = notice.message.clone();
        if !notice.detail.is_empty() {
            text = format!("{text}: {}", notice.detail);
        }
        match notice.severity {
            Severity::Notice => speech::notice(text),
            Severity::Warning => speech::warning(text),
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let taken = sql::as_extension(|| {
        sql::one(
            "SELECT 1 FROM sync._sync WHERE name = $1 UNION ALL SELECT 1 FROM sync._hub WHERE name = $1",
            &[Arg::Text(name)],
        )
    });
    if name.trim().is_empty() {
        return Err(refuse(
            "22023",
            "a sync needs a name".into(),
            "",
            "Give it the name by which people speak of it.",
        ));
    }
    if name.len() > 200 {
        return Err(refuse(
            "42622",
            "the name of the sync is too long".into(),
            "It has more than 200 bytes.",
            "Choose a shorter one.",
        ));
    }
    if taken.is_some() {
        return Err(refuse(
            "42710",
            format!("sync \"{name}\" already exists"),
            "",
            "Change it with sync.alter_sync, or end it with sync.drop_sync first.",
        ));
    }
    Ok(())
}

pub(super) fn create(name: &str, pieces: &[Json]) -> Result<String, Failure> {
    check_name(name)?;
    let document = document::join_create(pieces)?;
    if document::is_hub(&document) {
        return hubs::create(name, document);
    }
    let summary = create_one(name, document, None)?;
    warn_without_worker();
    Ok(summary)
}

/// Makes one sync; `hub` is the hub that it belongs to.
pub(super) fn create_one(name: &str, document: Json, hub: Option<&str>) -> Result<String, Failure> {
    let (config, notices) = plan::read_document(&document)?;
    let stored = stored_of(name, document, &config)?;
    if config.target == Endpoint::Application {
        say(&notices);
        return outlets::create(&stored, &config, hub);
    }
    let mut plan = compiled(&stored)?;
    check(&plan)?;
    say(&notices);
    note_excluded(&plan);
    warn_of_lost(&plan);
    plan.id = insert(&stored, &plan, hub);
    create_links(&plan);
    attach_triggers(&plan);
    // A view is not to be locked for what it cannot have.
    for side in local_sides(&plan).filter(|&side| plan.side(side).polled.is_none()) {
        attach::watch(plan.side(side).oid);
    }
    let from = if plan.flows_from(Side::Source) { Side::Source } else { Side::Target };
    let what = match plan.config.initial {
        InitialSync::FullLoad => "full_load",
        InitialSync::MatchOnly => "match_only",
        InitialSync::None => "",
    };
    if !what.is_empty() {
        sql::as_extension(|| load::request(plan.id, from, Kind::Rows, what));
    }
    attach::configuration_changed();
    // Too small for autovacuum ever to look at; unanalysed they make the views' plans expensive.
    sql::as_extension(|| sql::query("ANALYZE sync._sync, sync._cursor, sync._shape", &[]));
    Ok(summary(&plan, "created"))
}

/// The plan of a sync as it would be: of one that exists with the pieces as a patch, else of a new one. Whether it is new
/// comes with it.
pub(super) fn planned(name: &str, pieces: &[Json]) -> Result<(Plan, bool), Failure> {
    let exists = sql::as_extension(|| {
        sql::one(
            "SELECT 1 FROM sync._sync WHERE name OPERATOR(pg_catalog.=) $1",
            &[Arg::Text(name)],
        )
    });
    if exists.is_some() {
        let id = owned(name);
        let document = document::merge_patch(&document_of(id), pieces)?;
        plan::read_document(&document)?;
        let Some(mut stored) = sql::as_extension(|| plan::stored(id)) else {
            return Err(refuse("42704", format!("sync \"{name}\" does not exist"), "", ""));
        };
        stored.document = document;
        return Ok((compiled(&stored)?, false));
    }
    let document = document::join_create(pieces)?;
    let (config, _) = plan::read_document(&document)?;
    if let Some(remote) = config.remote().filter(|remote| !remote.exists) {
        return Err(refuse(
            "55000",
            format!("the connection to {} does not exist yet", remote.object),
            "A plan asks the other side and makes nothing.",
            "Make it first with sync.create_connection and sync.set_secret.",
        ));
    }
    let stored = stored_of(name, document, &config)?;
    Ok((compiled(&stored)?, true))
}

/// A sync that a document describes, before it has a number.
fn stored_of(name: &str, document: Json, config: &Config) -> Result<Stored, Failure> {
    Ok(Stored {
        id: 0,
        name: name.to_owned(),
        source: plan::resolve(&config.source, "source")?,
        target: plan::resolve(&config.target, "target")?,
        // SAFETY: the current user of this backend.
        owner: unsafe { pg_sys::GetUserId() },
        search_path: sql::search_path(),
        document,
        object: object_of(config, name)?,
    })
}

/// The connection and the object of the side that is no table. A connection that the document describes
/// and that does not exist is made.
fn object_of(config: &Config, name: &str) -> Result<Option<(String, String)>, Failure> {
    let Some(remote) = config.remote() else { return Ok(None) };
    let connection = remote.connection.clone().unwrap_or_else(|| name.to_owned());
    if !remote.exists {
        connection::create(&connection, &remote.system, &remote.settings)?;
    }
    let object = match &remote.schema {
        Some(schema) => format!("{schema}.{}", remote.object),
        None => remote.object.clone(),
    };
    Ok(Some((connection, object)))
}

fn local_sides(plan: &Plan) -> impl Iterator<Item = Side> {
    Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side))
}

/// Puts the triggers on both sides at once: while we waited for one table, writers of the other would
/// wait for us.
fn attach_triggers(plan: &Plan) {
    let captured = Side::BOTH.into_iter().filter(|&side| plan.captured(side));
    attach::attach(&captured.map(|side| plan.side(side).oid).collect::<Vec<_>>());
}

/// What a catalog lookup says about a plan before anything is made of it.
fn check(plan: &Plan) -> Result<(), Failure> {
    if let Some(failure) = plan::missing_rights(plan) {
        return Err(failure);
    }
    for side in local_sides(plan) {
        let table = plan.side(side);
        if plan.captured(side) {
            check_owner(table)?;
        }
    }
    check_writers(plan)?;
    cycles::check(plan)
}

/// A trigger is made only by who owns the table.
///
/// # Errors
/// The caller does not.
pub(super) fn check_owner(table: &plan::Table) -> Result<(), Failure> {
    let owner = sql::one(
        "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[Arg::Oid(table.oid)],
    );
    if owner.as_deref() == Some("t") {
        return Ok(());
    }
    Err(refuse(
        "42501",
        format!("must be owner of table {}", table.name),
        "Its changes are captured by a trigger, which only its owner can create.",
        "Create the sync as a member of the role that owns the table.",
    ))
}

/// Two syncs that write the same column of the same table would undo each other's work.
fn check_writers(plan: &Plan) -> Result<(), Failure> {
    let others = sql::as_extension(|| {
        sql::read(
            &format!(
                "SELECT {} FROM sync._sync s
                  WHERE s.id OPERATOR(pg_catalog.<>) $1 AND (ARRAY[s.source::pg_catalog.oid, s.target::pg_catalog.oid] OPERATOR(pg_catalog.&&) ARRAY[$2, $3])",
                plan::STORED
            ),
            &[Arg::Int4(plan.id), Arg::Oid(plan.sides[0].oid), Arg::Oid(plan.sides[1].oid)],
        )
    });
    for row in others {
        let Some(other) = Stored::of(&row) else { continue };
        let Ok(other) = compiled(&other) else { continue };
        for side in Side::BOTH {
            for other_side in Side::BOTH {
                let (mine, theirs) = (plan.side(side), other.side(other_side));
                if mine.oid != theirs.oid || mine.remote.is_some() {
                    continue;
                }
                // Between the same tables nothing may be written twice. From different tables a key
                // may (each brings columns of its own), and what both send back as well, because
                // that converges; a chain writes its middle from two directions.
                let (one, another) = (plan.side(side.other()), other.side(other_side.other()));
                let twin = one.oid == another.oid && one.name == another.name;
                let same = written(plan, side).find_map(|(column, back)| {
                    let (_, theirs_back) =
                        written(&other, other_side).find(|(other, _)| *other == column)?;
                    let key = mine.key_columns().any(|k| k.name == column);
                    let clash = side == other_side && !key && !(back && theirs_back);
                    (twin || clash).then_some(column)
                });
                if let Some(column) = same {
                    return Err(refuse(
                        "22023",
                        format!(
                            "column \"{column}\" of {} is written by sync \"{}\" already",
                            mine.name, other.name
                        ),
                        "Two syncs that write the same column would overwrite each other for ever.",
                        "Leave the column out of one of them, or let it go the other way only.",
                    ));
                }
            }
        }
    }
    Ok(())
}

/// The columns of a side that a sync writes, and whether it sends them back too.
fn written(plan: &Plan, side: Side) -> impl Iterator<Item = (&str, bool)> {
    let of_function = plan.row_function.is_some() && side == Side::Target;
    let all = plan.side(side).columns.iter().filter(move |_| of_function);
    let mapped = plan.fields.iter().filter_map(move |f| {
        f.how[side.other() as usize].as_ref()?;
        let column = plan.side(side).columns[f.column[side as usize]?].name.as_str();
        Some((column, f.how[side as usize].is_some()))
    });
    mapped.chain(all.map(|column| (column.name.as_str(), false)))
}

/// Excluding a field that does not exist is worth a word, not an error.
fn note_excluded(plan: &Plan) {
    if let Some(alike) = &plan.config.fields.alike {
        for name in &alike.exclude {
            let exists = [&plan.sides[0], &plan.sides[1]].iter().any(|t| {
                sql::one(
                    "SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid OPERATOR(pg_catalog.=) $1 AND pg_catalog.lower(attname::text) OPERATOR(pg_catalog.=) pg_catalog.lower($2) AND NOT attisdropped LIMIT 1",
                    &[Arg::Oid(t.oid), Arg::Text(name)],
                )
                .is_some()
            });
            if !exists {
                speech::notice(format!(
                    "\"exclude_fields\" names \"{name}\", which neither side has"
                ));
            }
        }
    }
}

/// Which values do not come back by what the document gives as the way back, as far as the caller may see them.
pub(super) fn lost(plan: &Plan) -> Vec<samples::Lost> {
    samples::lost(plan, |side| image::may_read(plan.side(side).oid))
}

fn warn_of_lost(plan: &Plan) {
    for lost in lost(plan) {
        speech::say(
            PgLogLevel::WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            lost.to_string(),
            Some(
                "sync.plan shows an example. Correct the one or the other, or let the field go one way with \"direction\".",
            ),
        );
    }
}

fn insert(stored: &Stored, plan: &Plan, hub: Option<&str>) -> i32 {
    let recorded = Side::BOTH.map(|side| plan::recorded(plan, side));
    insert_row(stored, arrow(plan), recorded, hub)
}

/// Makes the rows of a sync and of its cursor; `recorded` says of each side what capture records.
pub(super) fn insert_row(
    stored: &Stored,
    arrow: &str,
    recorded: [(String, String); 2],
    hub: Option<&str>,
) -> i32 {
    let [(source_columns, source_key), (target_columns, target_key)] = recorded;
    sql::as_extension(|| {
        let row = sql::query(
            &format!(
                "INSERT INTO sync._sync (name, owner, source, target, document, search_path, installation, connection, object, direction,
                                         hub, source_columns, source_key, target_columns, target_key)
                 SELECT $1, $2, NULLIF($3, 0::pg_catalog.oid), NULLIF($4, 0::pg_catalog.oid), $5::pg_catalog.jsonb, $6, i.id, $7, $8, $9, $10, {source_columns}, {source_key}, {target_columns}, {target_key}
                   FROM sync._installation i RETURNING id"
            ),
            &[
                Arg::Text(&stored.name),
                Arg::Oid(stored.owner),
                Arg::Oid(stored.source),
                Arg::Oid(stored.target),
                Arg::Text(&stored.document.to_string()),
                Arg::Text(&stored.search_path),
                Arg::OptText(stored.object.as_ref().map(|o| o.0.as_str())),
                Arg::OptText(stored.object.as_ref().map(|o| o.1.as_str())),
                Arg::Text(arrow),
                Arg::OptText(hub),
            ],
        );
        let id: i32 =
            row.first().and_then(|r| r[0].as_deref()).and_then(|i| i.parse().ok()).unwrap_or(0);
        // From the oldest transaction that is still running: whatever it or a later one captures is
        // this sync's. Our own id must not count as seen.
        sql::query(
            "INSERT INTO sync._cursor (sync, seen, seq, moved_at)
             SELECT $1, pg_catalog.format('%s:%s:', x, x)::pg_catalog.pg_snapshot, 0, pg_catalog.clock_timestamp()
               FROM (SELECT LEAST(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot()), pg_catalog.pg_current_xact_id())) AS t(x)",
            &[Arg::Int4(id)],
        );
        id
    })
}

fn create_links(plan: &Plan) {
    let name = link::partition(plan.id);
    sql::as_extension(|| {
        sql::query(
            &format!(
                "CREATE TABLE sync.{name} PARTITION OF sync._link FOR VALUES IN ({}) WITH (fillfactor = 85)",
                plan.id
            ),
            &[],
        );
    });
    if plan.remote_side().is_none() {
        link::index(plan);
    }
}

pub(super) fn alter(name: &str, pieces: &[Json]) -> Result<String, Failure> {
    changing(name, || {
        if let Some(hub) = hubs::named(name) {
            return hubs::alter(&hub, pieces);
        }
        let id = owned(name);
        hubs::check_free(id, name, "changed", "sync.alter_sync")?;
        let document = document::merge_patch(&document_of(id), pieces)?;
        alter_one(id, name, document)
    })
}

/// Puts another document in the place of a sync's.
pub(super) fn alter_one(id: i32, name: &str, document: Json) -> Result<String, Failure> {
    let (config, notices) = plan::read_document(&document)?;
    let Some(mut stored) = sql::as_extension(|| plan::stored(id)) else {
        return Err(refuse("42704", format!("sync \"{name}\" does not exist"), "", ""));
    };
    if stored.is_application() || config.target == Endpoint::Application {
        say(&notices);
        return outlets::alter(&stored, &config, document);
    }
    let old = compiled(&stored).ok();
    let (source, target) = sql::as_reader(stored.owner, &stored.search_path, || {
        Ok::<_, Failure>((
            plan::resolve(&config.source, "source")?,
            plan::resolve(&config.target, "target")?,
        ))
    })?;
    let moved =
        source != stored.source || target != stored.target || is_other_object(&config, &stored);
    if moved {
        return Err(refuse(
            "0A000",
            format!("sync \"{name}\" cannot be moved to another table"),
            "Its links belong to the tables it was created with.",
            "Create a new sync for the other table, and end this one with sync.drop_sync.",
        ));
    }
    stored.document = document;
    let plan = compiled(&stored)?;
    check(&plan)?;
    say(&notices);
    warn_of_lost(&plan);
    link::check_key(&plan)?;
    let (source_columns, source_key) = plan::recorded(&plan, Side::Source);
    let (target_columns, target_key) = plan::recorded(&plan, Side::Target);
    sql::as_extension(|| {
        sql::query(
            &format!(
                "UPDATE sync._sync SET document = $2::pg_catalog.jsonb, changed_at = pg_catalog.clock_timestamp(),
                        source_columns = {source_columns}, source_key = {source_key},
                        target_columns = {target_columns}, target_key = {target_key}, direction = $3
                  WHERE id OPERATOR(pg_catalog.=) $1"
            ),
            &[Arg::Int4(id), Arg::Text(&stored.document.to_string()), Arg::Text(arrow(&plan))],
        )
    });
    if plan.row_function.is_some()
        && old.as_ref().is_none_or(|o| o.row_function != plan.row_function)
    {
        // Another function is asked about rows that have not changed, too.
        let links = link::partition(id);
        let forget = format!("UPDATE sync.{links} SET base = NULL WHERE remote_id IS NULL");
        sql::as_extension(|| sql::query(&forget, &[]));
    }
    attach_triggers(&plan);
    for side in Side::BOTH {
        if !plan.is_remote(side) {
            attach::watch(plan.side(side).oid);
        }
        if widens(old.as_ref(), &plan, side) {
            sql::as_extension(|| load::request(id, side, Kind::Rows, "the mapping was changed"));
        }
        // What has been deleted since the last look was not captured.
        let looked = old.as_ref().is_some_and(|old| old.side(side).polled.is_some());
        if looked && plan.captured(side) {
            sql::as_extension(|| {
                load::request(id, side, Kind::Links, "its changes are captured from now on")
            });
        }
    }
    attach::configuration_changed();
    Ok(summary(&plan, "changed"))
}

/// Does more travel from a side than before, or otherwise? It is compared once then.
pub(super) fn widens(old: Option<&Plan>, plan: &Plan, side: Side) -> bool {
    plan.flows_from(side)
        && old.is_none_or(|old| {
            !old.flows_from(side)
                || old.fields != plan.fields
                || old.screens != plan.screens
                || old.row_function != plan.row_function
                || old.side(side) != plan.side(side)
        })
}

/// Does a document lead to another object than the sync was made for?
fn is_other_object(config: &Config, stored: &Stored) -> bool {
    match (config.remote(), &stored.object) {
        (Some(remote), Some((connection, object))) => {
            !remote.object.eq_ignore_ascii_case(object)
                || remote.connection.as_ref().is_some_and(|c| c != connection)
        }
        (remote, stored) => remote.is_some() != stored.is_some(),
    }
}

fn arrow(plan: &Plan) -> &'static str {
    match (plan.flows_from(Side::Source), plan.flows_from(Side::Target)) {
        (true, true) => "<->",
        (true, false) => "->",
        _ => "<-",
    }
}

fn summary(plan: &Plan, what: &str) -> String {
    format!(
        "sync \"{}\" {what}: {} {} {}, {}",
        plan.name,
        plan.sides[0].name,
        arrow(plan),
        plan.sides[1].name,
        match (&plan.row_function, plan.fields.len()) {
            (Some(function), _) => format!("by {function}"),
            (None, 1) => "1 field".to_owned(),
            (None, fields) => format!("{fields} fields"),
        }
    )
}

/// A sync without a worker is worth a word at once.
pub(super) fn warn_without_worker() {
    use crate::worker::slots::{self, Standing};
    if slots::shared().is_none() {
        super::warn(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "changes are captured but not synced: the library sync_ext was not loaded when the server started",
            "Set shared_preload_libraries = 'sync_ext' and restart the server.",
        );
    } else if slots::mine().is_some_and(|s| s.standing() == Standing::NoWorkerSlot) {
        super::warn(
            PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            "changes are captured but not synced: all worker slots of the server are in use",
            "Increase max_worker_processes and restart the server.",
        );
    }
}
