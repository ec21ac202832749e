//! What a worker knows of a connection: its connector, how it is doing, what it waits for.

use super::events::Listening;
use crate::engine::remote::State;
use crate::worker::governors::{Account, Meter};
use connector::{Connector, Fault};
use governor::{Kind, Urgency};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing is known yet.
    New,
    Ok,
    /// It passes by itself.
    Waiting,
    /// A person has to do something about it.
    Unusable,
}

/// An object that is to be described.
pub(super) struct Wanted {
    pub(super) object: String,
    /// Not before then: something is wrong that a person has to mend.
    pub(super) at: Instant,
    pub(super) failures: u32,
}

/// The connector of a connection, and the account that its calls count for.
pub(super) struct Line {
    pub(super) connector: Arc<dyn Connector>,
    pub(super) account: Account,
    pub(super) meter: Meter,
}

pub(super) struct Connection {
    pub(super) line: Option<Line>,
    /// With a secret that has still to prove itself.
    pub(super) new_secret: Option<Arc<dyn Connector>>,
    /// What the settings and secrets were when the connector was made.
    pub(super) generation: u64,
    pub(super) health: Health,
    pub(super) tries: u32,
    pub(super) not_before: Option<Instant>,
    pub(super) checked: bool,
    pub(super) checking: bool,
    pub(super) clock_offset_ms: i64,
    /// Calls wait for the account's allowance, and were said to go on at this time.
    pub(super) held_until: Option<Instant>,
    /// The objects whose changes are told.
    pub(super) listening: HashMap<String, Listening>,
    /// Objects to be described, and those that were, with when.
    pub(super) wanted: Vec<Wanted>,
    pub(super) described: HashMap<String, Instant>,
}

impl Connection {
    pub(super) fn new() -> Self {
        Self {
            line: None,
            new_secret: None,
            generation: 0,
            health: Health::New,
            tries: 0,
            not_before: None,
            checked: false,
            checking: false,
            clock_offset_ms: 0,
            held_until: None,
            listening: HashMap::new(),
            wanted: Vec::new(),
            described: HashMap::new(),
        }
    }

    pub(super) fn may_call(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// How long the next call has to wait for the account's allowance; if it need not, it has been counted.
    pub(super) fn leave(&mut self, urgency: Urgency, kind: Kind) -> Duration {
        self.line.as_mut().map_or(Duration::ZERO, |line| line.meter.leave(urgency, kind))
    }

    /// An object is to be described. After so many failures with it as it was described last it is
    /// looked at later, to see whether it was mended.
    pub(super) fn want(&mut self, object: &str, failures: u32) {
        if !self.wanted.iter().any(|w| w.object.eq_ignore_ascii_case(object)) {
            let at = Instant::now() + refused_pause(failures);
            self.wanted.push(Wanted { object: object.to_owned(), at, failures });
        }
    }

    /// Passes on what an answer says of the account's allowance; after a refusal for want of calls returns
    /// how long they wait.
    pub(super) fn meter(&mut self, fault: Option<&Fault>) -> Option<Duration> {
        let line = self.line.as_mut()?;
        line.meter.answered(&*line.connector, fault)
    }
}

/// When an object that could not be used as it is is described anew.
pub(super) fn refused_pause(failures: u32) -> Duration {
    Duration::from_secs(5 * u64::from(failures)).min(Duration::from_secs(300))
}

/// Changes of rows go at once where they can, reading gives way.
pub(super) fn urgency(state: &State) -> Urgency {
    if state.pushes() > 0 { Urgency::Change } else { Urgency::Background }
}
