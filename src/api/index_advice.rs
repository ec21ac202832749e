//! `sync.index_recommendations`: the indexes that the statements of a sync, or what comes of them, would need. Asked of
//! the planner itself: where it reads a whole table although that is forbidden, no index serves.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, or_raise};
use crate::border::inwards;
use crate::engine::plan::{self, Plan, Table};
use crate::speech;
use crate::sql::{self, Arg, identifier};
use crate::worker::transaction::Failure;
use merge::Side;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::HashSet;

/// An index that lacks.
struct Advice {
    sync: String,
    table: String,
    /// What is indexed, as it stands in CREATE INDEX.
    columns: String,
    why: String,
    made: bool,
    /// Whose sync it is, and where its names are looked for.
    owner: pg_sys::Oid,
    search_path: String,
}

impl Advice {
    /// What a user runs; a function cannot build an index without keeping writers out.
    fn statement(&self) -> String {
        format!("CREATE INDEX CONCURRENTLY ON {} ({})", self.table, self.columns)
    }
}

/// `sync.index_recommendations(name text, create_them bool) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn index_recommendations(
    name: Option<&[u8]>,
    create_them: bool,
) -> TableIterator<
    'static,
    (
        name!(sync, Vec<u8>),
        name!(relation, Vec<u8>),
        name!(statement, Vec<u8>),
        name!(reason, Vec<u8>),
        name!(created, bool),
    ),
> {
    let all = speech::function(|| {
        let mut all = Vec::new();
        for id in super::queued::syncs(name.map(inwards).as_deref()) {
            all.extend(or_raise(of_sync(id)));
        }
        let mut seen = HashSet::new();
        all.retain(|advice: &Advice| seen.insert((advice.table.clone(), advice.columns.clone())));
        if create_them {
            for advice in &mut all {
                // Not as the caller: what is indexed may be an expression of the owner's.
                sql::as_role(advice.owner, &advice.search_path, || {
                    let text = format!("CREATE INDEX ON {} ({})", advice.table, advice.columns);
                    sql::query(&text, &[]);
                });
                advice.made = true;
            }
        }
        all
    });
    let row = |advice: Advice| {
        let text = |text: &str| border::text(text);
        (
            text(&advice.sync),
            text(&advice.table),
            text(&advice.statement()),
            text(&advice.why),
            advice.made,
        )
    };
    TableIterator::new(all.into_iter().map(row).collect::<Vec<_>>())
}

/// `sync._index_advice() RETURNS TABLE (sync text, statement text, reason text)`: of the syncs whose documents ask for it.
#[pg_extern(sql = false)]
fn index_advice()
-> TableIterator<'static, (name!(sync, Vec<u8>), name!(statement, Vec<u8>), name!(reason, Vec<u8>))>
{
    let all = speech::function(|| {
        let wanted = |id: &i32| {
            let document = sql::as_extension(|| plan::stored(*id)).map(|stored| stored.document);
            let read = document.and_then(|document| plan::read_document(&document).ok());
            read.is_some_and(|(config, _)| config.index_recommendation)
        };
        let syncs = super::queued::syncs(None);
        // What cannot be planned is told by its state.
        syncs.into_iter().filter(wanted).flat_map(|id| of_sync(id).unwrap_or_default()).collect()
    });
    let row = |advice: Advice| {
        let text = |text: &str| border::text(text);
        (text(&advice.sync), text(&advice.statement()), text(&advice.why))
    };
    let all: Vec<Advice> = all;
    TableIterator::new(all.into_iter().map(row).collect::<Vec<_>>())
}

fn of_sync(id: i32) -> Result<Vec<Advice>, Failure> {
    let stored = sql::as_extension(|| plan::stored(id)).filter(|stored| !stored.is_application());
    let Some(stored) = stored else { return Ok(Vec::new()) };
    // As the owner: the planner evaluates what it can of his expressions.
    sql::as_reader(stored.owner, &stored.search_path.clone(), || {
        let plan = plan::compile_as(stored, true)?;
        let mut all = Vec::new();
        for side in Side::BOTH.into_iter().filter(|&side| !plan.is_remote(side)) {
            all.extend(for_matching(&plan, side));
            all.extend(for_foreign_keys(&plan, side));
        }
        Ok(all)
    })
}

