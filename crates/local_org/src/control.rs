//! The control endpoint; its requests are listed in the documentation of the crate.

use crate::clock::Move;
use crate::errors::{self, Order};
use crate::events::{self, Author};
use crate::exchange::{Answer, Request};
use crate::faults::{Campaign, FaultRule};
use crate::org::{Caller, Org};
use crate::rules::Rule;
use crate::schema::{Field, Object};
use crate::{ApiError, bulk, id};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

pub(crate) fn control(org: &mut Org, request: &Request) -> Answer {
    org.settle(false);
    org.changes += u64::from(request.method != "GET");
    let answer = match act(org, request) {
        Ok(body) => {
            org.commit();
            Answer::json(200, body)
        }
        Err(error) => {
            org.roll_back(0);
            error.into()
        }
    };
    org.events.author = None;
    answer
}

fn act(org: &mut Org, request: &Request) -> Result<Value, ApiError> {
    let segments = request.segments();
    let path: Vec<&str> = segments.iter().skip(1).map(String::as_str).collect();
    let done = Ok(json!({}));
    match (request.method.as_str(), path.as_slice()) {
        ("GET", []) => Ok(state(org)),
        ("GET", ["calls"]) => {
            let since = request.parameter("since").and_then(|n| n.parse().ok()).unwrap_or(0);
            Ok(org
                .calls
                .list()
                .filter(|call| call.number > since)
                .map(|call| call.report())
                .collect())
        }
        ("DELETE", ["calls"]) => {
            org.calls.clear();
            done
        }
        ("GET", ["faults"]) => Ok(org
            .faults
            .list()
            .map(|(number, struck, rule)| json!({"number": number, "struck": struck, "rule": rule}))
            .collect()),
        ("POST", ["faults"]) => {
            let rule: FaultRule = parse(request)?;
            Ok(json!({"number": org.faults.add(rule)}))
        }
        ("DELETE", ["faults"]) => {
            org.faults.clear(None);
            done
        }
        ("DELETE", ["faults", number]) => {
            org.faults.clear(Some(number.parse().map_err(|_| ApiError::not_found())?));
            done
        }
        ("POST", ["campaign"]) => {
            let campaign: Campaign = parse(request)?;
            org.faults.campaign(Some(campaign));
            done
        }
        ("DELETE", ["campaign"]) => {
            org.faults.campaign(None);
            done
        }
        ("GET", ["errors"]) => Ok(errors::list()),
        ("POST", ["errors", code]) => {
            let order = if request.body.is_empty() { Order::default() } else { parse(request)? };
            Ok(json!({"number": org.faults.add(order.rule(code)?)}))
        }
        ("POST", ["clock"]) => {
            let order: Move = parse(request)?;
            org.move_clock(&order)
        }
        ("POST", ["settings"]) => settings(org, parse(request)?),
        ("DELETE", ["sessions"]) => {
            org.sessions.close_all();
            done
        }
        ("POST", ["clients"]) => {
            set_client(org, parse(request)?)?;
            done
        }
        ("DELETE", ["clients", client]) => {
            org.sessions.apps.remove(*client);
            done
        }
        ("POST", ["objects"]) => {
            let object: Object = parse(request)?;
            org.define_object(object)?;
            done
        }
        ("DELETE", ["objects", object]) => {
            org.objects.retain(|o| !o.name.eq_ignore_ascii_case(object));
            org.stale.watch(&org.objects);
            done
        }
        ("POST", ["objects", object, "fields"]) => {
            let field: Field = parse(request)?;
            org.define_field(object, field)?;
            done
        }
        ("DELETE", ["objects", object, "fields", field]) => {
            org.remove_field(object, field)?;
            done
        }
        ("POST", ["objects", object, "fields", field, "access"]) => {
            let access: Access = parse(request)?;
            org.set_access(object, field, access.visible, access.editable)?;
            done
        }
        ("POST", ["rules"]) => {
            let rule: Rule = parse(request)?;
            org.rules.push(rule);
            done
        }
        ("DELETE", ["rules"]) => {
            org.rules.clear();
            done
        }
        ("POST", ["duplicate_rules"]) => {
            org.add_duplicate_rule(parse(request)?)?;
            done
        }
        ("DELETE", ["duplicate_rules"]) => {
            org.clear_duplicate_rules();
            done
        }
        ("POST", ["commit"]) => {
            org.settle(true);
            done
        }
        (_, ["events", rest @ ..]) => events::control::events(org, request, rest),
        ("POST", ["bulk"]) => org.jobs.set(parse(request)?),
        ("POST", ["bulk", "finish"]) => {
            bulk::finish_all(org);
            done
        }
        (_, ["records", rest @ ..]) => records(org, request, rest),
        _ => Err(ApiError::not_found()),
    }
}

