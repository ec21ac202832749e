//! Many records in one request (REST API guide, sObject Collections).

use super::rows::key;
use super::{body, known};
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::schema::Field;
use crate::{ApiError, id, soql};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

const MOST_RECORDS: usize = 200;
const MOST_CHUNKS: usize = 10;
/// Of the read by POST.
const MOST_IDS: usize = 2000;
/// How often one record can be in an update (SOAP API guide, update()).
const MOST_REPEATS: usize = 12;

type Record = Map<String, Value>;

/// A record with the name of its object, or why it is none.
pub(crate) type Given = Result<(String, Record), ApiError>;

/// What became of one record.
pub(crate) struct Outcome {
    /// Told with a failure too, where the caller had named it.
    pub(crate) id: Option<String>,
    pub(crate) created: Option<bool>,
    pub(crate) error: Option<ApiError>,
}

impl Outcome {
    fn failed(id: Option<String>, error: ApiError) -> Self {
        Self { id, created: None, error: Some(error) }
    }

    fn value(&self) -> Value {
        let mut map = Map::new();
        if let Some(id) = &self.id {
            map.insert("id".into(), id.clone().into());
        }
        map.insert("success".into(), self.error.is_none().into());
        map.insert("errors".into(), self.error.iter().map(ApiError::entry).collect());
        if let Some(created) = self.created.filter(|_| self.error.is_none()) {
            map.insert("created".into(), created.into());
        }
        Value::Object(map)
    }
}

/// The results in the order of the records; with `all_or_none` a failure takes all others back.
fn answer(
    org: &mut Org,
    savepoint: usize,
    all_or_none: bool,
    mut outcomes: Vec<Outcome>,
) -> Answer {
    if all_or_none && outcomes.iter().any(|outcome| outcome.error.is_some()) {
        org.roll_back(savepoint);
        let message = "Record rolled back because not all records were valid and the request was using AllOrNone header";
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.error.is_none()) {
            let rolled = ApiError::record("ALL_OR_NONE_OPERATION_ROLLED_BACK", message, &[]);
            let id = if outcome.created == Some(true) { None } else { outcome.id.take() };
            *outcome = Outcome::failed(id, rolled);
        }
    }
    Answer::json(200, outcomes.iter().map(Outcome::value).collect())
}

/// The records of a body, after all that is refused as a whole. `object` is the one that the path names.
fn records(
    org: &Org,
    request: &Request,
    object: Option<&str>,
) -> Result<(bool, Vec<Given>), ApiError> {
    let mut body = body(request)?;
    let all_or_none = body.get("allOrNone").and_then(Value::as_bool).unwrap_or_default();
    let list = match body.remove("records") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => {
            let message = "At least 1 record is required";
            return Err(ApiError::new(400, "REQUIRED_FIELD_MISSING", message));
        }
    };
    if list.len() > MOST_RECORDS {
        return Err(too_many(MOST_RECORDS));
    }
    let mut chunks = 0;
    let mut last: Option<String> = None;
    let mut records = Vec::new();
    for record in list {
        let Value::Object(record) = record else {
            return Err(ApiError::json("Unexpected character at [line:1, column:1]"));
        };
        let kind = record.get("attributes").and_then(|a| a["type"].as_str()).map(str::to_owned);
        let Some(kind) = kind else {
            let message = "Nested object for polymorphic foreign key must have an attributes field before any other fields.";
            records.push(Err(ApiError::record("JSON_PARSER_ERROR", message, &[])));
            continue;
        };
        if last.as_ref() != Some(&kind) {
            chunks += 1;
            last = Some(kind.clone());
        }
        let Some(name) = org.object(&kind).map(|o| o.name.clone()) else {
            let message = format!("sObject type '{kind}' is not supported.");
            records.push(Err(ApiError::record("INVALID_TYPE", message, &[])));
            continue;
        };
        if object.is_some_and(|object| object != name) {
            let message = format!("The record is of type {name}, which is not that of the request");
            records.push(Err(ApiError::record("INVALID_TYPE", message, &[])));
            continue;
        }
        org.check_body(&name, &record)?;
        records.push(Ok((name, record)));
    }
    if chunks > MOST_CHUNKS {
        let message = "Cannot have more than 10 chunks in a single operation. Please rearrange the data to reduce chunking.";
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
    }
    Ok((all_or_none, records))
}

fn too_many(most: usize) -> ApiError {
    let message =
        format!("record limit reached. cannot submit more than {most} records into this call");
    ApiError::new(400, "EXCEEDED_ID_LIMIT", message)
}

