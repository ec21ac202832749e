use std::fmt;

use connector::{BulkJob, BulkState, Fault, FaultKind};
use egress::Method;
use serde_json::{Value, json};

use crate::call::Call;
use crate::client::Salesforce;
use crate::describe::unexpected;
use crate::{codes, id};

/// A job by what its handle says: `62.0/query/750…`. The version stays that of the job, because results are given
/// out in no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    version: String,
    pub(super) kind: Kind,
    /// Nothing for a write of which no record could be sent.
    pub(super) id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Query,
    Ingest,
}

impl Job {
    pub(super) fn new(version: &str, kind: Kind, id: Option<String>) -> Self {
        Self { version: version.to_owned(), kind, id }
    }

    pub(super) fn parse(job: &BulkJob) -> Result<Self, Fault> {
        let wrong = || {
            let message = "what should be the handle of a bulk job is none";
            Fault::new(FaultKind::Defect, "MALFORMED_HANDLE", message)
        };
        let parts: Vec<&str> = job.0.split('/').collect();
        let [version, kind, id] = parts[..] else { return Err(wrong()) };
        let kind = match kind {
            "query" => Kind::Query,
            "ingest" => Kind::Ingest,
            _ => return Err(wrong()),
        };
        let sound = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let id = match id {
            "-" if kind == Kind::Ingest => None,
            id if id::is_id(id) => Some(id.to_owned()),
            _ => return Err(wrong()),
        };
        if !sound {
            return Err(wrong());
        }
        Ok(Self { version: version.to_owned(), kind, id })
    }

    /// The same of a job that has to be of this kind.
    pub(super) fn of(job: &BulkJob, kind: Kind) -> Result<Self, Fault> {
        let job = Self::parse(job)?;
        if job.kind == kind {
            return Ok(job);
        }
        let message = "a bulk job that reads was taken for one that writes, or the other way round";
        Err(Fault::new(FaultKind::Defect, "WRONG_JOB", message))
    }

    pub(super) fn handle(&self) -> BulkJob {
        BulkJob(self.to_string())
    }

    /// Below the instance, with what follows the job's own address.
    pub(super) fn path(&self, rest: &str) -> String {
        let kind = if self.kind == Kind::Query { "query" } else { "ingest" };
        let id = self.id.as_deref().unwrap_or_default();
        format!("/services/data/v{}/jobs/{kind}/{id}{rest}", self.version)
    }

    /// `62`
    pub(super) fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|n| n.parse().ok()).unwrap_or_default()
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Query { "query" } else { "ingest" };
        write!(f, "{}/{kind}/{}", self.version, self.id.as_deref().unwrap_or("-"))
    }
}

impl Salesforce {
    /// Makes a job. One whose answer is lost does nothing and is forgotten by the org by itself, so that making another
    /// is safe.
    pub(super) async fn make_job(&self, kind: Kind, body: Value) -> Result<Job, Fault> {
        let base = if kind == Kind::Query { "/jobs/query" } else { "/jobs/ingest" };
        let told = self.call(&Call::read(self.path(base), body)).await?;
        match told.get("id").and_then(Value::as_str).filter(|id| id::is_id(id)) {
            Some(id) => Ok(Job::new(&self.place.version, kind, Some(id.to_owned()))),
            None => Err(unexpected("the answer to a new bulk job")),
        }
    }

    pub(super) async fn bulk_state(&self, job: &BulkJob) -> Result<BulkState, Fault> {
        let job = Job::parse(job)?;
        if job.id.is_none() {
            return Ok(BulkState::Complete { records: 0 });
        }
        match self.call(&Call::get(job.path(""))).await {
            Ok(told) => match state(&told)? {
                BulkState::Failed(why) => {
                    let session = self.logins.lock().await.session.clone();
                    Ok(BulkState::Failed(self.redacted(why, session.as_deref())))
                }
                state => Ok(state),
            },
            Err(fault) if fault.code == "NOT_FOUND" => Ok(BulkState::Gone),
            Err(fault) => Err(of_job(fault)),
        }
    }

    /// Puts a job into another state.
    pub(super) async fn change_job(&self, job: &Job, state: &str) -> Result<(), Fault> {
        let body = Some(json!({ "state": state }));
        self.call(&Call::write(Method::PATCH, job.path(""), body)).await.map(drop)
    }

