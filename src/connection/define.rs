//! Making, changing and ending connections: plain statements as the caller, whose rights decide.

use super::catalog::{self, Connection};
use super::{WRAPPER, discretion, options};
use crate::capture::attach;
use crate::sql::{self, Arg, identifier, literal};
use crate::worker::transaction::{Failure, refuse};
use pgrx::pg_sys::Oid;
use serde_json::{Map, Value as Json};

/// Longer names are cut by the server.
const LONGEST_NAME: usize = 63;

/// Makes a connection of this name to a system of this type, with settings as they stand under
/// `credentials` in a document; owned by the caller.
///
/// # Errors
/// A name that cannot be used, a setting that cannot stand there, a right that is missing.
pub fn create(name: &str, system: &str, settings: &Map<String, Json>) -> Result<Oid, Failure> {
    check_name(name)?;
    let system = check_type(system)?;
    check_settings(&system, settings)?;
    let pairs: Vec<String> = settings
        .iter()
        .map(|(key, value)| {
            format!("{} {}", identifier(&key.to_ascii_lowercase()), literal(&text(value)))
        })
        .collect();
    let may = sql::one(
        "SELECT pg_catalog.has_foreign_data_wrapper_privilege(w.oid, 'USAGE')
           FROM pg_catalog.pg_foreign_data_wrapper w WHERE w.fdwname OPERATOR(pg_catalog.=) $1",
        &[Arg::Text(WRAPPER)],
    );
    if may.as_deref() != Some("t") {
        return Err(refuse(
            "42501",
            "permission denied to create a connection".into(),
            "It takes USAGE on the foreign-data wrapper sync_ext.",
            "An administrator gives it with sync.grant(role, 'admin').",
        ));
    }
    let options =
        if pairs.is_empty() { String::new() } else { format!(" OPTIONS ({})", pairs.join(", ")) };
    sql::query(
        &format!(
            "CREATE SERVER {} TYPE {} FOREIGN DATA WRAPPER {WRAPPER}{options}",
            identifier(name),
            literal(&system)
        ),
        &[],
    );
    // Of servers that were dropped by a plain statement; their numbers come back one day.
    sql::as_extension(|| {
        sql::query(
            "DELETE FROM sync._connection c
              WHERE NOT EXISTS (SELECT FROM pg_foreign_server s WHERE s.oid = c.server)",
            &[],
        )
    });
    attach::configuration_changed();
    Ok(catalog::by_name(name)?.server)
}

/// Changes the settings of a connection by a patch of the same form as `create_connection` takes:
/// null removes a setting (RFC 7396).
///
/// # Errors
/// As [`create`].
pub fn alter(connection: &Connection, patch: &Json) -> Result<(), Failure> {
    owned(connection)?;
    let (system, patch) = described(patch, true)?;
    if let Some(system) = system
        && check_type(&system)? != connection.system
    {
        return Err(refuse(
            "0A000",
            format!("connection \"{}\" cannot be led to another type of system", connection.name),
            &format!("It leads to {}.", connection.system),
            "Create another connection.",
        ));
    }
    let before = catalog::settings(connection.server);
    let known = |key: &str| before.iter().any(|(name, _)| name == key);
    let changes: Vec<(String, Json)> = match patch {
        Patch::Keep => Vec::new(),
        Patch::Clear => before.iter().map(|(name, _)| (name.clone(), Json::Null)).collect(),
        Patch::Change(map) => {
            map.into_iter().map(|(key, value)| (key.to_ascii_lowercase(), value)).collect()
        }
    };
    let given: Map<String, Json> =
        changes.iter().filter(|(_, value)| !value.is_null()).cloned().collect();
    check_settings(&connection.system, &given)?;
    options::check_names(&connection.system, changes.iter().map(|(name, _)| name.as_str()))?;
    let list: Vec<String> = changes
        .iter()
        .filter_map(|(key, value)| match (value, known(key)) {
            (Json::Null, true) => Some(format!("DROP {}", identifier(key))),
            (Json::Null, false) => None,
            (value, true) => Some(format!("SET {} {}", identifier(key), literal(&text(value)))),
            (value, false) => Some(format!("ADD {} {}", identifier(key), literal(&text(value)))),
        })
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    sql::query(
        &format!("ALTER SERVER {} OPTIONS ({})", identifier(&connection.name), list.join(", ")),
        &[],
    );
    attach::configuration_changed();
    Ok(())
}

/// Ends a connection, its secrets included.
///
/// # Errors
/// A sync uses it, or it belongs to somebody else.
pub fn drop(connection: &Connection) -> Result<(), Failure> {
    owned(connection)?;
    let users = catalog::users_of(&connection.name);
    if let Some(first) = users.first() {
        return Err(refuse(
            "2BP01",
            format!("connection \"{}\" is in use", connection.name),
            &format!("It is used by the syncs: {}.", users.join(", ")),
            &format!("End them first: SELECT sync.drop_sync({});", literal(first)),
        ));
    }
    let role = sql::as_extension(|| {
        sql::read(
            "SELECT CASE m.umuser WHEN 0 THEN 'PUBLIC' ELSE m.umuser::regrole::text END
               FROM pg_user_mapping m WHERE m.umserver = $1",
            &[Arg::Oid(connection.server)],
        )
    });
    for role in role.into_iter().filter_map(|row| row.into_iter().next()?) {
        sql::query(
            &format!("DROP USER MAPPING FOR {role} SERVER {}", identifier(&connection.name)),
            &[],
        );
    }
    sql::query(&format!("DROP SERVER {}", identifier(&connection.name)), &[]);
    sql::as_extension(|| {
        sql::query("DELETE FROM sync._connection WHERE server = $1", &[Arg::Oid(connection.server)])
    });
    attach::configuration_changed();
    Ok(())
}

