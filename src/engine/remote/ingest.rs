//! Many records to be written over there at once, as jobs of the other system: a backlog or a first load costs a
//! handful of calls then, whatever its size. Creates are; updates and deletes where nobody over there can have
//! changed what they write over.
//!
//! Nothing of a job is carried out before it is committed, and it is committed only when its handle stands in the
//! database beside the intents that it carries. From then on it is asked what came of it, by this worker or the next:
//! as long as a job may be at work, none of its records is looked for or sent in another way.

use super::bulk::{Ask, Told};
use super::intent;
use super::push::{self, Sent};
use super::{Purpose, Request, State};
use crate::engine::plan::Plan;
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Sync, flush};
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use connector::{BulkJob, BulkState, Kind, Outcome, Write, WriteBatch, bulk};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer records than this leave in ordinary calls: five of them do as well.
const FEWEST: usize = 4_000;
/// Most records of one job: as many as may well be looked up one by one, should the job get lost.
const MOST: usize = 25_000;
/// Their values in bytes, so far as they are kept in memory until the job has ended.
const MOST_BYTES: usize = 6 << 20;
/// Jobs at once.
const JOBS: usize = 2;
/// So long records wait for more to come.
const GATHER: Duration = Duration::from_secs(5);
/// Outcomes settled in one transaction.
const PIECE: usize = 2_000;

/// What is written by jobs.
#[derive(Default)]
pub struct Ingest {
    /// Writes of one kind that gather for the next job, how large they are, and since when.
    gathered: Vec<Sent>,
    bytes: usize,
    since: Option<Instant>,
    /// Jobs that are under way.
    jobs: Vec<Job>,
    last_number: u64,
}

struct Job {
    number: u64,
    handle: BulkJob,
    sent: Vec<Sent>,
    looks: u32,
    /// What it is asked, or told, while that is under way.
    asked: bool,
    /// Does the other system have it at work, as far as we know?
    committed: bool,
    /// What came of its records, as far as that is not settled.
    outcomes: Vec<Outcome>,
}

impl Ingest {
    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.jobs.is_empty()
    }

    /// May more be gathered?
    pub fn has_room(&self) -> bool {
        self.jobs.len() < JOBS || self.gathered.len() < MOST && self.bytes < MOST_BYTES
    }

    fn is_full(&self) -> bool {
        self.gathered.len() >= MOST || self.bytes >= MOST_BYTES
    }

    fn take_gathered(&mut self) -> Vec<Sent> {
        (self.bytes, self.since) = (0, None);
        std::mem::take(&mut self.gathered)
    }

    /// Jobs of an earlier worker, with the intents that they carry; the others are returned.
    pub fn take_up(&mut self, stored: Vec<Stored>, sent: Vec<Sent>) -> Vec<Sent> {
        let mut rest = sent;
        for Stored { handle, numbers } in stored {
            let (mut own, others): (Vec<Sent>, Vec<Sent>) =
                rest.into_iter().partition(|s| numbers.binary_search(&s.intent.number).is_ok());
            own.sort_by_key(|s| s.intent.number);
            rest = others;
            self.add(handle, own);
        }
        rest
    }

    fn add(&mut self, handle: BulkJob, sent: Vec<Sent>) {
        self.last_number += 1;
        self.jobs.push(Job {
            number: self.last_number,
            handle,
            sent,
            looks: 0,
            asked: false,
            committed: false,
            outcomes: Vec::new(),
        });
    }
}

/// A job as it stands in the database.
pub struct Stored {
    handle: BulkJob,
    /// In their order.
    numbers: Vec<i64>,
}

/// The jobs that were under way.
pub fn stored(sync: i32) -> Vec<Stored> {
    sql::read(
        "SELECT j.job, pg_catalog.array_to_string(j.intents, ',') FROM sync._write_job j WHERE j.sync = $1",
        &[Arg::Int4(sync)],
    )
    .into_iter()
    .filter_map(|row| {
        let numbers = row[1].as_deref()?.split(',').map(str::parse).collect::<Result<_, _>>();
        Some(Stored { handle: BulkJob(row[0].clone()?), numbers: numbers.ok()? })
    })
    .collect()
}

