//! Changes as events of the Pub/Sub API: one stream for each object, which stays open between calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as PlainMutex, PoisonError};
use std::time::{Duration, SystemTime};

use connector::{Change, Column, Deed, Event, Events, Fault, Place, Since};
use pubsub::{ChangeType, Field, Identity, Kind as Told, Start, Subscription, Trouble};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::client::Salesforce;
use crate::moment::Moment;
use crate::session::Session;
use crate::{id, soql, value};

/// Most events of one answer.
const MOST_EVENTS: usize = 200;

/// What the first byte of a place says of the others: a replay id, or the number of a stream that has told nothing.
const REPLAY: u8 = b'r';
const STREAM: u8 = b's';

/// The streams that are open, by their objects. Calls for one object come one after the other.
#[derive(Default)]
pub(crate) struct Streams(PlainMutex<HashMap<String, Arc<Mutex<Option<Open>>>>>);

/// A stream, and where it stands.
pub(crate) struct Open {
    subscription: Subscription,
    place: Place,
    /// With whose session it was begun.
    session: Arc<Session>,
}

impl Streams {
    fn of(&self, object: &str) -> Arc<Mutex<Option<Open>>> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(streams.entry(object.to_owned()).or_default())
    }
}

impl Salesforce {
    pub(crate) async fn next_events(
        &self,
        object: &str,
        columns: &[Column],
        since: &Since,
        wait: Duration,
    ) -> Result<Events, Fault> {
        soql::check_name(object)?;
        let until = Instant::now() + wait;
        let slot = self.streams.of(object);
        let mut slot = slot.lock().await;
        // Out of its slot while it is read: a call that is given up in the middle may have taken events, and the
        // next one begins a stream anew.
        let going_on = slot.take().filter(|open| *since == Since::Place(open.place.clone()));
        let mut dead = None;
        let mut open = match going_on {
            Some(open) => open,
            None => match self.begin(object, since, None).await? {
                Ok(open) => open,
                Err(lost) => return Ok(lost),
            },
        };
        if *since == Since::Now {
            let place = Some(open.place.clone());
            *slot = Some(open);
            return Ok(Events::Next { events: Vec::new(), place });
        }
        let mut events = Vec::new();
        let mut moved = false;
        let mut taken = 0;
        // Of what tells nothing, as that the stream is alive, there may be more than time.
        while events.len() < MOST_EVENTS && (taken < MOST_EVENTS || Instant::now() < until) {
            // For the first there is time; the others are taken as far as they are there.
            let limit = if events.is_empty() { until } else { Instant::now() };
            let Ok(next) = timeout_at(limit, open.subscription.next()).await else { break };
            match next {
                Ok(event) => {
                    moved = true;
                    taken += 1;
                    open.place = replay(&event.replay_id);
                    events.extend(translate(object, columns, event.kind));
                }
                // What was told before stands; the next call meets the trouble, if it lasts.
                Err(_) if moved => {
                    return Ok(Events::Next { events, place: Some(open.place) });
                }
                Err(Trouble::Lost(fault)) => return Ok(lost(fault.message)),
                Err(Trouble::Session(fault)) if dead.is_some() => {
                    return Err(self.redacted(fault, Some(&open.session)));
                }
                Err(Trouble::Session(_)) => {
                    dead = Some(open.session.login);
                    open = match self.begin(object, since, dead).await? {
                        Ok(open) => open,
                        Err(lost) => return Ok(lost),
                    };
                }
                Err(Trouble::Fault(fault)) => return Err(self.redacted(fault, Some(&open.session))),
            }
        }
        let place = moved.then(|| open.place.clone());
        *slot = Some(open);
        Ok(Events::Next { events, place })
    }

    /// A stream that begins there, or the answer that nobody can go on from there. `dead` is a login whose session
    /// is not accepted any more.
    async fn begin(
        &self,
        object: &str,
        since: &Since,
        dead: Option<u64>,
    ) -> Result<Result<Open, Events>, Fault> {
        let client = self.pubsub.as_ref().map_err(Clone::clone)?;
        let (start, place) = match since {
            Since::Now => (Start::Latest, new_stream()),
            Since::Place(place) => match place.0.split_first() {
                Some((&REPLAY, [])) => {
                    let why = "an event told no place to go on from";
                    return Ok(Err(lost(why.to_owned())));
                }
                Some((&REPLAY, replay_id)) => (Start::After(replay_id.to_vec()), place.clone()),
                Some((&STREAM, _)) => {
                    let why = "the stream of events ended before it told anything";
                    return Ok(Err(lost(why.to_owned())));
                }
                _ => return Ok(Err(lost("this is no place in a stream of events".to_owned()))),
            },
        };
        let topic = topic(object);
        let mut dead = dead;
        let mut fresh = dead.is_some();
        loop {
            let session = self.session(dead).await?;
            let identity = Identity {
                token: session.token.clone(),
                instance_url: session.origin.clone(),
                org_id: session.org_id.clone(),
            };
            match client.subscribe(&identity, &topic, &start).await {
                Ok(subscription) => return Ok(Ok(Open { subscription, place, session })),
                Err(Trouble::Lost(fault)) => return Ok(Err(lost(fault.message))),
                Err(Trouble::Session(_)) if !fresh => {
                    dead = Some(session.login);
                    fresh = true;
                }
                Err(trouble) => return Err(self.redacted(trouble.into_fault(), Some(&session))),
            }
        }
    }
}

