//! Changes of the other system: pages of its changes since a mark, pages of an object as a whole, and
//! single records. Each record is merged like a captured change; what equals the base is an echo.

use super::recover::moment_text;
use super::settle::{at_of, deleted_half, remote_half};
use super::{Purpose, Request, Step, push, values};
use crate::capture::row;
use crate::engine::collect::{Half, Seen};
use crate::engine::link::{self, Link, Links};
use crate::engine::load::{self, Kind, Load};
use crate::engine::plan::Plan;
use crate::engine::queue::{self, Due, Parked};
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Sync, flush};
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use connector::{Mark, Page, Record};
use merge::Side;
use std::time::{Duration, Instant};

/// How often the other system is asked for changes, unless the document says.
const INTERVAL: Duration = Duration::from_secs(30);
/// What is asked for again and again: no page within so long after a request to hurry.
const HURRY: Duration = Duration::from_millis(500);

/// Where asking for changes stands.
pub struct Poll {
    /// Everything up to this moment of the other system's clock has been read; empty: not begun.
    pub at: String,
    due: Instant,
    interval: Duration,
    /// Somebody waits for a poll that begins from now on; the poll under way is the one.
    wanted: bool,
    answers: bool,
    /// The latest version seen since the first page of the poll under way, and where it goes on.
    latest: String,
    next: Option<Mark>,
    /// Linked records that the poll under way ends.
    deletes: u64,
}

impl Poll {
    pub fn new(at: String, interval: Option<Duration>) -> Self {
        Self {
            latest: at.clone(),
            at,
            due: Instant::now(),
            interval: interval.unwrap_or(INTERVAL),
            wanted: false,
            answers: false,
            next: None,
            deletes: 0,
        }
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Asks as often from now on.
    pub fn ask_every(&mut self, interval: Duration) {
        self.interval = interval;
        self.due = self.due.min(Instant::now() + interval);
    }

    /// Asks soon.
    fn hurry(&mut self) {
        (self.wanted, self.answers) = (true, false);
        self.due = self.due.min(Instant::now() + HURRY);
    }

    /// Does somebody wait for what it will say?
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub fn due(&self) -> Instant {
        self.due
    }
}

/// A page that is being worked on.
pub struct Work {
    records: Vec<Record>,
    place: usize,
    more: bool,
    /// When it was asked for; see [`State::moment`].
    moment: u64,
    /// The load it is part of; `None`: of the changes.
    load: Option<Load>,
}

/// Links whose records are looked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub ids: Vec<String>,
    /// The last link's key, in the order of the load.
    pub end: Option<Vec<u8>>,
    pub complete: bool,
}

/// Where a sync with another system stands in its changes.
pub fn stored(sync: i32) -> String {
    sql::one("SELECT p.at FROM sync._pull p WHERE p.sync = $1", &[Arg::Int4(sync)])
        .unwrap_or_default()
}

fn store(sync: i32, at: &str) {
    sql::as_extension(|| {
        sql::query(
            "INSERT INTO sync._pull AS p (sync, at) VALUES ($1, $2)
             ON CONFLICT (sync) DO UPDATE SET at = EXCLUDED.at, polled_at = pg_catalog.clock_timestamp()",
            &[Arg::Int4(sync), Arg::Text(at)],
        )
    });
}

impl Sync {
    /// Records are not there any more: their changes tell whether they were deleted.
    pub(super) fn hurry_poll(&mut self) {
        if let Some((remote, _)) = self.plan.remote()
            && self.plan.flows_from(remote)
            && let Some(state) = &mut self.remote
        {
            state.poll.hurry();
        }
    }

