//! Roll-up summary fields: what a record tells of its details (Salesforce help, Roll-Up Summary Field). The org keeps
//! them as the last step of the transaction that writes the details, and saves the parent with them.

use crate::org::Org;
use crate::save::touch;
use crate::schema::{Field, FieldType, Object};
use crate::table::Row;
use crate::{ApiError, moment};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// How deep master-detail relationships go (Salesforce help, Considerations for Relationships).
const LEVELS: usize = 3;

/// What a field tells of the records that have its own as their master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The object of the details.
    pub object: String,
    /// Their master-detail field.
    pub by: String,
    pub operation: Operation,
    /// What is summed up or compared; counting needs none.
    #[serde(default)]
    pub field: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Count,
    Sum,
    Min,
    Max,
}

impl Summary {
    /// `field` is not looked at where records are counted.
    pub fn new(object: &str, by: &str, operation: Operation, field: &str) -> Self {
        let (object, by, field) = (object.to_owned(), by.to_owned(), field.to_owned());
        Self { object, by, operation, field }
    }

    /// What a record without details has.
    pub(crate) fn of_none(&self) -> Value {
        match self.operation {
            Operation::Count | Operation::Sum => Value::from(0.0),
            Operation::Min | Operation::Max => Value::Null,
        }
    }

    fn of<'a>(&self, details: impl Iterator<Item = &'a Row>) -> Value {
        let values: Vec<&Value> = match self.operation {
            Operation::Count => return (details.count() as f64).into(),
            _ => details.map(|row| row.get(&self.field)).filter(|v| !v.is_null()).collect(),
        };
        let order = |a: &&&Value, b: &&&Value| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b),
            _ => a.as_str().cmp(&b.as_str()),
        };
        let extreme = match self.operation {
            Operation::Min => values.iter().min_by(order),
            Operation::Max => values.iter().max_by(order),
            _ => {
                let sum: f64 = values.iter().filter_map(|v| v.as_f64()).sum();
                return Number::from_f64(sum + 0.0).map_or(Value::Null, Value::Number);
            }
        };
        extreme.map_or(Value::Null, |value| (*value).clone())
    }
}

/// Which records' summaries may be out of date, with who wrote a detail.
#[derive(Debug, Default)]
pub(crate) struct Stale {
    /// For each object of details: its master-detail fields that something is summed up by.
    watched: BTreeMap<String, Vec<String>>,
    parents: BTreeMap<String, String>,
}

impl Stale {
    /// Looks up anew what has to be watched.
    pub(crate) fn watch(&mut self, objects: &[Object]) {
        self.watched.clear();
        for summary in objects.iter().flat_map(|o| &o.fields).filter_map(|f| f.summary.as_ref()) {
            let fields = self.watched.entry(summary.object.clone()).or_default();
            if !fields.contains(&summary.by) {
                fields.push(summary.by.clone());
            }
        }
    }

    /// A detail became another.
    pub(crate) fn note(&mut self, object: &str, old: Option<&Row>, new: Option<&Row>) {
        let Some(fields) = self.watched.get(object) else { return };
        let user = new.or(old).map(|row| row.text("LastModifiedById")).unwrap_or_default();
        for (row, field) in
            [old, new].into_iter().flatten().flat_map(|row| fields.iter().map(move |f| (row, f)))
        {
            self.parents.insert(row.text(field).to_owned(), user.to_owned());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }
}

impl Org {
    /// Checks a roll-up summary field that is about to be added to an object.
    pub(crate) fn check_summary(&self, object: &Object, field: &Field) -> Result<(), ApiError> {
        let Some(summary) = &field.summary else { return Ok(()) };
        let wrong = |message: String| Err(ApiError::new(400, "FIELD_INTEGRITY_EXCEPTION", message));
        let Some(details) = self.object(&summary.object) else {
            return wrong(format!("Roll-up summary {}: no object {}", field.name, summary.object));
        };
        let master = details.fields.iter().find(|f| f.name == summary.by && f.cascade);
        if master.is_none_or(|f| !f.reference_to.contains(&object.name)) {
            return wrong(format!(
                "Roll-up summary {}: {}.{} is no master-detail field to {}",
                field.name, summary.object, summary.by, object.name
            ));
        }
        let source = details.fields.iter().find(|f| f.name == summary.field);
        let double = field.kind.is_number() && field.kind != FieldType::Int;
        let fits = match summary.operation {
            Operation::Count => double,
            Operation::Sum => double && source.is_some_and(|f| f.kind.is_number()),
            Operation::Min | Operation::Max => source.is_some_and(|f| {
                let moment = matches!(f.kind, FieldType::Date | FieldType::DateTime);
                f.kind.is_number() && double || moment && f.kind == field.kind
            }),
        };
        if !fits || source.is_some_and(|f| f.expression.is_some()) {
            return wrong(format!(
                "Roll-up summary {}: {}.{} can't be summed up so",
                field.name, summary.object, summary.field
            ));
        }
        Ok(())
    }

    /// Computes a new summary field of all records. It is the org's own work, and none that is published.
    pub(crate) fn summarise(&mut self, object: &str, summary: &Summary, field: &str) {
        let now = moment::text(self.clock.now().div_euclid(1000) * 1000);
        let rows: Vec<Row> =
            self.table(object).into_iter().flat_map(|table| table.rows()).cloned().collect();
        for mut row in rows {
            let value = self.summary(summary, &row.id);
            row.values.insert(field.to_owned(), value);
            row.values.insert("SystemModstamp".into(), now.clone().into());
            let id = row.id.clone();
            self.tables.entry(object.to_owned()).or_default().replace(&id, Some(row));
        }
    }

    fn summary(&self, summary: &Summary, id: &str) -> Value {
        summary.of(self.pointing(&summary.object, &summary.by, id).filter(|row| !row.deleted))
    }

    /// Brings the summaries of the records up to date whose details the running transaction wrote.
    pub(crate) fn roll_up(&mut self) {
        for _ in 0..LEVELS {
            for (id, user) in std::mem::take(&mut self.stale.parents) {
                self.roll_up_one(&id, &user);
            }
        }
    }

    fn roll_up_one(&mut self, id: &str, user: &str) {
        let Some(object) = self.object_of(id) else { return };
        let Some(row) = self.row(id).filter(|row| !row.deleted) else { return };
        let fields = object.fields.iter().filter_map(|f| Some((&f.name, f.summary.as_ref()?)));
        let changed: Vec<(String, Value)> = fields
            .map(|(name, summary)| (name.clone(), self.summary(summary, id)))
            .filter(|(name, value)| row.get(name) != value)
            .collect();
        if changed.is_empty() {
            return;
        }
        let (object, mut row) = (object.name.clone(), row.clone());
        row.values.extend(changed);
        touch(&mut row.values, &self.now(), user);
        self.put(&object, id, Some(row));
    }
}
