//! What a transaction did, as events (Change Data Capture guide, Change Event Body Fields and ChangeEventHeader
//! Fields).

use super::avro::{self, Type};
use super::bitmap::Fields;
use super::diff::difference;
use super::schema::{Part, Schema, Slot};
use crate::person;
use crate::table::Row;
use serde_json::Value;
use std::sync::Arc;

/// The fields of the header in their order, with their types.
pub(super) const HEADER: [(&str, &str); 12] = [
    ("entityName", "string"),
    ("recordIds", "array"),
    ("changeType", "enum"),
    ("changeOrigin", "string"),
    ("transactionKey", "string"),
    ("sequenceNumber", "int"),
    ("commitTimestamp", "long"),
    ("commitNumber", "long"),
    ("commitUser", "string"),
    ("nulledFields", "array"),
    ("diffFields", "array"),
    ("changedFields", "array"),
];

/// In the order of the enum of real schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeType {
    Create,
    Update,
    Delete,
    Undelete,
    GapCreate,
    GapUpdate,
    GapDelete,
    GapUndelete,
    GapOverflow,
}

impl ChangeType {
    pub(super) const NAMES: [&str; 10] = [
        "CREATE",
        "UPDATE",
        "DELETE",
        "UNDELETE",
        "GAP_CREATE",
        "GAP_UPDATE",
        "GAP_DELETE",
        "GAP_UNDELETE",
        "GAP_OVERFLOW",
        "SNAPSHOT",
    ];

    pub(super) fn of_name(name: &str) -> Option<Self> {
        use ChangeType::*;
        let all = [
            Create,
            Update,
            Delete,
            Undelete,
            GapCreate,
            GapUpdate,
            GapDelete,
            GapUndelete,
            GapOverflow,
        ];
        all.into_iter().find(|kind| Self::NAMES[*kind as usize] == name)
    }

    /// Told without the values.
    fn gap(self) -> Self {
        match self {
            Self::Create => Self::GapCreate,
            Self::Update => Self::GapUpdate,
            Self::Delete => Self::GapDelete,
            Self::Undelete => Self::GapUndelete,
            gap => gap,
        }
    }
}

/// How many records of one event, where the same change hit several.
const MOST_RECORDS: usize = 10;

/// An event that is not published yet: what does not depend on its place in the transaction.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) schema: Arc<Schema>,
    pub(super) kind: ChangeType,
    pub(super) ids: Vec<String>,
    nulled: Vec<String>,
    diffs: Vec<String>,
    changed: Vec<String>,
    /// All fields behind the header, as they are written.
    body: Vec<u8>,
}

/// What of the header depends on the transaction.
pub(super) struct Stamp<'a> {
    pub(super) origin: &'a str,
    pub(super) transaction: &'a str,
    pub(super) sequence: i64,
    /// Milliseconds, in whole seconds.
    pub(super) at: i64,
    pub(super) number: i64,
    pub(super) user: &'a str,
}

impl Draft {
    /// What became of a record in a transaction; nothing where there is nothing to tell, as of one that is gone
    /// for good.
    pub(super) fn new(schema: &Arc<Schema>, old: Option<&Row>, new: Option<&Row>) -> Option<Self> {
        let new = new?;
        let kind = match (old.map(|row| row.deleted), new.deleted) {
            (None, false) => ChangeType::Create,
            (Some(false), false) => ChangeType::Update,
            (Some(false), true) => ChangeType::Delete,
            (Some(true), false) => ChangeType::Undelete,
            (None | Some(true), true) => return None,
        };
        let mut writer = Writer {
            kind,
            old,
            new,
            nulled: Fields::default(),
            diffs: Fields::default(),
            changed: Fields::default(),
            any: false,
        };
        // The stamp of who changed it moves with every field; it is written when it is known whether one did.
        let stamped = kind == ChangeType::Update && writer.is_edit(schema);
        let mut body = Vec::new();
        for (place, slot) in schema.slots.iter().enumerate() {
            writer.slot(&mut body, place + 1, slot, stamped);
        }
        if kind == ChangeType::Update && !writer.any {
            return None;
        }
        Some(Self {
            schema: Arc::clone(schema),
            kind,
            ids: vec![new.id.clone()],
            nulled: writer.nulled.write(),
            diffs: writer.diffs.write(),
            changed: writer.changed.write(),
            body,
        })
    }

