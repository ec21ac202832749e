//! Result rows come in any order and without a number. They repeat the cells that were sent, and by these they are
//! matched: the whole row, and where the org gives a cell back in another form, the id or external id.

use std::collections::{HashMap, VecDeque};

use connector::{Before, Done, Fault, FaultKind, WriteBatch};
use serde_json::json;

use super::sheet::Sheet;
use super::upload::{Row, Upload};
use crate::plan::Verb;
use crate::write::{of_record, unclear};
use crate::{id, refusal, soql};

/// What the org says of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Done {
        id: String,
        created: bool,
    },
    /// `CODE:message:Field1,Field2 --`
    Refused(String),
    /// The job ended before it.
    Unprocessed,
}

/// Which of the three texts of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Results {
    Successful,
    Failed,
    Unprocessed,
}

/// The rows of one text, each with the cells that were sent.
pub(super) fn rows(
    upload: &Upload,
    results: Results,
    text: &[u8],
) -> Result<Vec<(Vec<String>, Told)>, Fault> {
    if text.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let (mut sheet, header) = Sheet::new(text)?;
    let own: &[&str] = match results {
        Results::Successful => &["sf__Id", "sf__Created"],
        Results::Failed => &["sf__Id", "sf__Error"],
        Results::Unprocessed => &[],
    };
    let names = own.iter().copied().chain(upload.header.iter().map(String::as_str));
    if !header.iter().eq(names) {
        return Err(unclear(None));
    }
    let mut rows = Vec::new();
    while let Some(row) = sheet.next()? {
        let told = match results {
            Results::Unprocessed => Told::Unprocessed,
            Results::Failed => Told::Refused(row[1].to_owned()),
            Results::Successful => Told::Done {
                id: row[0].to_owned(),
                created: match &row[1] {
                    "true" => true,
                    "false" => false,
                    _ => return Err(unclear(None)),
                },
            },
        };
        rows.push((row.iter().skip(own.len()).map(str::to_owned).collect(), told));
    }
    Ok(rows)
}

/// For each row of the upload what the org said of it; nothing where that cannot be told for certain.
pub(super) fn matched(upload: &Upload, rows: Vec<(Vec<String>, Told)>) -> Vec<Option<Told>> {
    let mut found: Vec<Option<Told>> = vec![None; upload.rows.len()];
    let mut whole: HashMap<&[String], VecDeque<usize>> = HashMap::new();
    for (place, row) in upload.rows.iter().enumerate() {
        whole.entry(&row.cells).or_default().push_back(place);
    }
    let mut rest = Vec::new();
    for (cells, told) in rows {
        match whole.get_mut(cells.as_slice()).and_then(VecDeque::pop_front) {
            Some(place) => found[place] = Some(told),
            None => rest.push((cells, told)),
        }
    }
    let Some(at) = key_of(upload) else { return found };
    let mut keyed: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, row) in upload.rows.iter().enumerate().filter(|(place, _)| found[*place].is_none())
    {
        keyed.entry(&row.cells[at]).or_default().push(place);
    }
    for (cells, told) in rest {
        // Of two that are left under one key nobody knows which is which.
        if let Some([place]) =
            cells.get(at).and_then(|key| keyed.get(key.as_str())).map(Vec::as_slice)
        {
            let told = if found[*place].is_none() { Some(told) } else { None };
            found[*place] = told;
        }
    }
    found
}

/// The column by which a row can be told from all others.
fn key_of(upload: &Upload) -> Option<usize> {
    let name = match upload.verb.as_ref()? {
        Verb::Update | Verb::Delete => "Id",
        Verb::Upsert(field) => field,
        Verb::Create => return None,
    };
    upload.header.iter().position(|column| column == name)
}

/// What came of a row, as of a record in the REST API.
pub(super) fn result(
    batch: &WriteBatch,
    verb: &Verb,
    row: &Row,
    told: Option<Told>,
    unprocessed: &Fault,
) -> Result<Done, Fault> {
    match told {
        Some(Told::Done { id, created }) => done(verb, row, &id, created),
        Some(Told::Refused(error)) => {
            of_record(batch, verb, &row.item, refused(&error), &Before::NotRead)
        }
        Some(Told::Unprocessed) => Err(unprocessed.clone()),
        None => {
            let message = "the results of the bulk job do not say what came of the record";
            Err(Fault::new(FaultKind::Ambiguous, "NO_RESULT", message))
        }
    }
}

fn done(verb: &Verb, row: &Row, id: &str, created: bool) -> Result<Done, Fault> {
    let id = id::record_id(id).ok_or_else(|| unclear(None))?;
    if row.item.id.as_ref().is_some_and(|own| *own != id) {
        return Err(unclear(None));
    }
    match (verb, created) {
        (Verb::Delete, false) => Ok(Done::Deleted),
        (Verb::Update, false) | (Verb::Upsert(_), false) => Ok(Done::Updated { id }),
        (Verb::Create | Verb::Upsert(_), true) => Ok(Done::Created { id }),
        (Verb::Delete | Verb::Update, true) | (Verb::Create, false) => Err(unclear(None)),
    }
}

/// `CODE:message:Field1,Field2 --`, or with `:--` at its end where it names no field.
fn refused(error: &str) -> Fault {
    let (code, rest) = error.split_once(':').unwrap_or((error, ""));
    let text = rest.trim_end();
    let (message, fields) = match text.strip_suffix("--") {
        Some(text) => text.trim_end().rsplit_once(':').unwrap_or((text.trim_end(), "")),
        None => (text, ""),
    };
    let names: Vec<&str> = fields.split(',').map(str::trim).filter(|f| !f.is_empty()).collect();
    let (message, names) = if names.iter().all(|name| soql::check_field(name).is_ok()) {
        (message, names)
    } else {
        // A colon of the message itself.
        (text, Vec::new())
    };
    let code = code.trim();
    let code = if code.is_empty() { "UNKNOWN_ERROR" } else { code };
    refusal::of_entry(&json!({ "statusCode": code, "message": message, "fields": names }))
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
