//! The org's codes, and what to do about each (ExceptionCode and StatusCode in the object reference;
//! error codes of the OAuth flows).

use std::time::Duration;

use connector::FaultKind;

/// What a code and its message mean. A code that is not known is a refusal: the record is put aside
/// with its reason, and never dropped.
pub(crate) fn kind(code: &str, message: &str) -> FaultKind {
    known(code, message).unwrap_or(FaultKind::Refused)
}

pub(crate) fn is_known(code: &str) -> bool {
    known(code, "").is_some()
}

fn known(code: &str, message: &str) -> Option<FaultKind> {
    use FaultKind::*;
    Some(match code {
        "UNABLE_TO_LOCK_ROW"
        | "SERVER_UNAVAILABLE"
        | "API_CURRENTLY_DISABLED"
        | "FUNCTIONALITY_NOT_ENABLED"
        | "FUNCTIONALITY_TEMPORARILY_UNAVAILABLE"
        | "REQUEST_RUNNING_TOO_LONG"
        | "QUERY_TIMEOUT"
        | "INVALID_QUERY_LOCATOR"
        | "TOO_MANY_APEX_REQUESTS"
        | "CANNOT_EXECUTE_FLOW_TRIGGER"
        | "INSERT_UPDATE_DELETE_NOT_ALLOWED_DURING_MAINTENANCE"
        | "TXN_SECURITY_METERING_ERROR"
        | "TXN_SECURITY_RUNTIME_ERROR"
        | "TXN_SECURITY_APEX_ERROR"
        | "TERRITORY_REALIGN_IN_PROGRESS"
        | "PLATFORM_EVENT_PUBLISHING_UNAVAILABLE"
        | "PLATFORM_EVENT_PUBLISH_FAILED"
        | "DATACLOUD_API_UNAVAILABLE"
        | "UNKNOWN_EXCEPTION"
        | "RECORD_IN_USE_BY_WORKFLOW"
        | "ENTITY_IS_LOCKED"
        // Of a record that is made; all others go on.
        | "STORAGE_LIMIT_EXCEEDED"
        | "rate_limit_exceeded" => Transient,

        "REQUEST_LIMIT_EXCEEDED"
        | "LIMIT_EXCEEDED"
        | "EXCEEDED_QUOTA"
        | "EXCEEDEDQUOTA"
        | "TXN_LIMIT_EXCEEDED" => Quota,

        "invalid_grant" if message.contains("rate exceeded") => Transient,
        "invalid_grant"
            if message.contains("not supported on this domain")
                || message.starts_with("Audience") =>
        {
            Configuration
        }
        "INVALID_SESSION_ID"
        | "INVALID_LOGIN"
        | "INVALID_AUTH_HEADER"
        | "LOGIN_MUST_USE_SECURITY_TOKEN"
        | "LOGIN_DURING_RESTRICTED_DOMAIN"
        | "LOGIN_DURING_RESTRICTED_TIME"
        | "INVALID_OPERATION_WITH_EXPIRED_PASSWORD"
        | "PASSWORD_LOCKOUT"
        | "ORG_LOCKED"
        | "USER_LOCKED"
        | "invalid_grant"
        | "invalid_client_id"
        | "invalid_client"
        | "invalid_client_credentials"
        | "invalid_assertion"
        | "invalid_assertion_type"
        | "invalid_app_access"
        | "inactive_user"
        | "inactive_org"
        | "unauthorized_client"
        | "access_denied" => Credentials,

        "API_DISABLED_FOR_ORG"
        | "FEATURENOTENABLED"
        | "INVALIDENTITY"
        | "FORBIDDEN"
        | "UNSUPPORTED_API_VERSION"
        | "INVALID_VERSION"
        | "CLIENT_NOT_ACCESSIBLE_FOR_USER"
        | "UNAVAILABLE_RECORDTYPE_EXCEPTION"
        | "URI_TOO_LONG"
        | "unsupported_grant_type"
        | "invalid_request"
        | "invalid_scope" => Configuration,

        "INVALID_FIELD" if message.starts_with("Foreign key external ID") => Dependency,
        "INVALID_CROSS_REFERENCE_KEY"
        | "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY"
        | "DELETE_FAILED"
        | "DEPENDENCY_EXISTS"
        | "CIRCULAR_DEPENDENCY" => Dependency,

        "ENTITY_IS_DELETED"
        | "NOT_FOUND"
        | "DUPLICATE_VALUE"
        | "DUPLICATE_EXTERNAL_ID"
        | "DUPLICATES_DETECTED"
        | "ENTITY_IS_ARCHIVED"
        | "CANNOT_UPDATE_CONVERTED_LEAD"
        | "INVALIDJOBSTATE"
        | "PRECONDITION_FAILED" => Conflict,

        "ALL_OR_NONE_OPERATION_ROLLED_BACK" | "PROCESSING_HALTED" | "BATCH_PROCESSING_HALTED" => {
            Cascade
        }

        "MISSING_ARGUMENT"
        | "INVALIDJOB"
        | "METHOD_NOT_ALLOWED"
        | "INVALID_BATCH_SIZE"
        | "EXCEEDED_MAX_SIZE_REQUEST" => Defect,

        "REQUIRED_FIELD_MISSING"
        | "STRING_TOO_LONG"
        | "NUMBER_OUTSIDE_VALID_RANGE"
        | "FIELD_CUSTOM_VALIDATION_EXCEPTION"
        | "FIELD_FILTER_VALIDATION_EXCEPTION"
        | "FIELD_INTEGRITY_EXCEPTION"
        | "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"
        | "TOO_MANY_ENUM_VALUE"
        | "INVALID_TYPE_ON_FIELD_IN_RECORD"
        | "INVALID_EMAIL_ADDRESS"
        | "INVALID_FIELD"
        | "INVALID_FIELD_FOR_INSERT_UPDATE"
        | "INVALID_TYPE"
        | "INVALID_TYPE_FOR_OPERATION"
        | "MALFORMED_ID"
        | "INVALID_ID_FIELD"
        | "MALFORMED_QUERY"
        | "INVALID_QUERY_FILTER_OPERATOR"
        | "QUERY_TOO_COMPLICATED"
        | "OPERATION_TOO_LARGE"
        | "EXCEEDED_MAX_SEMIJOIN_SUBSELECTS"
        | "JSON_PARSER_ERROR"
        | "TEXT_DATA_OUTSIDE_SUPPORTED_CHARSET"
        | "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY"
        | "INSUFFICIENT_ACCESS"
        | "INSUFFICIENT_ACCESS_OR_READONLY"
        | "TXN_SECURITY_NO_ACCESS"
        | "INACTIVE_OWNER_OR_USER"
        | "SELF_REFERENCE_FROM_TRIGGER"
        | "INVALID_CURRENCY_ISO"
        | "INVALID_REPLICATION_DATE"
        | "EXCEEDED_ID_LIMIT" => Refused,

        _ => return None,
    })
}

