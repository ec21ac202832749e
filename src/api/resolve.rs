//! Conflicts that wait for a person: `sync.resolve` and `sync.resolve_all` note what is to stand, and the worker, who
//! looks at the record again, brings it to the other side.

use super::{border, compiled, edit_row, or_raise, owned, raise, refuse};
use crate::border::inwards;
use crate::capture::attach;
use crate::engine::plan::{self, Stored};
use crate::engine::{conflicts, link, queue};
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use merge::Side;
use pgrx::AnyElement;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde_json::Value as Json;

/// `sync.resolve(id int8, keep text DEFAULT NULL, set jsonb DEFAULT NULL) RETURNS void`
#[pg_extern(sql = false)]
fn resolve(id: Option<i64>, keep: Option<&[u8]>, set: Option<AnyElement>) {
    speech::function(|| {
        let values = set.map(|set| border::document(set.datum()));
        or_raise(match (id, keep, &values) {
            (Some(id), Some(keep), None) => resolve_one(id, &inwards(keep)),
            (Some(id), None, Some(values)) => resolve_with(id, values),
            _ => Err(refuse(
                "22023",
                "a conflict is resolved by a side or by values".to_owned(),
                "sync.resolve takes the number of a conflict and one of both.",
                "SELECT sync.resolve(7, keep => 'source'); or sync.resolve(7, set => '{\"phone\": \"+41 44 000 00 00\"}');",
            )),
        });
    });
}

/// `sync.resolve_all(name text, keep text, field text DEFAULT NULL) RETURNS int8`
#[pg_extern(sql = false)]
fn resolve_all(name: Option<&[u8]>, keep: Option<&[u8]>, field: Option<&[u8]>) -> i64 {
    speech::function(|| {
        let (Some(name), Some(keep)) = (name, keep) else {
            raise(&refuse(
                "22004",
                "a sync and a side have to be named".to_owned(),
                "The first two arguments of sync.resolve_all must not be null.",
                "SELECT sync.resolve_all('accounts', keep => 'source');",
            ))
        };
        or_raise(resolve_many(&inwards(name), &inwards(keep), field.map(inwards).as_deref()))
    })
}

fn resolve_one(id: i64, keep: &str) -> Result<(), Failure> {
    let open = open(id)?;
    // A delete against edits is one thing to decide, however many fields were edited.
    let (which, argument) = if open.of_delete {
        (
            "c.kind OPERATOR(pg_catalog.=) 'update_deleted' AND (c.side, c.key) OPERATOR(pg_catalog.=)
             (SELECT o.side, o.key FROM sync._conflict o WHERE o.id OPERATOR(pg_catalog.=) $2)",
            Arg::Int(id),
        )
    } else {
        ("c.id OPERATOR(pg_catalog.=) $2", Arg::Int(id))
    };
    let stored = stored(open.sync, &open.name)?;
    let side = named(&stored, keep)?;
    decide(&stored, side, which, argument).map(drop)
}

/// What the values say is written to our row; from there it goes to the other side.
fn resolve_with(id: i64, values: &Json) -> Result<(), Failure> {
    let open = open(id)?;
    let stored = stored(open.sync, &open.name)?;
    let Json::Object(values) = values else {
        return Err(refuse(
            "22023",
            "the values are not an object".to_owned(),
            &format!("They are {values}."),
            "Give fields and their values, such as '{\"phone\": \"+41 44 000 00 00\"}'.",
        ));
    };
    if open.of_delete {
        return Err(refuse(
            "55000",
            format!("conflict {id} is about a record that one side deleted"),
            "There are no values to choose between.",
            "Say whose deed is to stand, with \"keep\".",
        ));
    }
    let plan = compiled(&stored)?;
    let side = plan.ours();
    let keys = sql::as_extension(|| link::keys(plan.id, open.side, &open.key));
    let Some((source, target)) = keys else {
        sql::as_extension(|| conflicts::drop_decision(plan.id, &open.key_text));
        return Ok(());
    };
    let key = if side == Side::Source { source } else { target };
    let fields = edit_row::set(&plan, side, &key, values)?;
    for field in fields {
        decide(
            &stored,
            side,
            &format!(
                "c.field OPERATOR(pg_catalog.=) $2 AND (c.side, c.key) OPERATOR(pg_catalog.=)
                 (SELECT o.side, o.key FROM sync._conflict o WHERE o.id OPERATOR(pg_catalog.=) {id})"
            ),
            Arg::Text(plan.fields[field].name(&plan)),
        )?;
    }
    Ok(())
}

/// A conflict that waits for a person.
struct Open {
    sync: i32,
    name: String,
    /// One side deleted the record that the other changed.
    of_delete: bool,
    side: Side,
    key: Vec<u8>,
    key_text: String,
}

