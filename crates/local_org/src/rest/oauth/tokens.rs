//! What becomes of a token, and its end (Salesforce help, OpenID Connect Token Introspection; Revoke OAuth Tokens).

use super::{Form, answer, who};
use crate::exchange::{Answer, Request};
use crate::org::Org;
use serde_json::{Map, Value, json};

/// `POST /services/oauth2/introspect`.
pub(crate) fn introspect(org: &mut Org, request: &Request) -> Answer {
    let form = Form::of(request);
    let token = match form.proven(org).and_then(|_| form.need("token")) {
        Ok(token) => token,
        Err(refusal) => return answer(refusal),
    };
    let now = org.clock.now() / 1000;
    let mut body = Map::new();
    if let Some(session) = org.sessions.get(token) {
        let left = org.sessions.left(session).as_secs() as i64;
        described(org, &mut body, session.scope, &session.client, &session.user);
        body.insert("token_type".into(), "access_token".into());
        body.insert("exp".into(), (now + left).into());
        body.insert("iat".into(), (session.issued / 1000).into());
        body.insert("nbf".into(), (session.issued / 1000).into());
    } else if let Some(grant) = org.sessions.grants.get(token) {
        described(org, &mut body, Some("refresh_token api"), &grant.client, &grant.user);
        body.insert("token_type".into(), "refresh_token".into());
    } else {
        return Answer::json(200, json!({"active": false}));
    }
    Answer::json(200, Value::Object(body))
}

fn described(
    org: &Org,
    body: &mut Map<String, Value>,
    scope: Option<&str>,
    client: &str,
    user: &str,
) {
    let username = org.row(user).map_or(Value::Null, |row| row.get("Username").clone());
    body.insert("active".into(), true.into());
    body.insert("scope".into(), scope.unwrap_or("api").into());
    body.insert("client_id".into(), client.into());
    body.insert("username".into(), username);
    body.insert("sub".into(), who::identity_url(org, user).into());
}

/// `POST /services/oauth2/revoke`; a GET does too. A refresh token takes its sessions along.
pub(crate) fn revoke(org: &mut Org, request: &Request) -> Answer {
    let form = Form::of(request);
    match form.need("token") {
        Err(refusal) => answer(refusal),
        Ok(token) if org.sessions.close(token) || org.sessions.revoke(token) => Answer::empty(200),
        Ok(_) => answer(("invalid_token", "invalid token".to_owned())),
    }
}
