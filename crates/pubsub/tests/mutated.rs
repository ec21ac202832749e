//! Events that nobody expects: what is read is right, or is told as not readable.

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use pubsub::{ChangeType, Kind, Schema, Value, decode};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

/// A field with its value.
#[derive(Clone, Debug)]
enum Slot {
    Text(Option<String>),
    Long(Option<i64>),
    Int(Option<i32>),
    Double(Option<f64>),
    Boolean(Option<bool>),
    /// Parts of a compound field; nothing: null as a whole.
    Address(Option<Vec<Option<String>>>),
}

const PARTS: [&str; 3] = ["Street", "City", "State"];

/// What is in a set of an event's header.
type Set = (BTreeSet<usize>, BTreeMap<usize, BTreeSet<usize>>);

#[derive(Clone, Debug)]
struct Sets {
    changed: Set,
    nulled: Set,
    differing: Set,
}

fn slot() -> impl Strategy<Value = Slot> {
    let text = || option::of(".{0,12}");
    prop_oneof![
        text().prop_map(Slot::Text),
        option::of(any::<i64>()).prop_map(Slot::Long),
        option::of(any::<i32>()).prop_map(Slot::Int),
        option::of(-1e300..1e300f64).prop_map(Slot::Double),
        option::of(any::<bool>()).prop_map(Slot::Boolean),
        option::of(vec(text(), 3)).prop_map(Slot::Address),
    ]
}

/// Any set of fields and parts that are there, by the places of the schema.
fn set(slots: &[Slot]) -> impl Strategy<Value = Set> + use<> {
    let compound: Vec<usize> = (0..slots.len())
        .filter(|&at| matches!(slots[at], Slot::Address(_)))
        .map(|at| at + 1)
        .collect();
    let tops = btree_set(1..=slots.len(), 0..=slots.len());
    let parts = vec(btree_set(0..PARTS.len(), 0..=PARTS.len()), compound.len());
    (tops, parts).prop_map(move |(tops, parts)| {
        let parts = compound.iter().copied().zip(parts).filter(|(_, parts)| !parts.is_empty());
        (tops, parts.collect())
    })
}

fn event() -> impl Strategy<Value = (Vec<Slot>, Sets)> {
    vec(slot(), 1..12).prop_flat_map(|slots| {
        let sets = (set(&slots), set(&slots), set(&slots));
        let sets =
            sets.prop_map(|(changed, nulled, differing)| Sets { changed, nulled, differing });
        (Just(slots), sets)
    })
}

fn hex(bits: &BTreeSet<usize>) -> String {
    let mut number = [0u8; 4];
    for bit in bits {
        number[3 - bit / 8] |= 1 << (bit % 8);
    }
    format!("0x{}", number.map(|byte| format!("{byte:02X}")).concat())
}

fn elements((tops, parts): &Set) -> Avro {
    let top = (!tops.is_empty()).then(|| hex(tops));
    let parts = parts.iter().map(|(at, parts)| format!("{at}-{}", hex(parts)));
    Avro::Array(top.into_iter().chain(parts).map(Avro::String).collect())
}

fn schema(slots: &[Slot]) -> Json {
    let texts = json!({"type": "array", "items": "string"});
    let header = json!({"type": "record", "name": "ChangeEventHeader", "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": texts},
        {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": ["CREATE", "UPDATE", "DELETE", "UNDELETE", "GAP_UPDATE"]}},
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitNumber", "type": "long"},
        {"name": "commitUser", "type": "string"},
        {"name": "nulledFields", "type": texts},
        {"name": "diffFields", "type": texts},
        {"name": "changedFields", "type": texts},
    ]});
    let mut defined = false;
    let fields = slots.iter().enumerate().map(|(at, slot)| {
        let kind = match slot {
            Slot::Text(_) => json!("string"),
            Slot::Long(_) => json!("long"),
            Slot::Int(_) => json!("int"),
            Slot::Double(_) => json!("double"),
            Slot::Boolean(_) => json!("boolean"),
            Slot::Address(_) if std::mem::replace(&mut defined, true) => json!("Address"),
            Slot::Address(_) => json!({"type": "record", "name": "Address", "fields":
                PARTS.map(|part| json!({"name": part, "type": ["null", "string"]}))}),
        };
        json!({"name": format!("F{at}"), "type": ["null", kind]})
    });
    let fields: Vec<Json> =
        [json!({"name": "ChangeEventHeader", "type": header})].into_iter().chain(fields).collect();
    json!({"type": "record", "name": "AccountChangeEvent", "namespace": "com.sforce.eventbus", "fields": fields})
}

fn optional(value: Option<Avro>) -> Avro {
    match value {
        Some(value) => Avro::Union(1, Box::new(value)),
        None => Avro::Union(0, Box::new(Avro::Null)),
    }
}

