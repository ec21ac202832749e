//! Asking the other system for what has changed since a mark, page by page.

use super::pull::Work;
use super::recover::moment_text;
use super::{Purpose, Request, Step, push, values};
use crate::engine::exits;
use crate::engine::guard;
use crate::engine::link::{self, Link, Links};
use crate::engine::plan::Plan;
use crate::engine::shapes::Shapes;
use crate::engine::sync::Sync;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use connector::{Mark, Page, Place, Record};
use document::OnDelete;
use merge::Side;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How often the other system is asked for changes, unless the document says.
pub const INTERVAL: Duration = Duration::from_secs(30);

/// What is asked for again and again: no page within so long after a request to hurry.
const HURRY: Duration = Duration::from_millis(500);

/// Where asking for changes stands.
pub struct Poll {
    /// Everything up to this moment of the other system's clock has been read; empty: not begun.
    pub at: String,
    due: Instant,
    interval: Duration,
    /// How many times as long intervals are at the moment, so that the account's calls last.
    stretch: f64,
    /// Somebody waits for a poll that begins from now on; the poll under way is the one.
    wanted: bool,
    answers: bool,
    /// The latest version seen since the first page of the poll under way, and where it goes on.
    latest: String,
    next: Option<Mark>,
    lost: Losses,
}

/// Of how many linked records the poll under way tells that they are gone, or have lost the value of a field that travels.
#[derive(Default)]
struct Losses {
    records: u64,
    /// Or take no part any more, where that counts as much.
    left: u64,
    values: u64,
}

pub(super) fn empties(plan: &Plan, remote: Side, link: &Link<'_>, record: &Record) -> bool {
    let is_null = |c: usize| record.values[c].is_none();
    link.base.as_ref().is_some_and(|base| guard::empties(plan, remote, base, is_null))
}