pub(super) fn create(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
) -> Result<Answer, ApiError> {
    let (all_or_none, records) = records(org, request, None)?;
    let savepoint = org.savepoint();
    let outcomes = create_all(org, caller, records);
    let mut answer = answer(org, savepoint, all_or_none, outcomes);
    without_created(&mut answer);
    Ok(answer)
}

pub(crate) fn create_all(org: &mut Org, caller: &Caller, records: Vec<Given>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for record in records {
        outcomes.push(
            match record.and_then(|(object, record)| org.create(caller, &object, &record)) {
                Ok(id) => Outcome { id: Some(id), created: Some(true), error: None },
                Err(error) => Outcome::failed(None, error),
            },
        );
    }
    outcomes
}

/// Only upserts tell whether a record was created.
fn without_created(answer: &mut Answer) {
    if let crate::exchange::Body::Json(Value::Array(results)) = &mut answer.body {
        for result in results.iter_mut().filter_map(Value::as_object_mut) {
            result.shift_remove("created");
        }
    }
}

/// An id as a call names it; its error is that of the record.
fn existing(org: &Org, given: &str) -> Result<String, ApiError> {
    let id = id::long(given)
        .ok_or_else(|| ApiError::record("MALFORMED_ID", format!("malformed id {given}"), &[]))?;
    if org.row(&id).is_none() {
        let message = "invalid cross reference id";
        return Err(ApiError::record("INVALID_CROSS_REFERENCE_KEY", message, &[]));
    }
    Ok(id)
}

pub(super) fn update(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
) -> Result<Answer, ApiError> {
    let (all_or_none, records) = records(org, request, None)?;
    let savepoint = org.savepoint();
    let outcomes = update_all(org, caller, records);
    Ok(answer(org, savepoint, all_or_none, outcomes))
}

pub(crate) fn update_all(org: &mut Org, caller: &Caller, records: Vec<Given>) -> Vec<Outcome> {
    let mut repeats: HashMap<String, usize> = HashMap::new();
    let mut outcomes = Vec::new();
    for record in records {
        let (object, mut record) = match record {
            Ok(record) => record,
            Err(error) => {
                outcomes.push(Outcome::failed(None, error));
                continue;
            }
        };
        let Some(given) =
            take(&mut record, "Id").as_ref().and_then(Value::as_str).map(str::to_owned)
        else {
            let message = "Id not specified in an update call";
            outcomes.push(Outcome::failed(
                None,
                ApiError::record("MISSING_ARGUMENT", message, &["Id"]),
            ));
            continue;
        };
        let result = existing(org, &given).and_then(|id| {
            if org.object_of(&id).is_none_or(|o| o.name != object) {
                let label = org.object(&object).map_or(object.as_str(), |o| &o.label);
                let message = format!("{label} ID: id value of incorrect type: {given}");
                return Err(ApiError::record("MALFORMED_ID", message, &["Id"]));
            }
            let count = repeats.entry(id.clone()).or_default();
            *count += 1;
            if *count > MOST_REPEATS {
                let message = format!(
                    "Maximum number of duplicate updates in one batch ({MOST_REPEATS} allowed). Attempt to update Id more than once in this Api call: {id}"
                );
                return Err(ApiError::record("DUPLICATE_VALUE", message, &[]));
            }
            org.update(caller, &id, &record)
        });
        let id = Some(id::long(&given).unwrap_or(given));
        outcomes.push(Outcome { id, created: None, error: result.err() });
    }
    outcomes
}

/// Takes a field out of a record, whatever the case of its name.
fn take(record: &mut Record, name: &str) -> Option<Value> {
    let name = record.keys().find(|n| n.eq_ignore_ascii_case(name))?.clone();
    record.shift_remove(&name)
}

pub(super) fn upsert(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    object: &str,
    field: &str,
) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let key = key(org, &object, field)?.1.clone();
    let (all_or_none, records) = records(org, request, Some(&object))?;
    let savepoint = org.savepoint();
    let outcomes = upsert_all(org, caller, &object, &key, records);
    Ok(answer(org, savepoint, all_or_none, outcomes))
}

