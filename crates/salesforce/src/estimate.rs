//! What it would take to sync an object, before anything is made: calls, time, and disk. Pure: what is known of the object
//! goes in, figures and warnings come out. They are estimates, and say from what they are made.

use std::time::Duration;

use connector::{Field, Kind, Object};

use crate::bulk;
use crate::soql::PAGE;
use crate::transport::{self, Allowance, Shape, Transport};

/// Objects that one call asks for their changes.
pub const OBJECTS_AT_ONCE: usize = crate::poll::MOST_QUERIES;

/// What is wished.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    pub object: &'a Object,
    /// The fields that travel, and those that are sent.
    pub fields: Vec<&'a Field>,
    pub sent: Vec<&'a Field>,
    pub pull: bool,
    pub push: bool,
    /// What there is already is gone through first.
    pub load: bool,
    /// Records over there, and rows here that are not there yet, as far as known.
    pub records: Option<u64>,
    pub rows: u64,
    /// From so many records on the object is gone through as a job.
    pub job_from: u64,
    /// How often it is asked for changes.
    pub interval: Duration,
    /// A create is found again by an external id.
    pub identity: bool,
}

/// One thing that is known beforehand.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub what: &'static str,
    pub detail: String,
    pub figure: Option<f64>,
}

/// A page of a query, and a call that writes, are answered within about this time: a cautious figure.
const SECONDS_A_CALL: f64 = 1.0;

/// What a load gets through in a second at most, where the network and the org are no bottleneck.
const RECORDS_A_SECOND: f64 = 5_000.0;

/// Counting the records, making the job, listing its pages, putting it away, and some ten looks at it.
const CALLS_OF_A_JOB: u64 = 14;

/// More fields than this, and all of them, are worth a word.
const MANY_FIELDS: usize = 50;

/// What PostgreSQL adds to a row (its header and pointer, rounded), and what a link has beside both images of the record:
/// its own header, both keys and their index entries, version and state.
const ROW: u64 = 32;
const LINK: u64 = 200;

/// All that is known beforehand.
pub fn estimate(wish: &Wish<'_>) -> Vec<Line> {
    let mut lines = vec![records(wish)];
    if wish.pull && wish.load {
        lines.extend(first_load(wish));
    }
    if wish.pull {
        lines.push(polling(wish.interval));
    }
    if wish.push && wish.load {
        lines.extend(first_push(wish));
    }
    lines.push(disk(wish));
    let warning = |detail| Line { what: "warning", detail, figure: None };
    lines.extend(warnings(wish).into_iter().map(warning));
    lines
}

fn line(what: &'static str, detail: impl Into<String>, figure: f64) -> Line {
    Line { what, detail: detail.into(), figure: Some(figure) }
}

fn records(wish: &Wish<'_>) -> Line {
    let detail = match wish.records {
        Some(_) => "as the org last counted them",
        None => "the org has not counted any",
    };
    line("records", detail, wish.records.unwrap_or(0) as f64)
}

fn first_load(wish: &Wish<'_>) -> [Line; 2] {
    let records = wish.records.unwrap_or(0);
    let (calls, by) = if records >= wish.job_from {
        let page = bulk::PAGE as u64;
        let by = format!("a query job of the Bulk API 2.0, {page} records a page");
        (records.div_ceil(page) + CALLS_OF_A_JOB, by)
    } else {
        // The last page tells that there are no more.
        (records / PAGE as u64 + 1, format!("queries of the REST API, {PAGE} records each"))
    };
    let seconds = (calls as f64 * SECONDS_A_CALL).max(records as f64 / RECORDS_A_SECOND);
    [
        line("first load: calls", by, calls as f64),
        line("first load: seconds", "roughly, where nothing else is in the way", seconds),
    ]
}

fn polling(interval: Duration) -> Line {
    let seconds = interval.as_secs().max(1);
    let detail = format!(
        "a query every {seconds} s, and more where much has changed; fewer where calls would not last. Objects that are due together share a call"
    );
    line("polling: calls a day", detail, (86_400 / seconds) as f64)
}

