use connector::{Before, BulkJob, BulkState, Fault, FaultKind, Outcome, WriteBatch};
use egress::Method;
use serde_json::json;

use super::job::{Job, Kind, of_job};
use super::outcome::{self, Results};
use super::upload::Upload;
use crate::call::{Call, Content};
use crate::client::Salesforce;
use crate::plan::Verb;
use crate::session::repeatable;

impl Salesforce {
    pub(super) async fn start_bulk_write(&self, batch: &WriteBatch) -> Result<BulkJob, Fault> {
        let upload = Upload::new(batch)?;
        let Some(verb) = &upload.verb else {
            return Ok(Job::new(&self.place.version, Kind::Ingest, None).handle());
        };
        let csv = upload.csv()?;
        let mut body = json!({
            "object": batch.object,
            "contentType": "CSV", "columnDelimiter": "COMMA", "lineEnding": "LF",
        });
        body["operation"] = match verb {
            Verb::Create => "insert",
            Verb::Update => "update",
            Verb::Delete => "delete",
            Verb::Upsert(field) => {
                body["externalIdFieldName"] = field.as_str().into();
                "upsert"
            }
        }
        .into();
        let job = self.make_job(Kind::Ingest, body).await?;
        let call = Call {
            body: Some(Content::Csv(csv)),
            ..Call::write(Method::PUT, job.path("/batches"), None)
        };
        match self.answer(&call).await {
            Ok(_) => Ok(job.handle()),
            Err(fault) => {
                // Nothing begins before the job is committed, and this one never will be. That it is also put away
                // is only tidy: the org does so by itself after a while.
                let _ = self.change_job(&job, "Aborted").await;
                Err(of_job(repeatable(fault)))
            }
        }
    }

    pub(super) async fn commit_bulk_write(&self, handle: &BulkJob) -> Result<(), Fault> {
        let job = Job::of(handle, Kind::Ingest)?;
        if job.id.is_none() {
            return Ok(());
        }
        let fault = match self.change_job(&job, "UploadComplete").await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        // An earlier commit may have come through.
        if fault.code == "INVALIDJOBSTATE" {
            match self.bulk_state(handle).await? {
                BulkState::Running { .. } | BulkState::Complete { .. } => return Ok(()),
                BulkState::Failed(fault) => return Err(fault),
                BulkState::Gone => return Err(lost()),
                BulkState::Open => {}
            }
        }
        Err(known(fault))
    }

    pub(super) async fn bulk_outcomes(
        &self,
        handle: &BulkJob,
        batch: &WriteBatch,
    ) -> Result<Vec<Outcome>, Fault> {
        let job = Job::of(handle, Kind::Ingest)?;
        let upload = Upload::new(batch)?;
        let mut results = vec![Err(lost()); batch.writes.len()];
        for (place, fault) in &upload.refused {
            results[*place] = Err(fault.clone());
        }
        if let (Some(verb), Some(_)) = (&upload.verb, &job.id) {
            let why = match self.bulk_state(handle).await? {
                BulkState::Complete { .. } => None,
                BulkState::Failed(why) => Some(why),
                BulkState::Gone => return Err(lost()),
                BulkState::Open | BulkState::Running { .. } => {
                    let message = "the bulk job has not ended yet";
                    return Err(Fault::new(FaultKind::Transient, "JOB_RUNNING", message));
                }
            };
            let mut rows = Vec::new();
            for (of, path) in [
                (Results::Successful, "/successfulResults/"),
                (Results::Failed, "/failedResults/"),
                (Results::Unprocessed, "/unprocessedrecords/"),
            ] {
                // A job that is complete has left nothing out.
                if of == Results::Unprocessed && why.is_none() {
                    continue;
                }
                let answer = self.answer(&Call::get_csv(job.path(path))).await;
                let answer = answer.map_err(known)?;
                rows.extend(outcome::rows(&upload, of, &answer.body)?);
            }
            let why = why.unwrap_or_else(|| {
                let message = "the bulk job ended before the record";
                Fault::new(FaultKind::Transient, "NOT_PROCESSED", message)
            });
            let session = self.logins.lock().await.session.clone();
            for (row, told) in upload.rows.iter().zip(outcome::matched(&upload, rows)) {
                let result = outcome::result(batch, verb, row, told, &why);
                results[row.item.place] =
                    result.map_err(|fault| self.redacted(fault, session.as_deref()));
            }
        }
        Ok(results.into_iter().map(|result| Outcome { result, before: Before::NotRead }).collect())
    }
}

/// Of a job that writes, that it is gone leaves open what it did.
fn known(fault: Fault) -> Fault {
    let fault = of_job(fault);
    if fault.code == connector::bulk::GONE { lost() } else { fault }
}

/// Seven days have passed, or somebody has deleted the job.
fn lost() -> Fault {
    let message = "what came of the bulk job is not known any more";
    Fault::new(FaultKind::Ambiguous, connector::bulk::GONE, message)
}
