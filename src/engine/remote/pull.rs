//! Records of the other system that were read, in pages of its changes, of a load, or one by one: each is
//! merged like a captured change; what equals the base is an echo.

use super::settle::{at_of, deleted_half, remote_half};
use super::{Step, poll, values};
use crate::capture::row;
use crate::engine::collect::{Half, Seen};
use crate::engine::exits;
use crate::engine::link::{Link, Links};
use crate::engine::load::Load;
use crate::engine::plan::Plan;
use crate::engine::queue::{self, Parked};
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Sync, flush};
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use change::image::Value;
use connector::{Place, Record};
use merge::Side;
use std::time::Instant;

/// A page that is being worked on.
pub struct Work {
    pub(super) records: Vec<Record>,
    pub(super) place: usize,
    pub(super) more: bool,
    /// When it was asked for; see [`State::moment`].
    pub(super) moment: u64,
    /// The load it is part of; `None`: of the changes.
    pub(super) load: Option<Load>,
    /// It came from a job, and may be as old as that; its next page.
    pub(super) from_job: bool,
    pub(super) next_page: Option<String>,
}

impl Work {
    /// A page that is as new as its answer.
    pub(super) fn listed(
        records: Vec<Record>,
        more: bool,
        moment: u64,
        load: Option<Load>,
    ) -> Self {
        Self { records, place: 0, more, moment, load, from_job: false, next_page: None }
    }
}

/// Where records that were read come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// They are as they were when they were asked for.
    Page,
    /// They waited in the queue, and have been read for it.
    Queue,
    /// They are as they were at some moment since their job began.
    Job,
}

impl Sync {
    /// Works on the next piece of the page at hand.
    pub(super) fn work_on_page(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
    ) -> Result<Step, Failure> {
        let piece = self.piece();
        let Some(state) = &mut self.remote else { return Ok(Step::Rest) };
        let Some(mut work) = state.work.take() else { return Ok(Step::Rest) };
        let from = work.place;
        let to = (from + piece).min(work.records.len());
        if from < to {
            let begun = Instant::now();
            let origin = if work.from_job { Origin::Job } else { Origin::Page };
            self.loading = work.load.clone();
            let records = &work.records[from..to];
            let taken = if self.insert_fresh(records, work.moment) {
                Ok(())
            } else {
                self.take_read(epoch, shapes, records, work.moment, origin)
            };
            self.loading = None;
            if taken.is_ok() {
                work.place = to;
                self.learn(to - from, begun);
            }
            if let Some(state) = &mut self.remote {
                state.work = Some(work);
            }
            return taken.map(|()| Step::Done);
        }
        match &work.load {
            Some(load) => self.end_load_page(load.clone(), &work)?,
            None => self.end_poll_page(&work)?,
        }
        Ok(Step::Done)
    }

    /// Merges records that were read at some moment. Those of which something is on its way, or that
    /// were read before we last wrote them, are read again.
    pub(super) fn take_read(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        records: &[Record],
        moment: u64,
        origin: Origin,
    ) -> Result<(), Failure> {
        let bump = Bump::new();
        let waited = origin == Origin::Queue;
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let mut halves: Vec<Half<'_>> = Vec::with_capacity(records.len());
        let mut aside: Vec<(Vec<u8>, i64, Parked)> = Vec::new();
        {
            let Self { plan, places, remote: Some(state), .. } = self else { return Ok(()) };
            let table = plan.side(remote);
            let read = transaction(|| {
                let mut links = Links::open(plan, places);
                for record in records {
                    let Some(key) = values::key_of(table, &record.id) else { continue };
                    let mark = queue::mark(remote, &key);
                    let at = values::moment(&record.version, state.clock_offset_ms);
                    let stale = state.settled_at.get(&mark).is_some_and(|&s| s > moment);
                    let link = links.find(&bump, shapes, remote, &key);
                    let was_linked = link.is_some();
                    let link = link.filter(|l| !l.deleted);
                    let taken = state.is_taken(remote, &key)
                        || link.as_ref().is_some_and(|l| {
                            state.is_taken(remote.other(), l.key_of(remote.other()))
                        });
                    // One that a create on its way has made, perhaps.
                    let maybe_ours = link.is_none() && !state.creating.is_empty();
                    if maybe_ours {
                        let last = state.creating.iter().max().copied().unwrap_or(0);
                        state.maybe_ours.insert(mark, last);
                    }
                    if stale || taken || maybe_ours {
                        if !is_known(&bump, plan, link.as_ref(), remote, record) {
                            aside.push((key, at, Parked::Again));
                        }
                        continue;
                    }
                    let key = &*bump.alloc_slice_copy(&key);
                    if record.deleted {
                        if let Some(link) = link {
                            halves.push(deleted_half(
                                &bump,
                                plan,
                                remote,
                                key,
                                record,
                                state.clock_offset_ms,
                            ));
                            if waited {
                                halves.push(own_half(&bump, plan, &link));
                            }
                        }
                        continue;
                    }
                    match values::row(&bump, table, &record.id, &record.values) {
                        Ok(row)
                            if origin == Origin::Job
                                && was_linked
                                && !link.as_ref().is_some_and(|l| agrees(plan, l, remote, row)) =>
                        {
                            aside.push((key.to_vec(), at, Parked::Again));
                        }
                        Ok(row) => {
                            let at = at_of(plan, state, row, &record.version);
                            halves.push(remote_half(remote, key, row, at));
                            if let Some(link) = link.filter(|_| waited) {
                                halves.push(own_half(&bump, plan, &link));
                            }
                        }
                        Err(failure) => aside.push((key.to_vec(), at, Parked::Review(failure))),
                    }
                }
                links.close();
                Ok(())
            });
            if let Err(failure) = read {
                // A value that the type's own input function refuses: found one by one.
                if let [record] = records {
                    if let Some(key) = values::key_of(table, &record.id) {
                        aside.push((key, i64::MIN, Parked::Review(failure)));
                    }
                } else {
                    for record in records {
                        self.take_read(
                            epoch,
                            shapes,
                            std::slice::from_ref(record),
                            moment,
                            origin,
                        )?;
                    }
                    return Ok(());
                }
            }
        }
        let asked = self.loads.first().is_some_and(|load| load.left.is_none() && !load.match_only);
        if origin == Origin::Job && asked {
            // It may have come back since.
            let Self { plan, readers, places, .. } = &mut *self;
            let leaving = exits::leaving_of(plan, readers, places, shapes, &halves)?;
            for n in leaving.into_iter().rev() {
                let half = halves.swap_remove(n);
                aside.push((half.key.to_vec(), half.at, Parked::Again));
            }
        }
        self.set_remote_aside(&aside)?;
        if halves.iter().any(|half| half.seen == Seen::Gone) {
            // What had been agreed on before must outlive a crash if the delete does: else the row would
            // seem to have been edited since, and the record would be created again.
            flush();
        }
        self.merge_anew(epoch, shapes, &bump, halves)?;
        let Self { plan, remote: Some(state), .. } = self else { return Ok(()) };
        state.note_read(plan, records);
        Ok(())
    }

