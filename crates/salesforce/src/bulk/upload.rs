use std::borrow::Cow;

use connector::{Fault, FaultKind, WriteBatch};
use csv::{QuoteStyle, WriterBuilder};
use serde_json::Value;

use super::{MOST_BYTES, MOST_RECORDS};
use crate::plan::{self, Item, Verb};
use crate::soql;

/// Stands for null; an empty cell leaves a field as it is (Bulk API guide, Valid CSV Record Rows).
const NULL: &str = "#N/A";

/// A batch as the data of a job. The same batch makes the same upload, so that results can be matched to it later by a
/// process that did not send it.
#[derive(Debug)]
pub(super) struct Upload {
    /// Of all records; nothing where none can be sent.
    pub(super) verb: Option<Verb>,
    pub(super) header: Vec<String>,
    pub(super) rows: Vec<Row>,
    /// Records that are not sent at all.
    pub(super) refused: Vec<(usize, Fault)>,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) item: Item,
    /// In the order of the header.
    pub(super) cells: Vec<String>,
}

impl Upload {
    pub(super) fn new(batch: &WriteBatch) -> Result<Self, Fault> {
        if batch.read_before {
            return Err(defect("READ_BEFORE", "a bulk job does not read before it writes"));
        }
        soql::check_name(&batch.object)?;
        batch.columns.iter().try_for_each(|column| soql::check_field(&column.name))?;
        let mut upload =
            Self { verb: None, header: Vec::new(), rows: Vec::new(), refused: Vec::new() };
        let mut items = Vec::new();
        for (place, write) in batch.writes.iter().enumerate() {
            let prepared = plan::prepare(batch, place, write).and_then(|(verb, item)| {
                check(&item)?;
                Ok((verb, item))
            });
            match prepared {
                Ok((verb, item)) => {
                    if upload.verb.get_or_insert_with(|| verb.clone()) != &verb {
                        let message = "one bulk job writes in one way only";
                        return Err(defect("MIXED_BATCH", message));
                    }
                    items.push(item);
                }
                Err(fault) => upload.refused.push((place, fault)),
            }
        }
        if upload.verb == Some(Verb::Delete) {
            upload.header.push("Id".to_owned());
        }
        for (name, _) in items.iter().flat_map(cells_of) {
            if !upload.header.iter().any(|known| *known == name) {
                upload.header.push(name.into_owned());
            }
        }
        upload.rows = items
            .into_iter()
            .map(|item| {
                let mut cells = vec![String::new(); upload.header.len()];
                for (name, value) in cells_of(&item) {
                    if let Some(at) = upload.header.iter().position(|known| *known == name) {
                        cells[at] = text(value);
                    }
                }
                if let (Some(Verb::Delete), Some(id)) = (&upload.verb, &item.id) {
                    cells[0].clone_from(id);
                }
                Row { item, cells }
            })
            .collect();
        Ok(upload)
    }

    /// The text: every value in quotes, so that nothing in it can be taken for something else.
    pub(super) fn csv(&self) -> Result<Vec<u8>, Fault> {
        let unwritten = |_| defect("CSV", "the data of a bulk job can't be written");
        let mut text = (self.header.join(",") + "\n").into_bytes();
        let mut writer =
            WriterBuilder::new().quote_style(QuoteStyle::Always).from_writer(&mut text);
        for row in &self.rows {
            writer.write_record(&row.cells).map_err(unwritten)?;
        }
        drop(writer);
        if text.len() > MOST_BYTES || self.rows.len() > MOST_RECORDS {
            let message = format!(
                "{} records in {} bytes are too many for a bulk job",
                self.rows.len(),
                text.len()
            );
            return Err(defect("JOB_TOO_LARGE", &message));
        }
        Ok(text)
    }
}

/// The fields of a record with their names in the header: a parent's as `Account.Key__c` (Bulk API guide, Relationship
/// Fields in a Header Row).
fn cells_of(item: &Item) -> impl Iterator<Item = (Cow<'_, str>, &Value)> {
    let fields = item.record.as_object().into_iter().flatten();
    fields.filter(|(name, _)| *name != "attributes").flat_map(|(name, value)| {
        let parent = value.as_object();
        let of_parent = parent
            .into_iter()
            .flatten()
            .map(move |(field, value)| (Cow::Owned(format!("{name}.{field}")), value));
        let own = if name == "id" { "Id" } else { name.as_str() };
        let own = parent.is_none().then_some((Cow::Borrowed(own), value));
        own.into_iter().chain(of_parent)
    })
}

/// There is no way to write this text.
fn check(item: &Item) -> Result<(), Fault> {
    match cells_of(item).find(|(_, value)| *value == NULL) {
        None => Ok(()),
        Some((name, _)) => {
            let message =
                format!("the value of field {name} is what stands for null in a bulk job");
            let mut fault = Fault::new(FaultKind::Refused, "NOT_IN_BULK", message)
                .with_hint("Write the record by itself.");
            fault.about.fields = vec![name.into_owned()];
            Err(fault)
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => NULL.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn defect(code: &str, message: &str) -> Fault {
    Fault::new(FaultKind::Defect, code, message)
}
