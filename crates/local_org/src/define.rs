//! How the schema changes: objects and fields that come and go.

use crate::ApiError;
use crate::formula::Expression;
use crate::org::Org;
use crate::schema::{Field, Object};

impl Org {
    /// Adds an object, or replaces the one of its name and keeps its records.
    pub(crate) fn define_object(&mut self, mut object: Object) -> Result<(), ApiError> {
        object.complete();
        self.check_fields(&object)?;
        if object.key_prefix.len() != 3 {
            let mut numbers = 1..;
            let taken = |prefix: &String| self.objects.iter().any(|o| o.key_prefix == *prefix);
            let free =
                numbers.find_map(|n| Some(format!("a{n:02}")).filter(|prefix| !taken(prefix)));
            object.key_prefix = free.unwrap_or_default();
        }
        let name = object.name.clone();
        match self.objects.iter_mut().find(|o| o.name.eq_ignore_ascii_case(&name)) {
            Some(there) => *there = object,
            None => self.objects.push(object),
        }
        self.schema_touched(&name);
        Ok(())
    }

    pub(crate) fn define_field(&mut self, object: &str, field: Field) -> Result<(), ApiError> {
        let mut object = self.object(object).ok_or_else(ApiError::not_found)?.clone();
        let summary = field.summary.clone();
        let (name, field_name) = (object.name.clone(), field.name.clone());
        object.put(field);
        self.check_fields(&object)?;
        *self.object_mut(&name)? = object;
        self.schema_touched(&name);
        if let Some(summary) = summary {
            self.summarise(&name, &summary, &field_name);
        }
        Ok(())
    }

    /// Refuses formulas and summaries that say nothing.
    fn check_fields(&self, object: &Object) -> Result<(), ApiError> {
        let wrong = |message| Err(ApiError::new(400, "FIELD_INTEGRITY_EXCEPTION", message));
        for field in &object.fields {
            self.check_summary(object, field)?;
            let Some(formula) = &field.formula else { continue };
            let expression = match Expression::parse(formula) {
                Ok(expression) => expression,
                Err(reason) => return wrong(format!("Formula {}: {reason}", field.name)),
            };
            let unknown =
                |name: &&str| object.field(name).is_none() && object.relationship(name).is_none();
            if let Some(name) = expression.names().into_iter().find(unknown) {
                return wrong(format!(
                    "Formula {}: Field {name} does not exist. Check spelling.",
                    field.name
                ));
            }
            if expression.comes_back_to(&field.name, object) {
                return wrong(format!("Formula {}: it refers to itself", field.name));
            }
        }
        Ok(())
    }

    pub(crate) fn remove_field(&mut self, object: &str, field: &str) -> Result<(), ApiError> {
        let object = self.object_mut(object)?;
        object.fields.retain(|f| !f.name.eq_ignore_ascii_case(field));
        let name = object.name.clone();
        self.schema_touched(&name);
        Ok(())
    }

    pub(crate) fn schema_touched(&mut self, object: &str) {
        // Each change a second later than the one before, so that a client that asks whether there was one
        // since then, and headers know no fractions, is not told that there was none.
        let next = self.schema_changed.div_euclid(1000) * 1000 + 1000;
        self.schema_changed = self.clock.now().max(next);
        self.changes += 1;
        self.events.schema_changed(object);
        self.stale.watch(&self.objects);
        self.index(object);
    }

    /// Fits the indexes of an object's records to what they are looked up by.
    pub(crate) fn index(&mut self, object: &str) {
        let Some(object) = self.objects.iter().find(|o| o.name == object) else { return };
        let rules = self.duplicate_rules.iter().filter(|rule| rule.object == object.name);
        let compared = rules.flat_map(|rule| &rule.fields).map(String::as_str);
        self.tables.entry(object.name.clone()).or_default().index(object, compared);
    }
}