impl Poll {
    pub fn new(at: String, interval: Option<Duration>) -> Self {
        Self {
            latest: at.clone(),
            at,
            due: Instant::now(),
            interval: interval.unwrap_or(INTERVAL),
            stretch: 1.0,
            wanted: false,
            answers: false,
            next: None,
            lost: Losses::default(),
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

    /// Intervals are to be so many times as long: longer ones from the next on, shorter ones now. What somebody waits for
    /// comes at once all the same.
    pub fn stretch(&mut self, times: f64) {
        if times < self.stretch {
            self.due = self.due.min(Instant::now() + self.interval.mul_f64(times));
        }
        self.stretch = times;
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

/// Where the events stand that a sync has taken.
pub fn stored_told(sync: i32) -> Option<Place> {
    let told = sql::one(
        "SELECT pg_catalog.encode(p.told, 'hex') FROM sync._pull p WHERE p.sync = $1",
        &[Arg::Int4(sync)],
    )?;
    sql::from_hex(&told).map(Place)
}

/// Notes where they stand, once changes have been asked for at all.
pub(super) fn keep_told(sync: i32, place: Option<&Place>) {
    sql::query(
        "UPDATE sync._pull SET told = NULLIF($2, ''::pg_catalog.bytea) WHERE sync = $1",
        &[Arg::Int4(sync), Arg::Bytes(place.map_or(&[], |place| &place.0))],
    );
}

impl Sync {
    /// Records are not there any more: their changes tell whether they were deleted.
    pub(super) fn hurry_poll(&mut self) {
        if let Some((remote, _)) = self.plan.remote()
            && self.plan.listens_to(remote)
            && let Some(state) = &mut self.remote
        {
            state.poll.hurry();
        }
    }

    /// Asks for changes when it is time.
    pub(super) fn poll_if_due(&mut self) -> Result<Step, Failure> {
        let flows = self.plan.remote_side().is_some_and(|side| self.plan.listens_to(side));
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
                state.poll.lost = Losses::default();
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
        if self.asks_about_losses(shapes, &page.records)? {
            return Ok(());
        }
        let Some(state) = &mut self.remote else { return Ok(()) };
        let Page { records, more } = page;
        state.work = Some(Work::listed(records, more, moment, None));
        Ok(())
    }

    /// Would these records end more linked ones, or empty more of a value, than a poll may without asking? Then it has
    /// asked.
    pub(super) fn asks_about_losses(
        &mut self,
        shapes: &mut Shapes,
        records: &[Record],
    ) -> Result<bool, Failure> {
        if self.pulled.is_some() {
            return Ok(false);
        }
        let bump = Bump::new();
        let halves = self.halves_for_filter(&bump, records);
        let Self { plan, places, readers, remote: Some(state), .. } = self else {
            return Ok(false);
        };
        let Some((remote, _)) = plan.remote() else { return Ok(false) };
        let left = exits::leaving_of(plan, readers, places, shapes, &halves)?.len() as u64;
        let mut lost = Losses::default();
        let limit = transaction(|| {
            let mut links = Links::open(plan, places);
            for record in records {
                // An empty field is as it was for most.
                if !record.deleted && record.values.iter().all(Option::is_some) {
                    continue;
                }
                let Some(key) = values::key_of(plan.side(remote), &record.id) else { continue };
                let link = links.find(&bump, shapes, remote, &key);
                let Some(link) = link.filter(|l| !l.deleted) else { continue };
                if record.deleted {
                    let stays = *plan.on_delete(remote) == OnDelete::Keep;
                    lost.records += u64::from(!stays);
                } else if !state.is_taken(remote, &key) && empties(plan, remote, &link, record) {
                    lost.values += 1;
                }
            }
            links.close();
            Ok(plan.delete_limit(link::estimate(plan)))
        })?;
        state.poll.lost.records += lost.records;
        state.poll.lost.left += left;
        state.poll.lost.values += lost.values;
        let (there, here) = (&plan.side(remote).name, &plan.side(remote.other()).name);
        let Losses { records, left, .. } = state.poll.lost;
        let (kind, sentence) = if records + left > limit {
            let what = match (records, left) {
                (_, 0) => format!("were deleted in {there}"),
                (0, _) => format!("of {there} left the filter"),
                _ => format!("were deleted in {there} or left the filter"),
            };
            let sentence = format!(
                "{} or more records {what}, more than the limit of {limit}; nothing of it has been deleted from {here}",
                records + left
            );
            ("pull deletes", sentence)
        } else if state.poll.lost.values > limit {
            let sentence = format!(
                "{} or more records of {there} lost the value of a field, more than the limit of {limit}; nothing of it has been emptied in {here}",
                state.poll.lost.values
            );
            ("pull blanks", sentence)
        } else {
            return Ok(false);
        };
        let id = plan.id;
        transaction(|| {
            sql::query(
                "UPDATE sync._sync SET state = 'needs decision', decision = $3, reason = $2, changed_at = pg_catalog.clock_timestamp()
                  WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(id), Arg::Text(&sentence), Arg::Text(kind)],
            );
            Ok(())
        })?;
        // The page is read again once it has been decided.
        state.poll.next = None;
        crate::engine::mark_configuration_stale();
        Ok(true)
    }

    pub(super) fn end_poll_page(&mut self, work: &Work) -> Result<(), Failure> {
        let id = self.plan.id;
        let decided = self.pulled.is_some();
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
        state.poll.due = next_turn(state.poll.interval.mul_f64(state.poll.stretch));
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
                        "UPDATE sync._sync SET decision = NULL WHERE id = $1 AND decision IN ('pull confirmed', 'pull discarded')",
                        &[Arg::Int4(id)],
                    );
                }
                Ok(())
            })?;
            state.poll.at = at;
            self.pulled = None;
        }
        self.reconcile_if_due()
    }
}

/// When it is time again. Syncs of the same interval have the same turns, so that their questions leave together.
fn next_turn(interval: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let first = *FIRST.get_or_init(Instant::now);
    let turns = first.elapsed().as_nanos() / interval.as_nanos().max(1) + 1;
    let next = interval.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX));
    let turn = first.checked_add(next).unwrap_or_else(|| Instant::now() + interval);
    // Not at once after the last one.
    if turn < Instant::now() + interval / 2 { turn + interval } else { turn }
}

/// A moment of the other system's clock, so many seconds earlier.
pub fn earlier(at: &str, seconds: i64) -> String {
    sql::one(
        "SELECT pg_catalog.to_char(($1::timestamptz - interval '1 second' * $2) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        &[Arg::Text(at), Arg::Int(seconds)],
    )
    .unwrap_or_else(|| at.to_owned())
}
