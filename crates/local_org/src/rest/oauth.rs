//! Logging in (Salesforce help, OAuth Authorization Flows; errors as in its OAuth 2.0 Flow Errors).

use crate::exchange::{Answer, Request, parse_form};
use crate::org::Org;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// `POST /services/oauth2/token`.
pub(crate) fn token(org: &mut Org, request: &Request) -> Answer {
    if request.method != "POST" {
        return refusal("invalid_request", "must use HTTP POST");
    }
    let form = parse_form(&String::from_utf8_lossy(&request.body));
    let given = |name: &str| {
        let of_body = form.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        of_body.or_else(|| request.parameter(name).map(str::to_owned)).filter(|v| !v.is_empty())
    };
    match given("grant_type").as_deref() {
        Some("client_credentials") => {}
        Some(other) => {
            let known = [
                "refresh_token",
                "password",
                "authorization_code",
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
            ];
            if known.contains(&other) {
                org.count_unserved(format!("oauth {other}"));
            }
            return refusal("unsupported_grant_type", "grant type not supported");
        }
        None => return refusal("invalid_request", "missing required parameter: grant_type"),
    }
    let basic = request.header("authorization").and_then(|value| {
        let encoded = value.strip_prefix("Basic ")?;
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (client, secret) = text.split_once(':')?;
        Some((client.to_owned(), secret.to_owned()))
    });
    let (client, secret) = match basic {
        Some((client, secret)) => (Some(client), Some(secret)),
        None => (given("client_id"), given("client_secret")),
    };
    let Some(client) = client else {
        return refusal("invalid_request", "missing required parameter: client_id");
    };
    let Some(right) = org.sessions.secret(&client) else {
        return refusal("invalid_client_id", "client identifier invalid");
    };
    match secret {
        None => return refusal("invalid_request", "missing required parameter: client_secret"),
        Some(secret) if secret != right => {
            return refusal("invalid_client", "invalid client credentials");
        }
        Some(_) => {}
    }
    let token = org.sessions.issue(&org.org_id);
    let issued = org.clock.now();
    let body = json!({
        "access_token": token,
        "signature": STANDARD.encode(format!("{issued:032}")),
        "scope": "api",
        "instance_url": org.url,
        "id": identity_url(org),
        "token_type": "Bearer",
        "issued_at": issued.to_string(),
    });
    Answer::json(200, body).with("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
}

fn refusal(error: &str, description: &str) -> Answer {
    Answer::json(400, json!({"error": error, "error_description": description}))
}

fn identity_url(org: &Org) -> String {
    format!("{}/id/{}/{}", org.url, org.org_id, org.integration_user)
}

/// `POST /services/oauth2/revoke`.
pub(crate) fn revoke(org: &mut Org, request: &Request) -> Answer {
    let form = parse_form(&String::from_utf8_lossy(&request.body));
    let token = form.iter().find(|(name, _)| name == "token").map(|(_, value)| value.clone());
    let token = token.or_else(|| request.parameter("token").map(str::to_owned));
    match token {
        Some(token) if org.sessions.close(&token) => Answer::empty(200),
        _ => refusal("invalid_token", "invalid token"),
    }
}

/// `GET /services/oauth2/userinfo`.
pub(crate) fn user_info(org: &Org) -> Answer {
    let user = org.row(&org.integration_user);
    let text = |field: &str| user.map_or(Value::Null, |row| row.get(field).clone());
    let data = format!("{}/services/data/v{{version}}", org.url);
    Answer::json(
        200,
        json!({
            "sub": identity_url(org),
            "user_id": org.integration_user,
            "organization_id": org.org_id,
            "preferred_username": text("Username"),
            "nickname": text("Alias"),
            "name": text("Name"),
            "email": text("Email"),
            "email_verified": true,
            "zoneinfo": "Etc/UTC",
            "urls": {
                "rest": format!("{data}/"),
                "sobjects": format!("{data}/sobjects/"),
                "query": format!("{data}/query/"),
            },
            "active": true,
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": 0,
            "updated_at": text("SystemModstamp"),
        }),
    )
}

/// What the identity URL of a token leads to.
pub(crate) fn identity(org: &Org) -> Answer {
    let user = org.row(&org.integration_user);
    let text = |field: &str| user.map_or(Value::Null, |row| row.get(field).clone());
    Answer::json(
        200,
        json!({
            "id": identity_url(org),
            "asserted_user": true,
            "user_id": org.integration_user,
            "organization_id": org.org_id,
            "username": text("Username"),
            "nick_name": text("Alias"),
            "display_name": text("Name"),
            "email": text("Email"),
            "active": true,
            "user_type": "STANDARD",
            "language": "en_US",
            "locale": "en_US",
            "utcOffset": 0,
        }),
    )
}
