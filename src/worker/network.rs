//! The worker's calls to other systems: what its syncs want to ask leaves through the bridge as the
//! connection allows, and the answers go back to the syncs. What concerns a connection as a whole (an
//! outage, refused credentials, a used-up allowance) is kept here and burns no record's attempts.

use super::round::Worker;
use super::transaction::{Failure, transaction};
use crate::connection;
use crate::engine;
use crate::engine::plan::{Connected, Plan, Stored};
use crate::engine::remote::{Call, Reply, Request, State, pull, side};
use crate::speech;
use crate::sql::{self, Arg};
use bridge::{Bridge, Outcome};
use connector::{Account, Column, Connector, Fault, FaultKind, Object};
use governor::{Governor, Limits, Urgency};
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls of all syncs together that may be on their way.
const IN_FLIGHT: usize = 64;
/// Longest wait after trouble with a connection.
const LONGEST: Duration = Duration::from_secs(60);
/// How long trouble that a person has to mend is left alone before it is tried again.
const UNMENDED: Duration = Duration::from_secs(60);
/// How often an object is described anew.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(15 * 60);

/// What a network thread brings back.
enum Answer {
    Checked(Result<Account, Fault>),
    Described(Result<Object, Fault>),
    Replied(Result<Reply, Fault>),
}

/// What was asked.
enum Asked {
    Check(String),
    /// The same with a secret that is to take the place of the one in use.
    CheckNew(String),
    Describe(String, String),
    Call(i32, Box<Call>, String),
}

/// How a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Nothing is known yet.
    New,
    Ok,
    /// It passes by itself.
    Waiting,
    /// A person has to do something about it.
    Unusable,
}

struct Connection {
    connector: Option<Arc<dyn Connector>>,
    /// With a secret that has still to prove itself.
    new_secret: Option<Arc<dyn Connector>>,
    /// What the settings and secrets were when the connector was made.
    generation: u64,
    health: Health,
    tries: u32,
    not_before: Option<Instant>,
    checked: bool,
    checking: bool,
    clock_offset_ms: i64,
    governor: Governor,
    /// What the governor counts its time from.
    begun: Instant,
    /// Objects to be described, and those that were, with when.
    wanted: Vec<String>,
    described: HashMap<String, Instant>,
}

/// All that a worker has to do with other systems.
#[derive(Default)]
pub struct Network {
    bridge: Option<Bridge<Answer>>,
    next: u64,
    asked: HashMap<u64, Asked>,
    connections: HashMap<String, Connection>,
}

impl Network {
    /// What becomes readable when there are answers.
    pub fn fd(&self) -> Option<RawFd> {
        self.bridge.as_ref().map(Bridge::fd)
    }

    fn submit(
        &mut self,
        asked: Asked,
        connector: &Arc<dyn Connector>,
        make: impl FnOnce(Arc<dyn Connector>) -> bridge::BoxFuture<'static, Answer> + Send + 'static,
    ) -> Result<(), Failure> {
        if self.bridge.is_none() {
            let options = bridge::Options { threads: 1, in_flight: IN_FLIGHT };
            self.bridge = Some(Bridge::new(options).map_err(|error| {
                Failure::new("58000", format!("cannot start the network thread: {error}"))
            })?);
        }
        let Some(bridge) = &mut self.bridge else { return Ok(()) };
        self.next += 1;
        let connector = Arc::clone(connector);
        if bridge.submit(self.next, move || make(connector)).is_ok() {
            self.asked.insert(self.next, asked);
        }
        Ok(())
    }

    fn room(&self) -> bool {
        self.asked.len() < IN_FLIGHT
    }

    /// Calls of a sync that are still on their way, though the sync no longer waits for them.
    fn orphans(&self, sync: i32, state: &State) -> bool {
        state.in_flight() == 0
            && self.asked.values().any(|a| matches!(a, Asked::Call(id, ..) if *id == sync))
    }
}

impl Connection {
    fn new() -> Self {
        Self {
            connector: None,
            new_secret: None,
            generation: 0,
            health: Health::New,
            tries: 0,
            not_before: None,
            checked: false,
            checking: false,
            clock_offset_ms: 0,
            governor: Governor::new(Limits::default()),
            begun: Instant::now(),
            wanted: Vec::new(),
            described: HashMap::new(),
        }
    }

