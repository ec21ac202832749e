use std::collections::{BTreeMap, BTreeSet};

/// Most hexadecimal digits of one set: objects have less than a thousand fields.
const LONGEST: usize = 1024;

/// A set of fields, as the header of an event tells it: `0x…` for fields, `P-0x…` for parts of the compound field
/// at place P; bit `i` from the right is the field at place `i` of the schema (Change Data Capture guide, Event
/// Deserialization Considerations). The element for fields may be missing, as it is in recorded events of which
/// only parts of compound fields changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) top: BTreeSet<usize>,
    pub(crate) parts: BTreeMap<usize, BTreeSet<usize>>,
}

impl Fields {
    /// `None` where the elements are not of this form.
    pub(crate) fn read<'a>(elements: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut fields = Self::default();
        for element in elements {
            match element.split_once('-') {
                None => fields.top.extend(bits(element)?),
                Some((place, map)) => {
                    let digits =
                        (1..=4).contains(&place.len()) && place.bytes().all(|b| b.is_ascii_digit());
                    let place: usize = place.parse().ok().filter(|_| digits)?;
                    fields.parts.entry(place).or_default().extend(bits(map)?);
                }
            }
        }
        Some(fields)
    }

    pub(crate) fn has(&self, place: usize) -> bool {
        self.top.contains(&place)
    }

    pub(crate) fn has_part(&self, place: usize, part: usize) -> bool {
        self.parts.get(&place).is_some_and(|parts| parts.contains(&part))
    }
}

fn bits(map: &str) -> Option<Vec<usize>> {
    let digits = map.strip_prefix("0x").filter(|digits| (1..=LONGEST).contains(&digits.len()))?;
    let mut bits = Vec::new();
    for (place, digit) in digits.bytes().rev().enumerate() {
        let value = char::from(digit).to_digit(16)?;
        bits.extend((0..4).filter(|bit| value >> bit & 1 == 1).map(|bit| place * 4 + bit));
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::Fields;

    /// The fields, and the parts by the places of their fields.
    type Read = (Vec<usize>, Vec<(usize, Vec<usize>)>);

    fn read(elements: &[&str]) -> Option<Read> {
        let fields = Fields::read(elements.iter().copied())?;
        let parts = fields.parts.into_iter().map(|(p, bits)| (p, bits.into_iter().collect()));
        Some((fields.top.into_iter().collect(), parts.collect()))
    }

    #[test]
    fn bits_are_counted_from_the_right() {
        assert_eq!(read(&[]), Some((vec![], vec![])));
        // As recorded: an address whose place on the map alone was found.
        assert_eq!(read(&["6-0x0180"]), Some((vec![], vec![(6, vec![7, 8])])));
        assert_eq!(read(&["0x800002", "32-0x01"]), Some((vec![1, 23], vec![(32, vec![0])])));
        assert_eq!(read(&["0xa"]), Some((vec![1, 3], vec![])));
    }

    #[test]
    fn everything_else_is_no_set() {
        for wrong in [
            "",
            "0x",
            "800002",
            "0xG0",
            "-0x01",
            "x-0x01",
            "6-",
            "6-01",
            "6-7-0x01",
            "+6-0x01",
            "99999-0x01",
            "0x-1",
            "é",
        ] {
            assert_eq!(read(&[wrong]), None, "{wrong}");
        }
    }
}
