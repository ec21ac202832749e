//! Sets of fields as the header of an event has them (Change Data Capture guide, Event Deserialization
//! Considerations): hexadecimal, bit `i` from the right for the field at place `i`.

use std::collections::{BTreeMap, BTreeSet};

/// Fields of an event, by their places in its schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    top: BTreeSet<usize>,
    /// Parts of compound fields, by the compound's place.
    parts: BTreeMap<usize, BTreeSet<usize>>,
}

impl Fields {
    pub(super) fn add(&mut self, place: usize) {
        self.top.insert(place);
    }

    pub(super) fn add_part(&mut self, place: usize, part: usize) {
        self.parts.entry(place).or_default().insert(part);
    }

    /// The element of the top level is missing where only parts are told, as in recorded events.
    pub(super) fn write(&self) -> Vec<String> {
        let top = (!self.top.is_empty()).then(|| hex(&self.top));
        let parts = self.parts.iter().map(|(place, parts)| format!("{place}-{}", hex(parts)));
        top.into_iter().chain(parts).collect()
    }
}

fn hex(bits: &BTreeSet<usize>) -> String {
    let bytes = bits.last().map_or(0, |last| last / 8 + 1);
    let mut map = vec![0u8; bytes];
    for bit in bits {
        map[bytes - 1 - bit / 8] |= 1 << (bit % 8);
    }
    let digits: String = map.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("0x{digits}")
}

#[cfg(test)]
mod tests {
    use super::Fields;

    #[test]
    fn fields_are_counted_from_the_right() {
        let mut fields = Fields::default();
        assert!(fields.write().is_empty());
        fields.add_part(6, 7);
        fields.add_part(6, 8);
        // As recorded: a change of a geocode alone.
        assert_eq!(fields.write(), ["6-0x0180"]);
        fields.add(1);
        fields.add(23);
        assert_eq!(fields.write(), ["0x800002", "6-0x0180"]);
    }
}
