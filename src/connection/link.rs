//! From a connection to its connector. Nothing is sent here.

use super::catalog::{self, Connection, value};
use super::secret::{self, Credentials};
use super::{NO_CONNECTOR, fault_to_failure};
use crate::settings;
use crate::worker::governors::Account;
use crate::worker::transaction::{Failure, refuse};
use connector::Connector;
use egress::{Policy, Rules};
use pgrx::pg_sys::Oid;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// What we call ourselves to other systems, which tell it of changes that are ours.
pub const CLIENT: &str = "sync_ext";

/// Where requests may go, as the settings of this moment say.
///
/// # Errors
/// A setting that cannot be used.
pub fn policy() -> Result<Policy, Failure> {
    let text = |setting: &pgrx::GucSetting<Option<std::ffi::CString>>| {
        setting.get().map(|t| t.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let (hosts, proxy) = (text(&settings::ALLOWED_HOSTS), text(&settings::PROXY));
    let ca_file = settings::CA_FILE.get().unwrap_or_default();
    let ca_pem = if ca_file.is_empty() {
        Vec::new()
    } else {
        let path = Path::new(std::ffi::OsStr::from_bytes(ca_file.to_bytes()));
        std::fs::read(path).map_err(|error| {
            refuse(
                "58P01",
                "the file of certificate authorities cannot be read".into(),
                &format!("sync_ext.ca_file names {}: {}.", path.display(), error.kind()),
                "",
            )
        })?
    };
    Policy::parse(&Rules {
        allowed_hosts: &hosts,
        proxy: &proxy,
        ca_pem: &ca_pem,
        ..Rules::default()
    })
    .map_err(|fault| fault_to_failure(&fault))
}

/// The connector of a connection, with the secrets in use. Costly: to be kept until
/// [`super::changed`] says otherwise. Inside a transaction.
///
/// # Errors
/// [`super::NEEDS_CREDENTIALS`], [`NO_CONNECTOR`], or options and settings that cannot be used.
pub fn connector(server: Oid) -> Result<Arc<dyn Connector>, Failure> {
    let connection = existing(server)?;
    check_system(&connection)?;
    let credentials = secret::credentials(&connection)?;
    build(&connection, credentials)
}

/// The same with the secrets that are to take their place; `None` where none wait. Whoever has
/// logged in with it calls [`super::promote`], whoever was refused [`super::refuse_new`].
///
/// # Errors
/// As [`connector`].
pub fn connector_with_new_secret(server: Oid) -> Result<Option<Arc<dyn Connector>>, Failure> {
    let connection = existing(server)?;
    check_system(&connection)?;
    match secret::new_credentials(&connection)? {
        None => Ok(None),
        Some(credentials) => build(&connection, credentials).map(Some),
    }
}

/// The account whose calls a connection uses.
pub fn account(server: Oid) -> Account {
    Account::at(value(&catalog::settings(server), "instance_url").unwrap_or_default())
}

fn existing(server: Oid) -> Result<Connection, Failure> {
    catalog::by_oid(server).ok_or_else(|| {
        refuse("42704", "the connection does not exist any more".into(), "", "Create it again.")
    })
}

/// Is there a connector for this type of system?
pub(super) fn check_system(connection: &Connection) -> Result<(), Failure> {
    if connection.system == "salesforce" {
        return Ok(());
    }
    Err(refuse(
        NO_CONNECTOR,
        format!("connection \"{}\" has no connector", connection.name),
        &format!("This version has none for systems of type \"{}\".", connection.system),
        "It has one for salesforce.",
    ))
}

/// The id that a text can be of a record of this connection's system, in its one form.
pub fn record_id(connection: &str, text: &str) -> Option<String> {
    let connection = catalog::by_name(connection).ok()?;
    (connection.system == "salesforce").then(|| salesforce::record_id(text)).flatten()
}

fn build(connection: &Connection, credentials: Credentials) -> Result<Arc<dyn Connector>, Failure> {
    let options = catalog::settings(connection.server);
    let instance = value(&options, "instance_url").ok_or_else(|| {
        refuse(
            "HV00J",
            format!("connection \"{}\" has no instance_url", connection.name),
            "It is the org's own address (My Domain).",
            &format!(
                "SELECT sync.alter_connection({}, '{{\"credentials\": {{\"instance_url\": \"https://acme.my.salesforce.com\"}}}}');",
                crate::sql::literal(&connection.name)
            ),
        )
    })?;
    if let Some(flow) = value(&options, "auth_type")
        && !["oauth2", "client_credentials"].contains(&flow)
    {
        return Err(refuse(
            NO_CONNECTOR,
            format!("auth_type \"{flow}\" of connection \"{}\" is not served", connection.name),
            "Salesforce is reached by the client credentials flow of OAuth 2.0.",
            "Set it to oauth2, or leave it out.",
        ));
    }
    let mut settings = salesforce::Settings::new(instance);
    settings.login_url = value(&options, "login_url").map(str::to_owned);
    if let Some(version) = value(&options, "api_version") {
        settings.version = version.to_owned();
    }
    settings.pubsub_url = value(&options, "pubsub_url").map(str::to_owned);
    settings.client = CLIENT.to_owned();
    let Credentials { client_id, client_secret } = credentials;
    let credentials = salesforce::Credentials::ClientCredentials { client_id, client_secret };
    let client = salesforce::Salesforce::new(&settings, credentials, &policy()?)
        .map_err(|fault| fault_to_failure(&fault))?;
    Ok(Arc::new(client))
}
