//! What has been decided to be written to the other system and has not been settled: one row a record,
//! committed before anything of it leaves. After a crash it says what may have arrived there. The
//! changes it was made of wait beside it until they go into history.

use crate::engine::link;
use crate::engine::plan::Plan;
use crate::engine::store::{self, Row, Table};
use crate::log::history::{self, Line};
use crate::sql::{self, Arg};
use bumpalo::Bump;
use merge::{Base, Side};
use pgrx::pg_sys::Datum;

/// What is to be done with a record of the other system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Is it there already? If not, it is created.
    Look,
    Create,
    Update,
    Delete,
}

impl Op {
    const fn letter(self) -> u8 {
        match self {
            Op::Look => b'l',
            Op::Create => b'c',
            Op::Update => b'u',
            Op::Delete => b'd',
        }
    }

    fn of(letter: &str) -> Option<Self> {
        match letter {
            "l" => Some(Op::Look),
            "c" => Some(Op::Create),
            "u" => Some(Op::Update),
            "d" => Some(Op::Delete),
            _ => None,
        }
    }
}

/// A record on its way.
#[derive(Clone, Debug)]
pub struct Intent {
    pub number: i64,
    pub op: Op,
    /// The key of the local row.
    pub key: Vec<u8>,
    /// The id of the other system's record, if it is known.
    pub id: Option<String>,
    /// The value of the identity.
    pub identity: Option<String>,
    /// What both sides will have agreed on, as a link holds it; empty for a delete.
    pub base: Vec<u8>,
    /// When the local row was changed (microseconds since 2000); `i64::MIN`: nobody knows.
    pub at: i64,
    /// When the row was written, by our clock, in milliseconds since 1970.
    pub made_at: i64,
}

/// The intents of one sync, open for one transaction.
pub struct Intents<'p> {
    plan: &'p Plan,
    table: Option<Table>,
    sending: Option<Table>,
    row: Row,
}

impl<'p> Intents<'p> {
    pub fn open(plan: &'p Plan) -> Self {
        Self { plan, table: None, sending: None, row: Row::default() }
    }

    pub fn add(&mut self, intent: &Intent) {
        let mut row = std::mem::take(&mut self.row);
        row.datum(Some(Datum::from(self.plan.id)))
            .datum(Some(Datum::from(intent.number)))
            .datum(Some(Datum::from(self.plan.base.id())))
            .datum(Some(Datum::from(intent.at)))
            .datum(Some(Datum::from(intent.made_at)))
            .datum(Some(Datum::from(intent.op.letter() as i8)))
            .bytes(Some(&intent.key))
            .bytes(intent.id.as_deref().map(str::as_bytes))
            .bytes(intent.identity.as_deref().map(str::as_bytes))
            .bytes(Some(&intent.base));
        self.table.get_or_insert_with(|| Table::open(store::relation("_intent"))).insert(&mut row);
        row.clear();
        self.row = row;
    }

    /// A change that an intent was made of.
    pub fn line(&mut self, intent: i64, epoch: i32, line: &Line<'_>) {
        let mut row = std::mem::take(&mut self.row);
        line.columns(&mut row, 0, epoch, self.plan.id);
        row.datum(Some(Datum::from(intent)));
        self.sending
            .get_or_insert_with(|| Table::open(store::relation("_sending")))
            .insert(&mut row);
        row.clear();
        self.row = row;
    }

    pub fn close(self) {
        for table in [self.table, self.sending].into_iter().flatten() {
            table.close();
        }
    }
}

/// The base that an intent will have brought about.
pub fn encode(plan: &Plan, base: &Base<'_>) -> Vec<u8> {
    let mut image = Vec::with_capacity(128);
    link::encode(plan, base, &mut image);
    image
}

/// All intents of a sync that are not settled, the oldest first. Those of another layout are read by
/// the names of their fields.
pub fn all(sync: i32) -> Vec<(Intent, i64)> {
    sql::read(
        "SELECT i.number, i.op, pg_catalog.encode(i.key, 'hex'), i.remote_id, i.identity,
                pg_catalog.encode(i.base, 'hex'), i.at, i.made_at, i.layout
           FROM sync._intent i WHERE i.sync = $1 ORDER BY i.number",
        &[Arg::Int4(sync)],
    )
    .into_iter()
    .filter_map(|row| {
        let number = |n: usize| row[n].as_deref().and_then(|t| t.parse::<i64>().ok());
        let intent = Intent {
            number: number(0)?,
            op: Op::of(row[1].as_deref()?)?,
            key: sql::from_hex(row[2].as_deref()?)?,
            id: row[3].clone(),
            identity: row[4].clone(),
            base: sql::from_hex(row[5].as_deref()?)?,
            at: number(6)?,
            made_at: number(7)?,
        };
        Some((intent, number(8)?))
    })
    .collect()
}

/// Takes intents away. The changes they were made of go into history with this outcome.
pub fn settle(sync: i32, numbers: &[i64], outcome: u8) {
    if numbers.is_empty() {
        return;
    }
    let intents = Table::open(store::relation("_intent"));
    let sending = Table::open(store::relation("_sending"));
    let mut by_number = intents.finder(store::relation("_intent_pkey"), 2);
    let mut by_intent = sending.finder(store::relation("_sending_intent"), 2);
    let mut history = history::Mover::new(outcome);
    for &number in numbers {
        by_number.each_numbered(sync, number, |intent| intents.delete(intent.tid()));
        by_intent.each_numbered(sync, number, |line| {
            history.add(line);
            sending.delete(line.tid());
        });
    }
    history.finish();
    by_intent.close();
    by_number.close();
    sending.close();
    intents.close();
}

/// A record that was looked for is not there: it is created.
pub fn becomes_create(sync: i32, numbers: &[i64]) {
    sql::as_extension(|| {
        sql::query(
            "UPDATE sync._intent i SET op = 'c' FROM pg_catalog.unnest($2::int8[]) AS n (number)
              WHERE i.sync = $1 AND i.number = n.number",
            &[Arg::Int4(sync), Arg::Text(&list(numbers))],
        )
    });
}

pub(super) fn list(numbers: &[i64]) -> String {
    let texts: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

/// The base of an intent.
pub fn decode<'b>(
    bump: &'b Bump,
    plan: &Plan,
    shapes: &mut crate::engine::shapes::Shapes,
    layout: i64,
    intent: &Intent,
) -> Option<Base<'b>> {
    let bytes = &*bump.alloc_slice_copy(&intent.base);
    link::decode(bump, plan, shapes, layout, plan.base.id(), bytes)
}

/// The side whose rows intents are made of.
pub fn local_side(plan: &Plan) -> Option<Side> {
    plan.remote_side().map(Side::other)
}
