//! The events in their order, and what the org knows of who may have them.

use super::change::{ChangeType, Draft, Stamp};
use super::faults::{EventFault, EventFaults};
use super::schema::{Schema, event_name};
use super::{Author, DELIVERIES, MOST_SELECTED};
use crate::moment::{self, Millis};
use crate::schema::Object;
use crate::table::Row;
use crate::{ApiError, id};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long events are kept (Pub/Sub API guide, event message durability).
const RETENTION: Millis = 72 * 3_600_000;
const DAY: Millis = 24 * 3_600_000;

/// Most changes of a transaction that are told one by one (Change Data Capture guide, overflow events).
const OVERFLOW: usize = 100_000;

/// Where a stream is: behind the event with this number.
pub(super) type Place = u64;

/// An event that was published.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) at: Millis,
    /// Not before then.
    pub(super) due: Option<Instant>,
    pub(super) copies: usize,
    pub(super) object: String,
    pub(super) schema: String,
    /// The event's own id.
    pub(super) id: String,
    pub(super) payload: Vec<u8>,
}

/// A change to a record that a transaction made: what it was, and what it is.
pub(crate) type Done<'a> = (&'a str, Option<&'a Row>, Option<&'a Row>);

pub(crate) struct Bus {
    /// Where it can be reached, and the authority that its certificate is from.
    pub(crate) address: String,
    pub(crate) ca_pem: String,
    /// The objects whose changes are captured.
    pub(super) selected: Vec<String>,
    /// Custom channels with their objects.
    pub(super) channels: BTreeMap<String, Vec<String>>,
    pub(super) log: VecDeque<Entry>,
    /// The last event that was published, and the last that is no longer kept.
    pub(super) last: Place,
    pub(super) floor: Place,
    /// Between these places, replay ids may have been given out for events that nobody has any more.
    pub(super) lost: Vec<(Place, Place)>,
    pub(super) current: HashMap<String, Arc<Schema>>,
    pub(super) schemas: HashMap<String, Arc<Schema>>,
    pub(super) transactions: u64,
    pub(super) faults: EventFaults,
    pub(super) overflow: usize,
    pub(super) keepalive: Duration,
    pub(super) patience: Duration,
    /// Events delivered, by the org's clock.
    pub(super) delivered: VecDeque<(Millis, u64)>,
    pub(super) allowance: u64,
    /// Of the transaction that runs.
    pub(crate) author: Option<Author>,
    /// Moves with everything that a stream may wait for.
    pub(super) news: watch::Sender<u64>,
    pub(crate) streams: usize,
}

impl Bus {
    pub(crate) fn new() -> Self {
        // Real replay ids are large numbers that leave places out.
        let start = 1_000_000;
        Self {
            address: String::new(),
            ca_pem: String::new(),
            selected: Vec::new(),
            channels: BTreeMap::new(),
            log: VecDeque::new(),
            last: start,
            floor: start,
            lost: Vec::new(),
            current: HashMap::new(),
            schemas: HashMap::new(),
            transactions: 0,
            faults: EventFaults::default(),
            overflow: OVERFLOW,
            // As long as it may be (Pub/Sub API guide, FetchResponse).
            keepalive: Duration::from_secs(270),
            // Pub/Sub API guide, Subscribe: about a minute without a request for more.
            patience: Duration::from_secs(60),
            delivered: VecDeque::new(),
            allowance: DELIVERIES,
            author: None,
            news: watch::Sender::new(0),
            streams: 0,
        }
    }

    pub(super) fn select(&mut self, objects: Vec<String>) -> Result<(), ApiError> {
        if objects.len() > MOST_SELECTED {
            let message = format!(
                "You can't select more than {MOST_SELECTED} entities for Change Data Capture"
            );
            return Err(ApiError::new(400, "LIMIT_EXCEEDED", message));
        }
        self.selected = objects;
        self.tell();
        Ok(())
    }

    /// An object's fields are others from now on.
    pub(crate) fn schema_changed(&mut self, object: &str) {
        self.current.remove(object);
    }

