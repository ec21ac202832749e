//! What of the bus outlives the program, so that a subscriber goes on from its replay id.

use super::bus::{Bus, Entry, Place};
use super::schema::Schema;
use crate::moment::Millis;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Places left out behind the last that was saved, where more may have been given out until the end came.
const SKIPPED: Place = 1 << 32;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    selected: Vec<String>,
    channels: BTreeMap<String, Vec<String>>,
    last: Place,
    floor: Place,
    lost: Vec<(Place, Place)>,
    transactions: u64,
    log: Vec<KeptEntry>,
    schemas: Vec<KeptSchema>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptEntry {
    place: Place,
    at: Millis,
    object: String,
    schema: String,
    id: String,
    /// In base64.
    payload: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptSchema {
    id: String,
    json: String,
    object: String,
}

impl Bus {
    pub(crate) fn keep(&self) -> Kept {
        let log = self.log.iter().map(|entry| KeptEntry {
            place: entry.place,
            at: entry.at,
            object: entry.object.clone(),
            schema: entry.schema.clone(),
            id: entry.id.clone(),
            payload: STANDARD.encode(&entry.payload),
        });
        let schemas = self.schemas.values().map(|schema| KeptSchema {
            id: schema.id.clone(),
            json: schema.json.clone(),
            object: schema.object.clone(),
        });
        Kept {
            selected: self.selected.clone(),
            channels: self.channels.clone(),
            last: self.last,
            floor: self.floor,
            lost: self.lost.clone(),
            transactions: self.transactions,
            log: log.collect(),
            schemas: schemas.collect(),
        }
    }

    /// Goes on where it was. If that may not have been the end, replay ids that were given out since then belong to
    /// events that are lost, and are refused.
    pub(crate) fn go_on(&mut self, kept: Kept, complete: bool) {
        if self.selected.is_empty() {
            self.selected = kept.selected;
        }
        self.channels = kept.channels;
        (self.last, self.floor, self.lost) = (kept.last, kept.floor, kept.lost);
        self.lost.retain(|(_, to)| *to > self.floor);
        self.transactions = kept.transactions;
        if !complete {
            self.lost.push((self.last, self.last + SKIPPED));
            self.last += SKIPPED;
            self.transactions += SKIPPED;
        }
        let log = kept.log.into_iter().map(|entry| Entry {
            place: entry.place,
            at: entry.at,
            due: None,
            copies: 1,
            object: entry.object,
            schema: entry.schema,
            id: entry.id,
            payload: STANDARD.decode(entry.payload).unwrap_or_default(),
        });
        self.log = log.collect();
        for KeptSchema { id, json, object } in kept.schemas {
            // Only read by subscribers: what is published from now on makes its own.
            let schema = Schema { id: id.clone(), json, object, slots: Vec::new() };
            self.schemas.insert(id, Arc::new(schema));
        }
        self.current.clear();
    }

    /// Whether a stream can go on behind this place.
    pub(super) fn is_known(&self, place: Place) -> bool {
        (self.floor..=self.last).contains(&place)
            && !self.lost.iter().any(|(from, to)| *from < place && place < *to)
    }
}
