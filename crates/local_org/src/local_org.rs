use crate::bulk::{self, BulkManners};
use crate::calls::Call;
use crate::clock::Move;
use crate::duplicates::DuplicateRule;
use crate::events::{self, Authority, EventFaultRule, EventSettings};
use crate::faults::{Campaign, FaultRule};
use crate::history::Edit;
use crate::options::Options;
use crate::org::Org;
use crate::persist::{Saver, Store};
use crate::rules::Rule;
use crate::schema::{Field, Object};
use crate::serve::{self, Shared};
use crate::session::Grant;
use crate::value::Manners;
use crate::{ApiError, moment};
use anyhow::Context;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A running org. It stops when it is dropped.
pub struct LocalOrg {
    shared: Shared,
    url: String,
    events_address: String,
    authority: Arc<Authority>,
    client_id: String,
    client_secret: String,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    saver: Option<Saver>,
}

impl LocalOrg {
    /// Binds a port on 127.0.0.1 and serves it on a thread of its own.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .with_context(|| format!("cannot listen on port {}", options.port))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let bus = TcpListener::bind((Ipv4Addr::LOCALHOST, options.events_port))
            .with_context(|| format!("cannot listen on port {}", options.events_port))?;
        bus.set_nonblocking(true)?;
        let events_address = bus.local_addr()?.to_string();
        let authority = Arc::new(Authority::new()?);
        let (client_id, client_secret) = (options.client_id.clone(), options.client_secret.clone());
        let store = options.persist.as_deref().map(Store::open).transpose()?;
        let mut org = Org::new(url.clone(), options)?;
        if let Some(store) = &store {
            store.load(&mut org)?;
        }
        (org.events.address, org.events.ca_pem) = (events_address.clone(), authority.pem.clone());
        let shared = Shared::new(org);
        // Not before all else that can fail: a runtime must not be dropped inside of another, which the caller may have.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (served, subscribed, issuer) = (shared.clone(), shared.clone(), Arc::clone(&authority));
        let bus_stopped = stopped.clone();
        let saver = store.map(|store| store.follow(shared.clone())).transpose()?;
        let thread = std::thread::Builder::new().name("local org".into()).spawn(move || {
            // The socket is there and listens; what could fail here is only a lack of memory.
            let _ = runtime.block_on(async {
                tokio::spawn(events::listen(bus, subscribed, issuer, bus_stopped));
                serve::serve(listener, served, stopped).await
            });
        })?;
        Ok(Self {
            shared,
            url,
            events_address,
            authority,
            client_id,
            client_secret,
            stop,
            thread: Some(thread),
            saver,
        })
    }

    /// Ends it, and saves it if it is kept in a file; the error is that it can't be saved.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.saver.take().map_or(Ok(()), Saver::stop)
    }

    /// `http://127.0.0.1:12345`: the login host, and the instance that logins name.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `127.0.0.1:12345`: where the event bus is, by TLS and without it.
    pub fn events_address(&self) -> &str {
        &self.events_address
    }

    /// The authority that the certificate of the event bus is from, in PEM form.
    pub fn ca_pem(&self) -> &str {
        &self.authority.pem
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret that it was started with.
    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// The records of an object that are not deleted, in the order of their ids.
    pub fn records(&self, object: &str) -> Vec<Value> {
        self.all_records(object).into_iter().filter(|r| r["IsDeleted"] != true).collect()
    }

    /// Those in the recycle bin too.
    pub fn all_records(&self, object: &str) -> Vec<Value> {
        let mut org = self.shared.lock();
        org.settle(false);
        let name = org.object(object).map(|o| o.name.clone()).unwrap_or_default();
        let rows = org.table(&name).into_iter().flat_map(|table| table.rows());
        rows.map(|row| org.record(row)).collect()
    }

    /// How many records are not deleted.
    pub fn count(&self, object: &str) -> usize {
        let mut org = self.shared.lock();
        org.settle(false);
        let name = org.object(object).map(|o| o.name.clone()).unwrap_or_default();
        let rows = org.table(&name).into_iter().flat_map(|table| table.rows());
        rows.filter(|row| !row.deleted).count()
    }

    /// A record with all its fields, deleted or not.
    pub fn get(&self, id: &str) -> Option<Value> {
        let mut org = self.shared.lock();
        org.settle(false);
        let id = crate::id::long(id)?;
        org.row(&id).map(|row| org.record(row))
    }

    /// A new record by another user than the one that logs in; tells its id.
    pub fn insert(&self, object: &str, values: Value) -> Result<String, ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            org.create(&caller, object, &map(values)?)
        })
    }

    /// Changes fields of a record, by another user than the one that logs in.
    pub fn edit(&self, id: &str, values: Value) -> Result<(), ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            org.update(&caller, &long(id)?, &map(values)?)
        })
    }

    /// The same, in a transaction that commits only after a while: until then the record looks as before and is
    /// locked, and then its SystemModstamp is that of now.
    pub fn edit_late(&self, id: &str, values: Value, after: Duration) -> Result<(), ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            org.edit_late(&caller, &long(id)?, &map(values)?, Instant::now() + after)
        })
    }

    /// A new record in a transaction that commits only after a while, with a SystemModstamp of now.
    pub fn insert_late(
        &self,
        object: &str,
        values: Value,
        after: Duration,
    ) -> Result<String, ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            org.insert_late(&caller, object, &map(values)?, Instant::now() + after)
        })
    }

    /// Into the recycle bin, by another user.
    pub fn delete(&self, id: &str) -> Result<(), ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            org.delete(&caller, &long(id)?)
        })
    }

    /// Out of the recycle bin, by another user.
    pub fn undelete(&self, id: &str) -> Result<(), ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            org.undelete(&caller, &long(id)?)
        })
    }

    /// Makes records of one object into one, by another user: `losers` go into the recycle bin, the master takes their
    /// children and these values.
    pub fn merge(&self, master: &str, losers: &[&str], values: Value) -> Result<(), ApiError> {
        self.write(|org| {
            let caller = org.system(org.other_user.clone());
            let losers = losers.iter().map(|id| long(id)).collect::<Result<Vec<_>, _>>()?;
            org.merge(&caller, &long(master)?, &losers, &map(values)?).map(|_| ())
        })
    }

    /// Gone for good, as if the recycle bin had been emptied.
    pub fn purge(&self, id: &str) -> Result<(), ApiError> {
        self.write(|org| org.purge(&long(id)?))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Org) -> Result<T, ApiError>) -> Result<T, ApiError> {
        let mut org = self.shared.lock();
        org.settle(false);
        let result = write(&mut org);
        match &result {
            Ok(_) => org.commit(),
            Err(_) => org.roll_back(0),
        }
        result
    }

    /// The requests that came in, oldest first; those of the control endpoint are not among them.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.list().cloned().collect()
    }

    /// Every committed edit so far, oldest first; empty unless [`Options::history`].
    pub fn history(&self) -> Vec<Edit> {
        self.shared.lock().history.clone().unwrap_or_default()
    }

    pub fn clear_calls(&self) {
        self.shared.lock().calls.clear();
    }

    /// Calls of the day so far, and how many are allowed.
    pub fn usage(&self) -> (u64, u64) {
        let org = self.shared.lock();
        (org.used, org.daily_limit)
    }

    pub fn set_usage(&self, used: u64, limit: u64) {
        let mut org = self.shared.lock();
        (org.used, org.daily_limit) = (used, limit);
    }

    /// What was asked for and is not served, with how often.
    pub fn unserved(&self) -> BTreeMap<String, u64> {
        self.shared.lock().unserved.clone()
    }

    /// Orders a fault; tells its number.
    pub fn fault(&self, rule: FaultRule) -> u64 {
        self.shared.lock().faults.add(rule)
    }

    /// How often a fault has struck.
    pub fn struck(&self, number: u64) -> u64 {
        let org = self.shared.lock();
        let found = org.faults.list().find(|(n, ..)| *n == number).map(|(_, struck, _)| struck);
        found.unwrap_or_default()
    }

    /// Ends all faults, and those at random.
    pub fn clear_faults(&self) {
        let mut org = self.shared.lock();
        org.faults.clear(None);
        org.faults.campaign(None);
    }

    /// Faults at random from now on.
    pub fn campaign(&self, campaign: Campaign) {
        self.shared.lock().faults.campaign(Some(campaign));
    }

    /// Adds an object, or replaces the one of its name and keeps its records.
    ///
    /// # Panics
    ///
    /// If a formula or a roll-up summary of it makes no sense.
    pub fn define_object(&self, object: Object) {
        let name = object.name.clone();
        if let Err(error) = self.shared.lock().define_object(object) {
            panic!("{name}: {error}");
        }
    }

    /// Adds a field, or replaces the one of its name and keeps its values.
    pub fn define_field(&self, object: &str, field: Field) -> Result<(), ApiError> {
        self.shared.lock().define_field(object, field)
    }

    pub fn remove_field(&self, object: &str, field: &str) -> Result<(), ApiError> {
        self.shared.lock().remove_field(object, field)
    }

    /// Orders a fault of events or of the streams that carry them.
    pub fn event_fault(&self, rule: EventFaultRule) {
        self.shared.lock().events.fault(rule);
    }

    /// Publishes an event without values: `GAP_UPDATE` and the like with the ids of records, `GAP_OVERFLOW` with
    /// any.
    pub fn publish_gap(&self, object: &str, kind: &str, ids: &[&str]) -> Result<(), ApiError> {
        let ids = ids.iter().map(|&id| id.to_owned()).collect();
        self.shared.lock().publish_gap(object, kind, ids)
    }

    /// Changes how the event bus behaves, and which objects' changes are captured.
    pub fn set_events(&self, settings: EventSettings) -> Result<(), ApiError> {
        self.shared.lock().set_events(settings)
    }

    /// The org moves to another instance: replay ids that were given out are good no more.
    pub fn move_instance(&self) {
        self.shared.lock().events.forget();
    }

    /// Streams of subscribers that stand.
    pub fn event_streams(&self) -> usize {
        self.shared.lock().events.streams
    }

    /// Field-level security of the user that logs in.
    pub fn set_access(
        &self,
        object: &str,
        field: &str,
        visible: bool,
        editable: bool,
    ) -> Result<(), ApiError> {
        self.shared.lock().set_access(object, field, visible, editable)
    }

    /// Something that happens whenever a record is saved.
    pub fn add_rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    pub fn clear_rules(&self) {
        self.shared.lock().rules.clear();
    }

    /// A kind of record that may not be there twice from now on.
    pub fn add_duplicate_rule(&self, rule: DuplicateRule) -> Result<(), ApiError> {
        self.shared.lock().add_duplicate_rule(rule)
    }

    pub fn clear_duplicate_rules(&self) {
        self.shared.lock().clear_duplicate_rules();
    }

    pub fn set_manners(&self, manners: Manners) {
        self.shared.lock().manners = manners;
    }

    /// How bulk jobs go on from now on.
    pub fn set_bulk(&self, manners: BulkManners) {
        self.shared.lock().jobs.manners = manners;
    }

    /// Carries every bulk job that was closed to its end.
    pub fn finish_jobs(&self) {
        let mut org = self.shared.lock();
        bulk::finish_all(&mut org);
        org.commit();
        org.events.author = None;
    }

    /// The org's clock minus this machine's. Otherwise it never runs backwards.
    pub fn set_clock_skew_ms(&self, skew: i64) {
        self.shared.lock().clock.set_skew(skew);
    }

    /// Moves the org's clock on. What lay in the recycle bin too long is gone, and the calls of a day that is over are
    /// free again.
    pub fn advance(&self, by: Duration) -> Result<(), ApiError> {
        self.write(|org| org.move_clock(&Move::AdvanceMs(by.as_millis() as i64)).map(|_| ()))
    }

    /// The org's time, as records have it but with milliseconds.
    pub fn now(&self) -> String {
        moment::text(self.shared.lock().clock.now())
    }

    /// Every token that was given out is dead from now on.
    pub fn expire_sessions(&self) {
        self.shared.lock().sessions.close_all();
    }

    /// Adds a client, or changes its secret. Its tokens stay good.
    pub fn set_client(&self, client: &str, secret: &str) {
        self.shared.lock().sessions.set_client(client, secret);
    }

    pub fn remove_client(&self, client: &str) {
        self.shared.lock().sessions.apps.remove(client);
    }

    /// The certificate (X.509 as PEM, RSA) by which a client's assertions of the JWT bearer flow are checked.
    pub fn set_certificate(&self, client: &str, pem: &str) -> Result<(), ApiError> {
        self.shared.lock().set_certificate(client, pem.to_owned())
    }

    /// Whether users are pre-authorised for a client, as the JWT bearer flow needs.
    pub fn set_approved(&self, client: &str, approved: bool) {
        if let Some(app) = self.shared.lock().sessions.apps.get_mut(client) {
            app.approved = approved;
        }
    }

    /// A refresh token that the user that logs in has granted to a client.
    pub fn grant(&self, client: &str) -> String {
        let mut org = self.shared.lock();
        let grant = Grant { user: org.integration_user.clone(), client: client.to_owned() };
        org.sessions.grant(grant)
    }

    /// Takes a refresh token back, with its sessions; tells whether there was one.
    pub fn revoke(&self, refresh_token: &str) -> bool {
        self.shared.lock().sessions.revoke(refresh_token)
    }

    /// Whether a refresh token is good only once, and comes with its successor.
    pub fn rotate_refresh_tokens(&self, rotating: bool) {
        self.shared.lock().sessions.rotating = rotating;
    }

    /// The user that logs in, and the one on whose behalf tests write.
    pub fn users(&self) -> (String, String) {
        let org = self.shared.lock();
        (org.integration_user.clone(), org.other_user.clone())
    }

    /// The org's id.
    pub fn org_id(&self) -> String {
        self.shared.lock().org_id.clone()
    }
}

impl Drop for LocalOrg {
    fn drop(&mut self) {
        // Who wants to know of an org that can't be saved asks `stop`.
        let _ = self.end();
    }
}

fn map(values: Value) -> Result<Map<String, Value>, ApiError> {
    match values {
        Value::Object(map) => Ok(map),
        _ => Err(ApiError::json("an object is needed")),
    }
}

/// Ids of 15 characters will do too.
fn long(id: &str) -> Result<String, ApiError> {
    crate::id::long(id).ok_or_else(ApiError::not_found)
}
