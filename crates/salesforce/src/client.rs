use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as PlainMutex, MutexGuard};
use std::time::Duration;

use connector::{
    Account, Answer, Bulk, Capabilities, ChangesOf, Column, Connector, Events, Fault, Mark, Object,
    ObjectName, Outcome, Page, Record, Remark, Secret, Since, Usage, WriteBatch,
};
use egress::header::HeaderValue;
use egress::{Client, Policy};
use tokio::sync::Mutex;

use crate::events::Streams;
use crate::login::Flow;
use crate::poll::MOST_QUERIES;
use crate::redact::redact;
use crate::session::{Logins, Session};
use crate::settings::{Credentials, Place, Settings};
use crate::{graph, plan, read, value};

/// One org, as one user.
pub struct Salesforce {
    pub(crate) http: Client,
    pub(crate) place: Place,
    pub(crate) flow: Flow,
    pub(crate) call_options: HeaderValue,
    pub(crate) logins: Mutex<Logins>,
    /// Not there where the policy does not let requests go to it.
    pub(crate) pubsub: Result<pubsub::Client, Fault>,
    pub(crate) streams: Streams,
    login_count: AtomicU64,
    usage: PlainMutex<Option<Usage>>,
    events_usage: PlainMutex<Option<Usage>>,
    calls: AtomicU64,
    described: PlainMutex<HashMap<String, (HeaderValue, Object)>>,
}

impl Salesforce {
    /// Checks the settings and the credentials; nothing is sent yet.
    pub fn new(
        settings: &Settings,
        credentials: Credentials,
        policy: &Policy,
    ) -> Result<Self, Fault> {
        let place = Place::new(settings, policy)?;
        let call_options =
            HeaderValue::try_from(format!("client={}", place.client)).map_err(|_| {
                Fault::new(
                    connector::FaultKind::Configuration,
                    "INVALID_CLIENT_NAME",
                    "the client's name can't be sent",
                )
            })?;
        Ok(Self {
            http: policy.client()?,
            place,
            flow: Flow::new(credentials, settings)?,
            call_options,
            logins: Mutex::default(),
            pubsub: pubsub::Client::new(
                settings.pubsub_url.as_deref().unwrap_or(pubsub::PUBLIC_ENDPOINT),
                policy,
            ),
            streams: Streams::default(),
            login_count: AtomicU64::new(0),
            usage: PlainMutex::default(),
            events_usage: PlainMutex::default(),
            calls: AtomicU64::new(0),
            described: PlainMutex::default(),
        })
    }

    /// Below the REST API's root: `/services/data/v62.0/…`.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/services/data/v{}{rest}", self.place.version)
    }

    /// What the org said of its objects last, each with the tag of that answer, by their names in lower case.
    pub(crate) fn described(&self) -> MutexGuard<'_, HashMap<String, (HeaderValue, Object)>> {
        self.described.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        connector::count_request();
    }

    /// How many logins have ended, one way or the other.
    pub(crate) fn login_count(&self) -> u64 {
        self.login_count.load(Ordering::Acquire)
    }

    pub(crate) fn note_login(&self) {
        self.login_count.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn note_usage(&self, usage: Usage) {
        *self.usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(usage);
    }

    pub(crate) fn note_events_usage(&self, usage: Usage) {
        *self.events_usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(usage);
    }

    /// Whatever the other side quotes: a secret of ours goes no further.
    pub(crate) fn redacted(&self, mut fault: Fault, session: Option<&Session>) -> Fault {
        let mut secrets = self.flow.secrets();
        secrets.extend(session.map(|session| session.token.clone()));
        redact(&mut fault, &secrets);
        fault
    }
}

impl Connector for Salesforce {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_write: read::MOST_IDS,
            write_step: plan::MOST_IN_ONE_CALL,
            max_fetch: read::MOST_IDS,
            upsert: true,
            reads_before_write: true,
            sees_deletes: true,
            overlap_seconds: 120,
        }
    }

    fn canonical(&self, column: &Column, value: Option<&str>) -> Option<String> {
        value::canonical(column.kind, value?)
    }

    fn usage(&self) -> Option<Usage> {
        *self.usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn events_usage(&self) -> Option<Usage> {
        *self.events_usage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn rotating_secret(&self) -> Option<Secret> {
        self.flow.refresh_token()
    }

    fn take_rotating_secret(&self, secret: Secret) {
        self.flow.take_refresh_token(secret);
    }

    fn check(&self) -> Answer<'_, Account> {
        Box::pin(self.account())
    }

    fn survey(&self) -> Answer<'_, Vec<Remark>> {
        Box::pin(self.remarks())
    }

    fn objects(&self) -> Answer<'_, Vec<ObjectName>> {
        Box::pin(self.object_names())
    }

    fn describe<'a>(&'a self, object: &'a str, of_parents: &'a [String]) -> Answer<'a, Object> {
        Box::pin(self.object_with(object, of_parents))
    }

    fn count<'a>(&'a self, object: &'a str) -> Answer<'a, Option<u64>> {
        Box::pin(self.record_count(object))
    }

    fn list<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        after: Option<&'a str>,
    ) -> Answer<'a, Page> {
        Box::pin(self.list_page(object, columns, after))
    }

    fn changes<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a Mark,
    ) -> Answer<'a, Page> {
        Box::pin(self.changes_page(object, columns, since))
    }

    fn objects_at_once(&self) -> usize {
        MOST_QUERIES
    }

    fn changes_of<'a>(&'a self, asked: &'a [ChangesOf]) -> Answer<'a, Vec<Result<Page, Fault>>> {
        Box::pin(self.changes_of_each(asked))
    }

    fn fetch<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        ids: &'a [String],
    ) -> Answer<'a, Vec<Option<Record>>> {
        Box::pin(self.fetch_records(object, columns, ids))
    }

    fn find<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        field: &'a str,
        values: &'a [String],
    ) -> Answer<'a, Vec<Record>> {
        Box::pin(self.find_records(object, columns, field, values))
    }

    fn created_since<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a str,
    ) -> Answer<'a, Vec<Record>> {
        Box::pin(self.own_records_since(object, columns, since))
    }

    fn write<'a>(&'a self, batch: &'a WriteBatch) -> Answer<'a, Vec<Outcome>> {
        Box::pin(self.write_batch(batch))
    }

    fn most_together(&self) -> usize {
        graph::MOST_NODES
    }

    fn write_together<'a>(
        &'a self,
        batches: &'a [Arc<WriteBatch>],
    ) -> Answer<'a, Vec<Vec<Outcome>>> {
        Box::pin(self.write_graphs(batches))
    }

    fn serves_events(&self) -> bool {
        self.pubsub.is_ok()
    }

    fn events<'a>(
        &'a self,
        object: &'a str,
        columns: &'a [Column],
        since: &'a Since,
        wait: Duration,
    ) -> Answer<'a, Events> {
        Box::pin(self.next_events(object, columns, since, wait))
    }

    fn bulk(&self) -> Option<&dyn Bulk> {
        Some(self)
    }
}
