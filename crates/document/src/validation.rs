//! What a value has to be like to be sent, and what happens to one that is not.

use serde_json::{Map, Value};

use crate::check;
use crate::error::Error;
use crate::path::{Path, shown};

/// A rule of one field. A null keeps every rule; that a field may not be empty is said by `required`.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidationRule {
    /// The field, as the document names it.
    pub field: String,
    /// What its value has to be like.
    pub check: Check,
    /// What happens to a value that is not.
    pub on_error: OnInvalid,
}

/// What a value has to be like.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// An address of the form local@domain.
    EmailFormat,
    /// A text that matches a regular expression of PostgreSQL's.
    Regex(String),
    /// A text of so many characters.
    Length {
        /// At least so many.
        min: Option<u32>,
        /// At most so many.
        max: Option<u32>,
    },
    /// A value in a range of its type, both ends included.
    Range {
        /// The least, as a literal of the type.
        min: Option<String>,
        /// The greatest.
        max: Option<String>,
    },
    /// One of these, as literals of the type.
    AllowedValues(Vec<String>),
    /// A SQL condition over the fields as they arrive, by the names of the target; `value` is the field's own.
    Condition(String),
}

impl Check {
    /// The rule's name, as a document has it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::EmailFormat => "email_format",
            Self::Regex(_) => "regex",
            Self::Length { .. } => "length",
            Self::Range { .. } => "range",
            Self::AllowedValues(_) => "allowed_values",
            Self::Condition(_) => "condition",
        }
    }
}

/// What happens to a value that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnInvalid {
    /// The record waits for a person.
    #[default]
    RejectRecord,
    /// The value is brought into the form that the rule asks for, where one of the usual ways does it; else the record
    /// waits.
    StandardizeFormat,
    /// The field is sent empty.
    SetNull,
    /// It is sent, and noted.
    Warn,
}

/// The keys that belong to a rule beside `field`, `rule` and `on_error`.
const PARTNERS: [(&str, &[&str]); 6] = [
    ("email_format", &[]),
    ("regex", &["pattern"]),
    ("length", &["min", "max"]),
    ("range", &["min", "max"]),
    ("allowed_values", &["values"]),
    ("condition", &["condition"]),
];

/// Reads `validation_rules`, whose types the grammar has made sure of.
pub(crate) fn read(doc: &Map<String, Value>) -> Result<Vec<ValidationRule>, Error> {
    let rules = doc.get("validation_rules").and_then(Value::as_array);
    rules.into_iter().flatten().enumerate().map(|(at, rule)| read_rule(rule, at)).collect()
}

fn read_rule(rule: &Value, at: usize) -> Result<ValidationRule, Error> {
    let path = Path::root().key("validation_rules").index(at);
    let text = |key: &str| rule.get(key).and_then(Value::as_str);
    let name = text("rule").unwrap_or_default();
    let known = PARTNERS.iter().find(|(rule, _)| *rule == name).map_or(&[][..], |(_, keys)| keys);
    let all = PARTNERS.iter().flat_map(|(_, keys)| keys.iter());
    if let Some(stray) =
        all.into_iter().find(|key| !known.contains(key) && rule.get(**key).is_some())
    {
        return Err(Error::malformed(
            path.key(stray),
            format!("\"{}\" means nothing for the rule {}", path.key(stray), shown(name)),
            match known {
                [] => "The rule takes no other keys.".to_owned(),
                keys => format!("The rule takes {}.", keys.join(" and ")),
            },
            "Leave the key out, or choose another rule.",
        ));
    }
    let check = match name {
        "regex" => Check::Regex(text("pattern").unwrap_or_default().to_owned()),
        "length" => {
            let end = |key: &str| length(rule.get(key), &path.key(key));
            let (min, max) = (end("min")?, end("max")?);
            some_end(&path, min.is_some() || max.is_some())?;
            if let (Some(min), Some(max)) = (min, max) {
                in_order(&path, min <= max, &min.to_string(), &max.to_string())?;
            }
            Check::Length { min, max }
        }
        "range" => {
            let end = |key: &str| literal(rule.get(key), &path.key(key));
            let (min, max) = (end("min")?, end("max")?);
            some_end(&path, min.is_some() || max.is_some())?;
            if let [Some(Value::Number(low)), Some(Value::Number(high))] =
                [rule.get("min"), rule.get("max")]
                && let (Some(l), Some(h)) = (low.as_f64(), high.as_f64())
            {
                in_order(&path, l <= h, &low.to_string(), &high.to_string())?;
            }
            Check::Range { min, max }
        }
        "allowed_values" => {
            let values = rule.get("values").and_then(Value::as_array);
            let literals = values.into_iter().flatten().enumerate().map(|(n, value)| {
                let path = path.key("values").index(n);
                literal(Some(value), &path).map(Option::unwrap_or_default)
            });
            Check::AllowedValues(literals.collect::<Result<_, _>>()?)
        }
        "condition" => Check::Condition(text("condition").unwrap_or_default().to_owned()),
        _ => Check::EmailFormat,
    };
    let on_error = match text("on_error") {
        Some("standardize_format") => OnInvalid::StandardizeFormat,
        Some("set_null") => OnInvalid::SetNull,
        Some("warn") => OnInvalid::Warn,
        _ => OnInvalid::RejectRecord,
    };
    if on_error == OnInvalid::StandardizeFormat
        && matches!(check, Check::Range { .. } | Check::Condition(_))
    {
        return Err(Error::malformed(
            path.key("on_error"),
            format!("\"standardize_format\" means nothing for the rule {}", shown(name)),
            "There is no form that makes such a value fit.",
            "Choose \"reject_record\", \"set_null\" or \"warn\".",
        ));
    }
    let field = text("field").unwrap_or_default().to_owned();
    Ok(ValidationRule { field, check, on_error })
}

fn length(value: Option<&Value>, path: &Path) -> Result<Option<u32>, Error> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_number().and_then(check::integer).and_then(|n| u32::try_from(n).ok());
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(Error::malformed(
            path,
            format!("\"{path}\" must be a number of characters"),
            format!("It is {value}."),
            format!("For example: \"{}\": 80.", path.last_key()),
        )),
    }
}

/// A plain value as it stands in a literal.
pub(crate) fn literal(value: Option<&Value>, path: &Path) -> Result<Option<String>, Error> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(other) => Err(Error::malformed(
            path,
            format!("\"{path}\" must be a text, a number, true or false"),
            format!("It is {}.", check::type_of(other)),
            "Write it as it would stand in a column of the field's type.",
        )),
    }
}

fn some_end(path: &Path, given: bool) -> Result<(), Error> {
    if given {
        return Ok(());
    }
    Err(Error::malformed(
        path.key("min"),
        format!("\"{}\" is missing", path.key("min")),
        "The rule has neither \"min\" nor \"max\".",
        "Give one of the two, or both.",
    ))
}

fn in_order(path: &Path, right: bool, min: &str, max: &str) -> Result<(), Error> {
    if right {
        return Ok(());
    }
    Err(Error::malformed(
        path.key("max"),
        format!("\"{}\" is less than \"{}\"", path.key("max"), path.key("min")),
        format!("No value is both at least {min} and at most {max}."),
        "Exchange the two.",
    ))
}
