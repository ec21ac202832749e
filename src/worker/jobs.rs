//! Job workers: a sync whose work would keep the others of its database waiting (a load, a long
//! backlog, a slow expression of the user's) is handed to a worker of its own and comes back when
//! that has nothing left to do.
//!
//! Who serves a sync stands in shared memory and changes hands only between transactions of whoever
//! has it: the stream worker gives it away, the job worker gives it back as it ends, whatever ends it.
//! Everything else the next one needs is in the tables.

use super::identity::Standing;
use super::launcher;
use super::process::{argument, exit};
use super::round::Worker;
use super::slots::{self, WORKERS};
use super::transaction::{Failure, transaction};
use crate::engine;
use crate::engine::remote::State;
use crate::settings;
use crate::speech;
use crate::sql;
use pgrx::pg_sys;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// After the server had no room for a job worker.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A process that the postmaster was asked for by an earlier worker should have begun by then.
const BEGUN: Duration = Duration::from_secs(10);
/// How long a job worker waits for more.
const LINGER: Duration = Duration::from_secs(1);
/// How long it keeps a sync whose work was slow: the next change would keep the others waiting again.
const KEEP_SLOW: Duration = Duration::from_secs(600);

/// A slow piece of work that is a reason to hand a sync over now.
const RECENT: Duration = Duration::from_secs(10);

/// What the stream worker remembers of a job worker.
pub struct Job {
    /// Null: it was asked for by the stream worker before this one.
    handle: *mut pg_sys::BackgroundWorkerHandle,
    at: Instant,
}

impl Job {
    /// Will it never begin?
    fn is_lost(&self) -> bool {
        if self.handle.is_null() {
            self.at.elapsed() > BEGUN
        } else {
            launcher::has_ended(self.handle)
        }
    }
}

impl Worker {
    /// Hands a sync that keeps others waiting to a job worker, with those that foreign keys connect
    /// it with: parents come before children only within one worker.
    pub(super) fn hand_over(&mut self) -> Result<(), Failure> {
        if self.epoch.standing != Standing::Active || self.no_job_before > Instant::now() {
            return Ok(());
        }
        let heavy = |id: &&i32| self.syncs.get(id).is_some_and(|s| s.effort.is_heavy(RECENT));
        // What is on its way to another system comes back to who has sent it.
        let quiet = |id: &&i32| {
            self.syncs.get(id).and_then(|s| s.remote.as_ref()).is_none_or(State::is_idle)
        };
        let heavy = self.order.iter().filter(quiet).find(heavy).copied();
        let Some(heavy) = heavy else { return Ok(()) };
        let family: Vec<i32> = self
            .syncs
            .keys()
            .copied()
            .filter(|id| self.families.get(id) == self.families.get(&heavy))
            .collect();
        if !family.iter().all(|id| quiet(&id)) {
            return Ok(());
        }
        let limit = settings::JOB_WORKERS.get() as usize;
        let free = (1..=limit).find(|&n| {
            self.jobs[n - 1].is_none() && self.slot.workers[n].job() == slots::Job::None
        });
        let (Some(number), true) = (free, family.len() < self.syncs.len()) else { return Ok(()) };
        let slot = self.slot;
        let progress: Option<Vec<_>> =
            family.iter().map(|&id| slot.claim_progress(id as u32)).collect();
        let Some(progress) = progress else { return Ok(()) };
        for id in &family {
            if let Some(sync) = self.syncs.get_mut(id).filter(|s| s.unsaved) {
                let cursor = sync.cursor.clone();
                sync.save_cursor(&cursor)?;
            }
        }
        let slow =
            family.iter().any(|id| self.syncs.get(id).is_some_and(|s| s.effort.is_slow(RECENT)));
        let name = transaction(|| {
            Ok(sql::one("SELECT pg_catalog.current_database()", &[]).unwrap_or_default())
        })?;
        // From here on they are not ours.
        self.syncs.retain(|id, _| !family.contains(id));
        self.order.retain(|id| !family.contains(id));
        for progress in progress {
            progress.keeper.store(number as u32, Ordering::Release);
        }
        slot.workers[number].turn(slots::Job::None, slots::Job::Asked);
        let mut description = launcher::description(
            &format!("sync_ext job worker {number} for {name}"),
            "sync_ext job worker",
            c"sync_ext_worker",
        );
        // SAFETY: a plain global.
        description.bgw_main_arg = argument(unsafe { pg_sys::MyDatabaseId }, number, slow);
        match launcher::ask(&mut description) {
            Some(handle) => self.jobs[number - 1] = Some(Job { handle, at: Instant::now() }),
            None => {
                slot.give_back(number, slots::Job::Asked);
                engine::mark_configuration_stale();
                self.no_job_before = Instant::now() + ASK_AGAIN;
                speech::log(
                    "sync_ext worker goes on alone: all worker slots of the server are in use"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    /// Takes back what job workers have given back, or will never begin.
    pub(super) fn take_back(&mut self) {
        for number in 1..WORKERS {
            let state = self.slot.workers[number].job();
            let known = &mut self.jobs[number - 1];
            let Some(job) = known else {
                if state != slots::Job::None {
                    *known = Some(Job { handle: std::ptr::null_mut(), at: Instant::now() });
                }
                continue;
            };
            let over = match state {
                slots::Job::Running => false,
                slots::Job::Asked => {
                    job.is_lost() && self.slot.give_back(number, slots::Job::Asked)
                }
                slots::Job::None => true,
            };
            if over {
                if !job.handle.is_null() {
                    launcher::forget(job.handle);
                }
                *known = None;
                engine::mark_configuration_stale();
            }
        }
    }

    /// Ends this job worker when there is nothing left to do.
    pub(super) fn end_if_done(&mut self, busy: bool) -> Result<(), Failure> {
        let resting = !busy && self.syncs.values().all(|s| s.loads.is_empty() && s.batch.is_none());
        if !resting {
            self.idle_since = None;
            return Ok(());
        }
        let slow = self.took_over_slow.is_some_and(|at| at.elapsed() < KEEP_SLOW)
            || self.syncs.values().any(|s| s.effort.is_slow(KEEP_SLOW));
        let idle = self.idle_since.get_or_insert_with(Instant::now).elapsed();
        if idle < if slow { KEEP_SLOW } else { LINGER } {
            return Ok(());
        }
        for sync in self.syncs.values_mut().filter(|s| s.unsaved) {
            let cursor = sync.cursor.clone();
            sync.save_cursor(&cursor)?;
        }
        exit(0)
    }
}
