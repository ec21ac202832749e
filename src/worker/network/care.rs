//! Looking after connections: connectors, logins, descriptions of objects, and what is said of trouble.

use super::line::{Health, Line};
use super::{Answer, Asked, sentence};
use crate::connection::{self, Rotating};
use crate::engine::plan::Connected;
use crate::engine::remote::needs;
use crate::settings;
use crate::worker::governors::{self, Meter};
use crate::worker::round::Worker;
use crate::worker::transaction::{Failure, refuse, transaction};
use connector::{Fault, FaultKind};
use governor::{Kind, Urgency};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait after trouble with a connection.
const LONGEST: Duration = Duration::from_secs(60);
/// How long trouble that a person has to mend is left alone before it is tried again.
const UNMENDED: Duration = Duration::from_secs(60);
/// Calls that have to wait so long for their turn are worth a word: it is no longer the usual pace.
const HELD: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) fn went_well(&mut self, name: &str) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        let was = connection.health;
        connection.health = Health::Ok;
        connection.meter(None);
        connection.tries = 0;
        connection.not_before = None;
        connection.held_until = None;
        if was != Health::Ok {
            let name = name.to_owned();
            transaction(|| {
                connection::note(&name, "ok", None, None);
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(super) fn went_wrong(&mut self, name: &str, fault: &Fault) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        connection.tries += 1;
        let mends_itself = !matches!(fault.kind, FaultKind::Credentials | FaultKind::Configuration);
        connection.health = if mends_itself { Health::Waiting } else { Health::Unusable };
        let pause = if let Some(pause) = connection.meter(Some(fault)) {
            // The governor holds calls back, and knows if they may go on sooner.
            connection.held_until = Some(Instant::now() + pause);
            pause
        } else {
            let pause = if mends_itself {
                let grown = Duration::from_millis(500 << connection.tries.min(7)).min(LONGEST);
                fault.retry_after.unwrap_or(grown).max(Duration::from_millis(100))
            } else {
                UNMENDED
            };
            // Several calls that fail together are one failure.
            let at = Instant::now() + pause;
            connection.not_before = Some(connection.not_before.map_or(at, |before| before.max(at)));
            pause
        };
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

    /// Says that calls wait for the account's allowance, where that is longer than usual. What they
    /// carry stays as it is.
    pub(super) fn hold_back(&mut self, name: &str, wait: Duration) -> Result<(), Failure> {
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(()) };
        let Some(line) = &connection.line else { return Ok(()) };
        let now = Instant::now();
        let said = connection.held_until.is_some_and(|at| at > now && at < now + wait + HELD);
        // What a person has to mend is the greater trouble.
        if wait < HELD || said || connection.health == Health::Unusable {
            return Ok(());
        }
        let detail = match governors::read(line.account) {
            Some(governors::Reading { used, allowed: Some(allowed), .. }) => format!(
                "{used} of {allowed} calls were used in the last 24 hours, and a fifth is always left to others."
            ),
            _ => "The other side has not said yet how many calls it allows.".to_owned(),
        };
        let reason = refuse(
            "53400",
            "calls wait so that those the account is allowed last".into(),
            &detail,
            "It goes on by itself; sooner where the allowance is raised or less of it is used elsewhere.",
        );
        connection.held_until = Some(now + wait);
        connection.health = Health::Waiting;
        transaction(|| {
            connection::note(name, "waiting", Some(&sentence(&reason)), Some(wait));
            Ok(())
        })
    }

    /// Makes connectors anew whose settings have changed, checks new ones, describes what is wanted.
    pub(super) fn look_after_connections(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.network.connections.keys().cloned().collect();
        for name in names {
            self.keep_secrets(&name)?;
            if let Some(connection) = self.network.connections.get_mut(&name)
                && connection.health == Health::Unusable
                && connection.not_before.is_some()
                && transaction(|| Ok(connection::is_mended(&name)))?
            {
                (connection.not_before, connection.tries) = (None, 0);
            }
            let Some(connection) = self.network.connections.get(&name) else { continue };
            let (known, made) = (connection.generation, connection.line.is_some());
            let made = transaction(|| {
                let server = match connection::by_name(&name) {
                    Ok(connection) => connection.server,
                    Err(failure) => return Ok(Some((0, Err(failure)))),
                };
                let generation = connection::changed(server);
                if generation == known && made {
                    return Ok(None);
                }
                let line = connection::connector(server).and_then(|connector| {
                    let account = connection::account(server);
                    let line = Line { connector, account, meter: Meter::new(account) };
                    let new = connection::connector_with_new_secret(server)?;
                    let all = [Some(&line.connector), new.as_ref()].into_iter().flatten();
                    let rotating = all.filter_map(|c| Rotating::of(c, server)).collect::<Vec<_>>();
                    Ok((line, new, rotating))
                });
                Ok(Some((generation, line)))
            })?;
            let Some(connection) = self.network.connections.get_mut(&name) else { continue };
            match made {
                None => {}
                Some((generation, Ok((line, new_secret, rotating)))) => {
                    connection.generation = generation;
                    connection.line = Some(line);
                    connection.new_secret = new_secret;
                    connection.checked = false;
                    connection.not_before = None;
                    connection.tries = 0;
                    // Another user, or another version of the interface, may see other fields.
                    let objects: Vec<String> = connection.described.keys().cloned().collect();
                    objects.iter().for_each(|object| connection.want(object, 0));
                    self.network.rotating.entry(name.clone()).or_default().extend(rotating);
                    self.replace_connector(&name);
                }
                Some((generation, Err(failure))) => {
                    let known = connection.generation == generation
                        && connection.health == Health::Unusable;
                    connection.generation = generation;
                    connection.line = None;
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

    /// Stores the secrets that the other side has handed out, and takes over those that somebody else was given.
    pub(super) fn keep_secrets(&mut self, name: &str) -> Result<(), Failure> {
        let Some(rotating) = self.network.rotating.get_mut(name) else { return Ok(()) };
        if rotating.is_empty() {
            return Ok(());
        }
        let stored: Vec<_> =
            transaction(|| Ok(rotating.iter().map(Rotating::settle).collect::<Vec<_>>()))?;
        for (rotating, stored) in rotating.iter_mut().zip(stored) {
            if let Some(stored) = stored {
                rotating.settled(stored);
            }
        }
        rotating.retain(|r| !r.is_over());
        Ok(())
    }

    /// The syncs of a connection go on with its new settings.
    fn replace_connector(&mut self, name: &str) {
        let Some(line) = self.network.connections.get(name).and_then(|c| c.line.as_ref()) else {
            return;
        };
        let connector = Arc::clone(&line.connector);
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
        let Some(line) = &mut connection.line else { return Ok(()) };
        let connector = Arc::clone(&line.connector);
        let now = Instant::now();
        if connection.checking || connection.not_before.is_some_and(|at| at > now) {
            return Ok(());
        }
        if connection.new_secret.is_some() {
            // Calls of a connector of its own.
            let wait = Meter::new(line.account).leave(Urgency::Change, Kind::Other);
            let new = connection.new_secret.take_if(|_| wait.is_zero());
            let Some(new) = new else { return self.hold_back(name, wait) };
            connection.checking = true;
            return self.network.submit(Asked::CheckNew(name.to_owned()), &new, |c| {
                Box::pin(async move { Answer::Checked(c.check().await) })
            });
        }
        if !connection.checked {
            let wait = line.meter.leave(Urgency::Change, Kind::Other);
            if !wait.is_zero() {
                return self.hold_back(name, wait);
            }
            connection.checking = true;
            return self.network.submit(Asked::Check(name.to_owned()), &connector, |c| {
                Box::pin(async move { Answer::Checked(c.check().await) })
            });
        }
        let again = Duration::from_secs(settings::DESCRIBE_INTERVAL.get() as u64);
        let due = connection
            .described
            .iter()
            .find(|(_, at)| now.duration_since(**at) > again)
            .map(|(object, _)| object.clone());
        let wanted = connection.wanted.iter().find(|w| w.at <= now).map(|w| w.object.clone());
        let urgency = if wanted.is_some() { Urgency::Change } else { Urgency::Background };
        let Some(object) = wanted.or(due) else { return Ok(()) };
        let under_way = self.network.asked.values().any(
            |a| matches!(a, Asked::Describe(n, o) if n == name && o.eq_ignore_ascii_case(&object)),
        );
        if under_way {
            return Ok(());
        }
        let wait = line.meter.leave(urgency, Kind::Other);
        if !wait.is_zero() {
            return self.hold_back(name, wait);
        }
        let of_parents = transaction(|| Ok(needs::of_object(name, &object)))?;
        let asked = Asked::Describe(name.to_owned(), object.clone());
        self.network.submit(asked, &connector, move |c| {
            Box::pin(async move { Answer::Described(c.describe(&object, &of_parents).await) })
        })
    }
}
