//! CSV of the other side, taken apart strictly: whatever is not exactly as it should be is a fault and no record.
//! Crate csv reads anything as something; its rows are only used of a text that was looked at before.

use connector::{Fault, FaultKind};
use csv::{ReaderBuilder, StringRecord};

/// Every record of a text, with the header among them, which is checked by the caller.
pub(super) struct Sheet<'a> {
    reader: csv::Reader<&'a [u8]>,
    width: usize,
    row: StringRecord,
}

impl<'a> Sheet<'a> {
    /// A text of which the first row is the header.
    pub(super) fn new(text: &'a [u8]) -> Result<(Self, StringRecord), Fault> {
        check(text)?;
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        let mut header = StringRecord::new();
        match reader.read_record(&mut header) {
            Ok(true) => {}
            Ok(false) => return Err(broken("has no header")),
            Err(_) => return Err(broken("is not in UTF-8")),
        }
        Ok((Self { reader, width: header.len(), row: StringRecord::new() }, header))
    }

    /// The next record, of as many cells as the header.
    pub(super) fn next(&mut self) -> Result<Option<&StringRecord>, Fault> {
        match self.reader.read_record(&mut self.row) {
            Ok(false) => Ok(None),
            Ok(true) if self.row.len() == self.width => Ok(Some(&self.row)),
            Ok(true) => Err(broken("has a record that is shorter or longer than its header")),
            Err(_) => Err(broken("is not in UTF-8")),
        }
    }
}

/// An answer that was cut short or changed on its way may be whole the next time.
pub(super) fn broken(what: &str) -> Fault {
    Fault::new(FaultKind::Transient, "BROKEN_CSV", format!("the org's CSV {what}"))
}

/// Quotes only around whole cells, doubled inside of them; the last record with the end of its line.
fn check(text: &[u8]) -> Result<(), Fault> {
    let mut rest = text;
    let mut begins_line = true;
    while !rest.is_empty() {
        let behind = match rest.strip_prefix(b"\"") {
            Some(inside) => close(inside).ok_or_else(|| broken("ends inside of a quote"))?,
            None => {
                let end = rest.iter().position(|b| b",\r\n\"".contains(b));
                &rest[end.unwrap_or(rest.len())..]
            }
        };
        let empty = behind.len() == rest.len();
        (rest, begins_line) = match behind {
            [b'\r', b'\n', ..] | [b'\n', ..] if begins_line && empty => {
                return Err(broken("has an empty line"));
            }
            [b',', rest @ ..] => (rest, false),
            [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => (rest, true),
            // Nobody could tell whether that is all of it: even what looks like the closing quote may be the first
            // half of a doubled one.
            [] => return Err(broken("ends in the middle of a record")),
            _ => return Err(broken("has a quote or an end of a line inside of a cell")),
        };
    }
    if begins_line { Ok(()) } else { Err(broken("ends in the middle of a record")) }
}

/// What is behind the quote that closes a cell.
fn close(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let at = rest.iter().position(|&b| b == b'"')?;
        rest = &rest[at + 1..];
        match rest.strip_prefix(b"\"") {
            Some(behind) => rest = behind,
            None => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Sheet;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Vec<Vec<String>>, String> {
        let cells = |row: &csv::StringRecord| row.iter().map(str::to_owned).collect::<Vec<_>>();
        let (mut sheet, header) = Sheet::new(text).map_err(|fault| fault.message)?;
        let mut rows = vec![cells(&header)];
        while let Some(row) = sheet.next().map_err(|fault| fault.message)? {
            rows.push(cells(row));
        }
        Ok(rows)
    }

    #[test]
    fn what_is_not_quite_csv_is_refused() {
        for wrong in [
            "",
            "\"a\"",
            "\"a",
            "\"a\"\n\"b",
            "\"a\"b\n",
            "\n",
            "a\n\n",
            "a\n\r\nb\n",
            "\"a\"\nb",
            "\"a\",\"b\"\n\"c\"\n",
            "a\"b\n",
            "\"a\"\n\"b\",\"c\"\n",
            "\"a\"\"\n",
            "a\rb,c\n",
            "a,b\nc,",
            "\"a\"\r\"b\"\n",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}: {:?}", read(wrong.as_bytes()));
        }
        assert!(read(b"\"a\"\n\"\xff\"\n").is_err());
    }

    #[test]
    fn what_is_csv_is_read() {
        let text = "\"a\",b\r\n\"x, \"\"y\"\"\r\nz\",\"\"\r\n\"\",\"end\"\n";
        let rows = [["a", "b"], ["x, \"y\"\r\nz", ""], ["", "end"]];
        assert_eq!(read(text.as_bytes()).expect("rows"), rows);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever was cut off, no row comes out that was not there.
        #[test]
        fn a_text_that_was_cut_yields_whole_rows_or_a_fault(
            rows in prop::collection::vec(prop::collection::vec("[a,\"\\r\\n ä]{0,4}", 2), 1..5),
            at in any::<prop::sample::Index>(),
        ) {
            let mut text = Vec::new();
            for row in &rows {
                let cells: Vec<String> = row.iter().map(|c| format!("\"{}\"", c.replace('"', "\"\""))).collect();
                text.extend_from_slice((cells.join(",") + "\n").as_bytes());
            }
            prop_assert_eq!(read(&text), Ok(rows.clone()));
            let cut = &text[..at.index(text.len())];
            if let Ok(read) = read(cut) {
                prop_assert_eq!(read.as_slice(), &rows[..read.len()]);
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(&b"\",\n\ra"[..])], 0..60)) {
            let _ = read(&text);
        }
    }
}
