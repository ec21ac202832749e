//! Cycles of syncs that cannot come to rest: a value that goes around, from column to column through several syncs, and
//! is changed by an expression on its way, is another one each time.

use super::{compiled, refuse};
use crate::engine::plan::{self, Plan, Stored, Table};
use crate::sql::{self, Arg};
use crate::worker::transaction::Failure;
use document::Transform;
use merge::Side;

/// A column of a table, or a field of an object.
type Place = (String, String);

/// A way that a value goes.
struct Edge {
    sync: String,
    from: Place,
    to: Place,
    /// It is changed by an expression of the user's.
    changed: bool,
}

/// Refuses a sync that closes such a cycle.
///
/// # Errors
/// It does; with the way around.
pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
    let own = edges(plan);
    let others = sql::as_extension(|| {
        sql::read(
            &format!("SELECT {} FROM sync._sync s WHERE s.id <> $1", plan::STORED),
            &[Arg::Int4(plan.id)],
        )
    });
    let others = others.iter().filter_map(|row| Stored::of(row));
    let others: Vec<Edge> =
        others.filter_map(|stored| compiled(&stored).ok()).flat_map(|plan| edges(&plan)).collect();
    for edge in &own {
        let mut way = vec![edge];
        if around(&others, edge, &mut way) {
            return Err(cannot_rest(plan, &way));
        }
    }
    Ok(())
}

/// Goes on from the end of a way until it is back where it began, each sync once; true where something on it changes the
/// value.
fn around<'e>(edges: &'e [Edge], first: &Edge, way: &mut Vec<&'e Edge>) -> bool {
    let Some(last) = way.last().copied() else { return false };
    if way.len() > 1 && last.to == first.from {
        return way.iter().any(|edge| edge.changed);
    }
    for next in edges.iter().filter(|next| next.from == last.to) {
        if way.iter().any(|edge| edge.sync == next.sync) {
            continue;
        }
        way.push(next);
        if around(edges, first, way) {
            return true;
        }
        way.pop();
    }
    false
}

fn place(table: &Table, column: usize) -> Place {
    (table.name.clone(), table.columns[column].name.clone())
}

fn edges(plan: &Plan) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (n, field) in plan.fields.iter().enumerate() {
        for side in Side::BOTH {
            let s = side as usize;
            let (Some(how), Some(to)) = (&field.how[s], field.column[side.other() as usize]) else {
                continue;
            };
            let to = place(plan.side(side.other()), to);
            edges.extend(field.inputs[s].iter().map(|&column| Edge {
                sync: plan.name.clone(),
                from: place(plan.side(side), column),
                to: to.clone(),
                changed: how.is_expression() && !is_builtin(plan, n, side),
            }));
        }
    }
    edges
}

/// What comes along does the same to a value however often it is done.
fn is_builtin(plan: &Plan, field: usize, side: Side) -> bool {
    let transform = plan.config.fields.mapped.get(field).and_then(|field| match side {
        Side::Source => Some(&field.transform),
        Side::Target => field.reverse.as_ref(),
    });
    matches!(transform, Some(Transform::Builtin(_)))
}

fn cannot_rest(plan: &Plan, way: &[&Edge]) -> Failure {
    let column = |(table, column): &Place| format!("{table}.{column}");
    let mut shown = way.first().map(|edge| column(&edge.from)).unwrap_or_default();
    for edge in way {
        let how = if edge.changed { ", changed" } else { "" };
        shown += &format!(" -> {} (sync \"{}\"{how})", column(&edge.to), edge.sync);
    }
    refuse(
        "22023",
        format!("sync \"{}\" would close a cycle that never comes to rest", plan.name),
        &format!("A value goes around and is another one each time: {shown}."),
        "Leave the field out of one of these syncs, let it go the other way only, or take the expression away.",
    )
}