    pub(super) fn tell(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    pub(super) fn schema(&mut self, object: &Object) -> Arc<Schema> {
        if let Some(schema) = self.current.get(&object.name) {
            return Arc::clone(schema);
        }
        let schema = Arc::new(Schema::new(object));
        self.current.insert(object.name.clone(), Arc::clone(&schema));
        self.schemas.insert(schema.id.clone(), Arc::clone(&schema));
        schema
    }

    pub(super) fn schema_of_id(&self, id: &str) -> Option<&Schema> {
        self.schemas.get(id).map(Arc::as_ref)
    }

    /// Is any of these objects captured? Asked at each commit.
    pub(crate) fn captures(&self, object: &str) -> bool {
        self.selected.iter().any(|selected| selected == object)
    }

    /// Publishes what a transaction did: `done` in the order of the changes.
    pub(crate) fn publish<'a>(
        &mut self,
        objects: &[Object],
        done: impl Iterator<Item = Done<'a>>,
        author: &Author,
        now: Millis,
    ) {
        let mut drafts: Vec<Draft> = Vec::new();
        for (name, old, new) in done {
            let Some(object) = objects.iter().find(|o| o.name == name) else { continue };
            let schema = self.schema(object);
            let Some(draft) = Draft::new(&schema, old, new) else { continue };
            let left = match drafts.last_mut() {
                Some(last) => last.absorb(draft),
                None => Some(draft),
            };
            drafts.extend(left);
        }
        self.append(drafts, author, now);
    }

    /// What nobody wrote, as when the database itself was worked on.
    pub(super) fn publish_empty(
        &mut self,
        object: &Object,
        kind: ChangeType,
        ids: Vec<String>,
        now: Millis,
    ) {
        let schema = self.schema(object);
        let author = Author { user: String::new(), origin: String::new() };
        self.append(vec![Draft::empty(&schema, kind, ids)], &author, now);
    }

    fn append(&mut self, mut drafts: Vec<Draft>, author: &Author, now: Millis) {
        if drafts.is_empty() {
            return;
        }
        if drafts.len() > self.overflow {
            let mut seen = HashSet::new();
            let rest = drafts.split_off(self.overflow);
            for draft in rest.into_iter().filter(|draft| seen.insert(draft.schema.object.clone())) {
                let ids = vec!["000000000000000AAA".to_owned()];
                drafts.push(Draft::empty(&draft.schema, ChangeType::GapOverflow, ids));
            }
        }
        self.transactions += 1;
        let transaction = format!("{:08x}-0000-4000-8000-{:012x}", self.transactions, now);
        // Beyond what a double holds, as in newer orgs.
        let number = 1_778_192_987_000_000_000 + self.transactions as i64;
        for (sequence, mut draft) in (1..).zip(drafts) {
            let mut entry = Entry {
                place: 0,
                at: now,
                due: None,
                copies: 1,
                object: draft.schema.object.clone(),
                schema: draft.schema.id.clone(),
                id: String::new(),
                payload: Vec::new(),
            };
            let mut dropped = false;
            for fault in self.faults.of_event(&entry.object) {
                match fault {
                    EventFault::Drop => dropped = true,
                    EventFault::Delay { ms } => {
                        entry.due = Some(Instant::now() + Duration::from_millis(ms))
                    }
                    EventFault::Duplicate => entry.copies = 2,
                    EventFault::Gap => draft = draft.gap(),
                    EventFault::Error { .. } | EventFault::Reset | EventFault::ExpireToken => {}
                }
            }
            if dropped {
                continue;
            }
            let stamp = Stamp {
                origin: &author.origin,
                transaction: &transaction,
                sequence,
                at: now.div_euclid(1000) * 1000,
                number,
                user: &author.user,
            };
            // Not one after the other, as they are not in an org of a shared instance.
            self.last += 1 + self.last % 3;
            entry.place = self.last;
            entry.id = format!("{:08x}-0000-4000-9000-{:012x}", self.transactions, self.last);
            entry.payload = draft.payload(&stamp);
            self.log.push_back(entry);
        }
        self.tell();
    }

