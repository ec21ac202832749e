//! Logging in (Salesforce help, OAuth Authorization Flows; errors as in its OAuth 2.0 Flow Errors).

mod code;
mod jwt;
mod tokens;
mod who;

pub(crate) use code::authorize;
pub(crate) use tokens::{introspect, revoke};
pub(crate) use who::{identity, identity_path, user_info};

use crate::exchange::{Answer, Request, parse_form};
use crate::org::Org;
use crate::session::Grant;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Why nobody is logged in: a name of an error, and its description.
type Refusal = (&'static str, String);

fn refused<T>(error: &'static str, description: &str) -> Result<T, Refusal> {
    Err((error, description.to_owned()))
}

fn answer(refusal: Refusal) -> Answer {
    let (error, description) = refusal;
    Answer::json(400, json!({"error": error, "error_description": description}))
}

/// The parameters of a request, of its body before those of its path.
struct Form<'a> {
    request: &'a Request,
    form: Vec<(String, String)>,
}

impl<'a> Form<'a> {
    fn of(request: &'a Request) -> Self {
        Self { request, form: parse_form(&String::from_utf8_lossy(&request.body)) }
    }

    /// Nothing where it is missing or empty.
    fn get(&self, name: &str) -> Option<&str> {
        let of_body = self.form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        of_body.or_else(|| self.request.parameter(name)).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<&str, Refusal> {
        let missing = || ("invalid_request", format!("missing required parameter: {name}"));
        self.get(name).ok_or_else(missing)
    }

    /// Client and secret by the header of HTTP Basic, or else by parameters.
    fn client(&self) -> Result<(String, Option<String>), Refusal> {
        let basic = self.request.header("authorization").and_then(|value| {
            let encoded = value.strip_prefix("Basic ")?;
            let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
            let (client, secret) = text.split_once(':')?;
            Some((client.to_owned(), Some(secret.to_owned())))
        });
        match basic {
            Some(both) => Ok(both),
            None => {
                let secret = self.get("client_secret").map(str::to_owned);
                Ok((self.need("client_id")?.to_owned(), secret))
            }
        }
    }

    /// The client, once it has proved that it is one.
    fn proven(&self, org: &Org) -> Result<String, Refusal> {
        let (client, secret) = self.client()?;
        let Some(app) = org.sessions.apps.get(&client) else {
            return refused("invalid_client_id", "client identifier invalid");
        };
        match secret {
            None => refused("invalid_request", "missing required parameter: client_secret"),
            Some(secret) if secret != app.secret => {
                refused("invalid_client", "invalid client credentials")
            }
            Some(_) => Ok(client),
        }
    }
}

/// Who gets a session, and what its answer tells besides.
struct Login {
    grant: Grant,
    scope: Option<&'static str>,
    /// The refresh token that the session comes from.
    parent: Option<String>,
    /// Whether that is told.
    told: bool,
}

/// `POST /services/oauth2/token`.
pub(crate) fn token(org: &mut Org, request: &Request) -> Answer {
    if request.method != "POST" {
        return answer(("invalid_request", "must use HTTP POST".to_owned()));
    }
    let form = Form::of(request);
    match log_in(org, &form) {
        Ok(login) => opened(org, login),
        Err(refusal) => answer(refusal),
    }
}

fn log_in(org: &mut Org, form: &Form<'_>) -> Result<Login, Refusal> {
    match form.need("grant_type")? {
        "client_credentials" => client_credentials(org, form),
        "password" => password(org, form),
        "refresh_token" => refresh(org, form),
        "authorization_code" => code::redeem(org, form),
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => jwt::bearer(org, form.need("assertion")?),
        other => {
            org.count_unserved(format!("oauth {other}"));
            refused("unsupported_grant_type", "grant type not supported")
        }
    }
}

fn client_credentials(org: &Org, form: &Form<'_>) -> Result<Login, Refusal> {
    let host = form.request.header("host").unwrap_or_default();
    if matches!(host, "login.salesforce.com" | "test.salesforce.com") {
        return refused("invalid_grant", "request not supported on this domain");
    }
    let client = form.proven(org)?;
    if !org.sessions.apps.get(&client).is_some_and(|app| app.runs_as_user) {
        return refused("invalid_grant", "no client credentials user enabled");
    }
    let grant = Grant { user: org.integration_user.clone(), client };
    Ok(Login { grant, scope: Some("api"), parent: None, told: false })
}

fn password(org: &Org, form: &Form<'_>) -> Result<Login, Refusal> {
    let client = form.proven(org)?;
    let user = org.user_with_password(form.need("username")?, form.need("password")?);
    let Some(user) = user else { return refused("invalid_grant", "authentication failure") };
    Ok(Login { grant: Grant { user, client }, scope: None, parent: None, told: false })
}

/// A secret is checked where one is given: apps can do without (Salesforce help, OAuth 2.0 Refresh Token Flow).
fn refresh(org: &mut Org, form: &Form<'_>) -> Result<Login, Refusal> {
    let token = form.need("refresh_token")?.to_owned();
    let (client, secret) = form.client()?;
    let Some(app) = org.sessions.apps.get(&client) else {
        return refused("invalid_client_id", "client identifier invalid");
    };
    if secret.is_some_and(|secret| secret != app.secret) {
        return refused("invalid_client", "invalid client credentials");
    }
    let grant = org.sessions.grants.get(&token).filter(|grant| grant.client == client).cloned();
    let Some(grant) = grant else {
        return refused("invalid_grant", "expired access/refresh token");
    };
    if !org.is_active(&grant.user) {
        return refused("inactive_user", "user is inactive");
    }
    let told = org.sessions.rotating;
    let parent = if told {
        org.sessions.revoke(&token);
        org.sessions.grant(grant.clone())
    } else {
        token
    };
    Ok(Login { grant, scope: Some("refresh_token api"), parent: Some(parent), told })
}

/// The answer to a login that went well.
fn opened(org: &mut Org, login: Login) -> Answer {
    let issued = org.clock.now();
    let Login { grant, scope, parent, told } = login;
    let token = org.sessions.open(&org.org_id, &grant, scope, parent.clone(), issued);
    let mut body = Map::new();
    body.insert("access_token".into(), token.into());
    if let Some(parent) = parent.filter(|_| told) {
        body.insert("refresh_token".into(), parent.into());
    }
    body.insert("signature".into(), STANDARD.encode(format!("{issued:032}")).into());
    if let Some(scope) = scope {
        body.insert("scope".into(), scope.into());
    }
    body.insert("instance_url".into(), org.url.clone().into());
    body.insert("id".into(), who::identity_url(org, &grant.user).into());
    body.insert("token_type".into(), "Bearer".into());
    body.insert("issued_at".into(), issued.to_string().into());
    Answer::json(200, Value::Object(body)).with("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
}
