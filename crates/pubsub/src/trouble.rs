use std::time::Duration;

use connector::{Fault, FaultKind};
use eventbus::{ERROR_CODE, ERROR_PREFIX, RPC_ID};
use tonic::{Code, Status};

/// Longer texts of the other side are cut.
const LONGEST_MESSAGE: usize = 1000;

/// Why a call or a stream ended, by what the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The session is not accepted: log in again, and begin anew behind the last event.
    Session(Fault),
    /// Nobody can go on from this place: it is too old, or from before the org was moved. What was missed has to
    /// be read in another way, and a stream begins with what comes from now on.
    Lost(Fault),
    /// The rest, as its kind says. `Transient`: begin anew behind the last event, after a while.
    Fault(Fault),
}

impl Trouble {
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Session(fault) | Self::Lost(fault) | Self::Fault(fault) => fault,
        }
    }

    pub fn into_fault(self) -> Fault {
        match self {
            Self::Session(fault) | Self::Lost(fault) | Self::Fault(fault) => fault,
        }
    }
}

/// Sorts an error of the API (Pub/Sub API guide, handling errors). Without a code of its own it comes from what
/// lies between.
pub(crate) fn of_status(status: &Status) -> Trouble {
    let trailer = |name: &str| status.metadata().get(name).and_then(|value| value.to_str().ok());
    let code = trailer(ERROR_CODE).map(|code| code.strip_prefix(ERROR_PREFIX).unwrap_or(code));
    let message = short(status.message());
    let name = code.map_or_else(|| format!("GRPC_{:?}", status.code()).to_uppercase(), short);
    let (kind, wait, hint) = sort(code.unwrap_or_default(), status.code());
    let mut fault = Fault::new(kind, name, message).with_hint(hint);
    fault.retry_after = wait.map(Duration::from_secs);
    fault.about.request_id = trailer(RPC_ID).map(short);
    match code {
        Some("service.auth.error") => Trouble::Session(fault),
        Some("subscription.fetch.replayid.corrupted") => Trouble::Lost(fault),
        None if status.code() == Code::Unauthenticated => Trouble::Session(fault),
        // An answer larger than any is taken: what it held can only be read in another way.
        None if status.code() == Code::OutOfRange => Trouble::Lost(fault),
        _ => Trouble::Fault(fault),
    }
}

fn sort(code: &str, status: Code) -> (FaultKind, Option<u64>, &'static str) {
    match code {
        "service.auth.error" => (FaultKind::Credentials, None, ""),
        "service.auth.headers.invalid" | "service.auth.refresh.invalid" => {
            (FaultKind::Configuration, None, "Check the URL of the org.")
        }
        "service.tenant.license" => {
            (FaultKind::Configuration, None, "The org has no licence for the Pub/Sub API.")
        }
        "topic.not.found" => (
            FaultKind::Schema,
            None,
            "Select the object in the org's setup, under Change Data Capture.",
        ),
        "topic.meta.permission"
        | "schema.meta.permission"
        | "subscription.topic.cannot.subscribe" => (
            FaultKind::Schema,
            None,
            "Give the user of the connection the permission View All Records for the object.",
        ),
        "subscription.limit.exceeded" => (
            FaultKind::Quota,
            Some(900),
            "The org's allowance of delivered events for 24 hours is used up.",
        ),
        "service.protection.triggered"
        | "service.protection.stream.limit.triggered"
        | "concurrent.client.limit.exceeded" => {
            (FaultKind::Quota, Some(60), "The org has too many subscribers at once.")
        }
        "service.unavailable"
        | "topic.api.unavailable"
        | "schema.api.unavailable"
        | "subscription.internal.error"
        | "subscription.fetch.replay.repeated" => (FaultKind::Transient, None, ""),
        "" => match status {
            Code::Unauthenticated => (FaultKind::Credentials, None, ""),
            Code::PermissionDenied => (FaultKind::Configuration, None, ""),
            Code::Unimplemented => {
                (FaultKind::Configuration, None, "Check the address of the Pub/Sub API.")
            }
            Code::OutOfRange => (FaultKind::Transient, None, ""),
            Code::ResourceExhausted => (FaultKind::Quota, Some(60), ""),
            Code::InvalidArgument => (FaultKind::Defect, None, ""),
            _ => (FaultKind::Transient, None, ""),
        },
        _ => match status {
            Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
                (FaultKind::Defect, None, "")
            }
            Code::ResourceExhausted => (FaultKind::Quota, Some(60), ""),
            Code::PermissionDenied | Code::Unauthenticated => (FaultKind::Configuration, None, ""),
            Code::NotFound => (FaultKind::Schema, None, ""),
            _ => (FaultKind::Transient, None, ""),
        },
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
