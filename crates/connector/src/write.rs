use std::collections::HashSet;

use crate::{Column, Fault, Record};

/// Records of one object to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteBatch {
    pub object: String,
    /// The fields that any of them has, and those that are read before.
    pub columns: Vec<Column>,
    /// Bring back the state of each record just before it is written, where the system can.
    pub read_before: bool,
    /// No two of the same record.
    pub writes: Vec<Write>,
}

impl WriteBatch {
    /// Does a record of this batch name one that the other creates, by its external id?
    pub fn names(&self, other: &WriteBatch) -> bool {
        let keys: Vec<(usize, &str)> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.lookup.is_some())
            .filter_map(|(place, column)| Some((place, column.name.rsplit_once('.')?.1)))
            .collect();
        if keys.is_empty() {
            return false;
        }
        let created: HashSet<(String, &str)> = other
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::Create { identity: Some(identity), .. } => {
                    Some((identity.field.to_lowercase(), identity.value.as_str()))
                }
                _ => None,
            })
            .collect();
        let named = |fields: &[(usize, Option<String>)]| {
            fields.iter().any(|(column, value)| {
                let key = keys.iter().find(|(place, _)| place == column);
                let (Some((_, key)), Some(value)) = (key, value) else { return false };
                created.contains(&(key.to_lowercase(), value.as_str()))
            })
        };
        !created.is_empty()
            && self.writes.iter().any(|write| match write {
                Write::Create { fields, .. } | Write::Update { fields, .. } => named(fields),
                Write::Delete { .. } => false,
            })
    }
}

/// One record to be written. Fields are places in the batch's columns, with their new values; fields
/// that are not named stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A new record. With an identity it is updated where it is there already.
    Create {
        identity: Option<Identity>,
        fields: Vec<(usize, Option<String>)>,
    },
    Update {
        id: String,
        fields: Vec<(usize, Option<String>)>,
    },
    Delete {
        id: String,
    },
}

/// What makes a create repeatable: an external-id field of the other side and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub field: String,
    pub value: String,
}

/// What came of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub result: Result<Done, Fault>,
    pub before: Before,
}

/// What was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Created {
        id: String,
    },
    /// Updated, or found by its identity and updated.
    Updated {
        id: String,
    },
    Deleted,
    /// It was deleted already, or never there; of an update: there is nothing to update.
    Gone,
}

/// The state of a record just before it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    NotRead,
    Missing,
    There(Record),
}
