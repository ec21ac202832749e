//! The guard: what would delete or empty more than a sync's share of the other side waits for a person.

use super::collect::{Collector, Seen};
use super::exits;
use super::link::{self, Links, Places};
use super::plan::Plan;
use super::resolve::Readers;
use super::shapes::Shapes;
use crate::capture::row;
use crate::log::batch::{self, Entry};
use crate::log::segments;
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use change::image::{self, State, Value};
use document::OnDelete;
use merge::{Base, Side};
use std::collections::HashSet;

/// Why a sync stops and asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What `sync.resume` is asked to confirm: `deletes`, `blanks` or `truncate`.
    pub kind: &'static str,
    pub sentence: String,
}

impl Decision {
    /// The one that stands for two, which are answered together.
    pub fn both(asked: Option<Self>, left: Option<Self>) -> Option<Self> {
        match (asked, left) {
            (Some(asked), Some(left)) => Some(Self { kind: left.kind, ..asked.and(&left) }),
            (asked, left) => asked.or(left),
        }
    }

    fn and(self, more: &Self) -> Self {
        Self { sentence: format!("{}; and {}", self.sentence, more.sentence), ..self }
    }
}

/// Bytes of images looked at at once.
const CHUNK_BYTES: usize = 8 << 20;

/// Looks a whole batch over before any of it is applied.
///
/// # Errors
/// When the log is missing.
pub fn examine(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> Result<Option<Decision>, Failure> {
    let (mut deletes, mut updates) = (0u64, 0u64);
    let mut truncated = None;
    for entry in entries {
        if matches!(entry.op, row::DELETE | row::TRUNCATE | row::UPDATE) {
            let Some(side) = travels(plan, collector, shapes, entry) else { continue };
            match entry.op {
                row::TRUNCATE => truncated = Some(side),
                row::UPDATE => updates += 1,
                // Nothing is deleted for these.
                _ if *plan.on_delete(side) == OnDelete::Keep => {}
                _ => deletes += 1,
            }
        }
    }
    let truncated = truncated.map(|side: Side| {
        let (own, other) = (&plan.side(side).name, &plan.side(side.other()).name);
        Decision {
            kind: "truncate",
            sentence: format!("{own} was truncated; nothing has been deleted from {other}"),
        }
    });
    let most = deletes.max(updates);
    if most == 0 || most <= 100 && plan.config.delete_limit.is_none() {
        return Ok(truncated);
    }
    let limit = plan.delete_limit(link::estimate(plan));
    // How many records that many changes end or empty is seen by their keys.
    let over = |count: [u64; 2]| {
        let side = if count[0] >= count[1] { Side::Source } else { Side::Target };
        (count[side as usize] > limit).then_some((side, count[side as usize]))
    };
    let mut asked = truncated;
    if deletes > limit
        && asked.is_none()
        && let Some((side, count)) = over(gone(plan, collector, shapes, entries)?)
    {
        asked = Some(Decision {
            kind: "deletes",
            sentence: format!(
                "{count} rows were deleted from {}, more than the limit of {limit}; nothing has been deleted from {}",
                plan.side(side).name,
                plan.side(side.other()).name
            ),
        });
    }
    if plan.row_function.is_none()
        && updates > limit
        && is_suspect(plan, collector, shapes, entries, updates.div_ceil(limit.max(1)))?
        && let Some((side, count)) = over(blanked(plan, collector, shapes, entries)?)
    {
        let blanks = Decision {
            kind: "blanks",
            sentence: format!(
                "{count} rows of {} lost the value of a field, more than the limit of {limit}; nothing has been emptied in {}",
                plan.side(side).name,
                plan.side(side.other()).name
            ),
        };
        asked = Some(match asked {
            Some(asked) => asked.and(&blanks),
            None => blanks,
        });
    }
    Ok(asked)
}

/// The side of a change that goes to the other one.
fn travels(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entry: &Entry,
) -> Option<Side> {
    let side = collector.side_of(plan, shapes, entry.shape)?;
    let goes = plan.flows_from(side) && plan.captured(side) && entry.origin != plan.origin(side);
    goes.then_some(side)
}

/// Changes that are looked at for each one that the limit allows. Where more than that are empty, all of these are full
/// once in twenty thousand batches.
const SAMPLED: u64 = 10;

/// Is any of a sample of the changes one that empties a field? Reading all of a long batch twice would make it slower by a
/// tenth, and most empty nothing. `share`: one in so many changes may empty a field.
fn is_suspect(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
    share: u64,
) -> Result<bool, Failure> {
    let sample = sample(entries, share, |entry| {
        entry.op == row::UPDATE && travels(plan, collector, shapes, entry).is_some()
    });
    Ok(blanked(plan, collector, shapes, &sample)?.iter().any(|&count| count > 0))
}

/// Of the changes that count about [`SAMPLED`] for each one that may be what is looked for, the same ones each time. `share`:
/// one in so many may be. A batch holds the changes of other tables as well.
fn sample(entries: &[Entry], share: u64, counts: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
    let mut counts = counts;
    let counted: Vec<Entry> = entries.iter().filter(|entry| counts(entry)).copied().collect();
    let every = (counted.len() as u64 / (SAMPLED * share.max(1))).max(1);
    let drawn = |entry: &Entry| {
        let hash = (entry.seq as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash ^ (hash >> 32)).is_multiple_of(every)
    };
    counted.into_iter().filter(drawn).collect()
}

/// Are there so many changes of rows that may leave a filter with the other side's records that a person might have to be
/// asked?
pub fn may_exit(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> bool {
    if !exits::of_any(plan) {
        return false;
    }
    let limit = plan.delete_limit(link::estimate(plan));
    let counts = |entry: &&Entry| {
        let side = collector.side_of(plan, shapes, entry.shape);
        entry.op == row::DELETE && side.is_some()
            || side.is_some_and(|side| exits::of_side(plan, side))
    };
    entries.iter().filter(counts).count() as u64 > limit
}

/// Asks the filter of the rows of a whole batch, before any of it is applied: those that leave it count as deletes.
/// Outside a transaction.
///
/// # Errors
/// Trouble of the sync as a whole, or when the log is missing.
pub fn examine_exits(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    readers: &mut Readers,
    places: &mut Places,
    entries: &[Entry],
) -> Result<Option<Decision>, Failure> {
    if !exits::of_any(plan) {
        return Ok(None);
    }
    let mut of_filters: Vec<Entry> = Vec::new();
    let (deletes, others, limit) = transaction(|| {
        let (mut deletes, mut others) = (0u64, 0u64);
        for entry in entries {
            let Some(side) = collector.side_of(plan, shapes, entry.shape) else { continue };
            match entry.op {
                _ if !plan.captured(side) => {}
                row::DELETE if *plan.on_delete(side) != OnDelete::Keep => deletes += 1,
                // What we write ourselves may take a row out of the filter as well.
                row::UPDATE | row::INSERT if exits::of_side(plan, side) => {
                    others += 1;
                    of_filters.push(*entry);
                }
                _ => {}
            }
        }
        let most = deletes + others;
        if most == 0 || most <= 100 && plan.config.delete_limit.is_none() {
            return Ok((deletes, others, u64::MAX));
        }
        Ok((deletes, others, plan.delete_limit(link::estimate(plan))))
    })?;
    if others == 0 || deletes + others <= limit {
        return Ok(None);
    }
    let mut left = |entries: &[Entry]| left(plan, collector, shapes, readers, places, entries);
    let may_leave = limit.saturating_sub(deletes).max(1);
    let sample = sample(&of_filters, others.div_ceil(may_leave), |_| true);
    if left(&sample)? == [0, 0] {
        return Ok(None);
    }
    let left = left(entries)?;
    let gone = match deletes {
        0 => [0, 0],
        _ => transaction(|| gone(plan, collector, shapes, entries))?,
    };
    let sum = |side: Side| left[side as usize] + gone[side as usize];
    let side = if sum(Side::Source) >= sum(Side::Target) { Side::Source } else { Side::Target };
    if sum(side) <= limit {
        return Ok(None);
    }
    let (own, other) = (&plan.side(side).name, &plan.side(side.other()).name);
    let what = match gone[side as usize] {
        0 => format!("{} rows of {own} left the filter", sum(side)),
        _ => format!("{} rows of {own} were deleted or left the filter", sum(side)),
    };
    Ok(Some(Decision {
        kind: "deletes",
        sentence: format!(
            "{what}, more than the limit of {limit}; nothing has been deleted from {other}"
        ),
    }))
}

/// How many linked rows of each side are outside the filter at the end of a batch, and were inside before.
fn left(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    readers: &mut Readers,
    places: &mut Places,
    entries: &[Entry],
) -> Result<[u64; 2], Failure> {
    let mut left: [HashSet<Vec<u8>>; 2] = Default::default();
    let mut from = 0;
    while from < entries.len() {
        let bump = Bump::new();
        let (halves, count) = transaction(|| {
            let Some(log) = segments::relations() else {
                return Err(Failure::new("55000", "the log of changes is missing"));
            };
            let images = batch::fetch(&log, &entries[from..], CHUNK_BYTES);
            let piece = &entries[from..from + images.count()];
            let unread = |_: &Entry, _: Side, _: &[u8]| false;
            let collected = collector.collect(&bump, plan, shapes, piece, &images, &unread);
            Ok((collected.halves, images.count()))
        })?;
        let leaving = exits::leaving_of(plan, readers, places, shapes, &halves)?;
        // Where a row is there again, or deleted, by the end it is no more one of them.
        for half in &halves {
            left[half.side as usize].remove(half.key);
        }
        for n in leaving {
            left[halves[n].side as usize].insert(halves[n].key.to_vec());
        }
        from += count.max(1);
    }
    Ok(left.map(|keys| keys.len() as u64))
}

/// How many rows of each side are without a value at the end of a batch that they had before, in a field that travels.
fn blanked(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> Result<[u64; 2], Failure> {
    let Some(log) = segments::relations() else {
        return Err(Failure::new("55000", "the log of changes is missing"));
    };
    let mut blanked: [HashSet<(Vec<u8>, usize)>; 2] = Default::default();
    let mut from = 0;
    while from < entries.len() {
        let images = batch::fetch(&log, &entries[from..], CHUNK_BYTES);
        for (n, entry) in entries[from..].iter().enumerate().take(images.count()) {
            let (row::UPDATE, Some(old), Some(new)) = (entry.op, images.old(n), images.new(n))
            else {
                continue;
            };
            let Some((side, shape)) = collector.travelling(plan, shapes, entry.shape) else {
                continue;
            };
            if entry.origin == plan.origin(side) {
                continue;
            }
            for &column in shape.columns() {
                let states = (image::state(old, column), image::state(new, column));
                let emptied = states == (Some(State::Value), Some(State::Null));
                // A value that is there again takes its row out.
                let filled = states.1 == Some(State::Value) && !blanked[side as usize].is_empty();
                if !emptied && !filled {
                    continue;
                }
                let Some(key) = shape.key_of(new) else { continue };
                if emptied {
                    blanked[side as usize].insert((key, column));
                } else {
                    blanked[side as usize].remove(&(key, column));
                }
            }
        }
        from += images.count().max(1);
    }
    Ok(blanked.map(|fields| {
        let keys: HashSet<Vec<u8>> = fields.into_iter().map(|(key, _)| key).collect();
        keys.len() as u64
    }))
}

/// Is a field that travels from a side without a value there, and was agreed to have one?
pub fn empties(plan: &Plan, side: Side, base: &Base<'_>, is_null: impl Fn(usize) -> bool) -> bool {
    plan.fields.iter().zip(base.side(side)).any(|(field, agreed)| {
        field.how[side as usize].is_some()
            && matches!(agreed, Value::Bytes(_))
            && field.column[side as usize]
                .is_some_and(|c| !plan.side(side).key.contains(&c) && is_null(c))
    })
}

/// How many linked records of each side a batch ends: not those whose key is there again at its end,
/// nor those whose key was changed.
fn gone(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> Result<[u64; 2], Failure> {
    let Some(log) = segments::relations() else {
        return Err(Failure::new("55000", "the log of changes is missing"));
    };
    let mut gone: [HashSet<Vec<u8>>; 2] = Default::default();
    let mut from = 0;
    while from < entries.len() {
        let bump = Bump::new();
        let images = batch::fetch(&log, &entries[from..], CHUNK_BYTES);
        let piece = &entries[from..from + images.count()];
        let collected = collector.collect(&bump, plan, shapes, piece, &images, &|_, _, _| false);
        for half in &collected.halves {
            let gone = &mut gone[half.side as usize];
            if half.seen == Seen::Gone && !half.echo {
                gone.insert(half.key.to_vec());
            } else {
                gone.remove(half.key);
            }
        }
        for half in &collected.halves {
            if let Some(before) = half.before {
                gone[half.side as usize].remove(before);
            }
        }
        from += images.count().max(1);
    }
    let bump = Bump::new();
    let mut places = Places::default();
    let mut links = Links::open(plan, &mut places);
    let count = Side::BOTH.map(|side| {
        let linked =
            |key: &&Vec<u8>| links.find(&bump, shapes, side, key).is_some_and(|link| !link.deleted);
        let stays = *plan.on_delete(side) == OnDelete::Keep;
        gone[side as usize].iter().filter(|_| !stays).filter(linked).count() as u64
    });
    links.close();
    Ok(count)
}
