//! Several requests in one (REST API guide, Composite).

use super::{body, serve};
use crate::ApiError;
use crate::duplicates::Insistence;
use crate::exchange::{Answer, Body, Request};
use crate::org::{Caller, Org};
use serde_json::{Map, Value, json};

const MOST_REQUESTS: usize = 25;
/// Queries and Collections among them.
const MOST_LARGE: usize = 5;

pub(super) struct Part {
    pub(super) reference: String,
    pub(super) request: Map<String, Value>,
}

impl Part {
    fn text(&self, name: &str) -> &str {
        self.request.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// What is asked: the method and the object.
    pub(super) fn kind(&self) -> (String, Option<String>) {
        let segments = Request::new("GET", self.text("url")).segments();
        (self.text("method").to_uppercase(), segments.get(4).map(|object| object.to_lowercase()))
    }

    /// A query, or one of sObject Collections.
    fn is_large(&self) -> bool {
        let segments = Request::new("GET", self.text("url")).segments();
        match segments.get(3).map(String::as_str) {
            Some("query" | "queryAll") => true,
            Some("composite") => segments.get(4).is_some_and(|s| s == "sobjects"),
            _ => false,
        }
    }
}

pub(super) fn composite(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
) -> Result<Answer, ApiError> {
    let body = body(request)?;
    let all_or_none = body.get("allOrNone").and_then(Value::as_bool).unwrap_or_default();
    let parts = parts(&body)?;
    check_number(&parts)?;
    let (results, _) = carry_out(org, caller, &parts, all_or_none);
    Ok(Answer::json(200, json!({"compositeResponse": results})))
}

/// The parts one after the other; tells their results, and whether all went well.
pub(super) fn carry_out(
    org: &mut Org,
    caller: &Caller,
    parts: &[Part],
    all_or_none: bool,
) -> (Vec<Value>, bool) {
    let savepoint = org.savepoint();
    let mut answers: Vec<(String, Value)> = Vec::new();
    let mut results: Vec<(u16, Value, Map<String, Value>)> = Vec::new();
    for part in parts {
        let answer = match build(part, &answers) {
            Ok(request) => {
                let caller = Caller {
                    method: request.method.clone(),
                    path: request.path.clone(),
                    insistence: caller.insistence.or(Insistence::of(&request)),
                    ..caller.clone()
                };
                let before = org.savepoint();
                let answer = serve(org, &caller, &request);
                if answer.status >= 400 {
                    org.roll_back(before);
                }
                answer
            }
            Err(error) => error.into(),
        };
        let headers = answer.headers.iter().filter(|(name, _)| ["Location", "ETag"].contains(name));
        let headers = headers.map(|(n, v)| ((*n).to_owned(), Value::from(v.as_str()))).collect();
        let body = match answer.body {
            Body::Json(value) => value,
            Body::Empty | Body::Html(_) | Body::Xml(_) | Body::Csv(_) => Value::Null,
        };
        answers.push((part.reference.clone(), body.clone()));
        results.push((answer.status, body, headers));
        if all_or_none && answer.status >= 400 {
            break;
        }
    }
    let culprit = results.iter().position(|(status, ..)| *status >= 400);
    if all_or_none && let Some(culprit) = culprit {
        org.roll_back(savepoint);
        results.resize(parts.len(), (400, halted(), Map::new()));
        for (index, result) in results.iter_mut().enumerate() {
            if index != culprit {
                *result = (400, halted(), Map::new());
            }
        }
    }
    let results = parts.iter().zip(results);
    let results =
        results.map(|(part, (status, body, headers))| result(part, status, body, headers));
    (results.collect(), culprit.is_none())
}

/// The body of a part that was taken back, or never tried, because of another one.
pub(super) fn halted() -> Value {
    let message =
        "The transaction was rolled back since another operation in the same transaction failed.";
    json!([ApiError::new(400, "PROCESSING_HALTED", message).body()])
}

pub(super) fn result(part: &Part, status: u16, body: Value, headers: Map<String, Value>) -> Value {
    json!({
        "body": body,
        "httpHeaders": headers,
        "httpStatusCode": status,
        "referenceId": part.reference,
    })
}

fn check_number(parts: &[Part]) -> Result<(), ApiError> {
    if parts.len() > MOST_REQUESTS {
        let message = format!("The number of subrequests has to be from 1 to {MOST_REQUESTS}");
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
    }
    let large = parts.iter().filter(|part| part.is_large()).count();
    if large > MOST_LARGE {
        let message =
            format!("No more than {MOST_LARGE} subrequests can be queries or sObject Collections");
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
    }
    Ok(())
}

/// The parts of a request, after all that makes it fail as a whole.
pub(super) fn parts(body: &Map<String, Value>) -> Result<Vec<Part>, ApiError> {
    let Some(Value::Array(list)) = body.get("compositeRequest") else {
        return Err(ApiError::json(
            "Missing required field: compositeRequest at [line:1, column:1]",
        ));
    };
    if list.is_empty() {
        let message = "At least one subrequest is needed";
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
    }
    let mut parts: Vec<Part> = Vec::new();
    for value in list {
        let Value::Object(request) = value else {
            return Err(ApiError::json("Unexpected character at [line:1, column:1]"));
        };
        let text = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let reference = text("referenceId");
        let right = reference.starts_with(|c: char| c.is_ascii_alphabetic())
            && reference.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if !right || parts.iter().any(|part| part.reference == reference) {
            let message = format!(
                "Provided referenceId ('{reference}') must start with a letter or a number, it can contain only letters, numbers and underscores, and it must be unique"
            );
            return Err(ApiError::new(400, "INVALID_REQUEST", message));
        }
        parts.push(Part { reference: reference.to_owned(), request: request.clone() });
    }
    Ok(parts)
}

/// A part with its references resolved.
fn build(part: &Part, answers: &[(String, Value)]) -> Result<Request, ApiError> {
    let url = fill(part.text("url"), answers)?;
    if !url.starts_with("/services/data/") {
        return Err(ApiError::not_found());
    }
    let mut request = Request::new(part.text("method"), &url);
    if let Some(Value::Object(headers)) = part.request.get("httpHeaders") {
        let headers =
            headers.iter().filter_map(|(n, v)| Some((n.to_lowercase(), v.as_str()?.to_owned())));
        request.headers = headers.collect();
    }
    if let Some(body) = part.request.get("body").filter(|body| !body.is_null()) {
        request.body = filled(body, answers)?.to_string().into_bytes();
    }
    // A part of this kind is refused by its path.
    let segments = request.segments();
    let inner = segments.get(4).map(String::as_str);
    if segments.get(3).is_some_and(|s| s == "composite") && inner != Some("sobjects") {
        return Err(ApiError::new(
            400,
            "INVALID_REQUEST",
            "A composite request can't contain another one",
        ));
    }
    Ok(request)
}

fn filled(value: &Value, answers: &[(String, Value)]) -> Result<Value, ApiError> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix("@{").and_then(|t| t.strip_suffix('}')) {
            Some(path) if !path.contains('}') => lookup(path, answers)?.clone(),
            _ => fill(text, answers)?.into(),
        },
        Value::Array(list) => list.iter().map(|v| filled(v, answers)).collect::<Result<_, _>>()?,
        Value::Object(map) => {
            let mut new = Map::new();
            for (name, value) in map {
                new.insert(name.clone(), filled(value, answers)?);
            }
            Value::Object(new)
        }
        other => other.clone(),
    })
}

