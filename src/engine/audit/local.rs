//! Two tables of this database. Ranges of keys are told to be alike by checksums where that can be; the rows of the
//! others are compared one by one, as the engine would. All in one snapshot: what differs in it and is not settled in
//! it is pending, and nothing else is.

use super::ranges::{Range, Ranges, have_sums};
use super::{Counts, Course, Finding, Lazy, PIECE, Wish, as_reader, links_of, unsettled};
use crate::engine::collect::Seen;
use crate::engine::link::{self, Links, Places};
use crate::engine::plan::Plan;
use crate::engine::resolve::{Record, read_rows};
use crate::worker::transaction::{is_of_the_work, savepoint};
use bumpalo::Bump;
use merge::Side;
use pgrx::pg_sys;

/// Where the comparison stands.
enum Stage {
    /// Checksums of the next range.
    Sums(Option<Vec<u8>>),
    /// The rows of a range of the source, from a key on.
    Source {
        range: Range,
        at: Option<Vec<u8>>,
    },
    /// Those of the target that the source's did not lead to.
    Target {
        range: Range,
    },
    /// The links whose row of the source is gone.
    Links(Vec<u8>),
    Done,
}

pub struct Tables<'p> {
    course: Course<'p>,
    ranges: Ranges,
    unsettled: Lazy,
    stage: Stage,
    /// Living links that rows of the source led to.
    met: u64,
}

impl<'p> Tables<'p> {
    /// Takes the snapshot of which everything is said; it stays until [`Tables::end`].
    pub fn begin(plan: &'p Plan, wish: Wish) -> Self {
        unsettled::keep_log();
        // SAFETY: popped by `end`, or by the abort of the transaction.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot()) };
        let stage = if have_sums(plan) {
            Stage::Sums(None)
        } else {
            Stage::Source { range: Range::default(), at: None }
        };
        Self {
            course: Course::new(plan, wish),
            ranges: Ranges::default(),
            unsettled: Lazy::default(),
            stage,
            met: 0,
        }
    }

