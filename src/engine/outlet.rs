//! Changes for applications: what the log has of a table is put down for whoever calls `sync.take`, one row a change,
//! in the order of the log. Nothing is merged and nothing is sent; how a change ends the application says.

use super::plan::Stored;
use super::shapes::Shapes;
use super::store::{self, Row, Table};
use super::sync::{Cursor, write_cursor};
use crate::api::key_of_image;
use crate::capture::row::now;
use crate::log::batch::{Entry, Images, Map, fetch};
use crate::log::history::{Line, SYNCED};
use crate::log::segments;
use crate::settings;
use crate::sql::{self, Arg};
use crate::worker::notify::Span as Put;
use crate::worker::transaction::{Failure, transaction};
use change::order;
use change::snapshot::Snapshot;
use merge::Side;
use pgrx::pg_sys::{Datum, Oid};

/// A sync whose target is the application itself.
pub struct Outlet {
    pub id: i32,
    pub name: String,
    pub table: Oid,
    cursor: Cursor,
    /// The cursor in the table lags behind: there was nothing for it.
    unsaved: bool,
}

/// Bytes of images put down at once.
const CHUNK_BYTES: usize = 8 << 20;

impl Outlet {
    pub fn new(stored: &Stored, cursor: Cursor) -> Self {
        let name = stored.name.clone();
        Self { id: stored.id, name, table: stored.source, cursor, unsaved: false }
    }

    /// Goes on where an earlier one of the same sync stood.
    pub fn inherit(&mut self, old: Self) {
        (self.cursor, self.unsaved) = (old.cursor, old.unsaved);
    }

    /// Puts down what was committed up to the tick. True when there is more; with what was put down.
    ///
    /// # Errors
    /// What reading the log or writing raised; then nothing has been put down.
    pub fn step(
        &mut self,
        epoch: i32,
        map: &Map,
        shapes: &mut Shapes,
        tick: &Snapshot,
    ) -> Result<(bool, Option<Put>), Failure> {
        let to = self.cursor.frozen.clone().unwrap_or_else(|| tick.clone());
        let after = if self.cursor.frozen.is_some() { self.cursor.seq } else { i64::MIN };
        if self.cursor.frozen.is_none() && self.cursor.seen == to {
            return Ok((false, None));
        }
        let span = change::snapshot::Span::new(self.cursor.seen.clone(), to.clone());
        let table = self.table.to_u32();
        let mut next = self.cursor.clone();
        let mut put: Option<Put> = None;
        let mut more = false;
        let id = self.id;
        transaction(|| {
            let Some(log) = segments::relations() else {
                return Err(Failure::new("55000", "the log of changes is missing"));
            };
            let (mut entries, cut) =
                map.read(&log, &span, after, settings::READ_LIMIT.get() as usize);
            order::sort(&mut entries);
            let highest = entries.iter().map(|entry| entry.seq).max();
            entries.retain(|entry| shapes.get(entry.shape).is_some_and(|s| s.relation == table));
            let mut place = 0;
            while place < entries.len() {
                let images = fetch(&log, &entries[place..], CHUNK_BYTES);
                put_down(id, epoch, &entries[place..place + images.count()], &images);
                place += images.count();
            }
            put = entries.iter().map(Put::of).reduce(Put::and);
            more = cut;
            next = match highest.filter(|_| cut) {
                Some(seq) => Cursor { seen: span.from.clone(), frozen: Some(to.clone()), seq },
                None => Cursor { seen: to.clone(), frozen: None, seq: 0 },
            };
            // Where there is nothing for it, that need not be written down at once.
            if put.is_some() || cut {
                write_cursor(id, &next, false);
            }
            Ok(())
        })?;
        self.unsaved = put.is_none() && !more;
        self.cursor = next;
        Ok((more, put))
    }

    /// Writes down where it stands, though there was nothing for it.
    ///
    /// # Errors
    /// What writing raised.
    pub fn save(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.unsaved) {
            return Ok(());
        }
        transaction(|| {
            write_cursor(self.id, &self.cursor, false);
            Ok(())
        })
    }
}

fn put_down(sync: i32, epoch: i32, entries: &[Entry], images: &Images) {
    let table = Table::open(store::relation("_delivery"));
    let ids = sql::query(
        "SELECT pg_catalog.nextval('sync._queue_id_seq') FROM pg_catalog.generate_series(1, $1)",
        &[Arg::Int(entries.len() as i64)],
    );
    let now = now();
    let mut row = Row::default();
    for (n, entry) in entries.iter().enumerate() {
        let (old, new) = (images.old(n), images.new(n));
        // Without a row of its own, as a TRUNCATE is, it is in nobody's way.
        let (key, text) =
            new.or(old).and_then(|bytes| key_of_image(entry.shape, bytes)).unwrap_or_default();
        let id: i64 = ids[n][0].as_deref().and_then(|id| id.parse().ok()).unwrap_or_default();
        Line::of(entry, Side::Source, SYNCED, old, new).columns(&mut row, now, epoch, sync);
        row.datum(Some(Datum::from(id)))
            .bytes(Some(&key))
            .bytes(Some(&crate::border::readable(&text)))
            .bytes(Some(b"pending"))
            .datum(Some(Datum::from(0i32)))
            .datum(Some(Datum::from(now)))
            .datum(Some(Datum::from(now)))
            .bytes(None);
        table.insert(&mut row);
        row.clear();
    }
    table.close();
}
