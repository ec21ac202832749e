//! Hubs: a document of which one sync for each system and object is made, and what is done to all of them at once.

use super::{raise, refuse, syncs};
use crate::engine::plan;
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::Spoke;
use pgrx::pg_sys;
use serde_json::Value as Json;

/// A hub that the caller may change.
pub(super) struct Hub {
    pub(super) name: String,
    pub(super) document: Json,
    owner: pg_sys::Oid,
}

impl Hub {
    /// Runs `work` as the hub's owner: what is made of his document is his, and his expressions run with his rights,
    /// whoever asks.
    pub(super) fn as_owner<T>(&self, work: impl FnOnce() -> T) -> T {
        sql::as_role(self.owner, &sql::search_path(), work)
    }
}

/// The hub of this name, if it is one. Raises if it is another role's.
pub(super) fn named(name: &str) -> Option<Hub> {
    let rows = sql::as_extension(|| {
        sql::read(
            "SELECT h.document, h.owner::pg_catalog.oid, h.owner::text FROM sync._hub h WHERE h.name = $1",
            &[Arg::Text(name)],
        )
    });
    let [document, owner, role] = rows.first()?.as_slice() else { return None };
    let owner = owner.as_deref().unwrap_or("0");
    let member =
        sql::one("SELECT pg_catalog.pg_has_role($1::pg_catalog.oid, 'USAGE')", &[Arg::Text(owner)]);
    if member.as_deref() != Some("t") {
        raise(&refuse(
            "42501",
            format!("permission denied for hub \"{name}\""),
            &format!("It belongs to role {}.", role.as_deref().unwrap_or_default()),
            "Only members of that role can change it.",
        ));
    }
    let document = document.as_deref().and_then(|text| serde_json::from_str(text).ok());
    let owner = pg_sys::Oid::from(owner.parse::<u32>().unwrap_or_default());
    Some(Hub { name: name.to_owned(), document: document.unwrap_or(Json::Null), owner })
}

/// The syncs that a hub consists of: their numbers and names.
pub(super) fn members(hub: &Hub) -> Vec<(i32, String)> {
    let rows = sql::as_extension(|| {
        sql::read(
            "SELECT s.id, s.name FROM sync._sync s WHERE s.hub = $1 ORDER BY s.id",
            &[Arg::Text(&hub.name)],
        )
    });
    let member =
        |row: &Vec<Option<String>>| Some((row[0].as_deref()?.parse().ok()?, row[1].clone()?));
    rows.iter().filter_map(member).collect()
}

/// A sync that is made from a hub's document is changed and ended with it.
///
/// # Errors
/// The sync is one.
pub(super) fn check_free(id: i32, name: &str, what: &str, function: &str) -> Result<(), Failure> {
    let hub = sql::as_extension(|| {
        sql::one("SELECT s.hub FROM sync._sync s WHERE s.id = $1", &[Arg::Int4(id)])
    });
    hub.map_or(Ok(()), |hub| {
        Err(refuse(
            "55000",
            format!("sync \"{name}\" cannot be {what} by itself"),
            &format!("It is made from the document of the hub \"{hub}\"."),
            &format!(
                "Use {function} with {}; what is said of one object alone stands in its \"sync_settings\".",
                sql::literal(&hub)
            ),
        ))
    })
}

/// The documents of a hub's syncs, each with its name.
pub(super) fn apart(name: &str, document: &Json) -> Result<Vec<(String, Spoke)>, Failure> {
    let exists = |table: &str| {
        sql::one("SELECT pg_catalog.to_regclass($1)::text", &[Arg::Text(table)]).is_some()
    };
    let spokes = document::spokes(document, &plan::context(), &exists)?;
    Ok(spokes.into_iter().map(|spoke| (format!("{name}/{}", spoke.name), spoke)).collect())
}

/// Says of which spoke something is wrong.
fn of_spoke<T>(spoke: &Spoke, result: Result<T, Failure>) -> Result<T, Failure> {
    result.map_err(|mut failure| {
        let place = format!("It is about the sync of \"{}\", {}.", spoke.path, spoke.name);
        failure.detail = Some(match failure.detail {
            Some(detail) if !detail.is_empty() => format!("{detail} {place}"),
            _ => place,
        });
        failure
    })
}

