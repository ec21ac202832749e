//! Comparing both sides of a sync as a whole, without changing anything: in pieces, each in the order of the keys, so
//! that it takes no more memory for a million records than for a thousand.
//!
//! ```text
//! compare     what is said of one record          local    two tables of this database
//! unsettled   records that may differ by now      remote   an object of another system
//! ranges      rows of a table, a piece at a time
//! ```

mod compare;
mod local;
mod ranges;
mod remote;
mod unsettled;

pub use compare::{Kind, differing};
pub use local::Tables;
pub use remote::Pages;

use super::collect::Seen;
use super::link::{Link, Links, Places};
use super::plan::{How, Plan};
use super::resolve::{self, Readers, Record};
use super::settle::key_text;
use super::shapes::Shapes;
use super::statement::render;
use crate::sql;
use crate::worker::environment;
use crate::worker::transaction::{Failure, is_of_the_work, savepoint};
use bumpalo::Bump;
use change::image::Value;
use compare::{Verdict, since, verdict};
use merge::Side;
use pgrx::pg_sys;
use unsettled::{Unsettled, Why};

/// Rows read at once.
const PIECE: usize = 2_000;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub rows: [u64; 2],
    /// Linked pairs, both rows of which are there.
    pub pairs: u64,
    pub differs: u64,
    pub only: [u64; 2],
    pub not_linked: u64,
    pub without_row: u64,
    pub failed: u64,
    /// Rows of them are outside the filter.
    pub outside: u64,
    pub released: u64,
    pub pending: u64,
    pub queued: u64,
    pub in_conflict: u64,
    /// Requests to the other system.
    pub calls: u64,
}

/// A field that differs.
#[derive(Clone, Debug)]
pub struct Difference {
    pub field: String,
    /// As it would arrive on the target, or of a field that only goes the other way as it is.
    pub source: Option<String>,
    pub target: Option<String>,
    pub since: &'static str,
}

/// A record that is not as the sync would have it.
#[derive(Clone, Debug)]
pub struct Finding {
    pub kind: Kind,
    pub keys: [Option<Vec<u8>>; 2],
    /// The keys as people read them.
    pub texts: [Option<String>; 2],
    pub differences: Vec<Difference>,
    pub detail: String,
}

/// What an audit is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Findings that are shown, with their values.
    pub show: u64,
    /// Every finding is handed over, for whoever takes them a piece at a time.
    pub all: bool,
}

/// A comparison that is under way.
struct Course<'p> {
    plan: &'p Plan,
    wish: Wish,
    counts: Counts,
    shown: u64,
    found: Vec<Finding>,
    readers: Readers,
}

impl<'p> Course<'p> {
    fn new(plan: &'p Plan, wish: Wish) -> Self {
        let (counts, readers) = (Counts::default(), Readers::default());
        Self { plan, wish, counts, shown: 0, found: Vec::new(), readers }
    }

    /// Makes what both sides of records send. What raises is found record by record, with what it said.
    fn evaluate<'b>(&mut self, bump: &'b Bump, records: &mut [Record<'b>]) {
        let (plan, readers) = (self.plan, &mut self.readers);
        let done = savepoint(is_of_the_work, || {
            for side in Side::BOTH {
                resolve::evaluate(bump, plan, readers, side, records);
            }
        });
        let Err(failure) = done else { return };
        for record in &mut *records {
            record.sent = Default::default();
            record.broken.clear();
            record.missing = None;
        }
        if let [record] = records {
            record.trouble = Some(failure);
            return;
        }
        let middle = records.len() / 2;
        let (left, right) = records.split_at_mut(middle);
        self.evaluate(bump, left);
        self.evaluate(bump, right);
    }

    /// What is to be said of a record; what raised is said of it, whatever it is.
    fn verdict(&self, record: &Record<'_>) -> Verdict {
        if record.trouble.is_some() {
            return Verdict::Found(Kind::Failed, Vec::new());
        }
        verdict(self.plan, record)
    }

    /// Counts a record, and notes it where something is found and nothing explains it.
    fn note(&mut self, record: &Record<'_>, verdict: Verdict, unsettled: &mut Lazy) {
        let there = record.seen.iter().all(|seen| matches!(seen, Seen::Row(_)));
        if record.linked().is_some() && there {
            self.counts.pairs += 1;
        }
        let (kind, fields) = match verdict {
            Verdict::Agrees => return,
            Verdict::Outside => return self.counts.outside += 1,
            Verdict::Released => return self.counts.released += 1,
            Verdict::Found(kind, fields) => (kind, fields),
        };
        match unsettled.get(self.plan).why(keys_of(record)) {
            Some(Why::Pending) => return self.counts.pending += 1,
            Some(Why::Queued) => return self.counts.queued += 1,
            Some(Why::Conflict) => return self.counts.in_conflict += 1,
            None => {}
        }
        let counts = &mut self.counts;
        *match kind {
            Kind::Differs => &mut counts.differs,
            Kind::OnlyOn(side) => &mut counts.only[side as usize],
            Kind::NotLinked => &mut counts.not_linked,
            Kind::LinkWithoutRow(_) => &mut counts.without_row,
            Kind::Failed => &mut counts.failed,
        } += 1;
        let shown = self.shown < self.wish.show;
        if shown || self.wish.all {
            self.shown += 1;
            self.found.push(finding(self.plan, record, kind, &fields, shown));
        }
    }
}

