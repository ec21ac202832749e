//! JSON as the API writes it: doubles like Java does, and on wish with a blank before the colon.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// The body as bytes.
pub(crate) fn write(body: &Value, pretty: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    // Writing a Value into memory has nothing that could fail.
    let _ = if pretty {
        let indented = Indented(PrettyFormatter::new());
        body.serialize(&mut Serializer::with_formatter(&mut bytes, indented))
    } else {
        body.serialize(&mut Serializer::with_formatter(&mut bytes, Compact))
    };
    bytes
}

/// A double as Java writes it: `100.0`, `1.39E8`, `1.0E-4`.
pub(crate) fn double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

struct Compact;

impl Formatter for Compact {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(double(value).as_bytes())
    }
}

struct Indented(PrettyFormatter<'static>);

impl Formatter for Indented {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(double(value).as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b" : ")
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn doubles_are_written_like_java_does() {
        for (value, text) in [
            (100.0, "100.0"),
            (1.39e8, "1.39E8"),
            (1e7, "1.0E7"),
            (9_999_999.5, "9999999.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (-2.5, "-2.5"),
            (0.0, "0.0"),
        ] {
            assert_eq!(double(value), text);
            assert_eq!(text.parse(), Ok(value));
        }
    }

    #[test]
    fn pretty_has_a_blank_before_the_colon() {
        let text = write(&json!({"a": 1}), true);
        assert_eq!(String::from_utf8_lossy(&text), "{\n  \"a\" : 1\n}");
        assert_eq!(write(&json!({"a": [1, null]}), false), b"{\"a\":[1,null]}");
    }
}
