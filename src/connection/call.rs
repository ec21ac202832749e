//! A call to the other side from a person's own backend: a network thread carries it out, and the
//! backend waits for it as it waits for anything, so that Ctrl-C and timeouts end it at once.

use super::catalog::Connection;
use super::flow;
use super::rotation::Rotating;
use super::{courier, link, secret};
use crate::settings;
use crate::speech;
use crate::worker::governors::Meter;
use crate::worker::transaction::{Failure, refuse};
use bridge::{BoxFuture, Bridge, Options, Outcome};
use connector::{Connector, Fault};
use governor::{Kind, Urgency};
use pgrx::pg_sys::{self, Oid};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The server counts the descriptors that it did not open itself: the bell, and what the runtime and
/// one connection take.
struct Descriptors(u32);

impl Descriptors {
    fn reserve() -> Self {
        const TAKEN: u32 = 5;
        for _ in 0..TAKEN {
            // SAFETY: counts.
            unsafe { pg_sys::ReserveExternalFD() };
        }
        Self(TAKEN)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        for _ in 0..self.0 {
            // SAFETY: counts.
            unsafe { pg_sys::ReleaseExternalFD() };
        }
    }
}

/// The right to log in where each login uses up the secret: one backend after the other. To be taken before the
/// connector is made, which then has the newest.
pub struct Turn(Option<Oid>);

impl Turn {
    /// # Errors
    /// This server is a standby, where nothing can be stored.
    pub fn take(connection: &Connection) -> Result<Self, Failure> {
        let rotates =
            secret::flow_of(connection).is_ok_and(|flow| flow.kind == flow::Kind::RefreshToken);
        if !rotates {
            return Ok(Self(None));
        }
        // SAFETY: inside a transaction; its end gives the lock back where an error keeps us from it.
        unsafe {
            if pg_sys::RecoveryInProgress() {
                return Err(refuse(
                    "25006",
                    format!("connection \"{}\" cannot be used on a standby", connection.name),
                    "A login may replace its refresh token, and the new one cannot be stored here.",
                    "Ask the primary.",
                ));
            }
            Self::lock(connection.server);
        }
        Ok(Self(Some(connection.server)))
    }

    /// # Safety
    /// Inside a transaction.
    unsafe fn lock(server: Oid) {
        // SAFETY: the caller's promise.
        unsafe {
            pg_sys::LockDatabaseObject(
                pg_sys::ForeignServerRelationId,
                server,
                0,
                pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE,
            );
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(server) = self.0 else { return };
        // SAFETY: taken above.
        unsafe {
            pg_sys::UnlockDatabaseObject(
                pg_sys::ForeignServerRelationId,
                server,
                0,
                pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE,
            );
        }
    }
}

/// Calls of one connector from a person's own backend. They wait for no pace and may use the reserve of
/// the account's allowance, but are counted like all others.
pub struct Caller {
    name: String,
    connector: Arc<dyn Connector>,
    meter: Meter,
    rotating: Option<Rotating>,
    /// One network thread for all calls: a connection of the client lives no longer than the thread that made it.
    thread: Option<Thread>,
}

/// A network thread, and what it takes of the descriptors of this backend.
struct Thread {
    bridge: Bridge<Box<dyn Any + Send>>,
    _descriptors: Descriptors,
}

/// How much a call matters where all calls of the account are used up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// It is an error.
    Yields,
    /// It is made all the same: to find out whether it still is so.
    Insists,
}

impl Caller {
    pub fn new(connection: &Connection, connector: Arc<dyn Connector>) -> Self {
        let meter = Meter::new(link::account(connection.server));
        let rotating = Rotating::of(&connector, connection.server);
        Self { name: connection.name.clone(), connector, meter, rotating, thread: None }
    }