    pub(super) async fn end_bulk(&self, handle: &BulkJob) -> Result<(), Fault> {
        let job = Job::parse(handle)?;
        if job.id.is_none() {
            return Ok(());
        }
        match (self.bulk_state(handle).await?, job.kind) {
            (BulkState::Gone, _) => return Ok(()),
            (BulkState::Running { .. }, Kind::Ingest) => {
                let message = "the bulk job is still writing";
                return Err(Fault::new(FaultKind::Conflict, "JOB_RUNNING", message));
            }
            // What has not ended cannot be deleted.
            (BulkState::Running { .. } | BulkState::Open, _) => {
                self.change_job(&job, "Aborted").await?;
            }
            (BulkState::Complete { .. } | BulkState::Failed(_), _) => {}
        }
        match self.answer(&Call::write(Method::DELETE, job.path(""), None)).await {
            Err(fault) if fault.code != "NOT_FOUND" => Err(of_job(fault)),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// States are Open, UploadComplete, InProgress, JobComplete, Failed and Aborted.
fn state(told: &Value) -> Result<BulkState, Fault> {
    let records = told.get("numberRecordsProcessed").and_then(Value::as_u64).unwrap_or_default();
    Ok(match told.get("state").and_then(Value::as_str) {
        Some("Open") => BulkState::Open,
        Some("UploadComplete" | "InProgress") => BulkState::Running { records },
        Some("JobComplete") => BulkState::Complete { records },
        Some("Failed") => {
            let why = told.get("errorMessage").and_then(Value::as_str).unwrap_or_default();
            BulkState::Failed(failure(why))
        }
        Some("Aborted") => {
            let message = "the bulk job was aborted in the org";
            BulkState::Failed(Fault::new(FaultKind::Transient, "JOB_ABORTED", message))
        }
        _ => return Err(unexpected("the state of a bulk job")),
    })
}

/// Why a job failed as a whole: `InvalidBatch : Field name not found : X`.
fn failure(why: &str) -> Fault {
    let shown: String = why.chars().take(1000).collect();
    let (code, kind) = match why.split([' ', ':']).next().unwrap_or_default() {
        _ if why.contains("Field name not found") => ("INVALID_FIELD", FaultKind::Schema),
        _ if why.contains("TooManyLockFailure") => ("UNABLE_TO_LOCK_ROW", FaultKind::Transient),
        "InvalidBatch" | "ClientInputError" => ("INVALID_BATCH", FaultKind::Defect),
        "ExceededQuota" => ("EXCEEDEDQUOTA", FaultKind::Quota),
        _ => ("JOB_FAILED", FaultKind::Transient),
    };
    let mut fault = Fault::new(kind, code, shown);
    fault.hint = codes::hint(code, why).to_owned();
    fault
}

/// The results of a job that is gone do not come back, and asking again does not help.
pub(super) fn of_job(mut fault: Fault) -> Fault {
    let gone = match fault.code.as_str() {
        "NOT_FOUND" | "HTTP_404" | "HTTP_410" => connector::bulk::GONE,
        "INVALID_QUERY_LOCATOR" => "INVALID_QUERY_LOCATOR",
        _ => return fault,
    };
    fault.kind = FaultKind::Conflict;
    fault.code = gone.to_owned();
    fault
}

#[cfg(test)]
mod tests {
    use super::{Job, Kind, failure, state};
    use connector::{BulkJob, BulkState, FaultKind};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_handle_is_read_again_and_nothing_else_is() {
        let id = Some("7500000000000001AA".to_owned());
        for job in [
            Job::new("62.0", Kind::Query, id.clone()),
            Job::new("62.0", Kind::Ingest, id),
            Job::new("62.0", Kind::Ingest, None),
        ] {
            assert_eq!(Job::parse(&job.handle()), Ok(job));
        }
        for wrong in [
            "",
            "62.0/query/-",
            "62.0/query/../x",
            "62.0/other/750000000000000",
            "6x/query/750000000000000",
            "62.0/query/750000000000000/x",
        ] {
            assert_eq!(
                Job::parse(&BulkJob(wrong.into())).expect_err(wrong).code,
                "MALFORMED_HANDLE"
            );
        }
    }

    #[test]
    fn a_failure_says_who_has_to_mend_it() {
        for (why, kind) in [
            ("InvalidBatch : Field name not found : X", FaultKind::Schema),
            ("TooManyLockFailure : Too many lock failure 200", FaultKind::Transient),
            ("InvalidBatch : A quote is not closed", FaultKind::Defect),
            ("ExceededQuota : the day", FaultKind::Quota),
            ("", FaultKind::Transient),
        ] {
            assert_eq!(failure(why).kind, kind, "{why}");
        }
        assert_eq!(
            state(&json!({"state": "InProgress", "numberRecordsProcessed": 3})),
            Ok(BulkState::Running { records: 3 })
        );
        assert!(state(&json!({"state": "Paused"})).is_err());
    }

    proptest! {
        #[test]
        fn no_handle_makes_it_panic(text in ".*|[0-9.]{0,4}/(query|ingest)/[0-9a-zA-Z]{0,20}") {
            if let Ok(job) = Job::parse(&BulkJob(text.clone())) {
                prop_assert_eq!(job.handle().0, text);
            }
        }
    }
}
