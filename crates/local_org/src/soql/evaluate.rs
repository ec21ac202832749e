use super::plan::{Scan, scan};
use super::{Condition, Literal, Operator, Query, Refusal, like};
use crate::org::Org;
use crate::schema::{Field, FieldType, Object};
use crate::table::Row;
use crate::{ApiError, id};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

/// A path of names that was found in the schema.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// The references on the way, and the objects that they lead to.
    steps: Vec<(Field, String)>,
    /// The object of the field.
    object: String,
    pub(crate) field: Field,
}

impl Path {
    /// A field of the record itself.
    pub(super) fn is(&self, field: &str) -> bool {
        self.steps.is_empty() && self.field.name == field
    }

    /// As the header of a bulk query has it: `Account.Name`.
    pub(crate) fn name(&self) -> String {
        let steps = self.steps.iter().filter_map(|(step, _)| step.relationship.as_deref());
        steps.chain([self.field.name.as_str()]).collect::<Vec<_>>().join(".")
    }

    /// What a record has there; null where a parent is missing.
    pub(crate) fn value(&self, org: &Org, row: &Row) -> Value {
        let mut row = row;
        for (step, target) in &self.steps {
            match org.table(target).and_then(|table| table.live(row.text(&step.name))) {
                Some(parent) => row = parent,
                None => return Value::Null,
            }
        }
        org.object(&self.object).map_or(Value::Null, |object| org.value(object, row, &self.field))
    }

    /// A text of any length.
    pub(crate) fn is_long(&self) -> bool {
        self.field.kind == FieldType::TextArea && self.field.length > 255
    }
}

/// The fields of each record of an answer, in their order.
pub(crate) type Selected = Vec<Path>;

/// What a query found.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) object: String,
    pub(crate) selected: Selected,
    pub(crate) ids: Vec<String>,
}

/// A condition that fits the schema.
#[derive(Debug)]
pub(super) enum Test {
    And(Vec<Test>),
    Or(Vec<Test>),
    Not(Box<Test>),
    Compare { path: Path, operator: Operator, operand: Operand },
    In { path: Path, not: bool, null: bool, texts: Vec<String>, set: HashSet<String> },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Null,
    Boolean(bool),
    Number(f64),
    /// Folded like the values that it is compared with.
    Text(String),
    /// Of LIKE, with its escapes.
    Pattern(String),
}

/// The ids that a query finds, in its order.
pub(crate) fn answer(org: &Org, query: &Query, deleted_too: bool) -> Result<Answered, Refusal> {
    let object = org.object(&query.object).filter(|o| o.queryable).ok_or_else(|| {
        let name = &query.object;
        let message = format!(
            "sObject type '{name}' is not supported. If you are attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference your WSDL or the describe call for the appropriate names."
        );
        Refusal::new("INVALID_TYPE", message, 0)
    })?;
    let selected = query
        .fields
        .iter()
        .map(|path| resolve(org, object, path))
        .collect::<Result<Vec<_>, _>>()?;
    let test = query.condition.as_ref().map(|c| compile(org, object, c)).transpose()?;
    let mut order = Vec::new();
    for key in &query.order {
        let path = resolve(org, object, &key.path)?;
        if !path.field.filterable() || path.field.kind == FieldType::MultiPicklist {
            let message = format!("field '{}' can not be sorted in a query call", path.field.name);
            return Err(Refusal::new("INVALID_FIELD", message, 0));
        }
        order.push((path, key.descending, key.nulls_last));
    }
    let plain: Vec<&str> = order
        .iter()
        .filter(|(path, descending, _)| path.steps.is_empty() && !descending)
        .map(|(path, ..)| path.field.name.as_str())
        .collect();
    let plain = if plain.len() == order.len() { plain } else { vec!["?"] };
    let scan = scan(test.as_ref(), &plain);
    let sorted = scan.is_ordered_by(&plain);
    let most = query.limit.unwrap_or(usize::MAX).saturating_add(query.offset);
    let enough = if sorted { most } else { usize::MAX };
    let mut rows: Vec<&Row> = Vec::new();
    if let Some(table) = org.table(&object.name) {
        let candidates: Box<dyn Iterator<Item = &Row>> = match &scan {
            Scan::All => Box::new(table.rows()),
            Scan::Ids(ids) => Box::new(ids.iter().filter_map(|id| table.get(id))),
            Scan::Key(field, values) => {
                let mut ids: Vec<&str> = values
                    .iter()
                    .flat_map(|v| {
                        table.with_key(field, &Value::from(v.as_str())).unwrap_or_default()
                    })
                    .collect();
                ids.sort_unstable();
                ids.dedup();
                Box::new(ids.into_iter().filter_map(|id| table.get(id)))
            }
            Scan::FromId(id) => Box::new(table.beginning_with(id)),
            Scan::FromStamp(stamp) => Box::new(table.since(stamp)),
        };
        let visible = candidates.filter(|row| deleted_too || query.all_rows || !row.deleted);
        let fitting =
            visible.filter(|row| test.as_ref().is_none_or(|test| test.holds(org, object, row)));
        rows.extend(fitting.take(enough));
    }
    if !sorted {
        rows.sort_by(|a, b| {
            order.iter().fold(Ordering::Equal, |so_far, (path, descending, nulls_last)| {
                so_far.then_with(|| {
                    let (a, b) = (follow(org, object, a, path), follow(org, object, b, path));
                    ordered(&path.field, &a, &b, *descending, *nulls_last)
                })
            })
        });
    }
    let rows = rows.into_iter().skip(query.offset).take(query.limit.unwrap_or(usize::MAX));
    let ids = rows.map(|row| row.id.clone()).collect();
    Ok(Answered { object: object.name.clone(), selected, ids })
}