/// How long to wait where the org names no time. The daily allowance is a rolling window of 24
/// hours: some of it comes back all the time, and asking costs nothing of it.
pub(crate) fn wait(code: &str, message: &str) -> Option<Duration> {
    let seconds = match code {
        "REQUEST_LIMIT_EXCEEDED" if message.contains("Concurrent") => 30,
        "REQUEST_LIMIT_EXCEEDED" => 900,
        "LIMIT_EXCEEDED" => 300,
        "STORAGE_LIMIT_EXCEEDED" | "EXCEEDED_QUOTA" | "EXCEEDEDQUOTA" => 3600,
        "rate_limit_exceeded" => 60,
        "invalid_grant" if message.contains("rate exceeded") => 60,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// What a person can do about it.
pub(crate) fn hint(code: &str, message: &str) -> &'static str {
    match code {
        "invalid_grant" if message.contains("not supported on this domain") => {
            "Client credentials work only on the org's My Domain, not on login.salesforce.com or test.salesforce.com."
        }
        "invalid_grant" if message.contains("no client credentials user") => {
            "Choose a Run-As user for the client credentials flow in the app's policies."
        }
        "invalid_client_id" | "invalid_client" | "invalid_client_credentials" => {
            "Check the consumer key and the consumer secret of the app."
        }
        "API_DISABLED_FOR_ORG" => {
            "Give the user the permission API Enabled by a permission set; the org's edition has to include the API."
        }
        "REQUEST_LIMIT_EXCEEDED" if message.contains("Concurrent") => {
            "Too many long requests run at once in the org."
        }
        "REQUEST_LIMIT_EXCEEDED" => "The org's allowance of API requests for 24 hours is used up.",
        "STORAGE_LIMIT_EXCEEDED" => "The org's data storage is full. Free some, or buy more.",
        "INSUFFICIENT_ACCESS" | "INSUFFICIENT_ACCESS_OR_READONLY" => {
            "Give the user of the connection the right to change the record and its object."
        }
        "INVALID_FIELD_FOR_INSERT_UPDATE" => {
            "Give the user of the connection the right to edit the field, or take the field out of the mapping."
        }
        "INVALID_FIELD" => {
            "Check that the field exists and that the user of the connection can see it."
        }
        "INVALID_TYPE" => {
            "Check that the object exists and that the user of the connection can see it."
        }
        _ => "",
    }
}
