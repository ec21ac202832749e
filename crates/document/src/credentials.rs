//! The settings under `credentials`: what may stand there, and that no secret does.

use serde_json::{Map, Value};

use crate::check::type_of;
use crate::error::Error;
use crate::nearest::nearest;
use crate::path::{Path, shown};

const POSTGRES_SETTINGS: [&str; 9] = [
    "host",
    "port",
    "database",
    "schema",
    "user",
    "username",
    "sslmode",
    "auth_type",
    "connect_timeout",
];

/// Checks the settings of an endpoint; those of a PostgreSQL endpoint are a closed set.
pub(crate) fn check(
    settings: &Map<String, Value>,
    inside: &Path,
    postgres: bool,
) -> Result<(), Error> {
    for (key, value) in settings {
        let path = inside.key(key);
        if is_secret_name(key) || value.as_str().is_some_and(holds_secret) {
            return Err(Error::malformed(
                &path,
                "a secret must not stand in a configuration document",
                format!("\"{path}\" looks like a secret; documents are stored and shown."),
                "Remove it from the document and store it with sync.set_secret.",
            ));
        }
        if postgres && !POSTGRES_SETTINGS.contains(&key.as_str()) {
            let hint = match nearest(key, POSTGRES_SETTINGS) {
                Some(near) => format!("Perhaps you meant \"{near}\"."),
                None => {
                    format!("The keys that can stand here are: {}.", POSTGRES_SETTINGS.join(", "))
                }
            };
            return Err(Error::malformed(
                &path,
                format!("unknown key {}", shown(key)),
                "The settings of a PostgreSQL endpoint have no such key.",
                hint,
            ));
        }
        let (fits, noun, example) = match key.as_str() {
            "port" if postgres => (
                value.as_u64().is_some_and(|port| (1..=65_535).contains(&port)),
                "between 1 and 65535",
                "5432",
            ),
            "connect_timeout" if postgres => (value.is_u64(), "a number of seconds", "10"),
            _ if postgres => (value.is_string(), "a string", "\"customer_data\""),
            _ => (
                value.is_string() || value.is_number() || value.is_boolean(),
                "a string, a number or a boolean",
                "\"value\"",
            ),
        };
        if !fits {
            return Err(Error::malformed(
                &path,
                format!("\"{path}\" must be {noun}"),
                match value {
                    Value::Number(_) => "It is another number.".to_owned(),
                    _ => format!("It is {}.", type_of(value)),
                },
                format!("For example: {}: {example}.", shown(key)),
            ));
        }
    }
    Ok(())
}

/// The same for settings that stand outside a document.
///
/// # Errors
/// The first setting that cannot stand there; never with its value.
pub fn check_settings(settings: &Map<String, Value>, postgres: bool) -> Result<(), Error> {
    check(settings, &Path::root().key("credentials"), postgres)
}

/// Whether a key of this name would hold a secret.
pub fn is_secret_name(key: &str) -> bool {
    const WITHIN: [&str; 12] = [
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "token",
        "privatekey",
        "apikey",
        "accesskey",
        "bearer",
        "signingkey",
        "encryptionkey",
    ];
    const EXACTLY: [&str; 3] = ["pass", "jwt", "key"];
    /// What tells where a secret is, or of which kind, is none.
    const ABOUT: [&str; 6] = ["file", "path", "url", "uri", "endpoint", "type"];
    let key: String =
        key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let about = ABOUT.iter().any(|end| key.ends_with(end));
    !about && (EXACTLY.contains(&key.as_str()) || WITHIN.iter().any(|part| key.contains(part)))
}

/// Whether a value carries a secret along, whatever its key is called.
fn holds_secret(value: &str) -> bool {
    let password_in_url = value.split_once("://").is_some_and(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    password_in_url
        || value.contains("-----BEGIN")
        || value.to_ascii_lowercase().contains("password=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for key in [
            "password",
            "Client-Secret",
            "access_token",
            "refreshToken",
            "private_key",
            "API key",
            "pass",
        ] {
            assert!(is_secret_name(key), "{key}");
        }
        for key in [
            "auth_type",
            "client_secret_file",
            "token_url",
            "private_key_path",
            "client_id",
            "host",
            "keyspace",
        ] {
            assert!(!is_secret_name(key), "{key}");
        }
    }

    #[test]
    fn secrets_are_known_by_their_values() {
        for value in [
            "https://u:p@h/x",
            "postgres://u:p@h",
            "-----BEGIN RSA PRIVATE KEY-----",
            "host=a Password=b",
        ] {
            assert!(holds_secret(value), "{value}");
        }
        for value in ["https://h:443/x@y:z", "https://user@h", "plain", "a:b@c"] {
            assert!(!holds_secret(value), "{value}");
        }
    }
}
