//! Several requests that depend on each other, all or none of each graph (REST API guide, Composite Graph).

use super::body;
use super::composite::{Part, carry_out, halted, parts, result};
use crate::ApiError;
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const MOST_GRAPHS: usize = 75;
/// In all graphs of a request.
const MOST_NODES: usize = 500;
const MOST_KINDS: usize = 15;
/// Of requests that use each other's answers.
const DEEPEST: usize = 15;
/// After so many that failed, the rest is not tried.
const MOST_FAILED: usize = 14;

pub(super) fn graphs(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
) -> Result<Answer, ApiError> {
    let graphs = graphs_of(&body(request)?)?;
    let mut failed = 0;
    let mut results = Vec::new();
    for (id, parts) in graphs {
        let (responses, successful) = if failed >= MOST_FAILED {
            let none = parts.iter().map(|part| result(part, 400, halted(), Map::new()));
            (none.collect(), false)
        } else {
            carry_out(org, caller, &parts, true)
        };
        // Each graph is a transaction of its own.
        if successful {
            org.commit();
        } else {
            failed += 1;
        }
        results.push(json!({
            "graphId": id,
            "graphResponse": {"compositeResponse": responses},
            "isSuccessful": successful,
        }));
    }
    Ok(Answer::json(200, json!({"graphs": results})))
}

/// The graphs of a request, after all that makes it fail as a whole.
fn graphs_of(body: &Map<String, Value>) -> Result<Vec<(String, Vec<Part>)>, ApiError> {
    let too_many = |what: &str, most: usize| {
        let message = format!("No more than {most} {what} are allowed in one request");
        Err(ApiError::new(400, "LIMIT_EXCEEDED", message))
    };
    let Some(Value::Array(list)) = body.get("graphs") else {
        return Err(ApiError::json("Missing required field: graphs at [line:1, column:1]"));
    };
    if list.is_empty() || list.len() > MOST_GRAPHS {
        return too_many("graphs", MOST_GRAPHS);
    }
    let mut graphs: Vec<(String, Vec<Part>)> = Vec::new();
    let mut kinds = BTreeSet::new();
    for graph in list {
        let Value::Object(graph) = graph else {
            return Err(ApiError::json("Unexpected character at [line:1, column:1]"));
        };
        let id = graph.get("graphId").and_then(Value::as_str).unwrap_or_default();
        if id.is_empty() || graphs.iter().any(|(other, _)| other == id) {
            let message = format!("Provided graphId ('{id}') must be unique and not empty");
            return Err(ApiError::new(400, "INVALID_REQUEST", message));
        }
        let parts = parts(graph)?;
        if depth(&parts) > DEEPEST {
            return too_many("levels", DEEPEST);
        }
        kinds.extend(parts.iter().map(Part::kind));
        graphs.push((id.to_owned(), parts));
    }
    if graphs.iter().map(|(_, parts)| parts.len()).sum::<usize>() > MOST_NODES {
        return too_many("nodes", MOST_NODES);
    }
    if kinds.len() > MOST_KINDS {
        return too_many("different nodes", MOST_KINDS);
    }
    Ok(graphs)
}

/// The longest chain of requests that use each other's answers.
fn depth(parts: &[Part]) -> usize {
    let mut depths: Vec<usize> = Vec::new();
    for part in parts {
        let text = Value::Object(part.request.clone()).to_string();
        let used = parts.iter().zip(&depths).filter(|(other, _)| {
            text.contains(&format!("@{{{}.", other.reference))
                || text.contains(&format!("@{{{}[", other.reference))
        });
        let deepest = used.map(|(_, depth)| *depth).max().unwrap_or(0);
        depths.push(deepest + 1);
    }
    depths.into_iter().max().unwrap_or(0)
}
