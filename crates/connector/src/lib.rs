//! What a system on the other side of a connection is to the engine: the one interface behind which
//! every connector lives. Plain values come in and go out; a connector knows nothing of PostgreSQL,
//! retries nothing for long, and sleeps for no limit: it reports, and whoever calls it decides.
//!
//! **Values** cross this border as texts in PostgreSQL's own form: what a type's output function says
//! under `DateStyle = ISO`, `TimeZone = UTC`, `extra_float_digits = 1`, `bytea_output = hex`; `None` is
//! null. What a connector hands in is canonical: the same value is the same text every time.

pub mod bulk;
mod events;
mod fault;
pub mod naming;
mod object;
pub mod order;
mod record;
mod requests;
pub mod schema;
mod secret;
mod write;

pub use bulk::{Bulk, BulkJob, BulkLimits, BulkPage, BulkPages, BulkState};
pub use events::{Change, Deed, Event, Events, Place, Since};
pub use fault::{About, Fault, FaultKind};
pub use object::{Column, Field, Kind, Object, ObjectName, Unfit};
pub use record::{ChangesOf, Mark, Page, Record};
pub use requests::{count_request, counting};
pub use secret::Secret;
pub use write::{Before, Done, Identity, Outcome, Write, WriteBatch};

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The answer of a call, when it is there.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// A system on the other side.
pub trait Connector: Send + Sync {
    /// What it can do. Constant for one connector; a conformance suite holds it against behaviour.
    fn capabilities(&self) -> Capabilities;

    /// What the other side would hold after this value had been written to a field of this kind:
    /// trimmed, rounded, put in its order. `None` in, `None` out. Idempotent.
    fn canonical(&self, column: &Column, value: Option<&str>) -> Option<String>;

    /// How much of the allowance of calls is used, as far as the other side has said.
    fn usage(&self) -> Option<Usage>;

    /// How many events were delivered of those that may be in a day, to all that listen, as far as the other side has
    /// said; nothing where it does not meter them.
    fn events_usage(&self) -> Option<Usage> {
        None
    }

    /// How many requests have left so far, of those that count; each is told by [`count_request`] too.
    fn calls(&self) -> u64;

    /// The secret that the other side may replace by another one at any login, as it is in use now. Whoever made the
    /// connector looks after every call, and stores a new one at once: the old one is good no more, and there is no
    /// other copy.
    fn rotating_secret(&self) -> Option<Secret> {
        None
    }

    /// Somebody else who shares that secret was given this one in its place: the next login is with it.
    fn take_rotating_secret(&self, secret: Secret) {
        let _ = secret;
    }

    /// Logs in and asks who we are.
    fn check(&self) -> Answer<'_, Account>;

    /// What else a person should know who looks at the connection: who and what is on the other side. Costs calls.
    fn survey(&self) -> Answer<'_, Vec<Remark>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// The objects that can be read.
    fn objects(&self) -> Answer<'_, Vec<ObjectName>>;

