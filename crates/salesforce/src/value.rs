use connector::{Column, Fault, FaultKind, Kind};
use serde_json::{Number, Value};

use crate::moment::{Clock, Day, Moment, YEARS};
use crate::{array, id, jsonb, number};

/// Why a text is no value of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unfit(&'static str);

/// What the other side would hold of a text, in PostgreSQL's form.
///
/// Texts are trimmed and empty ones are null; ids are 18 characters long; moments are whole seconds
/// (field types, object reference). Characters that XML 1.0 has no place for are taken out, since
/// half of Salesforce's interfaces can't carry them, and ends of lines are LF.
fn canonical_of(kind: Kind, text: &str) -> Result<Option<String>, Unfit> {
    if kind == Kind::Structure || kind == Kind::Bytes {
        return Ok(Some(text.to_owned()));
    }
    let text = clean(text);
    if text.is_empty() {
        return Ok(None);
    }
    let value = match kind {
        Kind::Text | Kind::Choice | Kind::Structure | Kind::Bytes => text,
        Kind::Id => id::long(&text),
        Kind::Choices => {
            return choices(&text).map(|list| (!list.is_empty()).then(|| array::print(&list)));
        }
        Kind::Boolean => match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "1" => "true".to_owned(),
            "f" | "false" | "off" | "no" | "0" => "false".to_owned(),
            _ => return Err(Unfit("is neither true nor false")),
        },
        Kind::Integer => integer(&text).ok_or(Unfit("is no whole number"))?.to_string(),
        Kind::Number => number::canonical(&text).ok_or(Unfit("is no finite number"))?,
        Kind::Date => {
            // A moment where a day is expected is cut to its day.
            let day = text.split([' ', 'T']).next().unwrap_or_default();
            let moment = Moment::parse(&text).ok_or(Unfit("is no date"))?;
            let day = Day::parse(day).ok_or(Unfit("is no date"))?;
            if !YEARS.contains(&day.year) || !YEARS.contains(&moment.year()) {
                return Err(Unfit("lies outside the years 1700 to 4000"));
            }
            day.text()
        }
        Kind::DateTime => {
            let moment = Moment::parse(&text).ok_or(Unfit("is no moment in time"))?;
            if !YEARS.contains(&moment.year()) {
                return Err(Unfit("lies outside the years 1700 to 4000"));
            }
            moment.in_sql()
        }
        Kind::Time => {
            let clock =
                Clock::parse(text.trim_end_matches('Z')).ok_or(Unfit("is no time of day"))?;
            clock.in_sql()
        }
    };
    Ok(Some(value))
}

/// The canonical form of a text; of a text that is no value of its kind, the text trimmed.
pub(crate) fn canonical(kind: Kind, text: &str) -> Option<String> {
    canonical_of(kind, text).unwrap_or_else(|_| {
        let text = clean(text);
        (!text.is_empty()).then_some(text)
    })
}

/// Without what Salesforce does not keep; trimmed as Java does it, of all up to the space.
fn clean(text: &str) -> String {
    // Nearly all texts have nothing to take out: those of U+FFFE and U+FFFF begin with this byte too.
    let plain = |b: u8| (b >= b' ' && b != 0xef) || b == b'\n' || b == b'\t';
    if text.bytes().all(plain) {
        return text.trim_matches(|c| c <= ' ').to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' => {
                if chars.peek() != Some(&'\n') {
                    clean.push('\n');
                }
            }
            '\t' | '\n' => clean.push(c),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {}
            _ => clean.push(c),
        }
    }
    let trimmed = clean.trim_matches(|c| c <= ' ');
    if trimmed.len() == clean.len() { clean } else { trimmed.to_owned() }
}

/// The values of `{a,b}` or `a;b`, each once and in the order of their bytes: the order of the
/// list's definition is not known here, and Salesforce does not say which it keeps.
fn choices(text: &str) -> Result<Vec<String>, Unfit> {
    let listed = if text.starts_with('{') {
        array::parse(text).ok_or(Unfit("is no list of texts"))?
    } else {
        vec![text.to_owned()]
    };
    let mut values: Vec<String> =
        listed.iter().flat_map(|v| v.split(';')).map(clean).filter(|v| !v.is_empty()).collect();
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

/// Also of a number whose fraction is zero.
fn integer(text: &str) -> Option<i64> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole.parse().ok().or_else(|| {
        // 1e3: as numeric never says it, but JSON may.
        let value = number::value(text)?;
        let exact = value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and small enough, as was just seen"
        )]
        exact.then_some(value as i64)
    })
}

