//! Step 5: what was agreed on goes into the links, what was decided into conflicts and history, what
//! could not be done into the queue, all in the transaction that wrote the rows.

use super::apply::Outcome;
use super::collect::Seen;
use super::link::{Links, Places};
use super::plan::{Plan, Table};
use super::queue::{self, Parked};
use super::resolve::Record;
use super::statement::render;
use crate::log::batch::{Entry, Images};
use crate::log::history::{self, Line};
use crate::sql::{self, Arg};
use change::image::{self, Value};
use merge::{Base, Decision, Side, Write};

/// The log's side of a piece of work: what its records were made of. Empty for work that does not
/// come from the log.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    pub entries: &'a [Entry],
    pub images: &'a Images,
}

#[allow(clippy::too_many_arguments)]
/// Settles one piece of work. Returns the records that have to be merged again at once.
pub fn settle(
    plan: &Plan,
    epoch: i32,
    records: &[Record<'_>],
    decisions: &[Decision<'_>],
    outcomes: &[Outcome<'_>],
    origin: Origin<'_>,
    places: &mut Places,
    queued: &mut queue::Marks,
) -> bool {
    let mut links = Links::open(plan, places);
    let mut history = history::Writer::new(epoch, plan.id);
    let mut again = false;
    for ((record, decision), outcome) in records.iter().zip(decisions).zip(outcomes) {
        let missed = outcome.missed.contains(&true);
        link(plan, &mut links, record, decision, outcome);
        for conflict in &decision.conflicts {
            // Once the loser is overwritten nothing tells of it any more, even if the other side has
            // to be looked at again.
            if written(conflict.winner.other(), outcome.missed) {
                note_conflict(plan, record, conflict);
            }
        }
        if let Some(trouble) = &record.trouble {
            for (side, key) in seen_keys(record) {
                queue::park(
                    plan,
                    side,
                    key,
                    renamed_from(record, side),
                    record.at[side as usize],
                    &Parked::Review(trouble.clone()),
                    queued,
                );
            }
        } else if missed {
            again = true;
            for (side, key) in seen_keys(record) {
                let (before, at) = (renamed_from(record, side), record.at[side as usize]);
                queue::park(plan, side, key, before, at, &Parked::Again, queued);
            }
        } else {
            for side in Side::BOTH {
                for key in [record.keys[side as usize], record.linked().map(|l| l.key_of(side))]
                    .into_iter()
                    .flatten()
                {
                    queue::settled(plan, side, key, queued);
                }
            }
        }
        let outcome = match () {
            () if record.trouble.is_some() => history::PARKED,
            () if missed => history::AGAIN,
            () if !decision.conflicts.is_empty() => history::CONFLICT,
            () if decision.writes_nothing() => history::UNCHANGED,
            () => history::SYNCED,
        };
        if record.echo && outcome == history::UNCHANGED {
            continue;
        }
        for &(side, n) in &record.entries {
            history.add(&Line::of(
                &origin.entries[n],
                side,
                outcome,
                origin.images.old(n),
                origin.images.new(n),
            ));
        }
    }
    history.finish();
    links.close();
    again
}

fn seen_keys<'b>(record: &Record<'b>) -> Vec<(Side, &'b [u8])> {
    Side::BOTH
        .into_iter()
        .filter(|&s| record.seen[s as usize] != Seen::Nothing)
        .filter_map(|s| record.keys[s as usize].map(|k| (s, k)))
        .collect()
}

/// What a record's row was called when its link was written, where it has another name now.
fn renamed_from<'b>(record: &Record<'b>, side: Side) -> Option<&'b [u8]> {
    let old = record.linked()?.key_of(side);
    record.keys[side as usize].is_some_and(|now| now != old).then_some(old)
}

/// Brings a record's link up to what was really written.
fn link(
    plan: &Plan,
    links: &mut Links<'_>,
    record: &Record<'_>,
    decision: &Decision<'_>,
    outcome: &Outcome<'_>,
) {
    if record.trouble.is_some() {
        return;
    }
    let missed = outcome.missed;
    let Some(base) = &decision.base else {
        if let Some(link) = record.linked()
            && missed == [false; 2]
        {
            links.bury(link);
        }
        return;
    };
    let mut base = base.clone();
    if missed != [false; 2] {
        // Only what was written is agreed on; without an earlier agreement there is none at all.
        let Some(old) = record.linked().and_then(|l| l.base.as_ref()) else { return };
        revert(&mut base, old, &decision.write, missed, plan.fields.len());
    }
    let key = |side: Side| {
        let s = side as usize;
        outcome.created[s]
            .or(outcome.rekeyed[s])
            .or(record.keys[s])
            .or_else(|| record.linked().map(|l| l.key_of(side)))
    };
    let (Some(source), Some(target)) = (key(Side::Source), key(Side::Target)) else { return };
    let same = record
        .linked()
        .is_some_and(|l| l.key == source && l.remote == target && l.base.as_ref() == Some(&base));
    if !same {
        links.put(record.link.as_ref(), source, target, &base);
    }
}

