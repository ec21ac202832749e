//! Walks a document along the grammar: finds unknown keys, wrong types, values out of range, missing partners, and
//! what is well formed but not acted on.

use serde_json::{Map, Number, Value};

use crate::error::Error;
use crate::grammar::{self, Key, Shape, Standing};
use crate::nearest::nearest;
use crate::path::{Path, shown, shown_list};

/// Deeper nesting than this means nothing in a configuration.
const DEEPEST: usize = 32;

/// Nor does a longer text, in bytes. PostgreSQL's scanner takes time with the square of some, and cannot be interrupted.
const LONGEST: usize = 65_536;

/// What a well-formed document holds that is not simply acted on.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Keys without effect so far, by path.
    pub(crate) kept: Map<String, Value>,
}

/// Checks a whole document.
pub(crate) fn document(doc: &Value) -> Result<(&Map<String, Value>, Findings), Error> {
    texts(doc, &Path::root())?;
    let Some(map) = doc.as_object() else {
        return Err(Error::malformed(
            Path::root(),
            "the configuration document must be an object",
            format!("It is {}.", type_of(doc)),
            "For example: {\"source\": \"portal.users\", \"target\": \"salesforce.account\"}.",
        ));
    };
    let mut findings = Findings::default();
    object(map, grammar::DOCUMENT, &Path::root(), Standing::Served, &mut findings)?;
    Ok((map, findings))
}

/// Refuses what no text of PostgreSQL can hold, texts of any length, and nesting without end.
pub(crate) fn texts(value: &Value, path: &Path) -> Result<(), Error> {
    walk_texts(value, path, 0)
}

fn walk_texts(value: &Value, path: &Path, depth: usize) -> Result<(), Error> {
    if depth > DEEPEST {
        return Err(Error::malformed(
            path,
            "the configuration document is nested too deeply",
            format!("It is nested more than {DEEPEST} levels deep."),
            "No key of a configuration needs that; look for a piece that was wrapped by mistake.",
        ));
    }
    let nul = |path: &Path, what: &str| {
        Error::malformed(
            path,
            format!("{what} contains a NUL character"),
            "PostgreSQL's text cannot hold the character \\u0000.",
            "Remove the character.",
        )
    };
    match value {
        Value::String(text) if text.contains('\0') => {
            Err(nul(path, &format!("the value of \"{path}\"")))
        }
        Value::String(text) if text.len() > LONGEST => Err(Error::malformed(
            path,
            format!("the value of \"{path}\" is too long"),
            format!("It has {} bytes; most are {LONGEST}.", text.len()),
            "Of an expression, make a function, and name that.",
        )),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .try_for_each(|(at, value)| walk_texts(value, &path.index(at), depth + 1)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            if key.contains('\0') {
                return Err(nul(&path.key(key), "the name of a key"));
            }
            walk_texts(value, &path.key(key), depth + 1)
        }),
        _ => Ok(()),
    }
}

fn object(
    map: &Map<String, Value>,
    keys: &'static [Key],
    path: &Path,
    standing: Standing,
    findings: &mut Findings,
) -> Result<(), Error> {
    for (name, value) in map {
        let path = path.key(name);
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            return Err(unknown_key(name, &path, keys));
        };
        let standing = match (standing, key.standing) {
            (Standing::Served, Standing::Kept) => {
                findings.kept.insert(path.to_string(), value.clone());
                Standing::Kept
            }
            (outer, _) => outer,
        };
        shape(value, &key.shape, &path, key.example, standing, findings)?;
    }
    match keys.iter().find(|key| key.required && !map.contains_key(key.name)) {
        Some(key) => Err(missing(&path.key(key.name), path, key.example)),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) fn value_of_key(value: &Value, key: &'static Key, path: &Path) -> Result<(), Error> {
    shape(value, &key.shape, path, key.example, Standing::Served, &mut Findings::default())
}

fn shape(
    value: &Value,
    expected: &'static Shape,
    path: &Path,
    example: &str,
    standing: Standing,
    findings: &mut Findings,
) -> Result<(), Error> {
    match (expected, value) {
        (Shape::Any, _) if !value.is_null() => Ok(()),
        (Shape::Flag, Value::Bool(_)) => Ok(()),
        (Shape::Integer(min, max), Value::Number(number)) => match integer(number) {
            None => Err(wrong_type(value, expected, path, example)),
            Some(n) if (i128::from(*min)..=i128::from(*max)).contains(&n) => Ok(()),
            Some(_) if *max == i64::MAX => {
                Err(out_of_range(number, path, &format!("{min} or more"), example))
            }
            Some(_) => {
                Err(out_of_range(number, path, &format!("between {min} and {max}"), example))
            }
        },
        (Shape::Number(min, max), Value::Number(number)) => {
            if number.as_f64().is_some_and(|n| (*min..=*max).contains(&n)) {
                return Ok(());
            }
            Err(out_of_range(number, path, &format!("between {min} and {max}"), example))
        }
        (Shape::Text, Value::String(text)) if text.trim().is_empty() => Err(Error::malformed(
            path,
            format!("\"{path}\" must not be empty"),
            "The text is empty or holds only blanks.",
            for_example(path, example),
        )),
        (Shape::Text, Value::String(_)) => Ok(()),
        (Shape::Choice(values), Value::String(text)) => {
            if values.contains(&text.as_str()) {
                return Ok(());
            }
            Err(unknown_value(text, values, path))
        }
        (Shape::List(at_least, _), Value::Array(list)) if list.len() < *at_least => {
            Err(Error::malformed(
                path,
                format!("\"{path}\" must not be empty"),
                "The array has no element.",
                for_example(path, example),
            ))
        }
        (Shape::List(_, of), Value::Array(list)) => {
            list.iter().enumerate().try_for_each(|(at, value)| {
                shape(value, of, &path.index(at), example, standing, findings)
            })
        }
        (Shape::Object(keys), Value::Object(map)) => object(map, keys, path, standing, findings),
        // Its members are looked at where their meaning is known.
        (Shape::Settings, Value::Object(_)) => Ok(()),
        (Shape::Either(shapes), value) => match shapes.iter().find(|shape| fits(shape, value)) {
            Some(one) => shape(value, one, path, example, standing, findings),
            None => Err(wrong_type(value, expected, path, example)),
        },
        _ => Err(wrong_type(value, expected, path, example)),
    }
}

