//! The records of one object, and the indexes that make large ones quick to ask.

use crate::schema::Object;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A record: a value for each field that is stored, by the field's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) values: Map<String, Value>,
    /// In the recycle bin.
    pub(crate) deleted: bool,
    /// How it came there.
    pub(crate) bin: Option<Box<Bin>>,
}

/// What has to be known of a record in the recycle bin to bring it back as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bin {
    /// The record that it went with.
    pub(crate) with: Option<String>,
    /// References of others to it that were emptied: their ids and fields.
    pub(crate) loosened: Vec<(String, String)>,
}

impl Row {
    pub(crate) fn get(&self, field: &str) -> &Value {
        self.values.get(field).unwrap_or(&Value::Null)
    }

    pub(crate) fn text(&self, field: &str) -> &str {
        self.get(field).as_str().unwrap_or_default()
    }

    pub(crate) fn stamp(&self) -> &str {
        self.text("SystemModstamp")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: BTreeMap<String, Row>,
    by_stamp: BTreeSet<(String, String)>,
    /// Per field by which records are looked up: which records have which value, in lower case.
    keys: HashMap<String, HashMap<String, BTreeSet<String>>>,
    pub(crate) last_number: u64,
    pub(crate) last_serial: u64,
}

impl Table {
    pub(crate) fn get(&self, id: &str) -> Option<&Row> {
        self.rows.get(id)
    }

    pub(crate) fn live(&self, id: &str) -> Option<&Row> {
        self.rows.get(id).filter(|row| !row.deleted)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// With a higher id, or this one.
    pub(crate) fn beginning_with<'a>(&'a self, id: &str) -> impl Iterator<Item = &'a Row> {
        self.rows.range(id.to_owned()..).map(|(_, row)| row)
    }

    /// In the order of their stamps and ids, from this stamp on.
    pub(crate) fn since<'a>(&'a self, stamp: &str) -> impl Iterator<Item = &'a Row> {
        let from = (stamp.to_owned(), String::new());
        self.by_stamp.range(from..).filter_map(|(_, id)| self.rows.get(id))
    }

    /// Puts a row in, or takes it out; tells what was there.
    pub(crate) fn replace(&mut self, id: &str, row: Option<Row>) -> Option<Row> {
        let old = self.rows.remove(id);
        if let Some(old) = &old {
            self.by_stamp.remove(&(old.stamp().to_owned(), id.to_owned()));
            for (field, values) in &mut self.keys {
                if let Some(key) = key(old.get(field))
                    && let Some(ids) = values.get_mut(&key)
                {
                    ids.remove(id);
                    if ids.is_empty() {
                        values.remove(&key);
                    }
                }
            }
        }
        if let Some(row) = row {
            self.by_stamp.insert((row.stamp().to_owned(), id.to_owned()));
            for (field, values) in &mut self.keys {
                if let Some(key) = key(row.get(field)) {
                    values.entry(key).or_default().insert(id.to_owned());
                }
            }
            self.rows.insert(id.to_owned(), row);
        }
        old
    }

    /// Fits the indexes to the fields that the object has now, and to those that are compared besides its keys.
    pub(crate) fn index<'a>(
        &mut self,
        object: &'a Object,
        compared: impl Iterator<Item = &'a str>,
    ) {
        let fields = object.fields.iter().filter(|f| f.indexed()).map(|f| f.name.as_str());
        let wanted: BTreeSet<String> = fields.chain(compared).map(str::to_owned).collect();
        self.keys.retain(|field, _| wanted.contains(field));
        for field in wanted {
            if self.keys.contains_key(&field) {
                continue;
            }
            let mut values: HashMap<String, BTreeSet<String>> = HashMap::new();
            for row in self.rows.values() {
                if let Some(key) = key(row.get(&field)) {
                    values.entry(key).or_default().insert(row.id.clone());
                }
            }
            self.keys.insert(field, values);
        }
    }

    /// How many rows [`Self::with_key`] would tell.
    pub(crate) fn sharing(&self, field: &str, value: &Value) -> usize {
        let ids = self.keys.get(field).and_then(|values| values.get(&key(value)?));
        ids.map_or(0, BTreeSet::len)
    }

    /// The ids of the rows, deleted ones too, whose field has this value but for its case; nothing where
    /// there is no index.
    pub(crate) fn with_key(&self, field: &str, value: &Value) -> Option<Vec<&str>> {
        let values = self.keys.get(field)?;
        let ids = key(value).and_then(|key| values.get(&key));
        Some(ids.into_iter().flatten().map(String::as_str).collect())
    }
}

/// Under which values are looked up; nothing under null.
pub(crate) fn key(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.to_lowercase()),
        other => Some(other.to_string()),
    }
}
