//! What a record is asked before it is sent: whether it takes part, whether it goes both ways, and whether what
//! arrives keeps the rules. The questions are the user's SQL, asked of many records at once where it can write
//! nothing; the answers are acted on once it is known what would be written.

use super::collect::Seen;
use super::exits::UNDECIDED;
use super::plan::{Column, Plan, screens};
use super::resolve::{Readers, Record};
use super::settle::key_text;
use super::statement::{self, FED, Fed, Statement, render};
use super::target_edit;
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use bumpalo::Bump;
use change::image::Value;
use document::OnInvalid;
use merge::{Decision, Flow, Side, Write};
use std::borrow::Cow;

/// What a link remembers of the rows of a record, for when one of them is gone: that the source's, or the target's, was
/// outside the filter, and that the record went one way only.
pub const OUTSIDE: [i16; 2] = [1, 2];
pub const ONE_WAY: i16 = 4;

impl Record<'_> {
    /// What its link is to remember.
    pub fn standing(&self, plan: &Plan) -> i16 {
        let known = self.linked().map_or(0, |link| link.standing);
        let bit = |bit: i16, is: bool| if is { bit } else { 0 };
        let one_way = plan.screens.two_way.is_some()
            && match self.two_way {
                Some(both) => !both,
                None => self.linked().is_none_or(|link| link.standing & ONE_WAY != 0),
            };
        let outside = Side::BOTH
            .into_iter()
            .fold(0, |bits, side| bits | bit(OUTSIDE[side as usize], self.is_outside(plan, side)));
        let undecided = match self.leaves {
            Some(_) => self.undecided,
            None => outside != 0 && known & UNDECIDED != 0,
        };
        outside | bit(ONE_WAY, one_way) | bit(UNDECIDED, undecided)
    }

    /// Does the row of this side take no part? Where it was not asked: did it when it last was?
    pub fn is_outside(&self, plan: &Plan, side: Side) -> bool {
        let s = side as usize;
        plan.screens.filters[s].is_some()
            && match self.passes[s] {
                Some(passes) => !passes,
                None => self.linked().is_some_and(|link| link.standing & OUTSIDE[s] != 0),
            }
    }

    /// Does one of its rows take no part?
    pub fn takes_no_part(&self, plan: &Plan) -> bool {
        Side::BOTH.into_iter().any(|side| self.is_outside(plan, side))
    }
}

/// Rows that have to be known beside the one that changed: both of a record that may come back into the filter, and the
/// one that says which ways it goes.
pub fn read_with(plan: &Plan, records: &mut [Record<'_>]) {
    let decides = plan.screens.two_way.as_ref().map(|way| way.0);
    for record in records {
        let Some(link) = record.linked() else { continue };
        let outside = link.standing & (OUTSIDE[0] | OUTSIDE[1]) != 0
            || target_edit::wants_source(plan, record);
        let keys = Side::BOTH.map(|side| link.key_of(side));
        for side in Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side)) {
            let s = side as usize;
            if record.seen[s] == Seen::Nothing && (outside || decides == Some(side)) {
                record.keys[s] = record.keys[s].or(Some(keys[s]));
                record.seen[s] = Seen::Unread;
            }
        }
    }
}

/// Asks of the rows whose values have just been made.
pub fn screen<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    records: &mut [Record<'b>],
    pending: &[usize],
) {
    if plan.screens.is_empty() || pending.is_empty() {
        return;
    }
    let flag = Column::flag();
    filter(bump, plan, readers, side, records, pending, &flag);
    rules(bump, plan, readers, side, records, pending, &flag);
}