    fn may_call(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// When the allowance lets the next call out: writes at once where they can, reading gives way.
    fn paced(&self, urgent: bool, now: Instant) -> Instant {
        let urgency = if urgent { Urgency::Change } else { Urgency::Background };
        self.begun + self.governor.next_call_at(now.duration_since(self.begun), urgency)
    }
}

impl Worker {
    /// Makes the plan of a sync with another system ready to run; for any other sync does nothing.
    ///
    /// # Errors
    /// With [`side::UNDESCRIBED`] where the other system has to be asked first.
    pub(super) fn connect(&mut self, plan: &mut Plan) -> Result<Option<State>, Failure> {
        let Some((_, remote)) = plan.remote() else { return Ok(None) };
        let name = remote.connection.clone();
        let connection =
            self.network.connections.entry(name.clone()).or_insert_with(Connection::new);
        let Some(connector) = &connection.connector else {
            return Err(Failure::new(side::UNDESCRIBED, "the connection is not ready"));
        };
        if !connection.checked {
            return Err(Failure::new(side::UNDESCRIBED, "the connection has not been checked"));
        }
        let connector = Arc::clone(connector);
        plan.connector = Some(Connected(Arc::clone(&connector)));
        let id = plan.id;
        let polled = transaction(|| Ok(pull::stored(id)))?;
        let poll = pull::Poll::new(polled, plan.config.polling_interval);
        Ok(Some(State::new(connector, connection.clock_offset_ms, poll)))
    }

    /// A sync waits for its object to be described.
    pub(super) fn want_description(&mut self, stored: &Stored) {
        let Some((name, object)) = &stored.object else { return };
        let connection =
            self.network.connections.entry(name.clone()).or_insert_with(Connection::new);
        if !connection.wanted.iter().any(|w| w.eq_ignore_ascii_case(object)) {
            connection.wanted.push(object.clone());
        }
    }

    /// Are there syncs whose other side has still to be asked for what it is?
    pub(super) fn awaits_description(&self) -> bool {
        self.network.connections.values().any(|c| !c.wanted.is_empty())
    }

    /// Takes in what came back, and lets out what may leave. True when something came.
    pub(super) fn exchange(&mut self) -> Result<bool, Failure> {
        if self.network.connections.is_empty() {
            return Ok(false);
        }
        let came = self.take_answers()?;
        self.look_after_connections()?;
        self.let_out()?;
        Ok(came)
    }

    fn take_answers(&mut self) -> Result<bool, Failure> {
        let Some(bridge) = &mut self.network.bridge else { return Ok(false) };
        bridge.clear();
        bridge.tend().map_err(|error| {
            Failure::new("58000", format!("cannot start the network thread again: {error}"))
        })?;
        for said in bridge.said() {
            speech::log(format!("sync_ext network thread: {said}"));
        }
        let mut came = false;
        while let Some(reply) = self.network.bridge.as_mut().and_then(Bridge::try_recv) {
            came = true;
            let Some(asked) = self.network.asked.remove(&reply.token) else { continue };
            let lost = || Fault::new(FaultKind::Ambiguous, "LOST", "the network thread ended");
            match (asked, reply.outcome) {
                (Asked::Check(name), Outcome::Done(Answer::Checked(result))) => {
                    self.checked(&name, result)?;
                }
                (Asked::CheckNew(name), Outcome::Done(Answer::Checked(result))) => {
                    self.checked_new(&name, &result)?;
                }
                (Asked::CheckNew(name), _) => self.checked_new(&name, &Err(lost()))?,
                (Asked::Check(name), _) => self.checked(&name, Err(lost()))?,
                (Asked::Describe(name, object), Outcome::Done(Answer::Described(result))) => {
                    self.described(&name, &object, result)?;
                }
                (Asked::Describe(name, object), _) => {
                    self.described(&name, &object, Err(lost()))?
                }
                (Asked::Call(sync, call, name), Outcome::Done(Answer::Replied(result))) => {
                    self.replied(sync, *call, &name, result)?;
                }
                (Asked::Call(sync, call, name), _) => {
                    self.replied(sync, *call, &name, Err(lost()))?
                }
            }
        }
        Ok(came)
    }

    fn checked(&mut self, name: &str, result: Result<Account, Fault>) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        connection.checking = false;
        match result {
            Ok(account) => {
                connection.checked = true;
                connection.clock_offset_ms = account.clock_offset_ms.unwrap_or(0);
                connection.health = Health::New;
                transaction(|| {
                    connection::logged_in(name, &account);
                    Ok(())
                })?;
                self.went_well(name)?;
                engine::mark_configuration_stale();
                Ok(())
            }
            Err(fault) => self.went_wrong(name, &fault),
        }
    }

