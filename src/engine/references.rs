//! Fields that point to other records. Their values are translated by the links of the sync those records belong to;
//! a record whose parent is not linked yet waits for it in the queue, and goes the moment it is.

use super::collect::Seen;
use super::link::Translator;
use super::plan::{Keyed, Parent, Plan};
use super::queue;
use super::resolve::Record;
use super::statement::render;
use crate::worker::transaction::{Failure, refuse};
use bumpalo::Bump;
use change::image::{self, Value};
use foldhash::{HashMap, HashMapExt};
use merge::{Decision, Side, Write};

/// The record that another one has to wait for.
#[derive(Clone, Debug)]
pub struct Missing<'b> {
    /// The field that points to it, and our side whose row does.
    pub field: usize,
    pub from: Side,
    /// Its sync, the side of it, and its key there.
    pub sync: i32,
    pub side: Side,
    pub key: &'b [u8],
}

/// What a value of a field comes to on the other side.
#[derive(Clone, Copy)]
enum Found<'b> {
    One(&'b [u8]),
    /// Nobody has the key: of the first sync that could.
    Nobody(&'b [u8]),
    Several,
}

/// Translates what the rows of a side hold in such fields. What has not changed since it was agreed on is what the other
/// side holds already.
pub fn translate<'b>(
    bump: &'b Bump,
    plan: &Plan,
    side: Side,
    records: &mut [Record<'b>],
    pending: &[usize],
) {
    for (n, field) in plan.fields.iter().enumerate() {
        let Some(column) = field.column[side as usize] else { continue };
        if field.parents.is_empty() || field.how[side as usize].is_none() {
            continue;
        }
        let mut translators: Option<Vec<Option<Translator>>> = None;
        let mut known: HashMap<&'b [u8], Found<'b>> = HashMap::new();
        for &place in pending {
            let record = &mut records[place];
            let Seen::Row(values) = &record.seen[side as usize] else { continue };
            let value = values[column];
            let agreed = record.linked().and_then(|link| link.base.as_ref()).and_then(|base| {
                let theirs = base.side(side.other())[n];
                (base.side(side)[n] == value && theirs.is_known()).then_some(theirs)
            });
            let sent = match (value, agreed) {
                (_, Some(agreed)) => agreed,
                (Value::Bytes(bytes), None) => {
                    let found = *known.entry(bytes).or_insert_with(|| {
                        let translators = translators.get_or_insert_with(|| {
                            let open =
                                |parent: &Parent| Translator::open(parent.sync.unwrap_or(plan.id));
                            field.parents.iter().map(open).collect()
                        });
                        look_up(bump, &field.parents, translators, side, bytes)
                    });
                    match found {
                        Found::One(bytes) => Value::Bytes(bytes),
                        Found::Nobody(key) => {
                            if record.missing.is_none() {
                                let parent = &field.parents[0];
                                record.missing = Some(Missing {
                                    field: n,
                                    from: side,
                                    sync: parent.sync.unwrap_or(plan.id),
                                    side: parent.side(side),
                                    key,
                                });
                            }
                            Value::Absent
                        }
                        Found::Several => {
                            record.trouble = Some(ambiguous(plan, n));
                            Value::Absent
                        }
                    }
                }
                (value, None) => value,
            };
            record.sent[side as usize][n] = sent;
        }
        for translator in translators.into_iter().flatten().flatten() {
            translator.close();
        }
    }
}

fn look_up<'b>(
    bump: &'b Bump,
    parents: &[Parent],
    translators: &mut [Option<Translator>],
    side: Side,
    value: &[u8],
) -> Found<'b> {
    let mut found: Option<&'b [u8]> = None;
    let mut first: &'b [u8] = &[];
    for (parent, translator) in parents.iter().zip(translators) {
        let Some(key) = as_key(value, parent.keys[side as usize]) else { continue };
        if first.is_empty() {
            first = bump.alloc_slice_copy(&key);
        }
        let Some(other) = translator.as_mut().and_then(|t| t.other(bump, parent.side(side), &key))
        else {
            continue;
        };
        let Some(value) = as_value(other, parent.keys[side.other() as usize]) else { continue };
        if found.is_some() {
            return Found::Several;
        }
        found = Some(bump.alloc_slice_copy(&value));
    }
    found.map_or(Found::Nobody(first), Found::One)
}

