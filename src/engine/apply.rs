//! Step 4: writes what the merge decided, set by set, as the sync's owner. Every overwritten field is
//! checked against the value it is believed to hold: an edit that came in between is never lost, the
//! record is merged again instead.

use super::collect::Seen;
use super::plan::{Column, Plan};
use super::resolve::{Record, fed_key, key_matches, key_values};
use super::statement::{FED, Fed, ORD, Statement};
use crate::capture;
use crate::sql::identifier;
use crate::worker::transaction::Failure;
use bumpalo::Bump;
use change::image::{self, Value};
use merge::{Decision, Side, Write};
use std::collections::{BTreeMap, HashMap};

/// The statements of one sync that write.
#[derive(Default)]
pub struct Writers {
    insert: HashMap<(Side, Vec<usize>), Statement>,
    update: HashMap<(Side, Vec<usize>), Statement>,
    delete: [Option<Statement>; 2],
}

/// What became of a record.
#[derive(Clone, Debug, Default)]
pub struct Outcome<'b> {
    /// The row on that side was no longer what we took it for.
    pub missed: [bool; 2],
    /// The key of the row that was created on that side.
    pub created: [Option<&'b [u8]>; 2],
    /// The key after an update that changed it.
    pub rekeyed: [Option<&'b [u8]>; 2],
    /// Changes of the row on that side with a lower number are older than what was written here.
    pub first: [i64; 2],
    /// What was decided for the other system is on its way under this number.
    pub intent: Option<i64>,
}

/// Applies the decisions. Inside a transaction and an SPI connection, as the sync's owner.
///
/// # Errors
/// When a trigger of the user's swallowed a row; what PostgreSQL refuses is raised.
pub fn apply<'b>(
    bump: &'b Bump,
    plan: &Plan,
    writers: &mut Writers,
    records: &[Record<'b>],
    decisions: &[Decision<'b>],
) -> Result<Vec<Outcome<'b>>, Failure> {
    let mut outcomes = vec![Outcome::default(); records.len()];
    // The target first: a record written on both sides is only then written on the source.
    for side in [Side::Target, Side::Source] {
        let s = side as usize;
        if plan.is_remote(side) {
            continue;
        }
        let mut sets: BTreeMap<(u8, Vec<usize>), Vec<usize>> = BTreeMap::new();
        for (n, decision) in decisions.iter().enumerate() {
            if outcomes[n].missed[side.other() as usize] {
                continue;
            }
            let set = match &decision.write[s] {
                Write::Nothing => continue,
                Write::Delete => (0, Vec::new()),
                Write::Update(fields) => (1, fields.clone()),
                Write::Insert => (2, inserted_fields(plan, side)),
            };
            sets.entry(set).or_default().push(n);
        }
        if sets.is_empty() {
            continue;
        }
        capture::set_origin(plan.origin(side));
        for ((kind, fields), mut wanted) in sets {
            // Always in the order of the keys, so that two of us would never wait for each other.
            wanted.sort_by_key(|&n| records[n].keys[s]);
            match kind {
                0 => delete(bump, plan, writers, side, records, &wanted, &mut outcomes),
                1 => update(bump, plan, writers, side, fields, records, &wanted, &mut outcomes),
                _ => insert(bump, plan, writers, side, fields, records, &wanted, &mut outcomes)?,
            }
        }
        capture::set_origin(0);
    }
    Ok(outcomes)
}

/// The fields an INSERT into a side fills.
pub(super) fn inserted_fields(plan: &Plan, side: Side) -> Vec<usize> {
    (0..plan.fields.len())
        .filter(|&i| {
            plan.fields[i].how[side.other() as usize].is_some()
                && plan.fields[i].column[side as usize].is_some()
        })
        .collect()
}

pub(super) fn written<'p>(plan: &'p Plan, side: Side, fields: &[usize]) -> Vec<&'p Column> {
    fields
        .iter()
        .filter_map(|&i| plan.fields[i].column[side as usize].map(|c| &plan.side(side).columns[c]))
        .collect()
}

