//! Makes one document of the pieces that a user hands over.

use serde_json::{Map, Value};

use crate::check;
use crate::error::Error;
use crate::path::Path;

const OPENED: &str = "sync_settings";
const NO_PIECE_HINT: &str =
    "Give at least one JSON object, such as '{\"sync_type\": \"bidirectional\"}'.";

/// Joins the pieces of a new sync, key by key and in the depth of objects.
///
/// The keys of `sync_settings` count as top-level keys. The same key may come twice only with the same value.
pub fn join_create(pieces: &[Value]) -> Result<Value, Error> {
    let mut layers = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        layers.extend(open_out(piece, at + 1)?);
    }
    let joined = join(&layers)?;
    if joined.is_empty() {
        return Err(Error::malformed(
            Path::root(),
            "the configuration document is empty",
            format!("It was given in {} pieces that hold no key.", pieces.len()),
            "A sync needs at least \"source\" and \"target\".",
        ));
    }
    Ok(Value::Object(joined))
}

/// Changes a document by pieces applied one after the other: later replaces earlier, null removes (RFC 7396).
///
/// The keys of `sync_settings` count as top-level keys. A piece that sets `sync_type` and says nothing of the
/// direction flags also removes those flags of the document that it contradicts.
pub fn merge_patch(doc: &Value, pieces: &[Value]) -> Result<Value, Error> {
    check::texts(doc, &Path::root())?;
    if pieces.is_empty() {
        return Err(Error::malformed(
            Path::root(),
            "no piece of configuration was given",
            "Without a piece there is nothing to change.",
            NO_PIECE_HINT,
        ));
    }
    let mut doc = doc.clone();
    for (at, piece) in pieces.iter().enumerate() {
        let piece = join(&open_out(piece, at + 1)?)?;
        drop_contradicted_flags(&mut doc, &piece);
        apply_patch(&mut doc, &Value::Object(piece));
    }
    Ok(doc)
}

/// The keys of one piece that stand together: of the piece itself, or of its `sync_settings`.
struct Layer<'a> {
    piece: usize,
    prefix: Path,
    keys: Vec<(&'a str, &'a Value)>,
}

impl Layer<'_> {
    fn place(&self, way: &[&str]) -> String {
        let path = way.iter().fold(self.prefix.clone(), |path, key| path.key(key));
        format!("{path} in piece {}", self.piece)
    }

    fn value_at(&self, way: &[&str]) -> Option<&Value> {
        let (first, rest) = way.split_first()?;
        let (_, value) = self.keys.iter().find(|(key, _)| key == first)?;
        rest.iter().try_fold(*value, |value, key| value.get(key))
    }
}

fn open_out(piece: &Value, number: usize) -> Result<Vec<Layer<'_>>, Error> {
    let Some(map) = piece.as_object() else {
        return Err(Error::malformed(
            Path::root(),
            format!("piece {number} of the configuration document must be an object"),
            format!("Piece {number} is {}.", check::type_of(piece)),
            NO_PIECE_HINT,
        ));
    };
    check::texts(piece, &Path::root()).map_err(|mut error| {
        error.detail = format!("{} It is in piece {number}.", error.detail);
        error
    })?;
    let own = map
        .iter()
        .filter(|(key, _)| *key != OPENED)
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let mut layers = vec![Layer { piece: number, prefix: Path::root(), keys: own }];
    match map.get(OPENED) {
        None => {}
        Some(Value::Object(inner)) if !inner.contains_key(OPENED) => layers.push(Layer {
            piece: number,
            prefix: Path::root().key(OPENED),
            keys: inner.iter().map(|(key, value)| (key.as_str(), value)).collect(),
        }),
        Some(Value::Object(_)) => {
            return Err(Error::malformed(
                Path::root().key(OPENED).key(OPENED),
                "\"sync_settings\" must not stand inside itself",
                format!("Piece {number} has \"sync_settings\" within \"sync_settings\"."),
                "Its keys are keys of the document: write them once, inside or outside.",
            ));
        }
        Some(other) => {
            return Err(Error::malformed(
                Path::root().key(OPENED),
                "\"sync_settings\" must be an object",
                format!("It is {} in piece {number}.", check::type_of(other)),
                "Its keys are keys of the document; to remove one of them, name that one with null.",
            ));
        }
    }
    Ok(layers)
}

fn join(layers: &[Layer<'_>]) -> Result<Map<String, Value>, Error> {
    let mut joined = Map::new();
    for (at, layer) in layers.iter().enumerate() {
        for (key, value) in &layer.keys {
            join_key(&mut joined, &mut vec![*key], value, layer, &layers[..=at])?;
        }
    }
    Ok(joined)
}

fn join_key<'a>(
    joined: &mut Map<String, Value>,
    way: &mut Vec<&'a str>,
    value: &'a Value,
    layer: &Layer<'_>,
    until: &[Layer<'_>],
) -> Result<(), Error> {
    let key = way.last().copied().unwrap_or_default();
    match (joined.get_mut(key), value) {
        (None, value) => {
            joined.insert(key.to_owned(), value.clone());
        }
        (Some(Value::Object(there)), Value::Object(more)) => {
            for (key, value) in more {
                way.push(key);
                join_key(there, way, value, layer, until)?;
                way.pop();
            }
        }
        (Some(there), value) if same(there, value) => {}
        _ => {
            let path = way.iter().fold(Path::root(), |path, key| path.key(key));
            let first =
                until.iter().find(|earlier| earlier.value_at(way).is_some()).unwrap_or(layer);
            let (first, second) = (first.place(way), layer.place(way));
            return Err(Error::malformed(
                &path,
                format!("two different values for \"{path}\""),
                format!("One stands at {first}, another at {second}."),
                "Give the key once, or with the same value.",
            ));
        }
    }
    Ok(())
}

/// Equality of values as PostgreSQL's jsonb sees it: 2 and 2.0 are the same number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b
                || ((a.is_f64() || b.is_f64()) && a.as_f64().is_some() && a.as_f64() == b.as_f64())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// RFC 7396, section 2.
pub(crate) fn apply_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.shift_remove(key);
            } else {
                apply_patch(target.entry(key.as_str()).or_insert(Value::Null), value);
            }
        }
    }
}

/// `sync_type` and the two flags say the same thing twice, and a later piece wins over what an earlier one said.
pub(crate) fn drop_contradicted_flags(doc: &mut Value, piece: &Map<String, Value>) {
    const FLAGS: [&str; 2] = ["source_to_target", "target_to_source"];
    let (Some(doc), Some(sync_type)) =
        (doc.as_object_mut(), piece.get("sync_type").and_then(Value::as_str))
    else {
        return;
    };
    if FLAGS.iter().any(|flag| piece.contains_key(*flag)) {
        return;
    }
    let contradicted = match sync_type {
        "bidirectional" => FLAGS.iter().any(|flag| doc.get(*flag) == Some(&Value::Bool(false))),
        "one_way" => FLAGS.iter().all(|flag| doc.get(*flag) == Some(&Value::Bool(true))),
        _ => false,
    };
    if contradicted {
        for flag in FLAGS {
            doc.shift_remove(flag);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patches_match_the_examples_of_rfc_7396() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (target, patch, expected) in cases {
            let mut result = target.clone();
            apply_patch(&mut result, &patch);
            assert_eq!(result, expected, "{target} patched with {patch}");
        }
    }
}
