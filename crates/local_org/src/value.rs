//! What becomes of a value that is written (SOAP API guide, Field Types and Primitive Data Types).

use crate::schema::{Field, FieldType};
use crate::{ApiError, id, moment};
use serde_json::{Number, Value};

/// Choices that orgs, or versions of the API, differ in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// Numbers are rounded to their field's scale; an org stores what was sent, as a double.
    pub round_numbers: bool,
    /// Text areas are trimmed like all other text; otherwise they stay as they were sent.
    pub trim_text_areas: bool,
}

/// The value as it would be stored. The error says that the body cannot be read ([`ApiError::parsing`])
/// or that the record is refused. A reference is checked for its form only.
pub(crate) fn normalise(field: &Field, value: &Value, manners: Manners) -> Result<Value, ApiError> {
    use FieldType::{
        Address, Boolean, Currency, Date, DateTime, Double, Email, Id, Int, MultiPicklist, Percent,
        Picklist, Reference, TextArea, Time,
    };
    let kind = field.kind;
    if value.is_null() {
        return Ok(if kind == Boolean { Value::Bool(false) } else { Value::Null });
    }
    let wrong = || Err(wrong_kind(soap_name(kind), value));
    match kind {
        Boolean => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::String(text) if text == "true" => Ok(Value::Bool(true)),
            Value::String(text) if text == "false" => Ok(Value::Bool(false)),
            _ => wrong(),
        },
        Int => {
            let number = match value {
                Value::Number(number) => number.as_i64(),
                Value::String(text) if text.trim().is_empty() => return Ok(Value::Null),
                Value::String(text) => text.trim().parse().ok(),
                _ => None,
            };
            let Some(number) = number else { return wrong() };
            if number.unsigned_abs() >= 10u64.saturating_pow(field.precision) {
                return Err(out_of_range(field, &number.to_string()));
            }
            Ok(number.into())
        }
        Double | Currency | Percent => {
            let number = match value {
                Value::Number(number) => number.as_f64(),
                Value::String(text) if text.trim().is_empty() => return Ok(Value::Null),
                Value::String(text) => text.trim().parse().ok(),
                _ => None,
            };
            let Some(number) = number.filter(|n| n.is_finite()) else { return wrong() };
            let whole_digits = field.precision.saturating_sub(field.scale);
            if number.abs().trunc() >= 10f64.powi(whole_digits as i32) {
                return Err(out_of_range(field, &crate::wire::double(number)));
            }
            let scale = 10f64.powi(field.scale as i32);
            let number =
                if manners.round_numbers { (number * scale).round() / scale } else { number };
            // Minus zero is zero.
            Ok(Number::from_f64(number + 0.0).map_or(Value::Null, Value::Number))
        }
        Address => wrong(),
        _ => {
            let Value::String(given) = value else { return wrong() };
            let text =
                if kind == TextArea && !manners.trim_text_areas { given } else { given.trim() };
            if text.is_empty() {
                return Ok(Value::Null);
            }
            match kind {
                Date if moment::is_date(text) => Ok(text.into()),
                DateTime => match moment::moment(text, true) {
                    Some(at) => Ok(moment::text(at.div_euclid(1000) * 1000).into()),
                    None => wrong(),
                },
                Time => moment::time(text).map_or_else(wrong, |text| Ok(text.into())),
                Date => wrong(),
                Id | Reference => match id::long(text) {
                    Some(id) => Ok(id.into()),
                    None => Err(wrong_id(field, text)),
                },
                Picklist if field.restricted && !field.values.iter().any(|v| v == text) => {
                    Err(not_offered(field, text))
                }
                MultiPicklist => chosen(field, text),
                Email if !is_email(text) => {
                    let message = format!("{}: invalid email address: {text}", field.label);
                    Err(ApiError::record("INVALID_EMAIL_ADDRESS", message, &[&field.name]))
                }
                _ if field.length > 0 && text.chars().count() > field.length as usize => {
                    let message = format!(
                        "{}: data value too large: {text} (max length={})",
                        field.label, field.length
                    );
                    Err(ApiError::record("STRING_TOO_LONG", message, &[&field.name]))
                }
                _ => Ok(text.into()),
            }
        }
    }
}

/// An id that is none, or one of another object.
pub(crate) fn wrong_id(field: &Field, id: &str) -> ApiError {
    let message = format!("{}: id value of incorrect type: {id}", field.label);
    ApiError::record("MALFORMED_ID", message, &[&field.name])
}

/// The values of a multi-select picklist in the order of its definition, others behind them.
fn chosen(field: &Field, text: &str) -> Result<Value, ApiError> {
    let mut chosen: Vec<&str> = Vec::new();
    for value in text.split(';').map(str::trim).filter(|value| !value.is_empty()) {
        if field.restricted && !field.values.iter().any(|v| v == value) {
            return Err(not_offered(field, value));
        }
        if !chosen.contains(&value) {
            chosen.push(value);
        }
    }
    if chosen.len() > 100 {
        let message = format!("{}: too many values selected", field.label);
        return Err(ApiError::record("TOO_MANY_ENUM_VALUE", message, &[&field.name]));
    }
    chosen.sort_by_key(|value| field.values.iter().position(|v| v == value).unwrap_or(usize::MAX));
    Ok(if chosen.is_empty() { Value::Null } else { chosen.join(";").into() })
}

