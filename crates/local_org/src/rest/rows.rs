//! Single records (REST API guide, sObject Basic Information, Rows and Rows by External ID).

use super::{body, known};
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::schema::{Field, Object};
use crate::table::Row;
use crate::{ApiError, id, moment, soql};
use serde_json::{Map, Value, json};

pub(super) fn create(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    object: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let id = org.create(caller, &object, &body(request)?)?;
    Ok(created(&object, &id, version))
}

fn created(object: &str, id: &str, version: &str) -> Answer {
    Answer::json(201, json!({"id": id, "success": true, "errors": []}))
        .with("Location", format!("/services/data/v{version}/sobjects/{object}/{id}"))
}

/// A live record of this object, by its id.
fn find<'a>(org: &'a Org, object: &str, id: &str) -> Result<&'a Row, ApiError> {
    let name = known(org, object)?;
    let prefix = &org.object(&name).ok_or_else(ApiError::not_found)?.key_prefix;
    // What is no id of this object is taken for the name of an external id.
    let id = id::long(id)
        .filter(|id| id.starts_with(prefix.as_str()))
        .ok_or_else(|| ApiError::no_such_external_id(id))?;
    org.table(&name).and_then(|table| table.get(&id)).ok_or_else(ApiError::not_found)
}

pub(super) fn read(
    org: &Org,
    request: &Request,
    object: &str,
    id: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let row = find(org, object, id)?;
    if row.deleted {
        return Err(ApiError::not_found());
    }
    shown(org, request, &known(org, object)?, row, version)
}

fn shown(
    org: &Org,
    request: &Request,
    object: &str,
    row: &Row,
    version: &str,
) -> Result<Answer, ApiError> {
    let schema = org.object(object).ok_or_else(ApiError::not_found)?;
    let names: Vec<String> = match request.parameter("fields") {
        Some(names) => names.split(',').map(str::to_owned).collect(),
        None => schema.fields.iter().filter(|f| f.visible).map(|f| f.name.clone()).collect(),
    };
    let selected = soql::selected(org, schema, &names)?;
    let changed = moment::moment(row.text("LastModifiedDate"), true).unwrap_or_default();
    let since = request.header("if-modified-since").and_then(moment::from_http);
    let answer = if since.is_some_and(|since| changed <= since) {
        Answer::empty(304)
    } else {
        Answer::json(200, soql::render(org, object, row, &selected, version))
    };
    Ok(answer.with("Last-Modified", moment::http(changed)))
}

pub(super) fn change(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    object: &str,
    id: &str,
) -> Result<Answer, ApiError> {
    let row = find(org, object, id)?;
    if row.deleted {
        return Err(ApiError::deleted());
    }
    if let Some(header) = request.header("if-unmodified-since") {
        let Some(since) = moment::from_http(header) else {
            let message = "Invalid value for header If-Unmodified-Since";
            return Err(ApiError::new(400, "INVALID_FIELD", message));
        };
        if moment::moment(row.text("LastModifiedDate"), true).is_some_and(|at| at > since) {
            return Ok(Answer::empty(412));
        }
    }
    let id = row.id.clone();
    let body = body(request)?;
    if body.keys().any(|name| name.eq_ignore_ascii_case("id")) {
        let message = "The Id field should not be specified in the sobject data.";
        return Err(ApiError::record("INVALID_FIELD", message, &["Id"]));
    }
    org.update(caller, &id, &body)?;
    Ok(Answer::empty(204))
}

pub(super) fn delete(
    org: &mut Org,
    caller: &Caller,
    object: &str,
    id: &str,
) -> Result<Answer, ApiError> {
    let id = find(org, object, id)?.id.clone();
    org.delete(caller, &id)?;
    Ok(Answer::empty(204))
}

/// The field of an upsert, if it can be one.
pub(super) fn key<'a>(
    org: &'a Org,
    object: &str,
    field: &str,
) -> Result<(&'a Object, &'a Field), ApiError> {
    let object = org.object(object).ok_or_else(ApiError::not_found)?;
    let key = object.visible(field).filter(|f| f.id_lookup);
    key.map(|key| (object, key)).ok_or_else(|| ApiError::no_such_external_id(field))
}

/// Several records have the value: 300 and where they are.
fn ambiguous(object: &str, ids: &[String], version: &str) -> Answer {
    let urls = ids.iter().map(|id| format!("/services/data/v{version}/sobjects/{object}/{id}"));
    Answer::json(300, urls.map(Value::from).collect())
}

pub(super) fn read_by_key(
    org: &Org,
    request: &Request,
    object: &str,
    field: &str,
    value: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let (object, key) = key(org, object, field)?;
    match org.with_key(object, key, &key_value(key, value))?.as_slice() {
        [] => Err(ApiError::not_found()),
        [id] => {
            let row = org.row(id).ok_or_else(ApiError::not_found)?;
            shown(org, request, &object.name, row, version)
        }
        ids => Ok(ambiguous(&object.name, ids, version)),
    }
}

/// The value of a path as the field has it.
fn key_value(key: &Field, value: &str) -> Value {
    if key.kind.is_number()
        && let Ok(number) = value.parse::<f64>()
    {
        return number.into();
    }
    if key.name == "Id" {
        return id::long(value).unwrap_or_default().into();
    }
    value.into()
}

pub(super) fn upsert(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    object: &str,
    field: &str,
    value: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let (object, key) = key(org, object, field)?;
    let (object, key) = (object.name.clone(), key.clone());
    let mut body = body(request)?;
    if let Some(name) = body.keys().find(|name| name.eq_ignore_ascii_case(&key.name)) {
        let message = format!("The {name} field should not be specified in the sobject data.");
        return Err(ApiError::record("INVALID_FIELD", message, &[name]));
    }
    let update_only = request.parameter("updateOnly") == Some("true");
    let value = key_value(&key, value);
    let schema = org.object(&object).ok_or_else(ApiError::not_found)?;
    let ids = org.with_key(schema, &key, &value)?;
    let (status, id) = match ids.as_slice() {
        [] if update_only || key.name == "Id" => return Err(ApiError::not_found()),
        [] => {
            body.insert(key.name.clone(), value);
            (201, org.create(caller, &object, &body)?)
        }
        [id] => {
            org.update(caller, id, &body)?;
            (200, id.clone())
        }
        ids => return Ok(ambiguous(&object, ids, version)),
    };
    // Up to version 45.0 an update has no body.
    let number: f64 = version.parse().unwrap_or_default();
    let modern = number >= 46.0;
    if !modern && status == 200 {
        return Ok(Answer::empty(204));
    }
    let mut result = Map::new();
    result.insert("id".into(), id.clone().into());
    result.insert("success".into(), true.into());
    result.insert("errors".into(), json!([]));
    if modern {
        result.insert("created".into(), (status == 201).into());
    }
    let answer = Answer::json(status, Value::Object(result));
    let location = format!("/services/data/v{version}/sobjects/{object}/{id}");
    Ok(if status == 201 { answer.with("Location", location) } else { answer })
}

pub(super) fn delete_by_key(
    org: &mut Org,
    caller: &Caller,
    object: &str,
    field: &str,
    value: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let (object, key) = key(org, object, field)?;
    let name = object.name.clone();
    match org.with_key(object, key, &key_value(key, value))?.as_slice() {
        [] => Err(ApiError::not_found()),
        [id] => {
            org.delete(caller, id)?;
            Ok(Answer::empty(204))
        }
        ids => Ok(ambiguous(&name, ids, version)),
    }
}