/// Was what was decided for a side written there? The source is left out when the target was missed.
fn written(side: Side, missed: [bool; 2]) -> bool {
    !(missed[side as usize] || missed[side.other() as usize] && side == Side::Source)
}

fn revert<'a>(
    base: &mut Base<'a>,
    old: &Base<'a>,
    write: &[Write; 2],
    missed: [bool; 2],
    fields: usize,
) {
    for side in Side::BOTH {
        let skipped = !written(side, missed);
        let undone: Vec<usize> = match &write[side as usize] {
            Write::Update(fields) if skipped => fields.clone(),
            Write::Insert | Write::Delete if skipped => (0..fields).collect(),
            _ => continue,
        };
        for field in undone {
            base.source[field] = old.source[field];
            base.target[field] = old.target[field];
        }
    }
}

fn text_of(value: Value<'_>, table: &Table, column: Option<usize>) -> Option<String> {
    let column = &table.columns[column?];
    value.bytes().map(|b| render(b, column))
}

fn note_conflict(plan: &Plan, record: &Record<'_>, conflict: &merge::Conflict) {
    let winner = conflict.winner.name();
    let key = record.keys[0]
        .map(|k| key_text(plan, Side::Source, k))
        .or_else(|| record.keys[1].map(|k| key_text(plan, Side::Target, k)))
        .unwrap_or_default();
    let number = conflict.field;
    let held = |side: Side| {
        let column = plan.fields[number].column[side as usize];
        match (&record.seen[side as usize], column) {
            (Seen::Row(values), Some(c)) => text_of(values[c], plan.side(side), column),
            (Seen::Row(_), None) => text_of(
                record.sent[side as usize][number],
                plan.side(side.other()),
                plan.fields[number].column[side.other() as usize],
            ),
            _ => None,
        }
    };
    let base = record.linked().and_then(|l| l.base.as_ref()).and_then(|base| {
        let column = plan.fields[number].column[1];
        column.and_then(|_| text_of(base.target[number], plan.side(Side::Target), column))
    });
    let deleted = Side::BOTH.into_iter().find(|&s| record.seen[s as usize] == Seen::Gone);
    let (kind, reason) = match deleted {
        Some(side) => (
            "update_deleted",
            format!(
                "the {} deleted the record, the {} changed the field",
                side.name(),
                side.other().name()
            ),
        ),
        None if record.linked().is_none() => {
            ("insert_exists", "both sides had the record before it was linked".into())
        }
        None => ("update_origin_differs", "both sides changed the field".into()),
    };
    let times = record.at.iter().all(|&t| t != i64::MIN);
    let why = if !times {
        format!("{reason}; only the {winner}'s change is known")
    } else if record.at[0] == record.at[1] {
        format!("{reason} at the same time; the source wins")
    } else {
        format!("{reason}; the {winner}'s change is the later one")
    };
    let field = plan.fields[number].name(plan);
    let (source, target) = (held(Side::Source), held(Side::Target));
    sql::as_extension(|| {
        sql::query(
            "INSERT INTO sync._conflict (sync, key_text, kind, field, base, source_value, target_value, winner, reason)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                Arg::Int4(plan.id),
                Arg::Text(&key),
                Arg::Text(kind),
                Arg::Text(field),
                Arg::OptText(base.as_deref()),
                Arg::OptText(source.as_deref()),
                Arg::OptText(target.as_deref()),
                Arg::Text(winner),
                Arg::Text(&why),
            ],
        )
    });
}

/// A key as people read it: its value, or its values in parentheses.
pub fn key_text(plan: &Plan, side: Side, key: &[u8]) -> String {
    let table = plan.side(side);
    let Some(values) = image::decode_key(key, &table.key_lengths()) else { return "?".into() };
    let texts: Vec<String> = table.key_columns().zip(values).map(|(c, v)| render(v, c)).collect();
    if texts.len() == 1 { texts.concat() } else { format!("({})", texts.join(", ")) }
}
