//! From a connection to its connector. Nothing is sent here.

use super::catalog::{self, Connection, value};
use super::flow::Kind;
use super::secret;
use super::{NO_CONNECTOR, fault_to_failure};
use crate::settings;
use crate::worker::governors::Account;
use crate::worker::transaction::{Failure, refuse};
use connector::Connector;
use egress::{Policy, Rules};
use pgrx::pg_sys::Oid;
use salesforce::Credentials;
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

fn build(
    connection: &Connection,
    credentials: secret::Credentials,
) -> Result<Arc<dyn Connector>, Failure> {
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
    let mut settings = salesforce::Settings::new(instance);
    settings.login_url = value(&options, "login_url").map(str::to_owned);
    if let Some(version) = value(&options, "api_version") {
        settings.version = version.to_owned();
    }
    settings.pubsub_url = value(&options, "pubsub_url").map(str::to_owned);
    settings.client = CLIENT.to_owned();
    let credentials = login(connection, &options, credentials)?;
    let client = salesforce::Salesforce::new(&settings, credentials, &policy()?)
        .map_err(|fault| fault_to_failure(&fault))?;
    Ok(Arc::new(client))
}

/// The secrets in the form in which the client of Salesforce takes them.
fn login(
    connection: &Connection,
    options: &[(String, String)],
    mut credentials: secret::Credentials,
) -> Result<Credentials, Failure> {
    let flow = credentials.flow;
    let user = value(options, "username");
    if flow.of_user && user.is_none() {
        return Err(refuse(
            "HV00J",
            format!("connection \"{}\" has no username", connection.name),
            &format!("auth_type {} logs in as a user of the org.", flow.name()),
            &format!(
                "SELECT sync.alter_connection({}, '{{\"credentials\": {{\"username\": \"…\"}}}}');",
                crate::sql::literal(&connection.name)
            ),
        ));
    }
    let username = user.unwrap_or_default().to_owned();
    // Those that it needs are there: nothing is read without them.
    let mut needed = |name: &str| {
        credentials.take(name).ok_or_else(|| {
            Failure::new("XX000", format!("no {name} of connection \"{}\"", connection.name))
        })
    };
    let client_id = needed("client_id")?.reveal().to_owned();
    Ok(match flow.kind {
        Kind::ClientCredentials => {
            Credentials::ClientCredentials { client_id, client_secret: needed("client_secret")? }
        }
        Kind::JwtBearer => Credentials::JwtBearer {
            client_id,
            username,
            private_key: needed("private_key")?,
            audience: value(options, "jwt_audience").map(str::to_owned),
        },
        Kind::RefreshToken => Credentials::RefreshToken {
            client_id,
            refresh_token: needed("refresh_token")?,
            client_secret: credentials.take("client_secret"),
        },
        Kind::Password => Credentials::Password {
            client_id,
            client_secret: needed("client_secret")?,
            username,
            password: needed("password")?,
            security_token: credentials.take("security_token"),
        },
    })
}