/// Asks whether rows take part, and which ways their records go.
pub fn filter<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    records: &mut [Record<'b>],
    pending: &[usize],
    flag: &Column,
) {
    let s = side as usize;
    let of_filter = plan.screens.filters[s].as_deref();
    let of_way =
        plan.screens.two_way.as_ref().filter(|way| way.0 == side).map(|way| way.1.as_str());
    let asked: Vec<&str> = of_filter.into_iter().chain(of_way).collect();
    if asked.is_empty() {
        return;
    }
    let table = plan.side(side);
    let statement = readers.filter[s].get_or_insert_with(|| {
        let fed: Vec<Fed> = table.columns.iter().map(|c| Fed::of(c.name.clone(), c)).collect();
        let ord = statement::ord(&fed);
        let text = format!("SELECT source.{ord}, {} FROM source AS source", asked.join(", "));
        Statement::prepare(&text, "source", fed, false)
    });
    let rows: Vec<&[Value<'b>]> = pending
        .iter()
        .map(|&n| match &records[n].seen[s] {
            Seen::Row(values) => *values,
            _ => &[][..],
        })
        .collect();
    statement.run(bump, rows.into_iter(), &vec![flag; asked.len()], |ord, values| {
        let record = &mut records[pending[ord]];
        let mut answers = values.iter().map(|value| Some(is_true(*value)));
        if of_filter.is_some() {
            record.passes[s] = answers.next().flatten();
        }
        if of_way.is_some() {
            record.two_way = answers.next().flatten();
        }
    });
}

fn rules<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    side: Side,
    records: &mut [Record<'b>],
    pending: &[usize],
    flag: &Column,
) {
    let s = side as usize;
    let asked: Vec<(usize, &str)> = plan
        .screens
        .rules
        .iter()
        .enumerate()
        .filter_map(|(n, rule)| Some((n, rule.holds[s].as_deref()?)))
        .collect();
    if asked.is_empty() {
        return;
    }
    let fed = screens::fed(&plan.fields, side, [&plan.sides[0], &plan.sides[1]]);
    let statement = readers.rules[s].get_or_insert_with(|| {
        let columns: Vec<Fed> =
            fed.iter().map(|(_, name, column)| Fed::of((*name).to_owned(), column)).collect();
        let ord = statement::ord(&columns);
        let holds: Vec<&str> = asked.iter().map(|(_, holds)| *holds).collect();
        let text = format!("SELECT f.{ord}, {} FROM {FED} AS f", holds.join(", "));
        Statement::prepare(&text, FED, columns, false)
    });
    let rows: Vec<Vec<Value<'b>>> = pending
        .iter()
        .map(|&n| {
            let sent = &records[n].sent[s];
            fed.iter().map(|(field, ..)| sent.get(*field).copied().unwrap_or(Value::Null)).collect()
        })
        .collect();
    statement.run(bump, rows.into_iter(), &vec![flag; asked.len()], |ord, values| {
        let record = &mut records[pending[ord]];
        for ((rule, _), value) in asked.iter().zip(values) {
            if !is_true(*value) {
                record.broken.push((side, *rule));
            }
        }
    });
}

fn is_true(value: Value<'_>) -> bool {
    value.bytes().is_some_and(|bytes| bytes.first() == Some(&1))
}

/// Is the record of a link in both filters, as far as that is known?
pub fn takes_part(standing: i16) -> bool {
    standing & (OUTSIDE[0] | OUTSIDE[1]) == 0
}

/// A record of which a row does not take part: each side stays as it is until it does, with what had been agreed on.
pub fn outside<'b>(plan: &Plan, record: &Record<'b>) -> Option<Decision<'b>> {
    if record.leaves.is_some() || !record.takes_no_part(plan) {
        return None;
    }
    // A row that is gone does not come back; nor does its pair go along.
    let gone = record.seen.contains(&Seen::Gone);
    let base = record.linked().filter(|_| !gone).and_then(|link| link.base.clone());
    let mut decision = Decision { write: Default::default(), conflicts: Vec::new(), base };
    rekey(plan, record, &mut decision);
    Some(decision)
}

/// The key of a record goes along, whatever else of it stays, where both sides have the same: by it alone they are told
/// to belong together.
pub fn rekey<'b>(plan: &Plan, record: &Record<'b>, decision: &mut Decision<'b>) {
    let (Some(link), Some(base), true) = (record.linked(), &mut decision.base, plan.same_key)
    else {
        return;
    };
    if record.trouble.is_some() || record.held {
        return;
    }
    let moved = |side: Side| record.keys[side as usize].is_some_and(|key| key != link.key_of(side));
    // Where both have another one, the later stands.
    let later = if record.at[1] > record.at[0] { Side::Target } else { Side::Source };
    let both = moved(Side::Source) && moved(Side::Target);
    for side in Side::BOTH.into_iter().filter(|&side| !both || side == later) {
        let (s, other) = (side as usize, side.other());
        let (Some(key), Seen::Row(row)) = (record.keys[s], &record.seen[s]) else { continue };
        let write = &mut decision.write[other as usize];
        if key == link.key_of(side) || matches!(write, Write::Insert | Write::Delete) {
            continue;
        }
        for (n, field) in plan.fields.iter().enumerate() {
            let of_key = |c| plan.side(other).key.contains(&c);
            let goes = field.how[s].is_some() && field.column[other as usize].is_some_and(of_key);
            let sent = record.sent[s].get(n).copied().unwrap_or(Value::Absent);
            if !goes || sent == Value::Absent || sent == base.side(other)[n] {
                continue;
            }
            base.set(other, n, sent);
            if let Some(own) = field.column[s] {
                base.set(side, n, row[own]);
            }
            match &mut *write {
                Write::Update(fields) if fields.contains(&n) => {}
                Write::Update(fields) => fields.push(n),
                other => *other = Write::Update(vec![n]),
            }
        }
        if let Write::Update(fields) = write {
            fields.sort_unstable();
        }
    }
}

/// The ways that the fields of a record go.
pub fn flows<'p>(plan: &'p Plan, record: &Record<'_>) -> Cow<'p, [Flow]> {
    if plan.screens.two_way.is_none() || record.standing(plan) & ONE_WAY == 0 {
        return Cow::Borrowed(&plan.flows);
    }
    let one_way = |flow: &Flow| Flow { to_source: false, ..*flow };
    Cow::Owned(plan.flows.iter().map(one_way).collect())
}

