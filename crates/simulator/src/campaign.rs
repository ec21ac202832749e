//! Many runs, on all cores.

use crate::bug::Bug;
use crate::check::Failure;
use crate::run;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What came of many runs. Shown as one line.
#[derive(Debug)]
pub struct Campaign {
    pub runs: u64,
    /// The first seed.
    pub first: u64,
    /// Those that broke a promise, the lowest seed first.
    pub failed: Vec<(u64, Failure)>,
    edits: u64,
    conflicts: u64,
    took: Duration,
}

/// Runs the cases of `runs` seeds from `first` on.
pub fn campaign(runs: u64, first: u64, bug: Option<Bug>) -> Campaign {
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let failed: Mutex<Vec<(u64, Failure)>> = Mutex::default();
    let (edits, conflicts) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + runs {
                break;
            }
            match run(seed, bug) {
                Ok(report) => {
                    edits.fetch_add(report.edits, Ordering::Relaxed);
                    conflicts.fetch_add(report.conflicts, Ordering::Relaxed);
                }
                Err(failure) => {
                    failed.lock().unwrap_or_else(|e| e.into_inner()).push((seed, failure));
                }
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(work);
        }
    });
    let mut failed = failed.into_inner().unwrap_or_else(|e| e.into_inner());
    failed.sort_by_key(|(seed, _)| *seed);
    Campaign {
        runs,
        first,
        failed,
        edits: edits.into_inner(),
        conflicts: conflicts.into_inner(),
        took: begun.elapsed(),
    }
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "simulator: {} runs, {} failed, seeds {} to {}, {} edits, {} conflicts, {:.1} s",
            self.runs,
            self.failed.len(),
            self.first,
            self.first + self.runs.max(1) - 1,
            self.edits,
            self.conflicts,
            self.took.as_secs_f64()
        )
    }
}