pub(super) fn create(name: &str, document: Json) -> Result<String, Failure> {
    if name.contains('/') {
        return Err(refuse(
            "42602",
            format!("the hub cannot be called \"{name}\""),
            "Its syncs are called by its name, a slash, the system, a slash and the object.",
            "Choose a name without a slash.",
        ));
    }
    let spokes = apart(name, &document)?;
    // SAFETY: the current user of this backend.
    let owner = unsafe { pg_sys::GetUserId() };
    sql::as_extension(|| {
        sql::query(
            "INSERT INTO sync._hub (name, owner, document) VALUES ($1, $2, $3::pg_catalog.jsonb)",
            &[Arg::Text(name), Arg::Oid(owner), Arg::Text(&document.to_string())],
        )
    });
    let count = spokes.len();
    for (sync, spoke) in spokes {
        let made = syncs::create_one(&sync, spoke.document.clone(), Some(name));
        speech::notice(of_spoke(&spoke, made)?);
    }
    syncs::warn_without_worker();
    Ok(format!("hub \"{name}\" created: {}", counted(count)))
}

fn counted(syncs: usize) -> String {
    format!("{syncs} sync{}", if syncs == 1 { "" } else { "s" })
}

pub(super) fn alter(hub: &Hub, pieces: &[Json]) -> Result<String, Failure> {
    hub.as_owner(|| alter_as_owner(hub, pieces))
}

fn alter_as_owner(hub: &Hub, pieces: &[Json]) -> Result<String, Failure> {
    let document = document::merge_patch(&hub.document, pieces)?;
    let spokes = apart(&hub.name, &document)?;
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._hub SET document = $2::pg_catalog.jsonb, changed_at = pg_catalog.clock_timestamp() WHERE name = $1",
            &[Arg::Text(&hub.name), Arg::Text(&document.to_string())],
        )
    });
    let before = members(hub);
    for (id, name) in &before {
        check_owner(hub, *id, name)?;
        if !spokes.iter().any(|(now, _)| now == name) {
            syncs::drop_one(*id, name)?;
            speech::notice(format!("sync \"{name}\" ended"));
        }
    }
    let count = spokes.len();
    for (name, spoke) in spokes {
        let done = match before.iter().find(|(_, known)| *known == name) {
            Some(&(id, _)) if syncs::document_of(id) == spoke.document => continue,
            Some(&(id, _)) => syncs::alter_one(id, &name, spoke.document.clone()),
            None => syncs::create_one(&name, spoke.document.clone(), Some(&hub.name)),
        };
        speech::notice(of_spoke(&spoke, done)?);
    }
    Ok(format!("hub \"{}\" changed: {}", hub.name, counted(count)))
}

/// What somebody else has made of it is not his to change.
fn check_owner(hub: &Hub, id: i32, name: &str) -> Result<(), Failure> {
    let text = "SELECT s.owner::text FROM sync._sync s WHERE s.id = $1 AND s.owner <> $2";
    let other = sql::as_extension(|| sql::one(text, &[Arg::Int4(id), Arg::Oid(hub.owner)]));
    other.map_or(Ok(()), |role| {
        Err(refuse(
            "42501",
            format!("permission denied for sync \"{name}\""),
            &format!("It belongs to role {role}, and the hub to another one."),
            "End the hub, and make it anew.",
        ))
    })
}

/// Ends all syncs of a hub, those first whose records point to others'.
pub(super) fn end(hub: &Hub) -> Result<(), Failure> {
    let mut left = members(hub);
    while !left.is_empty() {
        let (before, mut refused) = (left.len(), None);
        left.retain(|(id, name)| {
            syncs::drop_one(*id, name).map_err(|failure| refused = Some(failure)).is_err()
        });
        if let Some(failure) = refused.filter(|_| left.len() == before) {
            return Err(failure);
        }
    }
    sql::as_extension(|| {
        sql::query("DELETE FROM sync._hub WHERE name = $1", &[Arg::Text(&hub.name)])
    });
    Ok(())
}