    /// An object with its fields, as this user sees it, and with these fields of its parents, which are named by the
    /// way to them: `Account.Key__c`. One that can identify no parent is told in [`Object::unfit`], and no fault.
    fn describe<'a>(&'a self, object: &'a str, of_parents: &'a [String]) -> Answer<'a, Object>;

    /// About how many records of an object there are, deleted ones not among them; `None` where the other side
    /// does not say so at once.
    fn count<'a>(&'a self, object: &'a str) -> Answer<'a, Option<u64>> {
        let _ = object;
        Box::pin(async { Ok(None) })
    }

    /// The next records by id, after this one: for going through an object as a whole. Deleted
    /// records are not among them.
    fn list<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        after: Option<&'a str>,
    ) -> Answer<'a, Page>;

    /// What changed since a mark, that moment included, in the order of the marks; deleted records too.
    fn changes<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a Mark,
    ) -> Answer<'a, Page>;

    /// Of how many objects one request can be asked for the changes.
    fn objects_at_once(&self) -> usize {
        1
    }

    /// The same of several objects, each once, with an answer for each in their order.
    fn changes_of<'a>(&'a self, asked: &'a [ChangesOf]) -> Answer<'a, Vec<Result<Page, Fault>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(asked.len());
            for of in asked {
                answers.push(self.changes(&of.object, &of.columns, &of.since).await);
            }
            Ok(answers)
        })
    }

    /// The records with these ids, in their order; `None` where there is none. Deleted ones come as
    /// such where the other side still tells of them.
    fn fetch<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        ids: &'a [String],
    ) -> Answer<'a, Vec<Option<Record>>>;

    /// The records of which a field has one of these values, for finding what a create that was
    /// never answered has made.
    fn find<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        field: &'a str,
        values: &'a [String],
    ) -> Answer<'a, Vec<Record>>;

    /// The records that this user created at or after a moment of the other side's clock, in the
    /// form of a [`Mark`]: the same, where there is no external id.
    fn created_since<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a str,
    ) -> Answer<'a, Vec<Record>>;

    /// Writes records. Exactly one outcome for each, in their order. An error of the whole says
    /// with its kind whether anything may have been carried out.
    fn write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>>;

    /// How many records of several objects, of which one may name another by its external id, can be written in one
    /// request; 0: each object has requests of its own.
    fn most_together(&self) -> usize {
        0
    }

    /// Writes new records of several objects, parents before children whatever the order of the batches, and records
    /// that name each other all or none: those that fail because of another are a [`FaultKind::Cascade`]. Exactly one
    /// outcome for each, batch by batch in their order. An error of the whole as for [`Connector::write`].
    fn write_together<'a>(
        &'a self,
        batches: &'a [Arc<WriteBatch>],
    ) -> Answer<'a, Vec<Vec<Outcome>>> {
        let _ = batches;
        Box::pin(async {
            let message = "this system takes one object in a request";
            Err(Fault::new(FaultKind::Configuration, "NOT_SERVED", message))
        })
    }

    /// Can changes be had as events, as they are committed? A capability like those of
    /// [`Connector::capabilities`]; where it is not served, [`Connector::events`] is a fault.
    fn serves_events(&self) -> bool {
        false
    }

    /// What happened to records of an object since a place; waits for something to happen, at most `wait`, and
    /// not at all for more once there is something. The other side is asked to go on telling between two calls, so
    /// that a call that goes on where the last one ended has at once what came meanwhile. An answer that is not
    /// taken is lost and does no harm: the next call begins anew at the place that it names.
    ///
    /// `Now` does not wait, and is answered with a place: what is committed after the answer will be told by calls
    /// that go on from there. Until something was told, that place may be good for as long only as this connector
    /// and its connection last, and is lost after that.
    fn events<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a Since,
        wait: Duration,
    ) -> Answer<'a, Events> {
        let _ = (object, columns, since, wait);
        Box::pin(async {
            let message = "this system tells no changes as events";
            Err(Fault::new(FaultKind::Configuration, "EVENTS_NOT_SERVED", message))
        })
    }

    /// Its jobs for reading and writing many records, where the other side has such.
    fn bulk(&self) -> Option<&dyn Bulk> {
        None
    }
}

/// What a connector can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Most records of one [`WriteBatch`].
    pub max_write: usize,
    /// Most records of one [`WriteBatch`] that go in a single request.
    pub write_step: usize,
    /// Most ids of one `fetch`.
    pub max_fetch: usize,
    /// A create with an external id can be repeated without making a second record.
    pub upsert: bool,
    /// The state of a record just before it was written comes back with the write.
    pub reads_before_write: bool,
    /// Deleted records are among the changes.
    pub sees_deletes: bool,
    /// Seconds by which a record can become visible late with an earlier mark.
    pub overlap_seconds: u32,
}

/// The allowance of calls of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub allowed: u64,
    /// When the other side said so.
    pub at: SystemTime,
}

/// Who we are on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The account as a whole, such as an org id.
    pub id: String,
    pub user: String,
    pub user_id: String,
    /// The version of the interface that is spoken.
    pub version: String,
    /// The other side's clock minus ours, in milliseconds, where it told the time.
    pub clock_offset_ms: Option<i64>,
    pub usage: Option<Usage>,
}

/// One thing that was looked at on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// A word or two: `API version`.
    pub what: &'static str,
    /// Is it as it has to be?
    pub ok: bool,
    pub detail: String,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: String,
}