/// What a description of a connection says of its settings.
pub enum Patch {
    Keep,
    Clear,
    Change(Map<String, Json>),
}

/// The type and the settings in `{"type": …, "credentials": {…}}`.
///
/// # Errors
/// It has another form.
pub fn described(description: &Json, patch: bool) -> Result<(Option<String>, Patch), Failure> {
    let bad = |message: String, hint: &str| Err(refuse("22023", message, "", hint));
    let example = "For example: {\"type\": \"salesforce\", \"credentials\": {\"instance_url\": \"https://acme.my.salesforce.com\"}}.";
    let Some(map) = description.as_object() else {
        return bad("the settings of a connection are a JSON object".into(), example);
    };
    for key in map.keys() {
        if matches!(key.as_str(), "type" | "credentials") {
            continue;
        }
        if document::is_secret_name(key) {
            discretion::conceal();
            return bad(
                "a secret must not stand in the settings of a connection".into(),
                "Store it with sync.set_secret.",
            );
        }
        let hint = match document::nearest(key, ["type", "credentials"]) {
            Some(near) => format!("Perhaps you meant \"{near}\"."),
            None => format!("The keys are: type, credentials. {example}"),
        };
        return bad(format!("unknown key \"{key}\""), &hint);
    }
    let system = match map.get("type") {
        None if patch => None,
        Some(Json::String(system)) => Some(system.clone()),
        None => return bad("the settings do not say the type of the system".into(), example),
        Some(_) => return bad("\"type\" must be a string".into(), example),
    };
    let settings = match map.get("credentials") {
        None => Patch::Keep,
        Some(Json::Null) if patch => Patch::Clear,
        Some(Json::Object(settings)) => Patch::Change(settings.clone()),
        Some(_) => return bad("\"credentials\" must be an object".into(), example),
    };
    Ok((system, settings))
}

/// Refuses a connection that belongs to somebody else.
pub(super) fn owned(connection: &Connection) -> Result<(), Failure> {
    let member =
        sql::one("SELECT pg_catalog.pg_has_role($1, 'USAGE')", &[Arg::Oid(connection.owner)]);
    if member.as_deref() == Some("t") {
        return Ok(());
    }
    let owner =
        sql::as_extension(|| sql::one("SELECT $1::regrole::text", &[Arg::Oid(connection.owner)]));
    Err(refuse(
        "42501",
        format!("permission denied for connection \"{}\"", connection.name),
        &format!("It belongs to role {}.", owner.unwrap_or_default()),
        "Only members of that role can change it.",
    ))
}

fn check_name(name: &str) -> Result<(), Failure> {
    if name.trim().is_empty() {
        return Err(refuse("22023", "a connection needs a name".into(), "", "For example: crm."));
    }
    if name == "local" {
        return Err(refuse(
            "42939",
            "the name \"local\" is taken".into(),
            "It stands for the connection to this database.",
            "Choose another one, such as crm.",
        ));
    }
    if let Err(why) = crate::border::check(name) {
        return Err(refuse("22P05", format!("the name of the connection {why}"), "", ""));
    }
    let longest = crate::border::readable(name).len();
    if longest > LONGEST_NAME {
        return Err(refuse(
            "42622",
            "the name of the connection is too long".into(),
            &format!("It has more than {LONGEST_NAME} bytes."),
            "Choose a shorter one.",
        ));
    }
    let taken = sql::one(
        "SELECT w.fdwname FROM pg_catalog.pg_foreign_server s
           JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
          WHERE s.srvname::text OPERATOR(pg_catalog.=) $1",
        &[Arg::Text(name)],
    );
    match taken {
        None => Ok(()),
        Some(wrapper) if wrapper == WRAPPER => Err(refuse(
            "42710",
            format!("connection \"{name}\" already exists"),
            "",
            "Change it with sync.alter_connection, or end it with sync.drop_connection first.",
        )),
        Some(wrapper) => Err(refuse(
            "42710",
            format!("a server \"{name}\" already exists"),
            &format!(
                "It belongs to the foreign-data wrapper {wrapper}; names of servers are unique in a database."
            ),
            "Choose another name.",
        )),
    }
}

fn check_type(system: &str) -> Result<String, Failure> {
    let folded = system.to_ascii_lowercase();
    let plain = folded.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if folded.is_empty() || folded.len() > LONGEST_NAME || !plain {
        return Err(refuse(
            "22023",
            "\"type\" does not name a type of system".into(),
            "It consists of letters, digits and underscores.",
            "For example: salesforce.",
        ));
    }
    Ok(folded)
}

fn check_settings(system: &str, settings: &Map<String, Json>) -> Result<(), Failure> {
    let postgres = matches!(system, "postgres" | "postgresql");
    if let Err(error) = document::check_settings(settings, postgres) {
        // It may be a secret that stands there.
        discretion::conceal();
        return Err(error.into());
    }
    let folded: Vec<String> = settings.keys().map(|key| key.to_ascii_lowercase()).collect();
    options::check_names(system, folded.iter().map(String::as_str))?;
    // By the function it is the person at the keyboard who is told, so that what cannot be used is
    // an error here.
    for (key, value) in settings {
        let key = key.to_ascii_lowercase();
        if !matches!(key.as_str(), "instance_url" | "login_url" | "base_url" | "token_url") {
            continue;
        }
        let url = options::check_url(&key, &text(value))?;
        super::policy()?.check(&url).map_err(|fault| super::fault_to_failure(&fault))?;
    }
    Ok(())
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}
