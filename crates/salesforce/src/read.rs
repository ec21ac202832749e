use connector::{Column, Fault, FaultKind, Mark, Page, Record};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};

use crate::call::Call;
use crate::client::Salesforce;
use crate::describe::unexpected;
use crate::moment::Moment;
use crate::soql::{self, LONGEST_PATH, PAGE, VERSION};
use crate::{id, parents, value};

/// Most ids of one request for records (REST API guide, sObject Collections, get with POST).
pub(crate) const MOST_IDS: usize = 2000;
/// Most records of one query that are held at once; those that read much go page by page, or by jobs.
const MOST_RECORDS: usize = 1 << 20;
/// So many ids fit into the URL of a query beside its fields.
const IDS_OF_QUERY: usize = 200;

impl Salesforce {
    pub(crate) async fn list_page(
        &self,
        object: &str,
        columns: &[Column],
        after: Option<&str>,
    ) -> Result<Page, Fault> {
        let condition = match after {
            Some(id) => format!(" WHERE Id > {}", soql::id(id)?),
            None => String::new(),
        };
        let rest = format!("{condition} ORDER BY Id LIMIT {PAGE}");
        let records = self.select("/query", object, &[], columns, &rest).await?;
        Ok(Page { more: records.len() >= PAGE, records: complete(records) })
    }

    /// As of a while ago, and left out where the org has not counted them (REST API guide, Record Count).
    pub(crate) async fn record_count(&self, object: &str) -> Result<Option<u64>, Fault> {
        soql::check_name(object)?;
        let path = self.path(&format!("/limits/recordCount?sObjects={object}"));
        let body = self.call(&Call::get(path)).await;
        let body = body.map_err(of_read)?;
        let counts = body.get("sObjects").and_then(Value::as_array);
        let counts = counts.ok_or_else(|| unexpected("the number of an object's records"))?;
        let named = |entry: &&Value| {
            entry
                .get("name")
                .and_then(Value::as_str)
                .is_some_and(|n| n.eq_ignore_ascii_case(object))
        };
        Ok(counts.iter().find(named).and_then(|entry| entry.get("count")?.as_u64()))
    }

    pub(crate) async fn changes_page(
        &self,
        object: &str,
        columns: &[Column],
        since: &Mark,
    ) -> Result<Page, Fault> {
        let rest = since_then(since)?;
        let records = self.select("/queryAll", object, &["IsDeleted"], columns, &rest).await?;
        Ok(Page { more: records.len() >= PAGE, records: complete(records) })
    }

    pub(crate) async fn own_records_since(
        &self,
        object: &str,
        columns: &[Column],
        since: &str,
    ) -> Result<Vec<Record>, Fault> {
        let me = self.session(None).await?.user_id.clone();
        let me = if me.is_empty() { self.account().await?.user_id } else { me };
        let (at, me) = (soql::moment(since)?, soql::id(&me)?);
        let rest =
            format!(" WHERE CreatedDate >= {at} AND CreatedById = {me} ORDER BY CreatedDate,Id");
        Ok(complete(self.select("/query", object, &[], columns, &rest).await?))
    }

    pub(crate) async fn find_records(
        &self,
        object: &str,
        columns: &[Column],
        field: &str,
        values: &[String],
    ) -> Result<Vec<Record>, Fault> {
        soql::check_field(field)?;
        let column = columns.iter().find(|column| column.name.eq_ignore_ascii_case(field));
        let mut literals: Vec<String> =
            values.iter().filter_map(|value| soql::literal(column, value)).collect();
        literals.sort_unstable();
        literals.dedup();
        // Room for the condition; long lists of fields are asked for apart from it.
        let query = soql::select(object, &[], columns)?;
        let head = self.query_path("/query", &query).len();
        let room = LONGEST_PATH - if head > LONGEST_PATH / 2 { 500 } else { head };
        let mut found = Vec::new();
        let mut rest = literals.as_slice();
        while !rest.is_empty() {
            let mut length = 100;
            let fitting = rest.iter().take_while(|literal| {
                length += form_urlencoded::byte_serialize(literal.as_bytes())
                    .map(str::len)
                    .sum::<usize>()
                    + 3;
                length <= room
            });
            let (these, others) = rest.split_at(fitting.count().max(1));
            let condition = format!(" WHERE {field} IN ({})", these.join(","));
            found.extend(complete(self.select("/query", object, &[], columns, &condition).await?));
            rest = others;
        }
        Ok(found)
    }

