//! Events as they are written (Avro specification, Binary Encoding), and their schema.

use serde_json::{Value as Json, json};

pub(crate) fn schema() -> Json {
    let texts = json!({"type": "array", "items": "string"});
    let header = json!({"type": "record", "name": "ChangeEventHeader", "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": texts},
        {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": ["CREATE", "UPDATE"]}},
        {"name": "changeOrigin", "type": "string"},
        {"name": "transactionKey", "type": "string"},
        {"name": "sequenceNumber", "type": "int"},
        {"name": "commitTimestamp", "type": "long"},
        {"name": "commitUser", "type": "string"},
        {"name": "nulledFields", "type": texts},
        {"name": "diffFields", "type": texts},
        {"name": "changedFields", "type": texts},
    ]});
    let address = json!({"type": "record", "name": "Address", "fields": [
        {"name": "Street", "type": ["null", "string"]}, {"name": "City", "type": ["null", "string"]}]});
    json!({"type": "record", "name": "AccountChangeEvent", "namespace": "com.sforce.eventbus", "fields": [
        {"name": "ChangeEventHeader", "type": header},
        {"name": "Name", "type": ["null", "string"]},
        {"name": "BillingAddress", "type": ["null", address]},
    ]})
}

fn long(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    loop {
        let low = (rest & 0x7f) as u8;
        rest >>= 7;
        if rest == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn text(text: &str) -> Vec<u8> {
    [long(text.len() as i64), text.as_bytes().to_vec()].concat()
}

fn texts(all: &[&str]) -> Vec<u8> {
    if all.is_empty() {
        return long(0);
    }
    let items = all.iter().flat_map(|one| text(one));
    long(all.len() as i64).into_iter().chain(items).chain(long(0)).collect()
}

/// An update of the name of one record, with these sets of fields.
pub(crate) fn payload(number: usize, sets: [&[&str]; 3]) -> Vec<u8> {
    [
        text("Account"),
        texts(&[&format!("001{number:012}AAA")]),
        long(1),
        text("com/salesforce/api/rest/62.0;client=c"),
        text("t"),
        long(1),
        long(1_777_620_337_000),
        text("005000000000001AAA"),
        texts(sets[0]),
        texts(sets[1]),
        texts(sets[2]),
        [long(1), text(&format!("n{number}"))].concat(),
        long(0),
    ]
    .concat()
}
