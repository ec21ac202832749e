//! Reading the servers. Inside a transaction.

use super::WRAPPER;
use crate::border;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use pgrx::FromDatum;
use pgrx::pg_sys::{self, Oid};

/// A system that we talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub server: Oid,
    pub name: String,
    /// The type of system, such as `salesforce`.
    pub system: String,
    pub owner: Oid,
}

/// Every connection, by name.
pub fn all() -> Vec<Connection> {
    find("true", &[])
}

/// The connection of this name.
///
/// # Errors
/// That there is none, with those that there are.
pub fn by_name(name: &str) -> Result<Connection, Failure> {
    if let Some(found) =
        find("s.srvname::text OPERATOR(pg_catalog.=) $1", &[Arg::Text(name)]).into_iter().next()
    {
        return Ok(found);
    }
    let known: Vec<String> = all().into_iter().map(|c| c.name).collect();
    let near = document::nearest(name, known.iter().map(String::as_str));
    let hint = match (near, known.is_empty()) {
        (Some(near), _) => format!("Perhaps you meant \"{near}\"."),
        (None, true) => "Create it with sync.create_connection.".to_owned(),
        (None, false) => format!("The connections are: {}.", known.join(", ")),
    };
    Err(refuse("42704", format!("connection \"{name}\" does not exist"), "", &hint))
}

pub fn by_oid(server: Oid) -> Option<Connection> {
    find("s.oid OPERATOR(pg_catalog.=) $1", &[Arg::Oid(server)]).into_iter().next()
}

fn find(condition: &str, args: &[Arg<'_>]) -> Vec<Connection> {
    // Not as of the statement's start: it may have made the connection itself.
    let rows = sql::as_extension(|| {
        sql::query(
            &format!(
                "SELECT s.oid, s.srvname, COALESCE(s.srvtype, ''), s.srvowner
                   FROM pg_catalog.pg_foreign_server s
                   JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
                  WHERE w.fdwname OPERATOR(pg_catalog.=) '{WRAPPER}' AND {condition}
                  ORDER BY s.srvname"
            ),
            args,
        )
    });
    let oid = |text: &Option<String>| {
        Oid::from(text.as_deref().and_then(|t| t.parse::<u32>().ok()).unwrap_or(0))
    };
    rows.into_iter()
        .map(|row| Connection {
            server: oid(&row[0]),
            name: row[1].clone().unwrap_or_default(),
            system: row[2].clone().unwrap_or_default(),
            owner: oid(&row[3]),
        })
        .collect()
}

/// What a document may refer to.
#[allow(dead_code, reason = "documents do not reach beyond this database yet")]
pub fn for_documents() -> Vec<document::Connection> {
    all().into_iter().map(|c| document::Connection { name: c.name, system: c.system }).collect()
}

/// The names of the syncs that use a connection.
pub fn users_of(connection: &str) -> Vec<String> {
    sql::as_extension(|| {
        sql::query(
            "SELECT name FROM sync._sync WHERE connection = $1 ORDER BY name",
            &[Arg::Text(connection)],
        )
    })
    .into_iter()
    .filter_map(|row| row.into_iter().next().flatten())
    .collect()
}

/// The options of a server, in their order; none where there is no such server.
pub fn settings(server: Oid) -> Vec<(String, String)> {
    // SAFETY: a catalog lookup; the tuple is held until its options are copied.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::FOREIGNSERVEROID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, server.into());
        read_options(cache, tuple, pg_sys::Anum_pg_foreign_server_srvoptions)
    }
}

/// The options in an attribute of a catalog's tuple, which is released.
///
/// # Safety
/// `tuple` is null or comes from that cache.
pub(super) unsafe fn read_options(
    cache: i32,
    tuple: pg_sys::HeapTuple,
    attribute: u32,
) -> Vec<(String, String)> {
    // SAFETY: the caller's promise.
    unsafe {
        if tuple.is_null() {
            return Vec::new();
        }
        let mut none = false;
        let datum = pg_sys::SysCacheGetAttr(cache, tuple, attribute as i16, &raw mut none);
        let options = if none { Vec::new() } else { pairs(datum) };
        pg_sys::ReleaseSysCache(tuple);
        options
    }
}

/// The elements `name=value` of a `text[]`.
///
/// # Safety
/// `array` is one.
pub unsafe fn pairs(array: pg_sys::Datum) -> Vec<(String, String)> {
    // SAFETY: the caller's promise; text lies as bytea does.
    let elements = unsafe { sql::elements(array, pg_sys::TEXTOID) };
    elements
        .into_iter()
        .flatten()
        .filter_map(|element| {
            // SAFETY: as above.
            let text = unsafe { <&[u8]>::from_datum(element, false) }?;
            let at = text.iter().position(|&b| b == b'=')?;
            Some((border::inwards(&text[..at]), border::inwards(&text[at + 1..])))
        })
        .collect()
}

/// The value of an option; an empty one is none.
pub(super) fn value<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    options.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
}
