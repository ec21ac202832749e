//! The secrets of a connection: options of the server's user mapping for a role that cannot log in.
//! A new secret stands beside the old one, as `new_…`, until it has worked.
//!
//! The mapping is written by the server's own functions and not by a statement: the text of one is
//! seen by every extension that looks at statements, and kept by some.

use super::catalog::{self, Connection, value};
use super::{NEEDS_CREDENTIALS, file, options};
use crate::capture::attach;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use crate::{border, settings};
use connector::Secret;
use pgrx::pg_sys::{self, Oid};
use std::ffi::CString;

/// What somebody hands over; `None` stays as it is.
#[derive(Clone, Copy, Default)]
pub struct Given<'a> {
    pub client_id: Option<&'a str>,
    pub client_secret: Option<&'a str>,
    pub client_secret_file: Option<&'a str>,
}

/// What proves who we are, ready to be used.
pub(super) struct Credentials {
    pub(super) client_id: String,
    pub(super) client_secret: Secret,
}

/// A call of ours has checked who may name a file.
static mut FILES_ALLOWED: bool = false;

/// For as long as it lives; an error ends it too.
struct FilesAllowed;

impl FilesAllowed {
    fn new() -> Self {
        // SAFETY: one thread.
        unsafe { FILES_ALLOWED = true };
        Self
    }
}

impl Drop for FilesAllowed {
    fn drop(&mut self) {
        // SAFETY: one thread.
        unsafe { FILES_ALLOWED = false }
    }
}

pub(super) fn files_allowed() -> bool {
    // SAFETY: one thread; the current user of this backend.
    unsafe { FILES_ALLOWED || pg_sys::superuser() }
}

pub(super) fn no_file_for_you(option: &str) -> Failure {
    refuse(
        "42501",
        format!("permission denied for option \"{option}\""),
        "The file is read with the rights of the database server.",
        &format!(
            "A superuser can name the file, or let the owner of the connection do so with the server's option {}.",
            options::ALLOW_FILES
        ),
    )
}

/// The options of the user mapping that holds a server's secrets.
fn mapping(server: Oid) -> Vec<(String, String)> {
    let Some(role) = role_oid() else { return Vec::new() };
    // SAFETY: a catalog lookup; the tuple is held until its options are copied.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32;
        let tuple = pg_sys::SearchSysCache2(cache, role.into(), server.into());
        catalog::read_options(cache, tuple, pg_sys::Anum_pg_user_mapping_umoptions)
    }
}

/// The name of the role as the setting has it.
fn role_name() -> CString {
    settings::SECRET_ROLE.get().unwrap_or_default()
}

