//! Queries and their further pages (REST API guide, Query and QueryAll).

use crate::ApiError;
use crate::exchange::{Answer, Request};
use crate::org::Org;
use crate::soql::{self, Answered, Query, Refusal};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Answers that were not fetched to their end.
#[derive(Debug, Default)]
pub(crate) struct Cursors {
    open: BTreeMap<u64, Cursor>,
    /// How many there were.
    pub(crate) last: u64,
}

#[derive(Debug)]
struct Cursor {
    answered: Answered,
    step: usize,
    resource: &'static str,
}

/// As many cursors as stay open at once (App Limits Cheatsheet, open query cursors).
const MOST_CURSORS: usize = 10;

pub(super) fn query(
    org: &mut Org,
    request: &Request,
    all: bool,
    version: &str,
) -> Result<Answer, ApiError> {
    let Some(text) = request.parameter("q").map(str::trim).filter(|q| !q.is_empty()) else {
        let message = "A query string has to be specified";
        return Err(ApiError::new(400, "MALFORMED_QUERY", message));
    };
    let told = |org: &mut Org, refusal: Refusal| {
        if let Some(what) = &refusal.unserved {
            org.count_unserved(format!("soql {what}"));
        }
        ApiError::new(400, refusal.code, refusal.text(text))
    };
    let query = soql::parse(text).map_err(|refusal| told(org, refusal))?;
    match soql::answer(org, &query, all) {
        Ok(answered) => Ok(first_page(org, request, &query, answered, all, version)),
        Err(refusal) => Err(told(org, refusal)),
    }
}

/// The answer to a query that came in another form than text.
pub(super) fn run(
    org: &mut Org,
    request: &Request,
    query: &Query,
    version: &str,
) -> Result<Answer, ApiError> {
    let answered = soql::answer(org, query, false)
        .map_err(|refusal| ApiError::new(400, refusal.code, refusal.message))?;
    Ok(first_page(org, request, query, answered, false, version))
}

fn first_page(
    org: &mut Org,
    request: &Request,
    query: &Query,
    answered: Answered,
    all: bool,
    version: &str,
) -> Answer {
    let total = answered.ids.len();
    if query.fields.is_empty() {
        return Answer::json(200, json!({"totalSize": total, "done": true, "records": []}));
    }
    let step = batch_size(request).unwrap_or_else(|| {
        // A real org shortens the pages of records that are large.
        let long = answered.selected.iter().filter(|path| path.is_long()).count();
        if long >= 2 { 200 } else { 2000 }
    });
    let cursor = Cursor { answered, step, resource: if all { "queryAll" } else { "query" } };
    if total <= step {
        return Answer::json(200, page(org, &cursor, 0, None, version));
    }
    org.cursors.last += 1;
    let number = org.cursors.last;
    let answer = page(org, &cursor, 0, Some(number), version);
    org.cursors.open.insert(number, cursor);
    while org.cursors.open.len() > MOST_CURSORS {
        org.cursors.open.pop_first();
    }
    Answer::json(200, answer)
}

/// `Sforce-Query-Options: batchSize=200`, from 200 to 2,000 (REST API guide, Query Options Header).
fn batch_size(request: &Request) -> Option<usize> {
    let header = request.header("sforce-query-options")?;
    let options = header.split([';', ',']).filter_map(|option| option.split_once('='));
    let size = options
        .map(|(n, v)| (n.trim(), v.trim()))
        .find(|(n, _)| n.eq_ignore_ascii_case("batchSize"));
    size.and_then(|(_, size)| size.parse().ok()).map(|size: usize| size.clamp(200, 2000))
}

pub(super) fn more(org: &Org, locator: &str, version: &str) -> Result<Answer, ApiError> {
    let wrong = || ApiError::new(400, "INVALID_QUERY_LOCATOR", "invalid query locator");
    let (name, from) = locator.split_once('-').ok_or_else(wrong)?;
    let number: u64 = name.strip_prefix("0r8").and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
    let from: usize = from.parse().map_err(|_| wrong())?;
    let cursor = org.cursors.open.get(&number).ok_or_else(wrong)?;
    if from > cursor.answered.ids.len() {
        return Err(wrong());
    }
    Ok(Answer::json(200, page(org, cursor, from, Some(number), version)))
}

/// Records are rendered as they are now; those that have gone since are left out.
fn page(org: &Org, cursor: &Cursor, from: usize, number: Option<u64>, version: &str) -> Value {
    let Cursor { answered, step, resource } = cursor;
    let to = (from + step).min(answered.ids.len());
    let records: Vec<Value> = answered.ids[from..to]
        .iter()
        .filter_map(|id| org.table(&answered.object)?.get(id))
        .map(|row| soql::render(org, &answered.object, row, &answered.selected, version))
        .collect();
    let done = to == answered.ids.len();
    let mut map = Map::new();
    map.insert("totalSize".into(), answered.ids.len().into());
    map.insert("done".into(), done.into());
    if let Some(number) = number.filter(|_| !done) {
        let url = format!("/services/data/v{version}/{resource}/0r8{number:015}-{to}");
        map.insert("nextRecordsUrl".into(), url.into());
    }
    map.insert("records".into(), records.into());
    Value::Object(map)
}
