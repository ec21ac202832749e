//! CSV as a job declares it (Bulk API guide, Prepare CSV Files and Valid CSV Record Rows).

use crate::ApiError;
use serde_json::{Map, Value};

const DELIMITERS: [(&str, u8); 6] = [
    ("COMMA", b','),
    ("BACKQUOTE", b'`'),
    ("CARET", b'^'),
    ("PIPE", b'|'),
    ("SEMICOLON", b';'),
    ("TAB", b'\t'),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) delimiter: u8,
    pub(super) crlf: bool,
}

impl Default for Format {
    fn default() -> Self {
        Self { delimiter: b',', crlf: false }
    }
}

impl Format {
    pub(super) fn of(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let named = |name: &str, otherwise: &str| match body.get(name) {
            None | Some(Value::Null) => Ok(otherwise.to_owned()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(unknown(name, &other.to_string())),
        };
        let kind = named("contentType", "CSV")?;
        if kind != "CSV" {
            return Err(unknown("contentType", &kind));
        }
        let delimiter = named("columnDelimiter", "COMMA")?;
        let found = DELIMITERS.iter().find(|(name, _)| *name == delimiter);
        let Some((_, delimiter)) = found else {
            return Err(unknown("columnDelimiter", &delimiter));
        };
        let crlf = match named("lineEnding", "LF")?.as_str() {
            "LF" => false,
            "CRLF" => true,
            other => return Err(unknown("lineEnding", other)),
        };
        Ok(Self { delimiter: *delimiter, crlf })
    }

    pub(super) fn delimiter_name(self) -> &'static str {
        DELIMITERS.iter().find(|(_, sign)| *sign == self.delimiter).map_or("COMMA", |d| d.0)
    }

    pub(super) fn ending_name(self) -> &'static str {
        if self.crlf { "CRLF" } else { "LF" }
    }

    fn ending(self) -> &'static [u8] {
        if self.crlf { b"\r\n" } else { b"\n" }
    }

    /// A row with every value in quotes.
    pub(super) fn row<T: AsRef<str>>(self, values: impl IntoIterator<Item = T>, to: &mut Vec<u8>) {
        self.cells(values, to);
        to.extend_from_slice(self.ending());
    }

    /// The same with a line that is taken over as it was given.
    pub(super) fn row_before(self, values: &[&str], line: &[u8], to: &mut Vec<u8>) {
        self.cells(values, to);
        if !values.is_empty() {
            to.push(self.delimiter);
        }
        to.extend_from_slice(line);
        to.extend_from_slice(self.ending());
    }

    fn cells<T: AsRef<str>>(self, values: impl IntoIterator<Item = T>, to: &mut Vec<u8>) {
        for (place, value) in values.into_iter().enumerate() {
            if place > 0 {
                to.push(self.delimiter);
            }
            to.push(b'"');
            for byte in value.as_ref().bytes() {
                if byte == b'"' {
                    to.push(b'"');
                }
                to.push(byte);
            }
            to.push(b'"');
        }
    }

    /// Do all lines end as declared? What is in quotes is no end of a line.
    pub(super) fn fits(self, data: &[u8]) -> bool {
        let mut quoted = false;
        let mut last = 0;
        for &byte in data {
            match byte {
                b'"' => quoted = !quoted,
                b'\n' if !quoted && (last == b'\r') != self.crlf => return false,
                _ => {}
            }
            last = byte;
        }
        true
    }
}

fn unknown(name: &str, value: &str) -> ApiError {
    ApiError::new(400, "INVALIDJOB", format!("InvalidJob : {name} can't be {value}"))
}

#[cfg(test)]
mod tests {
    use super::Format;

    #[test]
    fn lines_end_as_declared_outside_of_quotes() {
        let (lf, crlf) = (Format::default(), Format { crlf: true, ..Format::default() });
        assert!(lf.fits(b"a,\"b\r\nc\"\nd\n") && !lf.fits(b"a\r\nb\r\n"));
        assert!(crlf.fits(b"a,\"b\nc\"\r\nd\r\n") && !crlf.fits(b"a\nb\n"));
    }

    #[test]
    fn every_value_is_quoted() {
        let mut text = Vec::new();
        Format { delimiter: b'|', crlf: true }.row(["a|b", "say \"hi\"", ""], &mut text);
        assert_eq!(text, b"\"a|b\"|\"say \"\"hi\"\"\"|\"\"\r\n");
    }
}
