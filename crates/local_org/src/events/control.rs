//! The part of the control endpoint that is about events.

use super::bus::{replay_id, told};
use super::{EventFaultRule, MOST_SELECTED};
use crate::ApiError;
use crate::control::parse;
use crate::exchange::Request;
use crate::org::Org;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// How the event bus behaves. What is left out stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// The objects whose changes are captured.
    pub objects: Option<Vec<String>>,
    /// The longest silence of a stream in milliseconds.
    pub keepalive_ms: Option<u64>,
    /// How many milliseconds a stream may ask for nothing.
    pub patience_ms: Option<u64>,
    /// Most changes of a transaction that are told one by one.
    pub overflow: Option<usize>,
    /// Most events delivered in 24 hours.
    pub allowance: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gap {
    object: String,
    #[serde(rename = "type")]
    kind: String,
    ids: Vec<String>,
}

pub(crate) fn events(org: &mut Org, request: &Request, path: &[&str]) -> Result<Value, ApiError> {
    match (request.method.as_str(), path) {
        ("GET", []) => Ok(state(org)),
        ("POST", []) => {
            org.set_events(parse(request)?)?;
            Ok(state(org))
        }
        ("POST", ["channels", name]) => {
            let objects: Vec<String> = parse(request)?;
            org.events.channels.insert((*name).to_owned(), objects);
            Ok(json!({}))
        }
        ("GET", ["faults"]) => Ok(json!(org.events.faults.list())),
        ("POST", ["faults"]) => {
            let rule: EventFaultRule = parse(request)?;
            org.events.fault(rule);
            Ok(json!({}))
        }
        ("DELETE", ["faults"]) => {
            org.events.faults.clear();
            Ok(json!({}))
        }
        ("POST", ["gap"]) => {
            let gap: Gap = parse(request)?;
            org.publish_gap(&gap.object, &gap.kind, gap.ids)?;
            Ok(json!({}))
        }
        ("POST", ["move"]) => {
            org.events.forget();
            Ok(json!({}))
        }
        _ => Err(ApiError::not_found()),
    }
}

impl Org {
    pub(crate) fn set_events(&mut self, settings: EventSettings) -> Result<(), ApiError> {
        if let Some(objects) = settings.objects {
            self.select(&objects)?;
        }
        let bus = &mut self.events;
        let ms = |given: Option<u64>, now| given.map_or(now, Duration::from_millis);
        bus.keepalive = ms(settings.keepalive_ms, bus.keepalive);
        bus.patience = ms(settings.patience_ms, bus.patience);
        bus.overflow = settings.overflow.unwrap_or(bus.overflow);
        bus.allowance = settings.allowance.unwrap_or(bus.allowance);
        bus.tell();
        Ok(())
    }

    /// Selects the objects whose changes are captured, by their names in any case.
    pub(crate) fn select(&mut self, objects: &[String]) -> Result<(), ApiError> {
        let names = objects
            .iter()
            .map(|name| self.object(name).map(|o| o.name.clone()).ok_or_else(ApiError::not_found))
            .collect::<Result<_, _>>()?;
        self.events.select(names)
    }
}

impl super::Bus {
    pub(crate) fn fault(&mut self, rule: EventFaultRule) {
        self.faults.add(rule);
        self.tell();
    }
}

fn state(org: &mut Org) -> Value {
    let now = org.event_time();
    let bus = &mut org.events;
    let left = bus.left(now);
    json!({
        "address": bus.address,
        "ca_pem": bus.ca_pem,
        "objects": bus.selected,
        "most_objects": MOST_SELECTED,
        "channels": bus.channels,
        "now": told(now),
        "kept": bus.log.len(),
        "latest": STANDARD.encode(replay_id(bus.last)),
        "streams": bus.streams,
        "allowance": bus.allowance,
        "delivered": bus.allowance - left,
        "keepalive_ms": bus.keepalive.as_millis() as u64,
        "patience_ms": bus.patience.as_millis() as u64,
        "overflow": bus.overflow,
    })
}
