//! Going through a large object as a job of the other system, whose result is read page by page. The job is written
//! down beside the load, and so is the page to go on with: a crash costs one page.
//!
//! A page is only as new as its job. What it says of a record that is linked and differs from what was agreed on is
//! therefore not taken: the record is read anew (`pull`).

use super::pull::Work;
use super::{Purpose, Request, State};
use crate::engine::load::{self, Load};
use crate::engine::sync::Sync;
use crate::speech;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use connector::{
    BulkJob, BulkPage, BulkPages, BulkState, Column, Connector, Fault, FaultKind, Outcome,
    WriteBatch, bulk,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// From so many records on a job is worth its calls and the wait for it: ten pages otherwise.
pub const FEWEST: u64 = 20_000;
/// Most records in memory that are not worked on yet.
const AHEAD: u64 = 40_000;
/// So many jobs may fail before the object is read without.
const MOST_JOBS: u32 = 2;
/// The numbers of calls that are about no page: one at a time, and what nobody waits for.
const OF_JOB: u64 = 0;
const AFTERWARDS: u64 = u64::MAX;
/// More pages are not listed: they are read one after the other.
const MOST_LISTED: usize = 1_000;

/// What is asked about a job.
#[derive(Clone, Debug)]
pub enum Ask {
    Count,
    Start,
    State(BulkJob),
    Pages(BulkJob, Option<String>),
    Page {
        job: BulkJob,
        locator: Option<String>,
        most: Option<usize>,
    },
    End(BulkJob),
    /// Records to be written, which wait for their commit.
    Upload(Arc<WriteBatch>),
    Commit(BulkJob),
    Outcomes(BulkJob, Arc<WriteBatch>),
}

/// What is answered.
#[derive(Debug)]
pub enum Told {
    Count(Option<u64>),
    Started(BulkJob),
    State(BulkState),
    Pages(BulkPages),
    Page(BulkPage),
    Ended,
    Committed,
    Outcomes(Vec<Outcome>),
    /// It cannot be had in this way.
    Refused(Fault),
}

/// Carries out what is asked; on a network thread. What says nothing of the connection is an answer.
///
/// # Errors
/// Faults that pass, or that stop everything else too.
pub async fn carry_out(
    connector: &dyn Connector,
    object: &str,
    columns: &[Column],
    ask: Ask,
) -> Result<Told, Fault> {
    match of_job(connector, object, columns, ask).await {
        Err(fault)
            if !fault.is_of_connection()
                || fault.kind == FaultKind::Configuration
                || fault.code == bulk::GONE =>
        {
            Ok(Told::Refused(fault))
        }
        told => told,
    }
}

async fn of_job(
    connector: &dyn Connector,
    object: &str,
    columns: &[Column],
    ask: Ask,
) -> Result<Told, Fault> {
    let jobs = || {
        connector.bulk().ok_or_else(|| {
            let message = "this system has no jobs";
            Fault::new(FaultKind::Configuration, "NOT_SERVED", message)
        })
    };
    match ask {
        Ask::Count => connector.count(object).await.map(Told::Count),
        Ask::Start => jobs()?.start_read(object, columns).await.map(Told::Started),
        Ask::State(job) => jobs()?.state(&job).await.map(Told::State),
        Ask::Pages(job, from) => jobs()?.pages(&job, from.as_deref()).await.map(Told::Pages),
        Ask::Page { job, locator, most } => {
            jobs()?.page(&job, columns, locator.as_deref(), most).await.map(Told::Page)
        }
        Ask::Upload(batch) => jobs()?.start_write(&batch).await.map(Told::Started),
        Ask::Commit(job) => jobs()?.commit_write(&job).await.map(|()| Told::Committed),
        Ask::Outcomes(job, batch) => jobs()?.outcomes(&job, &batch).await.map(Told::Outcomes),
        Ask::End(job) => jobs()?.end(&job).await.map(|()| Told::Ended),
    }
}

/// How far the reading of an object is.
#[derive(Default)]
pub struct Reading {
    /// The load that it belongs to, by when that was asked for.
    asked_at: String,
    stage: Stage,
    job: Option<BulkJob>,
    /// Looks at the job so far.
    looks: u32,
    /// Jobs that came to nothing.
    failed: u32,
    records: u64,
    /// Where its pages begin, and where the list of them goes on.
    listed: Vec<String>,
    listed_up_to: Option<String>,
    /// Pages to be worked on, in their order.
    pages: VecDeque<Slot>,
    /// How many of them may be on their way or waiting, and how many records are asked for at once.
    ahead: usize,
    most: Option<usize>,
    last_number: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Is it worth a job?
    #[default]
    Unknown,
    /// It is not, or there are none: the object is listed.
    Listed,
    Starting,
    Running,
    /// Where do its pages begin?
    Listing,
    Reading,
}

/// A page that is to be read: the number under which it was asked for, and what came.
struct Slot {
    locator: Option<String>,
    asked: Option<u64>,
    page: Option<BulkPage>,
}

impl Slot {
    fn new(locator: Option<String>) -> Self {
        Self { locator, asked: None, page: None }
    }
}

impl Reading {
    /// From the beginning, or where an earlier worker left off.
    fn of(load: &Load) -> Self {
        let job = load.job.clone().map(BulkJob);
        let stage = if job.is_some() { Stage::Running } else { Stage::Unknown };
        let pages = VecDeque::from([Slot::new(load.page.clone())]);
        Self { asked_at: load.asked_at.clone(), stage, job, pages, ..Self::default() }
    }

    fn start_over(&mut self) {
        let (asked_at, failed) = (std::mem::take(&mut self.asked_at), self.failed + 1);
        let stage = if failed < MOST_JOBS { Stage::Starting } else { Stage::Listed };
        let pages = VecDeque::from([Slot::new(None)]);
        *self = Self {
            asked_at,
            stage,
            failed,
            pages,
            last_number: self.last_number,
            ..Self::default()
        };
    }

    /// All that is said of the pages is known. Those of bearable size are read several at once, others in pieces,
    /// one after the other.
    fn plan_pages(&mut self, piece: usize, at_once: usize) {
        self.stage = Stage::Reading;
        let from = self.pages.pop_front().and_then(|slot| slot.locator);
        let pages = self.listed.len() as u64;
        let each = if pages == 0 { u64::MAX } else { self.records.div_ceil(pages).max(1) };
        let listed = std::mem::take(&mut self.listed);
        let place = match &from {
            None => Some(0),
            Some(from) => listed.iter().position(|locator| locator == from),
        };
        if let Some(place) = place.filter(|_| each <= AHEAD / 4) {
            (self.ahead, self.most) = (at_once.min((AHEAD / each) as usize), None);
            let rest = listed.into_iter().skip(place);
            self.pages = rest.map(|locator| Slot::new(Some(locator))).collect();
        } else {
            (self.ahead, self.most) = (2, Some(piece.clamp(1, AHEAD as usize / 4)));
            self.pages = VecDeque::from([Slot::new(from)]);
        }
    }

    /// What is to be asked for next of the pages, with its number.
    fn next_page(&mut self) -> Option<(u64, Ask)> {
        let job = self.job.clone()?;
        let slot = self.pages.iter_mut().take(self.ahead).find(|slot| slot.asked.is_none())?;
        self.last_number += 1;
        slot.asked = Some(self.last_number);
        Some((self.last_number, Ask::Page { job, locator: slot.locator.clone(), most: self.most }))
    }

    /// A page came. What follows it is what it says, whatever the list says.
    fn arrived(&mut self, number: u64, page: BulkPage) {
        let Some(place) = self.pages.iter().position(|slot| slot.asked == Some(number)) else {
            return;
        };
        let next = page.next.clone();
        self.pages[place].page = Some(page);
        let agrees = match (self.pages.get(place + 1), &next) {
            (None, None) => true,
            (Some(slot), Some(next)) => slot.locator.as_ref() == Some(next),
            _ => false,
        };
        if !agrees {
            self.pages.truncate(place + 1);
            self.pages.extend(next.map(|next| Slot::new(Some(next))));
        }
    }
}

impl State {
    /// Asks for pages ahead, and hands over the next one that is there. True when something was done.
    fn next_of_job(&mut self, load: &Load) -> bool {
        let mut done = false;
        while let Some((number, ask)) = self.reading.as_mut().and_then(Reading::next_page) {
            self.call(Request::Job(ask), Purpose::Job(number));
            done = true;
        }
        if self.work.is_some() {
            return done;
        }
        let Some(reading) = &mut self.reading else { return done };
        let Some(page) = reading.pages.front_mut().and_then(|slot| slot.page.take()) else {
            return done;
        };
        reading.pages.pop_front();
        self.work = Some(Work {
            records: page.records,
            place: 0,
            more: page.next.is_some(),
            next_page: page.next,
            from_job: true,
            moment: self.moment,
            load: Some(load.clone()),
        });
        true
    }
}

impl Sync {
    /// Works on a load of the other system's records, by a job or page by page. True when something was done.
    pub(super) fn read_object(&mut self, load: &Load) -> Result<bool, Failure> {
        let Some((_, remote)) = self.plan.remote() else { return Ok(false) };
        let structured =
            |c: &Column| matches!(c.kind, connector::Kind::Structure | connector::Kind::Bytes);
        let suited = load.may_use_job() && !remote.columns.iter().any(structured);
        let Some(state) = &mut self.remote else { return Ok(false) };
        if state.reading.as_ref().is_none_or(|reading| reading.asked_at != load.asked_at) {
            state.reading = Some(Reading::of(load));
        }
        let suited = suited && state.connector.bulk().is_some();
        let asking = state.has(|p| matches!(p, Purpose::Job(_)));
        let Some(reading) = &mut state.reading else { return Ok(false) };
        let ask = match (reading.stage, reading.job.clone()) {
            (Stage::Reading, _) => return Ok(state.next_of_job(load)),
            (Stage::Unknown, _) if !suited => {
                reading.stage = Stage::Listed;
                return self.list_on(load);
            }
            (Stage::Listed, _) => return self.list_on(load),
            _ if asking => return Ok(false),
            (Stage::Unknown, _) => Ask::Count,
            (Stage::Running, Some(job)) => {
                let pause = (reading.looks > 0).then(|| bulk::pause(reading.looks - 1));
                reading.looks += 1;
                let at = pause.map(|pause| Instant::now() + pause);
                state.call_later(Request::Job(Ask::State(job)), Purpose::Job(OF_JOB), at);
                return Ok(true);
            }
            (Stage::Listing, Some(job)) => Ask::Pages(job, reading.listed_up_to.clone()),
            (Stage::Starting | Stage::Running | Stage::Listing, _) => Ask::Start,
        };
        state.call(Request::Job(ask), Purpose::Job(OF_JOB));
        Ok(true)
    }

    /// An answer about a job.
    pub(super) fn told_of_job(&mut self, number: u64, told: Told) -> Result<(), Failure> {
        let (id, name) = (self.plan.id, self.plan.name.clone());
        let Some(load) = self.loads.first_mut() else { return Ok(()) };
        let Some(state) = &mut self.remote else { return Ok(()) };
        let Some(reading) = &mut state.reading else { return Ok(()) };
        // Of a page that is no longer wanted, or of a job that has been put away.
        let wanted = reading.pages.iter().any(|slot| slot.asked == Some(number));
        if number != OF_JOB && !wanted {
            return Ok(());
        }
        // One call less than may be on their way: what was changed here does not wait for pages.
        let at_once = self.plan.parallelism().saturating_sub(1).max(1);
        let piece = state.connector.bulk().map_or(1, |jobs| jobs.limits().page_records);
        match told {
            Told::Count(count) => {
                let worth = count.is_some_and(|count| count >= FEWEST);
                reading.stage = if worth { Stage::Starting } else { Stage::Listed };
                note(id, load, "expected", &[Arg::Int(count.unwrap_or(0) as i64)])
            }
            Told::Started(job) => {
                note(id, load, "job", &[Arg::Text(&job.0)])?;
                (reading.stage, reading.job) = (Stage::Running, Some(job));
                Ok(())
            }
            Told::State(BulkState::Complete { records }) => {
                (reading.stage, reading.records) = (Stage::Listing, records);
                Ok(())
            }
            Told::State(BulkState::Open | BulkState::Running { .. }) => Ok(()),
            Told::Pages(pages) => {
                reading.listed.extend(pages.locators);
                reading.listed_up_to = pages.next.filter(|_| reading.listed.len() < MOST_LISTED);
                if reading.listed_up_to.is_none() {
                    reading.plan_pages(piece, at_once);
                }
                Ok(())
            }
            Told::Page(page) => {
                reading.arrived(number, page);
                Ok(())
            }
            Told::Ended | Told::Committed | Told::Outcomes(_) => Ok(()),
            Told::Refused(_) if reading.stage == Stage::Listing => {
                reading.listed.clear();
                reading.plan_pages(piece, at_once);
                Ok(())
            }
            Told::Refused(_) if reading.stage == Stage::Unknown => {
                reading.stage = Stage::Listed;
                Ok(())
            }
            told => {
                let why = match told {
                    Told::Refused(fault) | Told::State(BulkState::Failed(fault)) => {
                        fault.to_string()
                    }
                    _ => "the other system does not know the job any more".to_owned(),
                };
                speech::log(format!("sync \"{name}\": reading by a job failed: {why}"));
                if reading.stage == Stage::Starting {
                    // What is refused before it began is refused again.
                    reading.failed = MOST_JOBS;
                }
                reading.start_over();
                load.job = None;
                load.page = None;
                transaction(|| {
                    sql::query(
                        "UPDATE sync._load SET job = NULL, page = NULL, done = 0 WHERE sync = $1 AND side = $2 AND kind = 'rows'",
                        &[Arg::Int4(id), Arg::Int4(load.side as i32)],
                    );
                    Ok(())
                })
            }
        }
    }

    /// A page of a job has been worked through.
    pub(super) fn end_job_page(&mut self, load: &Load, work: &Work) -> Result<(), Failure> {
        let count = work.records.len() as i64;
        let Some(state) = &mut self.remote else { return Ok(()) };
        if work.more {
            let id = self.plan.id;
            let next = work.next_page.clone();
            transaction(|| {
                sql::query(
                    "UPDATE sync._load SET page = $3, done = done + $4 WHERE sync = $1 AND side = $2 AND kind = 'rows'",
                    &[
                        Arg::Int4(id),
                        Arg::Int4(load.side as i32),
                        Arg::Text(next.as_deref().unwrap_or_default()),
                        Arg::Int(count),
                    ],
                );
                Ok(())
            })?;
            if let Some(load) = self.loads.first_mut() {
                load.page = next;
            }
            return Ok(());
        }
        if let Some(job) = state.reading.take().and_then(|reading| reading.job) {
            state.call(Request::Job(Ask::End(job)), Purpose::Job(AFTERWARDS));
        }
        load::finish_piece(self, load, None, true, count)
    }
}

/// Notes what became known of a load.
fn note(sync: i32, load: &Load, column: &str, value: &[Arg<'_>]) -> Result<(), Failure> {
    transaction(|| {
        let mut arguments = vec![Arg::Int4(sync), Arg::Int4(load.side as i32)];
        arguments.extend_from_slice(value);
        sql::query(
            &format!(
                "UPDATE sync._load SET {column} = $3 WHERE sync = $1 AND side = $2 AND kind = 'rows'"
            ),
            &arguments,
        );
        Ok(())
    })
}
