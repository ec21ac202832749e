//! An object's change events as an Avro schema (Change Data Capture guide, Change Event Fields).

use super::avro::Type;
use super::change::HEADER;
use crate::schema::{Field, FieldType, Object};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The parts of an address, in the order of real schemas. Those of code and accuracy are never filled here.
const ADDRESS: [(&str, Type); 11] = [
    ("Street", Type::Text),
    ("City", Type::Text),
    ("State", Type::Text),
    ("PostalCode", Type::Text),
    ("Country", Type::Text),
    ("StateCode", Type::Text),
    ("CountryCode", Type::Text),
    ("Latitude", Type::Double),
    ("Longitude", Type::Double),
    ("Xyz", Type::Text),
    ("GeocodeAccuracy", Type::Text),
];
const PERSON: [(&str, Type); 3] =
    [("Salutation", Type::Text), ("FirstName", Type::Text), ("LastName", Type::Text)];

/// A field of an event, behind its header.
#[derive(Debug)]
pub(super) enum Slot {
    Plain {
        /// The object's field.
        field: String,
        kind: Type,
        /// May the user that logs in see it? What it may not see is never told.
        visible: bool,
        /// `["null", "string", record]`: the name of an object whose records can be persons, and its parts.
        switchable: Option<Vec<Part>>,
    },
    Compound {
        name: String,
        record: &'static str,
        parts: Vec<Part>,
    },
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    /// The object's field, if it has one and it may be seen.
    pub(super) field: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Schema {
    pub(super) id: String,
    pub(super) json: String,
    pub(super) object: String,
    /// The field at place `i` of the schema is `slots[i - 1]`: the header comes first.
    pub(super) slots: Vec<Slot>,
}

impl Schema {
    pub(super) fn new(object: &Object) -> Self {
        let slots: Vec<Slot> = object.fields.iter().filter_map(|f| slot(object, f)).collect();
        let mut fields = vec![json!({"name": "ChangeEventHeader", "type": header()})];
        let mut defined: Vec<&str> = Vec::new();
        fields.extend(slots.iter().map(|slot| describe(object, slot, &mut defined)));
        let json = json!({
            "name": event_name(&object.name),
            "namespace": "com.sforce.eventbus",
            "type": "record",
            "fields": fields,
        })
        .to_string();
        let id = URL_SAFE_NO_PAD.encode(&digest(&SHA256, json.as_bytes()).as_ref()[..16]);
        Self { id, json, object: object.name.clone(), slots }
    }
}

/// `AccountChangeEvent`, `Employee__ChangeEvent`.
pub(super) fn event_name(object: &str) -> String {
    match object.strip_suffix("__c") {
        Some(stem) => format!("{stem}__ChangeEvent"),
        None => format!("{object}ChangeEvent"),
    }
}

/// Formulas are not captured, the id is in the header, of stamps that of the system is left out, and what only deleted
/// records have is told of none.
fn slot(object: &Object, field: &Field) -> Option<Slot> {
    let left_out =
        ["Id", "IsDeleted", "MasterRecordId", "SystemModstamp"].contains(&field.name.as_str());
    if left_out || field.formula.is_some() || field.compound.is_some() {
        return None;
    }
    let parts = |list: &[(&'static str, Type)], stem: &str| {
        list.iter()
            .map(|&(name, kind)| {
                let own = object.fields.iter().find(|f| {
                    f.compound.as_deref() == Some(field.name.as_str())
                        && f.name == format!("{stem}{name}")
                });
                let field = own.filter(|f| f.visible).map(|f| f.name.clone());
                Part { name, kind, field }
            })
            .collect()
    };
    if field.kind == FieldType::Address {
        let stem = field.name.trim_end_matches("Address");
        return Some(Slot::Compound {
            name: field.name.clone(),
            record: "Address",
            parts: parts(&ADDRESS, stem),
        });
    }
    let switchable = object.name == "Account" && field.name == "Name";
    let made_of_parts =
        object.fields.iter().any(|f| f.compound.as_deref() == Some(field.name.as_str()));
    if made_of_parts && !switchable {
        return Some(Slot::Compound {
            name: field.name.clone(),
            record: "PersonName",
            parts: parts(&PERSON, ""),
        });
    }
    Some(Slot::Plain {
        field: field.name.clone(),
        kind: kind(field.kind),
        visible: field.visible,
        switchable: switchable.then(|| parts(&PERSON, "")),
    })
}

fn kind(kind: FieldType) -> Type {
    match kind {
        FieldType::Boolean => Type::Boolean,
        FieldType::Int => Type::Int,
        FieldType::Double | FieldType::Currency | FieldType::Percent => Type::Double,
        FieldType::Date => Type::Day,
        FieldType::DateTime => Type::Moment,
        FieldType::Time => Type::Time,
        _ => Type::Text,
    }
}

fn describe(object: &Object, slot: &Slot, defined: &mut Vec<&'static str>) -> Value {
    let record = |name: &'static str, parts: &[(&str, Type)]| {
        let fields: Vec<Value> = parts
            .iter()
            .map(|(name, kind)| json!({"name": name, "type": ["null", kind.name()], "default": null}))
            .collect();
        json!({"type": "record", "name": name, "fields": fields})
    };
    match slot {
        Slot::Plain { field, switchable: Some(_), .. } => {
            let person = record("Switchable_PersonName", &PERSON);
            json!({"name": field, "type": ["null", "string", person], "doc": "Data:SwitchablePersonName", "default": null})
        }
        Slot::Plain { field, kind, .. } => {
            let doc = object.field(field).map_or("Data:Text", |f| doc(f.kind));
            json!({"name": field, "type": ["null", kind.name()], "doc": doc, "default": null})
        }
        Slot::Compound { name, record: of, parts } => {
            // A type is defined where it comes first, and called by its name from then on.
            let of: Value = if defined.contains(of) {
                (*of).into()
            } else {
                defined.push(of);
                let parts: Vec<(&str, Type)> = parts.iter().map(|p| (p.name, p.kind)).collect();
                record(of, &parts)
            };
            json!({"name": name, "type": ["null", of], "default": null})
        }
    }
}

fn doc(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Reference => "ForeignKey:EntityId",
        FieldType::DateTime => "Data:DateTime",
        FieldType::Date => "Data:DateOnly",
        FieldType::Time => "Data:TimeOnly",
        FieldType::MultiPicklist => "Data:MultiEnum",
        FieldType::Picklist => "Data:StaticEnum",
        FieldType::Boolean => "Data:Boolean",
        FieldType::Int => "Data:Integer",
        FieldType::Double => "Data:Double",
        FieldType::Currency => "Data:Currency",
        FieldType::Percent => "Data:Percent",
        FieldType::Email => "Data:Email",
        FieldType::Phone => "Data:Phone",
        FieldType::Url => "Data:Url",
        _ => "Data:Text",
    }
}

fn header() -> Value {
    let fields: Vec<Value> = HEADER
        .iter()
        .map(|(name, kind)| match *kind {
            "enum" => json!({"name": name, "type": {
                "type": "enum", "name": "ChangeType",
                "symbols": super::change::ChangeType::NAMES,
            }}),
            "array" => json!({"name": name, "type": {"type": "array", "items": "string"}}),
            kind => json!({"name": name, "type": kind}),
        })
        .collect();
    json!({"type": "record", "name": "ChangeEventHeader", "fields": fields})
}