    /// A new secret takes the place of the old one once it has worked, and not before.
    fn checked_new(&mut self, name: &str, result: &Result<Account, Fault>) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        connection.checking = false;
        transaction(|| {
            let server = connection::by_name(name)?.server;
            match result {
                Ok(_) => connection::promote(server),
                Err(fault) if fault.kind == FaultKind::Credentials => {
                    connection::refuse_new(server, &sentence(&connection::fault_to_failure(fault)));
                }
                Err(_) => {}
            }
            Ok(())
        })?;
        match result {
            Err(fault) if fault.kind != FaultKind::Credentials => {
                // It is tried again with the connection.
                connection.generation = 0;
                connection.not_before = Some(Instant::now() + Duration::from_secs(5));
            }
            _ => {}
        }
        Ok(())
    }

    fn described(
        &mut self,
        name: &str,
        object: &str,
        result: Result<Object, Fault>,
    ) -> Result<(), Failure> {
        match result {
            Ok(described) => {
                transaction(|| {
                    side::store(name, &described);
                    Ok(())
                })?;
                if let Some(connection) = self.network.connections.get_mut(name) {
                    connection.wanted.retain(|w| !w.eq_ignore_ascii_case(object));
                    connection.described.insert(object.to_owned(), Instant::now());
                }
                self.went_well(name)?;
                engine::mark_configuration_stale();
                Ok(())
            }
            Err(fault) if fault.is_of_connection() => self.went_wrong(name, &fault),
            Err(fault) => {
                let failure = connection::fault_to_failure(&fault);
                if let Some(connection) = self.network.connections.get_mut(name) {
                    connection.wanted.retain(|w| !w.eq_ignore_ascii_case(object));
                    connection.not_before = Some(Instant::now() + UNMENDED);
                }
                self.note_undescribed(name, object, &failure)
            }
        }
    }

    /// What the syncs of an object that is not to be had say in `sync.status`.
    fn note_undescribed(
        &mut self,
        name: &str,
        object: &str,
        failure: &Failure,
    ) -> Result<(), Failure> {
        let syncs = transaction(|| {
            Ok(sql::read(
                "SELECT s.id FROM sync._sync s WHERE s.connection = $1 AND pg_catalog.lower(s.object) = pg_catalog.lower($2)",
                &[Arg::Text(name), Arg::Text(object)],
            ))
        })?;
        for id in syncs.iter().filter_map(|row| row[0].as_deref()?.parse().ok()) {
            self.note_trouble(id, Some(failure))?;
        }
        Ok(())
    }

    fn replied(
        &mut self,
        sync: i32,
        call: Call,
        name: &str,
        result: Result<Reply, Fault>,
    ) -> Result<(), Failure> {
        match &result {
            Ok(reply) => match worst(reply) {
                Some(fault) => self.went_wrong(name, fault)?,
                None => self.went_well(name)?,
            },
            Err(fault) if fault.is_of_connection() => self.went_wrong(name, fault)?,
            Err(_) => {}
        }
        let Some(state) = self.syncs.get_mut(&sync).and_then(|s| s.remote.as_mut()) else {
            return Ok(());
        };
        if let Err(fault) = state.answer(call, result) {
            let failure = connection::fault_to_failure(&fault);
            self.note_trouble(sync, Some(&failure))?;
            if let Some(sync) = self.syncs.get_mut(&sync) {
                sync.trouble = Some(failure);
            }
            // The object may have changed.
            if let Some(connection) = self.network.connections.get_mut(name) {
                connection.described.clear();
            }
        }
        Ok(())
    }

    fn went_well(&mut self, name: &str) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        let was = connection.health;
        connection.health = Health::Ok;
        connection.governor.went_through(connection.begun.elapsed());
        connection.tries = 0;
        connection.not_before = None;
        let usage = connection.connector.as_ref().and_then(|c| c.usage());
        if let Some(usage) = usage {
            connection.governor.usage(usage.used, usage.allowed, connection.begun.elapsed());
        }
        if was != Health::Ok {
            let name = name.to_owned();
            transaction(|| {
                connection::note(&name, "ok", None, None);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn went_wrong(&mut self, name: &str, fault: &Fault) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        connection.tries += 1;
        let mends_itself = !matches!(fault.kind, FaultKind::Credentials | FaultKind::Configuration);
        let pause = if mends_itself {
            let grown = Duration::from_millis(500 << connection.tries.min(7)).min(LONGEST);
            fault.retry_after.unwrap_or(grown).max(Duration::from_millis(100))
        } else {
            UNMENDED
        };
        // Several calls that fail together are one failure.
        let at = Instant::now() + pause;
        connection.not_before = Some(connection.not_before.map_or(at, |before| before.max(at)));
        connection.health = if mends_itself { Health::Waiting } else { Health::Unusable };
        if fault.kind == FaultKind::Quota {
            connection.governor.blocked_until(connection.begun.elapsed(), fault.retry_after);
        }
        let state = match fault.kind {
            FaultKind::Credentials => "refused",
            FaultKind::Configuration => "unreachable",
            _ => "waiting",
        };
        let reason = sentence(&connection::fault_to_failure(fault));
        transaction(|| {
            connection::note(name, state, Some(&reason), Some(pause));
            Ok(())
        })
    }

    /// Makes connectors anew whose settings have changed, checks new ones, describes what is wanted.
    fn look_after_connections(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.network.connections.keys().cloned().collect();
        for name in names {
            let Some(connection) = self.network.connections.get(&name) else { continue };
            let (known, made) = (connection.generation, connection.connector.is_some());
            let made = transaction(|| {
                let server = match connection::by_name(&name) {
                    Ok(connection) => connection.server,
                    Err(failure) => return Ok(Some((0, Err(failure)))),
                };
                let generation = connection::changed(server);
                if generation == known && made {
                    return Ok(None);
                }
                let connector = connection::connector(server)
                    .and_then(|c| Ok((c, connection::connector_with_new_secret(server)?)));
                Ok(Some((generation, connector)))
            })?;
            let Some(connection) = self.network.connections.get_mut(&name) else { continue };
            match made {
                None => {}
                Some((generation, Ok((connector, new_secret)))) => {
                    connection.generation = generation;
                    connection.connector = Some(connector);
                    connection.new_secret = new_secret;
                    connection.checked = false;
                    connection.not_before = None;
                    connection.tries = 0;
                    self.replace_connector(&name);
                }
                Some((generation, Err(failure))) => {
                    let known = connection.generation == generation
                        && connection.health == Health::Unusable;
                    connection.generation = generation;
                    connection.connector = None;
                    connection.checked = false;
                    connection.health = Health::Unusable;
                    if !known {
                        let reason = sentence(&failure);
                        transaction(|| {
                            connection::note(
                                &name,
                                connection::state_of(&failure),
                                Some(&reason),
                                None,
                            );
                            Ok(())
                        })?;
                    }
                    continue;
                }
            }
            self.ask_about(&name)?;
        }
        Ok(())
    }

    /// The syncs of a connection go on with its new settings.
    fn replace_connector(&mut self, name: &str) {
        let Some(connector) = self.network.connections.get(name).and_then(|c| c.connector.clone())
        else {
            return;
        };
        for sync in self.syncs.values_mut() {
            if sync.plan.remote().is_some_and(|(_, r)| r.connection == name) {
                sync.plan.connector = Some(Connected(Arc::clone(&connector)));
                if let Some(state) = &mut sync.remote {
                    state.connector = Arc::clone(&connector);
                }
            }
        }
    }

    fn ask_about(&mut self, name: &str) -> Result<(), Failure> {
        if !self.network.room() {
            return Ok(());
        }
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        let Some(connector) = connection.connector.clone() else { return Ok(()) };
        if connection.checking || !connection.may_call() {
            return Ok(());
        }
        if let Some(new) = connection.new_secret.take() {
            connection.checking = true;
            return self.network.submit(Asked::CheckNew(name.to_owned()), &new, |c| {
                Box::pin(async move { Answer::Checked(c.check().await) })
            });
        }
        if !connection.checked {
            connection.checking = true;
            return self.network.submit(Asked::Check(name.to_owned()), &connector, |c| {
                Box::pin(async move { Answer::Checked(c.check().await) })
            });
        }
        let now = Instant::now();
        let due = connection
            .described
            .iter()
            .find(|(_, at)| now.duration_since(**at) > DESCRIBE_AGAIN)
            .map(|(object, _)| object.clone());
        let Some(object) = connection.wanted.first().cloned().or(due) else { return Ok(()) };
        let under_way = self.network.asked.values().any(
            |a| matches!(a, Asked::Describe(n, o) if n == name && o.eq_ignore_ascii_case(&object)),
        );
        if under_way {
            return Ok(());
        }
        let asked = Asked::Describe(name.to_owned(), object.clone());
        self.network.submit(asked, &connector, move |c| {
            Box::pin(async move { Answer::Described(c.describe(&object).await) })
        })
    }

    /// Lets calls of syncs leave, as far as their connections allow.
    fn let_out(&mut self) -> Result<(), Failure> {
        let order = self.order.clone();
        for id in order {
            loop {
                if !self.network.room() {
                    return Ok(());
                }
                let Some(sync) = self.syncs.get_mut(&id) else { break };
                let Some((_, remote)) = sync.plan.remote() else { break };
                let (name, object) = (remote.connection.clone(), remote.object.clone());
                let columns = remote.columns.clone();
                let parallel = sync.plan.parallelism();
                let Some(state) = &mut sync.remote else { break };
                let Some(connection) = self.network.connections.get_mut(&name) else { break };
                let now = Instant::now();
                if !connection.checked
                    || !connection.may_call()
                    || connection.paced(state.pushes() > 0, now) > now
                {
                    break;
                }
                // After trouble one call goes ahead and finds out.
                let limit = if connection.tries > 0 { 1 } else { parallel };
                let Some(call) = state.next(limit) else { break };
                connection.governor.note_call(1, connection.begun.elapsed());
                let connector = Arc::clone(&state.connector);
                let request = call.request.clone();
                let asked = Asked::Call(id, Box::new(call), name);
                self.network.submit(asked, &connector, move |c| {
                    Box::pin(async move {
                        Answer::Replied(carry_out(&*c, &object, &columns, request).await)
                    })
                })?;
            }
        }
        Ok(())
    }

    /// How long until something here is due.
    pub(super) fn network_due(&self) -> Option<Duration> {
        let now = Instant::now();
        let connections = self.network.connections.values();
        let waiting = connections.filter_map(|c| c.not_before).filter(|at| *at > now);
        let calls = self.syncs.values().filter_map(|sync| {
            let state = sync.remote.as_ref()?;
            let (_, remote) = sync.plan.remote()?;
            let connection = self.network.connections.get(&remote.connection)?;
            let paced = (!state.is_idle()).then(|| connection.paced(state.pushes() > 0, now));
            [
                paced.filter(|at| *at > now),
                state.next_due(),
                sync.loads.is_empty().then(|| state.poll_due()).flatten(),
            ]
            .into_iter()
            .flatten()
            .min()
        });
        waiting
            .chain(calls)
            .min()
            .map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)))
    }

    /// Does a sync still have calls on their way that it no longer waits for?
    pub(super) fn has_orphans(&self, id: i32) -> bool {
        self.syncs
            .get(&id)
            .and_then(|s| s.remote.as_ref())
            .is_some_and(|state| self.network.orphans(id, state))
    }
}

