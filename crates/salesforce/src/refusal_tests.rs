use connector::FaultKind;
use egress::header::{HeaderMap, HeaderValue};
use egress::{Response, StatusCode};
use serde_json::json;
use std::time::Duration;

use super::{of_answer, of_body, of_entry};

fn answer(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    Response { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
}

#[test]
fn codes_are_sorted_by_what_to_do_about_them() {
    use FaultKind::*;
    let cases = [
        ("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record", Transient),
        ("UNKNOWN_EXCEPTION", "", Transient),
        ("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", Quota),
        ("STORAGE_LIMIT_EXCEEDED", "storage limit exceeded", Transient),
        ("INVALID_SESSION_ID", "Session expired or invalid", Credentials),
        ("API_DISABLED_FOR_ORG", "", Configuration),
        (
            "INVALID_FIELD",
            "Foreign key external ID: 0116 not found for field Ext__c in entity P__c",
            Dependency,
        ),
        ("INVALID_FIELD", "No such column 'foo' on sobject of type Bar", Refused),
        ("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", Dependency),
        ("DELETE_FAILED", "", Dependency),
        ("DUPLICATE_VALUE", "", Conflict),
        ("ENTITY_IS_DELETED", "entity is deleted", Conflict),
        ("REQUIRED_FIELD_MISSING", "", Refused),
        ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "no", Refused),
        ("ALL_OR_NONE_OPERATION_ROLLED_BACK", "", Cascade),
        ("PROCESSING_HALTED", "", Cascade),
        ("MISSING_ARGUMENT", "Id not specified in an update call", Defect),
        ("SOMETHING_NOBODY_KNOWS", "", Refused),
    ];
    for (code, message, kind) in cases {
        let fault = of_entry(&json!({"statusCode": code, "message": message, "fields": []}));
        assert_eq!((fault.kind, fault.code.as_str()), (kind, code));
    }
}

#[test]
fn a_used_up_day_waits_longer_than_a_crowd() {
    let wait = |message: &str| {
        of_entry(&json!({"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": message})).retry_after
    };
    assert_eq!(wait("TotalRequests Limit exceeded."), Some(Duration::from_secs(900)));
    assert_eq!(wait("ConcurrentPerOrgLongTxn Limit exceeded."), Some(Duration::from_secs(30)));
    assert_eq!(
        wait("ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
        Some(Duration::from_secs(30))
    );
}

#[test]
fn the_record_that_is_there_already_is_found_in_the_error() {
    let by_message = of_entry(&json!({"statusCode": "DUPLICATE_VALUE",
        "message": "duplicate value found: Ext__c duplicates value on record with id: a0524000005wNw0"}));
    assert_eq!(by_message.about.existing_id.as_deref(), Some("a0524000005wNw0AAE"));
    let by_rule = of_entry(
        &json!({"statusCode": "DUPLICATES_DETECTED", "message": "Use one of these records?",
        "duplicateResult": {"matchResults": [{"matchRecords": [{"record": {"Id": "001D000000IqhSLIAZ"}}]}]}}),
    );
    assert_eq!(by_rule.about.existing_id.as_deref(), Some("001D000000IqhSLIAZ"));
}

#[test]
fn answers_of_every_shape_become_faults() {
    use FaultKind::*;
    let cases = [
        (503, "<html><body>Service unavailable</body></html>", "HTTP_503", Transient),
        (500, "", "HTTP_500", Transient),
        (502, "\u{0}\u{1}", "HTTP_502", Transient),
        (420, "", "HTTP_420", Transient),
        (429, "", "HTTP_429", Transient),
        (406, "", "HTTP_406", Transient),
        (401, "<html>", "HTTP_401", Credentials),
        (403, "<html>", "HTTP_403", Configuration),
        (404, "<html>", "HTTP_404", Configuration),
        (414, "", "HTTP_414", Configuration),
        (431, "", "HTTP_431", Configuration),
        (302, "", "HTTP_302", Configuration),
        (300, "[\"/services/data/v62.0/sobjects/A/1\"]", "DUPLICATE_EXTERNAL_ID", Conflict),
        (412, "", "HTTP_412", Conflict),
        (400, "[]", "HTTP_400", Defect),
        (400, "null", "HTTP_400", Defect),
        (400, "[1,2]", "HTTP_400", Defect),
        (
            400,
            "{\"error\":\"invalid_grant\",\"error_description\":\"authentication failure\"}",
            "invalid_grant",
            Credentials,
        ),
        (
            400,
            "{\"error\":\"invalid_grant\",\"error_description\":\"request not supported on this domain\"}",
            "invalid_grant",
            Configuration,
        ),
        (
            400,
            "[{\"message\":\"x\",\"errorCode\":\"MALFORMED_QUERY\"}]",
            "MALFORMED_QUERY",
            Refused,
        ),
        (503, "[{\"message\":\"x\",\"errorCode\":\"NEW_CODE\"}]", "NEW_CODE", Transient),
        (400, "[{\"message\":\"x\",\"errorCode\":\"NEW_CODE\"}]", "NEW_CODE", Refused),
    ];
    for (status, body, code, kind) in cases {
        let fault = of_answer(&answer(status, body));
        assert_eq!((fault.code.as_str(), fault.kind), (code, kind), "{status} {body}");
    }
}

#[test]
fn headers_tell_the_request_and_when_to_come_back() {
    let mut answer = answer(429, "");
    answer.headers.insert("x-sfdc-request-id", HeaderValue::from_static("00ab"));
    answer.headers.insert("retry-after", HeaderValue::from_static("120"));
    let fault = of_answer(&answer);
    assert_eq!(fault.about.request_id.as_deref(), Some("00ab"));
    assert_eq!(fault.retry_after, Some(Duration::from_secs(120)));
    answer.headers.insert("retry-after", HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(of_answer(&answer).retry_after, None);
    answer.headers.insert("retry-after", HeaderValue::from_static("99999999999999"));
    assert_eq!(of_answer(&answer).retry_after, Some(Duration::from_secs(86_400)));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let fault = of_body(
        StatusCode::BAD_REQUEST,
        &json!([{"errorCode": "MALFORMED_QUERY", "message": "ü".repeat(5000)}]),
    );
    assert_eq!(fault.message.chars().count(), 1001);
}

#[test]
fn a_refusal_without_a_reason_says_so() {
    for entry in [json!(null), json!({"statusCode": "X"}), json!({"message": 7}), json!([])] {
        let fault = of_entry(&entry);
        assert_eq!(fault.message, "the org gives no reason", "{entry}");
        assert_eq!(fault.kind, FaultKind::Refused, "{entry}");
    }
}