/// Takes what a job can write from what leaves, where so much more comes that a job is worth it.
pub(super) fn gather(plan: &Plan, state: &mut State, sent: Vec<Sent>) -> Vec<Sent> {
    let Some((_, object)) = plan.remote() else { return sent };
    let coming = state.backlog + state.ingest.gathered.len() + sent.len();
    let structured = |c: &connector::Column| matches!(c.kind, Kind::Structure | Kind::Bytes);
    if coming < FEWEST || state.connector.bulk().is_none() || object.columns.iter().any(structured)
    {
        return sent;
    }
    // What is written over has to be read before where somebody may have changed it: no job does.
    let (named, blindly) = (object.identity.is_some(), !push::reads_before(plan, state));
    let suits = |s: &Sent| {
        s.tries == 0
            && match &s.write {
                Some(Write::Create { identity, .. }) => identity.is_some() == named,
                Some(Write::Update { .. } | Write::Delete { .. }) => blindly,
                None => false,
            }
    };
    // A job knows one way to write.
    let gathered = state.ingest.gathered.first().or_else(|| sent.iter().find(|s| suits(s)));
    let Some(op) = gathered.map(|s| s.intent.op) else { return sent };
    let (ours, rest): (Vec<Sent>, Vec<Sent>) =
        sent.into_iter().partition(|s| s.intent.op == op && suits(s));
    if !ours.is_empty() {
        let ingest = &mut state.ingest;
        ingest.since.get_or_insert_with(Instant::now);
        ingest.bytes += ours.iter().map(size).sum::<usize>();
        ingest.gathered.extend(ours);
    }
    rest
}

fn size(sent: &Sent) -> usize {
    let (Some(Write::Create { fields, .. }) | Some(Write::Update { fields, .. })) = &sent.write
    else {
        return 20;
    };
    fields.iter().map(|(_, value)| value.as_ref().map_or(1, |v| v.len() + 3)).sum()
}

impl Sync {
    /// Sends what has gathered, asks what came of jobs, and settles it. True when something was done.
    pub(super) fn ingest(&mut self, epoch: i32, shapes: &mut Shapes) -> Result<bool, Failure> {
        let backlog = self.backlog();
        let Some(state) = &mut self.remote else { return Ok(false) };
        let ingest = &mut state.ingest;
        if let Some(job) = ingest.jobs.iter_mut().find(|job| !job.outcomes.is_empty()) {
            let piece = job.outcomes.len().min(PIECE);
            let sent: Vec<Sent> = job.sent.drain(..piece).collect();
            let outcomes: Vec<Outcome> = job.outcomes.drain(..piece).collect();
            if job.sent.is_empty() {
                let (number, handle) = (job.number, job.handle.clone());
                ingest.jobs.retain(|job| job.number != number);
                // Only then is it forgotten, here and, once that cannot be taken back, over there.
                let settled = self.settle_written(epoch, shapes, sent, outcomes);
                self.forget_job(&handle)?;
                flush();
                if let Some(state) = &mut self.remote {
                    state.call(Request::Job(Ask::End(handle)), Purpose::IngestJob(0));
                }
                return settled.map(|()| true);
            }
            return self.settle_written(epoch, shapes, sent, outcomes).map(|()| true);
        }
        let old = ingest.since.is_some_and(|since| since.elapsed() >= GATHER);
        let last = backlog == 0 && state.backlog == 0;
        if !ingest.gathered.is_empty() && (ingest.is_full() || old || last) {
            if ingest.gathered.len() < FEWEST {
                let few = ingest.take_gathered();
                push::send(&self.plan, state, few, None);
                return Ok(true);
            }
            let uploading = state.has(|p| matches!(p, Purpose::Ingest(_)));
            if !uploading && state.ingest.jobs.len() < JOBS {
                let sent = state.ingest.take_gathered();
                let batch = Arc::new(batch(&self.plan, &sent));
                state.call(Request::Job(Ask::Upload(batch)), Purpose::Ingest(sent));
                return Ok(true);
            }
        }
        let Some(job) = state.ingest.jobs.iter_mut().find(|job| !job.asked) else {
            return Ok(false);
        };
        job.asked = true;
        let (number, handle) = (job.number, job.handle.clone());
        if job.committed {
            job.looks += 1;
            let at = Instant::now() + bulk::pause(job.looks - 1);
            state.call_later(
                Request::Job(Ask::State(handle)),
                Purpose::IngestJob(number),
                Some(at),
            );
        } else {
            state.call(Request::Job(Ask::Commit(handle)), Purpose::IngestJob(number));
        }
        Ok(true)
    }

