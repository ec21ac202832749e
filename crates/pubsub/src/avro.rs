use std::sync::Arc;

use crate::schema::{Record, Type};

/// Most values of one event, parts of values included: none of a megabyte has more, unless it is made of nothing.
const MOST_VALUES: usize = 1 << 20;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// The values of a record's fields, in the order of its schema.
    Record(Arc<Record>, Vec<Value>),
}

/// Why bytes are no value of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// They end too early.
    Short,
    /// Bytes are left over.
    Long,
    /// A number of more bytes, or a larger one, than its type has.
    Number,
    /// A length below zero, or beyond what is there.
    Length,
    /// A choice that the schema does not offer.
    Choice,
    Boolean,
    NotUtf8,
    /// More values than any event has.
    TooMany,
}

impl Unfit {
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::Short => "it ends too early",
            Self::Long => "it is longer than its schema says",
            Self::Number => "a number is out of range",
            Self::Length => "a length is out of range",
            Self::Choice => "a choice is not among those of its schema",
            Self::Boolean => "a boolean is neither true nor false",
            Self::NotUtf8 => "a text is no UTF-8",
            Self::TooMany => "it holds too many values",
        }
    }
}

/// Reads one value from all of the bytes (Avro specification, Binary Encoding).
pub(crate) fn read(kind: &Type, bytes: &[u8]) -> Result<Value, Unfit> {
    let mut reader = Reader { rest: bytes, left: MOST_VALUES };
    let value = reader.value(kind)?;
    if reader.rest.is_empty() { Ok(value) } else { Err(Unfit::Long) }
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many values more may be read.
    left: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, kind: &Type) -> Result<Value, Unfit> {
        self.left = self.left.checked_sub(1).ok_or(Unfit::TooMany)?;
        Ok(match kind {
            Type::Null => Value::Null,
            Type::Boolean => match self.take(1)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(Unfit::Boolean),
            },
            Type::Int => {
                Value::Integer(i32::try_from(self.long()?).map_err(|_| Unfit::Number)?.into())
            }
            Type::Long => Value::Integer(self.long()?),
            Type::Float => {
                let bytes = self.take(4)?.first_chunk().copied().ok_or(Unfit::Short)?;
                Value::Number(f32::from_le_bytes(bytes).into())
            }
            Type::Double => {
                let bytes = self.take(8)?.first_chunk().copied().ok_or(Unfit::Short)?;
                Value::Number(f64::from_le_bytes(bytes))
            }
            Type::Bytes => Value::Bytes(self.sized()?.to_vec()),
            Type::Text => {
                let text = str::from_utf8(self.sized()?).map_err(|_| Unfit::NotUtf8)?;
                Value::Text(text.to_owned())
            }
            Type::Enum(symbols) => {
                let symbol = usize::try_from(self.long()?).ok().and_then(|n| symbols.get(n));
                Value::Text(symbol.ok_or(Unfit::Choice)?.clone())
            }
            Type::Union(branches) => {
                let branch = usize::try_from(self.long()?).ok().and_then(|n| branches.get(n));
                self.value(branch.ok_or(Unfit::Choice)?)?
            }
            Type::Array(items) => self.array(items)?,
            Type::Record(record) => {
                let values = record.fields.iter().map(|(_, kind)| self.value(kind));
                Value::Record(Arc::clone(record), values.collect::<Result<_, _>>()?)
            }
        })
    }

    /// Blocks, each with its count; a negative one is followed by the block's size.
    fn array(&mut self, items: &Type) -> Result<Value, Unfit> {
        let mut values = Vec::new();
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(Value::List(values));
            }
            if count < 0 {
                count = count.checked_neg().ok_or(Unfit::Length)?;
                let size = usize::try_from(self.long()?).map_err(|_| Unfit::Length)?;
                if size > self.rest.len() {
                    return Err(Unfit::Length);
                }
            }
            for _ in 0..count {
                values.push(self.value(items)?);
            }
        }
    }

    fn sized(&mut self) -> Result<&'a [u8], Unfit> {
        let length = usize::try_from(self.long()?).map_err(|_| Unfit::Length)?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Unfit::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Zigzag, seven bits a byte, ten bytes at most.
    fn long(&mut self) -> Result<i64, Unfit> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            // Of the tenth byte a single bit has room.
            if shift == 63 && byte > 1 {
                return Err(Unfit::Number);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Unfit::Number)
    }
}
