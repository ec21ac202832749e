//! The REST API: which path leads where.

mod batch;
pub(crate) mod collections;
pub(crate) mod composite;
mod describe;
mod graph;
mod limits;
pub(crate) mod oauth;
pub(crate) mod query;
mod related;
mod replication;
mod rows;
mod tree;

use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::{ApiError, bulk};
use serde_json::{Value, json};

/// Versions that the org speaks (REST API guide, API End-of-Life: those up to 30.0 are retired).
pub(crate) const OLDEST: u32 = 31;
pub(crate) const NEWEST: u32 = 66;

/// Parts of the API that a real org has and this one has not.
const ELSEWHERE: [&str; 16] = [
    "tooling",
    "search",
    "parameterizedSearch",
    "analytics",
    "chatter",
    "connect",
    "actions",
    "process",
    "recent",
    "theme",
    "tabs",
    "ui-api",
    "async",
    "wave",
    "support",
    "appMenu",
];

/// `GET /services/data`: needs no session and is not counted.
pub(crate) fn versions() -> Value {
    let list = (OLDEST..=NEWEST).map(|n| {
        let years = (n - OLDEST) / 3;
        let (season, year) = match (n - OLDEST) % 3 {
            0 => ("Summer", 14 + years),
            1 => ("Winter", 15 + years),
            _ => ("Spring", 15 + years),
        };
        let version = format!("{n}.0");
        let url = format!("/services/data/v{version}");
        json!({"label": format!("{season} '{year}"), "url": url, "version": version})
    });
    list.collect()
}

/// Serves a request below `/services/data/vNN.N`, also one of those inside a composite.
pub(crate) fn serve(org: &mut Org, caller: &Caller, request: &Request) -> Answer {
    let answer = route(org, caller, request);
    // What follows in the same transaction sees what this part did.
    org.roll_up();
    match answer {
        Ok(answer) => answer,
        Err(error) => error.into(),
    }
}