fn open(id: i64) -> Result<Open, Failure> {
    let found = sql::as_extension(|| {
        sql::read(
            "SELECT s.name, c.winner, c.field, c.kind, c.side, pg_catalog.encode(c.key, 'hex'), c.key_text
               FROM sync._conflict c JOIN sync._sync s ON s.id OPERATOR(pg_catalog.=) c.sync
              WHERE c.id OPERATOR(pg_catalog.=) $1",
            &[Arg::Int(id)],
        )
    });
    let Some([Some(name), winner, field, kind, side, key, text]) = found.first().map(Vec::as_slice)
    else {
        return Err(refuse(
            "02000",
            format!("no conflict has the number {id}"),
            "",
            "SELECT id, sync, key, field FROM sync.conflicts WHERE winner IS NULL;",
        ));
    };
    let sync = owned(name);
    if let Some(winner) = winner {
        return Err(refuse(
            "55000",
            format!("conflict {id} is decided already"),
            &format!(
                "The value of the {winner} stands in \"{}\".",
                field.as_deref().unwrap_or_default()
            ),
            "Write the value that you want: it is an edit like any other.",
        ));
    }
    Ok(Open {
        sync,
        name: name.clone(),
        of_delete: kind.as_deref() == Some("update_deleted"),
        side: if side.as_deref() == Some("1") { Side::Target } else { Side::Source },
        key: key.as_deref().and_then(sql::from_hex).unwrap_or_default(),
        key_text: text.clone().unwrap_or_default(),
    })
}

fn stored(sync: i32, name: &str) -> Result<Stored, Failure> {
    sql::as_extension(|| plan::stored(sync))
        .ok_or_else(|| refuse("42704", format!("sync \"{name}\" does not exist"), "", ""))
}

fn resolve_many(name: &str, keep: &str, field: Option<&str>) -> Result<i64, Failure> {
    let stored = stored(owned(name), name)?;
    let side = named(&stored, keep)?;
    let which = "($2 IS NULL OR c.field OPERATOR(pg_catalog.=) $2)";
    decide(&stored, side, which, Arg::OptText(field))
}

/// Notes the decision of those that wait, and has their records looked at.
fn decide(stored: &Stored, side: Side, which: &str, argument: Arg<'_>) -> Result<i64, Failure> {
    let sync = stored.id;
    let user = sql::one("SELECT SESSION_USER", &[]).unwrap_or_default();
    let decided = sql::as_extension(|| {
        sql::query(
            &format!(
                "UPDATE sync._conflict c SET keep = $3::int2, resolved_by = $4
                  WHERE c.sync OPERATOR(pg_catalog.=) $1 AND c.winner IS NULL AND c.key IS NOT NULL AND {which}
                 RETURNING c.side, pg_catalog.encode(c.key, 'hex'), c.key_text"
            ),
            &[Arg::Int4(sync), argument, Arg::Int4(side as i32), Arg::Text(&user)],
        )
    });
    let remote = stored.object.is_some();
    sql::as_extension(|| {
        for row in &decided {
            let [Some(side), Some(key), Some(text)] = row.as_slice() else { continue };
            let of = if side == "0" { Side::Source } else { Side::Target };
            let Some(key) = sql::from_hex(key) else { continue };
            match link::keys(sync, of, &key) {
                // What the other system holds has to be read.
                Some((source, target)) if remote => {
                    queue::ask(sync, Side::Source, &source, text);
                    queue::ask(sync, Side::Target, &target, text);
                }
                Some(_) => queue::ask(sync, of, &key, text),
                // The record is gone on both sides: there is nothing left to decide.
                None => conflicts::drop_decision(sync, text),
            }
        }
    });
    if !decided.is_empty() {
        attach::queue_changed();
    }
    Ok(decided.len() as i64)
}

/// The side that a person means.
pub(super) fn named(stored: &Stored, keep: &str) -> Result<Side, Failure> {
    let sides = [(Side::Source, stored.source), (Side::Target, stored.target)];
    let mut known = vec!["source".to_owned(), "target".to_owned()];
    if let Some((connection, _)) = &stored.object {
        known.extend(["local".to_owned(), "remote".to_owned(), connection.clone()]);
        let remote = if stored.source == pg_sys::InvalidOid { Side::Source } else { Side::Target };
        if keep == "remote" || keep == connection {
            return Ok(remote);
        }
        if keep == "local" {
            return Ok(remote.other());
        }
    } else {
        let schemas = sides.map(|(_, table)| {
            sql::one(
                "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                  WHERE c.oid OPERATOR(pg_catalog.=) $1",
                &[Arg::Oid(table)],
            )
            .unwrap_or_default()
        });
        if schemas[0] != schemas[1] {
            if let Some(n) = schemas.iter().position(|schema| schema == keep) {
                return Ok(sides[n].0);
            }
            known.extend(schemas);
        }
    }
    match keep {
        "source" => Ok(Side::Source),
        "target" => Ok(Side::Target),
        _ => Err(refuse(
            "22023",
            format!("\"{keep}\" is no side of sync \"{}\"", stored.name),
            &format!("The sides are called: {}.", known.join(", ")),
            "Name the side whose value is to stand.",
        )),
    }
}
