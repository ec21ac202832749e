//! Records that go round in a circle: something over there changes what was written, that comes back, something here
//! changes it again, and so on for ever. How often a record has come back is counted; one that does so too often is
//! parked, with the way it went.
//!
//! What a user writes begins anew. What the worker's own writes bring along, such as the edits of triggers, carries the
//! number of the sync that wrote (DECISIONS A8); what comes from another system after it was written to may be of a user
//! or of an automation there, and counts once a write.

use super::plan::Plan;
use super::queue::mark;
use super::resolve::Record;
use crate::engine::apply::Outcome;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, refuse};
use foldhash::{HashMap, HashMapExt};
use merge::{Decision, Side, Write};
use std::cell::RefCell;
use std::time::Instant;

/// A write of the worker's.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    sync: i32,
    side: Side,
    at: Instant,
}

/// The writes that have led to what a record is now, the first one first; without any, a user has changed it.
pub type Chain = Vec<Hop>;

/// Most chains remembered in each of two generations: loops are quick.
const MOST: usize = 50_000;

/// Longest chain: what it holds is only counted.
const LONGEST: usize = 64;

thread_local! {
    /// By what is written where: the chains of the last writes. All of it can be lost; then it is counted from anew.
    static WRITTEN: RefCell<[HashMap<u64, Chain>; 2]> = RefCell::new([HashMap::new(), HashMap::new()]);
}

fn remember(place: u64, chain: Chain) {
    WRITTEN.with_borrow_mut(|[new, old]| {
        if new.len() >= MOST {
            *old = std::mem::take(new);
        }
        new.insert(place, chain);
    });
}

fn recall(place: u64, forget: bool) -> Option<Chain> {
    WRITTEN.with_borrow_mut(|generations| {
        let mut found = None;
        for known in generations.iter_mut().filter(|known| !known.is_empty()) {
            let here = if forget { known.remove(&place) } else { known.get(&place).cloned() };
            found = found.or(here);
        }
        found
    })
}

/// A record of a side, whichever sync is asked: of a table one place for all.
fn place(plan: &Plan, side: Side, key: &[u8]) -> u64 {
    let table = u64::from(plan.side(side).oid.to_u32());
    let whose = if table == 0 { 1 << 40 | plan.id as u64 } else { table };
    mark(Side::Source, key) ^ whose.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Puts aside the records that have come back too often and would be written again.
pub fn check<'b>(plan: &Plan, records: &mut [Record<'b>], decisions: &mut [Decision<'b>]) {
    let Some(limit) = plan.config.loop_prevention else { return };
    for (record, decision) in records.iter_mut().zip(decisions) {
        for side in Side::BOTH {
            if matches!(decision.write[side as usize], Write::Nothing | Write::Delete) {
                continue;
            }
            let Some(chain) = cause(plan, record, side.other()) else { continue };
            let returns = chain
                .iter()
                .filter(|hop| hop.sync == plan.id && hop.at.elapsed() < limit.window)
                .count();
            if returns > limit.returns as usize {
                record.trouble = Some(goes_round(plan, side, &chain, limit.returns));
                let base = record.linked().and_then(|link| link.base.clone());
                *decision = Decision { write: Default::default(), conflicts: Vec::new(), base };
                break;
            }
            record.chains[side as usize] = chain;
        }
    }
}

/// The writes that led to what a side of a record is; `None`: a user did.
fn cause(plan: &Plan, record: &Record<'_>, side: Side) -> Option<Chain> {
    let key = record.keys[side as usize]?;
    let place = place(plan, side, key);
    if plan.is_remote(side) {
        return recall(place, true);
    }
    let origin = record.origin[side as usize];
    if origin == 0 {
        return None;
    }
    let last = Hop { sync: origin / 2, side: of_origin(origin), at: Instant::now() };
    let known = recall(place, false).filter(|chain| {
        chain.last().is_some_and(|hop| (hop.sync, hop.side) == (last.sync, last.side))
    });
    Some(known.unwrap_or_else(|| vec![last]))
}

fn of_origin(origin: i32) -> Side {
    if origin % 2 == 0 { Side::Source } else { Side::Target }
}

/// Remembers what was written, and what had led to it.
pub fn note(
    plan: &Plan,
    records: &[Record<'_>],
    outcomes: &[Outcome<'_>],
    decisions: &[Decision<'_>],
) {
    if plan.config.loop_prevention.is_none() {
        return;
    }
    for ((record, outcome), decision) in records.iter().zip(outcomes).zip(decisions) {
        for side in Side::BOTH {
            let s = side as usize;
            if matches!(decision.write[s], Write::Nothing | Write::Delete) || outcome.missed[s] {
                continue;
            }
            let key = outcome.created[s].or(outcome.rekeyed[s]).or(record.keys[s]);
            let Some(key) = key.or_else(|| record.linked().map(|link| link.key_of(side))) else {
                continue;
            };
            // A write that a user caused is known by its number where it is captured.
            if record.chains[s].is_empty() && !plan.is_remote(side) {
                recall(place(plan, side, key), true);
                continue;
            }
            let mut chain = record.chains[s].clone();
            chain.drain(..(chain.len() + 1).saturating_sub(LONGEST));
            chain.push(Hop { sync: plan.id, side, at: Instant::now() });
            remember(place(plan, side, key), chain);
        }
    }
}

fn goes_round(plan: &Plan, side: Side, chain: &[Hop], returns: u32) -> Failure {
    let mut way: Vec<String> = chain.iter().map(|hop| step(hop.sync, hop.side)).collect();
    way.push(step(plan.id, side));
    // The same few steps again and again: the last of them say it.
    let shown = way.len().saturating_sub(8);
    refuse(
        "SY003",
        "the record goes round in a circle".to_owned(),
        &format!(
            "It came back changed {} times within {} seconds, and would be written again: {}{}.",
            returns + 1,
            plan.config.loop_prevention.map_or(0, |limit| limit.window.as_secs()),
            if shown > 0 { "… " } else { "" },
            way[shown..].join(", ")
        ),
        "Something on the way changes what was written each time, such as a trigger or a flow: let it change a value once. Then sync.retry; \"loop_prevention\" says how often a record may come back.",
    )
}

/// A write as people read it: where it was made, and by which sync.
fn step(sync: i32, side: Side) -> String {
    let row = sql::as_extension(|| {
        sql::read(
            "SELECT s.name, s.source::pg_catalog.text, s.target::pg_catalog.text, pg_catalog.format('%s:%s', s.connection, s.object)
               FROM sync._sync s WHERE s.id = $1",
            &[Arg::Int4(sync)],
        )
    });
    let Some([Some(name), source, target, object]) = row.first().map(Vec::as_slice) else {
        return format!("sync {sync}");
    };
    let own = if side == Side::Source { source } else { target };
    let place = own.as_deref().or(object.as_deref()).unwrap_or_default();
    format!("{place} by \"{name}\"")
}
