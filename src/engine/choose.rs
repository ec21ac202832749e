//! Fields of which a function of the user's chooses the value, where both sides changed them. It runs where it can write
//! nothing: with the user's other expressions.

use super::collect::Seen;
use super::plan::Plan;
use super::resolve::{Readers, Record, evaluate};
use super::statement::{FED, Fed, ORD, Statement};
use crate::worker::transaction::{Failure, refuse};
use bumpalo::Bump;
use change::image::Value;
use merge::Side;

/// Asks the functions about all records at once, field by field. Raises what a function raises.
pub fn choose<'b>(bump: &'b Bump, plan: &Plan, readers: &mut Readers, records: &mut [Record<'b>]) {
    let ours = plan.ours();
    let (o, theirs) = (ours as usize, ours.other());
    let disputed: Vec<Vec<usize>> = records.iter().map(|record| of(plan, record)).collect();
    for (n, field) in plan.fields.iter().enumerate() {
        let (Some(function), Some(c)) = (&plan.functions[n], field.column[o]) else { continue };
        let asked: Vec<usize> = (0..records.len()).filter(|&r| disputed[r].contains(&n)).collect();
        if asked.is_empty() {
            continue;
        }
        let column = &plan.side(ours).columns[c];
        let rows = asked.iter().map(|&r| {
            let record = &records[r];
            let base = record.linked().and_then(|link| link.base.as_ref());
            let agreed = base.map_or(Value::Null, |base| base.side(ours)[n]);
            let held = match &record.seen[o] {
                Seen::Row(row) => row[c],
                _ => Value::Null,
            };
            [agreed, held, record.sent[theirs as usize][n]]
                .map(|v| if v.is_known() { v } else { Value::Null })
        });
        let fed = ["base", "ours", "theirs"].map(|name| Fed::of(name.to_owned(), column));
        let text = format!(
            "SELECT f.{ORD}, CAST({function}(f.base, f.ours, f.theirs) AS {}) FROM {FED} AS f",
            column.cast
        );
        let statement = Statement::prepare(&text, FED, fed.to_vec(), false);
        let mut chosen: Vec<Value<'b>> = vec![Value::Null; asked.len()];
        statement.run(bump, rows.collect::<Vec<_>>().iter(), &[column], |ord, values| {
            chosen[ord] = values[0]
        });
        // As the other side will hold it.
        let mut as_rows: Vec<Record<'b>> = Vec::with_capacity(asked.len());
        for (&r, &value) in asked.iter().zip(&chosen) {
            let mut record = Record::new(None);
            if let Seen::Row(row) = &records[r].seen[o] {
                let row = bump.alloc_slice_copy(row);
                row[c] = value;
                record.seen[o] = Seen::Row(row);
            }
            as_rows.push(record);
        }
        evaluate(bump, plan, readers, ours, &mut as_rows);
        for ((&r, &value), as_row) in asked.iter().zip(&chosen).zip(as_rows) {
            let sent = as_row.sent[o].get(n).copied().unwrap_or(Value::Absent);
            let mut values = [sent; 2];
            values[o] = value;
            if as_row.trouble.is_some() || as_row.missing.is_some() || sent == Value::Absent {
                records[r].trouble = as_row.trouble.or_else(|| Some(unfit(plan, n, function)));
            } else {
                records[r].chosen.push((n, values));
            }
        }
    }
}

fn of(plan: &Plan, record: &Record<'_>) -> Vec<usize> {
    if record.trouble.is_some() {
        return Vec::new();
    }
    let now = Side::BOTH.map(|side| record.now(plan, side));
    let base = record.linked().and_then(|link| link.base.as_ref());
    merge::disputed(&plan.flows, base, &now, record.edits())
}

fn unfit(plan: &Plan, field: usize, function: &str) -> Failure {
    refuse(
        "22023",
        format!("what {function} chose for \"{}\" cannot be sent", plan.fields[field].name(plan)),
        "The other side has no value for it.",
        "Let the function return one of the values that it is given.",
    )
}

/// What was chosen is what both sides are sent.
pub fn send_chosen(record: &mut Record<'_>) {
    for (field, [source, target]) in std::mem::take(&mut record.chosen) {
        record.sent[Side::Source as usize][field] = target;
        record.sent[Side::Target as usize][field] = source;
    }
}
