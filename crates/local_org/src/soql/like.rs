//! Texts with escapes (SOQL and SOSL Reference, Quoted String Escape Sequences).

/// A character of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Exactly(char),
}

fn parts(raw: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = raw.chars();
    while let Some(c) = rest.next() {
        parts.push(match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Exactly(match rest.next()? {
                'n' | 'N' => '\n',
                'r' | 'R' => '\r',
                't' | 'T' => '\t',
                'b' | 'B' => '\u{8}',
                'f' | 'F' => '\u{c}',
                'u' | 'U' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let whole = digits.len() == 4;
                    char::from_u32(u32::from_str_radix(&digits, 16).ok().filter(|_| whole)?)?
                }
                other if "\\'\"_%".contains(other) => other,
                _ => return None,
            }),
            other => Part::Exactly(other),
        });
    }
    Some(parts)
}

/// The text that is meant; nothing where an escape is none.
pub(super) fn unescape(raw: &str) -> Option<String> {
    let parts = parts(raw)?;
    Some(
        parts
            .into_iter()
            .map(|part| match part {
                Part::Any => '%',
                Part::One => '_',
                Part::Exactly(c) => c,
            })
            .collect(),
    )
}

/// LIKE, ignoring case.
pub(super) fn like(text: &str, raw: &str) -> bool {
    let Some(pattern) = parts(raw) else { return false };
    let text: Vec<char> = text.chars().collect();
    let same = |a: char, b: char| a == b || a.to_lowercase().eq(b.to_lowercase());
    // The last `%`, and how far the text was when it was met: where to go on after a mismatch.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(Part::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Part::One) => {
                (p, t) = (p + 1, t + 1);
            }
            Some(Part::Exactly(c)) if same(*c, text[t]) => {
                (p, t) = (p + 1, t + 1);
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_ignoring_case() {
        for (text, pattern, fits) in [
            ("Acme", "ac%", true),
            ("Acme", "%M_", true),
            ("Acme", "acm", false),
            ("100%", r"100\%", true),
            ("1000", r"100\%", false),
            ("a_b", r"a\_b", true),
            ("", "%", true),
            ("", "_", false),
            ("aXbXc", "a%b%c", true),
            ("O'Neill", r"o\'n%", true),
        ] {
            assert_eq!(like(text, pattern), fits, "{text} {pattern}");
        }
        assert_eq!(unescape(r"a\'b\\c\u00e4\n").as_deref(), Some("a'b\\cä\n"));
        assert_eq!(unescape(r"a\qb"), None);
        assert_eq!(unescape(r"a\u12"), None);
    }
}
