//! What becomes of a record whose other side was deleted, where the document does not have it deleted too: it stays, or
//! is marked. Its link remembers that, so that an edit of what stayed does not bring back what was deleted.

use super::collect::Seen;
use super::plan::Plan;
use super::resolve::Record;
use crate::capture::row;
use bumpalo::Bump;
use change::image::Value;
use document::OnDelete;
use merge::{Base, Decision, Side, Write};
use pgrx::pg_sys;

/// What a link remembers of a record of which only one side is left, by that side.
const STAYED: [i16; 2] = [8, 16];

/// What the link of a record is to remember whose side `stays`.
pub fn standing(plan: &Plan, stays: Side) -> i16 {
    match plan.on_delete(stays.other()) {
        OnDelete::Delete => 0,
        OnDelete::Mark { .. } | OnDelete::Keep => STAYED[stays as usize],
    }
}

/// A record of which one side has stayed: nothing comes of it until there is a row on the other side again.
pub fn stayed<'b>(record: &Record<'b>) -> Option<Decision<'b>> {
    let link = record.link.as_ref().filter(|link| link.deleted)?;
    let stays = Side::BOTH.into_iter().find(|&s| link.standing & STAYED[s as usize] != 0)?;
    let alone = !matches!(record.seen[stays.other() as usize], Seen::Row(_));
    alone.then(|| Decision { write: Default::default(), conflicts: Vec::new(), base: None })
}

/// Has what had stayed gone as well? Then the link has nothing to remember.
pub fn ended(record: &Record<'_>) -> bool {
    record.link.as_ref().is_some_and(|link| {
        link.deleted
            && Side::BOTH.into_iter().any(|side| {
                link.standing & STAYED[side as usize] != 0
                    && record.seen[side as usize] == Seen::Gone
            })
    })
}

/// Puts in the place of a delete what the document wants.
pub fn depart<'b>(
    bump: &'b Bump,
    plan: &Plan,
    record: &mut Record<'b>,
    decision: &mut Decision<'b>,
) {
    for stays in Side::BOTH {
        if decision.write[stays as usize] != Write::Delete {
            continue;
        }
        let gone = stays.other();
        decision.write[stays as usize] = match plan.on_delete(gone) {
            OnDelete::Delete => continue,
            OnDelete::Keep => Write::Nothing,
            OnDelete::Mark { .. } => {
                let Some(field) = plan.marks[stays as usize] else { continue };
                let sent = &mut record.sent[gone as usize];
                sent.resize(plan.fields.len(), Value::Absent);
                sent[field] = mark(bump, plan, stays, field);
                Write::Update(vec![field])
            }
        };
        record.stays = Some(stays);
    }
}

/// Did the two sides agree that this one's record is marked?
pub fn is_marked(plan: &Plan, base: &Base<'_>, side: Side) -> bool {
    plan.marks[side as usize].is_some_and(|field| match base.side(side)[field] {
        Value::Bytes(bytes) => !is_flag(plan, side, field) || bytes.first() == Some(&1),
        _ => false,
    })
}

/// False, or no time.
pub fn no_mark(plan: &Plan, side: Side, field: usize) -> Value<'static> {
    if is_flag(plan, side, field) { Value::Bytes(&[0]) } else { Value::Null }
}

fn is_flag(plan: &Plan, side: Side, field: usize) -> bool {
    let column = plan.fields[field].column[side as usize].map(|c| &plan.side(side).columns[c]);
    column.is_some_and(|column| column.base_type == pg_sys::BOOLOID)
}

/// True, or the time.
fn mark<'b>(bump: &'b Bump, plan: &Plan, side: Side, field: usize) -> Value<'b> {
    if is_flag(plan, side, field) {
        return Value::Bytes(&[1]);
    }
    Value::Bytes(bump.alloc_slice_copy(&row::now().to_ne_bytes()))
}