/// The named fields of an object, for reading rows without a query.
pub(crate) fn selected(org: &Org, object: &Object, names: &[String]) -> Result<Selected, ApiError> {
    names
        .iter()
        .map(|name| {
            let path: Vec<String> = name.trim().split('.').map(str::to_owned).collect();
            resolve(org, object, &path).map_err(|r| ApiError::new(400, r.code, r.message))
        })
        .collect()
}

/// A record as an answer has it.
pub(crate) fn render(
    org: &Org,
    object: &str,
    row: &Row,
    selected: &Selected,
    version: &str,
) -> Value {
    let paths: Vec<(&[(Field, String)], &Path)> =
        selected.iter().map(|path| (&path.steps[..], path)).collect();
    level(org, object, row, &paths, version)
}

fn level(
    org: &Org,
    object: &str,
    row: &Row,
    paths: &[(&[(Field, String)], &Path)],
    version: &str,
) -> Value {
    let mut map = Map::new();
    map.insert("attributes".into(), org.attributes(object, &row.id, version));
    for (steps, path) in paths {
        let Some((step, target)) = steps.first() else {
            if let Some(object) = org.object(object) {
                map.insert(path.field.name.clone(), org.value(object, row, &path.field));
            }
            continue;
        };
        let name = step.relationship.clone().unwrap_or_default();
        if map.contains_key(&name) {
            continue;
        }
        let below: Vec<_> = paths
            .iter()
            .filter(|(steps, _)| steps.first().is_some_and(|(s, _)| s.name == step.name))
            .map(|(steps, path)| (&steps[1..], *path))
            .collect();
        let parent = org.table(target).and_then(|table| table.live(row.text(&step.name)));
        let parent = parent.map_or(Value::Null, |row| level(org, target, row, &below, version));
        map.insert(name, parent);
    }
    Value::Object(map)
}

fn resolve(org: &Org, object: &Object, names: &[String]) -> Result<Path, Refusal> {
    const REFERENCE: &str =
        "Please reference your WSDL or the describe call for the appropriate names.";
    let mut object = object;
    let mut steps = Vec::new();
    // A path may begin with the object's own name.
    let parents = names.len().saturating_sub(1);
    let skip = usize::from(parents > 0 && names[0].eq_ignore_ascii_case(&object.name));
    for name in &names[skip..parents] {
        let step = object.relationship(name).filter(|f| f.visible);
        let target = step.and_then(|f| org.object(f.reference_to.last()?));
        let (Some(step), Some(target)) = (step, target) else {
            let message = format!(
                "Didn't understand relationship '{name}' in field path. If you are attempting to use a custom relationship, be sure to append the '__r' after the custom relationship name. {REFERENCE}"
            );
            return Err(Refusal::new("INVALID_FIELD", message, 0));
        };
        steps.push((step.clone(), target.name.clone()));
        object = target;
    }
    let name = names.last().map(String::as_str).unwrap_or_default();
    let field = object.visible(name).ok_or_else(|| {
        let message = format!(
            "No such column '{name}' on entity '{}'. If you are attempting to use a custom field, be sure to append the '__c' after the custom field name. {REFERENCE}",
            object.name
        );
        Refusal::new("INVALID_FIELD", message, 0)
    })?;
    Ok(Path { steps, object: object.name.clone(), field: field.clone() })
}

