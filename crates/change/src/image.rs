//! The binary image of a row: the values of the columns a shape names, as PostgreSQL holds them in
//! memory, detoasted, unaligned, without varlena headers.
//!
//! ```text
//! u32 length of all that follows and this word · u32 checksum · u16 columns
//! 2 bits a column: absent, null, value, marker
//! each value: its bytes where the type has a fixed length, else u32 length and the bytes
//! ```
//! Integers are in the machine's byte order: an image never leaves the server that wrote it.

use std::borrow::Cow;

/// Bytes before the column states.
pub const HEADER: usize = 10;
/// More columns than PostgreSQL allows a table.
pub const MAX_COLUMNS: usize = 1664;

/// What an image holds of one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// Not recorded: the change left the column as it was.
    Absent,
    Null,
    Bytes(&'a [u8]),
    /// Too large to be kept; the row has to be read.
    Marker,
}

impl<'a> Value<'a> {
    /// Null or bytes: something that can be written to a row.
    pub fn is_known(self) -> bool {
        matches!(self, Value::Null | Value::Bytes(_))
    }

    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The two bits that stand for a column's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Absent = 0,
    Null = 1,
    Value = 2,
    Marker = 3,
}

/// Why an image could not be read. The row is then read by its key instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Shorter than it says, or longer.
    Length,
    Checksum,
    /// Another number of columns than the shape has.
    Columns,
    /// A value runs past the end.
    Value,
}

/// Bytes taken by the states of `columns` columns.
pub const fn state_bytes(columns: usize) -> usize {
    columns.div_ceil(4)
}

/// A 32-bit checksum, fast rather than strong: it tells a torn or foreign image, not an attack.
#[inline]
pub fn checksum(bytes: &[u8]) -> u32 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = K ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_ne_bytes(*word)).wrapping_mul(K).rotate_left(29);
    }
    let mut last = [0u8; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    hash = (hash ^ u64::from_ne_bytes(last)).wrapping_mul(K);
    (hash ^ (hash >> 32)) as u32
}

/// Writes length, checksum and column count into the first [`HEADER`] bytes of a finished image.
#[inline]
pub fn seal(image: &mut [u8], columns: u16) {
    let length = image.len() as u32;
    if let Some((header, body)) = image.split_first_chunk_mut::<HEADER>() {
        let sum = checksum(body);
        header[0..4].copy_from_slice(&length.to_ne_bytes());
        header[4..8].copy_from_slice(&sum.to_ne_bytes());
        header[8..10].copy_from_slice(&columns.to_ne_bytes());
    }
}

/// Encodes an image. `lengths` are the shape's type lengths: positive for a fixed length, negative
/// for a value that carries its own.
pub fn encode(values: &[Value<'_>], lengths: &[i16], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + HEADER + state_bytes(values.len()), 0);
    for (i, value) in values.iter().enumerate() {
        let state = match value {
            Value::Absent => State::Absent,
            Value::Null => State::Null,
            Value::Bytes(_) => State::Value,
            Value::Marker => State::Marker,
        };
        out[start + HEADER + i / 4] |= (state as u8) << (2 * (i % 4));
        if let Value::Bytes(bytes) = value {
            push_value(bytes, lengths[i], out);
        }
    }
    seal(&mut out[start..], values.len() as u16);
}

/// What an image holds of a column, without reading its value; `None` where it has no such column. The checksum is not
/// looked at.
pub fn state(image: &[u8], column: usize) -> Option<State> {
    let columns = image.get(8..HEADER)?.try_into().map(u16::from_ne_bytes).ok()?;
    let states = image.get(HEADER..).filter(|_| column < usize::from(columns))?;
    states.get(column / 4).map(|_| state_in(states, column))
}

/// The state of a column in those of all.
#[inline]
fn state_in(states: &[u8], column: usize) -> State {
    match (states[column / 4] >> (2 * (column % 4))) & 3 {
        0 => State::Absent,
        1 => State::Null,
        2 => State::Value,
        _ => State::Marker,
    }
}

/// Decodes an image into `out`, one value a column of the shape; never reads past `image`.
///
/// # Errors
/// Any [`Damage`]: the caller falls back to reading the row by its key.
pub fn decode<'a>(
    image: &'a [u8],
    lengths: &[i16],
    out: &mut Vec<Value<'a>>,
) -> Result<(), Damage> {
    out.clear();
    let (header, body) = image.split_first_chunk::<HEADER>().ok_or(Damage::Length)?;
    let word = |at: usize| {
        u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    if word(0) as usize != image.len() {
        return Err(Damage::Length);
    }
    if word(4) != checksum(body) {
        return Err(Damage::Checksum);
    }
    if usize::from(u16::from_ne_bytes([header[8], header[9]])) != lengths.len() {
        return Err(Damage::Columns);
    }
    let (states, mut rest) =
        body.split_at_checked(state_bytes(lengths.len())).ok_or(Damage::Length)?;
    for (i, &length) in lengths.iter().enumerate() {
        out.push(match state_in(states, i) {
            State::Absent => Value::Absent,
            State::Null => Value::Null,
            State::Marker => Value::Marker,
            State::Value => Value::Bytes(take_value(&mut rest, length).ok_or(Damage::Value)?),
        });
    }
    if rest.is_empty() { Ok(()) } else { Err(Damage::Length) }
}

/// Encodes a key: its values one after the other, nothing else, so that equal keys are equal bytes.
/// `None` where a value is missing or null, which no key has. Numbers have their highest byte first, so
/// that those which follow one another are neighbours in an index of keys.
pub fn encode_key<'a>(
    values: impl IntoIterator<Item = Value<'a>>,
    lengths: &[i16],
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(24);
    for (value, &length) in values.into_iter().zip(lengths) {
        let bytes = value.bytes()?;
        if is_number(length) && bytes.len() == length as usize {
            out.extend(highest_first(bytes));
        } else {
            push_value(bytes, length, &mut out);
        }
    }
    Some(out)
}

