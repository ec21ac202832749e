//! The errors that a client can meet, by their codes, with the words that Salesforce has for them where they are known
//! (REST API guide, Status Codes and Error Responses; SOAP API guide, ExceptionCode and StatusCode). Those that nothing
//! here leads to by itself can be ordered by name.

use crate::ApiError;
use crate::faults::{Fault, FaultRule, Match};
use serde::Deserialize;
use serde_json::{Value, json};

/// Whether a request fails with this status, or one of its records.
#[derive(Clone, Copy)]
enum Of {
    Request(u16),
    Record,
}
use Of::{Record, Request};

const ERRORS: [(&str, Of, &str); 86] = [
    // Of the session, the quota and the service.
    ("INVALID_SESSION_ID", Request(401), "Session expired or invalid"),
    (
        "INVALID_LOGIN",
        Request(401),
        "Invalid username, password, security token; or user locked out.",
    ),
    (
        "LOGIN_MUST_USE_SECURITY_TOKEN",
        Request(401),
        "Invalid username, password, security token; or user locked out. Are you at a new location? When accessing Salesforce--either via a desktop client or the API--from outside of your company's trusted networks, you must add a security token to your password to log in.",
    ),
    (
        "INVALID_OPERATION_WITH_EXPIRED_PASSWORD",
        Request(403),
        "The users password has expired, you must call SetPassword before attempting any other API operations",
    ),
    ("API_DISABLED_FOR_ORG", Request(403), "API is not enabled for this Organization or Partner"),
    ("API_CURRENTLY_DISABLED", Request(403), "API is currently disabled"),
    ("FORBIDDEN", Request(403), "You do not have access to this resource"),
    (
        "FUNCTIONALITY_NOT_ENABLED",
        Request(403),
        "This feature is not currently enabled for this user type or org",
    ),
    ("INSUFFICIENT_ACCESS", Request(403), "insufficient access rights on object"),
    ("REQUEST_LIMIT_EXCEEDED", Request(403), "TotalRequests Limit exceeded."),
    (
        "TXN_SECURITY_NO_ACCESS",
        Request(403),
        "The operation you requested was blocked by a security policy of your organization",
    ),
    (
        "TXN_SECURITY_METERING_ERROR",
        Request(500),
        "An error occurred while a security policy was evaluated",
    ),
    (
        "TXN_SECURITY_RUNTIME_ERROR",
        Request(500),
        "An error occurred while a security policy was evaluated",
    ),
    (
        "TXN_SECURITY_APEX_ERROR",
        Request(500),
        "An error occurred while a security policy was evaluated",
    ),
    ("SERVER_UNAVAILABLE", Request(503), "Server too busy"),
    (
        "UNKNOWN_EXCEPTION",
        Request(500),
        "An unexpected error occurred. Please include this ErrorId if you contact support: 1234567890-12345 (-1234567890)",
    ),
    (
        "REQUEST_RUNNING_TOO_LONG",
        Request(503),
        "Your request was running for too long, and has been stopped.",
    ),
    ("TOO_MANY_APEX_REQUESTS", Request(503), "Too many Apex requests are running"),
    (
        "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE",
        Request(503),
        "insert, update, and delete are not allowed during maintenance",
    ),
    (
        "PLATFORM_EVENT_PUBLISHING_UNAVAILABLE",
        Request(503),
        "The platform event message couldn't be published. Try again later.",
    ),
    (
        "PLATFORM_EVENT_PUBLISH_FAILED",
        Request(500),
        "The platform event message couldn't be published",
    ),
    ("DATACLOUD_API_UNAVAILABLE", Request(503), "The Data.com API is unavailable"),
    ("IDEMPOTENCY_FEATURE_NOT_ENABLED", Request(400), "Idempotent writes are not enabled"),
    ("INVALID_IDEMPOTENCY_KEY", Request(400), "The idempotency key is invalid"),
    (
        "IDEMPOTENCY_NOT_SUPPORTED",
        Request(400),
        "Idempotent writes are not supported for this resource",
    ),
    // Of what was asked for.
    ("NOT_FOUND", Request(404), "The requested resource does not exist"),
    (
        "METHOD_NOT_ALLOWED",
        Request(405),
        "HTTP Method 'POST' not allowed. Allowed are HEAD,GET,PATCH,DELETE",
    ),
    ("UNSUPPORTED_API_VERSION", Request(410), "API version 30.0 has been retired"),
    (
        "UNSUPPORTED_MEDIA_TYPE",
        Request(415),
        "Content-Type header specified in HTTP request is not supported: text/plain",
    ),
    (
        "JSON_PARSER_ERROR",
        Request(400),
        "Unexpected character ('}' (code 125)): expected a value at [line:1, column:2]",
    ),
    ("MALFORMED_QUERY", Request(400), "unexpected token: 'FROM'"),
    ("INVALID_TYPE", Request(400), "sObject type 'Nothing__c' is not supported."),
    ("INVALID_QUERY_FILTER_OPERATOR", Request(400), "invalid operator on id field"),
    ("INVALID_QUERY_LOCATOR", Request(400), "invalid query locator"),
    ("QUERY_TIMEOUT", Request(400), "Your query request was running for too long."),
    (
        "QUERY_TOO_COMPLICATED",
        Request(400),
        "Query is either selecting too many fields or the filter conditions are too complicated.",
    ),
    ("OPERATION_TOO_LARGE", Request(400), "exceeded 100000 distinct who/what's"),
    (
        "EXCEEDED_MAX_SEMIJOIN_SUBSELECTS",
        Request(400),
        "maximum of 2 semi join sub-selects are allowed in a query",
    ),
    ("INVALID_REPLICATION_DATE", Request(400), "startDate cannot be more than 30 days ago"),
    (
        "EXCEEDED_ID_LIMIT",
        Request(400),
        "record limit reached. cannot submit more than 200 records into this call",
    ),
    ("LIMIT_EXCEEDED", Request(400), "limit exceeded"),
    ("EXCEEDED_QUOTA", Request(403), "exceeded quota"),
    ("BATCH_PROCESSING_HALTED", Request(412), "Batch processing halted per request"),
    (
        "PROCESSING_HALTED",
        Request(400),
        "The transaction was rolled back since another operation in the same transaction failed.",
    ),
    // Of a record's values.
    ("REQUIRED_FIELD_MISSING", Record, "Required fields are missing: [LastName]"),
    ("STRING_TOO_LONG", Record, "Account Name: data value too large: x (max length=255)"),
    ("INVALID_EMAIL_ADDRESS", Record, "Email: invalid email address: x"),
    (
        "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
        Record,
        "Colour: bad value for restricted picklist field: x",
    ),
    (
        "NUMBER_OUTSIDE_VALID_RANGE",
        Record,
        "Employees: value outside of valid range on numeric field: 1431655766",
    ),
    ("TOO_MANY_ENUM_VALUE", Record, "Tags: too many values selected"),
    ("INVALID_TYPE_ON_FIELD_IN_RECORD", Record, "Name: value not of required type: 1"),
    (
        "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET",
        Record,
        "text data outside of the supported character set",
    ),
    ("INVALID_CURRENCY_ISO", Record, "Currency ISO Code: invalid currency: XXX"),
    ("FIELD_CUSTOM_VALIDATION_EXCEPTION", Record, "a validation rule refused the record"),
    (
        "FIELD_FILTER_VALIDATION_EXCEPTION",
        Record,
        "Value does not exist or does not match filter criteria.",
    ),
    (
        "FIELD_INTEGRITY_EXCEPTION",
        Record,
        "field integrity exception: unknown (the value does not fit the other fields)",
    ),
    ("INVALID_FIELD", Record, "No such column 'foo' on sobject of type Account"),
    (
        "INVALID_FIELD_FOR_INSERT_UPDATE",
        Record,
        "Unable to create/update fields: Name. Please check the security settings of this field and verify that it is read/write for your profile or permission set.",
    ),
    ("INVALID_ID_FIELD", Record, "invalid id field"),
    ("MALFORMED_ID", Record, "malformed id 001"),
    ("MISSING_ARGUMENT", Record, "Id not specified in an update call"),
    // Of a record beside others.
    (
        "DUPLICATE_VALUE",
        Record,
        "duplicate value found: External_Id__c duplicates value on record with id: 001Lo0000000001",
    ),
    ("DUPLICATES_DETECTED", Record, "Use one of these records?"),
    (
        "DUPLICATE_EXTERNAL_ID",
        Record,
        "External_Id__c: more than one record found for external id field: [001Lo0000000001IAA, 001Lo0000000002IAA]",
    ),
    ("UNABLE_TO_LOCK_ROW", Record, "unable to obtain exclusive access to this record"),
    ("INVALID_CROSS_REFERENCE_KEY", Record, "invalid cross reference id"),
    ("CIRCULAR_DEPENDENCY", Record, "attempt to create a circular dependency"),
    ("DEPENDENCY_EXISTS", Record, "cannot delete a record that others depend on"),
    (
        "DELETE_FAILED",
        Record,
        "Your attempt to delete Mr. Josh Davis could not be completed because it is associated with the following cases.: 00001005\n",
    ),
    ("ENTITY_IS_DELETED", Record, "entity is deleted"),
    ("ENTITY_IS_LOCKED", Record, "the entity is locked for editing"),
    ("ENTITY_IS_ARCHIVED", Record, "entity is archived"),
    ("UNDELETE_FAILED", Record, "Entity is not in the recycle bin"),
    ("CANNOT_UPDATE_CONVERTED_LEAD", Record, "cannot reference converted lead"),
    ("RECORD_IN_USE_BY_WORKFLOW", Record, "the record is in use by a workflow"),
    ("TERRITORY_REALIGN_IN_PROGRESS", Record, "territories are being realigned"),
    (
        "INACTIVE_OWNER_OR_USER",
        Record,
        "operation performed with inactive user [005Lo0000000002] as owner of account",
    ),
    (
        "UNAVAILABLE_RECORDTYPE_EXCEPTION",
        Record,
        "The default record type is no longer available to the user",
    ),
    ("INSUFFICIENT_ACCESS_OR_READONLY", Record, "insufficient access rights on object id"),
    (
        "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
        Record,
        "insufficient access rights on cross-reference id",
    ),
    ("INVALID_TYPE_FOR_OPERATION", Record, "entity type cannot be written: Account"),
    ("STORAGE_LIMIT_EXCEEDED", Record, "storage limit exceeded"),
    // Of what an org does when a record is saved.
    (
        "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
        Record,
        "LocalTrigger: execution of BeforeInsert\n\ncaused by: System.NullPointerException: Attempt to de-reference a null object\n\nTrigger.LocalTrigger: line 3, column 1",
    ),
    (
        "CANNOT_EXECUTE_FLOW_TRIGGER",
        Record,
        "We can't save this record because the \u{201C}LocalFlow\u{201D} process failed.",
    ),
    (
        "SELF_REFERENCE_FROM_TRIGGER",
        Record,
        "Object (id = 001Lo0000000001) is currently in trigger LocalTrigger, therefore it cannot recursively update itself",
    ),
    (
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        Record,
        "Record rolled back because not all records were valid and the request was using AllOrNone header",
    ),
];