    pub(crate) async fn fetch_records(
        &self,
        object: &str,
        columns: &[Column],
        ids: &[String],
    ) -> Result<Vec<Option<Record>>, Fault> {
        let mut found = self.living_records(object, columns, ids).await?;
        let lacking: Vec<String> = found
            .iter()
            .zip(ids)
            .filter(|(record, id)| record.is_none() && id::is_id(id))
            .map(|(_, id)| id.clone())
            .collect();
        let mut deleted: HashMap<String, Record> = HashMap::new();
        for ids in lacking.chunks(IDS_OF_QUERY) {
            let list: Vec<String> = ids.iter().map(|id| soql::id(id)).collect::<Result<_, _>>()?;
            let rest = format!(" WHERE Id IN ({})", list.join(","));
            let records = self.select("/queryAll", object, &["IsDeleted"], columns, &rest).await?;
            deleted.extend(
                complete(records).into_iter().filter(|r| r.deleted).map(|r| (r.id.clone(), r)),
            );
        }
        for (record, id) in found.iter_mut().zip(ids).filter(|(record, _)| record.is_none()) {
            *record = deleted.get(&id::long(id)).cloned();
        }
        Ok(found)
    }

    pub(crate) async fn living_records(
        &self,
        object: &str,
        columns: &[Column],
        ids: &[String],
    ) -> Result<Vec<Option<Record>>, Fault> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(MOST_IDS) {
            // What is no id at all would spoil the request for the others.
            let asked: Vec<String> = ids.iter().filter(|id| id::is_id(id)).cloned().collect();
            if asked.is_empty() {
                found.extend(ids.iter().map(|_| None));
                continue;
            }
            let records = if soql::has_of_parents(columns) {
                self.queried(object, columns, &asked).await?
            } else {
                let call = Call::read(self.retrieve_path(object)?, retrieve_body(columns, &asked)?);
                let body = self.call(&call).await.map_err(of_read)?;
                retrieved(columns, &asked, &body)?
            };
            let mut records = records.into_iter();
            found.extend(
                ids.iter().map(|id| if id::is_id(id) { records.next().flatten() } else { None }),
            );
        }
        Ok(found)
    }

    /// Living records by a query, where a retrieve cannot have all columns.
    async fn queried(
        &self,
        object: &str,
        columns: &[Column],
        ids: &[String],
    ) -> Result<Vec<Option<Record>>, Fault> {
        let mut found: HashMap<String, Record> = HashMap::new();
        for ids in ids.chunks(soql::most_ids(object, columns)?) {
            let path = self.query_path("/query", &soql::by_ids(object, &[], columns, ids)?);
            let asked: HashSet<String> = ids.iter().map(|id| id::long(id)).collect();
            for record in complete(self.all_pages(path, columns).await?) {
                // In the place of one that was asked for, which would be taken for deleted.
                let foreign = !asked.contains(&record.id);
                if foreign || found.insert(record.id.clone(), record).is_some() {
                    return Err(unexpected("the id of a record that was asked for"));
                }
            }
        }
        Ok(ids.iter().map(|id| found.get(&id::long(id)).cloned()).collect())
    }

    pub(crate) fn retrieve_path(&self, object: &str) -> Result<String, Fault> {
        soql::check_name(object)?;
        Ok(self.path(&format!("/composite/sobjects/{object}")))
    }

    /// The records of a query, to its last page; `None` for one that went away while it was read.
    ///
    /// Where the list of fields makes the URL too long, the query asks for ids and versions alone,
    /// and the values are fetched by id, where there is no such limit. Such values can be newer than
    /// the version beside them; then the record comes once more with its later version.
    async fn select(
        &self,
        resource: &str,
        object: &str,
        more: &[&str],
        columns: &[Column],
        rest: &str,
    ) -> Result<Vec<Option<Record>>, Fault> {
        let path = self.query_path(resource, &(soql::select(object, more, columns)? + rest));
        if path.len() <= LONGEST_PATH {
            return self.all_pages(path, columns).await;
        }
        let path = self.query_path(resource, &(soql::select(object, more, &[])? + rest));
        if path.len() > LONGEST_PATH {
            let message = "a query is longer than Salesforce takes";
            return Err(Fault::new(FaultKind::Defect, "URI_TOO_LONG", message));
        }
        let mut records = self.all_pages(path, &[]).await?;
        let living = |record: &Option<Record>| record.as_ref().is_some_and(|r| !r.deleted);
        let ids: Vec<String> = records
            .iter()
            .filter(|r| living(r))
            .flatten()
            .map(|record| record.id.clone())
            .collect();
        let mut values = self.living_records(object, columns, &ids).await?.into_iter();
        for record in records.iter_mut().filter(|r| living(r)) {
            let version = record.take().map(|record| record.version);
            *record = values
                .next()
                .flatten()
                .zip(version)
                .map(|(new, version)| Record { version, ..new });
        }
        Ok(records)
    }

    pub(crate) fn query_path(&self, resource: &str, query: &str) -> String {
        soql::path(&self.path(resource), query)
    }

    async fn all_pages(
        &self,
        path: String,
        columns: &[Column],
    ) -> Result<Vec<Option<Record>>, Fault> {
        let mut records = Vec::new();
        let mut seen = HashSet::from([path.clone()]);
        let mut next = Some(path);
        while let Some(path) = next {
            let body = self.call(&Call::get(path)).await.map_err(of_read)?;
            let rows = rows_of(&body)?;
            for row in rows {
                records.push(Some(record(columns, row)?));
            }
            next = next_page(&body)?;
            // A query that leads back to where it was, or on without end, would never be read to its end.
            if next.as_ref().is_some_and(|path| rows.is_empty() || !seen.insert(path.clone())) {
                return Err(unexpected("the address of a query's next page"));
            }
            match total(&body) {
                Some(total) if next.is_none() && records.len() < total => return Err(incomplete()),
                Some(total) if records.len() <= total.min(MOST_RECORDS) => {}
                None if next.is_none() => {}
                _ => return Err(unexpected("the number of a query's records")),
            }
        }
        Ok(records)
    }
}

