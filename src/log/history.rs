//! History: the lasting record of what was synced. A partition a day, made ahead and dropped in time
//! by the worker; written directly, in the log's binary form.

use super::batch::Entry;
use super::segments;
use crate::engine::store::{Found, Inserter, Row};
use crate::settings;
use crate::sql::{self, Arg};
use bumpalo::Bump;
use merge::Side;
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

/// What became of a change.
pub const SYNCED: u8 = b's';
pub const UNCHANGED: u8 = b'u';
pub const CONFLICT: u8 = b'c';
pub const PARKED: u8 = b'p';
pub const AGAIN: u8 = b'a';

/// One line of history.
pub struct Line<'a> {
    pub captured_at: i64,
    pub seq: i64,
    pub shape: i64,
    pub origin: i32,
    pub side: Side,
    pub op: u8,
    pub outcome: u8,
    pub old: Option<&'a [u8]>,
    pub new: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    pub fn of(
        entry: &Entry,
        side: Side,
        outcome: u8,
        old: Option<&'a [u8]>,
        new: Option<&'a [u8]>,
    ) -> Self {
        Self {
            captured_at: entry.at,
            seq: entry.seq,
            shape: entry.shape,
            origin: entry.origin,
            side,
            op: entry.op,
            outcome,
            old,
            new,
        }
    }

    /// The columns of `sync._history`, in order.
    pub fn columns(&self, row: &mut Row, now: i64, epoch: i32, sync: i32) {
        row.datum(Some(Datum::from(now)))
            .datum(Some(Datum::from(self.captured_at)))
            .datum(Some(Datum::from(self.seq)))
            .datum(Some(Datum::from(self.shape)))
            .datum(Some(Datum::from(epoch)))
            .datum(Some(Datum::from(sync)))
            .datum(Some(Datum::from(self.origin)))
            .datum(Some(Datum::from(self.side as i16)))
            .datum(Some(Datum::from(self.op as i8)))
            .datum(Some(Datum::from(self.outcome as i8)))
            .bytes(self.old)
            .bytes(self.new);
    }
}

/// Writes lines into today's partition.
pub struct Writer {
    today: Today,
    epoch: i32,
    sync: i32,
}

impl Writer {
    pub fn new(epoch: i32, sync: i32) -> Self {
        Self { today: Today::new(), epoch, sync }
    }

    pub fn add(&mut self, line: &Line<'_>) {
        let (now, epoch, sync) = (self.today.now, self.epoch, self.sync);
        self.today.add(|row| line.columns(row, now, epoch, sync));
    }

    pub fn finish(self) {
        self.today.finish();
    }
}

/// The place of `outcome` among the columns, of the first image, and how many there are.
const OUTCOME: usize = 9;
const OLD: usize = 10;
const COLUMNS: usize = 12;

/// Moves lines into today's partition from a table that begins with its columns.
pub struct Mover {
    today: Today,
    outcome: u8,
    scratch: Bump,
}

impl Mover {
    pub fn new(outcome: u8) -> Self {
        Self { today: Today::new(), outcome, scratch: Bump::new() }
    }

    pub fn add(&mut self, line: &Found) {
        let Self { today, outcome, scratch } = self;
        let now = today.now;
        today.add(|row| {
            row.datum(Some(Datum::from(now)));
            for column in 1..OUTCOME {
                row.datum((!line.is_null(column)).then(|| line.datum(column)));
            }
            row.datum(Some(Datum::from(*outcome as i8)));
            // Long images are stored outside of their table, and have to be brought along.
            for column in OLD..COLUMNS {
                row.bytes(line.bytes(scratch, column));
            }
        });
        scratch.reset();
    }

    pub fn finish(self) {
        self.today.finish();
    }
}

/// Today's partition, opened when there is something to write.
struct Today {
    table: Option<Inserter>,
    row: Row,
    now: i64,
}

impl Today {
    fn new() -> Self {
        // SAFETY: reads the clock. The start of the transaction, so that a batch has one time and
        // falls into one partition.
        let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
        Self { table: None, row: Row::default(), now }
    }

    fn add(&mut self, columns: impl FnOnce(&mut Row)) {
        let name = || partition_of(self.now);
        if self.table.is_none() {
            self.table = segments::named(&name()).map(Inserter::open);
        }
        let Some(table) = &mut self.table else {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("the history partition \"sync.{}\" does not exist", name())
            );
        };
        columns(&mut self.row);
        table.add(&mut self.row);
        self.row.clear();
    }

    fn finish(self) {
        if let Some(table) = self.table {
            table.finish();
        }
    }
}

const DAY: i64 = 86_400_000_000;

fn day_of(time: i64) -> i64 {
    time.div_euclid(DAY)
}

fn partition_of(time: i64) -> String {
    format!("_history_{}", name_of(day_of(time)))
}

/// `20261231` for a day counted from 2000-01-01.
pub fn name_of(day: i64) -> String {
    // Civil from days (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let z = day + 730_425;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let d = doy - (153 * mp + 2) / 5 + 1;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    let y = yoe + era * 400 + i64::from(m <= 2);
    format!("{y:04}{m:02}{d:02}")
}

/// Makes the partitions of today and tomorrow, drops those that are past their time. In a
/// transaction of its own; the partitions belong to the extension, so that no dump carries them.
/// Returns the last day there is a partition for.
pub fn maintain(now: i64) -> i64 {
    let today = day_of(now);
    for day in [today, today + 1] {
        let name = format!("_history_{}", name_of(day));
        if segments::named(&name).is_some() {
            continue;
        }
        let bound = |day: i64| {
            let text = name_of(day);
            format!("{}-{}-{} 00:00:00+00", &text[..4], &text[4..6], &text[6..])
        };
        // Made first and attached then: that keeps nobody from reading, and no reader keeps it waiting.
        sql::query(
            &format!("CREATE TABLE sync.{name} (LIKE sync._history INCLUDING STORAGE)"),
            &[],
        );
        sql::query(
            &format!(
                "ALTER TABLE sync._history ATTACH PARTITION sync.{name} FOR VALUES FROM ('{}') TO ('{}')",
                bound(day),
                bound(day + 1)
            ),
            &[],
        );
        sql::query(&format!("ALTER EXTENSION sync_ext ADD TABLE sync.{name}"), &[]);
    }
    let oldest = format!("_history_{}", name_of(today - i64::from(settings::HISTORY_KEEP.get())));
    let expired = sql::read(
        "SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
          WHERE i.inhparent OPERATOR(pg_catalog.=) 'sync._history'::pg_catalog.regclass
            AND c.relname OPERATOR(pg_catalog.<) $1",
        &[Arg::Text(&oldest)],
    );
    for row in expired {
        if let Some(Some(name)) = row.first() {
            let name = sql::identifier(name);
            sql::query(&format!("ALTER EXTENSION sync_ext DROP TABLE sync.{name}"), &[]);
            sql::query(&format!("DROP TABLE sync.{name}"), &[]);
        }
    }
    today + 1
}

/// Is it time to look after the partitions?
pub fn due(last_day: i64, now: i64) -> bool {
    day_of(now) >= last_day
}