    /// These records have changed, whatever they are now, and more may have of which nobody has told where they were
    /// `missed`. Whatever comes behind `place` has not been told yet.
    pub fn take_told(
        &mut self,
        ids: &[String],
        missed: bool,
        place: Option<&Place>,
    ) -> Result<(), Failure> {
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let keys = ids.iter().filter_map(|id| values::key_of(self.plan.side(remote), id));
        let aside: Vec<_> = keys.map(|key| (key, i64::MIN, Parked::Again)).collect();
        self.set_remote_aside(&aside)?;
        if missed {
            self.hurry_poll();
        }
        let id = self.plan.id;
        if let Some(state) = &mut self.remote
            && state.told.as_ref() != place
        {
            // Never before the records are in the queue; what is told twice is read twice.
            transaction(|| {
                poll::keep_told(id, place);
                Ok(())
            })?;
            state.told = place.cloned();
        }
        Ok(())
    }

    /// Puts records of the other system into the queue.
    fn set_remote_aside(&mut self, aside: &[(Vec<u8>, i64, Parked)]) -> Result<(), Failure> {
        if aside.is_empty() {
            return Ok(());
        }
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let Self { plan, queued, .. } = self;
        let done = transaction(|| {
            for (key, at, why) in aside {
                queue::park(plan, remote, key, None, *at, why, queued);
            }
            Ok(())
        });
        queued.finish(done.is_ok());
        done?;
        self.next_due = Some(Instant::now());
        Ok(())
    }
}

/// Does a record hold what was agreed on, as far as anything was?
fn agrees(plan: &Plan, link: &Link<'_>, side: Side, row: &[Value<'_>]) -> bool {
    let Some(base) = &link.base else { return false };
    plan.fields.iter().zip(base.side(side)).all(|(field, agreed)| {
        let held = field.column[side as usize].map(|c| row[c]);
        held.is_none_or(|held| held == *agreed || matches!(agreed, Value::Marker | Value::Absent))
    })
}

/// Does a record hold just what is agreed on now? Then nothing of it is news, whatever is on its way.
fn is_known(
    bump: &Bump,
    plan: &Plan,
    link: Option<&Link<'_>>,
    side: Side,
    record: &Record,
) -> bool {
    let Some(base) = link.and_then(|link| link.base.as_ref()) else { return false };
    !record.deleted
        && values::row(bump, plan.side(side), &record.id, &record.values).is_ok_and(|row| {
            plan.fields.iter().zip(base.side(side)).all(|(field, agreed)| {
                field.column[side as usize].is_none_or(|c| agreed.is_known() && row[c] == *agreed)
            })
        })
}

/// The row of ours beside a record that waited, perhaps because the row was not what it was taken for. What
/// nobody has told of it has happened just now.
pub(super) fn own_half<'b>(bump: &'b Bump, plan: &Plan, link: &Link<'_>) -> Half<'b> {
    let local = plan.remote_side().map_or(Side::Target, Side::other);
    let own = &*bump.alloc_slice_copy(link.key_of(local));
    let told = queue::waiting(plan, local, own);
    let at = told.map_or_else(row::now, |told| told.changed_at);
    Half { both: false, ..Half::unread(local, own, at) }
}