/// A text with the references in it replaced.
fn fill(text: &str, answers: &[(String, Value)]) -> Result<String, ApiError> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("@{") {
        filled.push_str(before);
        let Some((path, behind)) = behind.split_once('}') else {
            return Err(unknown(text));
        };
        match lookup(path, answers)? {
            Value::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// `ref.id`, `ref.records[0].Id`, `ref[0].id`.
fn lookup<'a>(path: &str, answers: &'a [(String, Value)]) -> Result<&'a Value, ApiError> {
    let path_text = path.replace('[', ".[");
    let mut steps = path_text.split('.');
    let name = steps.next().unwrap_or_default();
    let answer = answers.iter().find(|(reference, _)| reference == name);
    let mut value = answer.map(|(_, body)| body);
    for step in steps {
        let index = step.strip_prefix('[').and_then(|s| s.strip_suffix(']'));
        value = value.and_then(|value| match index {
            Some(index) => value.get(index.parse::<usize>().ok()?),
            None => value.get(step),
        });
    }
    value.filter(|value| !value.is_null()).ok_or_else(|| unknown(path))
}

fn unknown(path: &str) -> ApiError {
    let name = path.split(['.', '[']).next().unwrap_or_default();
    let message = format!("Invalid reference specified. No value for {path} found in {name}");
    ApiError::new(400, "PROCESSING_HALTED", message)
}
