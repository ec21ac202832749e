//! Values: a number that no two writes of users share, and two bits that a side may change of it. By the number it is
//! known where a value went; the bits are what triggers and rounding do.

use change::image::Value;
use std::sync::OnceLock;

/// What a field holds; `None`: null.
pub(crate) type Held = Option<u32>;
pub(crate) type Row = Vec<Held>;

/// More values than any run has.
const MOST: u32 = 1 << 14;

/// A value as the merge takes it.
pub(crate) fn as_value(held: Held) -> Value<'static> {
    static BYTES: OnceLock<Vec<[u8; 4]>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| (0..MOST).map(u32::to_le_bytes).collect());
    held.map_or(Value::Null, |n| Value::Bytes(&bytes[n as usize]))
}

/// A value that the merge gave back; `None`: it has none to be written.
pub(crate) fn held(value: Value<'_>) -> Option<Held> {
    match value {
        Value::Null => Some(None),
        Value::Bytes(bytes) => Some(bytes.try_into().ok().map(u32::from_le_bytes)),
        Value::Absent | Value::Marker => None,
    }
}

pub(crate) const fn made(id: u32, bits: u32) -> u32 {
    id << 2 | bits & 3
}

/// Which write it comes from.
pub(crate) const fn id(value: u32) -> u32 {
    value >> 2
}

/// As a side holds it that rounds.
pub(crate) fn rounded(held: Held) -> Held {
    held.map(|n| n & !3)
}