/// What is not settled, read when something is found that it may explain: in most audits nothing is.
#[derive(Default)]
struct Lazy(Option<Unsettled>);

impl Lazy {
    fn get(&mut self, plan: &Plan) -> &Unsettled {
        self.0.get_or_insert_with(|| Unsettled::read(plan))
    }
}

/// The keys by which a record is known: of its rows, or of its link.
fn keys_of<'r>(record: &'r Record<'_>) -> [Option<&'r [u8]>; 2] {
    Side::BOTH.map(|side| {
        record.keys[side as usize].or_else(|| record.linked().map(|link| link.key_of(side)))
    })
}

fn finding(plan: &Plan, record: &Record<'_>, kind: Kind, fields: &[usize], shown: bool) -> Finding {
    let keys = keys_of(record);
    let mut found = Finding {
        kind,
        keys: keys.map(|key| key.map(<[u8]>::to_vec)),
        texts: [None, None],
        differences: Vec::new(),
        detail: String::new(),
    };
    for side in Side::BOTH {
        found.texts[side as usize] = keys[side as usize].map(|key| key_text(plan, side, key));
    }
    if !shown {
        return found;
    }
    found.differences = fields.iter().map(|&field| difference(plan, record, field)).collect();
    let name = |side: Side| &plan.side(side).name;
    found.detail = match kind {
        Kind::Differs => String::new(),
        Kind::OnlyOn(side) => format!("{} has no record for it", name(side.other())),
        Kind::NotLinked => "both sides have this key and are not linked".to_owned(),
        Kind::LinkWithoutRow(Some(side)) => format!("its row of {} is gone", name(side)),
        Kind::LinkWithoutRow(None) => "its rows of both sides are gone".to_owned(),
        Kind::Failed => record.trouble.as_ref().map(said).unwrap_or_default(),
    };
    found
}

fn said(failure: &Failure) -> String {
    match &failure.detail {
        Some(detail) => format!("{} - {detail}", failure.message),
        None => failure.message.clone(),
    }
}

fn difference(plan: &Plan, record: &Record<'_>, field: usize) -> Difference {
    let of = &plan.fields[field];
    // Both as the side has them that the field goes to.
    let into = if of.how[Side::Source as usize].is_some() { Side::Target } else { Side::Source };
    let column = of.column[into as usize].map(|column| (column, &plan.side(into).columns[column]));
    let text = |value: Value<'_>| match (value, column) {
        (Value::Bytes(bytes), Some((_, column))) => Some(render(bytes, column)),
        _ => None,
    };
    let held = match (&record.seen[into as usize], column) {
        (Seen::Row(row), Some((column, _))) => text(row[column]),
        _ => None,
    };
    let sent = record.sent[into.other() as usize].get(field);
    let since = match sent {
        Some(Value::Absent) => "the record that it points to is not linked",
        _ => since(record, plan, field),
    };
    let sent = sent.and_then(|&value| text(value));
    let (source, target) = if into == Side::Target { (sent, held) } else { (held, sent) };
    Difference { field: of.name(plan).to_owned(), source, target, since }
}

/// Runs `work` with a snapshot that sees what is committed by now, in an SPI connection, as the sync's owner, who can
/// only read.
fn with_newest<T>(plan: &Plan, work: impl FnOnce() -> T) -> T {
    unsettled::keep_log();
    // SAFETY: an error is cleaned up by the abort of the transaction.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let value = as_reader(plan, work);
        pg_sys::PopActiveSnapshot();
        value
    }
}

fn as_reader<T>(plan: &Plan, work: impl FnOnce() -> T) -> T {
    sql::as_reader(plan.owner, &plan.search_path, || {
        // What an expression makes of a value must not depend on who looks at it.
        environment::assume_for_statements();
        // SAFETY: one SPI connection from open to close.
        unsafe {
            pg_sys::SPI_connect();
            let value = work();
            pg_sys::SPI_finish();
            value
        }
    })
}

/// The links of many keys of a side; the tombstones among them too.
fn links_of<'b>(
    bump: &'b Bump,
    plan: &Plan,
    side: Side,
    keys: &[&'b [u8]],
) -> Vec<Option<Link<'b>>> {
    let (mut places, mut shapes) = (Places::default(), Shapes::default());
    let mut links = Links::open(plan, &mut places);
    let keys: Vec<(Side, &[u8])> = keys.iter().map(|&key| (side, key)).collect();
    let found = links.find_all(bump, &mut shapes, &keys);
    links.close();
    found
}

/// Does any value of a plan depend on more than the row it is made of?
fn refers(plan: &Plan) -> bool {
    plan.fields.iter().any(|field| {
        !field.parents.is_empty() || field.how.iter().flatten().any(|how| *how == How::Refer)
    })
}