    /// Has a call carried out and waits for what comes of it, `sync_ext.call_timeout` at most. An
    /// interrupt is raised as an error; what is in flight is dropped then.
    ///
    /// # Errors
    /// No calls are left, there is no answer in time, or no thread to carry it out.
    pub fn ask<T: Send + 'static>(
        &mut self,
        resolve: Resolve,
        make: impl FnOnce(Arc<dyn Connector>) -> BoxFuture<'static, Result<T, Fault>> + Send + 'static,
    ) -> Result<Result<T, Fault>, Failure> {
        if resolve == Resolve::Insists {
            self.meter.insist();
        } else if self.meter.used_up() || !self.meter.leave(Urgency::Person, Kind::Other).is_zero()
        {
            return Err(refuse(
                "53400",
                format!("the calls of connection \"{}\" are used up", self.name),
                "Its account allows a number of calls in 24 hours, which all that use it share.",
                &format!(
                    "SELECT * FROM sync.connections says how many. Wait, have the allowance raised, and look again with sync.test_connection({}).",
                    crate::sql::literal(&self.name)
                ),
            ));
        }
        let connector = Arc::clone(&self.connector);
        let (name, rotating) = (&self.name, &mut self.rotating);
        // Where it ends otherwise than with an answer, so does the thread.
        let mut thread = match self.thread.take() {
            Some(thread) => thread,
            None => Thread::start()?,
        };
        let boxed = move || -> BoxFuture<'static, Box<dyn Any + Send>> {
            Box::pin(async move { Box::new(make(connector).await) as Box<dyn Any + Send> })
        };
        let answer = wait_for(name, &mut thread.bridge, boxed, || keep(name, rotating))?;
        let Ok(answer) = answer.downcast::<Result<T, Fault>>() else {
            return Err(Failure::new("XX000", "an answer does not fit its question"));
        };
        self.thread = Some(thread);
        self.meter.answered(&*self.connector, answer.as_ref().as_ref().err());
        Ok(*answer)
    }
}

impl Drop for Caller {
    /// What was given up in the middle has made its requests as well.
    fn drop(&mut self) {
        self.meter.count(&*self.connector);
    }
}

/// Stores a new refresh token; if nothing else can, this transaction does.
fn keep(connection: &str, rotating: &mut Option<Rotating>) {
    let Some(rotating) = rotating else { return };
    let stored = rotating.deliver(|server, option, before, now| {
        // SAFETY: a plain global.
        let may_write = unsafe { !pg_sys::XactReadOnly };
        courier::deliver(server, option, before, now)
            || (may_write && secret::replace(server, option, before, now))
    });
    if !stored {
        speech::warning(format!(
            "the new refresh token of connection \"{connection}\" could not be stored: authorize the app again, and store the token with sync.set_secret"
        ));
    }
}

impl Thread {
    fn start() -> Result<Self, Failure> {
        let descriptors = Descriptors::reserve();
        let bridge = Bridge::new(Options { threads: 1, in_flight: 1 });
        Ok(Self { bridge: bridge.map_err(|error| no_thread(&error))?, _descriptors: descriptors })
    }
}

fn no_thread(error: &dyn std::fmt::Display) -> Failure {
    refuse("53000", "a network thread cannot be started".into(), &format!("{error}."), "")
}

/// `tend` is called whenever something may have happened.
fn wait_for<T: Send + 'static>(
    connection: &str,
    bridge: &mut Bridge<T>,
    make: impl FnOnce() -> BoxFuture<'static, T> + Send + 'static,
    mut tend: impl FnMut(),
) -> Result<T, Failure> {
    bridge.submit(0, make).map_err(|error| no_thread(&error))?;
    let limit = Duration::from_millis(settings::CALL_TIMEOUT.get().max(0) as u64);
    let begun = Instant::now();
    loop {
        tend();
        pgrx::check_for_interrupts!();
        bridge.clear();
        match bridge.try_recv().map(|reply| reply.outcome) {
            Some(Outcome::Done(answer)) => {
                tend();
                return Ok(answer);
            }
            Some(Outcome::Lost) => {
                let said = bridge.said().join("; ");
                return Err(refuse(
                    "XX000",
                    format!("a call to connection \"{connection}\" came to no end"),
                    &said,
                    "This is a defect of sync_ext.",
                ));
            }
            None => {}
        }
        // A thread that has died rings too.
        if bridge.tend().map_err(|error| no_thread(&error))? > 0 {
            continue;
        }
        let Some(left) = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) else {
            return Err(refuse(
                "08006",
                format!("connection \"{connection}\" did not answer in time"),
                &format!("There was no answer within {} ms.", limit.as_millis()),
                "Try again, or increase sync_ext.call_timeout.",
            ));
        };
        // SAFETY: waits on this backend's latch and on a descriptor that the bridge keeps open.
        unsafe {
            pg_sys::WaitLatchOrSocket(
                pg_sys::MyLatch,
                (pg_sys::WL_LATCH_SET
                    | pg_sys::WL_SOCKET_READABLE
                    | pg_sys::WL_TIMEOUT
                    | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
                bridge.fd(),
                left.as_millis().max(1) as std::ffi::c_long,
                pg_sys::PG_WAIT_EXTENSION,
            );
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
}