pub(crate) fn upsert_all(
    org: &mut Org,
    caller: &Caller,
    object: &str,
    key: &Field,
    records: Vec<Given>,
) -> Vec<Outcome> {
    // Records of one call with the same value all fail (SOAP API guide, upsert()).
    let mut counts: HashMap<String, usize> = HashMap::new();
    let folded = |value: &Value| match value {
        Value::String(text) if !key.case_sensitive => text.trim().to_lowercase(),
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    for (_, record) in records.iter().flatten() {
        if let Some((_, value)) =
            record.iter().find(|(n, v)| n.eq_ignore_ascii_case(&key.name) && !v.is_null())
        {
            *counts.entry(folded(value)).or_default() += 1;
        }
    }
    let mut outcomes = Vec::new();
    for record in records {
        let outcome = record.and_then(|(_, mut record)| {
            let value = take(&mut record, &key.name).unwrap_or(Value::Null);
            let value = if value.as_str().is_some_and(|text| text.trim().is_empty()) {
                Value::Null
            } else {
                value
            };
            if value.is_null() {
                if key.name == "Id" {
                    return org.create(caller, object, &record).map(|id| (id, true));
                }
                let message = format!("{} not specified", key.name);
                return Err(ApiError::record("MISSING_ARGUMENT", message, &[&key.name]));
            }
            if counts.get(&folded(&value)).is_some_and(|count| *count > 1) {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let message = format!("Duplicate external id specified: {shown}");
                return Err(ApiError::record("DUPLICATE_VALUE", message, &[&key.name]));
            }
            if key.name == "Id" {
                let id = existing(org, value.as_str().unwrap_or_default())?;
                return org.update(caller, &id, &record).map(|()| (id, false));
            }
            let schema = org.object(object).ok_or_else(ApiError::not_found)?;
            match org.with_key(schema, key, &value)?.as_slice() {
                [] => {
                    record.insert(key.name.clone(), value);
                    org.create(caller, object, &record).map(|id| (id, true))
                }
                [id] => org.update(caller, id, &record).map(|()| (id.clone(), false)),
                ids => {
                    let message = format!(
                        "{}: more than one record found for external id field: [{}]",
                        key.name,
                        ids.join(", ")
                    );
                    Err(ApiError::record("DUPLICATE_EXTERNAL_ID", message, &[&key.name]))
                }
            }
        });
        outcomes.push(match outcome {
            Ok((id, created)) => Outcome { id: Some(id), created: Some(created), error: None },
            Err(error) => Outcome::failed(None, error),
        });
    }
    outcomes
}

pub(super) fn delete(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
) -> Result<Answer, ApiError> {
    let ids = request.parameter("ids").unwrap_or_default().to_owned();
    let ids: Vec<&str> = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if ids.is_empty() {
        let message = "At least 1 record is required";
        return Err(ApiError::new(400, "REQUIRED_FIELD_MISSING", message));
    }
    if ids.len() > MOST_RECORDS {
        return Err(too_many(MOST_RECORDS));
    }
    let all_or_none = request.parameter("allOrNone") == Some("true");
    let savepoint = org.savepoint();
    let outcomes = ids.into_iter().map(|id| delete_one(org, caller, id)).collect();
    Ok(answer(org, savepoint, all_or_none, outcomes))
}

pub(crate) fn delete_one(org: &mut Org, caller: &Caller, given: &str) -> Outcome {
    let result = existing(org, given).and_then(|id| org.delete(caller, &id));
    let id = Some(id::long(given).unwrap_or_else(|| given.to_owned()));
    Outcome { id, created: None, error: result.err() }
}

/// The records with these ids in their order, null where there is none.
pub(super) fn retrieve(
    org: &Org,
    request: &Request,
    object: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let (ids, fields) = if request.method == "POST" {
        let body = body(request)?;
        let list = |name: &str| -> Option<Vec<String>> {
            body.get(name)?.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
        };
        (list("ids"), list("fields"))
    } else {
        let list = |name: &str| -> Option<Vec<String>> {
            Some(request.parameter(name)?.split(',').map(str::to_owned).collect())
        };
        (list("ids"), list("fields"))
    };
    let (Some(ids), Some(fields)) = (ids, fields) else {
        let message = "The ids and fields parameters are required";
        return Err(ApiError::new(400, "REQUIRED_FIELD_MISSING", message));
    };
    if ids.len() > MOST_IDS {
        return Err(too_many(MOST_IDS));
    }
    let schema = org.object(&object).ok_or_else(ApiError::not_found)?;
    let selected = soql::selected(org, schema, &fields)?;
    let mut records = Vec::with_capacity(ids.len());
    for given in &ids {
        let id = id::long(given)
            .ok_or_else(|| ApiError::new(400, "MALFORMED_ID", format!("malformed id {given}")))?;
        let row = org.table(&object).and_then(|table| table.live(&id));
        records.push(
            row.map_or(Value::Null, |row| soql::render(org, &object, row, &selected, version)),
        );
    }
    Ok(Answer::json(200, json!(records)))
}
