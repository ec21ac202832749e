use connector::{BulkJob, BulkPage, BulkPages, Column, Fault, FaultKind, Record};
use egress::Response;
use serde_json::{Value, json};

use super::job::{Job, Kind, of_job};
use super::sheet::{Sheet, broken};
use crate::call::Call;
use crate::client::Salesforce;
use crate::describe::unexpected;
use crate::moment::Moment;
use crate::read::of_read;
use crate::soql;
use crate::{id, value};

/// Since when pages are listed.
const PAGES_SINCE: u32 = 58;

/// Longest locator that is taken for one.
const LONGEST_LOCATOR: usize = 1000;

impl Salesforce {
    pub(super) async fn start_bulk_read(
        &self,
        object: &str,
        columns: &[Column],
    ) -> Result<BulkJob, Fault> {
        if let Some(column) = columns.iter().find(|c| is_structured(c)) {
            let message = format!("field {} can't be read by a bulk job", column.name);
            let mut fault = Fault::new(FaultKind::Configuration, "NOT_IN_BULK", message)
                .with_hint("Read the object page by page, or leave the field out.");
            fault.about.fields = vec![column.name.clone()];
            return Err(fault);
        }
        let query = soql::select(object, &[], columns)?;
        let body = json!({
            "operation": "query", "query": query,
            "contentType": "CSV", "columnDelimiter": "COMMA", "lineEnding": "LF",
        });
        let job = self.make_job(Kind::Query, body).await.map_err(|mut fault| {
            // Of a query job it says that the object or a field is not for bulk, and that lasts.
            if fault.code == "FUNCTIONALITY_NOT_ENABLED" {
                fault.kind = FaultKind::Configuration;
            }
            of_read(fault)
        })?;
        Ok(job.handle())
    }

    pub(super) async fn bulk_pages(
        &self,
        job: &BulkJob,
        from: Option<&str>,
    ) -> Result<BulkPages, Fault> {
        let job = Job::of(job, Kind::Query)?;
        if job.major() < PAGES_SINCE {
            let message = "pages of bulk jobs are listed from version 58.0 of the API on";
            return Err(Fault::new(FaultKind::Configuration, "NOT_SERVED", message));
        }
        let query = from.map(|from| parameters(Some(from), None)).transpose()?.unwrap_or_default();
        let body = self.call(&Call::get(job.path(&format!("/resultPages{query}")))).await;
        let body = body.map_err(|fault| of_read(of_job(fault)))?;
        let pages = body.get("resultPages").and_then(Value::as_array);
        let pages = pages.ok_or_else(|| unexpected("the list of a bulk job's pages"))?;
        let locators = pages.iter().map(|page| locator_of(page.get("resultUrl")));
        let locators = locators.collect::<Result<Vec<_>, _>>()?;
        let next = body.get("nextRecordsUrl").filter(|url| !url.is_null());
        Ok(BulkPages { locators, next: next.map(|url| locator_of(Some(url))).transpose()? })
    }

    pub(super) async fn bulk_page(
        &self,
        job: &BulkJob,
        columns: &[Column],
        locator: Option<&str>,
        most: Option<usize>,
    ) -> Result<BulkPage, Fault> {
        let job = Job::of(job, Kind::Query)?;
        let query = parameters(locator, most)?;
        let answer = self.answer(&Call::get_csv(job.path(&format!("/results{query}")))).await;
        let answer = answer.map_err(|fault| of_read(of_job(fault)))?;
        page(columns, &answer)
    }
}

fn is_structured(column: &Column) -> bool {
    matches!(column.kind, connector::Kind::Structure | connector::Kind::Bytes)
}

/// `?locator=…&maxRecords=…`, each where it is given.
fn parameters(locator: Option<&str>, most: Option<usize>) -> Result<String, Fault> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(locator) = locator {
        if !is_locator(locator) {
            let message = "what should be the locator of a page is none";
            return Err(Fault::new(FaultKind::Defect, "MALFORMED_LOCATOR", message));
        }
        query.append_pair("locator", locator);
    }
    if let Some(most) = most {
        query.append_pair("maxRecords", &most.max(1).to_string());
    }
    let query = query.finish();
    Ok(if query.is_empty() { query } else { format!("?{query}") })
}

fn is_locator(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_LOCATOR
        && text.bytes().all(|b| b.is_ascii_graphic())
        && text != "null"
}

/// Of the address that a list gives for a page.
fn locator_of(url: Option<&Value>) -> Result<String, Fault> {
    let query = url.and_then(Value::as_str).and_then(|url| url.split_once('?')).map(|(_, q)| q);
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let locator = pairs.into_iter().find(|(name, _)| name == "locator").map(|(_, value)| value);
    let locator = locator.filter(|locator| is_locator(locator)).map(String::from);
    locator.ok_or_else(|| unexpected("the address of a bulk job's page"))
}

/// `Sforce-Locator: MTAwMDA`, `null` behind the last page, and `Sforce-NumberOfRecords: 50000`.
fn page(columns: &[Column], answer: &Response) -> Result<BulkPage, Fault> {
    let header = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let next = match header("sforce-locator").map(str::trim) {
        Some("null") => None,
        Some(locator) if is_locator(locator) => Some(locator.to_owned()),
        // Without it nobody could tell whether this is the end.
        _ => return Err(unexpected("the locator of a bulk job's page")),
    };
    let told = header("sforce-numberofrecords").and_then(|number| number.trim().parse().ok());
    let Some(told) = told else {
        return Err(unexpected("the number of records of a bulk job's page"));
    };
    let records = records(columns, &answer.body, told)?;
    if records.is_empty() && next.is_some() {
        return Err(unexpected("a bulk job's page without records and with more behind it"));
    }
    Ok(BulkPage { records, next })
}

/// The records of a page, exactly as many as the org says.
pub(crate) fn records(columns: &[Column], text: &[u8], told: usize) -> Result<Vec<Record>, Fault> {
    // An empty result may come without a header.
    if told == 0 && text.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let names = soql::fields(&[], columns)?;
    let (mut sheet, header) = Sheet::new(text)?;
    let same = header.len() == names.len()
        && header.iter().zip(&names).all(|(there, name)| there.eq_ignore_ascii_case(name));
    if !same {
        return Err(unexpected("the header of a bulk job's page"));
    }
    // A column may be the id itself, and then has no cell of its own.
    let places: Vec<usize> = columns
        .iter()
        .map(|column| names.iter().position(|name| name.eq_ignore_ascii_case(&column.name)))
        .collect::<Option<_>>()
        .ok_or_else(|| unexpected("the header of a bulk job's page"))?;
    let mut records = Vec::with_capacity(told.min(1 << 20));
    while let Some(row) = sheet.next()? {
        if records.len() == told {
            return Err(broken("has more records than the org says"));
        }
        let Some(id) = row.get(0).and_then(id::record_id) else {
            return Err(unexpected("the id of a record"));
        };
        let Some(version) = row.get(1).and_then(Moment::parse) else {
            return Err(unexpected("the version of a record"));
        };
        let values = columns
            .iter()
            .zip(&places)
            .map(|(column, &place)| value::from_cell(column, &row[place]))
            .collect::<Result<_, _>>()?;
        records.push(Record { id, version: version.in_json(), values, deleted: false });
    }
    if records.len() != told {
        return Err(broken("has fewer records than the org says"));
    }
    Ok(records)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