fn role_oid() -> Option<Oid> {
    // SAFETY: a catalog lookup.
    let oid = unsafe { pg_sys::get_role_oid(role_name().as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// The role that secrets belong to; refused if somebody could be it.
fn role() -> Result<Oid, Failure> {
    let name = border::inwards(role_name().to_bytes());
    let Some(oid) = role_oid() else {
        return Err(refuse(
            "42704",
            format!("role \"{name}\" does not exist"),
            "Secrets are kept in user mappings of the role that sync_ext.secret_role names.",
            &format!("A superuser can make it: CREATE ROLE {} NOLOGIN;", sql::identifier(&name)),
        ));
    };
    let somebody = sql::as_extension(|| {
        sql::one(
            "SELECT CASE WHEN r.rolcanlogin OR r.rolsuper THEN 'It can log in.'
                         WHEN EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid) THEN 'Other roles are members of it.' END
               FROM pg_roles r WHERE r.oid = $1",
            &[Arg::Oid(oid)],
        )
    });
    match somebody {
        None => Ok(oid),
        Some(why) => Err(refuse(
            "42501",
            format!("role \"{name}\" cannot hold secrets"),
            &why,
            "Whoever is that role reads the secrets: make it NOLOGIN, and revoke it from all.",
        )),
    }
}

/// A fingerprint's parts: everything that the secrets depend on.
pub(super) fn parts(server: Oid) -> Vec<(String, String)> {
    mapping(server)
}

/// The credentials in use.
///
/// # Errors
/// [`NEEDS_CREDENTIALS`] where there are none, or whatever is wrong with the file.
pub(super) fn credentials(connection: &Connection) -> Result<Credentials, Failure> {
    let mapping = mapping(connection.server);
    read(connection, value(&mapping, "client_id"), &mapping, "client_secret")
}

/// Those that are to take their place, if there are any. What they leave out stays.
pub(super) fn new_credentials(connection: &Connection) -> Result<Option<Credentials>, Failure> {
    let mapping = mapping(connection.server);
    if !mapping.iter().any(|(name, _)| name.starts_with("new_")) {
        return Ok(None);
    }
    let id = value(&mapping, "new_client_id").or_else(|| value(&mapping, "client_id"));
    let replaced = mapping.iter().any(|(name, _)| name.starts_with("new_client_secret"));
    let which = if replaced { "new_client_secret" } else { "client_secret" };
    read(connection, id, &mapping, which).map(Some)
}

/// Does a secret wait for being tried?
pub fn has_new_secret(server: Oid) -> bool {
    mapping(server).iter().any(|(name, _)| name.starts_with("new_"))
}

/// The names of the files that secrets are read from.
pub(super) fn files(mapping: &[(String, String)]) -> impl Iterator<Item = &str> {
    mapping.iter().filter(|(name, _)| name.ends_with("_file")).map(|(_, file)| file.as_str())
}

fn read(
    connection: &Connection,
    client_id: Option<&str>,
    mapping: &[(String, String)],
    which: &str,
) -> Result<Credentials, Failure> {
    let secret = match (value(mapping, which), value(mapping, &format!("{which}_file"))) {
        (Some(secret), _) => Some(Secret::new(secret.to_owned())),
        (None, Some(name)) => Some(file::read(name)?),
        (None, None) => None,
    };
    match (client_id, secret) {
        (Some(id), Some(client_secret)) => {
            Ok(Credentials { client_id: id.to_owned(), client_secret })
        }
        (id, _) => Err(refuse(
            NEEDS_CREDENTIALS,
            format!("connection \"{}\" needs credentials", connection.name),
            match id {
                None => "Neither client_id nor client_secret has been stored for it.",
                Some(_) => "Its client_id has been stored, its client_secret has not.",
            },
            &format!(
                "SELECT sync.set_secret({}, client_id => '…', client_secret => '…');",
                sql::literal(&connection.name)
            ),
        )),
    }
}

/// Stores secrets. The first go straight in; later ones wait beside those in use until somebody has
/// logged in with them ([`promote`]) or was refused ([`refuse_new`]). Says which of it happened.
///
/// # Errors
/// A right or a role is missing, or what was given cannot be a secret.
pub fn set(connection: &Connection, given: &Given<'_>) -> Result<&'static str, Failure> {
    super::define::owned(connection)?;
    role()?;
    check(given)?;
    if let Some(name) = given.client_secret_file {
        let allowed = catalog::settings(connection.server)
            .iter()
            .any(|(name, value)| name == options::ALLOW_FILES && value == "true");
        if !allowed && !files_allowed() {
            return Err(no_file_for_you("client_secret_file"));
        }
        // A file that cannot be read now would not be readable later.
        file::read(name)?;
    }
    let before = mapping(connection.server);
    let in_use = value(&before, "client_id").is_some()
        && (value(&before, "client_secret").is_some()
            || value(&before, "client_secret_file").is_some());
    let prefix = if in_use { "new_" } else { "" };
    let mut after: Vec<(String, String)> = before
        .iter()
        .filter(|(name, _)| {
            // What waited and was never in use is forgotten; a secret and a file exclude each other.
            let replaced = given.client_secret.or(given.client_secret_file).is_some()
                && name.starts_with("client_secret");
            if in_use { !name.starts_with("new_") } else { !replaced }
        })
        .cloned()
        .collect();
    let new = [
        ("client_id", given.client_id),
        ("client_secret", given.client_secret),
        ("client_secret_file", given.client_secret_file),
    ];
    for (name, text) in new {
        let Some(text) = text else { continue };
        let name = format!("{prefix}{name}");
        after.retain(|(n, _)| *n != name);
        after.push((name, text.to_owned()));
    }
    write(connection, &before, &after);
    note(connection.server, if in_use { "a new secret waits to be tried" } else { "not used yet" });
    attach::configuration_changed();
    Ok(if in_use {
        "stored; the secret in use stays until the new one has worked"
    } else if after.iter().any(|(n, _)| n == "client_id")
        && after.iter().any(|(n, _)| n.starts_with("client_secret"))
    {
        "stored"
    } else {
        "stored; client_id and client_secret are needed both"
    })
}

fn check(given: &Given<'_>) -> Result<(), Failure> {
    let all = [given.client_id, given.client_secret, given.client_secret_file];
    let names = ["client_id", "client_secret", "client_secret_file"];
    let bad = |message: String, hint: &str| Err(refuse("22023", message, "", hint));
    if all.iter().all(Option::is_none) {
        return bad(
            "no secret was given".into(),
            "For example: client_id => '…', client_secret => '…'.",
        );
    }
    if given.client_secret.is_some() && given.client_secret_file.is_some() {
        return bad(
            "\"client_secret\" and \"client_secret_file\" exclude each other".into(),
            "Give one of them.",
        );
    }
    for (name, text) in names.into_iter().zip(all) {
        let Some(text) = text else { continue };
        if text.trim().is_empty() {
            return bad(format!("\"{name}\" is empty"), "Leave it out to keep what is stored.");
        }
        if text.chars().any(char::is_control) {
            return bad(
                format!("\"{name}\" holds a control character"),
                "A line break at its end may have come along.",
            );
        }
        // Without the text itself, which the server would repeat.
        if let Err(why) = border::check(text) {
            return bad(format!("\"{name}\" {why}"), "");
        }
    }
    Ok(())
}

/// The new secrets have worked: they take the place of the old ones. As the extension, by the worker.
pub fn promote(server: Oid) {
    let Some(connection) = catalog::by_oid(server) else { return };
    let before = mapping(server);
    if !before.iter().any(|(name, _)| name.starts_with("new_")) {
        return;
    }
    let secret_replaced = before.iter().any(|(name, _)| name.starts_with("new_client_secret"));
    let id_replaced = before.iter().any(|(name, _)| name == "new_client_id");
    let after: Vec<(String, String)> = before
        .iter()
        .filter_map(|(name, text)| match name.strip_prefix("new_") {
            Some(name) => Some((name.to_owned(), text.clone())),
            None if secret_replaced && name.starts_with("client_secret") => None,
            None if id_replaced && name == "client_id" => None,
            None => Some((name.clone(), text.clone())),
        })
        .collect();
    sql::as_extension(|| write(&connection, &before, &after));
}

/// The new secrets were refused: they are forgotten, those in use stay, and the state says why.
pub fn refuse_new(server: Oid, why: &str) {
    let Some(connection) = catalog::by_oid(server) else { return };
    let before = mapping(server);
    let after: Vec<(String, String)> =
        before.iter().filter(|(name, _)| !name.starts_with("new_")).cloned().collect();
    sql::as_extension(|| {
        write(&connection, &before, &after);
        sql::query(
            "INSERT INTO sync._connection AS c (server, state, new_secret) VALUES ($1, 'waiting', $2)
             ON CONFLICT (server) DO UPDATE SET new_secret = excluded.new_secret",
            &[Arg::Oid(server), Arg::Text(&format!("the new secret was refused and forgotten: {why}"))],
        );
    });
}

/// What the state says until the worker has looked.
fn note(server: Oid, what: &str) {
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._connection SET new_secret = NULL,
                    state = CASE WHEN state = 'ok' THEN state ELSE 'waiting' END,
                    reason = CASE WHEN state = 'ok' THEN reason ELSE $2 END,
                    retry_at = NULL, since = clock_timestamp()
              WHERE server = $1",
            &[Arg::Oid(server), Arg::Text(what)],
        )
    });
}

