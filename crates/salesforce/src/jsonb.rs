use std::fmt::Write;

use serde_json::Value;

use crate::number;

/// A structure as PostgreSQL's jsonb says it: a space behind colon and comma, keys by length and
/// then by bytes, numbers plain.
pub(crate) fn print(value: &Value) -> String {
    let mut text = String::new();
    put(&mut text, value);
    text
}

fn put(text: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
            text.push('{');
            for (place, (name, value)) in fields.into_iter().enumerate() {
                if place > 0 {
                    text.push_str(", ");
                }
                put_string(text, name);
                text.push_str(": ");
                put(text, value);
            }
            text.push('}');
        }
        Value::Array(elements) => {
            text.push('[');
            for (place, element) in elements.iter().enumerate() {
                if place > 0 {
                    text.push_str(", ");
                }
                put(text, element);
            }
            text.push(']');
        }
        Value::Number(n) => {
            let plain = n.to_string();
            if n.is_f64() {
                text.push_str(&number::canonical(&plain).unwrap_or(plain));
            } else {
                text.push_str(&plain);
            }
        }
        // PostgreSQL has no place for NUL in a jsonb.
        Value::String(s) => put_string(text, &s.replace('\0', "")),
        Value::Bool(_) | Value::Null => {
            let _ = write!(text, "{value}");
        }
    }
}

fn put_string(text: &mut String, string: &str) {
    let _ = write!(text, "{}", Value::from(string));
}

#[cfg(test)]
mod tests {
    use super::print;
    use serde_json::json;

    #[test]
    fn structures_look_as_jsonb_prints_them() {
        let address = json!({"street": "A \"1\"\n", "city": "Köln", "latitude": 50.9375, "big": 1.5e3, "z": null, "l": [true, 1]});
        assert_eq!(
            print(&address),
            r#"{"l": [true, 1], "z": null, "big": 1500, "city": "Köln", "street": "A \"1\"\n", "latitude": 50.9375}"#
        );
        assert_eq!((print(&json!({})), print(&json!([]))), ("{}".into(), "[]".into()));
    }
}
