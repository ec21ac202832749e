//! From what the merge decided for the other system to intents, and from intents to calls.

use super::intent::{self, Intent, Intents, Op};
use super::side::IdentityFrom;
use super::values;
use super::{Purpose, Request, State, ingest};
use crate::engine::apply::Outcome;
use crate::engine::collect::Seen;
use crate::engine::plan::Plan;
use crate::engine::resolve::Record;
use crate::engine::shapes::Shapes;
use bumpalo::Bump;
use change::image::Value;
use connector::{Identity, Write as RemoteWrite, WriteBatch};
use merge::{Decision, Side, Write};
use pgrx::pg_sys;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// An intent with what is sent for it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub intent: Intent,
    /// The layout of its base.
    pub layout: i64,
    /// `None`: of an earlier worker; it is read from the other system and never sent as it is.
    pub write: Option<RemoteWrite>,
    /// The fields of the sync that an update sends.
    pub fields: Vec<usize>,
    /// The value by which an existing record is looked for.
    pub look: Option<String>,
    /// How often it has been sent, or looked for.
    pub tries: u32,
}

impl Sent {
    /// What an earlier worker left.
    pub fn left(intent: Intent, layout: i64) -> Self {
        Self { intent, layout, write: None, fields: Vec::new(), look: None, tries: 0 }
    }
}

