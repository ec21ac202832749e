//! An object of another system, a page at a time, against our table. Two systems have no moment in common: what differs
//! is looked at once more, there and then here, and only what stood still meanwhile is told.

use super::compare::{Kind, Verdict};
use super::ranges::{Range, Ranges};
use super::unsettled::Unsettled;
use super::{Counts, Course, Finding, Lazy, Wish, keys_of, links_of, with_newest};
use crate::connection::Records;
use crate::engine::collect::Seen;
use crate::engine::link;
use crate::engine::plan::Plan;
use crate::engine::remote::{poll, values};
use crate::engine::resolve::{Record, read_rows};
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, is_of_the_work, savepoint};
use bumpalo::Bump;
use change::image::Value;
use merge::Side;
use std::hash::{BuildHasher, Hasher};

enum Stage {
    /// The records after this one.
    Pages(Option<String>),
    /// Rows of ours.
    Rows(Range),
    /// The links whose record was not met, after this key.
    Links(Vec<u8>),
    Done,
}

pub struct Pages<'p> {
    course: Course<'p>,
    records: Records,
    remote: Side,
    ranges: Ranges,
    stage: Stage,
    /// Living links that records led to.
    met: u64,
    hasher: foldhash::fast::RandomState,
}

/// A record as it was found at first: what our row held.
struct First {
    id: String,
    row: u64,
}

impl<'p> Pages<'p> {
    /// `None`: no side of the plan is an object.
    pub fn begin(plan: &'p Plan, records: Records, wish: Wish) -> Option<Self> {
        Some(Self {
            course: Course::new(plan, wish),
            remote: plan.remote_side()?,
            records,
            ranges: Ranges::default(),
            stage: Stage::Pages(None),
            met: 0,
            hasher: foldhash::fast::RandomState::default(),
        })
    }

