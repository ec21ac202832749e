//! The flow of changes to and from another system. What is to be written there is committed as an
//! intent, leaves as a call that the worker's network threads carry out, and is settled when the answer
//! is there; what changed there comes in pages and is merged like any change.
//!
//! `push` makes intents of decisions, `settle` works on what was answered, `recover` finds out what
//! became of calls that were not answered, `poll` asks for what changed there and `load` for all there is, `bulk` by a job where that is much, `ingest` writes much by jobs,
//! `pull` works on what was read, `fresh` on those records of a load that nobody here knows, `waiting` takes up what waits in the queue, `schema` follows changes of the object's fields, `reconcile` has all compared from time to time. Nothing here waits: whatever
//! needs the other system is a [`Call`] in the outbox, and its answer comes back through [`State::answer`].

pub mod bulk;
pub mod columns;
pub mod fresh;
pub mod ingest;
pub mod intent;
pub mod load;
pub mod needs;
pub mod poll;
pub mod pull;
pub mod push;
mod reconcile;
pub mod recover;
pub mod schema;
pub mod settle;
pub mod side;
pub mod values;
mod waiting;

use super::pace::Pace;
use super::plan::Plan;
use super::sync::Sync;
use super::{queue, resolve};
use crate::worker::transaction::{Failure, transaction};
use connector::{
    Capabilities, Connector, Fault, FaultKind, Mark, Outcome, Page, Place, Record, WriteBatch,
};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use governor::Kind;
use ingest::Ingest;
use intent::{Intent, Op};
use merge::Side;
use poll::Poll;
use pull::Work;
use push::Sent;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the other system is asked.
#[derive(Clone, Debug)]
pub enum Request {
    List {
        after: Option<String>,
    },
    Changes {
        since: Mark,
    },
    Fetch {
        ids: Vec<String>,
    },
    /// The field's value comes back as the last one of each record.
    Find {
        field: connector::Column,
        values: Vec<String>,
    },
    CreatedSince {
        at: String,
    },
    Write(Arc<WriteBatch>),
    /// About a job that reads the object.
    Job(bulk::Ask),
}

/// What it answers.
#[derive(Debug)]
pub enum Reply {
    Page(Page),
    /// In the order of the ids asked for.
    Fetched(Vec<Option<Record>>),
    Found(Vec<Record>),
    Written(Vec<Outcome>),
    Job(bulk::Told),
}

/// What a call is for.
#[derive(Debug)]
enum Purpose {
    Write(Vec<Sent>),
    /// Is there a record already of which a create was decided?
    Look(Vec<Sent>),
    /// What became of updates and deletes that were not answered?
    Recover(Vec<Sent>),
    /// What became of creates that were not answered?
    RecoverCreates(Vec<Sent>),
    Load,
    /// A load by a job; the number of the page, where it is one.
    Job(u64),
    /// Handing over records to be written by a job.
    Ingest(Vec<Sent>),
    /// A job that writes them, by its number; 0: nobody waits for the answer.
    IngestJob(u64),
    /// Do the records of these links (their ids) still exist?
    LoadLinks(load::Asked),
    /// Do the records of these links still take part?
    LoadExits(load::Asked),
    Poll,
    /// Records that wait in the queue, by the keys of the other system.
    Queue(Vec<queue::Due>),
}

/// A request with what it is for.
struct Call {
    number: u64,
    request: Request,
    purpose: Purpose,
    /// Not before then.
    not_before: Option<Instant>,
    /// Has room for more of the backlog, and waits for it until `not_before`.
    gathering: bool,
    /// How often it was refused as a whole; it waits for what is wrong to be mended.
    refused: u32,
}

