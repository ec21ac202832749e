//! Conflicts that wait for a person: what was decided of them is carried out when their record is looked at again, and
//! whoever edits such a field once more decides too.

use super::collect::Seen;
use super::exits::UNDECIDED;
use super::plan::Plan;
use super::queue::{self, Marks};
use super::resolve::Record;
use crate::sql::{self, Arg};
use change::image::Value;
use document::OnDifference;
use merge::{Base, Decision, Deletes, Rule, Side, Write};

/// The condition under which an open conflict is of a record, by the key of either side.
const OF_RECORD: &str = "c.sync = $1 AND c.winner IS NULL
    AND c.key IN ($2, $3) AND c.key = CASE c.side WHEN 0 THEN $2 ELSE $3 END";

fn of_record<'r>(plan: &Plan, record: &'r Record<'_>) -> [Arg<'r>; 3] {
    let key = |side: usize| Arg::Bytes(record.keys[side].unwrap_or_default());
    [Arg::Int4(plan.id), key(0), key(1)]
}

/// Looks up whose value is to stand in which field of the records that wait in the queue.
pub fn look_up(plan: &Plan, queued: &Marks, records: &mut [Record<'_>]) {
    if !asks_people(plan) || queued.is_empty() {
        return;
    }
    for record in records.iter_mut().filter(|record| record.linked().is_some()) {
        let waits = |side: Side| {
            record.keys[side as usize].is_some_and(|key| queued.contains(queue::mark(side, key)))
        };
        if !Side::BOTH.into_iter().any(waits) {
            continue;
        }
        let decided = sql::as_extension(|| {
            let text = format!(
                "SELECT c.field, c.keep FROM sync._conflict c WHERE {OF_RECORD} AND c.keep IS NOT NULL"
            );
            sql::query(&text, &of_record(plan, record))
        });
        for row in &decided {
            let [Some(field), Some(keep)] = row.as_slice() else { continue };
            let side = if keep == "0" { Side::Source } else { Side::Target };
            if let Some(field) = plan.fields.iter().position(|f| f.name(plan) == field) {
                record.kept.push((field, side));
            }
        }
    }
}

/// The agreement as it is where a person has decided: of the value that is to stand nothing was agreed on, so that it
/// travels.
pub fn undone<'b>(base: &Base<'b>, record: &Record<'b>) -> Option<Base<'b>> {
    if record.kept.is_empty() {
        return None;
    }
    let mut base = base.clone();
    for &(field, side) in &record.kept {
        base.set(side, field, Value::Marker);
    }
    Some(base)
}

/// What was decided of a record is written down with its conflicts: by whom a field was changed again, or that two
/// changed it again, and a person has to look once more.
pub fn close(plan: &Plan, record: &Record<'_>, decision: &Decision<'_>) {
    if !asks_people(plan) {
        return;
    }
    if plan.deletes == Deletes::Review {
        close_deletes(plan, record, decision);
    }
    let mut decided: Vec<(usize, Option<Side>)> = Vec::new();
    for side in Side::BOTH {
        if let Write::Update(fields) = &decision.write[side as usize] {
            // An edit decides what nobody has, whatever the rule of its field.
            let reported = plan.config.on_difference == Some(OnDifference::Report);
            let reviewed = |&field: &usize| reported || plan.flows[field].rule == Rule::Review;
            let fields = fields.iter().copied().filter(reviewed);
            decided.extend(fields.map(|field| (field, Some(side.other()))));
        }
    }
    for &(field, side) in &record.kept {
        let again = decision.conflicts.iter().any(|c| c.field == field && c.winner.is_none());
        if !decided.iter().any(|(known, _)| *known == field) {
            decided.push((field, (!again).then_some(side)));
        }
    }
    if decided.is_empty() {
        return;
    }
    let text = format!(
        "UPDATE sync._conflict c SET winner = $5, keep = NULL,
                resolved_by = CASE WHEN $5 IS NOT NULL THEN resolved_by END,
                resolved_at = CASE WHEN $5 IS NOT NULL THEN pg_catalog.clock_timestamp() END,
                reason = reason || CASE WHEN $5 IS NULL THEN ''
                         ELSE '; ' || COALESCE(resolved_by || ' has decided', 'an edit of the ' || $5 || ' has decided') END
          WHERE {OF_RECORD} AND c.field = $4 AND c.kind <> 'update_deleted' AND ($5 IS NOT NULL OR c.keep IS NOT NULL)"
    );
    sql::as_extension(|| {
        for (field, winner) in decided {
            let [sync, source, target] = of_record(plan, record);
            let field = Arg::Text(plan.fields[field].name(plan));
            let winner = Arg::OptText(winner.map(Side::name));
            sql::query(&text, &[sync, source, target, field, winner]);
        }
    });
}

/// A record that one side deleted while the other changed it is there on both sides again, or on neither. That a field
/// of it was sent once more says nothing: there is no record that could take it.
fn close_deletes(plan: &Plan, record: &Record<'_>, decision: &Decision<'_>) {
    let written = |wanted: fn(&Write) -> bool| decision.write.iter().any(wanted);
    // One that has left its filter is as one that is gone, until that is decided.
    let undecided = match record.leaves {
        Some(_) => record.undecided,
        None => {
            record.takes_no_part(plan)
                && record.linked().is_some_and(|link| link.standing & UNDECIDED != 0)
        }
    };
    let there = record.seen.iter().all(|seen| matches!(seen, Seen::Row(_))) && !undecided;
    let deleted = written(|write| *write == Write::Delete);
    if !deleted && !there && !written(|write| *write == Write::Insert) {
        return;
    }
    let text = format!(
        "UPDATE sync._conflict c SET keep = NULL, resolved_at = pg_catalog.clock_timestamp(),
                winner = CASE WHEN (c.source_value IS NULL) = $4 THEN 'source' ELSE 'target' END,
                reason = reason || '; ' || COALESCE(resolved_by || ' has decided', 'the record was ' || CASE WHEN $4 THEN 'deleted' ELSE 'made' END || ' again')
          WHERE {OF_RECORD} AND c.kind = 'update_deleted'"
    );
    let [sync, source, target] = of_record(plan, record);
    sql::as_extension(|| sql::query(&text, &[sync, source, target, Arg::Bool(deleted)]));
}

/// Nothing is left of a record of which something was decided.
pub fn drop_decision(sync: i32, key: &str) {
    sql::query(
        "UPDATE sync._conflict SET resolved_at = pg_catalog.clock_timestamp(), reason = reason || '; the record is gone'
          WHERE sync OPERATOR(pg_catalog.=) $1 AND key_text OPERATOR(pg_catalog.=) $2 AND winner IS NULL",
        &[Arg::Int4(sync), Arg::Text(key)],
    );
}

fn asks_people(plan: &Plan) -> bool {
    plan.config.on_difference == Some(OnDifference::Report)
        || plan.deletes == Deletes::Review
        || plan.flows.iter().any(|flow| flow.rule == Rule::Review)
}