/// All of them, for people and for tests that go through them.
pub(crate) fn list() -> Value {
    let told = ERRORS.iter().map(|(code, of, message)| match of {
        Request(status) => {
            json!({"code": code, "of": "request", "status": status, "message": message})
        }
        Record => json!({"code": code, "of": "record", "message": message}),
    });
    told.collect()
}

/// Their codes, and whether a record meets them.
pub(crate) fn codes() -> impl Iterator<Item = (&'static str, bool)> {
    ERRORS.iter().map(|(code, of, _)| (*code, matches!(of, Record)))
}

/// The fault that an error of this name is; nothing where there is no such error.
pub(crate) fn named(code: &str) -> Option<Fault> {
    let (code, of, message) = ERRORS.iter().find(|(name, ..)| *name == code)?;
    let (code, message) = ((*code).to_owned(), (*message).to_owned());
    Some(match of {
        Request(status) => Fault::Error { status: *status, code, message },
        Record => Fault::Record { code, message },
    })
}

/// When an error that was ordered by name strikes; everything may be left out.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Order {
    #[serde(rename = "match")]
    matches: Match,
    times: Option<u64>,
    skip: u64,
    probability: Option<f64>,
    /// In place of the error's own words.
    message: Option<String>,
}

impl Order {
    /// Once, unless told otherwise.
    pub(crate) fn rule(self, code: &str) -> Result<FaultRule, ApiError> {
        let mut fault = named(code).ok_or_else(|| {
            ApiError::json(format!("{code} is not among the errors that are known by name"))
        })?;
        if let Some(words) = self.message {
            match &mut fault {
                Fault::Error { message, .. } | Fault::Record { message, .. } => *message = words,
                _ => {}
            }
        }
        Ok(FaultRule {
            matches: self.matches,
            times: Some(self.times.unwrap_or(1)),
            skip: self.skip,
            probability: self.probability.unwrap_or(1.0),
            fault,
        })
    }
}