/// What a sync with another system keeps in memory. All of it can be lost: the tables have what counts.
pub struct State {
    pub connector: Arc<dyn Connector>,
    pub can: Capabilities,
    next_call: u64,
    next_intent: i64,
    outbox: VecDeque<Call>,
    /// Calls that left, and the moment (see `moment`) they did.
    left: HashMap<u64, (Call, u64)>,
    /// Answers that have not been worked on.
    answers: VecDeque<(Purpose, u64, Reply)>,
    /// Keys of both sides that an intent has taken: later changes of them wait.
    lanes: HashSet<u64>,
    /// Creates on their way, by number.
    creating: HashSet<i64>,
    /// Records that may be what a create on its way has made: the last such create.
    maybe_ours: HashMap<u64, i64>,
    /// Intents of which nobody knows whether they were carried out.
    unsure: Vec<Sent>,
    /// Counts what was settled.
    moment: u64,
    /// When a record of the other system was last settled: what was read before says nothing of it.
    settled_at: HashMap<u64, u64>,
    /// So many changes are about to be decided on.
    backlog: usize,
    ingest: Ingest,
    work: Option<Work>,
    /// The load that is under way, of all records of the object.
    reading: Option<bulk::Reading>,
    /// Records whose links a load has found without them.
    missing: Vec<Vec<u8>>,
    pub poll: Poll,
    /// Where the events stand that have been taken.
    pub told: Option<Place>,
    /// How many calls it may make.
    pub pace: Pace,
    /// When the object is compared as a whole; `None`: not known yet.
    reconcile_at: Option<Instant>,
    /// Everything up to the tick is with the other system, or in the queue.
    caught_up: bool,
    /// The other system's clock minus ours.
    pub clock_offset_ms: i64,
}

impl State {
    pub fn new(connector: Arc<dyn Connector>, clock_offset_ms: i64, poll: Poll) -> Self {
        Self {
            can: connector.capabilities(),
            connector,
            next_call: 0,
            next_intent: 1,
            outbox: VecDeque::new(),
            left: HashMap::new(),
            answers: VecDeque::new(),
            lanes: HashSet::new(),
            creating: HashSet::new(),
            maybe_ours: HashMap::new(),
            unsure: Vec::new(),
            moment: 0,
            settled_at: HashMap::new(),
            backlog: 0,
            ingest: Ingest::default(),
            work: None,
            reading: None,
            missing: Vec::new(),
            poll,
            told: None,
            pace: Pace::default(),
            reconcile_at: None,
            caught_up: false,
            clock_offset_ms,
        }
    }

    /// The document may say otherwise now how often all is compared.
    pub fn forget_schedule(&mut self) {
        self.reconcile_at = None;
    }

    /// May a call leave now, of which so many may be on their way?
    pub fn is_ready(&self, in_flight: usize) -> bool {
        self.left.len() < in_flight && self.ready().is_some()
    }

    /// The next call that may leave now: its number, by which it is answered, and what it asks.
    pub fn next(&mut self) -> Option<(u64, Request)> {
        let mut call = self.outbox.remove(self.ready()?)?;
        self.pace.take(1);
        call.gathering = false;
        let (number, request) = (call.number, call.request.clone());
        self.left.insert(number, (call, self.moment));
        Some((number, request))
    }

    /// What the next call that may leave now is for.
    pub fn next_kind(&self) -> Kind {
        match self.ready().map(|place| &self.outbox[place].purpose) {
            Some(Purpose::Write(_) | Purpose::Ingest(_) | Purpose::IngestJob(_)) => Kind::Push,
            Some(Purpose::Poll) => Kind::Poll,
            Some(
                Purpose::Load | Purpose::Job(_) | Purpose::LoadLinks(_) | Purpose::LoadExits(_),
            ) => Kind::Load,
            _ => Kind::Other,
        }
    }

    /// The place in the outbox of the next call that may leave now.
    fn ready(&self) -> Option<usize> {
        if self.pace.free_at().is_some() {
            return None;
        }
        let now = Instant::now();
        self.outbox.iter().position(|call| call.not_before.is_none_or(|at| at <= now))
    }

