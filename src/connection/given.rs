//! What somebody hands over as secrets.

use super::catalog::Connection;
use super::flow::{self, Flow};
use crate::border;
use crate::worker::transaction::{Failure, refuse};
use connector::Secret;

/// What somebody hands over, by the names of options: `client_secret`, `private_key_file`.
pub struct Given<'a>(pub &'a [(&'static str, &'a str)]);

/// Can these be secrets of the connection, in the way it logs in?
pub(super) fn check(
    connection: &Connection,
    flow: Option<&'static Flow>,
    given: &Given<'_>,
) -> Result<(), Failure> {
    let bad = |message: String, hint: &str| Err(refuse("22023", message, "", hint));
    if given.0.is_empty() {
        return bad(
            "no secret was given".into(),
            "For example: client_id => '…', client_secret => '…'.",
        );
    }
    for (option, _) in given.0 {
        let name = flow::secret_of(option).unwrap_or_default();
        if name != *option && given.0.iter().any(|(other, _)| *other == name) {
            return bad(
                format!("\"{name}\" and \"{option}\" exclude each other"),
                "Give one of them.",
            );
        }
    }
    for (option, text) in given.0 {
        let name = flow::secret_of(option).unwrap_or_default();
        if let Some(flow) = flow
            && !flow.secrets().any(|secret| secret == name)
        {
            return Err(refuse(
                "22023",
                format!("connection \"{}\" has no use for {name}", connection.name),
                &format!(
                    "auth_type {} uses {}.",
                    flow.name(),
                    flow.secrets().collect::<Vec<_>>().join(", ")
                ),
                "Set another auth_type with sync.alter_connection first, in the same transaction.",
            ));
        }
        if text.trim().is_empty() {
            return bad(format!("\"{option}\" is empty"), "Leave it out to keep what is stored.");
        }
        let of_lines = *option == "private_key";
        if text.chars().any(|c| c.is_control() && !(of_lines && "\r\n".contains(c))) {
            return bad(
                format!("\"{option}\" holds a control character"),
                "A line break at its end may have come along.",
            );
        }
        // Without the text itself, which the server would repeat.
        if let Err(why) = border::check(text) {
            return bad(format!("\"{option}\" {why}"), "");
        }
        if of_lines {
            check_key(&Secret::new((*text).to_owned()))?;
        }
    }
    Ok(())
}

pub(super) fn check_key(pem: &Secret) -> Result<(), Failure> {
    salesforce::check_private_key(pem).map_err(|fault| Failure {
        sqlstate: "22023".into(),
        detail: None,
        ..super::fault_to_failure(&fault)
    })
}
