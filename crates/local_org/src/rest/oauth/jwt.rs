//! The JWT bearer flow (Salesforce help, OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration).

use super::{Login, Refusal, refused};
use crate::org::Org;
use crate::session::Grant;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// How far clocks may be apart, in milliseconds.
const SKEW: i64 = 3 * 60 * 1000;

pub(super) fn bearer(org: &mut Org, assertion: &str) -> Result<Login, Refusal> {
    let invalid = || ("invalid_grant", "invalid assertion".to_owned());
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(invalid)?;
    let (header, claims) = signed.split_once('.').ok_or_else(invalid)?;
    let (header, claims) = (part(header).ok_or_else(invalid)?, part(claims).ok_or_else(invalid)?);
    let claim = |name: &str| claims[name].as_str().unwrap_or_default();
    let client = claim("iss").to_owned();
    let Some(app) = org.sessions.apps.get(&client) else {
        return refused("invalid_client_id", "client identifier invalid");
    };
    let Some(certificate) = &app.certificate else {
        return refused("invalid_client", "invalid client credentials");
    };
    if header["alg"] != "RS256" || !certificate.verifies(signed, signature) {
        return Err(invalid());
    }
    let audience = match &claims["aud"] {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect::<Vec<_>>(),
    };
    let ours = ["https://login.salesforce.com", org.url.as_str()];
    if !audience.iter().any(|audience| ours.contains(&audience.trim_end_matches('/'))) {
        return refused("invalid_grant", "Audience validation failed");
    }
    // Clients send it as a number or as a text of one.
    let expires = match &claims["exp"] {
        Value::String(text) => text.parse::<f64>().ok(),
        other => other.as_f64(),
    };
    let expires = expires.ok_or_else(invalid)?;
    let approved = app.approved;
    if (expires * 1000.0) as i64 + SKEW <= org.clock.now() {
        return refused("invalid_grant", "expired authorization code");
    }
    let user = org.user_named(claim("sub")).filter(|_| approved);
    let Some(user) = user else {
        return refused("invalid_grant", "user hasn't approved this consumer");
    };
    if !org.is_active(&user) {
        return refused("inactive_user", "user is inactive");
    }
    Ok(Login { grant: Grant { user, client }, scope: Some("api"), parent: None, told: false })
}

fn part(encoded: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}