/// The event as the reference implementation of Avro writes it.
fn written(schema: &Json, change: u32, slots: &[Slot], sets: &Sets) -> Vec<u8> {
    written_with(
        schema,
        change,
        slots,
        [&sets.nulled, &sets.differing, &sets.changed].map(elements),
    )
}

fn written_with(
    schema: &Json,
    change: u32,
    slots: &[Slot],
    [nulled, differing, changed]: [Avro; 3],
) -> Vec<u8> {
    let names = ["CREATE", "UPDATE", "DELETE", "UNDELETE", "GAP_UPDATE"];
    let text = |text: &str| Avro::String(text.to_owned());
    let header = Avro::Record(
        [
            ("entityName", text("Account")),
            ("recordIds", Avro::Array(vec![text("001000000000001AAA")])),
            ("changeType", Avro::Enum(change, names[change as usize].to_owned())),
            ("changeOrigin", text("com/salesforce/api/rest/62.0;client=c")),
            ("transactionKey", text("t")),
            ("sequenceNumber", Avro::Int(1)),
            ("commitTimestamp", Avro::Long(1_777_620_337_000)),
            ("commitNumber", Avro::Long(i64::MAX)),
            ("commitUser", text("005000000000001AAA")),
            ("nulledFields", nulled),
            ("diffFields", differing),
            ("changedFields", changed),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    );
    let fields = slots.iter().enumerate().map(|(at, slot)| {
        let value = match slot {
            Slot::Text(value) => value.clone().map(Avro::String),
            Slot::Long(value) => value.map(Avro::Long),
            Slot::Int(value) => value.map(Avro::Int),
            Slot::Double(value) => value.map(Avro::Double),
            Slot::Boolean(value) => value.map(Avro::Boolean),
            Slot::Address(parts) => parts.as_ref().map(|parts| {
                let parts = PARTS.iter().zip(parts);
                let value = |part: &Option<String>| optional(part.clone().map(Avro::String));
                Avro::Record(parts.map(|(name, part)| ((*name).to_owned(), value(part))).collect())
            }),
        };
        (format!("F{at}"), optional(value))
    });
    let record = [("ChangeEventHeader".to_owned(), header)].into_iter().chain(fields).collect();
    let schema = apache_avro::Schema::parse(schema).expect("a schema");
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    writer.write_value_to_vec(Avro::Record(record)).expect("written")
}

/// All fields and parts with their values and what the sets say of each: changed, nulled, different.
fn model(slots: &[Slot], sets: &Sets) -> Vec<(String, Value, [bool; 3])> {
    let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
    let mut all = Vec::new();
    for (at, slot) in slots.iter().enumerate() {
        let place = at + 1;
        let sets = [&sets.changed, &sets.nulled, &sets.differing];
        let top = sets.map(|(tops, _)| tops.contains(&place));
        let value = match slot {
            Slot::Text(value) => text(value),
            Slot::Long(value) => value.map_or(Value::Null, Value::Integer),
            Slot::Int(value) => value.map_or(Value::Null, |n| Value::Integer(n.into())),
            Slot::Double(value) => value.map_or(Value::Null, Value::Number),
            Slot::Boolean(value) => value.map_or(Value::Null, Value::Boolean),
            Slot::Address(parts) => {
                for (number, name) in PARTS.iter().enumerate() {
                    let value = parts.as_ref().map_or(Value::Null, |parts| text(&parts[number]));
                    let own = sets
                        .map(|(_, parts)| parts.get(&place).is_some_and(|p| p.contains(&number)));
                    all.push((format!("F{at}.{name}"), value, own));
                }
                continue;
            }
        };
        all.push((format!("F{at}"), value, top));
    }
    all
}

fn name(field: &pubsub::Field) -> String {
    field.part.as_ref().map_or_else(|| field.name.clone(), |part| format!("{}.{part}", field.name))
}

fn parsed(schema: &Json) -> Schema {
    Schema::parse(&schema.to_string()).expect("a schema")
}

proptest! {
    #[test]
    fn a_field_is_told_with_its_own_value_or_not_at_all((slots, sets) in event(), change in 0..4u32) {
        let schema = schema(&slots);
        let kind = decode(&parsed(&schema), &written(&schema, change, &slots, &sets));
        let Kind::Changed(told) = kind else { panic!("not read: {kind:?}") };
        let model = model(&slots, &sets);
        let untold: BTreeSet<String> = told.untold.iter().map(name).collect();
        let values: BTreeMap<String, Value> = told.fields.iter().map(|(f, v)| (name(f), v.clone())).collect();
        prop_assert_eq!(values.len(), told.fields.len(), "no field twice");
        if told.change == ChangeType::Deleted {
            prop_assert!(values.is_empty() && untold.is_empty());
            return Ok(());
        }
        for (field, value, [changed, nulled, differs]) in model {
            let told_value = values.get(&field);
            if let Some(told_value) = told_value {
                prop_assert_eq!(told_value, &value, "{}", field);
                prop_assert!(!differs && !untold.contains(&field), "{}", field);
            }
            if differs || (nulled && value != Value::Null) {
                prop_assert!(untold.contains(&field), "{}", field);
            }
            // Nothing that changed is kept silent about; and nobody is told that a field was emptied that was not.
            let update = told.change == ChangeType::Updated;
            if changed || nulled || value != Value::Null || !update {
                prop_assert!(told_value.is_some() || untold.contains(&field), "{} is kept silent about", field);
            }
            if update && changed && !nulled && value == Value::Null && !field.contains('.') {
                prop_assert!(told_value.is_none(), "{} was not said to be empty", field);
            }
        }
    }

    #[test]
    fn an_event_that_is_cut_or_too_long_is_not_read((slots, sets) in event(), more in vec(any::<u8>(), 1..4)) {
        let schema = schema(&slots);
        let (payload, schema) = (written(&schema, 1, &slots, &sets), parsed(&schema));
        for end in 0..payload.len() {
            let unreadable = matches!(decode(&schema, &payload[..end]), Kind::Unreadable { .. });
            prop_assert!(unreadable, "cut at {}", end);
        }
        let unreadable = matches!(decode(&schema, &[payload, more].concat()), Kind::Unreadable { .. });
        prop_assert!(unreadable);
    }

    #[test]
    fn any_bytes_are_survived(
        (slots, sets) in event(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        noise in vec(any::<u8>(), 0..400),
    ) {
        let json = schema(&slots);
        let schema = parsed(&json);
        let mut payload = written(&json, 1, &slots, &sets);
        for (at, byte) in edits {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        let _ = (decode(&schema, &payload), decode(&schema, &noise));
    }

    /// The bits of a set mean fields of the schema, or the event is of another.
    #[test]
    fn a_bit_without_a_field_spoils_the_event((slots, sets) in event(), beyond in 0..8usize) {
        let mut sets = sets;
        sets.changed.0.insert(slots.len() + 1 + beyond);
        let schema = schema(&slots);
        let kind = decode(&parsed(&schema), &written(&schema, 1, &slots, &sets));
        prop_assert!(matches!(kind, Kind::Unreadable { .. }), "{:?}", kind);
    }

    #[test]
    fn any_text_as_a_set_is_survived(texts in vec("(0x)?[0-9A-Fa-fx-]{0,8}|[0-9]{1,3}-0x[0-9A-F]{0,6}|.{0,6}", 0..4)) {
        let json = schema(&[Slot::Text(None), Slot::Address(None)]);
        let set = Avro::Array(texts.into_iter().map(Avro::String).collect());
        let none = || Avro::Array(Vec::new());
        let slots = [Slot::Text(None), Slot::Address(None)];
        let payload = written_with(&json, 1, &slots, [none(), none(), set]);
        let _ = decode(&parsed(&json), &payload);
    }

    #[test]
    fn any_schema_is_survived(text in ".{0,60}", cut in any::<prop::sample::Index>(), byte in any::<char>(), slots in vec(slot(), 1..6)) {
        let _ = Schema::parse(&text);
        let whole = schema(&slots).to_string();
        let chars: Vec<char> = whole.chars().collect();
        let at = cut.index(chars.len());
        let mut changed = chars.clone();
        changed[at] = byte;
        let _ = Schema::parse(&chars[..at].iter().collect::<String>());
        if let Ok(schema) = Schema::parse(&changed.iter().collect::<String>()) {
            let sets = Sets { changed: Set::default(), nulled: Set::default(), differing: Set::default() };
            let _ = decode(&schema, &written(&self::schema(&slots), 0, &slots, &sets));
        }
    }
}

/// Lists of what takes no bytes, and types that hold each other many times over.
#[test]
fn little_bytes_never_become_much() {
    let nothing = json!({"type": "record", "name": "R", "fields": [
        {"name": "many", "type": {"type": "array", "items": "null"}}]});
    let many = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(matches!(decode(&parsed(&nothing), &many), Kind::Unreadable { .. }));
    let wide = |name: &str, of: &str| -> Json {
        let fields: Vec<Json> =
            (0..200).map(|n| json!({"name": format!("f{n}"), "type": of})).collect();
        json!({"type": "record", "name": name, "fields": fields})
    };
    let mut outer = json!({"type": "record", "name": "Outer", "fields": []});
    outer["fields"] = json!([
        {"name": "a", "type": wide("A", "null")},
        {"name": "b", "type": wide("B", "A")},
        {"name": "c", "type": wide("C", "B")},
        {"name": "d", "type": wide("D", "C")},
    ]);
    let refused = Schema::parse(&outer.to_string()).err().unwrap_or_default();
    assert!(refused.contains("too many fields"), "{refused:?}");
}
