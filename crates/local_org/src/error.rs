use serde_json::{Map, Value};
use std::fmt;

/// An error as the REST API tells it: a status, and a code with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// There on errors of a record, absent on most others (REST API guide, Status Codes and Error Responses).
    pub fields: Option<Vec<String>>,
    /// Found while the body was read, before any record was looked at: the whole request is refused.
    pub(crate) parsing: bool,
    /// What a duplicate rule found, as `duplicateResult` tells it.
    pub(crate) duplicates: Option<Box<Value>>,
}

impl ApiError {
    /// An error of a request.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            fields: None,
            parsing: false,
            duplicates: None,
        }
    }

    /// An error of a record, with the fields that it names.
    pub fn record(code: impl Into<String>, message: impl Into<String>, fields: &[&str]) -> Self {
        let fields = fields.iter().map(|f| (*f).to_owned()).collect();
        Self { fields: Some(fields), ..Self::new(400, code, message) }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "NOT_FOUND", "The requested resource does not exist")
    }

    pub(crate) fn deleted() -> Self {
        Self { status: 404, ..Self::record("ENTITY_IS_DELETED", "entity is deleted", &[]) }
    }

    pub(crate) fn no_such_external_id(field: &str) -> Self {
        let message =
            format!("Provided external ID field does not exist or is not accessible: {field}");
        Self::new(404, "NOT_FOUND", message)
    }

    pub(crate) fn method_not_allowed(method: &str, allowed: &str) -> Self {
        let message = format!("HTTP Method '{method}' not allowed. Allowed are {allowed}");
        Self::new(405, "METHOD_NOT_ALLOWED", message)
    }

    pub(crate) fn json(message: impl Into<String>) -> Self {
        Self { parsing: true, ..Self::new(400, "JSON_PARSER_ERROR", message) }
    }

    /// As an element of the array that is the body of a refused request.
    pub(crate) fn body(&self) -> Value {
        let mut map = Map::new();
        self.tell_duplicates(&mut map);
        map.insert("message".into(), self.message.clone().into());
        map.insert("errorCode".into(), self.code.clone().into());
        if let Some(fields) = &self.fields {
            map.insert("fields".into(), fields.clone().into());
        }
        Value::Object(map)
    }

    /// As an element of `errors` in the result of one record.
    pub(crate) fn entry(&self) -> Value {
        let mut map = Map::new();
        self.tell_duplicates(&mut map);
        map.insert("statusCode".into(), self.code.clone().into());
        map.insert("message".into(), self.message.clone().into());
        map.insert("fields".into(), self.fields.clone().unwrap_or_default().into());
        Value::Object(map)
    }

    fn tell_duplicates(&self, map: &mut Map<String, Value>) {
        if let Some(result) = &self.duplicates {
            map.insert("duplicateResult".into(), (**result).clone());
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for ApiError {}
