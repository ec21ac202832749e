//! What waits in the queue: rows of ours are taken up at once, records of the other system once they have
//! been read.

use super::pull::{Origin, own_half};
use super::{Purpose, Request, values};
use crate::engine::collect::{Half, Seen};
use crate::engine::link::Links;
use crate::engine::queue::{self, Due, Parked};
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Sync, flush};
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use connector::Record;
use foldhash::{HashSet, HashSetExt};
use std::time::{Duration, Instant};

impl Sync {
    /// Takes up what is due in the queue: rows of ours at once, records of the other system once they
    /// have been read. False when nothing of it can be taken up now.
    pub(super) fn ask_queue(&mut self, epoch: i32, shapes: &mut Shapes) -> Result<bool, Failure> {
        let Some((remote, _)) = self.plan.remote() else { return Ok(false) };
        let id = self.plan.id;
        let Some(state) = &mut self.remote else { return Ok(false) };
        let limit = self.plan.config.batch_size as i32 + state.lanes.len().min(5_000) as i32;
        let due = transaction(|| Ok(queue::due(id, limit, &mut self.queued)))?;
        let first_create = state.creating.iter().min().copied().unwrap_or(i64::MAX);
        state.maybe_ours.retain(|_, last| *last >= first_create);
        let fetching = state.has(|p| matches!(p, Purpose::Queue(_)));
        let (ours, theirs): (Vec<Due>, Vec<Due>) = due
            .into_iter()
            .filter(|d| {
                let waits = state.is_taken(d.side, &d.key)
                    || d.before.as_ref().is_some_and(|before| state.is_taken(d.side, before))
                    || state.maybe_ours.contains_key(&queue::mark(d.side, &d.key))
                    || d.side == remote && fetching;
                !waits
            })
            .partition(|d| d.side != remote);
        let (ours, theirs) = self.read_first(shapes, ours, theirs, fetching)?;
        let Some(state) = &mut self.remote else { return Ok(false) };
        // What is taken comes back when its lane is free, what waits for a time when it is there.
        let next = transaction(|| Ok(queue::next_later(id)))?;
        self.next_due = next.map(|ms| Instant::now() + Duration::from_millis(ms.max(1)));
        let theirs: Vec<Due> = theirs.into_iter().take(state.can.max_fetch).collect();
        if ours.is_empty() && theirs.is_empty() {
            return Ok(false);
        }
        if !theirs.is_empty() {
            let table = self.plan.side(remote);
            let ids = theirs.iter().filter_map(|d| values::id_of(table, &d.key)).collect();
            state.call(Request::Fetch { ids }, Purpose::Queue(theirs));
        }
        if ours.is_empty() {
            return Ok(true);
        }
        let bump = Bump::new();
        let halves = ours
            .iter()
            .map(|d| {
                let key = &*bump.alloc_slice_copy(&d.key);
                let before = d.before.as_deref().map(|b| &*bump.alloc_slice_copy(b));
                Half { before, both: false, ..Half::unread(d.side, key, d.changed_at) }
            })
            .collect();
        self.next_due = Some(Instant::now());
        self.merge_anew(epoch, shapes, &bump, halves)?;
        Ok(true)
    }

    /// Where a record has to be read before it is written over, it is asked for in the place of its row.
    fn read_first(
        &mut self,
        shapes: &mut Shapes,
        ours: Vec<Due>,
        mut theirs: Vec<Due>,
        fetching: bool,
    ) -> Result<(Vec<Due>, Vec<Due>), Failure> {
        let Self { plan, places, .. } = self;
        let undoes = plan.config.on_target_edit == document::OnTargetEdit::Overwrite;
        let always = plan.reads_first() || undoes;
        let Some(remote) = plan.remote_side().filter(|_| always || plan.screens.filters()) else {
            return Ok((ours, theirs));
        };
        let bump = Bump::new();
        let mut unlinked = Vec::new();
        transaction(|| {
            let mut links = Links::open(plan, places);
            for due in ours {
                let key = due.before.as_deref().unwrap_or(&due.key);
                match links.find(&bump, shapes, due.side, key).filter(|link| !link.deleted) {
                    // One request at a time: it comes back when that is answered.
                    Some(link) if !always && link.standing == 0 => unlinked.push(due),
                    Some(_) if fetching => {}
                    Some(link) => {
                        let key = link.key_of(remote).to_vec();
                        theirs.push(Due { side: remote, key, before: None, ..due });
                    }
                    None => unlinked.push(due),
                }
            }
            links.close();
            Ok(())
        })?;
        let mut asked = HashSet::new();
        theirs.retain(|due| asked.insert(due.key.clone()));
        Ok((unlinked, theirs))
    }

    /// Records that waited in the queue have been read.
    pub(super) fn take_fetched(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        due: Vec<Due>,
        records: Vec<Option<Record>>,
        moment: u64,
    ) -> Result<(), Failure> {
        let there: Vec<Record> = records.iter().flatten().cloned().collect();
        if self.asks_about_losses(shapes, &there)? {
            return Ok(());
        }
        let Self { plan, places, queued, .. } = self;
        let bump = Bump::new();
        let mut gone: Vec<Half<'_>> = Vec::new();
        let done = transaction(|| {
            let mut vanished = false;
            let mut links = Links::open(plan, places);
            for (due, record) in due.iter().zip(&records) {
                if record.as_ref().is_none_or(|r| r.deleted) {
                    let link = links.find(&bump, shapes, due.side, &due.key);
                    let link = link.filter(|link| !link.deleted);
                    if let Some(link) = link.as_ref().filter(|_| due.repair) {
                        // It was found not to be there before: what comes of it is to be decided now.
                        let key = &*bump.alloc_slice_copy(&due.key);
                        gone.push(Half {
                            seen: Seen::Gone,
                            left: true,
                            both: false,
                            ..Half::unread(due.side, key, i64::MIN)
                        });
                        gone.push(own_half(&bump, plan, link));
                        continue;
                    }
                    let link = link.filter(|_| record.is_none());
                    queue::settled(plan, due.side, &due.key, queued);
                    vanished |= link.is_some();
                    // Its row waited for what was to be read.
                    let own = link.map(|link| link.key_of(due.side.other()));
                    if let Some(own) = own
                        && queued.contains(queue::mark(due.side.other(), own))
                    {
                        let id = values::id_of(plan.side(due.side), &due.key);
                        let why = Parked::Failed(super::settle::vanished(id.as_deref()));
                        queue::park(
                            plan,
                            due.side.other(),
                            own,
                            None,
                            due.changed_at,
                            &why,
                            queued,
                        );
                    }
                }
            }
            links.close();
            Ok(vanished)
        });
        queued.finish(done.is_ok());
        if done? {
            // It comes with the changes, as deleted.
            self.hurry_poll();
        }
        self.next_due = Some(Instant::now());
        if !gone.is_empty() {
            // As for a delete that was told.
            flush();
            self.merge_anew(epoch, shapes, &bump, gone)?;
        }
        self.take_read(epoch, shapes, &there, moment, Origin::Queue)
    }
}
