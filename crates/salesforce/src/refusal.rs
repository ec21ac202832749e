use std::time::{Duration, SystemTime};

use connector::{Fault, FaultKind};
use egress::header::{HeaderMap, RETRY_AFTER};
use egress::{Response, StatusCode};
use serde_json::Value;

use crate::{codes, id, json};

/// Longer texts of the org are cut: a trigger's message can hold a whole stack.
const LONGEST_MESSAGE: usize = 1000;

/// An answer that is no success, sorted. The body is a JSON array of errors on the REST API, an
/// object at the token endpoint, and at times HTML or nothing at all from whatever stands in front.
pub(crate) fn of_answer(answer: &Response) -> Fault {
    let body = json::read(&answer.body).unwrap_or(Value::Null);
    let mut fault = of_body(answer.status, &body);
    fault.about.request_id = request_id(&answer.headers);
    if let Some(wait) = retry_after(&answer.headers) {
        fault.retry_after = Some(wait);
    }
    fault
}

/// The same of a subrequest, of which status and body lie in the answer of the whole.
pub(crate) fn of_body(status: StatusCode, body: &Value) -> Fault {
    let entry = match body {
        Value::Array(entries) => entries.first().unwrap_or(&Value::Null),
        other => other,
    };
    if let Some(code) = text(entry, &["errorCode", "statusCode", "error"]) {
        let mut fault = of_entry(entry);
        // A code that is not known says less than the status does.
        if fault.kind == FaultKind::Refused && !codes::is_known(code) {
            fault.kind = kind_of_status(status).unwrap_or(FaultKind::Refused);
        }
        return fault;
    }
    // 300: an array of the URLs of several records with one external id (REST API guide, upsert).
    if status.as_u16() == 300 {
        let message = "several records have this external id";
        return Fault::new(FaultKind::Conflict, "DUPLICATE_EXTERNAL_ID", message);
    }
    let kind = kind_of_status(status).unwrap_or(FaultKind::Defect);
    let code = format!("HTTP_{}", status.as_u16());
    let mut fault =
        Fault::new(kind, code, format!("the org answered {status} without an error of its own"));
    if status.is_redirection() {
        fault.hint = "The URL of the org leads elsewhere. Use its My Domain.".to_owned();
    }
    fault
}

/// One entry of a list of errors: of a request, or of a record in the collections API.
pub(crate) fn of_entry(entry: &Value) -> Fault {
    let code = text(entry, &["errorCode", "statusCode", "error"]).unwrap_or("UNKNOWN_ERROR");
    let message = text(entry, &["message", "error_description"]).unwrap_or_default();
    let shown = if message.is_empty() { "the org gives no reason" } else { message };
    let mut fault =
        Fault::new(codes::kind(code, message), short(code, 100), short(shown, LONGEST_MESSAGE));
    if let Some(fields) = entry.get("fields").and_then(Value::as_array) {
        fault.about.fields =
            fields.iter().filter_map(Value::as_str).map(|f| short(f, 255)).take(100).collect();
    }
    fault.retry_after = codes::wait(code, message);
    fault.hint = codes::hint(code, message).to_owned();
    fault.about.existing_id = match code {
        "DUPLICATE_VALUE" => id::after(message, "record with id: "),
        "DUPLICATES_DETECTED" => only_match(entry),
        _ => None,
    };
    fault
}

/// The record that a duplicate rule found, where it is a single one.
fn only_match(entry: &Value) -> Option<String> {
    let list = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut found = list(entry.get("duplicateResult")?, "matchResults")
        .iter()
        .flat_map(|result| list(result, "matchRecords"))
        .filter_map(|m| m.get("record")?.get("Id")?.as_str().map(id::long))
        .collect::<Vec<_>>();
    found.sort_unstable();
    found.dedup();
    (found.len() == 1).then(|| found.swap_remove(0))
}

/// What a status says where no code does (REST API guide, status codes and error responses).
fn kind_of_status(status: StatusCode) -> Option<FaultKind> {
    Some(match status.as_u16() {
        401 => FaultKind::Credentials,
        409 | 412 => FaultKind::Conflict,
        // 406 with an empty body, 420 and 428 come from the edge, which could not pass the request on.
        406 | 408 | 420 | 428 | 429 | 500..=599 => FaultKind::Transient,
        // A redirect, a retired version, a path that is not there, a URL that is too long.
        301..=399 | 403 | 404 | 405 | 410 | 414 | 415 | 431 => FaultKind::Configuration,
        _ => return None,
    })
}

pub(crate) fn request_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-sfdc-request-id").or_else(|| headers.get("x-request-id"))?;
    value.to_str().ok().map(|text| short(text, 100))
}

/// Seconds, or a moment (RFC 9110, 10.2.3); more than a day is not believed.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()?,
    };
    Some(wait.min(Duration::from_secs(86_400)))
}

fn text<'a>(entry: &'a Value, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| entry.get(name)?.as_str())
}

/// At most so many characters of a text.
fn short(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