/// Makes the mapping hold `after` instead of `before`, with the caller's right on the server.
fn write(connection: &Connection, before: &[(String, String)], after: &[(String, String)]) {
    use pg_sys::DefElemAction::{DEFELEM_ADD, DEFELEM_DROP, DEFELEM_SET};
    let mut changes = Vec::new();
    for (name, _) in before {
        if !after.iter().any(|(n, _)| n == name) {
            changes.push((name, None, DEFELEM_DROP));
        }
    }
    for (name, text) in after {
        match before.iter().find(|(n, _)| n == name) {
            Some((_, old)) if old == text => {}
            Some(_) => changes.push((name, Some(text), DEFELEM_SET)),
            None => changes.push((name, Some(text), DEFELEM_ADD)),
        }
    }
    let copy = |text: &str| {
        let text = border::exact(text);
        // SAFETY: allocated in the current memory context.
        unsafe { pg_sys::pstrdup(text.as_ptr()) }
    };
    let _permission = FilesAllowed::new();
    // SAFETY: nodes of the parser, made as it makes them.
    unsafe {
        let mut list: *mut pg_sys::List = std::ptr::null_mut();
        for (name, text, action) in changes {
            let argument = text.map_or(std::ptr::null_mut(), |text| {
                pg_sys::makeString(copy(text)).cast::<pg_sys::Node>()
            });
            let element = pg_sys::makeDefElem(copy(name), argument, -1);
            (*element).defaction = action;
            list = pg_sys::lappend(list, element.cast());
        }
        let mut user = pg_sys::RoleSpec {
            type_: pg_sys::NodeTag::T_RoleSpec,
            roletype: pg_sys::RoleSpecType::ROLESPEC_CSTRING,
            rolename: pg_sys::pstrdup(role_name().as_ptr()),
            location: -1,
        };
        let server = copy(&connection.name);
        if exists(connection.server) {
            if !list.is_null() {
                let mut statement = pg_sys::AlterUserMappingStmt {
                    type_: pg_sys::NodeTag::T_AlterUserMappingStmt,
                    user: &raw mut user,
                    servername: server,
                    options: list,
                };
                pg_sys::AlterUserMapping(&raw mut statement);
            }
        } else {
            let mut statement = pg_sys::CreateUserMappingStmt {
                type_: pg_sys::NodeTag::T_CreateUserMappingStmt,
                user: &raw mut user,
                servername: server,
                if_not_exists: false,
                options: list,
            };
            pg_sys::CreateUserMapping(&raw mut statement);
        }
        pg_sys::CommandCounterIncrement();
    }
}

fn exists(server: Oid) -> bool {
    let Some(role) = role_oid() else { return false };
    // SAFETY: a catalog lookup.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32;
        let tuple = pg_sys::SearchSysCache2(cache, role.into(), server.into());
        if tuple.is_null() {
            return false;
        }
        pg_sys::ReleaseSysCache(tuple);
        true
    }
}
