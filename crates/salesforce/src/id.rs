/// What five bits are written as.
const SUFFIX: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// An id in its long form of 18 characters, in which case does not matter; everything else as it is.
/// The suffix holds one bit for each of the 15 characters: is it a capital letter?
pub(crate) fn long(id: &str) -> String {
    if id.len() != 15 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return id.to_owned();
    }
    let mut long = String::with_capacity(18);
    long.push_str(id);
    for piece in id.as_bytes().chunks(5) {
        let bits = piece
            .iter()
            .enumerate()
            .fold(0, |bits, (place, b)| bits | usize::from(b.is_ascii_uppercase()) << place);
        long.push(char::from(SUFFIX[bits]));
    }
    long
}

/// Can this stand where an id is expected, in a URL or a query? Nothing else is put there.
pub(crate) fn is_id(text: &str) -> bool {
    matches!(text.len(), 15 | 18) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The id that a person has written, in its long form and in its own capitals, which the suffix tells
/// where they were lost; `None` if it is none.
pub fn record_id(text: &str) -> Option<String> {
    if !is_id(text) {
        return None;
    }
    let (short, suffix) = text.split_at(15);
    let mut id = String::with_capacity(18);
    for (piece, letter) in short.as_bytes().chunks(5).zip(suffix.bytes()) {
        let bits = SUFFIX.iter().position(|&s| s == letter.to_ascii_uppercase())?;
        for (place, b) in piece.iter().enumerate() {
            let capital = bits >> place & 1 == 1;
            if capital && !b.is_ascii_alphabetic() {
                return None;
            }
            id.push(char::from(if capital {
                b.to_ascii_uppercase()
            } else {
                b.to_ascii_lowercase()
            }));
        }
    }
    Some(long(if suffix.is_empty() { short } else { &id }))
}

/// The first id in a text that a message leads up to with these words.
pub(crate) fn after(message: &str, words: &str) -> Option<String> {
    let (_, rest) = message.split_once(words)?;
    let end = rest.bytes().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let id = &rest[..end];
    is_id(id).then(|| long(id))
}

#[cfg(test)]
mod tests {
    use super::{after, is_id, long, record_id};

    #[test]
    fn short_ids_get_their_suffix() {
        let cases = [
            ("001D000000IqhSL", "001D000000IqhSLIAZ"),
            ("001dM00003kS3tN", "001dM00003kS3tNQAS"),
            ("750ak000009Dl5b", "750ak000009Dl5bAAC"),
            ("003bm000016htgP", "003bm000016htgPAAQ"),
            ("000000000000000", "000000000000000AAA"),
            ("001D000000IqhSLIAZ", "001D000000IqhSLIAZ"),
            ("001D000000Iqh-L", "001D000000Iqh-L"),
            ("", ""),
        ];
        for (short, expected) in cases {
            assert_eq!(long(short), expected);
        }
    }

    #[test]
    fn what_a_person_writes_becomes_the_id_it_is() {
        for written in
            ["001D000000IqhSL", "001D000000IqhSLIAZ", "001d000000iqhsliaz", "001D000000IQHSLIAZ"]
        {
            assert_eq!(record_id(written).as_deref(), Some("001D000000IqhSLIAZ"), "{written}");
        }
        // Nothing, too long, no suffix at all, a capital digit.
        for written in ["", "001D000000IqhSLIAZ0", "001D000000IqhSL999", "001D000000IqhSLZZZ"] {
            assert_eq!(record_id(written), None, "{written}");
        }
    }

    #[test]
    fn an_id_is_found_in_a_message() {
        let message =
            "duplicate value found: Ext__c duplicates value on record with id: a0524000005wNw0";
        assert_eq!(after(message, "record with id: ").as_deref(), Some("a0524000005wNw0AAE"));
        assert_eq!(after("record with id: <unknown>", "record with id: "), None);
        assert_eq!(after("nothing", "record with id: "), None);
        assert!(!is_id("001D000000IqhSL' OR Id != '"));
    }
}
