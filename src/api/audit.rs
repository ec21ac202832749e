//! `sync.audit`: both sides of a sync compared, for a person to read.

#![allow(clippy::type_complexity, reason = "the columns of a table")]

use super::{border, image, or_raise, owned, refuse};
use crate::border::inwards;
use crate::connection::{self, Records};
use crate::engine::audit::{Counts, Finding, Pages, Tables, Wish};
use crate::engine::link;
use crate::engine::plan::{self, Connected, Plan, Stored};
use crate::speech;
use crate::sql;
use crate::worker::transaction::Failure;
use merge::Side;
use pgrx::prelude::*;

/// A line of the report.
#[derive(Default)]
struct Line {
    what: &'static str,
    records: Option<u64>,
    key: Option<String>,
    remote_id: Option<String>,
    field: Option<String>,
    values: [Option<String>; 2],
    detail: Option<String>,
}

/// `sync.audit(name text, show int4 DEFAULT 100) RETURNS TABLE (…)`
#[pg_extern(sql = false)]
fn audit(
    name: &[u8],
    show: i32,
) -> TableIterator<
    'static,
    (
        name!(what, Vec<u8>),
        name!(records, Option<i64>),
        name!(key, Option<Vec<u8>>),
        name!(remote_id, Option<Vec<u8>>),
        name!(field, Option<Vec<u8>>),
        name!(source_value, Option<Vec<u8>>),
        name!(target_value, Option<Vec<u8>>),
        name!(detail, Option<Vec<u8>>),
    ),
> {
    let lines = speech::function(|| or_raise(report(&inwards(name), show)));
    let text = |text: Option<String>| text.as_deref().map(border::text);
    TableIterator::new(lines.into_iter().map(move |line| {
        let [source, target] = line.values;
        (
            border::text(line.what),
            line.records.map(|records| records as i64),
            text(line.key),
            text(line.remote_id),
            text(line.field),
            text(source),
            text(target),
            text(line.detail),
        )
    }))
}

fn report(name: &str, show: i32) -> Result<Vec<Line>, Failure> {
    let Ok(show) = u64::try_from(show) else {
        return Err(refuse(
            "22023",
            "the number of records to show is negative".to_owned(),
            &format!("\"show\" is {show}."),
            "Give the most records that are to be listed; 0 only counts.",
        ));
    };
    let stored = stored(owned(name), name)?;
    let mut plan = compared(&stored)?;
    let mut found = Vec::new();
    let counts = walk(&mut plan, Wish { show, all: false }, |piece| {
        found.extend(piece);
        Ok(())
    })?;
    let mut lines = summary(&plan, &counts);
    // Values are for those who may read them at their place.
    let visible = Side::BOTH
        .into_iter()
        .filter(|&side| !plan.is_remote(side))
        .all(|side| image::may_read(plan.side(side).oid));
    for finding in &found {
        lines.extend(lines_of(&plan, finding, visible));
    }
    Ok(lines)
}

pub(super) fn stored(id: i32, name: &str) -> Result<Stored, Failure> {
    sql::as_extension(|| plan::stored(id))
        .ok_or_else(|| refuse("42704", format!("sync \"{name}\" does not exist"), "", ""))
}

/// The plan of a sync, if its sides can be compared.
pub(super) fn compared(stored: &Stored) -> Result<Plan, Failure> {
    let name = &stored.name;
    if stored.is_application() {
        return Err(refuse(
            "0A000",
            format!("sync \"{name}\" has one side only"),
            "An application takes its changes: there is nothing to compare them with.",
            "SELECT * FROM sync.deliveries; says what it has not done with.",
        ));
    }
    let plan = sql::as_reader(stored.owner, &stored.search_path, || plan::compile(stored.clone()))?;
    if let Some(function) = &plan.row_function {
        return Err(refuse(
            "0A000",
            format!("the rows of sync \"{name}\" cannot be compared"),
            &format!("{function} makes those of the target, of none or of many at a time."),
            "Compare them with a query of your own.",
        ));
    }
    if let Some(failure) = plan::missing_rights(&plan) {
        return Err(failure);
    }
    if !link::is_indexed(&plan) {
        return Err(refuse(
            "55000",
            format!("sync \"{name}\" is being loaded for the first time"),
            "Its records are being paired: there is nothing to compare yet.",
            "SELECT * FROM sync.progress; says how far it is.",
        ));
    }
    Ok(plan)
}

