//! Where in a document something stands, and how a piece of it is shown in a message.

use std::fmt;

/// Longest text of a document that a message repeats, in characters.
const SHOWN: usize = 60;

/// A place in a document, written as `field_mappings[2].source`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// The document as a whole.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The member `name` of the object at this place.
    pub(crate) fn key(&self, name: &str) -> Self {
        let name = if is_plain(name) { name.to_owned() } else { shown(name) };
        if self.is_root() { Self(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The element `index`, counted from 0, of the array at this place.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The last step of the path, without array positions: the name of the key it leads to.
    pub(crate) fn last_key(&self) -> &str {
        let last = self.0.rsplit('.').next().unwrap_or(&self.0);
        last.split('[').next().unwrap_or(last)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_root() { "$" } else { &self.0 })
    }
}

fn is_plain(name: &str) -> bool {
    name.len() <= SHOWN
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A text of the document in double quotes, cut to a bearable length, control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        cut.push_str("...");
    }
    serde_json::Value::String(cut).to_string()
}

/// Names in double quotes, in a row.
pub(crate) fn shown_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_way_to_the_key() {
        let path = Path::root().key("field_mappings").index(2).key("source");
        assert_eq!(path.to_string(), "field_mappings[2].source");
        assert_eq!(path.last_key(), "source");
        assert_eq!(Path::root().key("odd key\n").to_string(), "\"odd key\\n\"");
        assert_eq!(Path::root().to_string(), "$");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shown(&"ä".repeat(500)).chars().count(), SHOWN + 5);
    }
}
