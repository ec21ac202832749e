use std::time::SystemTime;

use connector::{Fault, FaultKind, Usage};
use egress::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_NONE_MATCH};
use egress::{Method, Response, StatusCode};
use serde_json::Value;

use crate::client::Salesforce;
use crate::json;
use crate::refusal;
use crate::session::{Session, repeatable};

/// A request of the REST API.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// With its query; below the instance.
    pub(crate) path: String,
    pub(crate) body: Option<Content>,
    /// The kind of answer that is wanted.
    pub(crate) accept: &'static str,
    /// Does it change records, so that an answer that is lost leaves something open?
    pub(crate) writes: bool,
    /// Does it use up the allowance?
    pub(crate) counts: bool,
    /// The tag of what is known already: an answer 304 says that it still holds.
    pub(crate) known: Option<HeaderValue>,
}

/// What a request carries.
pub(crate) enum Content {
    Json(Value),
    Csv(Vec<u8>),
}

const JSON: &str = "application/json";
const CSV: &str = "text/csv";

impl Call {
    pub(crate) fn get(path: String) -> Self {
        Self {
            method: Method::GET,
            path,
            body: None,
            accept: JSON,
            writes: false,
            counts: true,
            known: None,
        }
    }

    /// For an answer in CSV.
    pub(crate) fn get_csv(path: String) -> Self {
        Self { accept: CSV, ..Self::get(path) }
    }

    pub(crate) fn read(path: String, body: Value) -> Self {
        Self { method: Method::POST, body: Some(Content::Json(body)), ..Self::get(path) }
    }

    pub(crate) fn write(method: Method, path: String, body: Option<Value>) -> Self {
        Self { method, body: body.map(Content::Json), writes: true, ..Self::get(path) }
    }
}

impl Salesforce {
    /// Sends a request and reads its JSON. A session that the org no longer accepts is renewed once,
    /// and the request repeated: it was turned away at the door.
    pub(crate) async fn call(&self, call: &Call) -> Result<Value, Fault> {
        let answer = self.answer(call).await?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        json::read(&answer.body).ok_or_else(|| {
            let kind = if call.writes { FaultKind::Ambiguous } else { FaultKind::Transient };
            let mut fault = Fault::new(kind, "NOT_JSON", "the org's answer is no JSON");
            fault.about.request_id = refusal::request_id(&answer.headers);
            fault
        })
    }

    /// The same, with the answer as it is. Anything but a success is a fault.
    pub(crate) async fn answer(&self, call: &Call) -> Result<Response, Fault> {
        let mut dead = None;
        loop {
            let session = self.session(dead).await?;
            let answer = self.send(call, &session).await?;
            let holds = answer.status == StatusCode::NOT_MODIFIED && call.known.is_some();
            if answer.status.is_success() || holds {
                return Ok(answer);
            }
            let fault = refusal::of_answer(&answer);
            if is_dead_session(&answer, &fault) {
                if dead.is_none() {
                    dead = Some(session.login);
                    continue;
                }
                return Err(self.redacted(turned_away(fault), Some(&session)));
            }
            return Err(self.redacted(in_doubt(call, &answer, fault), Some(&session)));
        }
    }

    async fn send(&self, call: &Call, session: &Session) -> Result<Response, Fault> {
        let url = self.http.policy().url(&format!("{}{}", session.origin, call.path))?;
        let mut request = self.http.request(call.method.clone(), url);
        let headers = request.headers_mut();
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", session.token.reveal()))
            .map_err(|_| {
                Fault::new(FaultKind::Credentials, "INVALID_TOKEN", "the org's token can't be sent")
            })?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        headers.insert(ACCEPT, HeaderValue::from_static(call.accept));
        headers.insert("sforce-call-options", self.call_options.clone());
        headers.insert("sforce-query-options", HeaderValue::from_static("batchSize=2000"));
        // Assignment rules would change the owner of leads and cases behind our back.
        headers.insert("sforce-auto-assign", HeaderValue::from_static("FALSE"));
        if let Some(tag) = &call.known {
            headers.insert(IF_NONE_MATCH, tag.clone());
        }
        if let Some(body) = &call.body {
            let (kind, bytes) = match body {
                Content::Json(value) => (JSON, value.to_string().into_bytes()),
                Content::Csv(bytes) => (CSV, bytes.clone()),
            };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            *request.body_mut() = Some(bytes.into());
        }
        if call.counts {
            self.count_call();
        }
        let answer = self.http.send(request).await;
        let answer = answer.map_err(|fault| if call.writes { fault } else { repeatable(fault) })?;
        self.note_headers(&answer.headers);
        Ok(answer)
    }

    /// `Sforce-Limit-Info: api-usage=18/15000; per-app-api-usage=…` It lags, goes backwards at times
    /// and may be missing: a hint.
    pub(crate) fn note_headers(&self, headers: &HeaderMap) {
        let Some(info) = headers.get("sforce-limit-info").and_then(|value| value.to_str().ok())
        else {
            return;
        };
        let usage = info
            .split([';', ','])
            .find_map(|part| part.trim().strip_prefix("api-usage="))
            .and_then(|numbers| numbers.split_once('/'))
            .and_then(|(used, allowed)| {
                Some((used.trim().parse().ok()?, allowed.trim().parse().ok()?))
            });
        if let Some((used, allowed)) = usage {
            self.note_usage(Usage { used, allowed, at: SystemTime::now() });
        }
    }
}

/// Does the answer say that the session has ended? Any 401 does, except those that a new login does
/// not heal; the identity endpoints say it with 403.
fn is_dead_session(answer: &Response, fault: &Fault) -> bool {
    match answer.status.as_u16() {
        401 => {
            !fault.message.contains("not valid for use with the REST API")
                && !fault.message.contains("Connected app is not attached")
        }
        403 => answer.body.trim_ascii() == b"Bad_OAuth_Token",
        _ => false,
    }
}

/// A session just made is not accepted either.
fn turned_away(fault: Fault) -> Fault {
    Fault {
        kind: FaultKind::Credentials,
        hint: "The org gives out a token and then refuses it. Check the scopes of the app and the permissions of its user.".to_owned(),
        ..fault
    }
}

/// A write that ended in an error of the server may have been carried out, unless the org itself
/// says that it did not begin.
fn in_doubt(call: &Call, answer: &Response, mut fault: Fault) -> Fault {
    let refused_at_the_door = matches!(
        fault.code.as_str(),
        "SERVER_UNAVAILABLE" | "API_CURRENTLY_DISABLED" | "REQUEST_LIMIT_EXCEEDED"
    );
    let failed = answer.status.is_server_error() || answer.status.as_u16() == 408;
    let gave_up = matches!(fault.code.as_str(), "REQUEST_RUNNING_TOO_LONG" | "UNKNOWN_EXCEPTION");
    if call.writes && (failed || gave_up) && !refused_at_the_door {
        fault.kind = FaultKind::Ambiguous;
    }
    // What is left of 401 here is what no login heals.
    if answer.status.as_u16() == 401 {
        fault.kind = FaultKind::Configuration;
        fault.hint = "Give the app the scope api.".to_owned();
    }
    fault
}