/// Compares both sides; `take` is given what is found a piece at a time.
pub(super) fn walk(
    plan: &mut Plan,
    wish: Wish,
    mut take: impl FnMut(Vec<Finding>) -> Result<(), Failure>,
) -> Result<Counts, Failure> {
    let records = match plan.remote() {
        None => None,
        Some((_, remote)) => {
            let connection = connection::usable(&remote.connection)?;
            Some(Records::of(&connection, &remote.object, &remote.columns)?)
        }
    };
    let Some(records) = records else {
        let mut tables = Tables::begin(plan, wish);
        while let Some(found) = tables.step() {
            take(found)?;
        }
        return Ok(tables.end());
    };
    plan.connector = Some(Connected(records.connector()));
    let Some(mut pages) = Pages::begin(plan, records, wish) else { return Ok(Counts::default()) };
    while let Some(found) = pages.step()? {
        take(found)?;
    }
    Ok(pages.end())
}

fn summary(plan: &Plan, counts: &Counts) -> Vec<Line> {
    let name = |side: Side| plan.side(side).name.clone();
    let line = |what, records, detail: &str| Line {
        what,
        records: Some(records),
        detail: Some(detail.to_owned()),
        ..Line::default()
    };
    let [source, target] = Side::BOTH.map(|side| {
        let other = plan.side(side.other()).name.as_str();
        format!("{} has no record for them", other)
    });
    let mut lines = vec![
        line("rows on source", counts.rows[0], &name(Side::Source)),
        line("rows on target", counts.rows[1], &name(Side::Target)),
        line("linked pairs", counts.pairs, "both rows of a link are there"),
        line("differs", counts.differs, "linked, and fields are not as the other side sends them"),
        line("only on source", counts.only[0], &source),
        line("only on target", counts.only[1], &target),
        line("not linked", counts.not_linked, "both sides have the key, and are not linked"),
        line("link without row", counts.without_row, "linked, and a row is gone"),
        line("cannot be compared", counts.failed, "an expression or a value of them raises"),
        line("pending", counts.pending, "changed, and not settled yet: no difference"),
        line("queued", counts.queued, "they wait, or need a person: see sync.queue"),
        line("in conflict", counts.in_conflict, "a person has to decide: see sync.conflicts"),
        line("outside the filter", counts.outside, "left as they are until they pass it"),
        line("released", counts.released, "their partner is gone, and they stay"),
    ];
    if plan.remote_side().is_some() {
        lines.push(line("calls", counts.calls, "requests to the other system for this report"));
    }
    lines
}

/// The lines of a finding: one for each field that differs.
fn lines_of(plan: &Plan, finding: &Finding, visible: bool) -> Vec<Line> {
    let shown = |text: &Option<String>| text.clone().filter(|_| visible);
    let [source, target] = finding.texts.each_ref().map(shown);
    // The other system's id, and the target's key where there is none.
    let (key, remote_id) = match plan.remote_side() {
        Some(Side::Source) => (target, source),
        _ => (source, target),
    };
    let line = |detail: Option<String>| Line {
        what: finding.kind.name(),
        key: key.clone(),
        remote_id: remote_id.clone(),
        detail,
        ..Line::default()
    };
    if finding.differences.is_empty() {
        return vec![line(shown(&Some(finding.detail.clone())))];
    }
    finding
        .differences
        .iter()
        .map(|difference| Line {
            field: Some(difference.field.clone()),
            values: [shown(&difference.source), shown(&difference.target)],
            ..line(Some(difference.since.to_owned()))
        })
        .collect()
}