/// The values of a key that [`encode_key`] wrote.
pub fn decode_key<'a>(mut key: &'a [u8], lengths: &[i16]) -> Option<Vec<Cow<'a, [u8]>>> {
    let mut values = Vec::with_capacity(lengths.len());
    for &length in lengths {
        let value = take_value(&mut key, length)?;
        values.push(if is_number(length) {
            Cow::Owned(highest_first(value).collect())
        } else {
            Cow::Borrowed(value)
        });
    }
    key.is_empty().then_some(values)
}

/// Types of these lengths are numbers, or moments, which are numbers too.
fn is_number(length: i16) -> bool {
    matches!(length, 2 | 4 | 8)
}

/// The bytes of a number in memory, highest first; and back.
fn highest_first(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let little = cfg!(target_endian = "little");
    let last = bytes.len() - 1;
    (0..bytes.len()).map(move |n| bytes[if little { last - n } else { n }])
}

fn push_value(bytes: &[u8], length: i16, out: &mut Vec<u8>) {
    if length < 0 {
        out.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
    }
    out.extend_from_slice(bytes);
}

fn take_value<'a>(rest: &mut &'a [u8], length: i16) -> Option<&'a [u8]> {
    let length = if length < 0 {
        let (word, tail) = rest.split_first_chunk::<4>()?;
        *rest = tail;
        u32::from_ne_bytes(*word) as usize
    } else {
        length as usize
    };
    let (value, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column() -> impl Strategy<Value = (i16, Option<Option<Vec<u8>>>)> {
        prop_oneof![Just(1i16), Just(4), Just(8), Just(16), Just(-1), Just(-2)].prop_flat_map(
            |length| {
                let size = if length > 0 { length as usize..=length as usize } else { 0..=40 };
                (
                    Just(length),
                    prop::option::of(prop::option::of(prop::collection::vec(any::<u8>(), size))),
                )
            },
        )
    }

    fn value(held: &Option<Option<Vec<u8>>>) -> Value<'_> {
        match held {
            None => Value::Absent,
            Some(None) => Value::Null,
            Some(Some(bytes)) => Value::Bytes(bytes),
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(columns in prop::collection::vec(column(), 0..30)) {
            let lengths: Vec<i16> = columns.iter().map(|c| c.0).collect();
            let values: Vec<Value<'_>> = columns.iter().map(|c| value(&c.1)).collect();
            let mut image = Vec::new();
            encode(&values, &lengths, &mut image);
            let mut decoded = Vec::new();
            prop_assert_eq!(decode(&image, &lengths, &mut decoded), Ok(()));
            prop_assert_eq!(decoded, values);
        }

        #[test]
        fn a_damaged_image_is_noticed_and_never_panics(
            columns in prop::collection::vec(column(), 1..10), at in any::<prop::sample::Index>(), flip in 1u8..
        ) {
            let lengths: Vec<i16> = columns.iter().map(|c| c.0).collect();
            let values: Vec<Value<'_>> = columns.iter().map(|c| value(&c.1)).collect();
            let mut image = Vec::new();
            encode(&values, &lengths, &mut image);
            let at = at.index(image.len());
            image[at] ^= flip;
            let mut decoded = Vec::new();
            prop_assert!(decode(&image, &lengths, &mut decoded).is_err());
            prop_assert!(decode(&image[..at], &lengths, &mut decoded).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(image in prop::collection::vec(any::<u8>(), 0..200), lengths in prop::collection::vec(-2i16..20, 0..20)) {
            let mut decoded = Vec::new();
            let _ = decode(&image, &lengths, &mut decoded);
            let _ = decode_key(&image, &lengths);
        }

        #[test]
        fn a_key_survives(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5)) {
            let lengths = vec![-1i16; parts.len()];
            let key = encode_key(parts.iter().map(|p| Value::Bytes(p)), &lengths).unwrap();
            prop_assert_eq!(decode_key(&key, &lengths).unwrap(), parts);
        }

        #[test]
        fn keys_of_numbers_lie_in_their_order(a in any::<u32>(), b in any::<u32>(), long in any::<u64>()) {
            let key = |n: u32| encode_key(
                [Value::Bytes(&n.to_ne_bytes()), Value::Bytes(&long.to_ne_bytes())], &[4, 8]).unwrap();
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            let values = [a.to_ne_bytes().to_vec(), long.to_ne_bytes().to_vec()];
            let key = key(a);
            prop_assert_eq!(decode_key(&key, &[4, 8]).unwrap(), values);
        }
    }
}
