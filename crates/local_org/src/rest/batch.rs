//! Several requests that have nothing to do with each other (REST API guide, Composite Batch).

use super::{body, serve};
use crate::ApiError;
use crate::exchange::{Answer, Body, Request};
use crate::gate::limit_exceeded;
use crate::org::{Caller, Org};
use serde_json::{Map, Value, json};

const MOST_REQUESTS: usize = 25;

/// Each part counts as a call of its own; the first is the one that was counted already.
pub(super) fn batch(org: &mut Org, caller: &Caller, request: &Request) -> Result<Answer, ApiError> {
    let body = body(request)?;
    let halt = body.get("haltOnError").and_then(Value::as_bool).unwrap_or_default();
    let Some(Value::Array(list)) = body.get("batchRequests") else {
        return Err(ApiError::json("Missing required field: batchRequests at [line:1, column:1]"));
    };
    if list.is_empty() || list.len() > MOST_REQUESTS {
        let message = format!("The number of subrequests has to be from 1 to {MOST_REQUESTS}");
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
    }
    let parts: Vec<&Map<String, Value>> = list.iter().filter_map(Value::as_object).collect();
    if parts.len() < list.len() {
        return Err(ApiError::json("Unexpected character at [line:1, column:1]"));
    }
    let mut failed = false;
    let mut results = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        let answer = if failed && halt {
            let message = "The request was not tried, because an earlier one of the batch failed";
            ApiError::new(412, "BATCH_PROCESSING_HALTED", message).into()
        } else if index > 0 && org.used >= org.daily_limit {
            limit_exceeded()
        } else {
            org.used += u64::from(index > 0);
            carry_out(org, caller, part)
        };
        failed |= answer.status >= 400;
        let result = match answer.body {
            Body::Json(value) => value,
            _ => Value::Null,
        };
        results.push(json!({"statusCode": answer.status, "result": result}));
    }
    Ok(Answer::json(200, json!({"hasErrors": failed, "results": results})))
}

/// One part, in a transaction of its own.
fn carry_out(org: &mut Org, caller: &Caller, part: &Map<String, Value>) -> Answer {
    let text = |name: &str| part.get(name).and_then(Value::as_str).unwrap_or_default();
    let url = text("url").trim_start_matches('/').trim_start_matches("services/data/");
    let mut request = Request::new(text("method"), &format!("/services/data/{url}"));
    if request.segments().get(3).is_some_and(|s| s == "composite") {
        let message = "A batch can't contain a composite request";
        return ApiError::new(400, "INVALID_REQUEST", message).into();
    }
    if let Some(input) = part.get("richInput").filter(|input| !input.is_null()) {
        request.body = input.to_string().into_bytes();
    }
    let caller =
        Caller { method: request.method.clone(), path: request.path.clone(), ..caller.clone() };
    let answer = serve(org, &caller, &request);
    if answer.status < 400 {
        org.commit();
    } else {
        org.roll_back(0);
    }
    answer
}
