//! Step 5: what was agreed on goes into the links, what was decided into conflicts and history, what
//! could not be done into the queue, all in the transaction that wrote the rows.

use super::apply::Outcome;
use super::collect::Seen;
use super::conflicts;
use super::departed;
use super::link::{Links, Places};
use super::plan::{Plan, Table};
use super::queue::{self, Parked};
use super::remote::intent::Intents;
use super::resolve::{Record, agrees};
use super::statement::render;
use crate::log::batch::{Entry, Images};
use crate::log::history::{self, Line};
use crate::sql::{self, Arg};
use change::image::{self, Value};
use merge::{Base, Decision, Deletes, Rule, Side, Write};

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
    let mut intents = Intents::open(plan);
    let mut again = false;
    for ((record, decision), outcome) in records.iter().zip(decisions).zip(outcomes) {
        let missed = outcome.missed.contains(&true);
        link(plan, &mut links, record, decision, outcome);
        if !missed && !record.held {
            conflicts::close(plan, record, decision);
        }
        for conflict in &decision.conflicts {
            // Once the loser is overwritten nothing tells of it any more, even if the other side has
            // to be looked at again.
            if conflict.winner.is_none_or(|winner| written(winner.other(), outcome.missed)) {
                note_conflict(plan, record, conflict);
            }
        }
        if let Some(intent) = outcome.intent {
            on_its_way(plan, record, outcome, queued);
            for &(side, n) in &record.entries {
                let entry = &origin.entries[n];
                let (old, new) = (origin.images.old(n), origin.images.new(n));
                intents.line(intent, epoch, &Line::of(entry, side, history::SYNCED, old, new));
            }
            continue;
        }
        if let Some(trouble) = &record.trouble {
            for (side, key) in waits_under(plan, record, queued) {
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
        } else if missed || record.held {
            again |= missed;
            let waits = record.missing.as_ref().filter(|_| !missed);
            for (side, key) in seen_keys(record) {
                let (before, at) = (renamed_from(record, side), record.at[side as usize]);
                match waits {
                    Some(missing) => {
                        queue::await_parent(plan, side, key, before, at, missing, queued)
                    }
                    None => queue::park(plan, side, key, before, at, &Parked::Again, queued),
                }
            }
        } else if !record.later.is_empty() {
            // It has gone without what it points to, which follows.
            again = true;
            for (side, key) in seen_keys(record) {
                queue::park(
                    plan,
                    side,
                    key,
                    None,
                    record.at[side as usize],
                    &Parked::Again,
                    queued,
                );
            }
        } else {
            for side in Side::BOTH.into_iter().filter(|&side| is_settled(plan, record, side)) {
                for key in [record.keys[side as usize], record.linked().map(|l| l.key_of(side))]
                    .into_iter()
                    .flatten()
                {
                    queue::settled(plan, side, key, queued);
                }
            }
        }
        let now = [0, 1].map(|s| outcome.created[s].or(outcome.rekeyed[s]).or(record.keys[s]));
        let outcome = match () {
            () if record.trouble.is_some() || record.held && !record.unread => history::PARKED,
            () if missed || record.unread => history::AGAIN,
            () if !decision.conflicts.is_empty() => history::CONFLICT,
            () if decision.writes_nothing() => history::UNCHANGED,
            () => history::SYNCED,
        };
        if record.echo && outcome == history::UNCHANGED {
            continue;
        }
        if !matches!(outcome, history::PARKED | history::AGAIN) {
            for (side, key) in Side::BOTH.into_iter().zip(now) {
                if let Some(key) = key {
                    queued.touch(plan, side, key);
                }
            }
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
    intents.close();
    links.close();
    again
}

/// What waits of a record of another system is settled only by what was read of it.
fn is_settled(plan: &Plan, record: &Record<'_>, side: Side) -> bool {
    !plan.is_remote(side) || record.seen[side as usize] != Seen::Nothing
}

/// The record leaves for the other system: its row in the queue waits for the answer.
fn on_its_way(plan: &Plan, record: &Record<'_>, outcome: &Outcome<'_>, queued: &mut queue::Marks) {
    for side in Side::BOTH {
        let keys = [outcome.rekeyed[side as usize], record.keys[side as usize]];
        for key in keys.into_iter().flatten() {
            if !plan.is_remote(side) {
                queue::sending(plan, side, key, queued);
            } else if is_settled(plan, record, side) {
                queue::settled(plan, side, key, queued);
            }
        }
    }
}

/// The keys under which a record that a person has to look at waits: those of the rows that were changed, and those that it
/// waits under already. Where nothing was, as when tables are gone through, that of the row that is not as it was agreed:
/// what both sides have been read for is one record, and waits once.
fn waits_under<'b>(
    plan: &Plan,
    record: &Record<'b>,
    queued: &queue::Marks,
) -> Vec<(Side, &'b [u8])> {
    let mut keys = seen_keys(record);
    // Of a row that is not there yet, or that nobody listens to, it is the other side's that waits.
    keys.retain(|&(side, _)| {
        let absent = record.linked().is_none() && record.seen[side as usize] == Seen::Gone;
        !absent && plan.listens_to(side)
    });
    let concerned: Vec<_> = keys
        .iter()
        .copied()
        .filter(|&(side, key)| {
            // Another system's record is not read again for the sake of the row's.
            record.entries.iter().any(|&(of, _)| of == side)
                || queued.contains(queue::mark(side, key))
                || plan.is_remote(side) && !agrees(plan, record, side)
        })
        .collect();
    if !concerned.is_empty() {
        return concerned;
    }
    let changed = keys.iter().position(|&(side, _)| !agrees(plan, record, side)).unwrap_or(0);
    keys.into_iter().skip(changed).take(1).collect()
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
    if record.trouble.is_some() || record.held {
        return;
    }
    let missed = outcome.missed;
    let leaving = outcome.intent.and_then(|_| plan.remote_side());
    if let Some(remote) = leaving
        && (!matches!(decision.write[remote as usize], Write::Update(_)) || decision.base.is_none())
    {
        // Created or ended when the other system has said so.
        return;
    }
    let Some(base) = &decision.base else {
        match record.linked() {
            Some(link) if missed == [false; 2] => {
                links.bury(link, record.stays.map_or(0, |side| departed::standing(plan, side)));
            }
            None if departed::ended(record) => {
                if let Some(link) = &record.link {
                    links.bury(link, 0);
                }
            }
            _ => {}
        }
        return;
    };
    let mut base = base.clone();
    if missed != [false; 2] {
        // Only what was written is agreed on; without an earlier agreement there is none at all.
        let Some(old) = record.linked().and_then(|l| l.base.as_ref()) else { return };
        revert(&mut base, old, &decision.write, missed, plan.fields.len());
    }
    if let Some(remote) = leaving
        && let Write::Update(fields) = &decision.write[remote as usize]
    {
        await_answer(&mut base, plan, record, remote, fields);
    }
    let key = |side: Side| {
        let s = side as usize;
        outcome.created[s]
            .or(outcome.rekeyed[s])
            .or(record.keys[s])
            .or_else(|| record.linked().map(|l| l.key_of(side)))
    };
    let (Some(mut source), Some(mut target)) = (key(Side::Source), key(Side::Target)) else {
        return;
    };
    if plan.same_key && source != target {
        // The one key that the link has would be nobody's on the other side: it goes along when that has.
        let Some(link) = record.linked() else { return };
        (source, target) = (link.key, link.remote);
    }
    let standing = if record.leaves.is_some() && (leaving.is_some() || missed != [false; 2]) {
        // Until what it takes along is written it has not left.
        record.linked().map_or(0, |link| link.standing)
    } else {
        record.standing(plan)
    };
    let same = record.linked().is_some_and(|l| {
        l.key == source
            && l.remote == target
            && l.base.as_ref() == Some(&base)
            && l.standing == standing
    });
    if !same {
        links.put(record.link.as_ref(), source, target, &base, standing);
    }
}

/// Until it is answered the other system holds what it is known to hold, and the row's value is an
/// edit that has not been agreed on.
fn await_answer<'a>(
    base: &mut Base<'a>,
    plan: &Plan,
    record: &Record<'a>,
    remote: Side,
    fields: &[usize],
) {
    let old = record.linked().and_then(|l| l.base.as_ref());
    for &field in fields {
        let before = |side: Side| old.map_or(Value::Marker, |b| b.side(side)[field]);
        let held = match (&record.seen[remote as usize], plan.fields[field].column[remote as usize])
        {
            (Seen::Row(row), Some(c)) if row[c] != Value::Absent => row[c],
            _ => before(remote),
        };
        let mut own = before(remote.other());
        // Sent with its group, it may be as it was agreed on: until it has arrived it is not agreed on any more. Nor is
        // it once the other side has moved, also if the row comes back to where it was before that is settled.
        let local = remote.other() as usize;
        let as_before = match (&record.seen[local], plan.fields[field].column[local]) {
            (Seen::Row(row), Some(c)) => row[c] == own,
            _ => false,
        };
        if as_before || held != before(remote) {
            own = Value::Marker;
        }
        (base.source[field], base.target[field]) =
            if remote == Side::Source { (held, own) } else { (own, held) };
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
    let key = Side::BOTH.into_iter().find_map(|s| Some((s, record.keys[s as usize]?)));
    let number = conflict.field;
    let held = |side: Side| {
        let column = plan.fields[number].column[side as usize];
        match (&record.seen[side as usize], column) {
            _ if record.is_gone(side) => None,
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
    let deleted = Side::BOTH.into_iter().find(|&side| record.is_gone(side));
    let (kind, reason) = match deleted {
        Some(side) => (
            "update_deleted",
            format!(
                "the {} {}, the {} changed the field",
                side.name(),
                if record.leaves.is_some() {
                    "took its row out of the filter"
                } else {
                    "deleted the record"
                },
                side.other().name()
            ),
        ),
        None if record.linked().is_none() => {
            ("insert_exists", "both sides had the record before it was linked".into())
        }
        None => ("update_origin_differs", "both sides changed the field".into()),
    };
    let rule = if deleted.is_some() { of_deletes(plan) } else { of_field(plan, number) };
    let (winner, end) = if conflict.chosen {
        (Some(BY_FUNCTION), chosen(plan, record, number))
    } else if let Some(only) = record.edits().only() {
        let end =
            format!("; what came of our own write stands against no edit of the {}", only.name());
        (conflict.winner.map(Side::name), end)
    } else {
        (conflict.winner.map(Side::name), decided(rule, conflict.winner, record.at))
    };
    let why = format!("{reason}{end}");
    let field = plan.fields[number].name(plan);
    let (source, target) = (held(Side::Source), held(Side::Target));
    insert_conflict(plan, key, kind, field, [base, source, target], winner, &why);
}

/// In the place of a side, where a function has chosen.
const BY_FUNCTION: &str = "function";

/// What a function chose, as the end of a reason.
fn chosen(plan: &Plan, record: &Record<'_>, field: usize) -> String {
    let ours = plan.ours();
    let value = record.sent[ours.other() as usize][field];
    format!(
        "; {} chose {}",
        plan.functions[field].as_deref().unwrap_or(BY_FUNCTION),
        text_of(value, plan.side(ours), plan.fields[field].column[ours as usize])
            .unwrap_or_else(|| "null".to_owned())
    )
}

/// Who decides, in words; `None`: the clocks.
fn of_field(plan: &Plan, field: usize) -> Option<&'static str> {
    match plan.flows[field].rule {
        Rule::Later => None,
        Rule::Prefer(_) => Some("which has priority"),
        Rule::Review => Some(""),
        Rule::Function => None,
    }
}

fn of_deletes(plan: &Plan) -> Option<&'static str> {
    match plan.deletes {
        Deletes::Later => None,
        Deletes::Prefer(_) => Some("which has priority"),
        Deletes::Delete => Some("for deletes win"),
        Deletes::Edit => Some("for edits win over deletes"),
        Deletes::Review => Some(""),
    }
}

/// The end of a reason: who won, and why.
fn decided(rule: Option<&str>, winner: Option<Side>, at: [i64; 2]) -> String {
    match (rule, winner.map(Side::name)) {
        (_, None) => "; each side keeps what it has until a person has decided".to_owned(),
        (Some(why), Some(winner)) => format!("; the {winner}'s change stands, {why}"),
        (None, Some(winner)) if at.contains(&i64::MIN) => {
            format!("; only the {winner}'s change is known")
        }
        (None, Some(_)) if at[0] == at[1] => " at the same time; the source wins".to_owned(),
        (None, Some(winner)) => format!("; the {winner}'s change is the later one"),
    }
}

/// An edit where the sync only writes.
pub fn note_target_edit(plan: &Plan, record: &Record<'_>, field: usize, held: Value<'_>) {
    let target = Side::Target;
    let column = plan.fields[field].column[target as usize];
    let base = record.linked().and_then(|l| l.base.as_ref());
    let agreed = base.and_then(|base| text_of(base.target[field], plan.side(target), column));
    let key = record.keys[target as usize].map(|key| (target, key));
    let values = [agreed, None, text_of(held, plan.side(target), column)];
    let why = "the target was edited, where the sync only writes; the edit stays until the source changes the field";
    let name = plan.fields[field].name(plan);
    insert_conflict(plan, key, "update_origin_differs", name, values, Some(target.name()), why);
}

/// `values`: the base's, the source's, the target's. A conflict that is met again, because what was decided
/// could not be written yet, is the same one.
fn insert_conflict(
    plan: &Plan,
    key: Option<(Side, &[u8])>,
    kind: &str,
    field: &str,
    values: [Option<String>; 3],
    winner: Option<&str>,
    why: &str,
) {
    let text = key.map(|(side, key)| key_text(plan, side, key)).unwrap_or_default();
    let (side, key) = key.map_or((None, &[][..]), |(side, key)| (Some(side), key));
    let [base, source, target] = &values;
    sql::as_extension(|| {
        sql::query(
            "INSERT INTO sync._conflict (sync, key_text, kind, field, base, source_value, target_value, winner, reason, side, key)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::int2, $11
              WHERE ($3, $5, $6, $7, $8) IS DISTINCT FROM
                    (SELECT (c.kind, c.base, c.source_value, c.target_value, c.winner) FROM sync._conflict c
                      WHERE c.sync = $1 AND c.key_text = $2 AND c.field = $4 ORDER BY c.id DESC LIMIT 1)",
            &[
                Arg::Int4(plan.id),
                Arg::Text(&text),
                Arg::Text(kind),
                Arg::Text(field),
                Arg::OptText(base.as_deref()),
                Arg::OptText(source.as_deref()),
                Arg::OptText(target.as_deref()),
                Arg::OptText(winner),
                Arg::Text(why),
                Arg::Int4(side.map_or(0, |side| side as i32)),
                Arg::Bytes(key),
            ],
        )
    });
}

/// A change over there that was seen only when it had been overwritten from here; without `meant` the
/// record was deleted over it.
#[allow(clippy::too_many_arguments)]
pub fn note_overwritten(
    plan: &Plan,
    key: &[u8],
    field: usize,
    old: &Base<'_>,
    meant: Option<&Base<'_>>,
    found: Value<'_>,
    remote: Side,
    winner: Option<Side>,
    times: [i64; 2],
) {
    let local = remote.other();
    let columns = plan.fields[field].column;
    let shown =
        |side: Side, value: Value<'_>| text_of(value, plan.side(side), columns[side as usize]);
    let base = shown(remote, old.side(remote)[field]);
    let mut values = [base, None, None];
    values[1 + remote as usize] = shown(remote, found);
    values[1 + local as usize] = meant.and_then(|meant| shown(local, meant.side(local)[field]));
    let (kind, what) = match meant {
        Some(_) => ("update_origin_differs", "both sides changed the field".to_owned()),
        None => (
            "update_deleted",
            format!(
                "the {} deleted the record before it knew of the {}'s change",
                local.name(),
                remote.name()
            ),
        ),
    };
    let why = if meant.is_none() {
        format!("{what}; the record stays deleted")
    } else if winner.is_none() {
        format!(
            "{what}, the {}'s unseen before it was overwritten; a person has to decide",
            remote.name()
        )
    } else {
        format!("{what}{}", decided(of_field(plan, field), winner, times))
    };
    let name = plan.fields[field].name(plan);
    insert_conflict(plan, Some((local, key)), kind, name, values, winner.map(Side::name), &why);
}

/// A key as people read it: its value, or its values in parentheses.
pub fn key_text(plan: &Plan, side: Side, key: &[u8]) -> String {
    key_text_of(plan.side(side), key)
}

/// The same of a table, for those who have no plan at hand.
pub fn key_text_of(table: &Table, key: &[u8]) -> String {
    let Some(values) = image::decode_key(key, &table.key_lengths()) else { return "?".into() };
    let texts: Vec<String> = table.key_columns().zip(values).map(|(c, v)| render(&v, c)).collect();
    if texts.len() == 1 { texts.concat() } else { format!("({})", texts.join(", ")) }
}
