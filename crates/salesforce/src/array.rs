//! PostgreSQL's array literals, one dimension of them.

/// The elements of `{a,"b c",NULL}`; null ones are left out. `None` where it is no such literal.
pub(crate) fn parse(text: &str) -> Option<Vec<String>> {
    let inside = text.strip_prefix('{')?;
    let mut elements = Vec::new();
    let mut element = String::new();
    let (mut quoted, mut in_quotes, mut any) = (false, false, false);
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                element.push(chars.next()?);
                quoted = true;
            }
            '"' => {
                if !quoted && element.trim_matches(is_space).is_empty() {
                    element.clear();
                }
                in_quotes = !in_quotes;
                quoted = true;
            }
            _ if in_quotes => element.push(c),
            '{' => return None,
            ',' | '}' => {
                if quoted {
                    elements.push(std::mem::take(&mut element));
                } else {
                    let bare = element.trim_matches(is_space);
                    if bare.is_empty() && (any || c == ',') {
                        return None;
                    }
                    if !bare.is_empty() && !bare.eq_ignore_ascii_case("null") {
                        elements.push(bare.to_owned());
                    }
                    element.clear();
                }
                (quoted, any) = (false, true);
                if c == '}' {
                    return chars.as_str().is_empty().then_some(elements);
                }
            }
            _ if quoted && is_space(c) => {}
            _ => element.push(c),
        }
    }
    None
}

/// As PostgreSQL's output function says it.
pub(crate) fn print<T: AsRef<str>>(elements: &[T]) -> String {
    let mut text = String::from("{");
    for (place, element) in elements.iter().map(AsRef::as_ref).enumerate() {
        if place > 0 {
            text.push(',');
        }
        let plain = !element.is_empty()
            && !element.eq_ignore_ascii_case("null")
            && !element.contains(['"', '\\', '{', '}', ','])
            && !element.contains(is_space);
        if plain {
            text.push_str(element);
            continue;
        }
        text.push('"');
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push('}');
    text
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::{parse, print};
    use proptest::prelude::*;

    #[test]
    fn literals_are_read() {
        let cases: [(&str, Option<&[&str]>); 12] = [
            ("{}", Some(&[])),
            ("{a}", Some(&["a"])),
            ("{a,\"b c\"}", Some(&["a", "b c"])),
            ("{ a , \"b\" }", Some(&["a", "b"])),
            ("{NULL,\"NULL\"}", Some(&["NULL"])),
            ("{\"a\\\"b\\\\\",\"\"}", Some(&["a\"b\\", ""])),
            ("{a,,b}", None),
            ("{a,}", None),
            ("{a", None),
            ("a", None),
            ("{{a},{b}}", None),
            ("{a}b", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|e| e.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(elements in prop::collection::vec(".{0,6}|null|[\"\\\\{}, ]{0,4}", 0..5)) {
            prop_assert_eq!(parse(&print(&elements)), Some(elements));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*|\\{[a\"\\\\{}, ]*") {
            let _ = parse(&text);
        }
    }
}
