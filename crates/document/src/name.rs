//! Names: of tables as SQL writes them, of fields as the two sides write them.

use std::fmt;

use crate::path::shown;

/// The longest name that PostgreSQL keeps whole, in bytes.
const LONGEST: usize = 63;

/// A table of this database, as exactly named: case folding and quotes are already dealt with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableName {
    /// The schema, if one was given; without it the name is looked up along the search path.
    pub schema: Option<String>,
    /// The name of the table.
    pub name: String,
}

/// Why a text is no name. Reads as a full sentence in a DETAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameFault {
    Empty,
    OpenQuote,
    Character(char),
    TooLong,
    TooManyParts,
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("A part of the name is empty."),
            Self::OpenQuote => f.write_str("A double quote in the name is not closed."),
            Self::Character(c) => {
                write!(
                    f,
                    "The character {} cannot stand in a name without double quotes.",
                    shown(&c.to_string())
                )
            }
            Self::TooLong => write!(f, "A part of the name is longer than {LONGEST} bytes."),
            Self::TooManyParts => f.write_str("The name has more than two parts."),
        }
    }
}

/// Splits a dotted name by SQL's rules: what is not quoted is folded to lower case, `""` within quotes is one quote.
pub(crate) fn split(text: &str) -> Result<Vec<String>, NameFault> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = first_part(rest.trim_start())?;
        if part.is_empty() {
            return Err(NameFault::Empty);
        }
        if part.len() > LONGEST {
            return Err(NameFault::TooLong);
        }
        parts.push(part);
        let mut after = after.trim_start().chars();
        match after.next() {
            None => return Ok(parts),
            Some('.') => rest = after.as_str(),
            Some(other) => return Err(NameFault::Character(other)),
        }
    }
}

/// A name of one or two parts.
pub(crate) fn table(text: &str) -> Result<TableName, NameFault> {
    let mut parts = split(text)?.into_iter();
    match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, None) => Ok(TableName { schema: None, name }),
        (Some(schema), Some(name), None) => Ok(TableName { schema: Some(schema), name }),
        (None, ..) => Err(NameFault::Empty),
        _ => Err(NameFault::TooManyParts),
    }
}

/// A name of exactly one part.
pub(crate) fn single(text: &str) -> Result<String, NameFault> {
    match table(text)? {
        TableName { schema: None, name } => Ok(name),
        TableName { .. } => Err(NameFault::Character('.')),
    }
}

fn first_part(text: &str) -> Result<(String, &str), NameFault> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut part = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            if c != '"' {
                part.push(c);
            } else if chars.as_str().starts_with('"') {
                part.push('"');
                chars.next();
            } else {
                return Ok((part, chars.as_str()));
            }
        }
        return Err(NameFault::OpenQuote);
    }
    let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    match text.chars().next() {
        None | Some('.') => return Err(NameFault::Empty),
        Some(c) if !starts(c) => return Err(NameFault::Character(c)),
        Some(_) => {}
    }
    let end =
        text.find(|c: char| !(starts(c) || c.is_ascii_digit() || c == '$')).unwrap_or(text.len());
    let (part, after) = text.split_at(end);
    Ok((part.to_ascii_lowercase(), after))
}

/// What looking for a name among others comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    One(usize),
    Several,
}

/// Names match exactly, else ignoring case if that is unique.
pub(crate) fn find<'a>(wanted: &str, names: impl Iterator<Item = &'a str> + Clone) -> Found {
    match only(names.clone().map(|name| name == wanted)) {
        Found::Nothing => only(names.map(|name| name.to_lowercase() == wanted.to_lowercase())),
        found => found,
    }
}

/// The position of the one `true`.
pub(crate) fn only(hits: impl Iterator<Item = bool>) -> Found {
    let mut hits = hits.enumerate().filter(|(_, hit)| *hit);
    match (hits.next(), hits.next()) {
        (None, _) => Found::Nothing,
        (Some((at, _)), None) => Found::One(at),
        _ => Found::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(schema: Option<&str>, name: &str) -> Result<TableName, NameFault> {
        Ok(TableName { schema: schema.map(str::to_owned), name: name.to_owned() })
    }

    #[test]
    fn tables_are_named_by_the_rules_of_sql() {
        assert_eq!(table("accounts"), named(None, "accounts"));
        assert_eq!(table("Portal.Users"), named(Some("portal"), "users"));
        assert_eq!(table(" portal . users "), named(Some("portal"), "users"));
        assert_eq!(table("\"My Schema\".\"t.x\""), named(Some("My Schema"), "t.x"));
        assert_eq!(table("\"a\"\"b\""), named(None, "a\"b"));
        assert_eq!(table("größe$1.Ünder"), named(Some("größe$1"), "Ünder"));
        assert_eq!(table("\"new\nline\""), named(None, "new\nline"));
    }

    #[test]
    fn what_is_no_name_is_told_apart() {
        let long = format!("\"{}\"", "x".repeat(64));
        let cases = [
            ("", NameFault::Empty),
            ("  ", NameFault::Empty),
            ("a.", NameFault::Empty),
            (".a", NameFault::Empty),
            ("\"\"", NameFault::Empty),
            ("\"a", NameFault::OpenQuote),
            ("a b", NameFault::Character('b')),
            ("a-b", NameFault::Character('-')),
            ("1a", NameFault::Character('1')),
            ("a;drop", NameFault::Character(';')),
            ("a.b.c", NameFault::TooManyParts),
            (long.as_str(), NameFault::TooLong),
        ];
        for (text, fault) in cases {
            assert_eq!(table(text), Err(fault), "{text:?}");
        }
        assert_eq!(single("a.b"), Err(NameFault::Character('.')));
        assert_eq!(table(&"ä".repeat(31)), named(None, &"ä".repeat(31)));
    }

    #[test]
    fn names_match_exactly_else_ignoring_case_if_that_is_unique() {
        let names = ["Email", "email", "Phone"];
        assert_eq!(find("email", names.into_iter()), Found::One(1));
        assert_eq!(find("EMAIL", names.into_iter()), Found::Several);
        assert_eq!(find("phone", names.into_iter()), Found::One(2));
        assert_eq!(find("fax", names.into_iter()), Found::Nothing);
    }
}
