//! A system on the other side that answers with what it was given.

use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connector::{
    Account, Answer, Before, Capabilities, Column, Connector, Done, Fault, FaultKind, Mark, Object,
    ObjectName, Outcome, Page, Record, Usage, Write, WriteBatch,
};

/// What it does when it is called.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    Answer,
    Fail(FaultKind),
    Panic,
    Hang,
}

pub(crate) struct Echo {
    pub(crate) delay: Duration,
    pub(crate) manner: Manner,
    calls: AtomicU64,
}

impl Echo {
    pub(crate) fn new(manner: Manner, delay: Duration) -> Self {
        Self { delay, manner, calls: AtomicU64::new(0) }
    }

    fn answer<'a, T: Send + 'a>(&'a self, value: T) -> Answer<'a, T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if !self.delay.is_zero() {
                tokio::time::sleep(self.delay).await;
            }
            match self.manner {
                Manner::Answer => Ok(value),
                Manner::Fail(kind) => Err(Fault::new(kind, "ECHO", "as it was told to")),
                Manner::Panic => panic!("the echo panics as it was told to"),
                Manner::Hang => pending().await,
            }
        })
    }
}

fn record(id: &str, columns: &[Column]) -> Record {
    Record {
        id: id.to_owned(),
        version: "2026-01-01T00:00:00.000Z".to_owned(),
        values: columns.iter().map(|column| Some(column.name.clone())).collect(),
        deleted: false,
    }
}

fn page() -> Page {
    Page { records: Vec::new(), more: false }
}

impl Connector for Echo {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_write: 200,
            write_step: 200,
            max_fetch: 200,
            upsert: true,
            reads_before_write: false,
            sees_deletes: false,
            overlap_seconds: 0,
        }
    }

    fn canonical(&self, _: &Column, value: Option<&str>) -> Option<String> {
        value.map(str::to_owned)
    }

    fn usage(&self) -> Option<Usage> {
        None
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn check(&self) -> Answer<'_, Account> {
        self.answer(Account {
            id: "echo".to_owned(),
            user: "narcissus".to_owned(),
            user_id: "1".to_owned(),
            version: "1".to_owned(),
            clock_offset_ms: None,
            usage: None,
        })
    }

    fn objects(&self) -> Answer<'_, Vec<ObjectName>> {
        self.answer(Vec::new())
    }

    fn describe<'a>(&'a self, object: &'a str, _: &'a [String]) -> Answer<'a, Object> {
        self.answer(Object {
            name: object.to_owned(),
            label: object.to_owned(),
            createable: true,
            updateable: true,
            deletable: true,
            undeletable: false,
            queryable: true,
            id_field: "id".to_owned(),
            version_field: "version".to_owned(),
            ..Object::default()
        })
    }

    fn list<'a>(&'a self, _: &'a str, _: &'a [Column], _: Option<&'a str>) -> Answer<'a, Page> {
        self.answer(page())
    }

    fn changes<'a>(&'a self, _: &'a str, _: &'a [Column], _: &'a Mark) -> Answer<'a, Page> {
        self.answer(page())
    }

    fn fetch<'a>(
        &'a self,
        _: &'a str,
        columns: &'a [Column],
        ids: &'a [String],
    ) -> Answer<'a, Vec<Option<Record>>> {
        self.answer(ids.iter().map(|id| Some(record(id, columns))).collect())
    }

    fn find<'a>(
        &'a self,
        _: &'a str,
        columns: &'a [Column],
        _: &'a str,
        values: &'a [String],
    ) -> Answer<'a, Vec<Record>> {
        self.answer(values.iter().map(|value| record(value, columns)).collect())
    }

    fn created_since<'a>(
        &'a self,
        _: &'a str,
        _: &'a [Column],
        _: &'a str,
    ) -> Answer<'a, Vec<Record>> {
        self.answer(Vec::new())
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>> {
        let done = |write: &Write| match write {
            Write::Create { identity, .. } => Done::Created {
                id: identity.as_ref().map_or_else(String::new, |identity| identity.value.clone()),
            },
            Write::Update { id, .. } => Done::Updated { id: id.clone() },
            Write::Delete { .. } => Done::Deleted,
        };
        let outcome = |write| Outcome { result: Ok(done(write)), before: Before::NotRead };
        self.answer(batch.writes.iter().map(outcome).collect())
    }
}
