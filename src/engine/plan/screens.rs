//! What a sync asks of records before they are sent: filters over rows, and rules over what arrives.

use super::convert;
use super::fields::{
    Field, How, analysed, analysed_as, columns_read, is_one_value, is_one_value_within, read_alone,
    told_of,
};
use super::rules::field_named;
use super::table::{Column, Table};
use crate::engine::screen::shortened;
use crate::sql::{self, Arg, identifier, literal};
use crate::worker::transaction::{Failure, refuse};
use document::{Check, Config, MappingOptions, OnInvalid};
use merge::Side;

/// A rule for the values of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub field: usize,
    /// As the document has it: `validation_rules[0]`, `email_format`.
    pub path: String,
    pub name: &'static str,
    /// For each side that sends the field the condition, over the columns that [`Screens::fed`] names.
    pub holds: [Option<String>; 2],
    pub on_error: OnInvalid,
}

/// All that records are asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Screens {
    /// For each side which of its rows take part, over its columns.
    pub filters: [Option<String>; 2],
    /// The side by whose row it is decided whether a record goes both ways, and the condition.
    pub two_way: Option<(Side, String)>,
    pub rules: Vec<Rule>,
}

impl Screens {
    /// Is there anything to ask?
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn filters(&self) -> bool {
        self.filters.iter().any(Option::is_some)
    }
}

/// The conditions over rows, with the columns that each side has to know for them.
///
/// # Errors
/// A condition is none, or names what is not there.
pub(super) fn filters(
    config: &Config,
    sides: [&Table; 2],
) -> Result<(Screens, [Vec<usize>; 2]), Failure> {
    let mut screens = Screens::default();
    let mut reads: [Vec<usize>; 2] = Default::default();
    let mut condition = |side: Side, text: &str, key: &str| -> Result<String, Failure> {
        let table = sides[side as usize];
        read_alone(text, table, "", key)?;
        let expression = format!("(({text}\n) IS TRUE)");
        reads[side as usize].extend(columns_read(&expression, table, "", key)?);
        Ok(expression)
    };
    for side in Side::BOTH {
        if let Some(text) = &config.filter.sides[side as usize] {
            let expression = condition(side, text, config.filter.keys[side as usize])?;
            screens.filters[side as usize] = Some(expression);
        }
    }
    if let Some(text) = &config.filter.two_way {
        let side = if sides[0].remote.is_some() { Side::Target } else { Side::Source };
        screens.two_way = Some((side, condition(side, text, "two_way_where")?));
    }
    Ok((screens, reads))
}