    /// Asks for changes when it is time.
    pub(super) fn poll_if_due(&mut self) -> Result<Step, Failure> {
        let flows = self.plan.remote_side().is_some_and(|side| self.plan.flows_from(side));
        let id = self.plan.id;
        let loading = self.loads.iter().any(|l| self.plan.is_remote(l.side));
        let Some(state) = &mut self.remote else { return Ok(Step::Rest) };
        if !flows {
            return Ok(Step::Rest);
        }
        if state.poll.at.is_empty() {
            // Whatever is changed from now on comes with the changes, and what there is with the load.
            let now = push::unix_ms() + state.clock_offset_ms
                - i64::from(state.can.overlap_seconds) * 1000;
            let at = moment_text(now);
            transaction(|| {
                store(id, &at);
                Ok(())
            })?;
            state.poll.at.clone_from(&at);
            state.poll.latest = at;
        }
        if loading || state.poll.due > Instant::now() || state.has(|p| matches!(p, Purpose::Poll)) {
            return Ok(Step::Rest);
        }
        let since = match &state.poll.next {
            Some(next) => next.clone(),
            None => {
                // A record may become visible after one with a later mark has been read.
                let overlap = i64::from(state.can.overlap_seconds);
                let at = transaction(|| Ok(earlier(&state.poll.at, overlap)))?;
                state.poll.deletes = 0;
                state.poll.answers = state.poll.wanted;
                Mark { at, id: String::new() }
            }
        };
        state.call(Request::Changes { since }, Purpose::Poll);
        Ok(Step::Done)
    }

    pub(super) fn take_poll_page(
        &mut self,
        shapes: &mut Shapes,
        page: Page,
        moment: u64,
    ) -> Result<(), Failure> {
        if self.asks_about_deletes(shapes, &page.records)? {
            return Ok(());
        }
        let Some(state) = &mut self.remote else { return Ok(()) };
        let Page { records, more } = page;
        state.work = Some(Work { records, place: 0, more, moment, load: None });
        Ok(())
    }

    pub(super) fn take_load_page(&mut self, page: Page, moment: u64) -> Result<(), Failure> {
        let load = self.loads.first().filter(|l| self.plan.is_remote(l.side)).cloned();
        let Some(state) = &mut self.remote else { return Ok(()) };
        if load.is_some() {
            let Page { records, more } = page;
            state.work = Some(Work { records, place: 0, more, moment, load });
        }
        Ok(())
    }

