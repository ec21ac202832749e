//! What an audit says of one record, both of whose rows are known: the values that each side would send, held against
//! what the other has.

use crate::engine::collect::Seen;
use crate::engine::plan::Plan;
use crate::engine::resolve::Record;
use crate::engine::screen;
use change::image::Value;
use document::OnInvalid;
use merge::{Flow, Side};

/// What is found of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Both rows are linked, and fields of them differ.
    Differs,
    /// The row of this side has no partner.
    OnlyOn(Side),
    /// Both rows have the same key, and nothing says that they belong together.
    NotLinked,
    /// They are linked, and this side has no such row any more; `None`: neither has.
    LinkWithoutRow(Option<Side>),
    /// An expression or a value of it raises.
    Failed,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Differs => "differs",
            Kind::OnlyOn(Side::Source) => "only on source",
            Kind::OnlyOn(Side::Target) => "only on target",
            Kind::NotLinked => "not linked",
            Kind::LinkWithoutRow(_) => "link without row",
            Kind::Failed => "cannot be compared",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Agrees,
    /// A row of it does not pass its filter.
    Outside,
    /// A person has decided that the two go apart.
    Released,
    /// With the fields that differ.
    Found(Kind, Vec<usize>),
}

pub fn verdict(plan: &Plan, record: &Record<'_>) -> Verdict {
    if record.takes_no_part(plan) {
        return Verdict::Outside;
    }
    let there = record.seen.each_ref().map(|seen| matches!(seen, Seen::Row(_)));
    match (there, record.linked().is_some()) {
        ([true, true], linked) => {
            let fields = differing(plan, &screen::flows(plan, record), record);
            match (linked, fields.is_empty()) {
                (true, true) => Verdict::Agrees,
                (true, false) => Verdict::Found(Kind::Differs, fields),
                (false, _) => Verdict::Found(Kind::NotLinked, fields),
            }
        }
        ([false, false], true) => Verdict::Found(Kind::LinkWithoutRow(None), Vec::new()),
        ([false, false], false) => Verdict::Agrees,
        ([source, _], true) => {
            let gone = if source { Side::Target } else { Side::Source };
            Verdict::Found(Kind::LinkWithoutRow(Some(gone)), Vec::new())
        }
        (_, false) if record.link.is_some() => Verdict::Released,
        ([source, _], false) => {
            let side = if source { Side::Source } else { Side::Target };
            Verdict::Found(Kind::OnlyOn(side), Vec::new())
        }
    }
}

/// The fields in which two rows differ: no way that the field goes leads to what is there. Two-way pairs of
/// expressions need not undo each other, so that one way is enough.
pub fn differing(plan: &Plan, flows: &[Flow], record: &Record<'_>) -> Vec<usize> {
    (0..flows.len())
        .filter(|&field| {
            let mut ways = Side::BOTH
                .into_iter()
                .filter(|&side| flows[field].from(side))
                .map(|side| arrived(plan, flows[field], record, field, side))
                .peekable();
            ways.peek().is_some() && !ways.any(|arrived| arrived)
        })
        .collect()
}

/// Does the other side hold what this one sends?
fn arrived(plan: &Plan, flow: Flow, record: &Record<'_>, field: usize, from: Side) -> bool {
    let to = from.other();
    let (Seen::Row(row), Some(column)) =
        (&record.seen[to as usize], plan.fields[field].column[to as usize])
    else {
        return true;
    };
    let held = row[column];
    let Some(&sent) = record.sent[from as usize].get(field) else { return true };
    let emptied = record.broken.iter().any(|&(side, rule)| {
        let rule = &plan.screens.rules[rule];
        side == from && rule.field == field && rule.on_error == OnInvalid::SetNull
    });
    let sent = if emptied { Value::Null } else { sent };
    let default = plan.fields[field].defaults[to as usize].as_deref();
    sent == held
        || sent == Value::Null
            && (flow.ignores_null || default.is_some_and(|default| held == Value::Bytes(default)))
}

/// What is known of how a field came to differ.
pub fn since(record: &Record<'_>, plan: &Plan, field: usize) -> &'static str {
    let Some(base) = record.linked().and_then(|link| link.base.as_ref()) else {
        return "nothing was agreed on";
    };
    let moved = Side::BOTH.map(|side| {
        let column = plan.fields[field].column[side as usize];
        match (&record.seen[side as usize], column) {
            (Seen::Row(row), Some(column)) => row[column] != base.side(side)[field],
            _ => false,
        }
    });
    match moved {
        [false, false] => "both are as they were when they were last compared",
        [true, false] => "the source was changed",
        [false, true] => "the target was changed",
        [true, true] => "both were changed",
    }
}