    /// Works on the next piece, and hands over what is found of it. `None`: it was the last.
    ///
    /// # Errors
    /// What the other side says.
    pub fn step(&mut self) -> Result<Option<Vec<Finding>>, Failure> {
        pgrx::check_for_interrupts!();
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Pages(after) => self.page(after)?,
            Stage::Rows(range) => self.rows(range),
            Stage::Links(after) => self.links(&after)?,
            Stage::Done => return Ok(None),
        }
        Ok(Some(std::mem::take(&mut self.course.found)))
    }

    pub fn end(mut self) -> Counts {
        self.course.counts.calls = self.records.calls();
        self.course.counts
    }

    fn page(&mut self, after: Option<String>) -> Result<(), Failure> {
        let page = self.records.list(after)?;
        let remote = self.remote as usize;
        self.course.counts.rows[remote] += page.records.len() as u64;
        let plan = self.course.plan;
        let again = with_newest(plan, || {
            let bump = Bump::new();
            let records = self.side_by_side(&bump, &page.records);
            self.met += records.iter().filter(|r| r.linked().is_some()).count() as u64;
            let mut unsettled = Lazy::default();
            let mut again = Vec::new();
            for (record, read) in records.iter().zip(&page.records) {
                let verdict = self.course.verdict(record);
                let settled = matches!(verdict, Verdict::Found(..))
                    && unsettled.get(plan).why(keys_of(record)).is_none();
                if settled {
                    again.push(First { id: read.id.clone(), row: self.row_of(record) });
                } else {
                    self.course.note(record, verdict, &mut unsettled);
                }
            }
            again
        });
        self.look_again(&again)?;
        self.stage = match page.records.into_iter().next_back() {
            Some(last) if page.more => Stage::Pages(Some(last.id)),
            _ => Stage::Rows(Range::default()),
        };
        Ok(())
    }

    /// Records of the other system with our rows and what both send.
    fn side_by_side<'b>(&mut self, bump: &'b Bump, read: &[connector::Record]) -> Vec<Record<'b>> {
        let (plan, remote) = (self.course.plan, self.remote);
        let (r, local) = (remote as usize, remote.other());
        let table = plan.side(remote);
        let keys: Vec<&[u8]> = read
            .iter()
            .map(|record| {
                let key = values::key_of(table, &record.id).unwrap_or_default();
                &*bump.alloc_slice_copy(&key)
            })
            .collect();
        let links = links_of(bump, plan, remote, &keys);
        let own: Vec<Option<&[u8]>> = links
            .iter()
            .map(|link| link.as_ref().filter(|l| !l.deleted).map(|l| l.key_of(local)))
            .collect();
        let rows = read_rows(bump, plan, &mut self.course.readers, local, &own);
        let mut records = Vec::with_capacity(read.len());
        for (n, link) in links.into_iter().enumerate() {
            let mut record = Record::new(link);
            record.keys[r] = Some(keys[n]);
            record.keys[local as usize] = own[n];
            record.seen[local as usize] = rows[n].map_or(Seen::Gone, Seen::Row);
            record.seen[r] = Seen::Gone;
            if !read[n].deleted {
                let values = savepoint(is_of_the_work, || {
                    values::row(bump, table, &read[n].id, &read[n].values)
                });
                match values.and_then(|values| values) {
                    Ok(row) => record.seen[r] = Seen::Row(row),
                    Err(failure) => record.trouble = Some(failure),
                }
            }
            records.push(record);
        }
        self.course.evaluate(bump, &mut records);
        records
    }

    /// Something of what our row and its link hold, to know whether it is still the same.
    fn row_of(&self, record: &Record<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(u8::from(record.linked().is_some()));
        if let Seen::Row(row) = &record.seen[self.remote.other() as usize] {
            for value in *row {
                match value {
                    Value::Bytes(bytes) => {
                        hasher.write_usize(bytes.len());
                        hasher.write(bytes);
                    }
                    _ => hasher.write_u8(0),
                }
            }
        }
        hasher.finish()
    }

    fn look_again(&mut self, first: &[First]) -> Result<(), Failure> {
        let most = self.records.connector().capabilities().max_fetch.max(1);
        for first in first.chunks(most) {
            let ids = first.iter().map(|f| f.id.clone()).collect();
            let fetched = self.records.fetch(ids)?;
            with_newest(self.course.plan, || {
                let bump = Bump::new();
                let read: Vec<connector::Record> =
                    fetched.iter().flatten().filter(|r| !r.deleted).cloned().collect();
                // Deleted meanwhile.
                self.course.counts.pending += (first.len() - read.len()) as u64;
                let (from, mut unsettled) = (self.comes_from(), Lazy::default());
                for (record, read) in self.side_by_side(&bump, &read).iter().zip(&read) {
                    let row = first.iter().find(|f| f.id == read.id).map(|f| f.row);
                    let moved = row != Some(self.row_of(record));
                    let verdict = self.course.verdict(record);
                    let comes = from.as_ref().is_some_and(|from| read.version >= *from)
                        && self.is_news(record);
                    if (moved || comes) && matches!(verdict, Verdict::Found(..)) {
                        self.course.counts.pending += 1;
                        continue;
                    }
                    self.course.note(record, verdict, &mut unsettled);
                }
            });
        }
        Ok(())
    }

    /// From when on the next look at the other system's changes tells of them, if any does; empty: of all.
    fn comes_from(&self) -> Option<String> {
        let plan = self.course.plan;
        let overlap = self.records.connector().capabilities().overlap_seconds;
        plan.listens_to(self.remote).then(|| {
            sql::as_extension(|| {
                let text = "SELECT at FROM sync._pull WHERE sync = $1 AND at <> ''";
                let at = sql::one(text, &[Arg::Int4(plan.id)]);
                at.map(|at| poll::earlier(&at, i64::from(overlap))).unwrap_or_default()
            })
        })
    }

    /// Does the other system hold something else than what it is known to?
    fn is_news(&self, record: &Record<'_>) -> bool {
        let remote = self.remote;
        let Some(base) = record.linked().and_then(|link| link.base.as_ref()) else { return true };
        let Seen::Row(row) = &record.seen[remote as usize] else { return true };
        self.course.plan.fields.iter().zip(base.side(remote)).any(|(field, known)| {
            field.column[remote as usize].is_some_and(|column| row[column] != *known)
        })
    }

    /// Our rows that no link leads away from.
    fn rows(&mut self, mut range: Range) {
        let (plan, local) = (self.course.plan, self.remote.other());
        let (last, full) = with_newest(plan, || {
            let (bump, mut unsettled) = (Bump::new(), Lazy::default());
            let rows = self.course.unpaired(&bump, &mut self.ranges, local, &range);
            let (last, full, mut records) = (rows.last, rows.full, rows.records);
            self.course.evaluate(&bump, &mut records);
            for record in &records {
                let verdict = self.course.verdict(record);
                self.course.note(record, verdict, &mut unsettled);
            }
            (last, full)
        });
        if full {
            range.after = last;
            self.stage = Stage::Rows(range);
        } else if with_newest(plan, || link::count(plan)) != self.met {
            self.stage = Stage::Links(Vec::new());
        }
    }

    /// Links whose record is not there.
    fn links(&mut self, after: &[u8]) -> Result<(), Failure> {
        let (plan, remote) = (self.course.plan, self.remote);
        let most = self.records.connector().capabilities().max_fetch.max(1);
        let links = with_newest(plan, || link::next(plan, after, most));
        let table = plan.side(remote);
        let keys: Vec<&[u8]> = links
            .iter()
            .map(|(source, target)| if remote == Side::Source { source } else { target })
            .map(Vec::as_slice)
            .collect();
        let ids: Vec<String> = keys.iter().filter_map(|key| values::id_of(table, key)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let fetched = self.records.fetch(ids)?;
        let gone: Vec<&[u8]> = keys
            .iter()
            .zip(&fetched)
            .filter(|(_, record)| record.as_ref().is_none_or(|r| r.deleted))
            .map(|(key, _)| *key)
            .collect();
        if !gone.is_empty() {
            // Deletes that the next look at the changes tells of.
            let from = with_newest(plan, || self.comes_from());
            let news = fetched
                .iter()
                .flatten()
                .filter(|r| r.deleted)
                .filter(|record| from.as_ref().is_some_and(|from| record.version >= *from));
            let news: Vec<&str> = news.map(|record| record.id.as_str()).collect();
            self.note_gone(&gone, &news);
        }
        if links.len() == most
            && let Some((last, _)) = links.into_iter().next_back()
        {
            self.stage = Stage::Links(last);
        }
        Ok(())
    }

    fn note_gone(&mut self, gone: &[&[u8]], news: &[&str]) {
        let (plan, remote) = (self.course.plan, self.remote);
        let (r, local) = (remote as usize, remote.other());
        with_newest(plan, || {
            let bump = Bump::new();
            let keys: Vec<&[u8]> = gone.iter().map(|key| &*bump.alloc_slice_copy(key)).collect();
            let links = links_of(&bump, plan, remote, &keys);
            let own: Vec<Option<&[u8]>> = links
                .iter()
                .map(|link| link.as_ref().filter(|l| !l.deleted).map(|l| l.key_of(local)))
                .collect();
            let rows = read_rows(&bump, plan, &mut self.course.readers, local, &own);
            let unsettled = Unsettled::read(plan);
            let mut unsettled = Lazy(Some(unsettled));
            for (n, link) in links.into_iter().enumerate() {
                let mut record = Record::new(link);
                // Settled meanwhile.
                if record.linked().is_none() {
                    continue;
                }
                record.keys[r] = Some(keys[n]);
                record.keys[local as usize] = own[n];
                record.seen[r] = Seen::Gone;
                record.seen[local as usize] = rows[n].map_or(Seen::Gone, Seen::Row);
                let id = values::id_of(plan.side(remote), keys[n]).unwrap_or_default();
                if news.contains(&id.as_str()) {
                    self.course.counts.pending += 1;
                    continue;
                }
                let side = rows[n].map(|_| remote);
                let verdict = Verdict::Found(Kind::LinkWithoutRow(side), Vec::new());
                self.course.note(&record, verdict, &mut unsettled);
            }
        });
    }
}