    /// An upload was answered.
    pub(super) fn uploaded(&mut self, sent: Vec<Sent>, told: Told) -> Result<(), Failure> {
        let (id, name) = (self.plan.id, &self.plan.name);
        let Some(state) = &mut self.remote else { return Ok(()) };
        let handle = match told {
            Told::Started(handle) => handle,
            told => {
                // Nothing has happened: they leave as ordinary calls.
                if let Told::Refused(fault) = told {
                    speech::log(format!("sync \"{name}\": writing by a job failed: {fault}"));
                }
                push::send(&self.plan, state, sent, None);
                return Ok(());
            }
        };
        let mut numbers: Vec<i64> = sent.iter().map(|s| s.intent.number).collect();
        numbers.sort_unstable();
        let numbers = intent::list(&numbers);
        transaction(|| {
            sql::query(
                "INSERT INTO sync._write_job (sync, job, intents) VALUES ($1, $2, $3::int8[])",
                &[Arg::Int4(id), Arg::Text(&handle.0), Arg::Text(&numbers)],
            );
            Ok(())
        })?;
        // What a crash could take back must not begin.
        flush();
        state.ingest.add(handle, sent);
        Ok(())
    }

    /// An answer about a job that writes.
    pub(super) fn told_of_ingest(
        &mut self,
        shapes: &mut Shapes,
        number: u64,
        told: Told,
    ) -> Result<(), Failure> {
        let Self { plan, remote: Some(state), .. } = self else { return Ok(()) };
        let State { ingest, .. } = state;
        let Some(place) = ingest.jobs.iter().position(|job| job.number == number) else {
            return Ok(());
        };
        let job = &mut ingest.jobs[place];
        job.asked = false;
        match told {
            Told::Committed => job.committed = true,
            // Its commit did not come through.
            Told::State(BulkState::Open) => job.committed = false,
            Told::State(BulkState::Running { .. }) => {}
            Told::State(BulkState::Complete { .. } | BulkState::Failed(_)) => {
                // Of an earlier worker it is known what they were to bring about, and so what was sent.
                transaction(|| {
                    let known = |one: &&mut Sent| {
                        one.write.is_none() && one.intent.op == intent::Op::Create
                    };
                    for one in job.sent.iter_mut().filter(known) {
                        one.write = push::rebuild(plan, shapes, one);
                    }
                    Ok(())
                })?;
                // What cannot be told any more is looked up like what was never answered.
                let all = std::mem::take(&mut job.sent);
                let (sent, lost): (Vec<Sent>, Vec<Sent>) =
                    all.into_iter().partition(|one| one.write.is_some());
                job.sent = sent;
                let batch = Arc::new(batch(plan, &job.sent));
                job.asked = true;
                let ask = Ask::Outcomes(job.handle.clone(), batch);
                state.unsure.extend(lost);
                state.call(Request::Job(ask), Purpose::IngestJob(number));
            }
            Told::Outcomes(outcomes)
                if outcomes.len() == job.sent.len() && !outcomes.is_empty() =>
            {
                job.outcomes = outcomes;
            }
            told => {
                if let Told::Refused(fault) | Told::State(BulkState::Failed(fault)) = told {
                    let name = &plan.name;
                    speech::log(format!("sync \"{name}\": what a job wrote is looked up: {fault}"));
                }
                let job = ingest.jobs.remove(place);
                state.unsure.extend(job.sent);
                return self.forget_job(&job.handle);
            }
        }
        Ok(())
    }

    fn forget_job(&self, handle: &BulkJob) -> Result<(), Failure> {
        let id = self.plan.id;
        transaction(|| {
            sql::query(
                "DELETE FROM sync._write_job WHERE sync = $1 AND job = $2",
                &[Arg::Int4(id), Arg::Text(&handle.0)],
            );
            Ok(())
        })
    }
}

fn batch(plan: &Plan, sent: &[Sent]) -> WriteBatch {
    push::batch(plan, false, sent.iter().filter_map(|s| s.write.clone()).collect())
}