    /// Works on the next piece, and hands over what is found of it. `None`: it was the last.
    pub fn step(&mut self) -> Option<Vec<Finding>> {
        if matches!(self.stage, Stage::Done) {
            return None;
        }
        pgrx::check_for_interrupts!();
        let plan = self.course.plan;
        as_reader(plan, || match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Sums(after) => self.sums(after),
            Stage::Source { range, at } => self.source(range, at),
            Stage::Target { range } => self.target(range),
            Stage::Links(after) => self.links(&after),
            Stage::Done => {}
        });
        Some(std::mem::take(&mut self.course.found))
    }

    pub fn end(self) -> Counts {
        // SAFETY: pushed by `begin`.
        unsafe { pg_sys::PopActiveSnapshot() };
        self.course.counts
    }

    fn sums(&mut self, after: Option<Vec<u8>>) {
        let (bump, plan) = (Bump::new(), self.course.plan);
        let mut range = Range { after, to: None };
        // What raises for a row of it is found row by row.
        let ranges = &mut self.ranges;
        let added = savepoint(is_of_the_work, || ranges.keys_and_sum(&bump, plan, &range, PIECE));
        let Ok((keys, source)) = added else {
            range.to = self.last_of(&bump, &range);
            return self.one_by_one(range);
        };
        if keys.len() == PIECE {
            range.to = keys.last().map(|key| key.to_vec());
        }
        let alike = savepoint(is_of_the_work, || self.ranges.sum(&bump, plan, &range))
            .is_ok_and(|sum| sum == source)
            && living(plan, &keys) == source.rows;
        if !alike {
            return self.one_by_one(range);
        }
        self.met += source.rows;
        let counts = &mut self.course.counts;
        counts.rows = counts.rows.map(|rows| rows + source.rows);
        counts.pairs += source.rows;
        self.next(range);
    }

    fn one_by_one(&mut self, range: Range) {
        let at = range.after.clone();
        self.stage = Stage::Source { range, at };
    }

    /// Where the next piece of the source ends, if it is not the last.
    fn last_of(&mut self, bump: &Bump, range: &Range) -> Option<Vec<u8>> {
        let rows = self.ranges.rows(bump, self.course.plan, Side::Source, range, PIECE);
        (rows.len() == PIECE).then(|| rows.last().map(|row| row.0.to_vec())).flatten()
    }

    /// After a range comes the next one, and after the last the links that no row of the source led to, if there are.
    fn next(&mut self, range: Range) {
        self.stage = match range.to {
            Some(to) => Stage::Sums(Some(to)),
            None if link::count(self.course.plan) == self.met => Stage::Done,
            None => Stage::Links(Vec::new()),
        };
    }

    fn source(&mut self, range: Range, at: Option<Vec<u8>>) {
        let (bump, plan) = (Bump::new(), self.course.plan);
        let from = Range { after: at, to: range.to.clone() };
        let rows = self.ranges.rows(&bump, plan, Side::Source, &from, PIECE);
        let keys: Vec<&[u8]> = rows.iter().map(|row| row.0).collect();
        let links = links_of(&bump, plan, Side::Source, &keys);
        let theirs: Vec<Option<&[u8]>> = links
            .iter()
            .zip(&keys)
            .map(|(link, &key)| match link {
                Some(link) if !link.deleted => Some(link.remote),
                _ => plan.same_key.then_some(key),
            })
            .collect();
        let found = read_rows(&bump, plan, &mut self.course.readers, Side::Target, &theirs);
        let mut records = Vec::with_capacity(rows.len());
        for (n, (link, (key, row))) in links.into_iter().zip(&rows).enumerate() {
            let mut record = Record::new(link);
            self.met += u64::from(record.linked().is_some());
            record.keys = [Some(*key), theirs[n].filter(|_| found[n].is_some())];
            record.seen = [Seen::Row(row), found[n].map_or(Seen::Gone, Seen::Row)];
            records.push(record);
        }
        self.course.counts.rows[Side::Source as usize] += rows.len() as u64;
        self.judge(&bump, &mut records);
        self.stage = match rows.last() {
            Some((last, _)) if rows.len() == PIECE => {
                Stage::Source { range, at: Some(last.to_vec()) }
            }
            _ => Stage::Target { range },
        };
    }

    fn target(&mut self, mut range: Range) {
        let bump = Bump::new();
        let rows = self.course.unpaired(&bump, &mut self.ranges, Side::Target, &range);
        let (last, full) = (rows.last, rows.full);
        let mut records = rows.records;
        if self.course.plan.same_key {
            // With its source's row it was met there.
            let plan = self.course.plan;
            let keys: Vec<Option<&[u8]>> = records.iter().map(|r| r.keys[1]).collect();
            let theirs = read_rows(&bump, plan, &mut self.course.readers, Side::Source, &keys);
            let mut theirs = theirs.into_iter();
            records.retain(|_| theirs.next().is_some_and(|row| row.is_none()));
        }
        self.judge(&bump, &mut records);
        if full {
            range.after = last;
            self.stage = Stage::Target { range };
        } else {
            self.next(range);
        }
    }

    fn links(&mut self, after: &[u8]) {
        let (bump, plan) = (Bump::new(), self.course.plan);
        let links = link::next(plan, after, PIECE);
        let rows = [Side::Source, Side::Target].map(|side| {
            let key = |keys: &(Vec<u8>, Vec<u8>)| {
                let key = if side == Side::Source { &keys.0 } else { &keys.1 };
                Some(&*bump.alloc_slice_copy(key))
            };
            let keys: Vec<Option<&[u8]>> = links.iter().map(key).collect();
            read_rows(&bump, plan, &mut self.course.readers, side, &keys)
        });
        let gone: Vec<usize> = (0..links.len()).filter(|&n| rows[0][n].is_none()).collect();
        let keys: Vec<&[u8]> = gone.iter().map(|&n| &*bump.alloc_slice_copy(&links[n].0)).collect();
        let found = links_of(&bump, plan, Side::Source, &keys);
        let mut records: Vec<Record<'_>> = found
            .into_iter()
            .zip(&gone)
            .map(|(link, &n)| {
                let mut record = Record::new(link);
                record.seen = [Seen::Gone, rows[1][n].map_or(Seen::Gone, Seen::Row)];
                record
            })
            .collect();
        self.judge(&bump, &mut records);
        if links.len() == PIECE
            && let Some((last, _)) = links.into_iter().next_back()
        {
            self.stage = Stage::Links(last);
        }
    }

    fn judge<'b>(&mut self, bump: &'b Bump, records: &mut [Record<'b>]) {
        self.course.evaluate(bump, records);
        for record in records {
            let verdict = self.course.verdict(record);
            self.course.note(record, verdict, &mut self.unsettled);
        }
    }
}

fn living(plan: &Plan, keys: &[&[u8]]) -> u64 {
    let mut places = Places::default();
    let mut links = Links::open(plan, &mut places);
    let living = links.living(keys);
    links.close();
    living as u64
}

/// Rows of a side that no living link leads to.
pub(super) struct Unpaired<'b> {
    pub records: Vec<Record<'b>>,
    pub last: Option<Vec<u8>>,
    /// There may be more behind the last.
    pub full: bool,
}

impl Course<'_> {
    /// Looks at the next rows of a range for those that are on this side only.
    pub(super) fn unpaired<'b>(
        &mut self,
        bump: &'b Bump,
        ranges: &mut Ranges,
        side: Side,
        range: &Range,
    ) -> Unpaired<'b> {
        let rows = ranges.rows(bump, self.plan, side, range, PIECE);
        self.counts.rows[side as usize] += rows.len() as u64;
        let keys: Vec<&[u8]> = rows.iter().map(|row| row.0).collect();
        let mut records = Vec::new();
        for (link, (key, row)) in links_of(bump, self.plan, side, &keys).into_iter().zip(&rows) {
            let mut record = Record::new(link);
            if record.linked().is_some() {
                continue;
            }
            record.keys = [None, None];
            record.keys[side as usize] = Some(*key);
            record.seen[side as usize] = Seen::Row(row);
            records.push(record);
        }
        let last = rows.last().map(|row| row.0.to_vec());
        Unpaired { records, last, full: rows.len() == PIECE }
    }
}