fn compile(org: &Org, object: &Object, condition: &Condition) -> Result<Test, Refusal> {
    let many = |list: &[Condition]| -> Result<Vec<Test>, Refusal> {
        list.iter().map(|c| compile(org, object, c)).collect()
    };
    Ok(match condition {
        Condition::And(list) => Test::And(many(list)?),
        Condition::Or(list) => Test::Or(many(list)?),
        Condition::Not(inner) => Test::Not(Box::new(compile(org, object, inner)?)),
        Condition::Compare { path, operator, literal } => {
            let path = resolve(org, object, path)?;
            let operand = operand(&path.field, *operator, literal)?;
            Test::Compare { path, operator: *operator, operand }
        }
        Condition::In { path, not, literals } => {
            let path = resolve(org, object, path)?;
            let (mut null, mut texts) = (false, Vec::new());
            for literal in literals {
                match operand(&path.field, Operator::Equal, literal)? {
                    Operand::Null => null = true,
                    Operand::Text(text) | Operand::Pattern(text) => texts.push(text),
                    Operand::Number(number) => texts.push(crate::wire::double(number)),
                    Operand::Boolean(value) => texts.push(value.to_string()),
                }
            }
            let set = texts.iter().cloned().collect();
            Test::In { path, not: *not, null, texts, set }
        }
    })
}

fn operand(field: &Field, operator: Operator, literal: &Literal) -> Result<Operand, Refusal> {
    use FieldType::{Boolean, Date, DateTime, Id, MultiPicklist, Reference, Time};
    let kind = field.kind;
    if !field.filterable() {
        let message = format!("field '{}' can not be filtered in a query call", field.name);
        return Err(Refusal::new("INVALID_FIELD", message, 0));
    }
    let wrong = |what: &str, quotes: &str| {
        let name = &field.name;
        let message = format!(
            "value of filter criterion for field '{name}' must be of type {what} and {quotes} be enclosed in quotes"
        );
        Err(Refusal::new("INVALID_FIELD", message, 0))
    };
    let ranged = !matches!(operator, Operator::Equal | Operator::NotEqual);
    if (ranged && matches!(kind, Boolean | MultiPicklist))
        || (operator == Operator::Like && !kind.is_text())
    {
        let message = format!("invalid operator on {} field", kind.name());
        return Err(Refusal::new("INVALID_QUERY_FILTER_OPERATOR", message, 0));
    }
    if *literal == Literal::Null {
        return Ok(Operand::Null);
    }
    if kind == Time {
        return Err(Refusal::unserved("time in a condition", 0));
    }
    if matches!(kind, Id | Reference) {
        if operator == Operator::Like {
            let message = "invalid operator on id field";
            return Err(Refusal::new("INVALID_QUERY_FILTER_OPERATOR", message, 0));
        }
        let Literal::Text(text) = literal else { return wrong("string", "should") };
        return id::long(text).map(Operand::Text).ok_or_else(|| {
            Refusal::new("INVALID_QUERY_FILTER_OPERATOR", format!("invalid ID field: {text}"), 0)
        });
    }
    match (kind, literal) {
        (Boolean, Literal::Boolean(value)) => Ok(Operand::Boolean(*value)),
        (Boolean, _) => wrong("boolean", "should not"),
        (Date, Literal::Date(text)) | (DateTime, Literal::Moment(text)) => {
            Ok(Operand::Text(text.clone()))
        }
        (Date, _) => wrong("date", "should not"),
        (DateTime, _) => wrong("dateTime", "should not"),
        (kind, Literal::Number(number)) if kind.is_number() => Ok(Operand::Number(*number)),
        (kind, _) if kind.is_number() => {
            wrong(if kind == FieldType::Int { "int" } else { "double" }, "should not")
        }
        (_, Literal::Text(raw)) if operator == Operator::Like => Ok(Operand::Pattern(raw.clone())),
        (_, Literal::Text(raw)) => {
            let text = like::unescape(raw).unwrap_or_default();
            Ok(if text.is_empty() { Operand::Null } else { Operand::Text(fold(field, &text)) })
        }
        _ => wrong("string", "should"),
    }
}

