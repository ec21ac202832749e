//! Jobs that read (Bulk API guide, Query).

use super::format::Format;
use super::job::{self, State};
use super::{add, found};
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::rest::body;
use crate::schema::FieldType;
use crate::soql::{self, Query};
use crate::{ApiError, wire};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde_json::{Value, json};

/// The result pages that one request lists, and the version since which it can be asked.
const PAGES: usize = 5;
const PAGES_SINCE: u32 = 58;

#[derive(Debug)]
pub(super) struct Work {
    query: Query,
    all: bool,
    format: Format,
    header: Vec<u8>,
    /// A row of CSV for each record; nothing before the job has begun.
    rows: Option<Vec<Vec<u8>>>,
}

impl Work {
    pub(super) fn processed(&self) -> usize {
        self.rows.as_ref().map_or(0, Vec::len)
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.query.order.is_empty() && self.query.limit.is_none()
    }
}

pub(super) fn create(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    version: &str,
) -> Result<Answer, ApiError> {
    request.check_content_type()?;
    let body = body(request)?;
    let format = Format::of(&body)?;
    let operation = body.get("operation").and_then(Value::as_str).unwrap_or_default().to_owned();
    let all = match operation.as_str() {
        "query" => false,
        "queryAll" => true,
        other => {
            let message = format!("InvalidJob : '{other}' is no operation of a query job");
            return Err(ApiError::new(400, "INVALIDJOB", message));
        }
    };
    let text = body.get("query").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let checked = soql::parse(&text).and_then(|query| {
        let answered = soql::answer(org, &query, all)?;
        Ok((query, answered))
    });
    let (query, answered) = checked.map_err(|refusal| {
        if let Some(what) = &refusal.unserved {
            org.count_unserved(format!("soql {what}"));
        }
        ApiError::new(400, refusal.code, refusal.text(&text))
    })?;
    check(&query, &answered)?;
    org.jobs.count_query_job()?;
    let mut header = Vec::new();
    format.row(answered.selected.iter().map(|path| path.name()), &mut header);
    add(org, caller, version, |job| job::Job {
        operation,
        object: answered.object,
        state: State::UploadComplete,
        format,
        work: job::Work::Query(Work { query, all, format, header, rows: None }),
        ..job
    })
}

/// What plain queries can and bulk ones cannot.
fn check(query: &Query, answered: &soql::Answered) -> Result<(), ApiError> {
    let refuse = |code, message| Err(ApiError::new(400, code, message));
    if query.fields.is_empty() {
        return refuse("API_ERROR", "Aggregate functions are not supported in Bulk Query");
    }
    if query.offset > 0 {
        return refuse("API_ERROR", "OFFSET is not supported in Bulk Query");
    }
    if answered.selected.iter().any(|path| path.field.kind == FieldType::Address) {
        let message = "Selecting compound data not supported in Bulk Query";
        return refuse("FUNCTIONALITY_NOT_ENABLED", message);
    }
    Ok(())
}

/// Reads all records at the first look; pages of results are of that moment.
pub(super) fn go_on(org: &Org, work: &mut Work) -> Result<(), String> {
    if work.rows.is_some() {
        return Ok(());
    }
    let answered = soql::answer(org, &work.query, work.all).map_err(|refusal| {
        format!("InvalidBatch : Failed to process query: {}", refusal.message)
    })?;
    let table = org.table(&answered.object);
    let records = answered.ids.iter().filter_map(|id| table?.get(id));
    let rows = records.map(|record| {
        let mut row = Vec::new();
        let cells = answered.selected.iter();
        work.format
            .row(cells.map(|path| cell(&path.value(org, record), path.field.kind)), &mut row);
        row
    });
    work.rows = Some(rows.collect());
    Ok(())
}

/// A value as text; null is nothing.
fn cell(value: &Value, kind: FieldType) -> String {
    match value {
        Value::Null => String::new(),
        // A moment ends in Z here, and in +0000 in JSON.
        Value::String(text) if kind == FieldType::DateTime => text.replace("+0000", "Z"),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            wire::double(number.as_f64().unwrap_or_default())
        }
        other => other.to_string(),
    }
}

pub(super) fn wrong_locator() -> ApiError {
    ApiError::new(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
}

fn locator(offset: usize) -> String {
    BASE64.encode(offset.to_string())
}

fn offset(locator: &str, total: usize) -> Result<usize, ApiError> {
    let bytes = BASE64.decode(locator.trim_end_matches('=')).map_err(|_| wrong_locator())?;
    let offset = String::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    // The end is no page, except of a job without records.
    offset.filter(|&offset: &usize| offset < total.max(1)).ok_or_else(wrong_locator)
}

/// The rows of a job that is complete.
fn rows<'a>(org: &'a Org, id: &str, version: &str) -> Result<(&'a Work, &'a [Vec<u8>]), ApiError> {
    let job = found(org, id)?;
    let job::Work::Query(work) = &job.work else { return Err(ApiError::not_found()) };
    if job.version != version {
        let message = format!("The job was made in version {} of the API", job.version);
        return Err(ApiError::new(409, "API_ERROR", message));
    }
    if job.expired {
        return Err(ApiError::not_found());
    }
    match (&work.rows, job.state) {
        (Some(rows), State::JobComplete) => Ok((work, rows)),
        _ => {
            let message = format!("InvalidJobState : Job is in state {}", job.state.name());
            Err(super::wrong_state(message))
        }
    }
}

pub(super) fn results(
    org: &Org,
    request: &Request,
    id: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let (work, rows) = rows(org, id, version)?;
    let from = match request.parameter("locator") {
        Some(locator) => offset(locator, rows.len())?,
        None => 0,
    };
    let most = match request.parameter("maxRecords") {
        Some(number) => number.parse().ok().filter(|&n: &usize| n > 0).ok_or_else(|| {
            ApiError::new(400, "API_ERROR", "maxRecords has to be a number above zero")
        })?,
        None => org.jobs.manners.page,
    };
    let to = from.saturating_add(most).min(rows.len());
    let mut text = work.header.clone();
    text.extend(rows[from..to].iter().flatten());
    let next = if to < rows.len() { locator(to) } else { "null".to_owned() };
    Ok(Answer::csv(text)
        .with("Sforce-Locator", next)
        .with("Sforce-NumberOfRecords", (to - from).to_string()))
}

/// Where the pages begin, so that several can be fetched at once.
pub(super) fn pages(
    org: &Org,
    request: &Request,
    id: &str,
    version: &str,
) -> Result<Answer, ApiError> {
    let number: u32 = version.split('.').next().and_then(|n| n.parse().ok()).unwrap_or_default();
    if number < PAGES_SINCE {
        return Err(ApiError::not_found());
    }
    let (_, rows) = rows(org, id, version)?;
    let mut from = match request.parameter("locator") {
        Some(locator) => offset(locator, rows.len())?,
        None => 0,
    };
    let base = format!("/services/data/v{version}/jobs/query/{id}");
    let mut pages = Vec::new();
    loop {
        pages.push(json!({"resultUrl": format!("{base}/results?locator={}", locator(from))}));
        from = from.saturating_add(org.jobs.manners.page.max(1));
        if from >= rows.len() || pages.len() == PAGES {
            break;
        }
    }
    let next = (from < rows.len()).then(|| format!("{base}/resultPages?locator={}", locator(from)));
    Ok(Answer::json(
        200,
        json!({"resultPages": pages, "nextRecordsUrl": next, "done": next.is_none()}),
    ))
}