/// The rules, resolved against the fields. What is to be brought into a form is so where its value is made.
///
/// # Errors
/// A rule names no field, or cannot be asked of its values.
pub(super) fn rules(
    config: &Config,
    sides: [&Table; 2],
    fields: &mut [Field],
) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    for (n, given) in config.rules.iter().enumerate() {
        let path = format!("validation_rules[{n}]");
        let at = field_named(fields, sides, &given.field, &path)?;
        let goes = Side::BOTH.map(|side| fields[at].how[side as usize].is_some());
        if given.on_error == OnInvalid::SetNull && goes == [true, true] {
            return Err(refuse(
                "22023",
                format!(
                    "\"set_null\" would empty \"{}\" on the side that it comes from",
                    given.field
                ),
                &format!(
                    "\"{path}\" is of a field that goes both ways, where the null could travel back."
                ),
                "Let the field go one way with \"direction\", or choose another \"on_error\".",
            ));
        }
        if let Check::Regex(pattern) = &given.check {
            let matched = || sql::one("SELECT '' OPERATOR(pg_catalog.~) $1", &[Arg::Text(pattern)]);
            let read = format!("It reads: {}", shortened(pattern));
            let remedy = "Write a regular expression as PostgreSQL's operator ~ takes it.";
            told_of(&format!("{path}.pattern"), &read, remedy, matched)?;
        }
        let mut holds = [None, None];
        for side in Side::BOTH.into_iter().filter(|&side| goes[side as usize]) {
            let Some(to) = arriving(&fields[at], side, sides) else { continue };
            let to = to.clone();
            check_type(&given.check, &to, &path, &given.field)?;
            if given.on_error == OnInvalid::StandardizeFormat {
                standardise(
                    &mut fields[at],
                    side,
                    sides,
                    &to,
                    &given.check,
                    &config.mapping,
                    &path,
                )?;
            }
            let name = identifier(fed_name(&fields[at], sides));
            let expression = match &given.check {
                Check::Condition(text) => {
                    format!("(SELECT ({text}\n) IS NOT FALSE FROM (SELECT f.{name} AS value) AS v)")
                }
                check => holds_for(check, &format!("f.{name}"), &to),
            };
            let from = fed_item(fields, side, sides);
            if sides.iter().all(|table| table.remote.as_ref().is_none_or(|r| !r.assumed)) {
                let key = given.check.name();
                match &given.check {
                    // By itself, so that nothing but a condition stands in it; "value" comes before a column of that name.
                    Check::Condition(text) => {
                        for made in [text.clone(), format!("(({text}\n) IS NOT FALSE)")] {
                            let query = format!(
                                "SELECT (SELECT {made}\n FROM (SELECT f.{name} AS value) AS v) FROM {from}"
                            );
                            analysed_as(&query, text, &path, key, |query| {
                                is_one_value_within(query).then_some(())
                            })?;
                        }
                    }
                    _ => analysed(&expression, &from, &path, key, |query| {
                        is_one_value(query).then_some(())
                    })?,
                }
            }
            holds[side as usize] = Some(format!("COALESCE({expression}, true)"));
        }
        rules.push(Rule {
            field: at,
            path,
            name: given.check.name(),
            holds,
            on_error: given.on_error,
        });
    }
    Ok(rules)
}

/// The column that takes what a side sends of a field.
fn arriving<'a>(field: &Field, from: Side, sides: [&'a Table; 2]) -> Option<&'a Column> {
    let side = from.other() as usize;
    field.column[side].map(|c| &sides[side].columns[c])
}

/// By what name a rule knows a field: the target's, else the source's.
fn fed_name<'a>(field: &Field, sides: [&'a Table; 2]) -> &'a str {
    let named = |side: Side| {
        field.column[side as usize].map(|c| sides[side as usize].columns[c].name.as_str())
    };
    named(Side::Target).or_else(|| named(Side::Source)).unwrap_or("")
}

/// The fields that a side sends, with the names under which rules see them and the columns that take them.
pub fn fed<'a>(
    fields: &[Field],
    from: Side,
    sides: [&'a Table; 2],
) -> Vec<(usize, &'a str, &'a Column)> {
    let mut fed: Vec<(usize, &str, &Column)> = Vec::new();
    for (n, field) in fields.iter().enumerate() {
        let name = fed_name(field, sides);
        if field.how[from as usize].is_some()
            && let Some(column) = arriving(field, from, sides)
            && fed.iter().all(|(_, other, _)| *other != name)
        {
            fed.push((n, name, column));
        }
    }
    fed
}

fn fed_item(fields: &[Field], from: Side, sides: [&Table; 2]) -> String {
    let columns: Vec<String> = fed(fields, from, sides)
        .into_iter()
        .map(|(_, name, column)| format!("NULL::{} AS {}", column.cast, identifier(name)))
        .collect();
    format!("(SELECT {}) AS f", columns.join(", "))
}

fn check_type(check: &Check, to: &Column, path: &str, field: &str) -> Result<(), Failure> {
    let of_text = matches!(check, Check::EmailFormat | Check::Regex(_) | Check::Length { .. });
    if !of_text || convert::is_text(to) {
        return Ok(());
    }
    Err(refuse(
        "22023",
        format!("the rule \"{}\" is of texts, and \"{field}\" is none", check.name()),
        &format!("\"{path}\" names it; it arrives as {}.", to.cast),
        "Choose the rule \"range\", \"allowed_values\" or \"condition\".",
    ))
}

