//! Bulk API 2.0 (Bulk API 2.0 and Bulk API guide): jobs that read and write many records in CSV.
//!
//! A job goes on when somebody looks at it, so that tests decide what has happened by when: [`BulkManners::polls`]
//! looks find it in progress, the one after them finds it complete. Where the guide gives no words for an error, the
//! words are ours under a code that it has.

mod format;
mod ingest;
mod job;
mod multipart;
mod query;
mod upload;

use crate::ApiError;
use crate::duplicates::Insistence;
use crate::events::Author;
use crate::exchange::{Answer, Request};
use crate::org::{Caller, Org};
use crate::rest::{self, body};
use job::{Job, State, Work};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Jobs of one page of a list.
const LISTED: usize = 1000;

/// How bulk jobs go on in this org.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BulkManners {
    /// How many looks find a job in progress before one finds it complete.
    pub polls: u64,
    /// Records of a page of results, where the request does not say.
    pub page: usize,
    /// Whether the user that logs in may delete past the recycle bin.
    pub hard_delete: bool,
    /// Query jobs of a day, and internal batches of 10,000 records of a day (Bulk API guide, Limits).
    pub query_jobs: u64,
    pub batches: u64,
}

impl Default for BulkManners {
    fn default() -> Self {
        Self { polls: 1, page: 50_000, hard_delete: false, query_jobs: 10_000, batches: 15_000 }
    }
}

/// The jobs of an org, by id and so by age.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(crate) manners: BulkManners,
    list: BTreeMap<String, Job>,
    /// How many there were.
    pub(crate) last: u64,
    query_jobs: u64,
    batches: u64,
}

impl Jobs {
    /// Changes what is named.
    pub(crate) fn set(&mut self, wanted: Map<String, Value>) -> Result<Value, ApiError> {
        let mut manners = json!(self.manners);
        for (name, value) in wanted {
            manners[name] = value;
        }
        self.manners =
            serde_json::from_value(manners).map_err(|error| ApiError::json(error.to_string()))?;
        let mut state = json!(self.manners);
        state["query_jobs_left"] = self.query_jobs()["Remaining"].clone();
        state["batches_left"] = self.batches()["Remaining"].clone();
        Ok(state)
    }

    pub(crate) fn query_jobs(&self) -> Value {
        left(self.manners.query_jobs, self.query_jobs)
    }

    pub(crate) fn batches(&self) -> Value {
        left(self.manners.batches, self.batches)
    }

    fn count_query_job(&mut self) -> Result<(), ApiError> {
        if self.query_jobs >= self.manners.query_jobs {
            return Err(exceeded("query jobs"));
        }
        self.query_jobs += 1;
        Ok(())
    }

    fn count_batches(&mut self, batches: u64) -> Result<(), ApiError> {
        if self.batches + batches > self.manners.batches {
            return Err(exceeded("batches"));
        }
        self.batches += batches;
        Ok(())
    }

    /// The job that a request names in its path.
    fn named(&mut self, request: &Request) -> Option<&mut Job> {
        let segments = request.segments();
        let at = segments.iter().position(|segment| segment == "jobs")?;
        self.list.get_mut(&crate::id::long(segments.get(at + 2)?)?)
    }

    /// A fault: the job fails, unless it has ended.
    pub(crate) fn fail(&mut self, request: &Request, message: &str) {
        if let Some(job) = self.named(request).filter(|job| !job.state.is_terminal()) {
            job.fail(message.to_owned());
        }
    }

    /// A fault: the results are gone.
    pub(crate) fn expire(&mut self, request: &Request) {
        if let Some(job) = self.named(request) {
            job.expired = true;
        }
    }
}

fn left(max: u64, used: u64) -> Value {
    json!({"Max": max, "Remaining": max.saturating_sub(used)})
}

fn exceeded(what: &str) -> ApiError {
    let message = format!("ExceededQuota : The daily limit of {what} is used up");
    ApiError::new(400, "EXCEEDEDQUOTA", message)
}

fn wrong_state(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "INVALIDJOBSTATE", message)
}

/// Whether a request carries the data of a job.
pub(crate) fn is_upload(request: &Request) -> bool {
    request.path.contains("/jobs/ingest/") && request.method == "PUT"
}

/// Carries every job that was closed to its end.
pub(crate) fn finish_all(org: &mut Org) {
    let ids: Vec<String> = org.jobs.list.keys().cloned().collect();
    for id in ids {
        while org.jobs.list.get(&id).is_some_and(|job| job.state.goes_on()) {
            advance(org, &id);
        }
    }
}

/// One look at a job: what it has done by then is done now.
fn advance(org: &mut Org, id: &str) {
    let polls = org.jobs.manners.polls;
    let Some(mut job) = org.jobs.list.remove(id) else { return };
    if job.state.goes_on() {
        job.looks += 1;
        let end = job.looks > polls;
        job.state = if end { State::JobComplete } else { State::InProgress };
        job.touched = org.now();
        let failure = match &mut job.work {
            Work::Query(work) => query::go_on(org, work),
            Work::Ingest(work) => {
                let share = if end { None } else { Some((job.looks, polls)) };
                let caller = Caller {
                    user: job.created_by.clone(),
                    api: true,
                    method: "PUT".to_owned(),
                    path: format!("/services/data/v{}/jobs/ingest/{}", job.version, job.id),
                    insistence: Insistence::default(),
                };
                org.events.author = Some(Author::of_bulk(&caller.user, &job.version));
                ingest::go_on(org, &caller, &job.operation, work, share)
            }
        };
        if let Err(message) = failure {
            job.fail(message);
        }
    }
    org.jobs.list.insert(id.to_owned(), job);
}

