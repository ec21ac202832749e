//! Jobs that write (Bulk API guide, Ingest).

use super::format::Format;
use super::job::{self, Job, State};
use super::upload::{self, Table};
use super::{add, multipart};
use crate::ApiError;
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::rest::body;
use crate::rest::collections::{self, Outcome};
use serde_json::Value;

/// Records of an internal batch, and of a chunk within it that is saved at once (Bulk API guide, Limits).
const BATCH: usize = 10_000;
const CHUNK: usize = 200;

#[derive(Debug, Default)]
pub(super) struct Work {
    pub(super) key: Option<String>,
    object: String,
    format: Format,
    data: Option<Vec<u8>>,
    table: Option<Table>,
    /// Of each row that was processed, from the first on.
    done: Vec<Result<(String, bool), (String, ApiError)>>,
}

impl Work {
    pub(super) fn processed(&self) -> usize {
        self.done.len()
    }

    pub(super) fn failed(&self) -> usize {
        self.done.iter().filter(|row| row.is_err()).count()
    }
}

pub(super) fn create(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    version: &str,
) -> Result<Answer, ApiError> {
    let kind = request.header("content-type").unwrap_or_default();
    let (body, data) = if kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        let (job, data) = multipart::parts(kind, &request.body)?;
        (body(&Request { body: job, ..request.clone() })?, Some(data))
    } else {
        request.check_content_type()?;
        (body(request)?, None)
    };
    let format = Format::of(&body)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (object, operation) = (text("object"), text("operation"));
    let refuse = |message: String| Err(ApiError::new(400, "INVALIDJOB", message));
    let Some(schema) = org.object(&object) else {
        let message = format!("Entity '{object}' is not supported by the Bulk API.");
        return Err(ApiError::new(400, "INVALIDENTITY", message));
    };
    let object = schema.name.clone();
    let mut key = None;
    match operation.as_str() {
        "insert" | "update" | "delete" => {}
        "upsert" => {
            let name = text("externalIdFieldName");
            if name.is_empty() {
                return refuse(format!(
                    "InvalidJob : External ID was blank for {object}. An External ID must be specified when upserting."
                ));
            }
            let Some(field) = schema.visible(&name).filter(|f| f.id_lookup || f.name == "Id")
            else {
                return refuse(format!(
                    "InvalidJob : Field name provided, {name} does not match an External ID for {object}"
                ));
            };
            key = Some(field.name.clone());
        }
        "hardDelete" if org.jobs.manners.hard_delete => {}
        "hardDelete" => {
            let message = "FeatureNotEnabled : hardDelete operation requires special user profile permission, please contact your system administrator";
            return Err(ApiError::new(400, "FEATURENOTENABLED", message));
        }
        other => return refuse(format!("InvalidJob : '{other}' is no operation of an ingest job")),
    }
    let mut state = State::Open;
    if let Some(data) = &data {
        org.jobs.count_batches(batches_of(format, data))?;
        state = State::UploadComplete;
    }
    let work = Work { key, object: object.clone(), format, data, ..Work::default() };
    add(org, caller, version, |job| Job {
        operation,
        object,
        state,
        format,
        work: job::Work::Ingest(work),
        ..job
    })
}

/// The data of a job, once.
pub(super) fn upload(org: &mut Org, request: &Request, id: &str) -> Result<Answer, ApiError> {
    let kind = request.header("content-type").unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("text/csv") {
        let message =
            format!("Content-Type header specified in HTTP request is not supported: {kind}");
        return Err(ApiError::new(415, "UNSUPPORTED_MEDIA_TYPE", message));
    }
    let job = org.jobs.list.get_mut(id).ok_or_else(ApiError::not_found)?;
    let state = job.state;
    match &mut job.work {
        job::Work::Ingest(Work { data: data @ None, .. }) if state == State::Open => {
            *data = Some(request.body.clone());
            Ok(Answer::empty(201))
        }
        _ => Err(super::wrong_state("InvalidJobState : The job takes no data any more")),
    }
}

/// The internal batches that a job will be cut into.
pub(super) fn batches(job: &Job) -> Result<u64, ApiError> {
    match &job.work {
        job::Work::Ingest(Work { data: Some(data), .. }) => Ok(batches_of(job.format, data)),
        _ => Err(super::wrong_state("InvalidJobState : The job has no data yet")),
    }
}

fn batches_of(format: Format, data: &[u8]) -> u64 {
    upload::count(format, data).div_ceil(BATCH).max(1) as u64
}

