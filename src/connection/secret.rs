//! The secrets of a connection: options of the server's user mapping for a role that cannot log in.
//! A new secret stands beside the old one, as `new_…`, until it has worked.
//!
//! The mapping is written by the server's own functions and not by a statement: the text of one is
//! seen by every extension that looks at statements, and kept by some.

use super::catalog::{self, Connection, value};
use super::flow::{self, Flow};
use super::given::{Given, check, check_key};
use super::{NEEDS_CREDENTIALS, NO_CONNECTOR, file, options};
use crate::capture::attach;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use crate::{border, settings};
use connector::Secret;
use pgrx::pg_sys::{self, Oid};
use std::ffi::CString;

/// What proves who we are, ready to be used.
pub(super) struct Credentials {
    pub(super) flow: &'static Flow,
    secrets: Vec<(&'static str, Secret)>,
}

impl Credentials {
    pub(super) fn take(&mut self, name: &str) -> Option<Secret> {
        let at = self.secrets.iter().position(|(n, _)| *n == name)?;
        Some(self.secrets.swap_remove(at).1)
    }
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

/// A fingerprint's parts: everything that the secrets depend on. Not the refresh token in use, which the other side
/// replaces as it likes ([`super::rotation`] has that); when a person does, other parts change with it.
pub(super) fn parts(server: Oid) -> Vec<(String, String)> {
    let mut parts = mapping(server);
    for (_, text) in parts.iter_mut().filter(|(name, _)| name == "refresh_token") {
        text.clear();
    }
    parts
}

/// A secret of a mapping, as it stands there.
pub(super) fn stored(server: Oid, option: &str) -> Option<Secret> {
    value(&mapping(server), option).map(|text| Secret::new(text.to_owned()))
}

/// Puts a secret in the place of another one, if that still stands there. As the extension.
pub(super) fn replace(server: Oid, option: &str, before: &Secret, now: &Secret) -> bool {
    let Some(connection) = catalog::by_oid(server) else { return false };
    let old = mapping(server);
    if value(&old, option) != Some(before.reveal()) {
        return false;
    }
    let mut new = old.clone();
    for (_, text) in new.iter_mut().filter(|(name, _)| name == option) {
        now.reveal().clone_into(text);
    }
    sql::as_extension(|| write(&connection, &old, &new));
    true
}

/// The credentials in use.
///
/// # Errors
/// [`NEEDS_CREDENTIALS`] where they are not complete, or whatever is wrong with a file.
pub(super) fn credentials(connection: &Connection) -> Result<Credentials, Failure> {
    read(connection, &mapping(connection.server), false)
}

/// Those that are to take their place, if there are any. What they leave out stays.
pub(super) fn new_credentials(connection: &Connection) -> Result<Option<Credentials>, Failure> {
    let mapping = mapping(connection.server);
    if !mapping.iter().any(|(name, _)| name.starts_with("new_")) {
        return Ok(None);
    }
    read(connection, &mapping, true).map(Some)
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
    mapping: &[(String, String)],
    new: bool,
) -> Result<Credentials, Failure> {
    let flow = flow_of(connection)?;
    let missing = missing(flow, mapping);
    if !missing.is_empty() {
        return Err(needs(connection, flow, &missing));
    }
    let mut secrets = Vec::new();
    for name in flow.secrets() {
        let renewed = new && holds(mapping, &format!("new_{name}"));
        let option = if renewed { format!("new_{name}") } else { name.to_owned() };
        let secret = match (value(mapping, &option), value(mapping, &format!("{option}_file"))) {
            (Some(secret), _) => Secret::new(secret.to_owned()),
            (None, Some(name)) => file::read(name)?,
            (None, None) => continue,
        };
        secrets.push((name, secret));
    }
    Ok(Credentials { flow, secrets })
}

/// Is there such a secret, or a file of it?
fn holds(mapping: &[(String, String)], name: &str) -> bool {
    value(mapping, name).is_some() || value(mapping, &format!("{name}_file")).is_some()
}

/// The secrets in use that a way to log in still lacks.
fn missing(flow: &Flow, mapping: &[(String, String)]) -> Vec<&'static str> {
    flow.needs.iter().copied().filter(|name| !holds(mapping, name)).collect()
}

/// The way in which a connection logs in.
///
/// # Errors
/// There is none of that name.
pub(super) fn flow_of(connection: &Connection) -> Result<&'static Flow, Failure> {
    let options = catalog::settings(connection.server);
    let auth_type = value(&options, "auth_type");
    Flow::named(auth_type).ok_or_else(|| {
        refuse(
            NO_CONNECTOR,
            format!(
                "auth_type \"{}\" of connection \"{}\" is not served",
                auth_type.unwrap_or_default(),
                connection.name
            ),
            &format!("The ways to log in to Salesforce are: {}.", Flow::all()),
            "Set it to one of them; left out it is oauth2.",
        )
    })
}

