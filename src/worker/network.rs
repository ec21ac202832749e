//! The worker's calls to other systems: what its syncs want to ask leaves through the bridge as the
//! connection allows, and the answers go back to the syncs. What concerns a connection as a whole (an
//! outage, refused credentials, a used-up allowance) is kept here and burns no record's attempts.

mod care;
mod events;
mod families;
mod line;
mod polling;
mod polls;

use self::line::{Connection, Health, refused_pause, urgency};
use super::round::Worker;
use super::transaction::{Failure, transaction};
use crate::connection;
use crate::engine;
use crate::engine::pace;
use crate::engine::plan::{Connected, Plan, Stored};
use crate::engine::remote::poll::{self, Poll};
use crate::engine::remote::{Reply, Request, State, bulk, side};
use crate::speech;
use crate::sql::{self, Arg};
use bridge::{Bridge, Outcome};
use connector::{Column, Connector, Fault, FaultKind, Object};
use governor::Turns;
use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Calls of all syncs together that may be on their way.
const IN_FLIGHT: usize = 64;

/// What a network thread brings back.
enum Answer {
    Checked(Result<connector::Account, Fault>),
    Described(Result<Object, Fault>),
    /// With how many requests it took.
    Replied(Result<Reply, Fault>, u64),
    Told(Result<connector::Events, Fault>),
    Together(Result<Vec<Result<Reply, Fault>>, Fault>),
}

/// What was asked.
enum Asked {
    Check(String),
    /// The same with a secret that is to take the place of the one in use.
    CheckNew(String),
    Describe(String, String),
    /// A call of a sync, by its number there.
    Call(i32, u64, String),
    /// Calls of several syncs in one.
    Together(Vec<polls::OfSync>, String),
    /// What happened to the records of an object.
    Events(String, String),
}

/// All that a worker has to do with other systems.
#[derive(Default)]
pub struct Network {
    bridge: Option<Bridge<Answer>>,
    next: u64,
    asked: HashMap<u64, Asked>,
    connections: HashMap<String, Connection>,
    /// Of each connection, the connectors that may be handed new secrets; those too that were replaced and still have
    /// calls on their way.
    rotating: HashMap<String, Vec<connection::Rotating>>,
    /// Which sync calls next where calls have to wait.
    turns: Turns,
    /// The same for questions that leave together.
    poll_turns: Turns,
    /// When it is seen again how often the connections' syncs may poll.
    polling_due: Option<Instant>,
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
            let options = bridge::Options { threads: 1, in_flight: IN_FLIGHT + events::MOST };
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

    /// The connector of a connection on which calls of several syncs may leave as one: after trouble a single one goes
    /// ahead and finds out.
    fn connector_for_several(&self, name: &str) -> Option<Arc<dyn Connector>> {
        let connection = self.connections.get(name)?;
        let ready = connection.checked && connection.may_call() && connection.tries == 0;
        connection.line.as_ref().filter(|_| ready).map(|line| Arc::clone(&line.connector))
    }

    fn room(&self) -> bool {
        self.asked.len() - self.listening() < IN_FLIGHT
    }

    /// Requests that wait for something to happen.
    fn listening(&self) -> usize {
        self.asked.values().filter(|asked| matches!(asked, Asked::Events(..))).count()
    }

    /// Calls of a sync that are still on their way, though the sync no longer waits for them.
    fn orphans(&self, sync: i32, state: &State) -> bool {
        state.in_flight() == 0
            && self.asked.values().any(|a| match a {
                Asked::Call(id, ..) => *id == sync,
                Asked::Together(of, _) => of.iter().any(|(id, _)| *id == sync),
                _ => false,
            })
    }
}

impl Worker {
    /// Makes the plan of a sync with another system ready to run; for any other sync does nothing.
    ///
    /// # Errors
    /// With [`side::UNDESCRIBED`] where the other system has to be asked first.
    pub(super) fn connect(&mut self, plan: &mut Plan) -> Result<Option<State>, Failure> {
        let Some((_, remote)) = plan.remote() else { return Ok(None) };
        let (name, object) = (remote.connection.clone(), remote.object.clone());
        let connection =
            self.network.connections.entry(name.clone()).or_insert_with(Connection::new);
        let Some(line) = &connection.line else {
            return Err(Failure::new(side::UNDESCRIBED, "the connection is not ready"));
        };
        if !connection.checked {
            return Err(Failure::new(side::UNDESCRIBED, "the connection has not been checked"));
        }
        let connector = Arc::clone(&line.connector);
        // As another worker may have stored it.
        connection.described.entry(object).or_insert_with(Instant::now);
        plan.connector = Some(Connected(Arc::clone(&connector)));
        let id = plan.id;
        let (polled, told) = transaction(|| Ok((poll::stored(id), poll::stored_told(id))))?;
        let poll = Poll::new(polled, plan.config.polling_interval);
        let mut state = State::new(connector, connection.clock_offset_ms, poll);
        state.told = told;
        Ok(Some(state))
    }