/// A text as the JSON that a write carries.
pub(crate) fn to_json(column: &Column, text: Option<&str>) -> Result<Value, Fault> {
    let refuse = |code: &str, why: &str| {
        let message = format!("the value of field {} {why}", column.name);
        let mut fault = Fault::new(FaultKind::Refused, code, message);
        fault.about.fields = vec![column.name.clone()];
        Err(fault)
    };
    if matches!(column.kind, Kind::Structure | Kind::Bytes) {
        return refuse("FIELD_NOT_WRITABLE", "can be read and not written");
    }
    let text = match text.map(|text| canonical_of(column.kind, text)) {
        Some(Ok(Some(text))) => text,
        // A checkbox is never empty: null is what it says when it is not set.
        None | Some(Ok(None)) if column.kind == Kind::Boolean => return Ok(Value::Bool(false)),
        None | Some(Ok(None)) => return Ok(Value::Null),
        Some(Err(Unfit(why))) => return refuse("INVALID_VALUE", why),
    };
    let value = match column.kind {
        Kind::Boolean => return Ok(Value::Bool(text == "true")),
        Kind::Integer => return Ok(text.parse::<i64>().map_or(Value::Null, Value::from)),
        Kind::Number => return Ok(number_to_json(&text)),
        Kind::DateTime => Moment::parse(&text).map(Moment::in_json).unwrap_or(text),
        Kind::Time => Clock::parse(&text).map(Clock::in_json).unwrap_or(text),
        Kind::Choices => choices(&text).unwrap_or_default().join(";"),
        Kind::Id | Kind::Text | Kind::Choice | Kind::Date | Kind::Bytes | Kind::Structure => text,
    };
    let limited = matches!(column.kind, Kind::Text | Kind::Choice | Kind::Choices | Kind::Id);
    let limit = column.length as usize;
    if limited && limit > 0 && value.len() > limit {
        let length = value.chars().count();
        if length > limit {
            return refuse(
                "STRING_TOO_LONG",
                &format!("has {length} characters, and {limit} are allowed"),
            );
        }
    }
    Ok(Value::String(value))
}

/// Whole numbers without a point, as people and other programs write them.
fn number_to_json(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(whole) => Value::from(whole),
        Err(_) => number::value(text).and_then(Number::from_f64).map_or(Value::Null, Value::Number),
    }
}

/// What an answer holds of a field, as a canonical text.
pub(crate) fn from_json(column: &Column, value: &Value) -> Result<Option<String>, Fault> {
    let text = match value {
        Value::Null => return Ok(None),
        _ if matches!(column.kind, Kind::Structure | Kind::Bytes) => {
            return Ok(Some(jsonb::print(value)));
        }
        // `a;b` and nothing else: a value of a list may itself begin with a brace.
        Value::String(text) if column.kind == Kind::Choices => {
            array::print(&text.split(';').collect::<Vec<_>>())
        }
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => return Err(other_type(column)),
    };
    canonical_of(column.kind, &text).map_err(|_| other_type(column))
}

/// What an event tells of a field, as a canonical text: days and moments as milliseconds since 1970, times as
/// milliseconds of the day (Change Data Capture guide, change event fields). `None` where the value is of another
/// kind than the column: it has to be read.
pub(crate) fn from_event(column: &Column, value: &pubsub::Value) -> Option<Option<String>> {
    use pubsub::Value as Told;
    let json = match (value, column.kind) {
        (Told::Null, _) => Value::Null,
        (Told::Boolean(value), Kind::Boolean) => Value::Bool(*value),
        (Told::Integer(at), Kind::Date | Kind::DateTime) => {
            let millis = u32::try_from(at.rem_euclid(1000)).ok()?;
            Value::String(Moment { seconds: at.div_euclid(1000), millis }.in_json())
        }
        (Told::Integer(at), Kind::Time) => {
            let at = u32::try_from(*at).ok().filter(|at| *at < 86_400_000)?;
            let (hour, minute, second) = (at / 3_600_000, at / 60_000 % 60, at / 1000 % 60);
            Value::String(Clock { hour, minute, second, millis: at % 1000 }.in_json())
        }
        (Told::Integer(number), Kind::Integer | Kind::Number) => Value::from(*number),
        (Told::Number(number), Kind::Integer | Kind::Number) => {
            Value::Number(Number::from_f64(*number)?)
        }
        (
            Told::Text(text),
            Kind::Id
            | Kind::Text
            | Kind::Choice
            | Kind::Choices
            | Kind::Date
            | Kind::DateTime
            | Kind::Time,
        ) => Value::String(text.clone()),
        _ => return None,
    };
    from_json(column, &json).ok()
}

/// What a cell of a bulk query's CSV holds of a field, as the same canonical text.
pub(crate) fn from_cell(column: &Column, cell: &str) -> Result<Option<String>, Fault> {
    if cell.is_empty() {
        return Ok(None);
    }
    if column.kind == Kind::Choices {
        let list = array::print(&cell.split(';').collect::<Vec<_>>());
        return canonical_of(column.kind, &list).map_err(|_| other_type(column));
    }
    canonical_of(column.kind, cell).map_err(|_| other_type(column))
}

fn other_type(column: &Column) -> Fault {
    let message = format!("field {} holds a value of another type than it had", column.name);
    let mut fault = Fault::new(FaultKind::Configuration, "FIELD_TYPE_CHANGED", message)
        .with_hint("Check the field's type, and register the table's fields again.");
    fault.about.fields = vec![column.name.clone()];
    fault
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