/// Does a value keep a rule? As SQL, null where the value is.
fn holds_for(check: &Check, value: &str, to: &Column) -> String {
    let literal = |text: &String| format!("CAST({} AS {})", literal(text), to.cast);
    match check {
        // RFC 5321, sections 2.3.11 and 4.5.3.1, without quoted local parts and addresses of hosts.
        Check::EmailFormat => format!(
            "(CAST({value} AS pg_catalog.text) OPERATOR(pg_catalog.~) \
             '^[^[:space:]@\"(),:;<>\\[\\]]{{1,64}}@([[:alnum:]]([[:alnum:]-]{{0,61}}[[:alnum:]])?\\.)+[[:alpha:]][[:alnum:]-]*[[:alnum:]]$' \
             AND pg_catalog.char_length({value}) OPERATOR(pg_catalog.<=) 254 \
             AND CAST({value} AS pg_catalog.text) OPERATOR(pg_catalog.!~) '(^\\.|\\.\\.|\\.@)')"
        ),
        Check::Regex(pattern) => format!(
            "(CAST({value} AS pg_catalog.text) OPERATOR(pg_catalog.~) {})",
            crate::sql::literal(pattern)
        ),
        Check::Length { min, max } => {
            let length = format!("pg_catalog.char_length({value})");
            between(&length, min.map(|n| n.to_string()), max.map(|n| n.to_string()))
        }
        Check::Range { min, max } => {
            between(value, min.as_ref().map(literal), max.as_ref().map(literal))
        }
        Check::AllowedValues(values) => {
            let values: Vec<String> = values.iter().map(literal).collect();
            format!("({value} IN ({}))", values.join(", "))
        }
        Check::Condition(_) => "true".to_owned(),
    }
}

fn between(value: &str, min: Option<String>, max: Option<String>) -> String {
    let ends =
        [min.map(|min| format!("{value} >= {min}")), max.map(|max| format!("{value} <= {max}"))];
    format!("({})", ends.into_iter().flatten().collect::<Vec<_>>().join(" AND "))
}

/// Puts in the place of what a side sends the first of the usual forms of it that keeps the rule.
fn standardise(
    field: &mut Field,
    side: Side,
    sides: [&Table; 2],
    to: &Column,
    check: &Check,
    options: &MappingOptions,
    path: &str,
) -> Result<(), Failure> {
    if !convert::is_text(to) {
        return Err(refuse(
            "22023",
            format!("\"{path}\" cannot bring a {} into another form", to.cast),
            "\"standardize_format\" is of texts.",
            "Choose another \"on_error\".",
        ));
    }
    let Some(how) = &field.how[side as usize] else { return Ok(()) };
    let made = match (how.sql(), field.column[side as usize]) {
        (Some(text), _) => text.to_owned(),
        (None, Some(c)) => identifier(&sides[side as usize].columns[c].name),
        (None, None) => return Ok(()),
    };
    let value = "v.value";
    let forms = match check {
        Check::EmailFormat => vec![convert::email_norm(value)],
        _ => vec![
            value.to_owned(),
            format!("pg_catalog.btrim({value})"),
            convert::format_phone(value, options),
            format!("pg_catalog.lower(pg_catalog.btrim({value}))"),
            format!("pg_catalog.upper(pg_catalog.btrim({value}))"),
        ],
    };
    let cases: Vec<String> = forms
        .iter()
        .map(|form| format!("WHEN {} THEN {form}", holds_for(check, form, to)))
        .collect();
    let text = format!(
        "CAST((SELECT CASE {} ELSE {value} END FROM (SELECT CAST({made} AS pg_catalog.text) AS value) AS v) AS {})",
        cases.join(" "),
        to.cast
    );
    field.how[side as usize] = Some(How::Evaluate(text));
    Ok(())
}