fn needs(connection: &Connection, flow: &Flow, missing: &[&str]) -> Failure {
    let list = |names: &[&str]| names.join(" and ");
    let arguments: Vec<String> = missing.iter().map(|name| format!("{name} => '…'")).collect();
    refuse(
        NEEDS_CREDENTIALS,
        format!("connection \"{}\" needs credentials", connection.name),
        &format!(
            "auth_type {} needs {}; {} not been stored.",
            flow.name(),
            list(flow.needs),
            match missing {
                [one] => format!("{one} has"),
                several => format!("{} have", list(several)),
            }
        ),
        &format!(
            "SELECT sync.set_secret({}, {});",
            sql::literal(&connection.name),
            arguments.join(", ")
        ),
    )
}

/// Stores secrets. The first go straight in; later ones wait beside those in use until somebody has
/// logged in with them ([`promote`]) or was refused ([`refuse_new`]). Says which of it happened.
///
/// # Errors
/// A right or a role is missing, or what was given cannot be a secret.
pub fn set(connection: &Connection, given: &Given<'_>) -> Result<String, Failure> {
    super::define::owned(connection)?;
    role()?;
    // Of a way to log in that is not served nothing is known, and of other systems neither.
    let flow = flow_of(connection).ok().filter(|_| connection.system == "salesforce");
    check(connection, flow, given)?;
    for (option, text) in given.0.iter().filter(|(option, _)| option.ends_with("_file")) {
        let allowed = catalog::settings(connection.server)
            .iter()
            .any(|(name, value)| name == options::ALLOW_FILES && value == "true");
        if !allowed && !files_allowed() {
            return Err(no_file_for_you(option));
        }
        // A file that cannot be read now would not be readable later.
        let secret = file::read(text)?;
        if *option == "private_key_file" {
            check_key(&secret)?;
        }
    }
    let before = mapping(connection.server);
    let flow = flow.unwrap_or(&flow::ANY);
    let in_use = missing(flow, &before).is_empty();
    let is_given =
        |secret: &str| given.0.iter().any(|(option, _)| flow::secret_of(option) == Some(secret));
    let prefix = if in_use { "new_" } else { "" };
    let mut after: Vec<(String, String)> = before
        .iter()
        .filter(|(name, _)| {
            // What waited and was never in use is forgotten; a secret and a file exclude each other.
            let replaced = flow::secret_of(name).is_some_and(is_given);
            !name.starts_with("new_") && (in_use || !replaced)
        })
        .cloned()
        .collect();
    for (option, text) in given.0 {
        after.push((format!("{prefix}{option}"), (*text).to_owned()));
    }
    write(connection, &before, &after);
    note(connection.server, if in_use { "a new secret waits to be tried" } else { "not used yet" });
    attach::configuration_changed();
    Ok(match missing(flow, &after).as_slice() {
        _ if in_use => "stored; the secret in use stays until the new one has worked".into(),
        [] => "stored".into(),
        [one] => format!("stored; {one} is needed too"),
        several => format!("stored; {} are needed too", several.join(" and ")),
    })
}

/// The new secrets have worked: they take the place of the old ones. As the extension, by the worker.
pub fn promote(server: Oid) {
    let Some(connection) = catalog::by_oid(server) else { return };
    let before = mapping(server);
    if !before.iter().any(|(name, _)| name.starts_with("new_")) {
        return;
    }
    let is_new = |secret: &str| {
        let of_it = |name: &String| flow::secret_of(name) == Some(secret);
        before.iter().any(|(name, _)| name.starts_with("new_") && of_it(name))
    };
    let after: Vec<(String, String)> = before
        .iter()
        .filter_map(|(name, text)| match name.strip_prefix("new_") {
            Some(name) => Some((name.to_owned(), text.clone())),
            None if flow::secret_of(name).is_some_and(is_new) => None,
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
