//! The flows by which a session is had: what each sends to the token endpoint, and what its refusals mean.

mod advice;
mod assertion;
mod refresh;

use connector::{Fault, FaultKind, Secret};
use form_urlencoded::Serializer;
use serde_json::Value;

use crate::settings::{Credentials, Settings};
use assertion::Signer;
pub use assertion::check_private_key;
use refresh::Tokens;

/// Credentials that were looked at.
pub(crate) enum Flow {
    ClientCredentials { client_id: String, client_secret: Secret },
    JwtBearer(Box<Signer>),
    RefreshToken { client_id: String, client_secret: Option<Secret>, tokens: Tokens },
    Password { client_id: String, client_secret: Secret, username: String, password: Password },
}

/// As it was given, and as it is sent.
pub(crate) struct Password {
    plain: Secret,
    security_token: Option<Secret>,
    sent: Secret,
}

impl Flow {
    pub(crate) fn new(credentials: Credentials, settings: &Settings) -> Result<Self, Fault> {
        Ok(match credentials {
            Credentials::ClientCredentials { client_id, client_secret } => {
                Self::ClientCredentials { client_id, client_secret }
            }
            Credentials::JwtBearer { client_id, username, private_key, audience } => {
                let audience = audience.unwrap_or_else(|| audience_of(settings).to_owned());
                let signer = Signer::new(client_id, username, audience, &private_key)?;
                Self::JwtBearer(Box::new(signer))
            }
            Credentials::RefreshToken { client_id, client_secret, refresh_token } => {
                Self::RefreshToken { client_id, client_secret, tokens: Tokens::new(refresh_token) }
            }
            Credentials::Password {
                client_id,
                client_secret,
                username,
                password: plain,
                security_token,
            } => {
                let token = security_token.as_ref().map_or("", Secret::reveal);
                let sent = Secret::new(format!("{}{token}", plain.reveal()));
                let password = Password { plain, security_token, sent };
                Self::Password { client_id, client_secret, username, password }
            }
        })
    }

    /// The form for the token endpoint; a new one for every request.
    pub(crate) fn form(&self) -> Result<Secret, Fault> {
        let mut form = Serializer::new(String::new());
        match self {
            Self::ClientCredentials { client_id, client_secret } => {
                form.append_pair("grant_type", "client_credentials")
                    .append_pair("client_id", client_id)
                    .append_pair("client_secret", client_secret.reveal());
            }
            Self::JwtBearer(signer) => {
                let assertion = signer.assertion()?;
                form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer")
                    .append_pair("assertion", assertion.reveal());
            }
            Self::RefreshToken { client_id, client_secret, tokens } => {
                form.append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", client_id)
                    .append_pair("refresh_token", tokens.use_current().reveal());
                if let Some(secret) = client_secret {
                    form.append_pair("client_secret", secret.reveal());
                }
            }
            Self::Password { client_id, client_secret, username, password } => {
                form.append_pair("grant_type", "password")
                    .append_pair("client_id", client_id)
                    .append_pair("client_secret", client_secret.reveal())
                    .append_pair("username", username)
                    .append_pair("password", password.sent.reveal());
            }
        }
        Ok(Secret::new(form.finish()))
    }

    /// The org has let us in; what the answer says for the next time is kept.
    pub(crate) fn accepted(&self, body: &Value) {
        if let Self::RefreshToken { tokens, .. } = self {
            let next = body.get("refresh_token").and_then(Value::as_str).filter(|t| !t.is_empty());
            tokens.accepted(next.map(|token| Secret::new(token.to_owned())));
        }
    }

    /// The org has said no. `offset` is its clock minus ours, in milliseconds. True where the same may be asked once
    /// more, because it will not be the same.
    pub(crate) fn refused(&self, fault: &mut Fault, offset: Option<i64>) -> bool {
        let again = match self {
            Self::JwtBearer(signer) => signer.corrected(fault, offset),
            _ => false,
        };
        if let Some(hint) = advice::hint(self, fault) {
            fault.hint = hint;
        }
        // An error of the server does not tell whether the token was used up.
        if let Self::RefreshToken { tokens, .. } = self
            && fault.kind != FaultKind::Transient
        {
            tokens.refused();
        }
        again
    }

    /// The refresh token in use.
    pub(crate) fn refresh_token(&self) -> Option<Secret> {
        match self {
            Self::RefreshToken { tokens, .. } => Some(tokens.current()),
            _ => None,
        }
    }

    pub(crate) fn take_refresh_token(&self, token: Secret) {
        if let Self::RefreshToken { tokens, .. } = self {
            tokens.accepted(Some(token));
        }
    }

    /// All that goes no further if the org quotes it.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::ClientCredentials { client_secret, .. } => vec![client_secret.clone()],
            Self::JwtBearer(signer) => signer.secrets(),
            Self::RefreshToken { client_secret, tokens, .. } => {
                client_secret.iter().cloned().chain(tokens.all()).collect()
            }
            Self::Password { client_secret, password, .. } => {
                let Password { plain, security_token, sent } = password;
                let given = [sent, plain, client_secret].into_iter().chain(security_token);
                given.cloned().collect()
            }
        }
    }
}

/// A sandbox and a scratch org are under another authority than the rest (Salesforce help, OAuth 2.0 JWT Bearer
/// Flow, `aud`).
fn audience_of(settings: &Settings) -> &'static str {
    let login = settings.login_url.as_deref().unwrap_or(&settings.instance_url);
    let host = egress::Url::parse(login).ok().and_then(|url| url.host_str().map(str::to_owned));
    let for_trial = |host: &String| {
        host == "test.salesforce.com"
            || host.ends_with(".sandbox.my.salesforce.com")
            || host.ends_with(".scratch.my.salesforce.com")
    };
    if host.as_ref().is_some_and(for_trial) {
        "https://test.salesforce.com"
    } else {
        "https://login.salesforce.com"
    }
}

#[cfg(test)]
mod tests;