    /// An event that tells no values.
    pub(super) fn empty(schema: &Arc<Schema>, kind: ChangeType, ids: Vec<String>) -> Self {
        let (nulled, diffs, changed) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            schema: Arc::clone(schema),
            kind,
            ids,
            nulled,
            diffs,
            changed,
            body: vec![0; schema.slots.len()],
        }
    }

    /// The same event as a gap.
    pub(super) fn gap(self) -> Self {
        Self::empty(&self.schema, self.kind.gap(), self.ids)
    }

    /// Takes in the next draft of the transaction if it tells the same of another record.
    pub(super) fn absorb(&mut self, other: Self) -> Option<Self> {
        let alike = matches!(self.kind, ChangeType::Update | ChangeType::Delete)
            && self.kind == other.kind
            && self.schema.id == other.schema.id
            && self.ids.len() < MOST_RECORDS
            && (&self.nulled, &self.diffs, &self.changed)
                == (&other.nulled, &other.diffs, &other.changed)
            && self.body == other.body;
        if !alike {
            return Some(other);
        }
        self.ids.extend(other.ids);
        None
    }

    pub(super) fn payload(&self, stamp: &Stamp<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.body.len() + 200);
        avro::text(&mut out, &self.schema.object);
        avro::texts(&mut out, &self.ids);
        avro::long(&mut out, self.kind as i64);
        avro::text(&mut out, stamp.origin);
        avro::text(&mut out, stamp.transaction);
        avro::long(&mut out, stamp.sequence);
        avro::long(&mut out, stamp.at);
        avro::long(&mut out, stamp.number);
        avro::text(&mut out, stamp.user);
        avro::texts(&mut out, &self.nulled);
        avro::texts(&mut out, &self.diffs);
        avro::texts(&mut out, &self.changed);
        out.extend_from_slice(&self.body);
        out
    }
}

/// Writes the fields of one record, and notes what changed.
struct Writer<'a> {
    kind: ChangeType,
    old: Option<&'a Row>,
    new: &'a Row,
    nulled: Fields,
    diffs: Fields,
    changed: Fields,
    /// Did anything change that is told?
    any: bool,
}

impl Writer<'_> {
    fn moved(&self, field: &str, kind: Type) -> bool {
        let value = |row: Option<&Row>| match row.map_or(&Value::Null, |row| row.get(field)) {
            Value::Null if kind == Type::Boolean => Value::Bool(false),
            value => value.clone(),
        };
        value(self.old) != value(Some(self.new))
    }

    /// Did somebody edit the record, even within the second of the edit before? The system's own work leaves the
    /// stamp of the last edit where it was.
    fn is_edit(&self, schema: &Schema) -> bool {
        self.new.text("LastModifiedDate") == self.new.stamp()
            && schema.slots.iter().any(|slot| match slot {
                Slot::Plain { field, kind, visible, .. } => *visible && self.moved(field, *kind),
                Slot::Compound { parts, .. } => parts
                    .iter()
                    .any(|part| part.field.as_ref().is_some_and(|f| self.moved(f, part.kind))),
            })
    }

    fn value(&self, field: &str, kind: Type) -> Value {
        match self.new.get(field) {
            Value::Null if kind == Type::Boolean => Value::Bool(false),
            value => value.clone(),
        }
    }

    fn slot(&mut self, out: &mut Vec<u8>, place: usize, slot: &Slot, stamped: bool) {
        match slot {
            Slot::Plain { visible: false, .. } => avro::long(out, 0),
            Slot::Plain { switchable: Some(parts), .. } if person::is_person(self.new) => {
                self.parts(out, place, parts, 2);
            }
            Slot::Plain { field, kind, .. } => {
                let moved = self.moved(field, *kind) || stamped && field == "LastModifiedDate";
                let mut value = self.value(field, *kind);
                if !self.tells(moved) {
                    value = Value::Null;
                } else if self.kind == ChangeType::Update {
                    self.any = true;
                    self.changed.add(place);
                    if value.is_null() {
                        self.nulled.add(place);
                    }
                    let before = self.old.map(|row| row.text(field)).unwrap_or_default();
                    if let Some(text) = value.as_str()
                        && let Some(difference) = difference(before, text)
                    {
                        self.diffs.add(place);
                        value = difference.into();
                    }
                }
                avro::optional(out, *kind, &value);
            }
            Slot::Compound { parts, .. } => self.parts(out, place, parts, 1),
        }
    }

    /// A record of parts, as this branch of its union.
    fn parts(&mut self, out: &mut Vec<u8>, place: usize, parts: &[Part], branch: i64) {
        let mut values = Vec::with_capacity(parts.len());
        let mut all_null = true;
        let mut nulled = false;
        for (number, part) in parts.iter().enumerate() {
            let Some(field) = &part.field else {
                values.push(Value::Null);
                continue;
            };
            let value = self.value(field, part.kind);
            all_null &= value.is_null();
            if !self.tells(self.moved(field, part.kind)) {
                values.push(Value::Null);
                continue;
            }
            if self.kind == ChangeType::Update {
                self.any = true;
                self.changed.add_part(place, number);
                if value.is_null() {
                    nulled = true;
                    self.nulled.add_part(place, number);
                }
            }
            values.push(value);
        }
        if nulled && all_null {
            self.nulled.add(place);
        }
        if values.iter().all(Value::is_null) {
            avro::long(out, 0);
            return;
        }
        avro::long(out, branch);
        for (part, value) in parts.iter().zip(&values) {
            avro::optional(out, part.kind, value);
        }
    }

    /// All of a record that is new or back, what changed of one that was changed, nothing of one that is gone.
    fn tells(&self, moved: bool) -> bool {
        match self.kind {
            ChangeType::Create | ChangeType::Undelete => true,
            ChangeType::Update => moved,
            _ => false,
        }
    }
}