fn first_push(wish: &Wish<'_>) -> Option<Line> {
    if wish.rows == 0 {
        return None;
    }
    let rows = usize::try_from(wish.rows).unwrap_or(usize::MAX);
    let bytes = rows.saturating_mul(width(&wish.sent) as usize);
    let shape = if wish.identity {
        Shape { upserts: rows, bytes, ..Shape::default() }
    } else {
        Shape { creates: rows, bytes, ..Shape::default() }
    };
    let plenty = Allowance { calls: u64::MAX, bulk_batches: u64::MAX };
    let cost = transport::choose(&shape, plenty).unwrap_or_else(|dear| dear.0);
    let detail = match cost.transport {
        Transport::Collections => {
            format!("{rows} rows by sObject Collections, within composite requests")
        }
        Transport::Graph => format!("{rows} rows by composite graphs"),
        Transport::Bulk => {
            format!("{rows} rows by jobs of the Bulk API 2.0, in {} batches", cost.bulk_batches)
        }
    };
    Some(line("first push: calls", detail, cost.calls as f64))
}

fn disk(wish: &Wish<'_>) -> Line {
    let row = width(&wish.fields);
    let all = wish.records.unwrap_or(0).saturating_add(wish.rows);
    // The row, its key in an index or two, and the link with what both sides had last agreed on.
    let each = ROW + row + 60 + LINK + row;
    let detail = format!(
        "the table's rows at about {} bytes, and as much again and {LINK} bytes for what both sides agreed on; without history",
        ROW + row
    );
    line("disk: bytes", detail, all.saturating_mul(each) as f64)
}

/// Bytes of a row's values: texts are taken to be half as long as they may be, up to 40.
fn width(fields: &[&Field]) -> u64 {
    let bytes = |field: &&Field| match field.kind {
        Kind::Id => 19,
        Kind::Text | Kind::Choice if field.length > 0 => u64::from(field.length / 2).min(40) + 1,
        Kind::Text | Kind::Choice | Kind::Choices => 41,
        Kind::Boolean => 1,
        Kind::Date => 4,
        Kind::Integer | Kind::DateTime | Kind::Time => 8,
        Kind::Number => 10,
        Kind::Bytes | Kind::Structure => 0,
    };
    fields.iter().map(bytes).sum()
}

fn warnings(wish: &Wish<'_>) -> Vec<String> {
    let object = wish.object;
    let mut said = Vec::new();
    if !object.queryable {
        said.push(format!("{} cannot be read by the user of the connection", object.name));
    }
    if wish.push && !(object.createable && object.updateable) {
        said.push(format!("{} cannot be written by the user of the connection", object.name));
    }
    let names = |fields: &mut dyn Iterator<Item = &&Field>| {
        fields.map(|field| field.name.clone()).collect::<Vec<_>>().join(", ")
    };
    if wish.push {
        let computed = names(&mut wish.sent.iter().filter(|field| field.read_only()));
        if !computed.is_empty() {
            said.push(format!("cannot be written, and travel from there to here only: {computed}"));
        }
        let once =
            names(&mut wish.sent.iter().filter(|field| field.createable && !field.updateable));
        if !once.is_empty() {
            said.push(format!(
                "can be given to a new record only, a later edit is refused: {once}"
            ));
        }
        let all: Vec<&Field> = object.fields.iter().collect();
        let missing = |field: &&&Field| {
            let needed = field.createable && !field.nillable && !field.defaulted;
            needed && !wish.sent.iter().any(|sent| sent.name == field.name)
        };
        let missing = names(&mut all.iter().filter(missing));
        if !missing.is_empty() {
            said.push(format!("no record can be created there without: {missing}"));
        }
        if !wish.identity {
            let external = names(&mut all.iter().filter(|field| field.external_id));
            said.push(if external.is_empty() {
                "no field of the object is an external id: a create that was never answered is looked up, where one could be repeated; make such a field".to_owned()
            } else {
                format!("no external id is named as \"identity\": a create that was never answered is looked up, where one could be repeated; there is {external}")
            });
        }
    }
    let can_travel =
        object.fields.iter().filter(|f| !matches!(f.kind, Kind::Bytes | Kind::Structure)).count();
    if wish.fields.len() > MANY_FIELDS && wish.fields.len() + 1 >= can_travel {
        said.push(format!("syncs all {} fields: consider \"include_fields\"", wish.fields.len()));
    }
    said
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
