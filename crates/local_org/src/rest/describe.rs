use super::known;
use crate::exchange::{Answer, Request};
use crate::org::Org;
use crate::{ApiError, describe, moment};
use serde_json::{Value, json};

pub(super) fn global(org: &Org, request: &Request, version: &str) -> Answer {
    let list: Vec<Value> =
        org.objects.iter().map(|o| Value::Object(describe::summary(o, version))).collect();
    unless_known(
        org,
        request,
        || json!({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": list}),
    )
}

pub(super) fn basic(org: &Org, object: &str, version: &str) -> Result<Answer, ApiError> {
    let object = org.object(object).ok_or_else(ApiError::not_found)?;
    let summary = describe::summary(object, version);
    Ok(Answer::json(200, json!({"objectDescribe": summary, "recentItems": []})))
}

pub(super) fn full(
    org: &Org,
    request: &Request,
    object: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let name = known(org, object)?;
    let object = org.object(&name).ok_or_else(ApiError::not_found)?;
    Ok(unless_known(org, request, || describe::full(object, &org.objects, version)))
}

/// With an ETag and the moment of the last change, by which a client can ask again
/// (REST API guide, Conditional Requests).
fn unless_known(org: &Org, request: &Request, body: impl FnOnce() -> Value) -> Answer {
    let tag = format!("\"{:x}\"", org.schema_changed);
    let changed = org.schema_changed.div_euclid(1000) * 1000;
    let same_tag = request.header("if-none-match").map(|tags| tags.split(", ").any(|t| t == tag));
    let unchanged = same_tag.unwrap_or_else(|| {
        let since = request.header("if-modified-since").and_then(moment::from_http);
        since.is_some_and(|since| changed <= since)
    });
    let answer = if unchanged { Answer::empty(304) } else { Answer::json(200, body()) };
    answer.with("ETag", tag).with("Last-Modified", moment::http(changed))
}