#[allow(clippy::too_many_arguments)]
fn insert<'b>(
    bump: &'b Bump,
    plan: &Plan,
    writers: &mut Writers,
    side: Side,
    fields: Vec<usize>,
    records: &[Record<'b>],
    wanted: &[usize],
    outcomes: &mut [Outcome<'b>],
) -> Result<(), Failure> {
    let (table, from) = (plan.side(side), side.other() as usize);
    // A key that the other side does not have yet is left to its default.
    let keyless = |n: usize| {
        fields
            .iter()
            .copied()
            .filter(|&i| {
                let key =
                    plan.fields[i].column[side as usize].is_some_and(|c| table.key.contains(&c));
                !(key && records[n].sent[from][i] == Value::Null)
            })
            .collect::<Vec<usize>>()
    };
    let mut sets: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for &n in wanted {
        sets.entry(keyless(n)).or_default().push(n);
    }
    for (fields, wanted) in sets {
        let columns = written(plan, side, &fields);
        let statement = writers.insert.entry((side, fields.clone())).or_insert_with(|| {
            let names: Vec<String> = columns.iter().map(|c| identifier(&c.name)).collect();
            let values: Vec<String> = (0..columns.len()).map(|n| format!("f.v{n}")).collect();
            let keys: Vec<String> =
                table.key_columns().map(|c| format!("t.{}", identifier(&c.name))).collect();
            let overriding =
                if columns.iter().any(|c| c.identity) { " OVERRIDING SYSTEM VALUE" } else { "" };
            let text = format!(
                "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM {FED} AS f ORDER BY f.{ORD}
                 RETURNING NULL::pg_catalog.int4, {}",
                table.name,
                names.join(", "),
                values.join(", "),
                keys.join(", ")
            );
            let fed =
                columns.iter().enumerate().map(|(n, c)| Fed::of(format!("v{n}"), c)).collect();
            Statement::prepare(&text, FED, fed, true)
        });
        let rows: Vec<Vec<Value<'b>>> = wanted
            .iter()
            .map(|&n| fields.iter().map(|&i| records[n].sent[from][i]).collect())
            .collect();
        let results: Vec<&Column> = table.key_columns().collect();
        let lengths = table.key_lengths();
        let mut keys: Vec<Option<Vec<u8>>> = Vec::with_capacity(wanted.len());
        capture::begin_statement();
        statement.run(bump, rows.into_iter(), &results, |_, values| {
            keys.push(image::encode_key(values.iter().copied(), &lengths));
        });
        if keys.len() != wanted.len() {
            return Err(Failure {
                sqlstate: "09000".into(),
                message: format!("a trigger of {} did not let the row in", table.name),
                detail: Some(
                    "A BEFORE trigger returned NULL, so the row was neither stored nor refused."
                        .into(),
                ),
                hint: Some(
                    "Let the trigger raise an error that says what is wrong, or let the row pass."
                        .into(),
                ),
            });
        }
        for (&n, key) in wanted.iter().zip(keys) {
            outcomes[n].created[side as usize] = key.map(|k| &*bump.alloc_slice_copy(&k));
            outcomes[n].first[side as usize] = capture::first_of_statement().unwrap_or(0);
        }
    }
    Ok(())
}

/// What a field of a side is believed to hold.
fn believed<'b>(plan: &Plan, record: &Record<'b>, side: Side, field: usize) -> Value<'b> {
    let seen = match (&record.seen[side as usize], plan.fields[field].column[side as usize]) {
        (Seen::Row(values), Some(c)) => values[c],
        _ => Value::Absent,
    };
    match (seen, record.linked().and_then(|l| l.base.as_ref())) {
        (Value::Absent, Some(base)) => base.side(side)[field],
        (seen, _) => seen,
    }
}

/// The condition that the columns still hold what they are believed to hold, byte by byte.
fn unchanged(columns: &[&Column]) -> String {
    columns
        .iter()
        .enumerate()
        .map(|(n, c)| {
            let cast = if c.type_oid == c.base_type { String::new() } else { format!("::{}", c.cast) };
            format!(
                " AND ROW(t.{}{cast})::pg_catalog.record OPERATOR(pg_catalog.*=) ROW(f.e{n})::pg_catalog.record",
                identifier(&c.name)
            )
        })
        .collect()
}

