//! A connector's fault as PostgreSQL reports errors.

use crate::worker::transaction::{Failure, refuse};
use connector::{Fault, FaultKind};

/// The failure that a fault is reported as. What the other side said stays in its own words.
pub fn fault_to_failure(fault: &Fault) -> Failure {
    let mut detail = Vec::new();
    if !fault.code.is_empty() {
        detail.push(format!("Code: {}.", fault.code));
    }
    if !fault.about.fields.is_empty() {
        detail.push(format!("Fields: {}.", fault.about.fields.join(", ")));
    }
    if let Some(id) = &fault.about.existing_id {
        detail.push(format!("It is there already as {id}."));
    }
    if let Some(request) = &fault.about.request_id {
        detail.push(format!("Request: {request}."));
    }
    let hint = if fault.hint.is_empty() { advice(fault) } else { fault.hint.clone() };
    refuse(sqlstate(fault), fault.message.clone(), &detail.join(" "), &hint)
}

fn sqlstate(fault: &Fault) -> &'static str {
    match (fault.kind, fault.code.as_str()) {
        (FaultKind::Transient, _) => "08006",
        (FaultKind::Ambiguous, _) => "08007",
        (FaultKind::Quota, _) => "53400",
        (FaultKind::Credentials, _) => "28000",
        (FaultKind::Configuration, code) if of_permission(code) => "42501",
        (FaultKind::Configuration, _) => "08001",
        (FaultKind::Schema, "INVALID_FIELD") => "42703",
        (FaultKind::Schema, code) if of_permission(code) => "42501",
        (FaultKind::Schema, _) => "42P01",
        (FaultKind::Dependency, _) => "23503",
        (
            FaultKind::Conflict,
            "DUPLICATE_VALUE" | "DUPLICATES_DETECTED" | "DUPLICATE_EXTERNAL_ID",
        ) => "23505",
        // Somebody was quicker: again, at once. Whatever else a record is not, it may stay.
        (FaultKind::Conflict, "PRECONDITION_FAILED") => "40001",
        (FaultKind::Conflict, _) => "55000",
        (FaultKind::Refused, code) => match code {
            "REQUIRED_FIELD_MISSING" => "23502",
            "STRING_TOO_LONG" => "22001",
            "NUMBER_OUTSIDE_VALID_RANGE" => "22003",
            "INVALID_TYPE_ON_FIELD_IN_RECORD" => "22P02",
            "INVALID_FIELD" | "INVALID_FIELD_FOR_INSERT_UPDATE" => "42703",
            "INVALID_TYPE" | "INVALID_SOBJECT_TYPE" => "42P01",
            code if of_permission(code) => "42501",
            _ => "23514",
        },
        (FaultKind::Cascade, _) => "25P02",
        (FaultKind::Defect, _) => "XX000",
    }
}

fn of_permission(code: &str) -> bool {
    code.starts_with("INSUFFICIENT") || matches!(code, "FORBIDDEN" | "HOST_NOT_ALLOWED")
}

fn advice(fault: &Fault) -> String {
    match fault.kind {
        FaultKind::Credentials => {
            "Store credentials that are accepted with sync.set_secret.".into()
        }
        FaultKind::Quota => match fault.retry_after {
            Some(after) => format!("Try again in {} s.", after.as_secs().max(1)),
            None => "Try again later, or use fewer calls elsewhere.".into(),
        },
        FaultKind::Transient | FaultKind::Ambiguous => "Try again.".into(),
        _ => String::new(),
    }
}
