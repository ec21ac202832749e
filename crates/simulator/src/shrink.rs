//! Makes a failing case as small as it stays failing: fewer steps, fewer sides, fewer fields.

use crate::bug::Bug;
use crate::case::{Case, Step};
use crate::check::{Failure, simulate};

/// Runs of a case at most.
const MOST: usize = 4_000;

/// The smallest case found that breaks the same promise, with what it breaks.
pub fn shrink(case: &Case, bug: Option<Bug>, failure: Failure) -> (Case, Failure) {
    let (mut best, mut why) = (case.clone(), failure);
    let mut runs = 0;
    let mut better = |candidate: &Case, why: &mut Failure| {
        runs += 1;
        if runs > MOST {
            return false;
        }
        match simulate(candidate, bug) {
            Err(found) if found.promise == why.promise => {
                *why = found;
                true
            }
            _ => false,
        }
    };
    let mut size = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shorter = false;
        while at < best.steps.len() {
            let mut candidate = best.clone();
            let end = (at + size).min(candidate.steps.len());
            candidate.steps.drain(at..end);
            if better(&candidate, &mut why) {
                (best, shorter) = (candidate, true);
            } else {
                at += size;
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = (size / 2).max(1);
    }
    // What is left runs without what it does not need.
    for n in 0..best.steps.len() {
        let mut candidate = best.clone();
        match &mut candidate.steps[n] {
            Step::Work { killed, .. } => *killed = false,
            Step::Told { twice, .. } => *twice = false,
            _ => continue,
        }
        if better(&candidate, &mut why) {
            best = candidate;
        }
    }
    while best.syncs.len() > 1 {
        let mut candidate = best.clone();
        candidate.syncs.pop();
        if !better(&candidate, &mut why) {
            break;
        }
        best = candidate;
    }
    for side in 0..best.sides.len() {
        let mut candidate = best.clone();
        (candidate.sides[side].skew, candidate.sides[side].normalises) = (0, false);
        if better(&candidate, &mut why) {
            best = candidate;
        }
    }
    (best, why)
}
