//! What becomes of an edit on the target of a sync that goes one way: it stays until the source changes the field, is
//! undone, or stays and is told.

use super::collect::Seen;
use super::plan::Plan;
use super::resolve::Record;
use super::settle;
use change::image::Value;
use document::OnTargetEdit;
use merge::{Decision, Side, Write};

/// Has the source to be known, because the target's row is gone and is to be there again?
pub fn wants_source(plan: &Plan, record: &Record<'_>) -> bool {
    plan.config.on_target_edit == OnTargetEdit::Overwrite
        && record.linked().is_some()
        && record.seen[Side::Target as usize] == Seen::Gone
        && record.seen[Side::Source as usize] == Seen::Nothing
}

/// Does with edits of the target as the document says, beside what was decided for the record.
pub fn judge<'b>(plan: &Plan, record: &mut Record<'b>, decision: &mut Decision<'b>) {
    let policy = plan.config.on_target_edit;
    if policy == OnTargetEdit::Keep || record.trouble.is_some() || record.held {
        return;
    }
    let (source, target) = (Side::Source as usize, Side::Target as usize);
    let Seen::Row(row) = record.seen[target] else { return };
    let Some(base) = record.linked().and_then(|link| link.base.clone()) else { return };
    let mut fields = match &decision.write[target] {
        Write::Nothing => Vec::new(),
        Write::Update(fields) => fields.clone(),
        Write::Insert | Write::Delete => return,
    };
    for (n, field) in plan.fields.iter().enumerate() {
        let Some(column) = field.column[target].filter(|_| field.how[source].is_some()) else {
            continue;
        };
        let (held, agreed) = (row[column], base.target[n]);
        if held == Value::Absent || !agreed.is_known() || held == agreed || fields.contains(&n) {
            continue;
        }
        // What a trigger made of our own write is what there is now: undone, it would be made once more.
        let own = record.own[target];
        if policy == OnTargetEdit::Overwrite && !own {
            record.sent[source].resize(plan.fields.len(), Value::Absent);
            record.sent[source][n] = agreed;
            fields.push(n);
            continue;
        }
        if !own {
            settle::note_target_edit(plan, record, n, held);
        }
        if let Some(now) = &mut decision.base {
            now.set(Side::Target, n, held);
        }
    }
    if !fields.is_empty() {
        fields.sort_unstable();
        decision.write[target] = Write::Update(fields);
    }
}
