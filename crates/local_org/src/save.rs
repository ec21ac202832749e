//! Creating and changing records, with all that an org does to them on the way.

use crate::org::{Caller, Org};
use crate::schema::{Field, Object};
use crate::table::Row;
use crate::value::{normalise, wrong_id};
use crate::{ApiError, id, person};
use serde_json::{Map, Value};

/// Whether a record is new.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Create,
    Update,
}

impl Caller {
    /// Others than the API are above field-level security, but a detail that stays with its master does so for all.
    fn may_write(&self, field: &Field, purpose: Purpose) -> bool {
        let open = match purpose {
            Purpose::Create => field.createable,
            Purpose::Update => field.updateable,
        };
        let bound = field.master_detail && !field.reparentable && purpose == Purpose::Update;
        if self.api { open && field.editable } else { !bound && !field.calculated() }
    }
}

impl Org {
    /// A new record; tells its id.
    pub(crate) fn create(
        &mut self,
        caller: &Caller,
        object: &str,
        body: &Map<String, Value>,
    ) -> Result<String, ApiError> {
        let object = self.object(object).ok_or_else(ApiError::not_found)?.clone();
        if caller.api && !object.createable {
            return Err(no_access());
        }
        let given = self.read(caller, &object, body, Purpose::Create)?;
        let person = person::is_wanted(&object, &given);
        person::check_fields(&object, &given, person)?;
        self.strike(caller, &object, None)?;
        let mut values = Map::new();
        for field in &object.fields {
            if let Some(default) = &field.default {
                values.insert(field.name.clone(), normalise(field, default, self.manners)?);
            }
        }
        for field in &object.fields {
            if let Some(summary) = &field.summary {
                values.insert(field.name.clone(), summary.of_none());
            }
        }
        values.extend(given);
        if person {
            values.insert("IsPersonAccount".into(), true.into());
        }
        if values.get("OwnerId").is_none_or(Value::is_null) && object.field("OwnerId").is_some() {
            values.insert("OwnerId".into(), caller.user.clone().into());
        }
        self.finish(&object, &mut values, None)?;
        self.check_duplicates(caller, &object, &values, None)?;
        for field in &object.fields {
            if let Some(format) = &field.auto_number {
                let serial = self.next_serial(&object.name);
                values.insert(field.name.clone(), numbered(format, serial).into());
            }
        }
        let id = id::numbered(&object.key_prefix, self.next_number(&object.name));
        if object.name.ends_with("__c") && values.get("Name").is_none_or(Value::is_null) {
            // An object without a name of its own shows the id (Salesforce help, Standard Name Field).
            values.insert("Name".into(), id::short(&id).into());
        }
        let now = self.now();
        values.insert("CreatedDate".into(), now.clone().into());
        values.insert("CreatedById".into(), caller.user.clone().into());
        touch(&mut values, &now, &caller.user);
        let row = Row { id: id.clone(), values, deleted: false, bin: None };
        let savepoint = self.savepoint();
        self.put(&object.name, &id, Some(row));
        self.mirror(caller, &id).inspect_err(|_| self.roll_back(savepoint))?;
        Ok(id)
    }

    /// Changes fields of a record. Its stamps move even if nothing else does.
    pub(crate) fn update(
        &mut self,
        caller: &Caller,
        id: &str,
        body: &Map<String, Value>,
    ) -> Result<(), ApiError> {
        let row = self.changed(caller, id, body)?;
        let object = self.object_of(id).map(|o| o.name.clone()).unwrap_or_default();
        let savepoint = self.savepoint();
        self.put(&object, id, Some(row));
        self.mirror(caller, id).inspect_err(|_| self.roll_back(savepoint))
    }

    /// The record as an update would leave it.
    pub(crate) fn changed(
        &mut self,
        caller: &Caller,
        id: &str,
        body: &Map<String, Value>,
    ) -> Result<Row, ApiError> {
        let object = self.object_of(id).ok_or_else(ApiError::not_found)?.clone();
        if caller.api && !object.updateable {
            return Err(no_access());
        }
        let given = self.read(caller, &object, body, Purpose::Update)?;
        let mut row = self.row(id).cloned().ok_or_else(ApiError::not_found)?;
        if row.deleted {
            return Err(ApiError::deleted());
        }
        self.check_half(caller, &object, &row)?;
        person::check_fields(&object, &given, person::is_person(&row))?;
        self.strike(caller, &object, Some(id))?;
        row.values.extend(given);
        self.finish(&object, &mut row.values, Some(id))?;
        self.check_duplicates(caller, &object, &row.values, self.row(id))?;
        let now = self.now();
        touch(&mut row.values, &now, &caller.user);
        Ok(row)
    }

    /// The records, deleted ones too, of which a reference holds this id.
    pub(crate) fn pointing(
        &self,
        object: &str,
        field: &str,
        id: &str,
    ) -> impl Iterator<Item = &Row> {
        let table = self.table(object);
        let ids = table.and_then(|table| table.with_key(field, &Value::from(id)));
        ids.into_iter().flatten().filter_map(move |id| table?.get(id))
    }