/// Serves what is below `/services/data/vNN.N/jobs`.
pub(crate) fn serve(
    org: &mut Org,
    caller: &Caller,
    request: &Request,
    path: &[&str],
    version: &str,
) -> Result<Answer, ApiError> {
    let method = request.method.as_str();
    let get = matches!(method, "GET" | "HEAD");
    let [kind @ ("query" | "ingest"), rest @ ..] = path else {
        return rest::unserved(org, request, &format!("jobs/{}", path.join("/")));
    };
    let querying = *kind == "query";
    let Some((id, rest)) = rest.split_first() else {
        return match method {
            "GET" | "HEAD" => list(org, request, querying, version),
            "POST" if querying => query::create(org, caller, request, version),
            "POST" => ingest::create(org, caller, request, version),
            _ => Err(ApiError::method_not_allowed(method, "HEAD,GET,POST")),
        };
    };
    let id = crate::id::long(id).ok_or_else(ApiError::not_found)?;
    if org.jobs.list.get(&id).is_none_or(|job| job.is_query() != querying) {
        return Err(ApiError::not_found());
    }
    let resource: Vec<String> = rest.iter().map(|part| part.to_ascii_lowercase()).collect();
    match (resource.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), method) {
        ([], "GET" | "HEAD") => {
            advance(org, &id);
            Ok(Answer::json(200, found(org, &id)?.info(true)))
        }
        ([], "PATCH") => change(org, request, &id),
        ([], "DELETE") => remove(org, &id),
        ([], _) => Err(ApiError::method_not_allowed(method, "HEAD,GET,PATCH,DELETE")),
        (["results"], _) if get && querying => query::results(org, request, &id, version),
        (["resultpages"], _) if get && querying => query::pages(org, request, &id, version),
        (["batches"], "PUT") if !querying => ingest::upload(org, request, &id),
        ([what], _) if get && !querying => ingest::results(found(org, &id)?, what),
        _ => Err(ApiError::not_found()),
    }
}

fn found<'a>(org: &'a Org, id: &str) -> Result<&'a Job, ApiError> {
    org.jobs.list.get(id).ok_or_else(ApiError::not_found)
}

/// Puts a new job among the others and answers what it is.
fn add(
    org: &mut Org,
    caller: &Caller,
    version: &str,
    make: impl FnOnce(Job) -> Job,
) -> Result<Answer, ApiError> {
    org.jobs.last += 1;
    let id = crate::id::numbered("750", org.jobs.last);
    let job = make(Job::new(id.clone(), caller.user.clone(), org.now(), version.to_owned()));
    let answer = Answer::json(200, job.info(false));
    org.jobs.list.insert(id, job);
    Ok(answer)
}

/// `{"state": "UploadComplete"}` or `{"state": "Aborted"}`.
fn change(org: &mut Org, request: &Request, id: &str) -> Result<Answer, ApiError> {
    let wanted = body(request)?;
    let wanted = wanted.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
    let now = org.now();
    let job = found(org, id)?;
    match wanted.as_str() {
        "UploadComplete" if !job.is_query() => {
            if job.state != State::Open {
                let message = format!("InvalidJobState : Job is in state {}", job.state.name());
                return Err(wrong_state(message));
            }
            let batches = ingest::batches(job)?;
            org.jobs.count_batches(batches)?;
        }
        "Aborted" if !job.state.is_terminal() => {}
        "Aborted" => {
            let message = "InvalidJobState : Aborting already Completed Job not allowed";
            return Err(wrong_state(message));
        }
        other => {
            let message = format!("InvalidJob : '{other}' is not a state that a job can be put in");
            return Err(ApiError::new(400, "INVALIDJOB", message));
        }
    }
    let job = org.jobs.list.get_mut(id).ok_or_else(ApiError::not_found)?;
    job.state = if wanted == "Aborted" { State::Aborted } else { State::UploadComplete };
    job.touched = now;
    Ok(Answer::json(200, job.info(false)))
}

/// What has not ended cannot be deleted; an ingest job that is closed can.
fn remove(org: &mut Org, id: &str) -> Result<Answer, ApiError> {
    let job = found(org, id)?;
    let closed = !job.is_query() && job.state == State::UploadComplete;
    if !job.state.is_terminal() && !closed {
        let message = "Error encountered when deleting the job because the job is not terminated";
        return Err(ApiError::new(400, "API_ERROR", message));
    }
    org.jobs.list.remove(id);
    Ok(Answer::empty(204))
}

/// The jobs of a kind, newest first.
fn list(org: &Org, request: &Request, querying: bool, version: &str) -> Result<Answer, ApiError> {
    let from: usize = match request.parameter("queryLocator") {
        Some(locator) => locator.parse().map_err(|_| query::wrong_locator())?,
        None => 0,
    };
    let jobs: Vec<Value> = (org.jobs.list.values().rev())
        .filter(|job| job.is_query() == querying)
        .map(|job| job.info(false))
        .collect();
    let to = from.saturating_add(LISTED).min(jobs.len());
    let records = jobs.get(from..to).ok_or_else(query::wrong_locator)?;
    let kind = if querying { "query" } else { "ingest" };
    let next = (to < jobs.len())
        .then(|| format!("/services/data/v{version}/jobs/{kind}?queryLocator={to}"));
    Ok(Answer::json(
        200,
        json!({"done": next.is_none(), "records": records, "nextRecordsUrl": next}),
    ))
}