#[allow(clippy::too_many_arguments)]
fn update<'b>(
    bump: &'b Bump,
    plan: &Plan,
    writers: &mut Writers,
    side: Side,
    fields: Vec<usize>,
    records: &[Record<'b>],
    wanted: &[usize],
    outcomes: &mut [Outcome<'b>],
) {
    let (s, table, from) = (side as usize, plan.side(side), side.other() as usize);
    let columns = written(plan, side, &fields);
    let checked = plan.captured(side);
    let statement = writers.update.entry((side, fields.clone())).or_insert_with(|| {
        let set: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(n, c)| format!("{} = f.v{n}", identifier(&c.name)))
            .collect();
        let keys: Vec<String> =
            table.key_columns().map(|c| format!("t.{}", identifier(&c.name))).collect();
        let text = format!(
            "UPDATE {} AS t SET {} FROM {FED} AS f WHERE {}{} RETURNING f.{ORD}, {}",
            table.name,
            set.join(", "),
            key_matches(table),
            if checked { unchanged(&columns) } else { String::new() },
            keys.join(", ")
        );
        let mut fed = fed_key(table);
        fed.extend(columns.iter().enumerate().map(|(n, c)| Fed::of(format!("v{n}"), c)));
        if checked {
            fed.extend(columns.iter().enumerate().map(|(n, c)| Fed::of(format!("e{n}"), c)));
        }
        Statement::prepare(&text, FED, fed, true)
    });
    let lengths = table.key_lengths();
    let rows: Vec<Vec<Value<'_>>> = wanted
        .iter()
        .map(|&n| {
            let record = &records[n];
            let mut row = key_values(bump, current_key(record, side), &lengths);
            row.extend(fields.iter().map(|&i| record.sent[from][i]));
            if checked {
                row.extend(fields.iter().map(|&i| believed(plan, record, side, i)));
            }
            row
        })
        .collect();
    let results: Vec<&Column> = table.key_columns().collect();
    let mut hit = vec![false; wanted.len()];
    capture::begin_statement();
    statement.run(bump, rows.into_iter(), &results, |ord, values| {
        hit[ord] = true;
        if let Some(key) = image::encode_key(values.iter().copied(), &lengths) {
            outcomes[wanted[ord]].rekeyed[s] = Some(bump.alloc_slice_copy(&key));
        }
    });
    // Unchecked, nothing is hit only when the row is gone; then it is made again.
    for (&n, hit) in wanted.iter().zip(hit) {
        outcomes[n].missed[s] = !hit;
        outcomes[n].first[s] = capture::first_of_statement().unwrap_or(0);
    }
}

/// The key by which a record's row is found on a side before we write it.
fn current_key<'b>(record: &Record<'b>, side: Side) -> Option<&'b [u8]> {
    record.keys[side as usize].or_else(|| record.linked().map(|l| l.key_of(side)))
}

fn delete<'b>(
    bump: &'b Bump,
    plan: &Plan,
    writers: &mut Writers,
    side: Side,
    records: &[Record<'b>],
    wanted: &[usize],
    outcomes: &mut [Outcome<'b>],
) {
    let table = plan.side(side);
    let checked = plan.captured(side);
    let fields: Vec<usize> = (0..plan.fields.len())
        .filter(|&i| {
            plan.flows[i].to_source && side == Side::Target
                || plan.flows[i].to_target && side == Side::Source
        })
        .filter(|&i| plan.fields[i].column[side as usize].is_some())
        .collect();
    let columns = written(plan, side, &fields);
    let statement = writers.delete[side as usize].get_or_insert_with(|| {
        let text = format!(
            "DELETE FROM {} AS t USING {FED} AS f WHERE {}{} RETURNING f.{ORD}",
            table.name,
            key_matches(table),
            if checked { unchanged(&columns) } else { String::new() },
        );
        let mut fed = fed_key(table);
        if checked {
            fed.extend(columns.iter().enumerate().map(|(n, c)| Fed::of(format!("e{n}"), c)));
        }
        Statement::prepare(&text, FED, fed, true)
    });
    let lengths = table.key_lengths();
    let rows: Vec<Vec<Value<'_>>> = wanted
        .iter()
        .map(|&n| {
            let record = &records[n];
            let mut row = key_values(bump, current_key(record, side), &lengths);
            if checked {
                row.extend(fields.iter().map(|&i| believed(plan, record, side, i)));
            }
            row
        })
        .collect();
    let mut hit = vec![false; wanted.len()];
    capture::begin_statement();
    statement.run(bump, rows.into_iter(), &[], |ord, _| hit[ord] = true);
    for (&n, hit) in wanted.iter().zip(hit) {
        // Without a check a row that is not there is as good as deleted.
        outcomes[n].missed[side as usize] = checked && !hit;
        outcomes[n].first[side as usize] = capture::first_of_statement().unwrap_or(0);
    }
}
