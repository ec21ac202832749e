//! Record ids: three characters that tell the object, twelve that count, and three that tell which of
//! the others are capitals, so that the id survives systems that ignore case.

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SUFFIX: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// The org's own part of each id, between the prefix and the number.
const INSTANCE: &str = "Lo0";

/// The id with this number, of the object with this prefix.
pub(crate) fn numbered(prefix: &str, number: u64) -> String {
    let mut digits = [b'0'; 9];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    let short = format!("{prefix}{INSTANCE}{}", String::from_utf8_lossy(&digits));
    format!("{short}{}", suffix(&short))
}

/// The three characters behind the first fifteen.
fn suffix(short: &str) -> String {
    short
        .as_bytes()
        .chunks(5)
        .map(|chunk| {
            let bits = chunk.iter().enumerate().filter(|(_, c)| c.is_ascii_uppercase());
            SUFFIX[bits.map(|(i, _)| 1 << i).sum::<usize>()] as char
        })
        .collect()
}

/// The 18-character form of a well-formed id of 15 or 18 characters.
pub(crate) fn long(id: &str) -> Option<String> {
    if !id.bytes().all(|c| c.is_ascii_alphanumeric()) || !matches!(id.len(), 15 | 18) {
        return None;
    }
    let (short, given) = id.split_at(15);
    let right = suffix(short);
    (given.is_empty() || given == right).then(|| format!("{short}{right}"))
}

/// The 15-character form, as some messages have it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..15).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_is_that_of_recorded_ids() {
        for (short, end) in [
            ("001D000000IqhSL", "IAZ"),
            ("001dM00003kS3tN", "QAS"),
            ("750ak000009Dl5b", "AAC"),
            ("003bm000016htgP", "AAQ"),
            ("000000000000000", "AAA"),
        ] {
            assert_eq!(suffix(short), end);
            assert_eq!(long(short), Some(format!("{short}{end}")));
        }
        assert_eq!(long("001D000000IqhSLAAA"), None);
        assert_eq!(long("001D000000Iqh"), None);
        assert_eq!(long("001D000000Iqh-L"), None);
    }

    #[test]
    fn numbers_keep_their_order() {
        let ids: Vec<_> = [0, 1, 61, 62, 4000, 1 << 40].map(|n| numbered("001", n)).into();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.len() == 18 && long(id).as_ref() == Some(id)));
    }
}
