//! Rows that leave their filter, where the document has the other side's record deleted then: for the other side it is
//! as if the row had been deleted. The row itself stays as it is, and is a new record when it comes back.

use super::classify::{Class, class};
use super::collect::{Half, Seen};
use super::departed;
use super::link::{self, Links, Places};
use super::plan::{Column, Plan};
use super::resolve::{self, Readers, Record};
use super::screen::{self, OUTSIDE};
use super::shapes::Shapes;
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::Value;
use document::{OnDelete, OnExit};
use merge::{Decision, Side, Write};

/// What a link remembers of a record whose row has left the filter while the other side's was edited, until a person has
/// decided which of the two stands.
pub const UNDECIDED: i16 = 32;

/// Does a row of this side take the other side's record along when it leaves the filter?
pub fn of_side(plan: &Plan, side: Side) -> bool {
    plan.config.filter.on_exit == OnExit::Delete
        && plan.screens.filters[side as usize].is_some()
        && plan.flows_from(side)
}

/// Does one of either side?
pub fn of_any(plan: &Plan) -> bool {
    Side::BOTH.into_iter().any(|side| of_side(plan, side))
}

/// The side whose row has just left its filter, where the other side's record is to go for it.
pub fn leaving(plan: &Plan, record: &Record<'_>) -> Option<Side> {
    let link = record.linked().filter(|link| link.base.is_some())?;
    let undecided = link.standing & UNDECIDED != 0;
    let side = Side::BOTH
        .into_iter()
        .find(|&side| of_side(plan, side) && record.passes[side as usize] == Some(false))?;
    let was_outside = |side: Side| {
        plan.screens.filters[side as usize].is_some() && link.standing & OUTSIDE[side as usize] != 0
    };
    // A row that is marked is itself one whose partner has left.
    if link.base.as_ref().is_some_and(|base| departed::is_marked(plan, base, side)) {
        return None;
    }
    // What was let go before stays, and nothing becomes of a row that takes no part itself.
    if !undecided && Side::BOTH.into_iter().any(was_outside)
        || record.is_outside(plan, side.other())
    {
        return None;
    }
    screen::flows(plan, record).iter().any(|flow| flow.from(side)).then_some(side)
}

/// Puts in the place of what was decided as if the row had been deleted what is right for one that is there.
pub fn settle<'b>(plan: &Plan, record: &mut Record<'b>, decision: &mut Decision<'b>) {
    let Some(side) = record.leaves else { return unmark(plan, record, decision) };
    let other = side.other();
    record.undecided = decision.conflicts.iter().any(|conflict| conflict.winner.is_none());
    if decision.write[side as usize] == Write::Insert {
        // The other side's edit stands: each stays as it is until the row comes back.
        decision.write[side as usize] = Write::Nothing;
        decision.base = record.linked().and_then(|link| link.base.clone());
    }
    if record.stays.take().is_some()
        && let Some(field) = plan.marks[other as usize]
        && let Some(mut agreed) = record.linked().and_then(|link| link.base.clone())
    {
        // Marked, it stays linked: the same two belong together when the row comes back.
        if departed::is_marked(plan, &agreed, other) {
            decision.write[other as usize] = Write::Nothing;
        } else {
            let mark = record.sent[side as usize][field];
            Side::BOTH.into_iter().for_each(|side| agreed.set(side, field, mark));
        }
        decision.base = Some(agreed);
    }
    screen::rekey(plan, record, decision);
}

/// The mark is taken off a record whose row is in the filter again.
fn unmark<'b>(plan: &Plan, record: &mut Record<'b>, decision: &mut Decision<'b>) {
    if record.trouble.is_some() || record.held || record.linked().is_none() {
        return;
    }
    for side in Side::BOTH {
        let (s, other) = (side as usize, side.other());
        let marks = of_side(plan, side) && matches!(plan.on_delete(side), OnDelete::Mark { .. });
        let (true, Some(field), Some(agreed)) =
            (marks, plan.marks[other as usize], &mut decision.base)
        else {
            continue;
        };
        let inside = matches!(record.seen[s], Seen::Row(_)) && record.passes[s] == Some(true);
        if !inside || !departed::is_marked(plan, agreed, other) {
            continue;
        }
        let none = departed::no_mark(plan, other, field);
        match &mut decision.write[other as usize] {
            Write::Update(fields) => fields.push(field),
            write @ Write::Nothing => *write = Write::Update(vec![field]),
            Write::Insert | Write::Delete => continue,
        }
        record.sent[s].resize(plan.fields.len(), Value::Absent);
        record.sent[s][field] = none;
        Side::BOTH.into_iter().for_each(|side| agreed.set(side, field, none));
    }
}

