//! The configuration language as a JSON Schema, made from the table that documents are read by.

use serde_json::{Map, Value, json};

use crate::grammar::{DOCUMENT, Key, Shape, Standing};

/// A schema (draft 2020-12) of a document of a sync or a hub. What it accepts may still contradict itself, or name what
/// is not there; what it refuses is refused.
pub fn schema() -> Value {
    let mut schema = object(DOCUMENT);
    if let Some(map) = schema.as_object_mut() {
        // A document may come in pieces, some of them opened out of this key.
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            properties.insert("sync_settings".to_owned(), json!({ "type": "object" }));
        }
        let head = [
            ("$schema", "https://json-schema.org/draft/2020-12/schema"),
            ("title", "sync_ext: document of a sync"),
        ];
        for (key, value) in head {
            map.insert(key.to_owned(), json!(value));
        }
    }
    schema
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut schema = shape(&key.shape);
            let example = serde_json::from_str::<Value>(key.example).unwrap_or(Value::Null);
            if let Some(map) = schema.as_object_mut() {
                map.insert("examples".to_owned(), json!([example]));
                if key.standing == Standing::Kept {
                    map.insert("description".to_owned(), json!("kept, without effect yet"));
                }
            }
            (key.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let (Some(map), false) = (schema.as_object_mut(), required.is_empty()) {
        map.insert("required".to_owned(), json!(required));
    }
    schema
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Shape::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::Text => json!({ "type": "string", "pattern": "\\S" }),
        Shape::Choice(values) => json!({ "enum": values }),
        Shape::List(least, of) => {
            json!({ "type": "array", "items": self::shape(of), "minItems": least })
        }
        Shape::Object(keys) => object(keys),
        Shape::Settings => {
            let plain = json!({ "type": ["string", "number", "boolean"] });
            json!({ "type": "object", "additionalProperties": plain })
        }
        Shape::Either(shapes) => {
            let shapes: Vec<Value> = shapes.iter().map(self::shape).collect();
            json!({ "anyOf": shapes })
        }
        Shape::Any => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sync-document.schema.json");

    /// With SYNC_EXT_WRITE=1 the file is written anew.
    #[test]
    fn the_published_schema_is_that_of_the_grammar() {
        let made = format!("{:#}\n", schema());
        if std::env::var_os("SYNC_EXT_WRITE").is_some() {
            std::fs::write(FILE, &made).unwrap();
        }
        let published = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(published == made, "SYNC_EXT_WRITE=1 cargo test -p document writes {FILE} anew");
    }
}
