//! Rows of a table, a piece at a time, in the order of its key; and checksums of them.

use super::refers;
use crate::engine::plan::{Column, Plan};
use crate::engine::resolve::key_values;
use crate::engine::statement::{FED, Fed, ORD, Statement};
use crate::sql::identifier;
use bumpalo::Bump;
use change::image::{self, Value};
use merge::Side;
use pgrx::pg_sys;
use std::collections::HashMap;

/// A stretch of keys: beyond the first, up to the last.
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub after: Option<Vec<u8>>,
    pub to: Option<Vec<u8>>,
}

/// A row with its key.
pub type Keyed<'b> = (&'b [u8], &'b [Value<'b>]);

/// What statements there are: of which side, with which ends, and whether of checksums.
type Which = (Side, [bool; 2], bool);

#[derive(Default)]
pub struct Ranges {
    statements: HashMap<Which, Statement>,
}

/// What the keys of a range and the values of its rows add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub rows: u64,
    pub values: u64,
}

impl Ranges {
    /// The next rows of a range; fewer than `limit` are the last.
    pub fn rows<'b>(
        &mut self,
        bump: &'b Bump,
        plan: &Plan,
        side: Side,
        range: &Range,
        limit: usize,
    ) -> Vec<Keyed<'b>> {
        let table = plan.side(side);
        let columns: Vec<&Column> = table.columns.iter().collect();
        let lengths = table.key_lengths();
        let statement = self.statement(plan, side, range, false, || {
            let names: Vec<String> =
                columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
            format!(
                "SELECT f.{ORD}, r.* FROM {FED} AS f, LATERAL (SELECT {} FROM {} AS t WHERE {} ORDER BY {} LIMIT {limit}) AS r",
                names.join(", "),
                table.name,
                within(plan, side, range),
                keys(plan, side).join(", "),
            )
        });
        let mut rows = Vec::with_capacity(limit);
        statement.run(bump, std::iter::once(ends(bump, range, &lengths)), &columns, |_, row| {
            if let Some(key) = image::encode_key(table.key.iter().map(|&k| row[k]), &lengths) {
                rows.push((&*bump.alloc_slice_copy(&key), row));
            }
        });
        rows
    }

    /// The next keys of the source, and what the values of their rows add up to.
    pub fn keys_and_sum<'b>(
        &mut self,
        bump: &'b Bump,
        plan: &Plan,
        range: &Range,
        limit: usize,
    ) -> (Vec<&'b [u8]>, Sum) {
        let side = Side::Source;
        let table = plan.side(side);
        let lengths = table.key_lengths();
        let hash = hash_column();
        let columns: Vec<&Column> = table.key_columns().chain([&hash]).collect();
        let statement = self.statement(plan, side, range, true, || {
            format!(
                "SELECT f.{ORD}, {}, {} FROM {FED} AS f, LATERAL (SELECT {} FROM {} AS t WHERE {} ORDER BY {} LIMIT {limit}) AS source",
                table
                    .key_columns()
                    .map(|c| format!("source.{}", identifier(&c.name)))
                    .collect::<Vec<_>>()
                    .join(", "),
                checksum(plan, side),
                selected(plan, side),
                table.name,
                within(plan, side, range),
                keys(plan, side).join(", "),
            )
        });
        let (mut found, mut sum) = (Vec::with_capacity(limit), Sum::default());
        statement.run(bump, std::iter::once(ends(bump, range, &lengths)), &columns, |_, row| {
            let Some((hash, key)) = row.split_last() else { return };
            if let Some(key) = image::encode_key(key.iter().copied(), &lengths) {
                found.push(&*bump.alloc_slice_copy(&key));
            }
            sum.rows += 1;
            sum.values ^= number(*hash);
        });
        (found, sum)
    }

    /// What the target has in the same range.
    pub fn sum(&mut self, bump: &Bump, plan: &Plan, range: &Range) -> Sum {
        let side = Side::Target;
        let table = plan.side(side);
        let hash = hash_column();
        let statement = self.statement(plan, side, range, true, || {
            format!(
                "SELECT f.{ORD}, s.* FROM {FED} AS f, LATERAL (SELECT pg_catalog.count(*), pg_catalog.bit_xor({}) FROM (SELECT {} FROM {} AS t WHERE {}) AS source) AS s",
                checksum(plan, side),
                selected(plan, side),
                table.name,
                within(plan, side, range),
            )
        });
        let mut sum = Sum::default();
        let ends = ends(bump, range, &table.key_lengths());
        statement.run(bump, std::iter::once(ends), &[&hash, &hash], |_, row| {
            sum = Sum { rows: number(row[0]), values: number(row[1]) };
        });
        sum
    }

    fn statement(
        &mut self,
        plan: &Plan,
        side: Side,
        range: &Range,
        sums: bool,
        text: impl FnOnce() -> String,
    ) -> &Statement {
        let which = (side, [range.after.is_some(), range.to.is_some()], sums);
        self.statements.entry(which).or_insert_with(|| {
            let table = plan.side(side);
            let fed = |letter: char| {
                let of = move |(n, c)| Fed::of(format!("{letter}{n}"), c);
                table.key_columns().enumerate().map(of)
            };
            Statement::prepare(&text(), FED, fed('k').chain(fed('h')).collect(), false)
        })
    }
}