    /// A sync waits for its object to be described, or has so often failed with it as it is.
    pub(super) fn want_description(&mut self, stored: &Stored, failures: u32) {
        let Some((name, object)) = &stored.object else { return };
        let connection =
            self.network.connections.entry(name.clone()).or_insert_with(Connection::new);
        connection.want(object, failures);
    }

    /// Forgets the objects that no sync has any more.
    pub(super) fn keep_descriptions<'a>(&mut self, of: impl Iterator<Item = &'a Stored> + Clone) {
        for (name, connection) in &mut self.network.connections {
            let is_used = |object: &str| {
                of.clone()
                    .filter_map(|stored| stored.object.as_ref())
                    .any(|(c, o)| c == name && o.eq_ignore_ascii_case(object))
            };
            connection.wanted.retain(|w| is_used(&w.object));
            connection.described.retain(|object, _| is_used(object));
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
        self.pace_polling();
        self.let_polls_out()?;
        self.let_families_out()?;
        self.let_out()?;
        self.listen()?;
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
                (Asked::Events(name, object), Outcome::Done(Answer::Told(told))) => {
                    self.told(&name, &object, told)?;
                }
                (Asked::Events(name, object), _) => self.told(&name, &object, Err(lost()))?,
                (Asked::Together(of, name), Outcome::Done(Answer::Together(result))) => {
                    self.replied_together(&of, &name, result)?;
                }
                (Asked::Together(of, name), _) => {
                    self.replied_together(&of, &name, Err(lost()))?;
                }
                (
                    Asked::Call(sync, call, name),
                    Outcome::Done(Answer::Replied(result, requests)),
                ) => {
                    self.replied(sync, call, &name, result)?;
                    self.count_requests(sync, requests)?;
                }
                (Asked::Call(sync, call, name), _) => {
                    self.replied(sync, call, &name, Err(lost()))?
                }
            }
        }
        Ok(came)
    }

    fn checked(
        &mut self,
        name: &str,
        result: Result<connector::Account, Fault>,
    ) -> Result<(), Failure> {
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
    fn checked_new(
        &mut self,
        name: &str,
        result: &Result<connector::Account, Fault>,
    ) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        connection.checking = false;
        // The login may have replaced it already.
        self.keep_secrets(name)?;
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
                let Some(connection) = self.network.connections.get_mut(name) else {
                    return Ok(());
                };
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
                    connection.wanted.retain(|w| !w.object.eq_ignore_ascii_case(object));
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
                    connection.meter(Some(&fault));
                    connection.described.remove(object);
                    connection.want(object, 0);
                    for wanted in &mut connection.wanted {
                        if wanted.object.eq_ignore_ascii_case(object) {
                            wanted.failures += 1;
                            wanted.at = Instant::now() + refused_pause(wanted.failures);
                        }
                    }
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
        call: u64,
        name: &str,
        result: Result<Reply, Fault>,
    ) -> Result<(), Failure> {
        self.heard(name, &result)?;
        self.deliver(sync, call, name, result)
    }

    /// What an answer says of the connection.
    fn heard(&mut self, name: &str, result: &Result<Reply, Fault>) -> Result<(), Failure> {
        match result {
            Ok(reply) => match worst(reply) {
                Some(fault) => self.went_wrong(name, fault)?,
                None => self.went_well(name)?,
            },
            Err(fault) if fault.is_of_connection() => self.went_wrong(name, fault)?,
            Err(fault) => {
                if let Some(connection) = self.network.connections.get_mut(name) {
                    connection.meter(Some(fault));
                }
            }
        }
        Ok(())
    }

    /// Hands an answer to the sync that waits for it.
    fn deliver(
        &mut self,
        sync: i32,
        call: u64,
        name: &str,
        result: Result<Reply, Fault>,
    ) -> Result<(), Failure> {
        let Some(served) = self.syncs.get_mut(&sync) else { return Ok(()) };
        let object = served.plan.remote().map(|(_, remote)| remote.object.clone());
        let Some(state) = served.remote.as_mut() else { return Ok(()) };
        if let Err(fault) = state.answer(call, whole(result)) {
            let failure = connection::fault_to_failure(&fault);
            self.note_trouble(sync, Some(&failure))?;
            if let Some(sync) = self.syncs.get_mut(&sync) {
                sync.trouble = Some(failure);
            }
            // The object may have changed.
            if let (Some(connection), Some(object)) =
                (self.network.connections.get_mut(name), object)
            {
                connection.want(&object, 1);
            }
        }
        Ok(())
    }

    /// Lets calls of syncs leave, as far as their connections allow.
    fn let_out(&mut self) -> Result<(), Failure> {
        for id in self.network.turns.begin(&self.order) {
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
                // After trouble one call goes ahead and finds out.
                let limit = if connection.tries > 0 { 1 } else { parallel };
                if !connection.checked || !connection.may_call() || !state.is_ready(limit) {
                    break;
                }
                let wait = connection.leave(urgency(state), state.next_kind());
                if !wait.is_zero() {
                    self.network.turns.waits();
                    self.hold_back(&name, wait)?;
                    break;
                }
                note_call(&sync.plan)?;
                self.network.turns.called(id);
                let Some((number, request)) = state.next() else { break };
                let connector = Arc::clone(&state.connector);
                let asked = Asked::Call(id, number, name);
                self.network.submit(asked, &connector, move |c| {
                    Box::pin(async move {
                        let call = carry_out(&*c, &object, &columns, request);
                        let (result, requests) = connector::counting(call).await;
                        Answer::Replied(result, requests)
                    })
                })?;
            }
        }
        Ok(())
    }

    /// A call that took more than one request counts as so many, now that it is known.
    fn count_requests(&mut self, sync: i32, requests: u64) -> Result<(), Failure> {
        let more = requests.saturating_sub(1) as usize;
        let Some(sync) = self.syncs.get_mut(&sync).filter(|_| more > 0) else { return Ok(()) };
        if let Some(state) = &mut sync.remote {
            state.pace.take(more);
        }
        note_calls(&sync.plan, more)
    }

    /// How long until something here is due.
    pub(super) fn network_due(&self) -> Option<Duration> {
        let now = Instant::now();
        let connections = self.network.connections.values();
        let waiting = connections
            .flat_map(|c| {
                let told = c.listening.values().filter_map(events::Listening::due);
                c.not_before.into_iter().chain(c.wanted.iter().map(|w| w.at)).chain(told)
            })
            .filter(|at| *at > now);
        let calls = self.syncs.values().filter_map(|sync| {
            let state = sync.remote.as_ref()?;
            let (_, remote) = sync.plan.remote()?;
            let connection = self.network.connections.get(&remote.connection)?;
            let line = connection.line.as_ref().filter(|_| state.is_ready(usize::MAX));
            let wait = line.map(|line| line.meter.wait(urgency(state)));
            [
                wait.filter(|wait| !wait.is_zero()).map(|wait| now + wait),
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

/// A call is counted before it leaves: one that cannot be does not.
fn note_call(plan: &Plan) -> Result<(), Failure> {
    note_calls(plan, 1)
}

fn note_calls(plan: &Plan, count: usize) -> Result<(), Failure> {
    if plan.config.rate_limits.is_empty() {
        return Ok(());
    }
    transaction(|| {
        pace::note(plan, count);
        Ok(())
    })
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

/// A write of which each record was refused for what the object is: as one refusal of the whole.
fn whole(result: Result<Reply, Fault>) -> Result<Reply, Fault> {
    match result {
        Ok(Reply::Written(outcomes)) => {
            let of_schema = |o: &connector::Outcome| {
                o.result.as_ref().is_err_and(|fault| fault.kind == FaultKind::Schema)
            };
            let all = !outcomes.is_empty() && outcomes.iter().all(of_schema);
            let first = outcomes.first().filter(|_| all).and_then(|o| o.result.as_ref().err());
            match first.cloned() {
                Some(fault) => Err(fault),
                None => Ok(Reply::Written(outcomes)),
            }
        }
        other => other,
    }
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
        Request::Job(ask) => bulk::carry_out(connector, object, columns, ask).await.map(Reply::Job),
    }
}