/// Those of these halves, by their places, whose rows have just left the filter and take the other side's record along:
/// asked before anything is done with them.
///
/// # Errors
/// Trouble of the sync as a whole. A row whose condition raises is none of them: it is put aside when its turn comes.
pub fn leaving_of(
    plan: &Plan,
    readers: &mut Readers,
    places: &mut Places,
    shapes: &mut Shapes,
    halves: &[Half<'_>],
) -> Result<Vec<usize>, Failure> {
    let asked: Vec<usize> = (0..halves.len())
        .filter(|&n| {
            of_side(plan, halves[n].side) && matches!(halves[n].seen, Seen::Row(_) | Seen::Unread)
        })
        .collect();
    if asked.is_empty() {
        return Ok(asked);
    }
    transaction(|| {
        link::index(plan);
        Ok(())
    })?;
    let mut found = Vec::new();
    ask(plan, readers, places, shapes, halves, &asked, &mut found)?;
    Ok(found)
}

fn ask(
    plan: &Plan,
    readers: &mut Readers,
    places: &mut Places,
    shapes: &mut Shapes,
    halves: &[Half<'_>],
    asked: &[usize],
    found: &mut Vec<usize>,
) -> Result<(), Failure> {
    match ask_all(plan, readers, places, shapes, halves, asked) {
        Ok(leaving) => found.extend(leaving),
        Err(failure) if matches!(class(&failure), Class::Server | Class::Sync) => {
            return Err(failure);
        }
        Err(_) if asked.len() == 1 => {}
        Err(_) => {
            let (left, right) = asked.split_at(asked.len() / 2);
            ask(plan, readers, places, shapes, halves, left, found)?;
            ask(plan, readers, places, shapes, halves, right, found)?;
        }
    }
    Ok(())
}

fn ask_all(
    plan: &Plan,
    readers: &mut Readers,
    places: &mut Places,
    shapes: &mut Shapes,
    halves: &[Half<'_>],
    asked: &[usize],
) -> Result<Vec<usize>, Failure> {
    let bump = Bump::new();
    as_owner(plan.owner, &plan.search_path, true, || {
        let keys: Vec<(Side, &[u8])> = asked
            .iter()
            .map(|&n| (halves[n].side, halves[n].before.unwrap_or(halves[n].key)))
            .collect();
        let mut links = Links::open(plan, places);
        let linked = links.find_all(&bump, shapes, &keys);
        links.close();
        let (mut of, mut records) = (Vec::new(), Vec::new());
        for (&n, link) in asked.iter().zip(linked) {
            let Some(link) = link.filter(|link| !link.deleted) else { continue };
            let half = &halves[n];
            let mut record = Record::new(Some(link));
            record.keys[half.side as usize] = Some(half.key);
            record.seen[half.side as usize] = match &half.seen {
                // A value left out because it did not change may be what the condition asks for.
                Seen::Row(values) if values.contains(&Value::Absent) => Seen::Unread,
                seen => seen.clone(),
            };
            of.push(n);
            records.push(record);
        }
        let flag = Column::flag();
        for side in Side::BOTH {
            resolve::read(&bump, plan, readers, side, &mut records);
            let rows: Vec<usize> = (0..records.len())
                .filter(|&n| matches!(records[n].seen[side as usize], Seen::Row(_)))
                .collect();
            if !rows.is_empty() {
                screen::filter(&bump, plan, readers, side, &mut records, &rows, &flag);
            }
        }
        // Of one that a person is to decide about nothing goes by itself.
        let leave = |(_, record): &(usize, Record<'_>)| {
            let undecided = record.linked().is_some_and(|link| link.standing & UNDECIDED != 0);
            !undecided && leaving(plan, record).is_some()
        };
        Ok(of.into_iter().zip(records).filter(leave).map(|(n, _)| n).collect())
    })
}