fn rows_of(body: &Value) -> Result<&Vec<Value>, Fault> {
    let rows = body.get("records").and_then(Value::as_array);
    rows.ok_or_else(|| unexpected("the answer to a query"))
}

/// How many records a query has in all its pages (REST API guide, Query).
fn total(body: &Value) -> Option<usize> {
    body.get("totalSize").and_then(Value::as_u64).and_then(|total| usize::try_from(total).ok())
}

/// Fewer records than the query has: the others would be taken for deleted, or never be seen. Asked anew it is another
/// query, in case that some went away while its pages were read.
fn incomplete() -> Fault {
    let message = "the answer to a query has fewer records than it says";
    Fault::new(FaultKind::Transient, "INCOMPLETE_ANSWER", message)
}

/// Where a query goes on; nothing behind its last page, which has to be told as such.
fn next_page(body: &Value) -> Result<Option<String>, Fault> {
    match (is_done(body)?, body.get("nextRecordsUrl").and_then(Value::as_str)) {
        (true, _) => Ok(None),
        (false, Some(url)) => own_path(url).map(Some),
        (false, None) => Err(unexpected("the address of a query's next page")),
    }
}

/// What is asked for the changes of an object: a query as long as its list of fields.
pub(crate) fn changes_path(
    client: &Salesforce,
    object: &str,
    columns: &[Column],
    since: &Mark,
) -> Result<String, Fault> {
    let query = soql::select(object, &["IsDeleted"], columns)? + &since_then(since)?;
    Ok(client.query_path("/queryAll", &query))
}

fn since_then(since: &Mark) -> Result<String, Fault> {
    let at = soql::moment(&since.at)?;
    let condition = if since.id.is_empty() {
        format!("{VERSION} >= {at}")
    } else {
        format!("{VERSION} > {at} OR ({VERSION} = {at} AND Id > {})", soql::id(&since.id)?)
    };
    Ok(format!(" WHERE {condition} ORDER BY {VERSION},Id LIMIT {PAGE}"))
}

/// The first page of an answer to such a query; more follows from its last record on.
pub(crate) fn page(columns: &[Column], body: &Value) -> Result<Page, Fault> {
    let rows = rows_of(body)?;
    let records = rows.iter().map(|row| record(columns, row)).collect::<Result<Vec<_>, _>>()?;
    let done = is_done(body)?;
    match total(body) {
        Some(total) if done && records.len() < total => return Err(incomplete()),
        Some(total) if records.len() > total => {
            return Err(unexpected("the number of a query's records"));
        }
        _ => {}
    }
    let more = records.len() >= PAGE || !done;
    if more && records.is_empty() {
        return Err(unexpected("a page without records and with more behind it"));
    }
    Ok(Page { records, more })
}

