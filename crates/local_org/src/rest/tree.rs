//! Records with their children in one request, all or none (REST API guide, sObject Tree).

use super::{body, known};
use crate::ApiError;
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const MOST_RECORDS: usize = 200;
const MOST_TYPES: usize = 5;
const DEEPEST: usize = 5;

/// A record without its children, and where it stands.
struct Node {
    reference: String,
    object: String,
    values: Map<String, Value>,
    /// The field that points to its parent, and which node that is.
    parent: Option<(String, usize)>,
}

pub(super) fn create(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    object: &str,
) -> Result<Answer, ApiError> {
    let object = known(org, object)?;
    let mut tree = Tree { org, nodes: Vec::new(), errors: Vec::new() };
    tree.records(&object, &body(request)?, None, 1)?;
    let Tree { nodes, mut errors, .. } = tree;
    let types: BTreeSet<&str> = nodes.iter().map(|node| node.object.as_str()).collect();
    if nodes.len() > MOST_RECORDS || types.len() > MOST_TYPES {
        let message = format!(
            "No more than {MOST_RECORDS} records of {MOST_TYPES} types are allowed in one request"
        );
        return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
    }
    let savepoint = org.savepoint();
    // Parents come before their children; those of a parent that failed are not tried.
    let mut ids: Vec<Option<String>> = Vec::new();
    let tried = if errors.is_empty() { nodes.as_slice() } else { &[] };
    for node in tried {
        let mut values = node.values.clone();
        if let Some((field, parent)) = &node.parent {
            let Some(Some(id)) = ids.get(*parent) else {
                ids.push(None);
                continue;
            };
            values.insert(field.clone(), id.clone().into());
        }
        match org.create(caller, &node.object, &values) {
            Ok(id) => ids.push(Some(id)),
            Err(error) => {
                errors.push((node.reference.clone(), error));
                ids.push(None);
            }
        }
    }
    if !errors.is_empty() {
        org.roll_back(savepoint);
        let results: Vec<Value> = errors
            .iter()
            .map(|(reference, error)| json!({"referenceId": reference, "errors": [error.entry()]}))
            .collect();
        return Ok(Answer::json(400, json!({"hasErrors": true, "results": results})));
    }
    let results: Vec<Value> = nodes
        .iter()
        .zip(ids)
        .map(|(node, id)| json!({"referenceId": node.reference, "id": id}))
        .collect();
    Ok(Answer::json(201, json!({"hasErrors": false, "results": results})))
}

/// A request as it is taken apart, level by level.
struct Tree<'a> {
    org: &'a Org,
    nodes: Vec<Node>,
    errors: Vec<(String, ApiError)>,
}

impl Tree<'_> {
    /// The records of one level, with all below them.
    fn records(
        &mut self,
        object: &str,
        level: &Map<String, Value>,
        parent: Option<(String, usize)>,
        depth: usize,
    ) -> Result<(), ApiError> {
        if depth > DEEPEST {
            let message = format!("Records can be nested {DEEPEST} levels deep");
            return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
        }
        let Some(Value::Array(records)) = level.get("records") else {
            return Err(ApiError::json("Missing required field: records at [line:1, column:1]"));
        };
        for record in records {
            let Value::Object(record) = record else {
                return Err(ApiError::json("Unexpected character at [line:1, column:1]"));
            };
            self.record(object, record, parent.clone(), depth)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        object: &str,
        record: &Map<String, Value>,
        parent: Option<(String, usize)>,
        depth: usize,
    ) -> Result<(), ApiError> {
        let attribute = |name: &str| {
            let value = record.get("attributes").and_then(|a| a[name].as_str());
            value.unwrap_or_default().to_owned()
        };
        let (kind, reference) = (attribute("type"), attribute("referenceId"));
        let mut wrong = |message: String| {
            let error = ApiError::record("INVALID_INPUT", message, &[]);
            self.errors.push((reference.clone(), error));
        };
        if reference.is_empty() {
            wrong("Include a reference ID for each record in the request.".into());
        } else if self.nodes.iter().any(|node| node.reference == reference) {
            wrong("Duplicate ReferenceId provided in the request.".into());
        }
        if !kind.eq_ignore_ascii_case(object) {
            wrong(format!("The record is of type {kind} where {object} is expected"));
        }
        let own = self.nodes.len();
        let mut values = Map::new();
        let mut below = Vec::new();
        for (name, value) in record {
            match value {
                Value::Object(level) if level.contains_key("records") => {
                    match self.org.child_relationship(object, name) {
                        Some((child, field)) => below.push((child, field, level)),
                        None => {
                            let message =
                                format!("No such relationship '{name}' on object {object}");
                            self.errors.push((
                                reference.clone(),
                                ApiError::record("INVALID_FIELD", message, &[name]),
                            ));
                        }
                    }
                }
                other => {
                    values.insert(name.clone(), other.clone());
                }
            }
        }
        self.nodes.push(Node { reference, object: object.to_owned(), values, parent });
        for (child, field, level) in below {
            self.records(&child, level, Some((field, own)), depth + 1)?;
        }
        Ok(())
    }
}
