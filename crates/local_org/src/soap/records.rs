//! The calls of the SOAP API that have no twin in REST: merge, undelete and emptyRecycleBin.

use super::{envelope, escape, fault, session_of, text, written};
use crate::duplicates::Insistence;
use crate::events::Author;
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::{ApiError, gate, id};
use roxmltree::{Document, Node};
use serde_json::{Map, Value};

/// How many records a call may name (SOAP API guide, undelete()).
const MOST: usize = 200;

/// Nothing where the call is another one.
pub(super) fn serve(
    org: &mut Org,
    request: &Request,
    document: &Document<'_>,
    call: Node<'_, '_>,
    version: u32,
) -> Option<Answer> {
    let name = call.tag_name().name();
    if !["merge", "undelete", "emptyRecycleBin"].contains(&name) {
        return None;
    }
    let Some(user) = org.sessions.enter(session_of(document)) else {
        return Some(fault("INVALID_SESSION_ID", "Invalid Session ID found in SessionHeader"));
    };
    if org.used >= org.daily_limit {
        return Some(fault("REQUEST_LIMIT_EXCEEDED", gate::TOTAL_LIMIT));
    }
    org.used += 1;
    let client = text(document.root_element(), "client");
    org.events.author = Some(Author::of_soap(&user, version, client));
    let caller = Caller {
        user,
        api: true,
        method: request.method.clone(),
        path: request.path.clone(),
        insistence: Insistence::default(),
    };
    let part = if name == "merge" { "mergeRequests" } else { "ids" };
    let parts: Vec<Node<'_, '_>> =
        call.children().filter(|node| node.tag_name().name() == part).collect();
    if parts.len() > MOST {
        return Some(fault("EXCEEDED_ID_LIMIT", "record limit reached"));
    }
    let results: String = parts
        .into_iter()
        .map(|part| match name {
            "merge" => merge(org, &caller, part),
            "undelete" => result(part, existing(org, part), |id| org.undelete(&caller, id)),
            _ => result(part, in_bin(org, part), |id| org.purge(id)),
        })
        .collect();
    let body = format!("<{name}Response>{results}</{name}Response>");
    Some(envelope(200, r#"xmlns="urn:partner.soap.sforce.com""#, &body))
}

fn existing(org: &Org, node: Node<'_, '_>) -> Result<String, ApiError> {
    let given = node.text().unwrap_or_default().trim();
    let id = id::long(given)
        .ok_or_else(|| ApiError::record("MALFORMED_ID", format!("malformed id {given}"), &[]))?;
    if org.row(&id).is_none() {
        let message = "invalid cross reference id";
        return Err(ApiError::record("INVALID_CROSS_REFERENCE_KEY", message, &[]));
    }
    Ok(id)
}

fn in_bin(org: &Org, node: Node<'_, '_>) -> Result<String, ApiError> {
    let id = existing(org, node)?;
    if org.row(&id).is_some_and(|row| row.deleted) {
        return Ok(id);
    }
    let message = "Entity is not in the recycle bin";
    Err(ApiError::record("INVALID_OPERATION", message, &[]))
}

fn result(
    node: Node<'_, '_>,
    id: Result<String, ApiError>,
    act: impl FnOnce(&str) -> Result<(), ApiError>,
) -> String {
    match id.and_then(|id| act(&id).map(|()| id)) {
        Ok(id) => {
            let elements = written(&[("id", id), ("success", "true".into())]);
            format!("<result>{elements}</result>")
        }
        Err(error) => failure(node.text().unwrap_or_default().trim(), &error),
    }
}

fn failure(id: &str, error: &ApiError) -> String {
    let fields: String = error
        .fields
        .iter()
        .flatten()
        .map(|field| format!("<fields>{}</fields>", escape(field.clone())))
        .collect();
    let told =
        written(&[("message", escape(error.message.clone())), ("statusCode", error.code.clone())]);
    let id = written(&[("id", escape(id.to_owned())), ("success", "false".into())]);
    format!("<result><errors>{fields}{told}</errors>{id}</result>")
}

fn merge(org: &mut Org, caller: &Caller, node: Node<'_, '_>) -> String {
    let named = |name: &str| {
        let name = name.to_owned();
        node.children().filter(move |n| n.tag_name().name() == name)
    };
    let record = named("masterRecord").next();
    let (id, values) = record.map_or_else(Default::default, master);
    let losers: Vec<Result<String, ApiError>> =
        named("recordToMergeIds").map(|node| existing(org, node)).collect();
    let outcome = losers.into_iter().collect::<Result<Vec<_>, _>>().and_then(|losers| {
        let master = id::long(&id)
            .ok_or_else(|| ApiError::record("MALFORMED_ID", format!("malformed id {id}"), &[]))?;
        let updated = org.merge(caller, &master, &losers, &values)?;
        Ok((master, losers, updated))
    });
    match outcome {
        Ok((master, losers, updated)) => {
            let list = |name: &str, ids: &[String]| -> String {
                ids.iter().map(|id| format!("<{name}>{id}</{name}>")).collect()
            };
            format!(
                "<result><id>{master}</id>{}<success>true</success>{}</result>",
                list("mergedRecordIds", &losers),
                list("updatedRelatedIds", &updated)
            )
        }
        Err(error) => failure(&id, &error),
    }
}

/// The id of a record and the fields that it writes; text stands for every type, as in CSV.
fn master(node: Node<'_, '_>) -> (String, Map<String, Value>) {
    let mut id = String::new();
    let mut values = Map::new();
    for field in node.children().filter(Node::is_element) {
        let text = field.text().unwrap_or_default().to_owned();
        match field.tag_name().name() {
            "type" => {}
            "Id" | "id" => id = text.trim().to_owned(),
            "fieldsToNull" => {
                values.insert(text, Value::Null);
            }
            name => {
                values.insert(name.to_owned(), text.into());
            }
        }
    }
    (id, values)
}
