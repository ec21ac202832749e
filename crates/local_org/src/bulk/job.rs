//! A job and how it is told.

use super::format::Format;
use super::{ingest, query};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    UploadComplete,
    InProgress,
    JobComplete,
    Failed,
    Aborted,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::UploadComplete => "UploadComplete",
            Self::InProgress => "InProgress",
            Self::JobComplete => "JobComplete",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
        }
    }

    pub(super) fn is_terminal(self) -> bool {
        matches!(self, Self::JobComplete | Self::Failed | Self::Aborted)
    }

    /// Will it change by itself?
    pub(super) fn goes_on(self) -> bool {
        matches!(self, Self::UploadComplete | Self::InProgress)
    }
}

#[derive(Debug)]
pub(super) enum Work {
    Query(query::Work),
    Ingest(ingest::Work),
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) operation: String,
    pub(super) object: String,
    pub(super) state: State,
    pub(super) format: Format,
    /// Of the API when it was made: `66.0`.
    pub(super) version: String,
    pub(super) created_by: String,
    pub(super) created: String,
    pub(super) touched: String,
    /// How often it was looked at since it was closed.
    pub(super) looks: u64,
    pub(super) error: Option<String>,
    /// Its results are gone.
    pub(super) expired: bool,
    pub(super) work: Work,
}

impl Job {
    /// A job of which only its own facts are known yet.
    pub(super) fn new(id: String, created_by: String, now: String, version: String) -> Self {
        Self {
            id,
            operation: String::new(),
            object: String::new(),
            state: State::Open,
            format: Format::default(),
            version,
            created_by,
            created: now.clone(),
            touched: now,
            looks: 0,
            error: None,
            expired: false,
            work: Work::Ingest(ingest::Work::default()),
        }
    }

    pub(super) fn is_query(&self) -> bool {
        matches!(self.work, Work::Query(_))
    }

    pub(super) fn fail(&mut self, message: String) {
        self.state = State::Failed;
        self.error = Some(message);
    }

    /// As it is told when it is made, changed and listed; `full` as when it is looked at.
    pub(super) fn info(&self, full: bool) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
        put("id", self.id.clone().into());
        put("operation", self.operation.clone().into());
        put("object", self.object.clone().into());
        put("createdById", self.created_by.clone().into());
        put("createdDate", self.created.clone().into());
        put("systemModstamp", self.touched.clone().into());
        put("state", self.state.name().into());
        if let Work::Ingest(work) = &self.work {
            if let Some(key) = &work.key {
                put("externalIdFieldName", key.clone().into());
            }
            // Without a slash in front.
            let url = format!("services/data/v{}/jobs/ingest/{}/batches", self.version, self.id);
            put("contentUrl", url.into());
        }
        put("concurrencyMode", "Parallel".into());
        put("contentType", "CSV".into());
        put("apiVersion", self.version.parse::<f64>().unwrap_or_default().into());
        put("lineEnding", self.format.ending_name().into());
        put("columnDelimiter", self.format.delimiter_name().into());
        if !full {
            return Value::Object(map);
        }
        let (kind, processed) = match &self.work {
            Work::Query(work) => ("V2Query", work.processed()),
            Work::Ingest(work) => ("V2Ingest", work.processed()),
        };
        put("jobType", kind.into());
        put("numberRecordsProcessed", processed.into());
        put("retries", 0.into());
        put("totalProcessingTime", (processed as u64).into());
        match &self.work {
            Work::Query(work) => {
                put("isPkChunkingSupported", work.is_chunked().into());
            }
            Work::Ingest(work) => {
                put("numberRecordsFailed", work.failed().into());
                put("apiActiveProcessingTime", json!(0));
                put("apexProcessingTime", json!(0));
            }
        }
        if let Some(error) = &self.error {
            put("errorMessage", error.clone().into());
        }
        Value::Object(map)
    }
}
