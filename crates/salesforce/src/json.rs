//! Reading JSON that the org sent, of which nobody knows how much memory it takes when read: a megabyte of `[0,0,0,…]`
//! takes sixteen.

use serde_json::Value;

/// Most values of one answer: several times what two thousand records of eight hundred fields are.
const MOST_VALUES: usize = 4 << 20;

/// Reads an answer; `None` where it is no JSON, or more of it than any call asks for.
pub(crate) fn read(bytes: &[u8]) -> Option<Value> {
    if values(bytes) > MOST_VALUES {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

/// How many values there are at the most: whatever stands behind a bracket, a brace or a comma that is no part of a text.
fn values(bytes: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::{MOST_VALUES, read, values};
    use serde_json::json;

    #[test]
    fn texts_count_as_one_whatever_they_hold() {
        assert_eq!(values(br#"{"a": "[,,{\",,", "b": [1, 2]}"#), 5);
        assert_eq!(read(br#"{"a": "x,\"y"}"#), Some(json!({"a": "x,\"y"})));
        let long = format!("\"{}\"", ",".repeat(MOST_VALUES + 1));
        assert!(read(long.as_bytes()).is_some());
    }

    #[test]
    fn more_values_than_any_answer_has_are_none() {
        let many = |n: usize| format!("[{}0]", "0,".repeat(n - 2));
        assert!(read(many(MOST_VALUES).as_bytes()).is_some());
        assert!(read(many(MOST_VALUES + 1).as_bytes()).is_none());
        assert!(read(b"[").is_none());
    }
}
