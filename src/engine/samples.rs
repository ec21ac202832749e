//! Does `reverse` bring back what `transformation` sends? Tried on rows that are there, where nothing can be written.
//!
//! What counts is the form that the target holds: a row that a transformation has brought into a form for good (`upper`)
//! has come back if it is sent in that form again. A value that is not would be written once more, and be another one,
//! each time it is edited on the target.

use super::plan::{Column, Field, How, Plan};
use super::screen::shortened;
use crate::sql::{self, identifier, literal};
use crate::worker::environment;
use crate::worker::transaction::{Failure, is_of_the_work, savepoint, within};
use document::Transform;
use merge::Side;
use std::time::Duration;

/// Rows of a table that are tried, of the first that are looked at.
const TRIED: usize = 100;
const LOOKED_AT: usize = 1000;
/// Longest text that is tried.
const LONGEST: usize = 10_000;
/// Time that all of it may take.
const LIMIT: Duration = Duration::from_secs(1);

/// A field of which values do not come back.
#[derive(Debug)]
pub struct Lost {
    field: usize,
    table: String,
    pub lost: usize,
    tried: usize,
    /// Of a row's values, which are nobody's business but who may read them: not for the server's log.
    pub example: String,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "\"field_mappings[{}].reverse\" does not bring back what \"transformation\" sends: of {} of the {} values of {} that were tried another one comes back",
            self.field, self.lost, self.tried, self.table
        )
    }
}

/// The fields of a sync whose values do not come back. `may_read` says of which side's rows the caller may be told; the
/// others are not looked at.
pub fn lost(plan: &Plan, may_read: impl Fn(Side) -> bool) -> Vec<Lost> {
    let fields: Vec<usize> = reversed(plan);
    let sides: Vec<Side> =
        Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side) && may_read(side)).collect();
    if fields.is_empty() || sides.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    // What was tried in time counts.
    within(LIMIT, || {
        sql::as_reader(plan.owner, &plan.search_path, || {
            environment::assume_for_statements();
            for field in fields {
                for &side in &sides {
                    of_field(plan, field, side, &mut found);
                }
            }
        });
    });
    found
}

/// Of what a function raises it is no matter what it calls it.
fn caught(failure: &Failure) -> bool {
    is_of_the_work(failure) || failure.sqlstate.starts_with("XX")
}

/// The fields that go both ways by expressions or functions of the user's. What comes along is known to fit.
fn reversed(plan: &Plan) -> Vec<usize> {
    let mapped = &plan.config.fields.mapped;
    let own = |transform: &Transform| {
        matches!(transform, Transform::Function { .. } | Transform::Expression(_))
    };
    (0..mapped.len().min(plan.fields.len()))
        .filter(|&n| {
            let (given, field) = (&mapped[n], &plan.fields[n]);
            let by_hand = own(&given.transform) || given.reverse.as_ref().is_some_and(own);
            by_hand && Side::BOTH.iter().all(|&side| sends(plan, field, side).is_some())
        })
        .collect()
}

/// What a side sends of a field, if it is made of its own column alone: the SQL, and the column.
fn sends<'p>(plan: &'p Plan, field: &Field, side: Side) -> Option<(String, &'p Column)> {
    let table = plan.side(side);
    if table.remote.as_ref().is_some_and(|remote| remote.assumed) {
        return None;
    }
    let place = field.column[side as usize]?;
    let column = &table.columns[place];
    let made = match field.how[side as usize].as_ref()? {
        How::Copy => identifier(&column.name),
        How::Cast(text) | How::Evaluate(text) => text.clone(),
        How::Refer => return None,
    };
    (field.inputs[side as usize] == [place]).then_some((made, column))
}

fn of_field(plan: &Plan, n: usize, side: Side, found: &mut Vec<Lost>) {
    let field = &plan.fields[n];
    let (Some((out, from)), Some((back, to))) =
        (sends(plan, field, side), sends(plan, field, side.other()))
    else {
        return;
    };
    let (here, there) = (identifier(&from.name), identifier(&to.name));
    let table = &plan.side(side).name;
    let values = savepoint(caught, || {
        sql::read(
            &format!(
                "SELECT v.value FROM (SELECT t.{here}::pg_catalog.text AS value FROM {table} AS t LIMIT {LOOKED_AT}) AS v
                  WHERE pg_catalog.octet_length(v.value) OPERATOR(pg_catalog.<=) {LONGEST} LIMIT {TRIED}"
            ),
            &[],
        )
    });
    let Ok(values) = values else { return };
    let (mut tried, mut at) = (0, None);
    for value in values.into_iter().filter_map(|row| row.into_iter().next()?) {
        let text = format!(
            "SELECT x.sent::pg_catalog.text, x.back::pg_catalog.text, (SELECT {out} FROM (SELECT x.back AS {here}) AS source)::pg_catalog.text
               FROM (SELECT y.sent, (SELECT {back} FROM (SELECT y.sent AS {there}) AS source) AS back
                       FROM (SELECT (SELECT {out} FROM (SELECT CAST({} AS {}) AS {here}) AS source) AS sent OFFSET 0) AS y
                     OFFSET 0) AS x",
            literal(&value),
            from.cast
        );
        let made = savepoint(caught, || sql::read(&text, &[]));
        let shown = |value: Option<&String>| {
            value.map_or("null".to_owned(), |value| format!("\"{}\"", shortened(value)))
        };
        let what = match &made {
            Err(failure) => Some(format!("fails: {}", failure.message)),
            Ok(rows) => match rows.first().map(Vec::as_slice) {
                Some([sent, back, again]) => {
                    let same = match side {
                        Side::Source => again == sent,
                        Side::Target => back.as_ref() == Some(&value),
                    };
                    let [sent, back] = [sent, back].map(|value| shown(value.as_ref()));
                    (!same).then(|| format!("arrives as {sent} and comes back as {back}"))
                }
                _ => None,
            },
        };
        tried += 1;
        if let Some(what) = what {
            let place = *at.get_or_insert_with(|| {
                let example = format!("{} {what}", shown(Some(&value)));
                found.push(Lost { field: n, table: table.clone(), lost: 0, tried, example });
                found.len() - 1
            });
            found[place].lost += 1;
        }
        if let Some(place) = at {
            found[place].tried = tried;
        }
    }
}