    /// A fault that was ordered for this record, or a lock that somebody else holds.
    pub(crate) fn strike(
        &mut self,
        caller: &Caller,
        object: &Object,
        id: Option<&str>,
    ) -> Result<(), ApiError> {
        if !caller.api {
            return Ok(());
        }
        if self.pending.iter().any(|p| Some(p.row.id.as_str()) == id) {
            let message = "unable to obtain exclusive access to this record";
            return Err(ApiError::record("UNABLE_TO_LOCK_ROW", message, &[]));
        }
        match self.faults.of_record(&caller.method, &caller.path, &object.name) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Checks that a body could be read, without looking at any record.
    pub(crate) fn check_body(
        &self,
        object: &str,
        body: &Map<String, Value>,
    ) -> Result<(), ApiError> {
        let Some(object) = self.object(object) else { return Ok(()) };
        for (name, value) in body {
            if let Some(field) = object.visible(name)
                && let Err(error) = normalise(field, value, self.manners)
                && error.parsing
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// The fields that a body writes, as they would be stored.
    fn read(
        &self,
        caller: &Caller,
        object: &Object,
        body: &Map<String, Value>,
        purpose: Purpose,
    ) -> Result<Map<String, Value>, ApiError> {
        let mut values = Map::new();
        let mut closed: Vec<&str> = Vec::new();
        let mut refused: Option<ApiError> = None;
        for (name, value) in body {
            if name == "attributes" {
                continue;
            }
            if let Value::Object(parent) = value
                && let Some(field) = object.relationship(name).filter(|f| f.visible || !caller.api)
            {
                if caller.may_write(field, purpose) {
                    values.insert(field.name.clone(), self.parent(field, parent)?.into());
                } else {
                    closed.push(&field.name);
                }
                continue;
            }
            let field =
                object.field(name).filter(|f| f.visible || !caller.api).ok_or_else(|| {
                    let message =
                        format!("No such column '{name}' on sobject of type {}", object.name);
                    ApiError::new(400, "INVALID_FIELD", message)
                })?;
            if field.name == "Id" && purpose == Purpose::Create {
                if value.is_null() {
                    continue;
                }
                let message = "cannot specify Id in an insert call";
                return Err(ApiError::record("INVALID_FIELD_FOR_INSERT_UPDATE", message, &["Id"]));
            }
            if !caller.may_write(field, purpose) {
                closed.push(&field.name);
                continue;
            }
            match normalise(field, value, self.manners) {
                Ok(value) => {
                    values.insert(field.name.clone(), value);
                }
                Err(error) if error.parsing => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if !closed.is_empty() {
            return Err(closed_fields(&closed));
        }
        refused.map_or(Ok(values), Err)
    }

    /// The id of a parent that is told by its external id: `{"Account": {"External_Id__c": "x"}}`.
    fn parent(&self, field: &Field, parent: &Map<String, Value>) -> Result<String, ApiError> {
        let told = parent.get("attributes").and_then(|attributes| attributes["type"].as_str());
        let target = match (field.reference_to.as_slice(), told) {
            ([only], _) => only,
            (several, Some(told)) if several.iter().any(|to| to == told) => told,
            _ => {
                let message = "Nested object for polymorphic foreign key must have an attributes field before any other fields.";
                return Err(ApiError::record("JSON_PARSER_ERROR", message, &[]));
            }
        };
        let object = self.object(target).ok_or_else(ApiError::not_found)?;
        let mut keys = parent.iter().filter(|(name, _)| *name != "attributes");
        let (Some((name, value)), None) = (keys.next(), keys.next()) else {
            let message = format!("Exactly one external ID is needed for {}", field.name);
            return Err(ApiError::record("INVALID_FIELD", message, &[&field.name]));
        };
        let key = object.visible(name).filter(|f| f.id_lookup).ok_or_else(|| {
            let message = format!("No such column '{name}' on sobject of type {}", object.name);
            ApiError::new(400, "INVALID_FIELD", message)
        })?;
        match self.with_key(object, key, value)?.as_slice() {
            [id] => Ok(id.clone()),
            [] => {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let message = format!(
                    "Foreign key external ID: {} not found for field {} in entity {}",
                    shown.to_lowercase(),
                    key.name,
                    object.name
                );
                Err(ApiError::record("INVALID_FIELD", message, &[]))
            }
            ids => {
                let message = format!(
                    "{}: more than one record found for external id field: [{}]",
                    key.name,
                    ids.join(", ")
                );
                Err(ApiError::record("DUPLICATE_EXTERNAL_ID", message, &[&key.name]))
            }
        }
    }

    /// The live records whose field has this value, as an upsert matches them: ignoring case where the field
    /// is unique and not told to heed it, else not (SOAP API guide, upsert()).
    pub(crate) fn with_key(
        &self,
        object: &Object,
        field: &Field,
        value: &Value,
    ) -> Result<Vec<String>, ApiError> {
        let value = match value {
            Value::String(_) => normalise(field, value, self.manners)?,
            Value::Number(_) if field.kind.is_number() => normalise(field, value, self.manners)?,
            other => other.clone(),
        };
        let Some(table) = self.table(&object.name) else { return Ok(Vec::new()) };
        if field.name == "Id" {
            let id = value.as_str().unwrap_or_default();
            return Ok(table.live(id).map(|row| row.id.clone()).into_iter().collect());
        }
        let exact = field.case_sensitive || !field.unique;
        let ids = table.with_key(&field.name, &value).unwrap_or_default();
        let live = ids.into_iter().filter_map(|id| table.live(id));
        Ok(live
            .filter(|row| !exact || *row.get(&field.name) == value)
            .map(|row| row.id.clone())
            .collect())
    }

    /// Rules, names made of parts, and all checks that need the record as a whole.
    fn finish(
        &mut self,
        object: &Object,
        values: &mut Map<String, Value>,
        id: Option<&str>,
    ) -> Result<(), ApiError> {
        for rule in self.rules.iter().filter(|r| r.object.eq_ignore_ascii_case(&object.name)) {
            rule.apply(values)?;
        }
        let person = values.get("IsPersonAccount") == Some(&Value::Bool(true));
        let named = object.field("LastName").filter(|_| object.name != "Account" || person);
        if named.is_some() {
            let parts =
                ["FirstName", "LastName"].map(|name| values.get(name).and_then(Value::as_str));
            let name: Vec<&str> = parts.into_iter().flatten().collect();
            values.insert("Name".into(), name.join(" ").into());
        }
        let missing: Vec<&str> = object
            .fields
            .iter()
            .filter(|f| {
                (f.required && f.createable || person && f.name == "LastName")
                    && values.get(&f.name).is_none_or(Value::is_null)
            })
            .map(|f| f.name.as_str())
            .collect();
        if !missing.is_empty() {
            let message = format!("Required fields are missing: [{}]", missing.join(", "));
            return Err(ApiError::record("REQUIRED_FIELD_MISSING", message, &missing));
        }
        for field in object.fields.iter().filter(|f| !f.reference_to.is_empty() && f.createable) {
            let Some(target) = values.get(&field.name).and_then(Value::as_str) else { continue };
            // What was stored before was checked then.
            let known =
                id.and_then(|id| self.row(id)).is_some_and(|row| row.text(&field.name) == target);
            let of = self.object_of(target).map(|o| o.name.clone());
            if !of.is_some_and(|name| field.reference_to.contains(&name)) {
                return Err(wrong_id(field, target));
            }
            match self.row(target) {
                Some(row) if !row.deleted || known => {}
                Some(_) => {
                    return Err(ApiError::record("ENTITY_IS_DELETED", "entity is deleted", &[]));
                }
                None if known => {}
                None => {
                    let message = "invalid cross reference id";
                    return Err(ApiError::record("INVALID_CROSS_REFERENCE_KEY", message, &[]));
                }
            }
        }
        self.check_unique(object, values, id)
    }

    pub(crate) fn check_unique(
        &self,
        object: &Object,
        values: &Map<String, Value>,
        own: Option<&str>,
    ) -> Result<(), ApiError> {
        let Some(table) = self.table(&object.name) else { return Ok(()) };
        for field in object.fields.iter().filter(|f| f.unique) {
            let Some(value) = values.get(&field.name) else { continue };
            let ids = table.with_key(&field.name, value).unwrap_or_default();
            let other = ids.into_iter().filter(|id| Some(*id) != own).find(|id| {
                table
                    .live(id)
                    .is_some_and(|row| !field.case_sensitive || row.get(&field.name) == value)
            });
            if let Some(other) = other {
                let message = format!(
                    "duplicate value found: {} duplicates value on record with id: {}",
                    field.name,
                    id::short(other)
                );
                return Err(ApiError::record("DUPLICATE_VALUE", message, &[]));
            }
        }
        Ok(())
    }
}

pub(crate) fn touch(values: &mut Map<String, Value>, now: &str, user: &str) {
    values.insert("LastModifiedDate".into(), now.into());
    values.insert("LastModifiedById".into(), user.into());
    values.insert("SystemModstamp".into(), now.into());
}

/// These fields can't be written.
pub(crate) fn closed_fields(names: &[&str]) -> ApiError {
    let message = format!(
        "Unable to create/update fields: {}. Please check the security settings of this field and verify that it is read/write for your profile or permission set.",
        names.join(", ")
    );
    ApiError::record("INVALID_FIELD_FOR_INSERT_UPDATE", message, names)
}

pub(crate) fn no_access() -> ApiError {
    let message = "insufficient access rights on object id";
    ApiError { status: 403, ..ApiError::record("INSUFFICIENT_ACCESS_OR_READONLY", message, &[]) }
}

/// `A-{0000}` with a number in it.
fn numbered(format: &str, serial: u64) -> String {
    match (format.find('{'), format.find('}')) {
        (Some(from), Some(to)) if from < to => {
            let width = to - from - 1;
            format!("{}{serial:0width$}{}", &format[..from], &format[to + 1..])
        }
        _ => format!("{format}{serial}"),
    }
}