/// Taken for the last page where nothing is said, what is behind it would be lost.
pub(crate) fn is_done(body: &Value) -> Result<bool, Fault> {
    let done = body.get("done").and_then(Value::as_bool);
    done.ok_or_else(|| unexpected("the answer to a query"))
}

fn complete(records: Vec<Option<Record>>) -> Vec<Record> {
    records.into_iter().flatten().collect()
}

/// A path that the org hands out, which stays a path of the org.
fn own_path(url: &str) -> Result<String, Fault> {
    let good = url.starts_with("/services/")
        && url.len() <= LONGEST_PATH
        && !url.contains("..")
        && url.bytes().all(|b| b.is_ascii_graphic() && !b"\\@#".contains(&b));
    if good { Ok(url.to_owned()) } else { Err(unexpected("the address of a query's next page")) }
}

/// What a read is refused for lies in what was asked for, and not in a record.
pub(crate) fn of_read(mut fault: Fault) -> Fault {
    fault.kind = match (fault.kind, fault.code.as_str()) {
        (
            _,
            "INVALID_FIELD"
            | "INVALID_TYPE"
            | "NOT_FOUND"
            | "INSUFFICIENT_ACCESS"
            | "INVALID_TYPE_FOR_OPERATION",
        ) => FaultKind::Schema,
        (
            _,
            "MALFORMED_QUERY"
            | "INVALID_QUERY_FILTER_OPERATOR"
            | "JSON_PARSER_ERROR"
            | "MALFORMED_ID",
        ) => FaultKind::Defect,
        (FaultKind::Ambiguous, _) => FaultKind::Transient,
        (kind, _) => kind,
    };
    fault
}

pub(crate) fn retrieve_body(columns: &[Column], ids: &[String]) -> Result<Value, Fault> {
    Ok(json!({ "ids": ids, "fields": soql::fields(&[], columns)? }))
}

/// The records of a retrieve: one entry for each id, in their order, null for what is not there.
pub(crate) fn retrieved(
    columns: &[Column],
    ids: &[String],
    body: &Value,
) -> Result<Vec<Option<Record>>, Fault> {
    let rows = body.as_array().filter(|rows| rows.len() == ids.len());
    let Some(rows) = rows else { return Err(unexpected("the answer to a request for records")) };
    let mut found = Vec::with_capacity(ids.len());
    for (row, asked) in rows.iter().zip(ids) {
        if row.is_null() {
            found.push(None);
            continue;
        }
        let record = record(columns, row)?;
        if record.id != id::long(asked) {
            return Err(unexpected("the order of the records that were asked for"));
        }
        found.push(Some(record).filter(|record| !record.deleted));
    }
    Ok(found)
}

fn record(columns: &[Column], row: &Value) -> Result<Record, Fault> {
    let Some(fields) = row.as_object() else { return Err(unexpected("a record")) };
    let text = |name: &str| member(fields, name).and_then(Value::as_str);
    let Some(id) = text("Id").filter(|id| id::is_id(id)) else {
        return Err(unexpected("the id of a record"));
    };
    let Some(version) = text(VERSION).and_then(Moment::parse) else {
        return Err(unexpected("the version of a record"));
    };
    let deleted = member(fields, "IsDeleted").and_then(Value::as_bool).unwrap_or_default();
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        match value_of(fields, &column.name) {
            Some(found) => values.push(value::from_json(column, found)?),
            // What a deleted one held is told as a whole or not at all.
            None if deleted => {
                values.clear();
                break;
            }
            // Taken for null, it would empty the field on the other side.
            None => return Err(unexpected(&format!("the field {} of a record", column.name))),
        }
    }
    Ok(Record { id: id::long(id), version: version.in_json(), values, deleted })
}

/// A parent's field stands in the parent, which may be missing (SOQL guide, Relationship Query Results).
fn value_of<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some((relationship, field)) = parents::parts(name) else { return member(fields, name) };
    match member(fields, relationship)? {
        Value::Object(parent) => member(parent, field),
        missing => Some(missing).filter(|value| value.is_null()),
    }
}

/// By name; an answer may spell it in another case than was asked.
fn member<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).or_else(|| {
        fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
