//! Holds a connector against what it says of itself: each capability, and each promise of the trait that the engine
//! relies on, is tried on an object of the other side that is there for it. A connector passes when [`all`] finds
//! nothing.
//!
//! `writing` has what is promised of writes, `reading` what is promised of reads, `bulk` what is promised of jobs.

mod bulk;
mod moment;
mod reading;
mod writing;

use connector::{Column, Connector, Fault, Identity, Mark, Outcome, Record, Write, WriteBatch};
use std::time::Duration;

/// Where a connector is tried: an object, and somebody else who works on it.
pub struct Scratch<'a> {
    pub connector: &'a dyn Connector,
    pub object: &'a str,
    /// A text that every record has to have.
    pub name: Column,
    /// A text that may be null and has no default.
    pub note: Column,
    /// A field that identifies records, where there is one.
    pub identity: Option<Column>,
    pub other: &'a dyn Other,
}

/// Another user of the other side.
pub trait Other {
    /// Makes a record of this name and returns its id.
    fn insert(&self, name: &str) -> String;

    /// The same, which others see only after a while, though with the moment of now; `None` where that cannot happen.
    fn insert_late(&self, name: &str, after: Duration) -> Option<String>;

    fn delete(&self, id: &str);
}

/// What a connector does not do as it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The promise.
    pub promise: &'static str,
    /// What was found instead.
    pub found: String,
}

pub(crate) type Verdict = Result<(), String>;

/// Tries everything, and tells what does not hold.
pub async fn all(scratch: &Scratch<'_>) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut note = |promise, verdict: Verdict| {
        if let Err(found) = verdict {
            broken.push(Broken { promise, found });
        }
    };
    note(
        "max_write, and outcomes in order",
        writing::as_many_as_said_in_their_order(scratch).await,
    );
    note("write_step", writing::one_call_for_a_step(scratch).await);
    note("one refusal leaves the others alone", writing::a_refused_record_is_alone(scratch).await);
    note("null is not the same as not named", writing::null_and_unnamed(scratch).await);
    note("a second delete is gone", writing::deleted_twice(scratch).await);
    note("upsert", writing::a_create_is_repeatable(scratch).await);
    note("reads_before_write", writing::the_state_before(scratch).await);
    note("canonical", writing::canonical_is_what_is_read_back(scratch).await);
    note("max_fetch, in order", reading::fetched_in_order(scratch).await);
    note("list resumes after an id", reading::listed_from_anywhere(scratch).await);
    note("changes resume at a mark", reading::changes_from_anywhere(scratch).await);
    note("sees_deletes", reading::deletes_among_changes(scratch).await);
    note("overlap_seconds", reading::late_records(scratch).await);
    note("find", reading::found_by_value(scratch).await);
    note("created_since", reading::own_records_since(scratch).await);
    note("bulk reads resume", bulk::reads_what_listing_does(scratch).await);
    note("bulk pages at once", bulk::listed_pages_are_all(scratch).await);
    note("bulk outcomes in order", bulk::outcomes_in_order(scratch).await);
    note("bulk writes begin with the commit", bulk::begins_with_the_commit(scratch).await);
    broken
}

/// Fails with a sentence unless something holds.
macro_rules! demand {
    ($holds:expr, $($found:tt)+) => {
        if !$holds {
            return Err(format!($($found)+));
        }
    };
}
pub(crate) use demand;

pub(crate) fn told(fault: Fault) -> String {
    fault.to_string()
}

impl Scratch<'_> {
    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![self.name.clone(), self.note.clone()];
        columns.extend(self.identity.clone());
        columns
    }

    async fn write(&self, read_before: bool, writes: Vec<Write>) -> Result<Vec<Outcome>, String> {
        let count = writes.len();
        let batch =
            WriteBatch { object: self.object.into(), columns: self.columns(), read_before, writes };
        let outcomes = self.connector.write(&batch).await.map_err(told)?;
        demand!(outcomes.len() == count, "{} outcomes of {count} writes", outcomes.len());
        Ok(outcomes)
    }

    /// Makes records of these names; their ids in order.
    async fn make(&self, names: &[String]) -> Result<Vec<String>, String> {
        let most = self.connector.capabilities().max_write;
        let mut ids = Vec::new();
        for names in names.chunks(most) {
            let writes = names.iter().map(|name| create(None, name)).collect();
            for outcome in self.write(false, writes).await? {
                match outcome.result {
                    Ok(connector::Done::Created { id }) => ids.push(id),
                    other => return Err(format!("a create came back as {other:?}")),
                }
            }
        }
        Ok(ids)
    }

    async fn fetch(&self, ids: &[String]) -> Result<Vec<Option<Record>>, String> {
        let columns = self.columns();
        let records = self.connector.fetch(self.object, &columns, ids).await.map_err(told)?;
        demand!(records.len() == ids.len(), "{} records of {} ids", records.len(), ids.len());
        Ok(records)
    }

    /// The record of this id, which has to be there.
    async fn one(&self, id: &str) -> Result<Record, String> {
        let mut records = self.fetch(&[id.to_owned()]).await?;
        let there = records.pop().flatten().filter(|record| !record.deleted);
        there.ok_or_else(|| format!("{id} is not there"))
    }

    /// All changes from a mark on, page by page.
    async fn changes(&self, mut mark: Mark) -> Result<Vec<Record>, String> {
        let columns = self.columns();
        let mut all = Vec::new();
        loop {
            let page = self.connector.changes(self.object, &columns, &mark).await.map_err(told)?;
            demand!(!page.more || !page.records.is_empty(), "an empty page with more behind it");
            all.extend(page.records);
            if !page.more {
                return Ok(all);
            }
            mark = all.last().map_or(mark, mark_of);
        }
    }
}

pub(crate) fn mark_of(record: &Record) -> Mark {
    Mark { at: record.version.clone(), id: record.id.clone() }
}

pub(crate) fn beginning() -> Mark {
    Mark { at: "1970-01-01T00:00:00.000Z".into(), id: String::new() }
}

/// Names that no other check uses.
pub(crate) fn names(of: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{of} {n}")).collect()
}

/// Places of the columns in a batch.
pub(crate) const NAME: usize = 0;
pub(crate) const NOTE: usize = 1;

pub(crate) fn create(identity: Option<Identity>, name: &str) -> Write {
    Write::Create { identity, fields: vec![(NAME, Some(name.to_owned()))] }
}

pub(crate) fn update(id: &str, field: usize, value: Option<&str>) -> Write {
    Write::Update { id: id.to_owned(), fields: vec![(field, value.map(str::to_owned))] }
}

pub(crate) fn delete(id: &str) -> Write {
    Write::Delete { id: id.to_owned() }
}