fn records(org: &mut Org, request: &Request, path: &[&str]) -> Result<Value, ApiError> {
    let user = request.parameter("user").map_or_else(|| org.other_user.clone(), str::to_owned);
    org.events.author = Some(Author::person(&user));
    let caller: Caller = org.system(user);
    let late = request.parameter("commit_after_ms").map(|ms| {
        let ms = ms.parse().map_err(|_| ApiError::json("commit_after_ms is a number"))?;
        Ok(Instant::now() + Duration::from_millis(ms))
    });
    let late = late.transpose()?;
    // Ids of 15 characters will do too.
    let longer = path.first().and_then(|id| id::long(id));
    let mut path = path.to_vec();
    if let (Some(first), Some(longer)) = (path.first_mut(), &longer) {
        *first = longer;
    }
    match (request.method.as_str(), path.as_slice()) {
        ("GET", [name]) if org.object(name).is_some() => {
            let name = org.object(name).map(|o| o.name.clone()).unwrap_or_default();
            let rows = org.table(&name).into_iter().flat_map(|table| table.rows());
            Ok(rows.map(|row| org.record(row)).collect())
        }
        ("GET", [id]) => org.row(id).map(|row| org.record(row)).ok_or_else(ApiError::not_found),
        ("POST", [object]) => {
            let body: Value = parse(request)?;
            let many = match body {
                Value::Array(list) => list,
                one => vec![one],
            };
            let mut ids = Vec::new();
            for values in many {
                let values = object_of(values)?;
                ids.push(match late {
                    Some(due) => org.insert_late(&caller, object, &values, due)?,
                    None => org.create(&caller, object, &values)?,
                });
            }
            Ok(json!({"ids": ids}))
        }
        ("PATCH", [id]) => {
            let values = object_of(parse(request)?)?;
            match late {
                Some(due) => org.edit_late(&caller, id, &values, due)?,
                None => org.update(&caller, id, &values)?,
            }
            Ok(json!({}))
        }
        ("DELETE", [id]) => {
            org.delete(&caller, id)?;
            Ok(json!({}))
        }
        ("POST", [id, "undelete"]) => {
            org.undelete(&caller, id)?;
            Ok(json!({}))
        }
        ("POST", [id, "merge"]) => {
            let merge: Merge = parse(request)?;
            let losers = merge.losers.iter().map(|given| id::long(given));
            let losers = losers.collect::<Option<Vec<_>>>().ok_or_else(ApiError::not_found)?;
            Ok(json!({"updated": org.merge(&caller, id, &losers, &merge.values)?}))
        }
        ("POST", [id, "purge"]) => {
            org.purge(id)?;
            Ok(json!({}))
        }
        _ => Err(ApiError::not_found()),
    }
}

fn state(org: &mut Org) -> Value {
    let counts: Map<String, Value> = org
        .objects
        .iter()
        .map(|object| {
            let rows = org.table(&object.name).into_iter().flat_map(|table| table.rows());
            (object.name.clone(), rows.filter(|row| !row.deleted).count().into())
        })
        .collect();
    json!({
        "url": org.url,
        "org_id": org.org_id,
        "integration_user": org.integration_user,
        "other_user": org.other_user,
        "now": org.now(),
        "clock_skew_ms": org.clock.skew(),
        "used": org.used,
        "daily_limit": org.daily_limit,
        "records": counts,
        "pending": org.pending.len(),
        "unserved": org.unserved,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Merge {
    losers: Vec<String>,
    #[serde(default)]
    values: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    daily_limit: Option<u64>,
    used: Option<u64>,
    clock_skew_ms: Option<i64>,
    round_numbers: Option<bool>,
    trim_text_areas: Option<bool>,
    session_seconds: Option<u64>,
    rotate_refresh_tokens: Option<bool>,
}

fn settings(org: &mut Org, settings: Settings) -> Result<Value, ApiError> {
    org.daily_limit = settings.daily_limit.unwrap_or(org.daily_limit);
    org.used = settings.used.unwrap_or(org.used);
    if let Some(skew) = settings.clock_skew_ms {
        org.clock.set_skew(skew);
    }
    let sessions = &mut org.sessions;
    sessions.lifetime = settings.session_seconds.map_or(sessions.lifetime, Duration::from_secs);
    sessions.rotating = settings.rotate_refresh_tokens.unwrap_or(sessions.rotating);
    let manners = &mut org.manners;
    manners.round_numbers = settings.round_numbers.unwrap_or(manners.round_numbers);
    manners.trim_text_areas = settings.trim_text_areas.unwrap_or(manners.trim_text_areas);
    Ok(state(org))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    client_id: String,
    client_secret: String,
    certificate: Option<String>,
    approved: Option<bool>,
    runs_as_user: Option<bool>,
}

fn set_client(org: &mut Org, client: Client) -> Result<(), ApiError> {
    org.sessions.set_client(&client.client_id, &client.client_secret);
    if let Some(certificate) = client.certificate {
        org.set_certificate(&client.client_id, certificate)?;
    }
    if let Some(app) = org.sessions.apps.get_mut(&client.client_id) {
        app.approved = client.approved.unwrap_or(app.approved);
        app.runs_as_user = client.runs_as_user.unwrap_or(app.runs_as_user);
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Access {
    visible: bool,
    editable: bool,
}

pub(crate) fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, ApiError> {
    serde_json::from_slice(&request.body).map_err(|error| ApiError::json(error.to_string()))
}

fn object_of(value: Value) -> Result<Map<String, Value>, ApiError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(ApiError::json("an object is needed")),
    }
}
