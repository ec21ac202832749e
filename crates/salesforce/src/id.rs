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
        long.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"[bits]));
    }
    long
}

/// Can this stand where an id is expected, in a URL or a query? Nothing else is put there.
pub(crate) fn is_id(text: &str) -> bool {
    matches!(text.len(), 15 | 18) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// A text as the id of a record, in its long form, if it can be one.
pub fn record_id(text: &str) -> Option<String> {
    is_id(text).then(|| long(text))
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
    use super::{after, is_id, long};

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
    fn an_id_is_found_in_a_message() {
        let message =
            "duplicate value found: Ext__c duplicates value on record with id: a0524000005wNw0";
        assert_eq!(after(message, "record with id: ").as_deref(), Some("a0524000005wNw0AAE"));
        assert_eq!(after("record with id: <unknown>", "record with id: "), None);
        assert_eq!(after("nothing", "record with id: "), None);
        assert!(!is_id("001D000000IqhSL' OR Id != '"));
    }
}
