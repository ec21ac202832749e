use connector::{Fault, FaultKind, Field, Kind, Object, ObjectName};
use egress::StatusCode;
use egress::header::ETAG;
use serde_json::Value;

use crate::call::Call;
use crate::client::Salesforce;
use crate::json;
use crate::soql;

impl Salesforce {
    /// Those that can be queried (REST API guide, describe global).
    pub(crate) async fn object_names(&self) -> Result<Vec<ObjectName>, Fault> {
        let body = self.call(&Call::get(self.path("/sobjects"))).await?;
        let Some(list) = body.get("sobjects").and_then(Value::as_array) else {
            return Err(unexpected("the list of objects"));
        };
        list.iter()
            .filter(|o| flag(o, "queryable") && !flag(o, "deprecatedAndHidden"))
            .map(name)
            .collect()
    }

    /// As this user sees it (REST API guide, sObject describe). The org is asked whether what it said last still holds:
    /// a description has hundreds of kilobytes (REST API guide, Conditional Requests).
    pub(crate) async fn object(&self, object: &str) -> Result<Object, Fault> {
        soql::check_name(object)?;
        let key = object.to_ascii_lowercase();
        let known = self.described().get(&key).cloned();
        let call = Call {
            known: known.as_ref().map(|(tag, _)| tag.clone()),
            ..Call::get(self.path(&format!("/sobjects/{object}/describe")))
        };
        let answer = self.answer(&call).await;
        let answer = answer.map_err(|mut fault| {
            if fault.code == "NOT_FOUND" || fault.code == "INVALID_TYPE" {
                fault.kind = FaultKind::Schema;
                fault.hint = format!("Check that the object {object} exists and that the user of the connection can see it.");
            }
            fault
        })?;
        if answer.status == StatusCode::NOT_MODIFIED
            && let Some((_, object)) = known
        {
            return Ok(object);
        }
        let body = json::read(&answer.body).ok_or_else(|| {
            Fault::new(FaultKind::Transient, "NOT_JSON", "the org's answer is no JSON")
        })?;
        let described = read(&body)?;
        if let Some(tag) = answer.headers.get(ETAG) {
            self.described().insert(key, (tag.clone(), described.clone()));
        }
        Ok(described)
    }
}

/// What an answer says of an object.
fn read(body: &Value) -> Result<Object, Fault> {
    let Some(list) = body.get("fields").and_then(Value::as_array) else {
        return Err(unexpected("the description of an object"));
    };
    let fields = list.iter().filter(|f| !flag(f, "deprecatedAndHidden")).map(field);
    let fields = fields.collect::<Result<Vec<Field>, _>>()?;
    let version = fields.iter().any(|f| f.name == soql::VERSION);
    Ok(Object {
        name: named(body, "name")?,
        label: text(body, "label"),
        createable: flag(body, "createable"),
        updateable: flag(body, "updateable"),
        deletable: flag(body, "deletable"),
        undeletable: flag(body, "undeletable"),
        queryable: flag(body, "queryable"),
        id_field: "Id".to_owned(),
        // Other moments can be set by imports or stand still for system work: no clock to go by.
        version_field: if version { soql::VERSION.to_owned() } else { String::new() },
        fields,
        ..Object::default()
    })
}

fn name(object: &Value) -> Result<ObjectName, Fault> {
    Ok(ObjectName {
        name: named(object, "name")?,
        label: text(object, "label"),
        createable: flag(object, "createable"),
        updateable: flag(object, "updateable"),
        deletable: flag(object, "deletable"),
        replicateable: flag(object, "replicateable"),
    })
}

fn field(field: &Value) -> Result<Field, Fault> {
    let native_type = named(field, "type")?;
    let kind = kind(&native_type);
    let writable = !matches!(kind, Kind::Structure | Kind::Bytes);
    let strings = |list: &str, of: fn(&Value) -> Option<&str>| -> Vec<String> {
        let list = field.get(list).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(of).map(str::to_owned).collect()
    };
    let precision = match kind {
        Kind::Integer => size(field, "digits"),
        _ => size(field, "precision"),
    };
    Ok(Field {
        name: named(field, "name")?,
        label: text(field, "label"),
        kind,
        length: size(field, "length"),
        precision,
        scale: size(field, "scale"),
        nillable: flag(field, "nillable"),
        createable: writable && flag(field, "createable"),
        updateable: writable && flag(field, "updateable"),
        fixed: !writable
            || flag(field, "calculated")
            || flag(field, "autoNumber")
            || !flag(field, "permissionable"),
        defaulted: flag(field, "defaultedOnCreate"),
        external_id: flag(field, "externalId"),
        unique: flag(field, "unique"),
        filterable: flag(field, "filterable"),
        reference_to: strings("referenceTo", Value::as_str),
        relationship: field.get("relationshipName").and_then(Value::as_str).map(str::to_owned),
        lookup: None,
        compound: field.get("compoundFieldName").and_then(Value::as_str).map(str::to_owned),
        choices: strings("picklistValues", |choice| {
            flag(choice, "active").then(|| choice.get("value")?.as_str()).flatten()
        }),
        native_type,
    })
}

/// The type of a field (object reference, field types). A type that is not known, and base64, of
/// which a query yields only the address, can be looked at and not synced.
pub(crate) fn kind(native: &str) -> Kind {
    match native {
        "id" | "reference" => Kind::Id,
        "string" | "textarea" | "phone" | "url" | "email" | "encryptedstring" => Kind::Text,
        "picklist" | "combobox" => Kind::Choice,
        "multipicklist" => Kind::Choices,
        "boolean" => Kind::Boolean,
        "int" | "long" => Kind::Integer,
        "double" | "currency" | "percent" => Kind::Number,
        "date" => Kind::Date,
        "datetime" => Kind::DateTime,
        "time" => Kind::Time,
        _ => Kind::Structure,
    }
}

/// A text without which nobody could say what is described.
fn named(value: &Value, name: &str) -> Result<String, Fault> {
    let text = value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned)
        .ok_or_else(|| unexpected(&format!("the {name} of what the org describes")))
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn size(value: &Value, name: &str) -> u32 {
    value.get(name).and_then(Value::as_u64).and_then(|n| n.try_into().ok()).unwrap_or_default()
}

/// An answer without what it is there for.
pub(crate) fn unexpected(what: &str) -> Fault {
    Fault::new(FaultKind::Defect, "UNEXPECTED_ANSWER", format!("{what} is not as it should be"))
}

#[cfg(test)]
mod tests {
    use super::read;
    use serde_json::json;

    #[test]
    fn what_has_no_name_is_not_described() {
        let field = json!({"name": "Name", "type": "string"});
        assert!(read(&json!({"name": "Account", "fields": [field]})).is_ok());
        for wrong in [
            json!({"fields": [field]}),
            json!({"name": "", "fields": [field]}),
            json!({"name": "Account", "fields": [field, {"name": 7, "type": "string"}]}),
            json!({"name": "Account", "fields": [field, {"name": "Site"}]}),
            json!({"name": "Account", "fields": [null]}),
            json!({"name": "Account", "fields": {}}),
        ] {
            let fault = read(&wrong).expect_err("a fault");
            assert_eq!(fault.code, "UNEXPECTED_ANSWER", "{wrong}");
        }
    }
}