/// Does the record come back into the filter with this?
pub fn returns(plan: &Plan, record: &Record<'_>) -> bool {
    let bits = OUTSIDE[0] | OUTSIDE[1];
    record.linked().is_some_and(|link| link.standing & bits != 0) && !record.takes_no_part(plan)
}

/// Completes what is to be written by defaults, and refuses what may not be.
pub fn complete<'b>(
    bump: &'b Bump,
    plan: &Plan,
    record: &mut Record<'b>,
    decision: &mut Decision<'b>,
) {
    if record.trouble.is_some() || record.held {
        return;
    }
    for side in Side::BOTH {
        let from = side.other();
        let made = decision.write[side as usize] == Write::Insert;
        let fields: Vec<usize> = match &decision.write[side as usize] {
            Write::Insert => (0..plan.fields.len())
                .filter(|&field| plan.fields[field].how[from as usize].is_some())
                .collect(),
            Write::Update(fields) => fields.clone(),
            Write::Nothing | Write::Delete => continue,
        };
        for &field in &fields {
            if record.sent[from as usize][field] != Value::Null {
                continue;
            }
            let default = plan.fields[field].defaults[side as usize].as_deref();
            if let Some(default) = default.filter(|_| made) {
                let value = Value::Bytes(bump.alloc_slice_copy(default));
                send(record, decision, side, field, value);
            } else if plan.fields[field].required {
                return refuse(record, decision, missing(plan, field, side));
            }
        }
        for (of, n) in record.broken.clone() {
            let rule = &plan.screens.rules[n];
            if of != from || !fields.contains(&rule.field) {
                continue;
            }
            match rule.on_error {
                OnInvalid::SetNull => send(record, decision, side, rule.field, Value::Null),
                OnInvalid::Warn => note(plan, record, side, &broken(plan, record, side, n)),
                OnInvalid::RejectRecord | OnInvalid::StandardizeFormat => {
                    let failure = broken(plan, record, side, n);
                    return refuse(record, decision, failure);
                }
            }
        }
    }
}

/// Another value than the other side's is written to a side.
fn send<'b>(
    record: &mut Record<'b>,
    decision: &mut Decision<'b>,
    side: Side,
    field: usize,
    value: Value<'b>,
) {
    record.sent[side.other() as usize][field] = value;
    if let Some(agreed) = &mut decision.base {
        agreed.set(side, field, value);
    }
}

/// Nothing of the record is written, and a person is asked.
fn refuse<'b>(record: &mut Record<'b>, decision: &mut Decision<'b>, failure: Failure) {
    let base = record.linked().and_then(|link| link.base.clone());
    *decision = Decision { write: Default::default(), conflicts: Vec::new(), base };
    record.trouble = Some(failure);
}

fn missing(plan: &Plan, field: usize, side: Side) -> Failure {
    let name = plan.fields[field].name(plan);
    Failure {
        sqlstate: "23502".into(),
        message: format!("the required field \"{name}\" is empty"),
        detail: Some(format!("It was to be sent to {}.", plan.side(side).name)),
        hint: Some("Fill it in and the record goes by itself; or give its mapping a \"default\", or take \"required\" away.".into()),
    }
}

fn broken(plan: &Plan, record: &Record<'_>, side: Side, rule: usize) -> Failure {
    let rule = &plan.screens.rules[rule];
    let name = plan.fields[rule.field].name(plan);
    let column = plan.fields[rule.field].column[side as usize].map(|c| &plan.side(side).columns[c]);
    let value = record.sent[side.other() as usize][rule.field].bytes();
    let shown = value.zip(column).map(|(bytes, column)| render(bytes, column));
    Failure {
        sqlstate: "23514".into(),
        message: format!("the field \"{name}\" breaks the rule {}", rule.name),
        detail: Some(format!(
            "\"{}\" is asked of what is sent to {}: {}.",
            rule.path,
            plan.side(side).name,
            shown.map_or("null".to_owned(), |shown| format!("\"{}\"", shortened(&shown)))
        )),
        hint: Some("Correct the value and the record goes by itself; or change the rule.".into()),
    }
}

/// A value as far as a message needs it.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Notes what is sent all the same.
fn note(plan: &Plan, record: &Record<'_>, side: Side, failure: &Failure) {
    let from = side.other();
    let Some(key) = record.keys[from as usize] else { return };
    let text = key_text(plan, from, key);
    sql::as_extension(|| {
        sql::often(
            "INSERT INTO sync._error (sync, side, key_text, attempt, sqlstate, message, detail, hint)
             VALUES ($1, $2::int2, $3, 0, '01000', $4, $5, $6)",
            &[
                Arg::Int4(plan.id),
                Arg::Int4(from as i32),
                Arg::Text(&text),
                Arg::Text(&failure.message),
                Arg::OptText(failure.detail.as_deref()),
                Arg::OptText(failure.hint.as_deref()),
            ],
        )
    });
}