/// `/data/AccountChangeEvent`, `/data/Employee__ChangeEvent` (Change Data Capture guide, subscription channels).
fn topic(object: &str) -> String {
    match object.strip_suffix("__c") {
        Some(stem) => format!("/data/{stem}__ChangeEvent"),
        None => format!("/data/{object}ChangeEvent"),
    }
}

fn replay(replay_id: &[u8]) -> Place {
    Place([&[REPLAY], replay_id].concat())
}

/// The place of a stream that has told nothing: no other stream, of any process, is in the same.
fn new_stream() -> Place {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Place(
        [&[STREAM][..], &now.as_nanos().to_be_bytes(), &std::process::id().to_be_bytes()].concat(),
    )
}

fn lost(why: String) -> Events {
    Events::Lost { why }
}

/// What an event says of this object, in the values of its columns.
fn translate(object: &str, columns: &[Column], told: Told) -> Option<Event> {
    let own = |entity: &str| entity.eq_ignore_ascii_case(object);
    let everything = |why: String| Some(Event::Everything { why });
    match told {
        Told::Keepalive => None,
        Told::Unreadable { why } => everything(why),
        Told::Overflow { entity } => own(&entity).then(|| Event::Everything {
            why: "a transaction changed more records than it tells of".to_owned(),
        }),
        Told::Gap { entity, ids, .. } if own(&entity) => match records(&ids) {
            Some(ids) => Some(Event::Unknown { ids }),
            None => everything("records changed that are not named".to_owned()),
        },
        Told::Changed(change) if own(&change.entity) => match records(&change.ids) {
            Some(ids) => Some(Event::Changed(in_columns(columns, &change, ids))),
            None => everything("a change of records that are not named".to_owned()),
        },
        Told::Gap { .. } | Told::Changed(_) => None,
    }
}

/// Ids in their long form; nothing where one of them is none, as a wildcard is, or there are none at all.
fn records(ids: &[String]) -> Option<Vec<String>> {
    let good = !ids.is_empty() && ids.iter().all(|id| id::is_id(id));
    good.then(|| ids.iter().map(|id| id::long(id)).collect())
}

fn in_columns(columns: &[Column], change: &pubsub::Change, ids: Vec<String>) -> Change {
    let deed = match change.change {
        ChangeType::Created => Deed::Created,
        ChangeType::Updated => Deed::Updated,
        ChangeType::Deleted => Deed::Deleted,
        ChangeType::Undeleted => Deed::Undeleted,
    };
    let named =
        |name: &str| columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
    let mut values: Vec<(usize, Option<String>)> = Vec::new();
    let mut untold: Vec<usize> = Vec::new();
    for (field, told) in &change.fields {
        untold.extend(compound(columns, field));
        let Some(at) = named(&field.rest_name()) else { continue };
        match value::from_event(&columns[at], told) {
            Some(value) => values.push((at, value)),
            None => untold.push(at),
        }
    }
    for field in &change.untold {
        untold.extend(compound(columns, field));
        untold.extend(named(&field.rest_name()));
    }
    if deed != Deed::Deleted {
        // Events don't tell of these; the id is told beside them.
        let silent = columns
            .iter()
            .enumerate()
            .filter(|(_, column)| column.name != "Id" && !change.schema.tells(&column.name));
        untold.extend(silent.map(|(at, _)| at));
    }
    untold.sort_unstable();
    untold.dedup();
    values.retain(|(at, _)| !untold.contains(at));
    let millis = u32::try_from(change.committed_at.rem_euclid(1000)).unwrap_or_default();
    let committed_at = Moment { seconds: change.committed_at.div_euclid(1000), millis }.in_json();
    Change {
        deed,
        ids,
        values,
        untold,
        committed_at,
        user: id::long(&change.user),
        client: change.client().map(str::to_owned),
        transaction: change.transaction.clone(),
        sequence: change.sequence,
    }
}

/// The column that holds a compound field as a whole, of which an event tells only the parts that changed. A name
/// is made of its parts by rules of the org.
fn compound(columns: &[Column], field: &Field) -> Option<usize> {
    field.part.as_ref()?;
    columns.iter().position(|column| column.name.eq_ignore_ascii_case(&field.name))
}
