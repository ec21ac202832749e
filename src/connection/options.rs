//! The options that servers and user mappings may have. The validator of the wrapper is called
//! with the whole list whenever one of them is made or changed, by a restore of a dump too.

use super::flow::{self, Flow};
use super::{discretion, secret};
use crate::speech;
use crate::worker::transaction::{Failure, refuse};
use document::{is_secret_name, nearest};
use egress::Url;
use pgrx::pg_sys::{self, Oid};

/// What is said about reaching a system: everybody can read it.
const OF_SERVER: [&str; 19] = [
    "account",
    "account_id",
    "allow_secret_file",
    "api_version",
    "auth_type",
    "base_url",
    "connect_timeout",
    "database",
    "host",
    "instance_url",
    "jwt_audience",
    "login_url",
    "port",
    "pubsub_url",
    "schema",
    "sslmode",
    "token_url",
    "user",
    "username",
];

/// Those that a Salesforce org has.
const OF_SALESFORCE: [&str; 8] = [
    "allow_secret_file",
    "api_version",
    "auth_type",
    "instance_url",
    "jwt_audience",
    "login_url",
    "pubsub_url",
    "username",
];

/// By which an owner who is no superuser may name files of secrets; only a superuser gives it.
pub(super) const ALLOW_FILES: &str = "allow_secret_file";

/// What the validator of the wrapper does.
///
/// # Errors
/// The first option that cannot stand there; never with its value.
pub fn validate(options: &[(String, String)], catalog: Oid) -> Result<(), Failure> {
    if catalog == pg_sys::ForeignServerRelationId {
        return validate_server(options);
    }
    if catalog == pg_sys::UserMappingRelationId {
        // Whoever typed them is not to be watched while typing.
        discretion::cover("CREATE or ALTER USER MAPPING (secrets not shown)");
        return validate_mapping(options);
    }
    match options.first() {
        None => Ok(()),
        Some((name, _)) => Err(unknown(name, "a foreign-data wrapper or table of sync_ext", &[])),
    }
}

fn validate_server(options: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in options {
        if is_secret_name(name) || flow::secret_of(name).is_some() {
            discretion::conceal();
            return Err(refuse(
                "HV00D",
                format!("option \"{name}\" cannot be an option of a server"),
                "It is a secret, and everybody can read the options of a server.",
                "Store it with sync.set_secret.",
            ));
        }
        if !OF_SERVER.contains(&name.as_str()) {
            return Err(unknown(name, "a server of sync_ext", &OF_SERVER));
        }
        check_value(name, value)?;
        // SAFETY: the current user of this backend.
        if name == ALLOW_FILES && !unsafe { pg_sys::superuser() } {
            return Err(refuse(
                "42501",
                format!("permission denied for option \"{name}\""),
                "It lets the owner of the server have files of the database server read.",
                "Only superusers can give it, and change a server that has it.",
            ));
        }
    }
    Ok(())
}

fn validate_mapping(options: &[(String, String)]) -> Result<(), Failure> {
    for (name, value) in options {
        if flow::secret_of(name).is_none() {
            discretion::conceal();
            return Err(unknown(
                name,
                "a user mapping of sync_ext",
                &flow::SECRETS.map(|(n, _)| n),
            ));
        }
        if value.is_empty() {
            return Err(empty(name));
        }
        if name.ends_with("_file") && !secret::files_allowed() {
            return Err(secret::no_file_for_you(name));
        }
    }
    Ok(())
}

fn check_value(name: &str, value: &str) -> Result<(), Failure> {
    if value.is_empty() {
        return Err(empty(name));
    }
    let bad = |what: &str, hint: &str| {
        refuse("HV024", format!("the value of option \"{name}\" {what}"), "", hint)
    };
    match name {
        "instance_url" | "login_url" | "pubsub_url" | "base_url" | "token_url" => {
            let url = check_url(name, value)?;
            if matches!(name, "instance_url" | "login_url") && url.path() != "/" {
                return Err(bad("has a path", "It is given as https://acme.my.salesforce.com."));
            }
            // Checked when it is used. At definition a word is enough: a dump is restored before
            // somebody has set the list.
            if let Ok(policy) = super::link::policy()
                && policy.check(&url).is_err()
            {
                speech::warning(format!(
                    "host \"{}\" of option \"{name}\" is not among sync_ext.allowed_hosts: the connection will not be used before it is",
                    url.host_str().unwrap_or_default()
                ));
            }
        }
        "port" if value.parse::<u16>().is_err() => {
            return Err(bad("is no port", "It is a number between 1 and 65535."));
        }
        "connect_timeout" if value.parse::<u32>().is_err() => {
            return Err(bad("is no number of seconds", "For example: 10."));
        }
        "api_version" => {
            let version = value.strip_prefix('v').unwrap_or(value);
            let fits = version.split_once('.').is_some_and(|(major, minor)| {
                (2..=3).contains(&major.len())
                    && major.bytes().all(|b| b.is_ascii_digit())
                    && minor == "0"
            });
            if !fits {
                return Err(bad("is no version of an API", "A version is given as 62.0."));
            }
        }
        "auth_type" if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            return Err(bad(
                "is not known",
                &format!("For Salesforce it is one of {}.", Flow::all()),
            ));
        }
        ALLOW_FILES if !["true", "false"].contains(&value) => {
            return Err(bad("is neither true nor false", ""));
        }
        _ => {}
    }
    Ok(())
}

/// An https URL of a host, or an http one of this machine.
pub(super) fn check_url(name: &str, text: &str) -> Result<Url, Failure> {
    let bad = |what: &str, hint: &str| {
        refuse("HV024", format!("the value of option \"{name}\" {what}"), "", hint)
    };
    let form = "It is given as https://acme.my.salesforce.com.";
    let Ok(url) = Url::parse(text) else { return Err(bad("is no URL", form)) };
    if !url.username().is_empty() || url.password().is_some() {
        discretion::conceal();
        return Err(bad(
            "holds a user or a password",
            "Leave them out, and store the secret with sync.set_secret.",
        ));
    }
    let Some(host) = url.host_str() else { return Err(bad("has no host", form)) };
    let loopback = host == "localhost"
        || host == "[::1]"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !(url.scheme() == "http" && loopback) {
        return Err(bad("is not an https URL", form));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has more than a host and a path", form));
    }
    Ok(url)
}

/// Checks that a system of this type has options of these names.
pub(super) fn check_names<'a>(
    system: &str,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Failure> {
    let known: &[&str] = if system == "salesforce" { &OF_SALESFORCE } else { &OF_SERVER };
    for name in names {
        if !known.contains(&name) {
            return Err(unknown(name, &format!("a connection of type {system}"), known));
        }
    }
    Ok(())
}

fn empty(name: &str) -> Failure {
    refuse("HV024", format!("the value of option \"{name}\" is empty"), "", "Leave it out instead.")
}

fn unknown(name: &str, of: &str, known: &[&str]) -> Failure {
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("Perhaps you meant \"{near}\"."),
        None if known.is_empty() => String::new(),
        None => format!("The options are: {}.", known.join(", ")),
    };
    refuse(
        "HV00D",
        format!("unknown option \"{name}\""),
        &format!("It is not an option of {of}."),
        &hint,
    )
}