fn not_offered(field: &Field, value: &str) -> ApiError {
    let message = format!("{}: bad value for restricted picklist field: {value}", field.label);
    ApiError::record("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, &[&field.name])
}

fn out_of_range(field: &Field, number: &str) -> ApiError {
    let message =
        format!("{}: value outside of valid range on numeric field: {number}", field.label);
    ApiError::record("NUMBER_OUTSIDE_VALID_RANGE", message, &[&field.name])
}

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let allowed = |c: char| c.is_alphanumeric() || "!#$%&'*/=?^_+-`{|}~.".contains(c);
    let labels: Vec<&str> = domain.split('.').collect();
    !local.is_empty()
        && local.chars().all(allowed)
        && labels.len() > 1
        && labels.iter().all(|label| {
            !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        })
}

fn soap_name(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Currency | FieldType::Percent | FieldType::Double => "double",
        FieldType::Int => "int",
        FieldType::Boolean => "boolean",
        FieldType::Date => "date",
        FieldType::DateTime => "datetime",
        FieldType::Time => "time",
        FieldType::Address => "address",
        _ => "string",
    }
}

/// The place in the body is not known here; it is always told as the first.
fn wrong_kind(wanted: &str, value: &Value) -> ApiError {
    let (token, shown) = match value {
        Value::String(text) => ("VALUE_STRING", format!(" value {text}")),
        Value::Number(n) if n.is_f64() => ("VALUE_NUMBER_FLOAT", format!(" value {n}")),
        Value::Number(n) => ("VALUE_NUMBER_INT", format!(" value {n}")),
        Value::Bool(true) => ("VALUE_TRUE", " value true".to_owned()),
        Value::Bool(false) => ("VALUE_FALSE", " value false".to_owned()),
        Value::Object(_) => ("START_OBJECT", String::new()),
        Value::Array(_) => ("START_ARRAY", String::new()),
        Value::Null => ("VALUE_NULL", String::new()),
    };
    ApiError::json(format!(
        "Cannot deserialize instance of {wanted} from {token}{shown} or request may be missing a required field at [line:1, column:1]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(field: &Field, given: Value) -> Result<Value, String> {
        normalise(field, &given, Manners::default()).map_err(|error| error.code)
    }

    #[test]
    fn text_is_trimmed_and_nothing_is_null() {
        let field = Field::new("A__c", FieldType::String).length(3);
        assert_eq!(check(&field, json!("  abc ")), Ok(json!("abc")));
        assert_eq!(check(&field, json!("  ")), Ok(json!(null)));
        assert_eq!(check(&field, json!("äöüß")), Err("STRING_TOO_LONG".into()));
        assert_eq!(check(&field, json!(5)), Err("JSON_PARSER_ERROR".into()));
        let area = Field::new("A__c", FieldType::TextArea);
        assert_eq!(check(&area, json!(" a\r\nb ")), Ok(json!(" a\r\nb ")));
        let trimming = Manners { trim_text_areas: true, ..Manners::default() };
        assert_eq!(normalise(&area, &json!(" a\r\nb "), trimming), Ok(json!("a\r\nb")));
    }

    #[test]
    fn numbers_keep_more_decimals_than_their_scale() {
        let field = Field::new("A__c", FieldType::Double).digits(5, 2);
        assert_eq!(check(&field, json!(1.23456)), Ok(json!(1.23456)));
        assert_eq!(check(&field, json!("35")), Ok(json!(35.0)));
        assert_eq!(check(&field, json!(1000)), Err("NUMBER_OUTSIDE_VALID_RANGE".into()));
        assert_eq!(check(&field, json!("1e999")), Err("JSON_PARSER_ERROR".into()));
        let rounding = Manners { round_numbers: true, ..Manners::default() };
        assert_eq!(normalise(&field, &json!(1.23456), rounding), Ok(json!(1.23)));
        let int = Field::new("A__c", FieldType::Int);
        assert_eq!(check(&int, json!(1_431_655_766)), Err("NUMBER_OUTSIDE_VALID_RANGE".into()));
        assert_eq!(check(&int, json!(1.5)), Err("JSON_PARSER_ERROR".into()));
    }

    #[test]
    fn moments_are_whole_seconds() {
        let field = Field::new("A__c", FieldType::DateTime);
        let told = json!("2026-05-01T07:25:37.000+0000");
        assert_eq!(check(&field, json!("2026-05-01T09:25:37.999+02:00")), Ok(told));
        assert_eq!(check(&field, json!("2026-05-01")), Err("JSON_PARSER_ERROR".into()));
        assert_eq!(check(&Field::new("A__c", FieldType::Boolean), json!(null)), Ok(json!(false)));
    }

    #[test]
    fn lists_have_their_order_and_their_limits() {
        let field = Field::new("A__c", FieldType::MultiPicklist)
            .values(&["One", "Two", "Three"])
            .restricted();
        assert_eq!(check(&field, json!("Three; One;Three")), Ok(json!("One;Three")));
        let refused = Err("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST".into());
        assert_eq!(check(&field, json!("One;Four")), refused);
        let email = Field::new("A__c", FieldType::Email);
        assert_eq!(check(&email, json!("a.b@c.de")), Ok(json!("a.b@c.de")));
        for wrong in ["a", "a@b", "@b.c", "a b@c.de", "a@b..c"] {
            assert_eq!(check(&email, json!(wrong)), Err("INVALID_EMAIL_ADDRESS".into()));
        }
    }
}