/// Writes down what is to leave, in the transaction that settles everything else of these records.
pub fn intend(
    plan: &Plan,
    state: &mut State,
    records: &[Record<'_>],
    decisions: &[Decision<'_>],
    outcomes: &mut [Outcome<'_>],
) -> Vec<Sent> {
    let mut sent = Vec::new();
    let Some((remote, _)) = plan.remote() else { return sent };
    let local = remote.other();
    let (r, l) = (remote as usize, local as usize);
    let mut intents = Intents::open(plan);
    for ((record, decision), outcome) in records.iter().zip(decisions).zip(outcomes) {
        if decision.write[r] == Write::Nothing {
            continue;
        }
        if outcome.missed[l] {
            // The row moved: both sides are merged again.
            outcome.missed[r] = true;
            continue;
        }
        let key = outcome.rekeyed[l]
            .or(record.keys[l])
            .or_else(|| record.linked().map(|link| link.key_of(local)));
        let Some(key) = key else { continue };
        state.next_intent += 1;
        let Some(prepared) = prepare(plan, record, decision, key, state.next_intent) else {
            continue;
        };
        intents.add(&prepared.intent);
        outcome.intent = Some(prepared.intent.number);
        sent.push(prepared);
    }
    intents.close();
    sent
}

fn prepare(
    plan: &Plan,
    record: &Record<'_>,
    decision: &Decision<'_>,
    key: &[u8],
    number: i64,
) -> Option<Sent> {
    let (remote, object) = plan.remote()?;
    let local = remote.other();
    let (r, l) = (remote as usize, local as usize);
    let table = plan.side(remote);
    let id = record.keys[r]
        .or_else(|| record.linked().map(|link| link.key_of(remote)))
        .and_then(|key| values::id_of(table, key));
    let value = |field: usize| -> Option<(usize, Option<String>)> {
        let column = plan.fields[field].column[r]?;
        Some((column, values::text(record.sent[l][field], &table.columns[column])))
    };
    let mut intent = Intent {
        number,
        op: Op::Update,
        key: key.to_vec(),
        id: None,
        identity: None,
        base: decision.base.as_ref().map(|b| intent::encode(plan, b)).unwrap_or_default(),
        at: record.at[l],
        made_at: unix_ms(),
    };
    let (write, fields, look) = match &decision.write[r] {
        Write::Nothing => return None,
        Write::Delete => {
            intent.op = Op::Delete;
            intent.id.clone_from(&id);
            (RemoteWrite::Delete { id: id? }, Vec::new(), None)
        }
        Write::Update(fields) => {
            if decision.base.is_none() {
                // It is marked, in the place of a delete.
                intent.op = Op::Delete;
            }
            intent.id.clone_from(&id);
            let values = fields.iter().filter_map(|&f| value(f)).collect();
            (RemoteWrite::Update { id: id?, fields: values }, fields.clone(), None)
        }
        Write::Insert => {
            let identity = object.identity.as_ref().and_then(|identity| {
                let value = match identity.from {
                    IdentityFrom::Generated => Some(uuid()),
                    IdentityFrom::Field(field) => value(field).and_then(|v| v.1),
                    IdentityFrom::Column(column) => match &record.seen[l] {
                        Seen::Row(row) => {
                            values::text(row[column], &plan.side(local).columns[column])
                        }
                        _ => None,
                    },
                };
                value.map(|value| Identity { field: identity.field.clone(), value })
            });
            // Without a value the other system fills in its default, which comes back.
            let fields: Vec<usize> = (0..plan.fields.len())
                .filter(|&f| {
                    plan.fields[f].how[l].is_some()
                        && matches!(record.sent[l][f], Value::Bytes(_))
                        && plan.fields[f].column[r].is_some_and(|c| {
                            !table.columns[c].generated
                                && identity
                                    .as_ref()
                                    .is_none_or(|i| i.field != object.columns[c].name)
                        })
                })
                .collect();
            let values = fields.iter().filter_map(|&f| value(f)).collect();
            let look = looked_for(plan, record, local);
            intent.op = if look.is_some() { Op::Look } else { Op::Create };
            intent.identity = identity.as_ref().map(|i| i.value.clone());
            (RemoteWrite::Create { identity, fields: values }, fields, look)
        }
    };
    let layout = plan.base.id();
    Some(Sent { intent, layout, write: Some(write), fields, look, tries: 0 })
}

/// What a create of an earlier worker sent, by what both sides would have agreed on.
pub fn rebuild(plan: &Plan, shapes: &mut Shapes, sent: &Sent) -> Option<RemoteWrite> {
    let (remote, object) = plan.remote()?;
    let (r, l) = (remote as usize, remote.other() as usize);
    let table = plan.side(remote);
    let bump = Bump::new();
    let meant = intent::decode(&bump, plan, shapes, sent.layout, &sent.intent)?;
    let identity = match (&sent.intent.identity, &object.identity) {
        (Some(value), Some(identity)) => {
            Some(Identity { field: identity.field.clone(), value: value.clone() })
        }
        (None, _) => None,
        (Some(_), None) => return None,
    };
    let fields = (0..plan.fields.len())
        .filter(|&f| plan.fields[f].how[l].is_some())
        .filter_map(|f| {
            let c = plan.fields[f].column[r]?;
            let named = identity.as_ref().is_some_and(|i| i.field == object.columns[c].name);
            let value = values::text(meant.side(remote)[f], &table.columns[c])?;
            (!table.columns[c].generated && !named).then_some((c, Some(value)))
        })
        .collect();
    Some(RemoteWrite::Create { identity, fields })
}

/// The value by which the other system may know this record already.
fn looked_for(plan: &Plan, record: &Record<'_>, local: Side) -> Option<String> {
    let (l, remote) = (local as usize, local.other());
    let &(source, target) = plan.match_on.first()?;
    let (own, theirs) = if local == Side::Source { (source, target) } else { (target, source) };
    // As it would be sent, where the field travels; else as it is.
    let field = plan.fields.iter().position(|f| {
        f.column[l] == Some(own) && f.column[remote as usize] == Some(theirs) && f.how[l].is_some()
    });
    match (field, &record.seen[l]) {
        (Some(field), _) => values::text(record.sent[l][field], &plan.side(remote).columns[theirs]),
        (None, Seen::Row(row)) => values::text(row[own], &plan.side(local).columns[own]),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

/// Makes calls of what has been written down and committed.
pub fn dispatch(plan: &Plan, state: &mut State, sent: Vec<Sent>, not_before: Option<Instant>) {
    for one in &sent {
        state.take_lane(plan, &one.intent);
    }
    let (looks, writes): (Vec<Sent>, Vec<Sent>) =
        sent.into_iter().partition(|s| s.intent.op == Op::Look);
    ask_for_existing(plan, state, looks);
    let writes = if not_before.is_none() { ingest::gather(plan, state, writes) } else { writes };
    send(plan, state, writes, not_before);
}

/// Makes ordinary calls of writes whose lanes are taken.
pub(super) fn send(plan: &Plan, state: &mut State, writes: Vec<Sent>, not_before: Option<Instant>) {
    let step = state.can.write_step.min(state.can.max_write).max(1);
    let mut writes = writes.into_iter().peekable();
    if not_before.is_none() {
        state.fill(&mut writes, step);
    }
    while writes.peek().is_some() {
        let piece: Vec<Sent> = writes.by_ref().take(step).collect();
        let read_before = reads_before(plan, state);
        let batch =
            batch(plan, read_before, piece.iter().filter_map(|s| s.write.clone()).collect());
        if state.more_comes() && piece.len() < step && not_before.is_none() {
            state.gather(batch, piece);
        } else {
            state.call_later(Request::Write(Arc::new(batch)), Purpose::Write(piece), not_before);
        }
    }
}

/// Is a record read before it is written over?
pub(super) fn reads_before(plan: &Plan, state: &State) -> bool {
    state.can.reads_before_write && plan.remote_side().is_some_and(|side| plan.flows_from(side))
}

/// Writes of the sync's object.
pub(super) fn batch(plan: &Plan, read_before: bool, writes: Vec<RemoteWrite>) -> WriteBatch {
    let (object, columns) = plan
        .remote()
        .map(|(_, remote)| (remote.object.clone(), remote.columns.clone()))
        .unwrap_or_default();
    WriteBatch { object, columns, read_before, writes }
}

/// Asks for records that may be there already.
pub fn ask_for_existing(plan: &Plan, state: &mut State, looks: Vec<Sent>) {
    let Some((remote, object)) = plan.remote() else { return };
    if looks.is_empty() {
        return;
    }
    let Some(&(source, target)) = plan.match_on.first() else { return };
    let theirs = if remote == Side::Source { source } else { target };
    let values: Vec<String> = looks.iter().filter_map(|s| s.look.clone()).collect();
    if plan.side(remote).key.contains(&theirs) {
        state.call(Request::Fetch { ids: values }, Purpose::Look(looks));
    } else {
        let field = object.columns[theirs].clone();
        state.call(Request::Find { field, values }, Purpose::Look(looks));
    }
}

/// How long a record waits that the other system could not take just now.
pub fn pause(tries: u32) -> Duration {
    Duration::from_millis(500 << tries.min(6))
}

/// Now, in milliseconds since 1970.
pub fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A random UUID (RFC 9562, version 4).
fn uuid() -> String {
    let mut bytes = [0u8; 16];
    // SAFETY: fills as many bytes as said.
    let filled = unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), bytes.len()) };
    assert!(filled, "the operating system gives no random bytes");
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = crate::sql::to_hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
