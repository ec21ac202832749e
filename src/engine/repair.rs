//! Records that an audit found and a person has had put right: what differs is merged as if it had been changed, also
//! where both sides are as they were when they last agreed to it.

use super::audit::differing;
use super::collect::Seen;
use super::plan::Plan;
use super::queue::{self, Marks};
use super::resolve::Record;
use change::image::Value;
use merge::{Base, Decision, Flow, Now, Rule, Side};

/// Whose value is to stand where nothing tells which is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As the document says.
    Rule,
    Side(Side),
}

impl Keep {
    /// As `sync._queue` has it.
    pub const fn number(self) -> i32 {
        match self {
            Keep::Side(side) => side as i32,
            Keep::Rule => 2,
        }
    }

    pub fn of(number: &str) -> Option<Self> {
        match number {
            "0" => Some(Keep::Side(Side::Source)),
            "1" => Some(Keep::Side(Side::Target)),
            "2" => Some(Keep::Rule),
            _ => None,
        }
    }
}

/// Looks up which of the records that wait are to be put right. Those of which a row is not known yet are read first:
/// merged without it, they would be settled and forgotten. True if there are such.
pub fn look_up(plan: &Plan, queued: &Marks, records: &mut [Record<'_>]) -> bool {
    if !queued.has_repairs() {
        return false;
    }
    let mut any = false;
    for record in records.iter_mut().filter(|r| r.trouble.is_none() && !r.held) {
        record.repair = Side::BOTH.into_iter().find_map(|side| {
            let linked = record.linked().map(|link| link.key_of(side));
            let mut keys = [record.keys[side as usize], linked].into_iter().flatten();
            keys.find_map(|key| {
                queued
                    .contains(queue::mark(side, key))
                    .then(|| queue::repair_of(plan, side, key))?
            })
        });
        let unread = record.linked().is_some() && record.seen.contains(&Seen::Nothing);
        if record.repair.is_some() && unread {
            (record.held, record.unread) = (true, true);
            any = true;
        }
    }
    any
}

/// What a record that is to be put right comes to; `None`: what it would without.
pub fn decide<'b>(
    plan: &Plan,
    record: &Record<'b>,
    flows: &[Flow],
    now: &[Now<'b>; 2],
) -> Option<Decision<'b>> {
    let keep = record.repair?;
    let base = record.linked().and_then(|link| link.base.as_ref());
    let holder = match now {
        [Now::Row(_), Now::Row(_)] => None,
        [Now::Row(_), Now::Gone] => Some(Side::Source),
        [Now::Gone, Now::Row(_)] => Some(Side::Target),
        _ => return None,
    };
    let deletes = record.deletes(plan);
    if let Some(holder) = holder {
        // It is made again, as if it had never been linked.
        return (keep == Keep::Side(holder))
            .then(|| merge::merge(flows, deletes, None, now, record.edits(), &[]));
    }
    let mut flows = flows.to_vec();
    let mut seen = base.cloned();
    for field in differing(plan, &flows, record) {
        let ways = Side::BOTH.map(|side| flows[field].from(side));
        let moved = base.map_or([true, true], |base| moved(plan, base, record, field));
        let winner = match (keep, ways) {
            (_, [true, false]) => Side::Source,
            (_, [false, true]) => Side::Target,
            (Keep::Side(side), _) => side,
            (Keep::Rule, _) if moved[0] != moved[1] => continue,
            (Keep::Rule, _) => match flows[field].rule {
                Rule::Prefer(side) => side,
                // Nothing tells when which was changed: the source's stands, as at the same time.
                Rule::Later | Rule::Function if moved == [false, false] => Side::Source,
                Rule::Later | Rule::Function => continue,
                Rule::Review => {
                    if let Some(seen) = &mut seen {
                        seen.set(Side::Source, field, Value::Marker);
                        seen.set(Side::Target, field, Value::Marker);
                    }
                    continue;
                }
            },
        };
        flows[field].rule = Rule::Prefer(winner);
        flows[field].group = None;
        if let Some(seen) = &mut seen {
            seen.set(winner, field, Value::Marker);
        }
    }
    Some(merge::merge(&flows, deletes, seen.as_ref(), now, record.edits(), &record.chosen))
}

/// Which sides have moved a field away from what was agreed on.
fn moved(plan: &Plan, base: &Base<'_>, record: &Record<'_>, field: usize) -> [bool; 2] {
    Side::BOTH.map(|side| {
        match (&record.seen[side as usize], plan.fields[field].column[side as usize]) {
            (Seen::Row(row), Some(column)) => row[column] != base.side(side)[field],
            _ => false,
        }
    })
}