/// The key of the record that a column of this value points to; `None` where no record can have it.
fn as_key(value: &[u8], keyed: Keyed) -> Option<Vec<u8>> {
    let resized = resize(value, keyed.column, keyed.key)?;
    image::encode_key([Value::Bytes(&resized)], &[keyed.key])
}

/// What a column holds that points to the record of this key.
fn as_value(key: &[u8], keyed: Keyed) -> Option<Vec<u8>> {
    let values = image::decode_key(key, &[keyed.key])?;
    resize(values.first()?, keyed.key, keyed.column)
}

/// An integer of one width in another, if it fits.
fn resize(bytes: &[u8], from: i16, to: i16) -> Option<Vec<u8>> {
    if from == to {
        return Some(bytes.to_vec());
    }
    let number = match *bytes {
        [a, b] => i64::from(i16::from_ne_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_ne_bytes([a, b, c, d])),
        _ => i64::from_ne_bytes(bytes.try_into().ok()?),
    };
    match to {
        2 => i16::try_from(number).ok().map(|n| n.to_ne_bytes().to_vec()),
        4 => i32::try_from(number).ok().map(|n| n.to_ne_bytes().to_vec()),
        _ => Some(number.to_ne_bytes().to_vec()),
    }
}

/// Records that wait for one another would do so for ever: the first of a circle goes without what it points to, which
/// follows in a second pass. False where a record has to wait.
pub fn may_go<'b>(plan: &Plan, record: &mut Record<'b>) -> bool {
    let Some(missing) = &record.missing else { return true };
    let (from, creates) = (missing.from, record.linked().is_none());
    let waits = |key: &[u8]| queue::is_circle(plan, from, key, missing);
    if !creates || !record.keys[from as usize].is_some_and(waits) {
        return false;
    }
    let sent = &mut record.sent[from as usize];
    for (n, field) in plan.fields.iter().enumerate() {
        if !field.parents.is_empty() && sent[n] == Value::Absent {
            sent[n] = Value::Null;
            record.later.push(n);
        }
    }
    record.missing = None;
    true
}

/// What was left out of a record that goes first has not been agreed on.
pub fn leave_out<'b>(record: &Record<'b>, decision: &mut Decision<'b>) {
    let Some(into) = Side::BOTH.into_iter().find(|&s| decision.write[s as usize] == Write::Insert)
    else {
        return;
    };
    if let Some(base) = &mut decision.base {
        for &field in &record.later {
            base.set(into.other(), field, Value::Marker);
        }
    }
}

/// Was something left out of a record, of which this was agreed on when it went?
pub fn follows(plan: &Plan, own: &[Value<'_>]) -> bool {
    plan.fields
        .iter()
        .zip(own)
        .any(|(field, value)| !field.parents.is_empty() && *value == Value::Marker)
}

/// Why a record waits.
pub fn why(plan: &Plan, missing: &Missing<'_>) -> Failure {
    let field = &plan.fields[missing.field];
    let table = plan.side(missing.from);
    let names: Vec<String> = field.parents.iter().map(|p| format!("\"{}\"", p.name)).collect();
    let column = field.column[missing.from as usize].map(|c| &table.columns[c]);
    let value = field.parents.first().zip(column).and_then(|(parent, column)| {
        Some(render(&as_value(missing.key, parent.keys[missing.from as usize])?, column))
    });
    let column = column.map_or("", |column| column.name.as_str());
    refuse(
        "23503",
        format!("the record that \"{column}\" points to is not synced yet"),
        &format!(
            "\"{column}\" of {} is {}, and sync {} has no such record on both sides.",
            table.name,
            value.unwrap_or_default(),
            names.join(" or "),
        ),
        "It goes by itself once that record is synced; sync.queue shows whether that one is in trouble.",
    )
}

fn ambiguous(plan: &Plan, field: usize) -> Failure {
    let names: Vec<String> =
        plan.fields[field].parents.iter().map(|p| format!("\"{}\"", p.name)).collect();
    refuse(
        "21000",
        format!("what \"{}\" points to is more than one record", plan.fields[field].name(plan)),
        &format!(
            "Syncs {} both have a record of this key; which one is meant is not for the sync to guess.",
            names.join(" and ")
        ),
        "Use keys that are unique among these tables, such as uuid; or map a column of its own for each.",
    )
}

/// A link came to be: those that wait for its record need not wait any more.
pub fn arrived(sync: i32, source: &[u8], target: &[u8]) {
    if queue::is_awaited(sync) {
        for (side, key) in [(Side::Source, source), (Side::Target, target)] {
            queue::wake(sync, side, key);
        }
    }
}