/// Can ranges of both sides be told to be alike by their checksums? Where both have the same keys in the same order, and
/// what is sent follows from the row alone.
pub fn have_sums(plan: &Plan) -> bool {
    let [source, target] = &plan.sides;
    plan.same_key
        && plan.screens.is_empty()
        && !refers(plan)
        && source
            .key_columns()
            .zip(target.key_columns())
            .all(|(a, b)| (a.base_type, a.collation) == (b.base_type, b.collation))
}

fn number(value: Value<'_>) -> u64 {
    value.bytes().and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

fn hash_column() -> Column {
    let cast = "pg_catalog.int8".to_owned();
    let type_oid = pg_sys::INT8OID;
    Column { type_oid, base_type: type_oid, length: 8, cast, ..Column::flag() }
}

/// Both ends of a range as they are fed.
fn ends<'r>(bump: &'r Bump, range: &'r Range, lengths: &[i16]) -> Vec<Value<'r>> {
    let mut values = key_values(bump, range.after.as_deref(), lengths);
    values.extend(key_values(bump, range.to.as_deref(), lengths));
    values
}

fn keys(plan: &Plan, side: Side) -> Vec<String> {
    plan.side(side).key_columns().map(|c| format!("t.{}", identifier(&c.name))).collect()
}

fn within(plan: &Plan, side: Side, range: &Range) -> String {
    let keys = keys(plan, side);
    let fed = |letter: char| -> String {
        (0..keys.len()).map(|n| format!("f.{letter}{n}")).collect::<Vec<_>>().join(", ")
    };
    let mut conditions = Vec::new();
    if range.after.is_some() {
        conditions.push(format!("({}) > ({})", keys.join(", "), fed('k')));
    }
    if range.to.is_some() {
        conditions.push(format!("({}) <= ({})", keys.join(", "), fed('h')));
    }
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
}

/// The columns of a row as expressions see them.
fn selected(plan: &Plan, side: Side) -> String {
    let columns: Vec<String> =
        plan.side(side).columns.iter().map(|c| format!("t.{}", identifier(&c.name))).collect();
    columns.join(", ")
}

/// A number for what a row comes to on the target, and what of it comes from there: as text, in which values of the
/// same type are alike where their bytes are.
fn checksum(plan: &Plan, side: Side) -> String {
    let own = |column: Option<usize>| {
        column.map(|c| format!("source.{}", identifier(&plan.side(side).columns[c].name)))
    };
    let mut values: Vec<String> =
        plan.side(side).key.iter().filter_map(|&key| own(Some(key))).collect();
    for field in plan.fields.iter().filter(|field| field.how.iter().any(Option::is_some)) {
        // Of a two-way field one way is enough: where it does not add up, the rows are looked at.
        let from = if field.how[0].is_some() { Side::Source } else { Side::Target };
        let how = field.how[from as usize].as_ref();
        let sent = how.and_then(|how| how.sql()).filter(|_| from == side);
        values.extend(
            sent.map(|sql| format!("({sql})")).or_else(|| own(field.column[side as usize])),
        );
    }
    format!(
        "pg_catalog.hashtextextended(ROW({})::pg_catalog.text COLLATE pg_catalog.\"C\", 0)",
        values.join(", ")
    )
}