fn route(org: &mut Org, caller: &Caller, request: &Request) -> Result<Answer, ApiError> {
    let segments = request.segments();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let ["services", "data", version, path @ ..] = path.as_slice() else {
        return unserved(org, request, &segments.join("/"));
    };
    let number =
        version.strip_prefix('v').and_then(|v| v.split_once('.')).and_then(|(n, _)| n.parse().ok());
    let version = match number {
        Some(number) if (OLDEST..=NEWEST).contains(&number) => format!("{number}.0"),
        Some(number) if number < OLDEST => {
            let message = format!("API version {number}.0 has been retired");
            return Err(ApiError::new(410, "UNSUPPORTED_API_VERSION", message));
        }
        _ => return Err(ApiError::not_found()),
    };
    if let ["jobs", path @ ..] = path {
        return bulk::serve(org, caller, request, path, &version);
    }
    if !request.body.is_empty() {
        request.check_content_type()?;
    }
    let method = request.method.as_str();
    let get = matches!(method, "GET" | "HEAD");
    let allow = |allowed| Err(ApiError::method_not_allowed(method, allowed));
    match path {
        [] if get => Ok(Answer::json(200, resources(org, caller, &version))),
        ["limits"] if get => Ok(limits::limits(org)),
        ["limits", "recordCount"] if get => Ok(limits::counts(org, request)),
        ["query"] if get => query::query(org, request, false, &version),
        ["queryAll"] if get => query::query(org, request, true, &version),
        ["query" | "queryAll", locator] if get => query::more(org, locator, &version),
        ["query" | "queryAll", ..] => allow("HEAD,GET"),
        ["sobjects"] if get => Ok(describe::global(org, request, &version)),
        ["sobjects", object] => match method {
            "GET" | "HEAD" => describe::basic(org, object, &version),
            "POST" => rows::create(org, caller, request, object, &version),
            _ => allow("HEAD,GET,POST"),
        },
        ["sobjects", object, "describe"] if get => describe::full(org, request, object, &version),
        ["sobjects", object, "updated"] if get => replication::updated(org, request, object),
        ["sobjects", object, "deleted"] if get => replication::deleted(org, request, object),
        ["sobjects", _, "listviews" | "quickActions" | "layouts"] => {
            unserved(org, request, &format!("sobjects/*/{}", path[2]))
        }
        ["sobjects", object, "Id"] if method == "POST" => {
            rows::create(org, caller, request, object, &version)
        }
        ["sobjects", object, id] => match method {
            "GET" | "HEAD" => rows::read(org, request, object, id, &version),
            "PATCH" => rows::change(org, caller, request, object, id),
            "DELETE" => rows::delete(org, caller, object, id),
            _ => allow("HEAD,GET,PATCH,DELETE"),
        },
        ["sobjects", object, id, name] if related::is_record(org, object, id) => match method {
            "GET" | "HEAD" => related::read(org, request, object, id, name, &version),
            _ => unserved(org, request, "sobjects/*/*/relationship"),
        },
        ["sobjects", object, field, value] => match method {
            "GET" | "HEAD" => rows::read_by_key(org, request, object, field, value, &version),
            "PATCH" => rows::upsert(org, caller, request, object, field, value, &version),
            "DELETE" => rows::delete_by_key(org, caller, object, field, value, &version),
            _ => allow("HEAD,GET,PATCH,DELETE"),
        },
        ["composite"] if method == "POST" => composite::composite(org, caller, request),
        ["composite", "sobjects"] => match method {
            "POST" => collections::create(org, caller, request),
            "PATCH" => collections::update(org, caller, request),
            "DELETE" => collections::delete(org, caller, request),
            _ => allow("POST,PATCH,DELETE"),
        },
        ["composite", "sobjects", object] => match method {
            "GET" | "POST" => collections::retrieve(org, request, object, &version),
            _ => allow("GET,POST"),
        },
        ["composite", "sobjects", object, key] if method == "PATCH" => {
            collections::upsert(org, caller, request, object, key)
        }
        ["composite", "graph"] if method == "POST" => graph::graphs(org, caller, request),
        ["composite", "batch"] if method == "POST" => batch::batch(org, caller, request),
        ["composite", "tree", object] if method == "POST" => {
            tree::create(org, caller, request, object)
        }
        ["composite", ..] => allow("POST"),
        [first, ..] if ELSEWHERE.contains(first) => unserved(org, request, first),
        _ => unserved(org, request, &path.join("/")),
    }
}

/// What is not served says so, and is counted.
pub(crate) fn unserved(org: &mut Org, request: &Request, what: &str) -> Result<Answer, ApiError> {
    org.count_unserved(format!("{} {what}", request.method));
    let first = what.split('/').next().unwrap_or_default();
    if ELSEWHERE.contains(&first) || what.starts_with("sobjects/*") {
        let message = "This feature is not currently enabled for this user type or org";
        return Err(ApiError::new(403, "FUNCTIONALITY_NOT_ENABLED", message));
    }
    Err(ApiError::not_found())
}

fn resources(org: &Org, caller: &Caller, version: &str) -> Value {
    let path = |name: &str| format!("/services/data/v{version}/{name}");
    json!({
        "composite": path("composite"),
        "identity": format!("{}{}", org.url, oauth::identity_path(org, &caller.user)),
        "jobs": path("jobs"),
        "limits": path("limits"),
        "query": path("query"),
        "queryAll": path("queryAll"),
        "sobjects": path("sobjects"),
    })
}

/// The object's own name, as the schema has it.
fn known(org: &Org, object: &str) -> Result<String, ApiError> {
    org.object(object).map(|o| o.name.clone()).ok_or_else(ApiError::not_found)
}

/// A body that has to be an object.
pub(crate) fn body(request: &Request) -> Result<serde_json::Map<String, Value>, ApiError> {
    match request.json()? {
        Value::Object(map) => Ok(map),
        _ => Err(ApiError::json("Unexpected character at [line:1, column:1]")),
    }
}