/// Text is compared ignoring case, unless it is an id, a moment, or unique and heeding case.
fn fold(field: &Field, text: &str) -> String {
    let kind = field.kind;
    let exact = matches!(
        kind,
        FieldType::Id
            | FieldType::Reference
            | FieldType::Date
            | FieldType::DateTime
            | FieldType::Time
    );
    if exact || field.case_sensitive { text.to_owned() } else { text.to_lowercase() }
}

/// The value at the end of a path; null where a parent is missing.
fn follow<'a>(org: &'a Org, object: &Object, row: &'a Row, path: &Path) -> Cow<'a, Value> {
    let mut row = row;
    for (step, target) in &path.steps {
        match org.table(target).and_then(|table| table.live(row.text(&step.name))) {
            Some(parent) => row = parent,
            None => return Cow::Owned(Value::Null),
        }
    }
    let name = path.field.name.as_str();
    let stored = path.field.expression.is_none() && path.field.kind != FieldType::Boolean;
    if name == "Id" || name == "IsDeleted" || !stored {
        let object = if path.steps.is_empty() { Some(object) } else { org.object(&path.object) };
        return Cow::Owned(object.map_or(Value::Null, |o| org.value(o, row, &path.field)));
    }
    Cow::Borrowed(row.get(name))
}

impl Test {
    fn holds(&self, org: &Org, object: &Object, row: &Row) -> bool {
        match self {
            Self::And(tests) => tests.iter().all(|test| test.holds(org, object, row)),
            Self::Or(tests) => tests.iter().any(|test| test.holds(org, object, row)),
            Self::Not(test) => !test.holds(org, object, row),
            Self::Compare { path, operator, operand } => {
                compare(&path.field, &follow(org, object, row, path), *operator, operand)
            }
            Self::In { path, not, null, set, .. } => {
                let value = follow(org, object, row, path);
                let among = match value.as_ref() {
                    Value::Null => *null,
                    Value::String(text) => set.contains(&fold(&path.field, text)),
                    Value::Number(number) => {
                        set.contains(&crate::wire::double(number.as_f64().unwrap_or_default()))
                    }
                    other => set.contains(&other.to_string()),
                };
                among != *not
            }
        }
    }
}

/// Null is unequal to everything but null, and neither less nor greater than anything.
fn compare(field: &Field, value: &Value, operator: Operator, operand: &Operand) -> bool {
    let order = match (value, operand) {
        (Value::Null, Operand::Null) => Some(Ordering::Equal),
        (Value::String(text), Operand::Pattern(pattern)) => return like::like(text, pattern),
        (Value::String(text), Operand::Text(other)) => Some(fold(field, text).as_str().cmp(other)),
        (Value::Number(number), Operand::Number(other)) => {
            number.as_f64().and_then(|number| number.partial_cmp(other))
        }
        (Value::Bool(value), Operand::Boolean(other)) => Some(value.cmp(other)),
        _ => None,
    };
    match (operator, order) {
        (Operator::Equal, order) => order == Some(Ordering::Equal),
        (Operator::NotEqual, order) => order != Some(Ordering::Equal),
        (Operator::Less, Some(order)) => order == Ordering::Less,
        (Operator::LessOrEqual, Some(order)) => order != Ordering::Greater,
        (Operator::Greater, Some(order)) => order == Ordering::Greater,
        (Operator::GreaterOrEqual, Some(order)) => order != Ordering::Less,
        _ => false,
    }
}

fn ordered(field: &Field, a: &Value, b: &Value, descending: bool, nulls_last: bool) -> Ordering {
    let nulls = match (a.is_null(), b.is_null()) {
        (true, true) => return Ordering::Equal,
        (true, false) => Some(Ordering::Less),
        (false, true) => Some(Ordering::Greater),
        (false, false) => None,
    };
    if let Some(order) = nulls {
        return if nulls_last { order.reverse() } else { order };
    }
    let order = match (a, b) {
        (Value::String(a), Value::String(b)) => fold(field, a).cmp(&fold(field, b)),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => Ordering::Equal,
    };
    if descending { order.reverse() } else { order }
}