/// A failure in one line.
fn sentence(failure: &Failure) -> String {
    let more = [&failure.detail, &failure.hint].into_iter().flatten();
    more.fold(failure.message.clone(), |text, more| format!("{text} - {more}"))
}

/// The fault of a connection as a whole among the outcomes of a write.
fn worst(reply: &Reply) -> Option<&Fault> {
    let Reply::Written(outcomes) = reply else { return None };
    let all = outcomes.iter().all(|o| o.result.as_ref().is_err_and(Fault::is_of_connection));
    outcomes.first().filter(|_| all)?.result.as_ref().err()
}

/// Carries a request out; on a network thread.
async fn carry_out(
    connector: &dyn Connector,
    object: &str,
    columns: &[Column],
    request: Request,
) -> Result<Reply, Fault> {
    match request {
        Request::List { after } => {
            connector.list(object, columns, after.as_deref()).await.map(Reply::Page)
        }
        Request::Changes { since } => {
            connector.changes(object, columns, &since).await.map(Reply::Page)
        }
        Request::Fetch { ids } => connector.fetch(object, columns, &ids).await.map(Reply::Fetched),
        Request::Find { field, values } => {
            let name = field.name.clone();
            let columns: Vec<Column> = columns.iter().cloned().chain([field]).collect();
            connector.find(object, &columns, &name, &values).await.map(Reply::Found)
        }
        Request::CreatedSince { at } => {
            connector.created_since(object, columns, &at).await.map(Reply::Found)
        }
        Request::Write(batch) => connector.write(&batch).await.map(Reply::Written),
    }
}
