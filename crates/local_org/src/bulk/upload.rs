//! The data of an ingest job: its header held against the schema, and its rows as records.

use super::format::Format;
use crate::ApiError;
use crate::org::Org;
use crate::rest::collections::Given;
use crate::schema::{Field, Object};
use crate::value::{Manners, normalise};
use serde_json::{Map, Value};

/// Bulk API guide, Limits: characters of the header, of a field and of a record, and fields of a record.
const LONGEST_HEADER: usize = 32_000;
const LONGEST_FIELD: usize = 131_072;
const LONGEST_RECORD: usize = 400_000;
const MOST_FIELDS: usize = 5000;

/// Stands for null; an empty cell leaves the field as it is.
const NULL: &str = "#N/A";

/// What a column of the data is for.
#[derive(Debug)]
enum Column {
    Field(Box<Field>),
    /// `Parent__r.Key__c`: the lookup, by a key of the record that it points to.
    Parent {
        lookup: String,
        relationship: String,
        key: String,
    },
}

#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
}

/// The line of the header as it was given, without its end.
pub(super) fn header(data: &[u8]) -> &[u8] {
    let mut quoted = false;
    let end = data.iter().position(|&byte| {
        quoted ^= byte == b'"';
        byte == b'\n' && !quoted
    });
    let line = &data[..end.unwrap_or(data.len())];
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How many records there are, as far as they can be told apart.
pub(super) fn count(format: Format, data: &[u8]) -> usize {
    reader(format, data).byte_records().count().saturating_sub(1)
}

fn reader(format: Format, data: &[u8]) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(format.delimiter)
        .from_reader(data)
}

/// Reads the data of a job; the error is why the job fails.
pub(super) fn read(org: &Org, object: &str, format: Format, data: &[u8]) -> Result<Table, String> {
    let wrong = |what: &str| Err(format!("InvalidBatch : {what}"));
    if !format.fits(data) {
        let ending = format.ending_name();
        return wrong(&format!(
            "ClientInputError : LineEnding is invalid on user data. Current LineEnding setting is {ending}"
        ));
    }
    if !data.iter().filter(|&&byte| byte == b'"').count().is_multiple_of(2) {
        return wrong("ClientInputError : A quote is not closed");
    }
    let mut rows = Vec::new();
    for (place, row) in reader(format, data).records().enumerate() {
        let Ok(row) = row else {
            return wrong(&format!("ClientInputError : Record {place} is not in UTF-8"));
        };
        rows.push(row.iter().map(str::to_owned).collect::<Vec<_>>());
    }
    if rows.is_empty() {
        return wrong("ClientInputError : The header is missing");
    }
    let names = rows.remove(0);
    let length: usize = names.iter().map(|name| name.chars().count() + 1).sum();
    if length > LONGEST_HEADER || names.len() > MOST_FIELDS {
        return wrong("ClientInputError : The header is too long");
    }
    let schema = org.object(object).ok_or("InvalidBatch : The object is gone")?;
    let mut columns = Vec::new();
    for (place, name) in names.iter().enumerate() {
        if names[..place].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return wrong(&format!("Duplicate field name found : {name}"));
        }
        match column(org, schema, name.trim_start_matches('\u{feff}')) {
            Some(column) => columns.push(column),
            None => return wrong(&format!("Field name not found : {name}")),
        }
    }
    for (place, row) in rows.iter().enumerate() {
        let place = place + 1;
        if row.len() != columns.len() {
            return wrong(&format!(
                "ClientInputError : Record {place} has {} fields, and the header {}",
                row.len(),
                columns.len()
            ));
        }
        let lengths = row.iter().map(|cell| cell.chars().count());
        if lengths.clone().any(|length| length > LONGEST_FIELD)
            || lengths.sum::<usize>() > LONGEST_RECORD
        {
            return wrong(&format!("ClientInputError : Record {place} is too long"));
        }
    }
    Ok(Table { columns, rows })
}

/// `Name`, `Account.External_Id__c`, or with the parent's object in front `User:Owner.Username`.
fn column(org: &Org, object: &Object, name: &str) -> Option<Column> {
    let Some((relationship, key)) = name.split_once('.') else {
        return object.visible(name).cloned().map(|field| Column::Field(Box::new(field)));
    };
    let (target, relationship) = match relationship.split_once(':') {
        Some((target, relationship)) => (Some(target), relationship),
        None => (None, relationship),
    };
    let lookup = object.relationship(relationship).filter(|field| field.visible)?;
    let parent = org.object(lookup.reference_to.last()?)?;
    if target.is_some_and(|target| !target.eq_ignore_ascii_case(&parent.name)) {
        return None;
    }
    let key = parent.visible(key).filter(|field| field.id_lookup)?;
    Some(Column::Parent {
        lookup: lookup.name.clone(),
        relationship: relationship.to_owned(),
        key: key.name.clone(),
    })
}

impl Table {
    /// The name of a column that is not the id, if there is one.
    pub(super) fn beside_id(&self) -> Option<&str> {
        self.columns.iter().find_map(|column| match column {
            Column::Field(field) if field.name == "Id" => None,
            Column::Field(field) => Some(field.name.as_str()),
            Column::Parent { lookup, .. } => Some(lookup.as_str()),
        })
    }

    /// A row as the body of a request would have it.
    pub(super) fn record(&self, object: &str, place: usize, manners: Manners) -> Given {
        let mut record = Map::new();
        for (at, (column, cell)) in self.columns.iter().zip(&self.rows[place]).enumerate() {
            if cell.is_empty() {
                continue;
            }
            match column {
                Column::Field(field) => {
                    let value = value(cell);
                    match normalise(field, &value, manners) {
                        Err(error) if error.parsing => return Err(unreadable(field, at + 1, cell)),
                        // Other errors are for the save to find, among those of the whole record.
                        Ok(_) | Err(_) => record.insert(field.name.clone(), value),
                    };
                }
                Column::Parent { lookup, .. } if cell == NULL => {
                    record.insert(lookup.clone(), Value::Null);
                }
                Column::Parent { relationship, key, .. } => {
                    let parent = Map::from_iter([(key.clone(), value(cell))]);
                    record.insert(relationship.clone(), parent.into());
                }
            }
        }
        Ok((object.to_owned(), record))
    }
}

fn value(cell: &str) -> Value {
    if cell == NULL { Value::Null } else { cell.into() }
}

fn unreadable(field: &Field, column: usize, cell: &str) -> ApiError {
    let message = format!(
        "Failed to deserialize field at col {column}. Due to, '{cell}' is not a valid value for the type xsd:{}",
        field.kind.name()
    );
    ApiError::record("INVALID_FIELD", message, &[&field.name])
}
