//! By which fields the records of the two sides are recognised as the same.

use serde_json::{Map, Value};

use crate::error::Error;
use crate::fields::{Fields, find_field};
use crate::nearest::nearest;
use crate::path::{Path, shown};

/// Fields by whose values a source row and a target row are recognised as the same record.
///
/// Where the fields are mapped, the value of the source side is the transformed one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MatchField {
    /// The source-side field.
    pub source: String,
    /// The target-side field.
    pub target: String,
    /// An SQL expression in which `value` is the value of either side; what it makes of the two is compared.
    pub expression: Option<String>,
}

/// Reads `match_on` against the fields.
pub(crate) fn read(doc: &Map<String, Value>, fields: &Fields) -> Result<Vec<MatchField>, Error> {
    let mut matched: Vec<MatchField> = Vec::new();
    for (at, entry) in
        doc.get("match_on").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        let path = Path::root().key("match_on").index(at);
        let side =
            |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let expression = entry.get("expression").and_then(Value::as_str).map(str::to_owned);
        let pair = match entry.as_str() {
            None => MatchField { source: side("source"), target: side("target"), expression },
            Some(name) => match_by_name(name, fields, &path)?,
        };
        if matched.contains(&pair) {
            return Err(Error::malformed(
                &path,
                format!("field {} stands twice in \"match_on\"", shown(&pair.target)),
                "Each pair of fields can stand there once.",
                "Remove one of the two.",
            ));
        }
        matched.push(pair);
    }
    Ok(matched)
}

fn same(source: &str, target: &str) -> MatchField {
    MatchField { source: source.to_owned(), target: target.to_owned(), expression: None }
}

fn match_by_name(name: &str, fields: &Fields, path: &Path) -> Result<MatchField, Error> {
    let Fields { mapped: fields, alike } = fields;
    let field = find_field(name, fields.iter(), path)?.and_then(|at| fields.get(at));
    match field.map(|field| (field, field.sources.as_slice())) {
        Some((field, [source])) => Ok(same(source, &field.target)),
        Some((field, _)) => Err(Error::malformed(
            path,
            format!("cannot match on field {}", shown(name)),
            format!("{} is not made of exactly one source field.", shown(&field.target)),
            "Name the two fields to compare: {\"source\": \"Email\", \"target\": \"email\"}.",
        )),
        None if alike.as_ref().is_some_and(|alike| fields.is_empty() || alike.takes(name)) => {
            Ok(same(name, name))
        }
        None => {
            let known = fields.iter().map(|field| field.target.as_str());
            let near = match nearest(name, known) {
                Some(near) => format!("Perhaps you meant {}. ", shown(near)),
                None => String::new(),
            };
            Err(Error::malformed(
                path,
                format!("field {} is not mapped", shown(name)),
                "A single name in \"match_on\" has to be a field that is synced.",
                format!(
                    "{near}Or name the two fields to compare: {{\"source\": \"Email\", \"target\": \"email\"}}."
                ),
            ))
        }
    }
}
