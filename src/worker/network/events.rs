//! Changes that another system tells as they are committed. What they name is read at once instead of with the next
//! poll. They are hints: whatever is never told comes with the poll. Where they stand is kept with the records that
//! they have named, in the queue, so that a worker that starts is told what happened since.

use super::line::Health;
use super::{Answer, Asked, side};
use crate::connection::CLIENT;
use crate::speech;
use crate::worker::round::Worker;
use crate::worker::transaction::Failure;
use connector::{Event, Events, Fault, FaultKind, Place, Since};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a request waits for something to happen.
const WAIT: Duration = Duration::from_secs(20);
/// When it is tried again to be told: after what passes by itself, and after what a person has to mend. Twice as
/// long after each further failure.
const AFTER_BREAK: Duration = Duration::from_secs(1);
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
const AGAIN_AT_MOST: Duration = Duration::from_secs(600);
/// A stream that breaks is worth a word once it has broken so often.
const BREAKS: u32 = 3;
/// Requests of all objects together that may wait.
pub(super) const MOST: usize = 64;

/// How it is with being told of the changes of one object.
#[derive(Default)]
pub(super) struct Listening {
    /// Where it goes on; `None`: it begins.
    place: Option<Place>,
    asked: bool,
    not_before: Option<Instant>,
    failures: u32,
}

impl Listening {
    /// When it is tried again, after it failed.
    pub(super) fn due(&self) -> Option<Instant> {
        self.not_before.filter(|_| !self.asked)
    }
}

impl Worker {
    /// Asks to be told, for each object that some sync takes changes from, whichever.
    pub(super) fn listen(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let Self { syncs, network, .. } = self;
        // Of each object the highest priority of its syncs, and where all of them stand.
        let mut wanted: BTreeMap<(&str, &str), (u32, Option<&Place>)> = BTreeMap::new();
        for sync in syncs.values().filter(|sync| sync.loads.is_empty()) {
            let Some(state) = &sync.remote else { continue };
            let Some((side, remote)) = sync.plan.remote() else { continue };
            let told = sync.plan.config.real_time && state.connector.serves_events();
            if !told || !sync.plan.listens_to(side) {
                continue;
            }
            let (priority, told) = (sync.plan.config.priority, state.told.as_ref());
            wanted
                .entry((&remote.connection, &remote.object))
                .and_modify(|known| {
                    *known = (known.0.max(priority), known.1.filter(|place| Some(*place) == told));
                })
                .or_insert((priority, told));
        }
        for (name, connection) in &mut network.connections {
            connection.listening.retain(|object, l| {
                l.asked || wanted.contains_key(&(name.as_str(), object.as_str()))
            });
        }
        let mut order: Vec<_> = wanted.into_iter().collect();
        order.sort_by_key(|(_, (priority, _))| std::cmp::Reverse(*priority));
        let objects = order.len();
        for (rank, ((name, object), (_, told))) in order.into_iter().enumerate() {
            if network.listening() >= MOST {
                break;
            }
            let Some(connection) = network.connections.get_mut(name) else { continue };
            let Some(line) = &connection.line else { continue };
            if !connection.checked || connection.health != Health::Ok {
                continue;
            }
            if !connection.listening.contains_key(object) {
                let begun = Listening { place: told.cloned(), ..Listening::default() };
                connection.listening.insert(object.to_owned(), begun);
            }
            let Some(listening) = connection.listening.get_mut(object) else { continue };
            let held = listening.asked || listening.not_before.is_some_and(|at| at > now);
            if held || !line.meter.may_listen(rank, objects) {
                continue;
            }
            listening.asked = true;
            let since = listening.place.clone().map_or(Since::Now, Since::Place);
            let (connector, object) = (line.connector.clone(), object.to_owned());
            network.submit(Asked::Events(name.to_owned(), object.clone()), &connector, |c| {
                Box::pin(async move { Answer::Told(c.events(&object, &[], &since, WAIT).await) })
            })?;
        }
        Ok(())
    }

    pub(super) fn told(
        &mut self,
        name: &str,
        object: &str,
        told: Result<Events, Fault>,
    ) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        let Some(listening) = connection.listening.get_mut(object) else { return Ok(()) };
        listening.asked = false;
        let (mut ids, mut missed) = (BTreeSet::new(), false);
        match told {
            Ok(Events::Next { events, place }) => {
                // What happened before it began is not told.
                missed = listening.place.is_none();
                listening.place = place.or(listening.place.take());
                (listening.failures, listening.not_before) = (0, None);
                if let Some(line) = &connection.line {
                    line.meter.delivered(events.len());
                }
                for event in events {
                    match event {
                        // What the other side made of our own writes comes with the poll.
                        Event::Changed(change) if change.client.as_deref() == Some(CLIENT) => {}
                        Event::Changed(change) => ids.extend(change.ids),
                        Event::Unknown { ids: changed } => ids.extend(changed),
                        Event::Everything { .. } => missed = true,
                    }
                }
            }
            Ok(Events::Lost { .. }) => listening.place = None,
            Err(fault) => {
                listening.failures += 1;
                let breaks = matches!(fault.kind, FaultKind::Transient | FaultKind::Ambiguous);
                let first = if breaks { AFTER_BREAK } else { AFTER_REFUSAL };
                let pause = first.saturating_mul(1 << (listening.failures - 1).min(10));
                listening.not_before = Some(Instant::now() + pause.min(AGAIN_AT_MOST));
                if listening.failures == if breaks { BREAKS } else { 1 } {
                    speech::log(format!(
                        "changes of \"{object}\" of connection \"{name}\" are not told at once, and come with polling: {fault}"
                    ));
                }
            }
        }
        let place = listening.place.clone();
        let ids: Vec<String> = ids.into_iter().collect();
        for sync in self.syncs.values_mut() {
            let is_of = |(_, remote): (merge::Side, &side::Remote)| {
                remote.connection == name && remote.object == object
            };
            if sync.plan.config.real_time && sync.plan.remote().is_some_and(is_of) {
                sync.take_told(&ids, missed, place.as_ref())?;
            }
        }
        Ok(())
    }
}