fn fits(shape: &Shape, value: &Value) -> bool {
    match shape {
        Shape::Any => true,
        Shape::Flag => value.is_boolean(),
        Shape::Integer(..) | Shape::Number(..) => value.is_number(),
        Shape::Text | Shape::Choice(_) => value.is_string(),
        Shape::List(..) => value.is_array(),
        Shape::Object(_) | Shape::Settings => value.is_object(),
        Shape::Either(shapes) => shapes.iter().any(|shape| fits(shape, value)),
    }
}

fn noun(shape: &Shape) -> String {
    match shape {
        Shape::Any => "a value".into(),
        Shape::Flag => "true or false".into(),
        Shape::Integer(..) => "an integer".into(),
        Shape::Number(..) => "a number".into(),
        Shape::Text | Shape::Choice(_) => "a string".into(),
        Shape::List(..) => "an array".into(),
        Shape::Object(_) | Shape::Settings => "an object".into(),
        Shape::Either(shapes) => shapes.iter().map(noun).collect::<Vec<_>>().join(" or "),
    }
}

/// The JSON type of a value, with its article.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The number as an integer, if it is one: 5.0 is 5.
pub(crate) fn integer(number: &Number) -> Option<i128> {
    if let Some(n) = number.as_i64() {
        return Some(i128::from(n));
    }
    if let Some(n) = number.as_u64() {
        return Some(i128::from(n));
    }
    // The cast saturates, far outside of every range.
    number.as_f64().filter(|n| n.fract() == 0.0).map(|n| n as i128)
}

fn for_example(path: &Path, example: &str) -> String {
    format!("For example: \"{}\": {example}.", path.last_key())
}

fn wrong_type(value: &Value, expected: &Shape, path: &Path, example: &str) -> Error {
    let mut hint = for_example(path, example);
    if value.is_null() {
        hint.push_str(" Leave the key out to have its default.");
    }
    Error::malformed(
        path,
        format!("\"{path}\" must be {}", noun(expected)),
        match value {
            Value::Number(number) => format!("It is the number {number}."),
            _ => format!("It is {}.", type_of(value)),
        },
        hint,
    )
}

fn out_of_range(number: &Number, path: &Path, range: &str, example: &str) -> Error {
    Error::malformed(
        path,
        format!("\"{path}\" must be {range}"),
        format!("It is the number {number}."),
        for_example(path, example),
    )
}

/// A key that its neighbours need is not there.
pub(crate) fn missing(path: &Path, inside: &Path, example: &str) -> Error {
    Error::malformed(
        path,
        format!("\"{path}\" is missing"),
        if inside.is_root() {
            format!("The document has no key \"{}\".", path.last_key())
        } else {
            format!("The object at {inside} needs the key \"{}\".", path.last_key())
        },
        for_example(path, example),
    )
}

fn unknown_value(text: &str, values: &[&str], path: &Path) -> Error {
    let near = match nearest(text, values.iter().copied()) {
        Some(near) => format!("Perhaps you meant \"{near}\". "),
        None => String::new(),
    };
    let last = path.last_key();
    Error::malformed(
        path,
        format!("{} is not a value of \"{path}\"", shown(text)),
        format!("The key \"{last}\" takes one of a fixed set of values."),
        format!("{near}The values are: {}.", shown_list(values.to_vec())),
    )
}

fn unknown_key(name: &str, path: &Path, keys: &'static [Key]) -> Error {
    let hint = if let Some(near) = nearest(name, keys.iter().map(|key| key.name)) {
        format!("Perhaps you meant \"{near}\".")
    } else if let [home] = grammar::homes(name, keys).as_slice() {
        match home.as_str() {
            "" => format!("The key {} belongs at the top level of the document.", shown(name)),
            home => format!("The key {} belongs in \"{home}\".", shown(name)),
        }
    } else {
        let known = keys.iter().filter(|key| key.standing == Standing::Served).map(|key| key.name);
        format!("The keys that can stand here are: {}.", known.collect::<Vec<_>>().join(", "))
    };
    // Whoever writes a secret where no key is known for it needs to hear of the right place first.
    let hint = if crate::credentials::is_secret_name(name) {
        "If this is a secret, it does not belong in a document: store it with sync.set_secret."
            .into()
    } else {
        hint
    };
    Error::malformed(
        path,
        format!("unknown key {}", shown(name)),
        format!("The configuration language has no key at {path}."),
        hint,
    )
}
