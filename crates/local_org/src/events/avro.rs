//! Avro's binary form (Avro specification, Binary Encoding), of the types that change events are made of.

use crate::moment;
use serde_json::Value;

/// What a field's values are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    Int,
    Double,
    /// Milliseconds since 1970, of a moment.
    Moment,
    /// The same of a day's midnight in UTC.
    Day,
    /// Milliseconds of the day.
    Time,
    Text,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
            Self::Moment | Self::Day | Self::Time => "long",
            Self::Text => "string",
        }
    }
}

/// Zigzag, seven bits a byte.
pub(super) fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    long(out, value.len() as i64);
    out.extend_from_slice(value.as_bytes());
}

/// An array in a single block.
pub(super) fn texts(out: &mut Vec<u8>, values: &[String]) {
    if !values.is_empty() {
        long(out, values.len() as i64);
        for value in values {
            text(out, value);
        }
    }
    long(out, 0);
}

/// A value of `["null", type]`.
pub(super) fn optional(out: &mut Vec<u8>, kind: Type, value: &Value) {
    let before = out.len();
    long(out, 1);
    let written = match (kind, value) {
        (Type::Boolean, Value::Bool(value)) => {
            out.push(u8::from(*value));
            true
        }
        (Type::Int, Value::Number(value)) => value.as_i64().map(|n| long(out, n)).is_some(),
        (Type::Double, Value::Number(value)) => {
            value.as_f64().map(|n| out.extend_from_slice(&n.to_le_bytes())).is_some()
        }
        (Type::Text, Value::String(value)) => {
            text(out, value);
            true
        }
        (Type::Moment | Type::Day | Type::Time, Value::String(value)) => {
            let whole = match kind {
                Type::Moment => value.clone(),
                Type::Day => format!("{value}T00:00:00.000Z"),
                _ => format!("1970-01-01T{value}"),
            };
            moment::moment(&whole, true).map(|at| long(out, at)).is_some()
        }
        _ => false,
    };
    if !written {
        // Null, or what was stored while the field was of another type.
        out.truncate(before);
        long(out, 0);
    }
}
