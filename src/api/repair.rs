//! `sync.repair`: what an audit finds is handed over to the worker, by way of the queue.

use super::audit::{compared, stored, walk};
use super::{or_raise, owned, refuse, resolve, wait};
use crate::border::inwards;
use crate::capture::attach;
use crate::engine::audit::{Finding, Kind, Wish};
use crate::engine::plan::Plan;
use crate::engine::repair::Keep;
use crate::engine::{link, queue};
use crate::speech;
use crate::sql;
use crate::worker::transaction::Failure;
use document::OnDelete;
use merge::Side;
use pgrx::prelude::*;

/// `sync.repair(name text, keep text DEFAULT NULL, create_missing bool DEFAULT false) RETURNS int8`
#[pg_extern(sql = false)]
fn repair(name: Option<&[u8]>, keep: Option<&[u8]>, create_missing: Option<bool>) -> i64 {
    speech::function(|| {
        or_raise(match name {
            Some(name) => hand_over(
                &inwards(name),
                keep.map(inwards).as_deref(),
                create_missing.unwrap_or_default(),
            ),
            None => Err(refuse(
                "22004",
                "a sync has to be named".to_owned(),
                "The first argument of sync.repair must not be null.",
                "SELECT sync.repair('accounts');",
            )),
        })
    })
}

/// What is handed over, and what is not.
#[derive(Default)]
struct Tally {
    handed: i64,
    /// Rows that would be deleted because their partner is gone.
    deletes: u64,
    left: u64,
    failed: u64,
}

fn hand_over(name: &str, keep: Option<&str>, create_missing: bool) -> Result<i64, Failure> {
    let id = owned(name);
    wait::stopped(id, name);
    let stored = stored(id, name)?;
    let mut plan = compared(&stored)?;
    let side = keep.map(|keep| resolve::named(&stored, keep)).transpose()?;
    for (side, asked) in
        [(side, "keep"), (create_missing.then_some(Side::Target), "create_missing")]
    {
        if let Some(side) = side.filter(|&side| !plan.flows_from(side)) {
            return Err(one_way(&plan, side, asked));
        }
    }
    let keep = side.map_or(Keep::Rule, Keep::Side);
    let limit = sql::as_extension(|| plan.delete_limit(link::estimate(&plan)));
    let mut tally = Tally::default();
    // Known by the plan alone, which the walk needs for itself.
    let of = plan.clone();
    walk(&mut plan, Wish { show: 0, all: true }, |found| {
        for finding in &found {
            ask(&of, finding, keep, create_missing, &mut tally);
        }
        if tally.deletes > limit { Err(too_many(&of, &tally, limit)) } else { Ok(()) }
    })?;
    if tally.handed > 0 {
        attach::queue_changed();
    }
    say(&plan, &tally);
    Ok(tally.handed)
}

fn ask(plan: &Plan, finding: &Finding, keep: Keep, create_missing: bool, tally: &mut Tally) {
    match finding.kind {
        Kind::Failed => return tally.failed += 1,
        Kind::OnlyOn(side) if !is_created(plan, side, create_missing) => return tally.left += 1,
        Kind::LinkWithoutRow(Some(gone))
            if plan.flows_from(gone)
                && *plan.on_delete(gone) == OnDelete::Delete
                && keep != Keep::Side(gone.other()) =>
        {
            tally.deletes += 1;
        }
        _ => {}
    }
    // What the other system holds is read first; of two tables both rows are read.
    let first = plan.remote_side().unwrap_or(Side::Source);
    for side in [first, first.other()] {
        let s = side as usize;
        if let (Some(key), Some(text)) = (&finding.keys[s], &finding.texts[s]) {
            sql::as_extension(|| queue::ask_to_repair(plan.id, side, key, text, keep));
            tally.handed += 1;
            return;
        }
    }
}

/// Is a row that is on this side only made on the other? Against the direction of a first load only on request.
fn is_created(plan: &Plan, side: Side, create_missing: bool) -> bool {
    plan.flows_from(side)
        && (side == Side::Source || create_missing || !plan.flows_from(Side::Source))
}

fn one_way(plan: &Plan, side: Side, asked: &str) -> Failure {
    refuse(
        "55000",
        format!("sync \"{}\" takes nothing from the {}", plan.name, side.name()),
        &format!(
            "\"{asked}\" would have it bring values of {} to the other side.",
            plan.side(side).name
        ),
        &format!(
            "Leave \"{asked}\" out, or have the sync go both ways: \"sync_type\": \"bidirectional\"."
        ),
    )
}

fn too_many(plan: &Plan, tally: &Tally, limit: u64) -> Failure {
    refuse(
        "55000",
        format!("a repair of sync \"{}\" would delete {} or more rows", plan.name, tally.deletes),
        &format!(
            "Their partners are gone, and the sync carries deletes on; its limit is {limit}. Nothing was handed over."
        ),
        "Say with \"keep\" which side is to stand, where its rows are made again; or raise \"delete_limit\".",
    )
}

fn say(plan: &Plan, tally: &Tally) {
    let notice = |message: String, hint: &str| {
        let code = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
        speech::say(PgLogLevel::NOTICE, code, message, Some(hint));
    };
    if tally.left > 0 {
        notice(
            format!("{} rows have no partner and are left as they are", tally.left),
            if plan.flows_from(Side::Target) {
                "create_missing => true creates those of the target at the source."
            } else {
                "Nothing travels from there; delete them by hand if they are not wanted."
            },
        );
    }
    if tally.failed > 0 {
        notice(
            format!("{} records cannot be compared and are left as they are", tally.failed),
            "sync.audit says why.",
        );
    }
}