    /// The mark from which the next call asks for changes, if it does and may leave now.
    pub fn next_poll(&self, in_flight: usize) -> Option<&Mark> {
        if self.left.len() >= in_flight {
            return None;
        }
        match &self.outbox.get(self.ready()?)?.request {
            Request::Changes { since } => Some(since),
            _ => None,
        }
    }

    /// What the next call writes, if it does nothing but create records and may leave now.
    pub fn next_creates(&self, in_flight: usize) -> Option<&Arc<WriteBatch>> {
        if self.left.len() >= in_flight {
            return None;
        }
        match &self.outbox.get(self.ready()?)?.request {
            Request::Write(batch) => Some(batch).filter(|batch| {
                batch.writes.iter().all(|write| matches!(write, connector::Write::Create { .. }))
            }),
            _ => None,
        }
    }

    /// Are there calls that have not left?
    pub fn has_calls(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// When the next call may leave that has to wait.
    pub fn next_due(&self) -> Option<Instant> {
        let paced = self.pace.free_at().filter(|_| !self.outbox.is_empty());
        paced.or_else(|| self.outbox.iter().filter_map(|call| call.not_before).min())
    }

    /// When the other system is asked for changes again; `None` while it is being asked.
    pub fn poll_due(&self) -> Option<Instant> {
        let asking = self.has(|p| matches!(p, Purpose::Poll)) || self.work.is_some();
        (!asking).then(|| self.poll.due())
    }

    /// Is anything with the other system, or on its way?
    pub fn is_idle(&self) -> bool {
        self.left.is_empty()
            && self.outbox.is_empty()
            && self.answers.is_empty()
            && self.ingest.is_empty()
    }

    /// Does a call wait that was refused as a whole?
    pub fn is_refused(&self) -> bool {
        self.outbox.iter().chain(self.left.values().map(|(call, _)| call)).any(|c| c.refused > 0)
    }

    pub fn in_flight(&self) -> usize {
        self.left.len()
    }

    /// Calls of the push that wait, are on their way, or have been answered.
    pub fn pushes(&self) -> usize {
        let is = |purpose: &Purpose| {
            !matches!(
                purpose,
                Purpose::Load
                    | Purpose::Job(_)
                    | Purpose::IngestJob(_)
                    | Purpose::LoadLinks(_)
                    | Purpose::LoadExits(_)
                    | Purpose::Poll
            )
        };
        self.outbox.iter().filter(|call| is(&call.purpose)).count()
            + self.left.values().filter(|(call, _)| is(&call.purpose)).count()
            + self.answers.iter().filter(|(purpose, ..)| is(purpose)).count()
    }

    /// Is everything settled that was committed before the last tick?
    pub fn is_settled(&self) -> bool {
        self.caught_up
            && self.lanes.is_empty()
            && self.pushes() == 0
            && self.work.is_none()
            && !self.poll.is_wanted()
    }

    /// Takes an answer. A fault that says of the connection that nothing was carried out puts the call
    /// back; one of the object, or of a call that only reads, does so too and is returned.
    ///
    /// # Errors
    /// The fault, if the call succeeds only once something is mended.
    pub fn answer(&mut self, number: u64, reply: Result<Reply, Fault>) -> Result<(), Box<Fault>> {
        let Some((mut call, moment)) = self.left.remove(&number) else { return Ok(()) };
        match reply {
            Ok(reply) => {
                self.answers.push_back((call.purpose, moment, reply));
                Ok(())
            }
            Err(fault) => {
                let lost = fault.kind == FaultKind::Ambiguous;
                match call.purpose {
                    Purpose::Write(sent) if lost => {
                        self.unsure.extend(sent);
                        Ok(())
                    }
                    _ if fault.is_of_connection() => {
                        self.outbox.push_front(call);
                        Ok(())
                    }
                    Purpose::Write(sent) if fault.kind != FaultKind::Schema => {
                        // The request as a whole was refused: each record has that answer.
                        let outcomes = sent
                            .iter()
                            .map(|_| Outcome {
                                result: Err(fault.clone()),
                                before: connector::Before::NotRead,
                            })
                            .collect();
                        self.answers.push_back((
                            Purpose::Write(sent),
                            moment,
                            Reply::Written(outcomes),
                        ));
                        Ok(())
                    }
                    _ => {
                        call.refused += 1;
                        let pause = AFTER_REFUSAL.saturating_mul(call.refused);
                        call.not_before = Some(Instant::now() + pause.min(LONGEST_REFUSAL));
                        self.outbox.push_back(call);
                        Err(Box::new(fault))
                    }
                }
            }
        }
    }

    fn call(&mut self, request: Request, purpose: Purpose) {
        self.call_later(request, purpose, None);
    }

    fn call_later(&mut self, request: Request, purpose: Purpose, not_before: Option<Instant>) {
        self.next_call += 1;
        let number = self.next_call;
        let call = Call { number, request, purpose, not_before, gathering: false, refused: 0 };
        self.outbox.push_back(call);
    }

    /// How many changes come after those being decided on.
    pub fn note_backlog(&mut self, changes: usize) {
        self.backlog = changes;
    }

    /// A call that is not full waits a moment while more of a backlog comes: calls are rationed.
    fn gather(&mut self, batch: WriteBatch, sent: Vec<Sent>) {
        let until = Instant::now() + GATHER;
        self.call_later(Request::Write(Arc::new(batch)), Purpose::Write(sent), Some(until));
        if let Some(call) = self.outbox.back_mut() {
            call.gathering = true;
        }
    }

    /// Gives the call that is gathering what it has room for, and lets it go once it is full or nothing more comes.
    fn fill(&mut self, sent: &mut impl Iterator<Item = Sent>, step: usize) {
        let more_comes = self.more_comes();
        let Some(call) = self.outbox.iter_mut().find(|call| call.gathering) else { return };
        let Call { request: Request::Write(batch), purpose: Purpose::Write(held), .. } = call
        else {
            return;
        };
        let batch = Arc::make_mut(batch);
        for one in sent.take(step.saturating_sub(held.len())) {
            batch.writes.extend(one.write.clone());
            held.push(one);
        }
        if held.len() >= step || !more_comes {
            call.gathering = false;
            call.not_before = None;
        }
    }

    /// Is more of a backlog about to be decided on?
    fn more_comes(&self) -> bool {
        self.backlog >= FULL
    }

    /// Is a call of this kind waiting or on its way?
    fn has(&self, is: impl Fn(&Purpose) -> bool) -> bool {
        self.outbox.iter().map(|call| &call.purpose).any(&is)
            || self.left.values().any(|(call, _)| is(&call.purpose))
            || self.answers.iter().any(|(purpose, ..)| is(purpose))
    }

    fn take_lane(&mut self, plan: &Plan, intent: &Intent) {
        for mark in lane_marks(plan, intent) {
            self.lanes.insert(mark);
        }
        if matches!(intent.op, Op::Create | Op::Look) {
            self.creating.insert(intent.number);
        }
    }

    /// An intent is settled: what waited behind it may go on.
    fn leave_lane(&mut self, plan: &Plan, intent: &Intent) {
        for mark in lane_marks(plan, intent) {
            self.lanes.remove(&mark);
        }
        self.creating.remove(&intent.number);
        self.moment += 1;
        if let Some(id) = &intent.id {
            self.note_settled(plan, id);
        }
    }

    /// What was read of a record before now says nothing of it.
    fn note_settled(&mut self, plan: &Plan, id: &str) {
        let reading = |purpose: &Purpose| !matches!(purpose, Purpose::Write(_));
        if !self.has(reading) && self.work.is_none() {
            self.settled_at.clear();
            return;
        }
        if let Some(mark) = mark_of(plan, id) {
            self.settled_at.insert(mark, self.moment);
        }
    }

    /// These have just been read: what another call reads of them that left before says nothing of them either.
    fn note_read(&mut self, plan: &Plan, records: &[Record]) {
        if !self.has(|purpose| !matches!(purpose, Purpose::Write(_))) && self.work.is_none() {
            return;
        }
        self.moment += 1;
        let marks = records.iter().filter_map(|record| mark_of(plan, &record.id));
        self.settled_at.extend(marks.map(|mark| (mark, self.moment)));
    }

    /// Marks the records of which an intent is on its way: whichever of their names it was written down
    /// under.
    pub fn hold_taken(&self, records: &mut [resolve::Record<'_>]) {
        if self.lanes.is_empty() {
            return;
        }
        for record in records {
            record.held = Side::BOTH.into_iter().any(|side| {
                let linked = record.link.as_ref().map(|link| link.key_of(side));
                let keys = [record.keys[side as usize], linked];
                keys.into_iter().flatten().any(|key| self.is_taken(side, key))
            });
        }
    }

    /// Has a key been taken by an intent?
    fn is_taken(&self, side: Side, key: &[u8]) -> bool {
        !self.lanes.is_empty() && self.lanes.contains(&queue::mark(side, key))
    }
}

/// So many changes fill a call.
const FULL: usize = 200;
/// How long a call waits for more at the most.
const GATHER: Duration = Duration::from_millis(100);
/// When a call that was refused as a whole is tried again.
const AFTER_REFUSAL: Duration = Duration::from_secs(10);
const LONGEST_REFUSAL: Duration = Duration::from_secs(600);

fn lane_marks(plan: &Plan, intent: &Intent) -> impl Iterator<Item = u64> {
    let local = plan.remote_side().map(|side| queue::mark(side.other(), &intent.key));
    let remote = intent.id.as_deref().and_then(|id| mark_of(plan, id));
    local.into_iter().chain(remote)
}

/// The mark of a record of the other system.
fn mark_of(plan: &Plan, id: &str) -> Option<u64> {
    let side = plan.remote_side()?;
    Some(queue::mark(side, &values::key_of(plan.side(side), id)?))
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Done,
    /// There is nothing to do now.
    Rest,
}

/// What a sync may do at the moment.
#[derive(Clone, Copy, Debug)]
pub struct May {
    /// Send what was changed here: in a new epoch not before everything has been compared.
    pub push: bool,
}

impl Sync {
    /// Takes up what an earlier worker, or an earlier configuration, has left on its way.
    ///
    /// # Errors
    /// What reading the tables raised.
    pub fn take_up(&mut self) -> Result<(), Failure> {
        let id = self.plan.id;
        let (left, jobs) = transaction(|| Ok((intent::all(id), ingest::stored(id))))?;
        let Some(state) = &mut self.remote else { return Ok(()) };
        state.next_intent = left.iter().map(|(intent, _)| intent.number).max().unwrap_or(0) + 1;
        let mut sent = Vec::with_capacity(left.len());
        for (intent, layout) in left {
            state.take_lane(&self.plan, &intent);
            sent.push(Sent::left(intent, layout));
        }
        state.unsure = state.ingest.take_up(jobs, sent);
        Ok(())
    }

    /// May more of what was changed here be decided on? While a call is on its way changes gather, so
    /// that a trickle costs one call at a time; a backlog fills as many as may be on their way.
    pub fn may_take_more(&self) -> bool {
        let Some(state) = &self.remote else { return true };
        let gathering = state.outbox.iter().filter(|call| call.gathering).count();
        let pushes = state.pushes() - gathering;
        let parallel = self.plan.parallelism();
        if !state.ingest.has_room() {
            return false;
        }
        pushes == 0 || pushes < parallel && (self.backlog() >= FULL || !self.loads.is_empty())
    }

    /// Notes whether everything up to the tick is with the other system, or waits in the queue.
    pub fn note_caught_up(&mut self, tick: &change::snapshot::Snapshot) {
        let caught_up =
            self.batch.is_none() && self.cursor.frozen.is_none() && self.cursor.seen == *tick;
        let due = self.is_due();
        if let Some(state) = &mut self.remote {
            state.caught_up = caught_up && !due && state.unsure.is_empty();
        }
    }

    /// Works on the next thing that has to do with the other system, other than the log.
    ///
    /// # Errors
    /// Trouble of the sync as a whole.
    pub fn exchange(
        &mut self,
        epoch: i32,
        shapes: &mut super::shapes::Shapes,
        may: May,
    ) -> Result<Step, Failure> {
        let Some(state) = &mut self.remote else { return Ok(Step::Rest) };
        if let Some((purpose, moment, reply)) = state.answers.pop_front() {
            self.work_on(epoch, shapes, purpose, moment, reply)?;
            return Ok(Step::Done);
        }
        if state.work.is_some() {
            return self.work_on_page(epoch, shapes);
        }
        if may.push {
            if !state.ingest.is_empty() && self.ingest(epoch, shapes)? {
                return Ok(Step::Done);
            }
            let Some(state) = &mut self.remote else { return Ok(Step::Rest) };
            // What was only looked for has not been sent.
            let looks: Vec<Sent> =
                state.unsure.extract_if(.., |one| one.intent.op == Op::Look).collect();
            if !looks.is_empty() {
                let done = self.decide_anew(&looks);
                if let (Err(_), Some(state)) = (&done, &mut self.remote) {
                    state.unsure.extend(looks);
                }
                return done.map(|()| Step::Done);
            }
            if !state.unsure.is_empty() {
                recover::ask(&self.plan, state);
                return Ok(Step::Done);
            }
            if self.is_due() && self.ask_queue(epoch, shapes)? {
                return Ok(Step::Done);
            }
        }
        self.poll_if_due()
    }

    fn work_on(
        &mut self,
        epoch: i32,
        shapes: &mut super::shapes::Shapes,
        purpose: Purpose,
        moment: u64,
        reply: Reply,
    ) -> Result<(), Failure> {
        match (purpose, reply) {
            (Purpose::Write(sent), Reply::Written(outcomes)) => {
                self.settle_written(epoch, shapes, sent, outcomes)
            }
            (Purpose::Look(sent), Reply::Fetched(records)) => {
                let living = |r: &Record| !r.deleted;
                let found =
                    records.into_iter().map(|r| r.into_iter().filter(living).collect()).collect();
                self.found_existing(epoch, shapes, sent, found)
            }
            (Purpose::Look(sent), Reply::Found(records)) => {
                let found = recover::by_last_value(&sent, records, |s| s.look.as_deref());
                self.found_existing(epoch, shapes, sent, found)
            }
            (Purpose::Recover(sent), Reply::Fetched(records)) => {
                self.recover(epoch, shapes, sent, records)
            }
            (Purpose::RecoverCreates(sent), Reply::Found(records)) => {
                self.recover_creates(epoch, shapes, sent, records)
            }
            (Purpose::Load, Reply::Page(page)) => self.take_load_page(shapes, page, moment),
            (Purpose::Job(number), Reply::Job(told)) => self.told_of_job(number, told),
            (Purpose::Ingest(sent), Reply::Job(told)) => self.uploaded(sent, told),
            (Purpose::IngestJob(number), Reply::Job(told)) => {
                self.told_of_ingest(shapes, number, told)
            }
            (Purpose::LoadLinks(links), Reply::Fetched(records)) => {
                self.take_links(epoch, shapes, links, &records)
            }
            (Purpose::LoadExits(links), Reply::Fetched(records)) => {
                self.take_exits(shapes, links, &records)
            }
            (Purpose::Poll, Reply::Page(page)) => self.take_poll_page(shapes, page, moment),
            (Purpose::Queue(due), Reply::Fetched(records)) => {
                self.take_fetched(epoch, shapes, due, records, moment)
            }
            (purpose, reply) => Err(Failure::new(
                "XX000",
                format!("an answer does not fit its question: {reply:?} to {purpose:?}"),
            )),
        }
    }
}