/// Rows that exist on both sides are looked for by the columns of `match_on`.
fn for_matching(plan: &Plan, side: Side) -> Option<Advice> {
    let table = plan.side(side);
    let columns: Vec<usize> = plan
        .match_on
        .iter()
        .map(|&(source, target)| if side == Side::Source { source } else { target })
        .collect();
    if columns.is_empty() || !plan.flows_from(side.other()) {
        return None;
    }
    let (mut on, mut indexed) = (Vec::new(), Vec::new());
    for (n, &column) in columns.iter().enumerate() {
        let column = &table.columns[column];
        let name = identifier(&column.name);
        match plan.config.match_on.get(n).and_then(|pair| pair.expression.as_ref()) {
            Some(expression) => {
                let made = made_of(expression, &name);
                let of_null = format!("(SELECT NULL::{} AS {name}) AS v", column.cast);
                on.push(format!("{made} = (SELECT {made} FROM {of_null} OFFSET 0)"));
                indexed.push(format!("({made})"));
            }
            None => {
                on.push(format!("t.{name} = CAST((SELECT NULL) AS {})", column.cast));
                indexed.push(name);
            }
        }
    }
    let why = "rows that are there already are looked for by what \"match_on\" says, or by the key's columns";
    lacking(plan, table, &on.join(" AND "), indexed.join(", "), why)
}

/// An expression over `value` as one over a column.
fn made_of(expression: &str, column: &str) -> String {
    let bytes = expression.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.' || b == b'"';
    let mut made = String::new();
    let mut at = 0;
    while at < expression.len() {
        let here = &expression[at..];
        let apart = at == 0 || !word(bytes[at - 1]);
        if apart && here.starts_with("value") && here.as_bytes().get(5).is_none_or(|&b| !word(b)) {
            made += column;
            at += 5;
        } else if let Some(rest) = here.strip_prefix('\'') {
            // A literal stays as it is.
            let end = rest.find('\'').map_or(here.len(), |end| end + 2);
            made += &here[..end];
            at += end;
        } else {
            let step = here.chars().next().map_or(1, char::len_utf8);
            made += &here[..step];
            at += step;
        }
    }
    made
}

/// A row that is deleted or given another key has those that point to it looked for.
fn for_foreign_keys(plan: &Plan, side: Side) -> Vec<Advice> {
    let table = plan.side(side);
    let keys = sql::read(
        "SELECT c.conname, pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY k.n),
                pg_catalog.string_agg(pg_catalog.format('t.%I = CAST((SELECT NULL) AS %s)', a.attname, pg_catalog.format_type(a.atttypid, NULL)), ' AND ' ORDER BY k.n),
                c.confrelid::pg_catalog.regclass::pg_catalog.text
           FROM pg_catalog.pg_constraint c
          CROSS JOIN LATERAL pg_catalog.unnest(c.conkey) WITH ORDINALITY AS k (attnum, n)
           JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.conrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
          WHERE c.conrelid OPERATOR(pg_catalog.=) $1 AND c.contype OPERATOR(pg_catalog.=) 'f'
          GROUP BY c.oid, c.conname, c.confrelid ORDER BY c.conname",
        &[Arg::Oid(table.oid)],
    );
    keys.iter()
        .filter_map(|row| {
            let [Some(name), Some(columns), Some(on), Some(parent)] = row.as_slice() else {
                return None;
            };
            let why = format!(
                "a row of {parent} that is deleted has the rows looked for that point to it by \"{name}\""
            );
            lacking(plan, table, on, columns.clone(), &why)
        })
        .collect()
}

/// Advice, where the planner has nothing but the whole table to read.
fn lacking(plan: &Plan, table: &Table, on: &str, columns: String, why: &str) -> Option<Advice> {
    let setting = "SELECT pg_catalog.set_config('enable_seqscan', $1, true)";
    let was = sql::one("SELECT pg_catalog.current_setting('enable_seqscan')", &[])?;
    sql::query(setting, &[Arg::Text("off")]);
    let lines =
        sql::query(&format!("EXPLAIN (COSTS off) SELECT FROM {} AS t WHERE {on}", table.name), &[]);
    sql::query(setting, &[Arg::Text(&was)]);
    let whole = lines.iter().filter_map(|row| row[0].as_deref()).any(|line| {
        let line = line.trim_start_matches([' ', '-', '>']);
        // A partition is called t_1, t_2 and so on.
        line.starts_with("Seq Scan on")
            && line.rsplit(' ').next().is_some_and(|name| name == "t" || name.starts_with("t_"))
    });
    whole.then(|| Advice {
        sync: plan.name.clone(),
        table: table.name.clone(),
        columns,
        why: why.to_owned(),
        made: false,
        owner: plan.owner,
        search_path: plan.search_path.clone(),
    })
}
