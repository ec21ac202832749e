use std::fmt;
use std::time::Duration;

/// Why a call, or one record of it, failed. Closed: each kind is one thing that the caller does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Passes by itself; nothing was carried out. Try again after a while.
    Transient,
    /// Nobody knows whether it was carried out: read the other side before trying again.
    Ambiguous,
    /// The allowance is used up, or too much is asked at once; nothing was carried out. Wait.
    Quota,
    /// The credentials are not accepted. A person has to mend them.
    Credentials,
    /// The connection or the account is set up so that this cannot work: host, permission, version.
    Configuration,
    /// The object or a field is not there, or this user may not see it; nothing was carried out. A person
    /// mends it over there, and the object is described anew.
    Schema,
    /// Another record has to be there first.
    Dependency,
    /// The record is not what it was thought to be: changed, deleted, or there already.
    Conflict,
    /// The record is refused as it is, and will be until its values change.
    Refused,
    /// Failed only because of another record of the same request.
    Cascade,
    /// The other side answered what it never should, or the request was wrong: a defect.
    Defect,
}

/// A failure on the other side, or on the way there. Never holds a secret or a value of a record
/// other than those that the other side's own message quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    /// The other side's own code, or one of ours in the same manner: `REQUIRED_FIELD_MISSING`.
    pub code: String,
    /// In lower case, without full stop, unless it is the other side's own.
    pub message: String,
    /// Full sentences: what to do about it; empty where there is nothing to say.
    pub hint: String,
    /// Not before then, where the other side said so.
    pub retry_after: Option<Duration>,
    /// What it is about.
    pub about: Box<About>,
}

/// What the other side names in a fault. Beside it, so that a result that holds a fault stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    pub fields: Vec<String>,
    /// The other side's number of the request.
    pub request_id: Option<String>,
    /// The record that is there already.
    pub existing_id: Option<String>,
}

impl Fault {
    pub fn new(kind: FaultKind, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            hint: String::new(),
            retry_after: None,
            about: Box::default(),
        }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Does it concern the connection as a whole and no record in particular?
    pub fn is_of_connection(&self) -> bool {
        use FaultKind::{Ambiguous, Configuration, Credentials, Quota, Transient};
        matches!(self.kind, Transient | Ambiguous | Quota | Credentials | Configuration)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {}