/// Processes what is due: of `(looks, polls)` a share, else all. The error is why the job fails.
pub(super) fn go_on(
    org: &mut Org,
    caller: &Caller,
    operation: &str,
    work: &mut Work,
    share: Option<(u64, u64)>,
) -> Result<(), String> {
    if work.table.is_none() {
        let data = work.data.as_deref().unwrap_or_default();
        let table = upload::read(org, &work.object, work.format, data)?;
        if matches!(operation, "delete" | "hardDelete")
            && let Some(name) = table.beside_id()
        {
            return Err(format!(
                "InvalidBatch : {name} can't stand beside the Id of a {operation}"
            ));
        }
        work.table = Some(table);
    }
    let Some(table) = &work.table else { return Ok(()) };
    let total = table.rows.len();
    let due = match share {
        Some((looks, polls)) => {
            let part = total as u64 * looks / (polls + 1);
            part as usize / CHUNK * CHUNK
        }
        None => total,
    };
    while work.done.len() < due {
        let from = work.done.len();
        let places = from..due.min(from + CHUNK);
        let records = places.map(|place| table.record(&work.object, place, org.manners)).collect();
        let key = work.key.as_deref().and_then(|key| org.object(&work.object)?.field(key)).cloned();
        let outcomes = match (operation, key) {
            ("insert", _) => collections::create_all(org, caller, records),
            ("update", _) => collections::update_all(org, caller, records),
            ("upsert", Some(key)) => {
                collections::upsert_all(org, caller, &work.object, &key, records)
            }
            ("upsert", None) => return Err("InvalidBatch : The external ID is gone".to_owned()),
            (_, _) => delete_all(org, caller, records, operation == "hardDelete"),
        };
        work.done.extend(outcomes.into_iter().map(|outcome| {
            let id = outcome.id.unwrap_or_default();
            match outcome.error {
                None => Ok((id, outcome.created == Some(true))),
                Some(error) => Err((id, error)),
            }
        }));
    }
    Ok(())
}

fn delete_all(
    org: &mut Org,
    caller: &Caller,
    records: Vec<collections::Given>,
    purge: bool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for record in records {
        let id =
            record.map(|(_, record)| record.get("Id").and_then(Value::as_str).map(str::to_owned));
        let mut outcome = match id {
            Ok(Some(id)) => collections::delete_one(org, caller, &id),
            Ok(None) => Outcome {
                id: None,
                created: None,
                error: Some(ApiError::record(
                    "MISSING_ARGUMENT",
                    "Id not specified in a delete call",
                    &["Id"],
                )),
            },
            Err(error) => Outcome { id: None, created: None, error: Some(error) },
        };
        if let (true, None, Some(id)) = (purge, &outcome.error, &outcome.id) {
            outcome.error = org.purge(id).err();
        }
        outcomes.push(outcome);
    }
    outcomes
}

/// `successfulResults`, `failedResults` and `unprocessedrecords`, whatever the case of their letters. Rows come in
/// another order than they were given: nothing says that they keep it.
pub(super) fn results(job: &Job, what: &str) -> Result<Answer, ApiError> {
    let job::Work::Ingest(work) = &job.work else { return Err(ApiError::not_found()) };
    if !matches!(what, "successfulresults" | "failedresults" | "unprocessedrecords") || job.expired
    {
        return Err(ApiError::not_found());
    }
    if !job.state.is_terminal() {
        let message = format!("InvalidJobState : Job is in state {}", job.state.name());
        return Err(super::wrong_state(message));
    }
    let data = work.data.as_deref().unwrap_or_default();
    let header = upload::header(data);
    let mut text = Vec::new();
    let names: &[&str] = match what {
        "successfulresults" => &["sf__Id", "sf__Created"],
        "failedresults" => &["sf__Id", "sf__Error"],
        // What could not be read is given back as it came.
        _ if work.table.is_none() => return Ok(Answer::csv(data.to_vec())),
        _ => &[],
    };
    work.format.row_before(names, header, &mut text);
    let rows = work.table.as_ref().map(|table| table.rows.as_slice()).unwrap_or_default();
    for (place, row) in rows.iter().enumerate().rev() {
        let cells = row.iter().map(String::as_str);
        match (what, work.done.get(place)) {
            ("successfulresults", Some(Ok((id, created)))) => {
                let created = if *created { "true" } else { "false" };
                work.format.row([id.as_str(), created].into_iter().chain(cells), &mut text);
            }
            ("failedresults", Some(Err((id, error)))) => {
                let error = told(error);
                work.format.row([id.as_str(), error.as_str()].into_iter().chain(cells), &mut text);
            }
            ("unprocessedrecords", None) => work.format.row(cells, &mut text),
            _ => {}
        }
    }
    Ok(Answer::csv(text))
}

/// `CODE:message:Field1,Field2 --`
fn told(error: &ApiError) -> String {
    match error.fields.as_deref().unwrap_or_default() {
        [] => format!("{}:{}:--", error.code, error.message),
        fields => format!("{}:{}:{} --", error.code, error.message, fields.join(",")),
    }
}
