//! The guard: what would delete more than a sync's share of the other side waits for a person.

use super::collect::{Collector, Seen};
use super::link::{self, Links, Places};
use super::plan::Plan;
use super::shapes::Shapes;
use crate::capture::row;
use crate::log::batch::{self, Entry};
use crate::log::segments;
use crate::worker::transaction::Failure;
use bumpalo::Bump;
use merge::Side;
use std::collections::HashSet;

/// Why a sync stops and asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What `sync.resume` is asked to confirm: `deletes` or `truncate`.
    pub kind: &'static str,
    pub sentence: String,
}

/// Bytes of images looked at at once.
const CHUNK_BYTES: usize = 8 << 20;

/// Looks a whole batch over before any of it is applied.
///
/// # Errors
/// When the log is missing.
pub fn examine(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> Result<Option<Decision>, Failure> {
    let mut deletes = 0u64;
    let mut truncated = None;
    for entry in entries {
        if entry.op == row::DELETE || entry.op == row::TRUNCATE {
            let Some(side) = collector.side_of(plan, shapes, entry.shape) else { continue };
            if !plan.captured(side) || entry.origin == plan.origin(side) {
                continue;
            }
            match entry.op {
                row::TRUNCATE => truncated = Some(side),
                _ => deletes += 1,
            }
        }
    }
    if let Some(side) = truncated {
        let (own, other) = (&plan.side(side).name, &plan.side(side.other()).name);
        return Ok(Some(Decision {
            kind: "truncate",
            sentence: format!("{own} was truncated; nothing has been deleted from {other}"),
        }));
    }
    if deletes == 0 || deletes <= 100 && plan.config.delete_limit.is_none() {
        return Ok(None);
    }
    let limit = plan.delete_limit(link::estimate(plan));
    if deletes <= limit {
        return Ok(None);
    }
    // That many deletes; how many records they end is seen by their keys.
    let gone = gone(plan, collector, shapes, entries)?;
    let side = if gone[0] >= gone[1] { Side::Source } else { Side::Target };
    let most = gone[side as usize];
    Ok((most > limit).then(|| Decision {
        kind: "deletes",
        sentence: format!(
            "{most} rows were deleted from {}, more than the limit of {limit}; nothing has been deleted from {}",
            plan.side(side).name,
            plan.side(side.other()).name
        ),
    }))
}

/// How many linked records of each side a batch ends: not those whose key is there again at its end,
/// nor those whose key was changed.
fn gone(
    plan: &Plan,
    collector: &mut Collector,
    shapes: &mut Shapes,
    entries: &[Entry],
) -> Result<[u64; 2], Failure> {
    let Some(log) = segments::relations() else {
        return Err(Failure::new("55000", "the log of changes is missing"));
    };
    let mut gone: [HashSet<Vec<u8>>; 2] = Default::default();
    let mut from = 0;
    while from < entries.len() {
        let bump = Bump::new();
        let images = batch::fetch(&log, &entries[from..], CHUNK_BYTES);
        let piece = &entries[from..from + images.count()];
        let collected = collector.collect(&bump, plan, shapes, piece, &images, &|_, _, _| false);
        for half in &collected.halves {
            let gone = &mut gone[half.side as usize];
            if half.seen == Seen::Gone && !half.echo {
                gone.insert(half.key.to_vec());
            } else {
                gone.remove(half.key);
            }
        }
        for half in &collected.halves {
            if let Some(before) = half.before {
                gone[half.side as usize].remove(before);
            }
        }
        from += images.count().max(1);
    }
    let bump = Bump::new();
    let mut places = Places::default();
    let mut links = Links::open(plan, &mut places);
    let count = Side::BOTH.map(|side| {
        let linked =
            |key: &&Vec<u8>| links.find(&bump, shapes, side, key).is_some_and(|link| !link.deleted);
        gone[side as usize].iter().filter(linked).count() as u64
    });
    links.close();
    Ok(count)
}