    /// Would these records end more linked ones than a poll may without asking? Then it has asked.
    pub(super) fn asks_about_deletes(
        &mut self,
        shapes: &mut Shapes,
        records: &[Record],
    ) -> Result<bool, Failure> {
        let Self { plan, places, remote: Some(state), verdict, .. } = self else {
            return Ok(false);
        };
        if verdict.is_some() || !records.iter().any(|r| r.deleted) {
            return Ok(false);
        }
        let Some((remote, _)) = plan.remote() else { return Ok(false) };
        let bump = Bump::new();
        let (gone, limit) = transaction(|| {
            let mut links = Links::open(plan, places);
            let gone = records
                .iter()
                .filter(|r| r.deleted)
                .filter(|r| {
                    values::key_of(plan.side(remote), &r.id).is_some_and(|key| {
                        links.find(&bump, shapes, remote, &key).is_some_and(|l| !l.deleted)
                    })
                })
                .count() as u64;
            links.close();
            Ok((gone, plan.delete_limit(link::estimate(plan))))
        })?;
        state.poll.deletes += gone;
        if state.poll.deletes <= limit {
            return Ok(false);
        }
        let sentence = format!(
            "{} or more records were deleted in {}, more than the limit of {limit}; nothing of it has been deleted from {}",
            state.poll.deletes,
            plan.side(remote).name,
            plan.side(remote.other()).name
        );
        let id = plan.id;
        transaction(|| {
            sql::query(
                "UPDATE sync._sync SET state = 'needs decision', decision = 'pull', reason = $2, changed_at = pg_catalog.clock_timestamp()
                  WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(id), Arg::Text(&sentence)],
            );
            Ok(())
        })?;
        // The page is read again once it has been decided.
        state.poll.next = None;
        crate::engine::mark_configuration_stale();
        Ok(true)
    }

    /// Works on the next piece of the page at hand.
    pub(super) fn work_on_page(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
    ) -> Result<Step, Failure> {
        let piece = self.plan.config.batch_size as usize;
        let Some(state) = &mut self.remote else { return Ok(Step::Rest) };
        let Some(work) = &mut state.work else { return Ok(Step::Rest) };
        let from = work.place;
        let to = (from + piece).min(work.records.len());
        if from < to {
            let records = work.records[from..to].to_vec();
            let (moment, load) = (work.moment, work.load.clone());
            self.loading = load;
            let taken = self.take_read(epoch, shapes, &records, moment, false);
            self.loading = None;
            taken?;
            if let Some(work) = self.remote.as_mut().and_then(|s| s.work.as_mut()) {
                work.place = to;
            }
            return Ok(Step::Done);
        }
        let Some(work) = state.work.take() else { return Ok(Step::Rest) };
        match &work.load {
            Some(load) => self.end_load_page(load.clone(), &work)?,
            None => self.end_poll_page(&work)?,
        }
        Ok(Step::Done)
    }

    fn end_poll_page(&mut self, work: &Work) -> Result<(), Failure> {
        let id = self.plan.id;
        let decided = self.verdict.is_some();
        let Some(state) = &mut self.remote else { return Ok(()) };
        for record in &work.records {
            if record.version > state.poll.latest {
                state.poll.latest.clone_from(&record.version);
            }
        }
        if work.more
            && let Some(last) = work.records.last()
        {
            state.poll.next = Some(Mark { at: last.version.clone(), id: last.id.clone() });
            state.poll.due = Instant::now();
            return Ok(());
        }
        state.poll.next = None;
        state.poll.due = Instant::now() + state.poll.interval;
        if state.poll.answers {
            state.poll.wanted = false;
        } else if state.poll.wanted {
            state.poll.due = Instant::now();
        }
        if state.poll.latest > state.poll.at || decided {
            let at = state.poll.latest.clone();
            transaction(|| {
                store(id, &at);
                if decided {
                    sql::query(
                        "UPDATE sync._sync SET decision = NULL WHERE id = $1 AND decision IN ('confirmed', 'discarded')",
                        &[Arg::Int4(id)],
                    );
                }
                Ok(())
            })?;
            state.poll.at = at;
            self.verdict = None;
        }
        Ok(())
    }

    /// Merges records that were read at some moment. Those of which something is on its way, or that
    /// were read before we last wrote them, are read again. `waited`: they come from the queue.
    fn take_read(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        records: &[Record],
        moment: u64,
        waited: bool,
    ) -> Result<(), Failure> {
        let bump = Bump::new();
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
                    let link = links.find(&bump, shapes, remote, &key).filter(|l| !l.deleted);
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
                        aside.push((key, at, Parked::Again));
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
                            waited,
                        )?;
                    }
                    return Ok(());
                }
            }
        }
        self.set_remote_aside(&aside)?;
        if halves.iter().any(|half| half.seen == Seen::Gone) {
            // What had been agreed on before must outlive a crash if the delete does: else the row would
            // seem to have been edited since, and the record would be created again.
            flush();
        }
        self.merge_anew(epoch, shapes, &bump, halves)
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
        if self.asks_about_deletes(shapes, &there)? {
            return Ok(());
        }
        let Self { plan, places, queued, .. } = self;
        let bump = Bump::new();
        let done = transaction(|| {
            let mut vanished = false;
            let mut links = Links::open(plan, places);
            for (due, record) in due.iter().zip(&records) {
                if record.as_ref().is_none_or(|r| r.deleted) {
                    queue::settled(plan, due.side, &due.key, queued);
                    let link = links.find(&bump, shapes, due.side, &due.key);
                    vanished |= record.is_none() && link.is_some_and(|l| !l.deleted);
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
        self.take_read(epoch, shapes, &there, moment, true)
    }

    /// Works on the next piece of a load of the other system's side: asks for it. True when something
    /// was asked or done.
    pub fn load_remote(&mut self) -> Result<bool, Failure> {
        let Some(load) = self.loads.first().cloned() else { return Ok(false) };
        let Some((remote, _)) = self.plan.remote() else { return Ok(false) };
        let Some(state) = &mut self.remote else { return Ok(false) };
        let asked = |p: &Purpose| matches!(p, Purpose::Load | Purpose::LoadLinks(_));
        if state.poll.at.is_empty() && self.plan.flows_from(remote) {
            self.poll_if_due()?;
            return Ok(true);
        }
        if state.work.is_some() || state.has(asked) {
            return Ok(false);
        }
        let table = self.plan.side(remote);
        match load.kind {
            Kind::Rows => {
                let after = load.last_key.as_deref().and_then(|k| values::id_of(table, k));
                state.call(Request::List { after }, Purpose::Load);
            }
            Kind::Links => {
                let limit = state.can.max_fetch;
                let links = next_links(&self.plan, &load, limit)?;
                if links.ids.is_empty() {
                    load::finish_piece(self, &load, links.end, links.complete, 0)?;
                    return Ok(true);
                }
                let request = Request::Fetch { ids: links.ids.clone() };
                state.call(request, Purpose::LoadLinks(links));
            }
        }
        Ok(true)
    }

    fn end_load_page(&mut self, load: Load, work: &Work) -> Result<(), Failure> {
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let last = work.records.last().and_then(|r| values::key_of(self.plan.side(remote), &r.id));
        let last = last.or_else(|| load.last_key.clone());
        load::finish_piece(self, &load, last, !work.more, work.records.len() as i64)
    }

    /// Links whose records were looked for: those that are gone over there.
    pub(super) fn take_links(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        links: Asked,
        records: &[Option<Record>],
    ) -> Result<(), Failure> {
        let Some(load) = self.loads.first().cloned() else { return Ok(()) };
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let table = self.plan.side(remote);
        let missing = links
            .ids
            .iter()
            .zip(records)
            .filter(|(_, record)| record.as_ref().is_none_or(|r| r.deleted))
            .filter_map(|(id, _)| values::key_of(table, id));
        let Some(state) = &mut self.remote else { return Ok(()) };
        state.missing.extend(missing);
        let count = links.ids.len() as i64;
        // All of them are counted before the first is deleted.
        if !load.confirmed && !load.discarded {
            let (plan, missing) = (&self.plan, state.missing.len() as u64);
            let limit = transaction(|| Ok(plan.delete_limit(link::estimate(plan))))?;
            if missing > limit {
                state.missing.clear();
                return load::ask_about(plan, remote, missing, limit);
            }
        }
        if !links.complete {
            if let Some(first) = self.loads.first_mut() {
                first.last_key = links.end;
            }
            return Ok(());
        }
        let bump = Bump::new();
        let halves = std::mem::take(&mut state.missing)
            .iter()
            .filter(|key| !state.is_taken(remote, key))
            .map(|key| {
                let key = &*bump.alloc_slice_copy(key);
                Half { seen: Seen::Gone, left: true, ..Half::unread(remote, key, i64::MIN) }
            })
            .collect();
        self.loading = Some(load.clone());
        let worked = self.merge_anew(epoch, shapes, &bump, halves);
        self.loading = None;
        worked?;
        load::finish_piece(self, &load, links.end, true, count)
    }
}

/// The row of ours beside a record that waited, perhaps because the row was not what it was taken for. What
/// nobody has told of it has happened just now.
fn own_half<'b>(bump: &'b Bump, plan: &Plan, link: &Link<'_>) -> Half<'b> {
    let local = plan.remote_side().map_or(Side::Target, Side::other);
    let own = &*bump.alloc_slice_copy(link.key_of(local));
    let told = queue::waiting(plan, local, own);
    let at = told.map_or_else(row::now, |told| told.changed_at);
    Half { both: false, ..Half::unread(local, own, at) }
}

/// The next links of a load, in its order.
fn next_links(plan: &Plan, load: &Load, limit: usize) -> Result<Asked, Failure> {
    let Some((remote, _)) = plan.remote() else {
        return Ok(Asked { ids: Vec::new(), end: None, complete: true });
    };
    let keys = link::after(plan, load.last_key.as_deref().unwrap_or_default(), limit)?;
    let table = plan.side(remote);
    Ok(Asked {
        complete: keys.len() < limit,
        end: keys.last().map(|k| k.0.clone()),
        ids: keys
            .iter()
            .filter_map(|(source, target)| {
                values::id_of(table, if remote == Side::Source { source } else { target })
            })
            .collect(),
    })
}

/// A moment of the other system's clock, so many seconds earlier.
fn earlier(at: &str, seconds: i64) -> String {
    sql::one(
        "SELECT pg_catalog.to_char(($1::timestamptz - interval '1 second' * $2) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        &[Arg::Text(at), Arg::Int(seconds)],
    )
    .unwrap_or_else(|| at.to_owned())
}