    /// Lets go of what is older than is kept.
    pub(super) fn trim(&mut self, now: Millis) {
        while let Some(first) = self.log.front().filter(|first| first.at < now - RETENTION) {
            self.floor = first.place;
            self.log.pop_front();
        }
    }

    /// The org moves to another instance: no replay id that was given out is good any more.
    pub(crate) fn forget(&mut self) {
        self.log.clear();
        self.last += 1000;
        self.floor = self.last;
        self.tell();
    }

    /// Which objects a topic carries; `None` where there is no such topic (Change Data Capture guide, subscription
    /// channels). Case matters.
    pub(super) fn topic(&self, topic: &str) -> Option<Vec<String>> {
        let name = topic.strip_prefix("/data/")?;
        if name == "ChangeEvents" {
            return Some(self.selected.clone());
        }
        if let Some(members) = self.channels.get(name) {
            return Some(members.clone());
        }
        let object = self.selected.iter().find(|object| event_name(object) == name)?;
        Some(vec![object.clone()])
    }

    /// How many events may still be delivered.
    pub(super) fn left(&mut self, now: Millis) -> u64 {
        while self.delivered.front().is_some_and(|(at, _)| *at <= now - DAY) {
            self.delivered.pop_front();
        }
        let used: u64 = self.delivered.iter().map(|(_, count)| count).sum();
        self.allowance.saturating_sub(used)
    }
}

/// As recorded: eight bytes that count, and two that are zero.
pub(super) fn replay_id(place: Place) -> Vec<u8> {
    let mut id = place.to_be_bytes().to_vec();
    id.extend([0, 0]);
    id
}

/// The short form of eight bytes is seen too.
pub(super) fn place(replay_id: &[u8]) -> Option<Place> {
    let (count, rest) = replay_id.split_first_chunk::<8>()?;
    matches!(rest, [] | [0, 0]).then(|| Place::from_be_bytes(*count))
}

impl crate::org::Org {
    /// Trims, with the org's own clock.
    pub(super) fn event_time(&mut self) -> Millis {
        let now = self.clock.now();
        self.events.trim(now);
        now
    }

    /// Publishes what the running transaction did: each record as it was, in the order of the changes.
    pub(crate) fn publish(&mut self, journal: &[(String, String, Option<Row>)]) {
        if !journal.iter().any(|(object, ..)| self.events.captures(object)) {
            return;
        }
        let author = self.events.author.clone().unwrap_or_else(|| Author::person(&self.other_user));
        let now = self.event_time();
        let mut seen = HashSet::new();
        let captured: Vec<&(String, String, Option<Row>)> = journal
            .iter()
            .filter(|(object, id, _)| self.events.captures(object) && seen.insert(id.as_str()))
            .collect();
        let tables = &self.tables;
        let done = captured.into_iter().map(|(object, id, old)| {
            (object.as_str(), old.as_ref(), tables.get(object).and_then(|table| table.get(id)))
        });
        self.events.publish(&self.objects, done, &author, now);
    }

    /// A record's object, for events that nobody's write made.
    pub(crate) fn publish_gap(
        &mut self,
        object: &str,
        kind: &str,
        ids: Vec<String>,
    ) -> Result<(), ApiError> {
        let kind = ChangeType::of_name(kind)
            .ok_or_else(|| ApiError::json(format!("{kind} is no type of change")))?;
        let now = self.event_time();
        let object =
            self.objects.iter().find(|o| o.name == object).ok_or_else(ApiError::not_found)?;
        let ids =
            ids.iter().map(|given| id::long(given).unwrap_or_else(|| given.clone())).collect();
        self.events.publish_empty(object, kind, ids, now);
        Ok(())
    }

    /// When somebody's late transaction commits next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.due).min()
    }
}

/// For people: `2026-05-01T07:25:37.000+0000`.
pub(super) fn told(at: Millis) -> String {
    moment::text(at)
}
