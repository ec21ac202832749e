//! The authorization code flow (Salesforce help, OAuth 2.0 Web Server Flow), with the proof of RFC 7636.

use super::{Form, Login, Refusal, answer, refused};
use crate::exchange::{Answer, Request, encode};
use crate::org::Org;
use crate::session::Grant;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

/// `GET /services/oauth2/authorize`: nobody is asked, the integration user approves at once.
pub(crate) fn authorize(org: &mut Org, request: &Request) -> Answer {
    let form = Form::of(request);
    match approve(org, &form) {
        Ok(location) => Answer::empty(302).with("Location", location),
        Err(refusal) => answer(refusal),
    }
}

fn approve(org: &mut Org, form: &Form<'_>) -> Result<String, Refusal> {
    if form.need("response_type")? != "code" {
        return refused("unsupported_response_type", "response type must be code");
    }
    let client = form.need("client_id")?.to_owned();
    if !org.sessions.apps.contains_key(&client) {
        return refused("invalid_client_id", "client identifier invalid");
    }
    let redirect = form.need("redirect_uri")?.to_owned();
    let challenge = form.get("code_challenge").map(str::to_owned);
    let grant = Grant { user: org.integration_user.clone(), client };
    let code = org.sessions.code(grant, redirect.clone(), challenge);
    let mark = if redirect.contains('?') { '&' } else { '?' };
    let mut location = format!("{redirect}{mark}code={}", encode(&code));
    if let Some(state) = form.get("state") {
        location.push_str(&format!("&state={}", encode(state)));
    }
    Ok(location)
}

pub(super) fn redeem(org: &mut Org, form: &Form<'_>) -> Result<Login, Refusal> {
    let given = form.need("code")?.to_owned();
    let redirect = form.need("redirect_uri")?;
    let client = form.proven(org)?;
    let code = org.sessions.redeem(&given).filter(|code| code.grant.client == client);
    let Some(code) = code else {
        return refused("invalid_grant", "expired authorization code");
    };
    if code.redirect != redirect {
        return refused("redirect_uri_mismatch", "redirect_uri must match configuration");
    }
    if let Some(challenge) = code.challenge {
        let verifier = form.need("code_verifier")?;
        if URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())) != challenge {
            return refused("invalid_grant", "invalid code verifier");
        }
    }
    let parent = org.sessions.grant(code.grant.clone());
    let scope = Some("refresh_token api");
    Ok(Login { grant: code.grant, scope, parent: Some(parent), told: true })
}
