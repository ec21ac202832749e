//! Going through an object of the other system as a whole, and through the links to it.

use super::pull::Work;
use super::settle::remote_half;
use super::{Purpose, Request, poll, values};
use crate::engine::collect::{Half, Seen};
use crate::engine::exits;
use crate::engine::link::{self, Links};
use crate::engine::load::{self, Kind, Load};
use crate::engine::plan::Plan;
use crate::engine::screen;
use crate::engine::shapes::Shapes;
use crate::engine::sync::Sync;
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use connector::{Page, Record};
use merge::Side;

/// Links whose records are looked for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub ids: Vec<String>,
    /// The last link's key, in the order of the load.
    pub end: Option<Vec<u8>>,
    pub complete: bool,
}

impl Sync {
    pub(super) fn take_load_page(
        &mut self,
        shapes: &mut Shapes,
        page: Page,
        moment: u64,
    ) -> Result<(), Failure> {
        let bump = Bump::new();
        let halves = self.halves_for_filter(&bump, &page.records);
        // Then the page is read again once it has been decided.
        if load::meets_exits(self, shapes, &halves)? || self.meets_blanks(shapes, &page.records)? {
            return Ok(());
        }
        let load = self.loads.first().filter(|l| self.plan.is_remote(l.side)).cloned();
        let Some(state) = &mut self.remote else { return Ok(()) };
        if load.is_some() {
            let Page { records, more } = page;
            state.work = Some(Work::listed(records, more, moment, load));
        }
        Ok(())
    }

    /// Works on the next piece of a load of the other system's side: asks for it. True when something
    /// was asked or done.
    pub fn load_remote(&mut self, shapes: &mut Shapes) -> Result<bool, Failure> {
        let Some(load) = self.loads.first().cloned() else { return Ok(false) };
        let Some((remote, _)) = self.plan.remote() else { return Ok(false) };
        let Some(state) = &mut self.remote else { return Ok(false) };
        if state.poll.at.is_empty() && self.plan.listens_to(remote) {
            self.poll_if_due()?;
            return Ok(true);
        }
        match load.kind {
            Kind::Rows if load.counts_exits(&self.plan) => self.count_exits(shapes, &load),
            Kind::Rows => self.read_object(&load),
            Kind::Links => {
                if state.work.is_some() || state.has(|p| matches!(p, Purpose::LoadLinks(_))) {
                    return Ok(false);
                }
                let limit = state.can.max_fetch;
                let after = load.last_key.as_deref().unwrap_or_default();
                let links = next_links(&self.plan, after, limit)?;
                if links.ids.is_empty() {
                    load::finish_piece(self, &load, links.end, links.complete, 0)?;
                    return Ok(true);
                }
                let request = Request::Fetch { ids: links.ids.clone() };
                state.call(request, Purpose::LoadLinks(links));
                Ok(true)
            }
        }
    }

    /// Asks for the next linked records, to see which of them no longer take part. True when something was asked or done.
    fn count_exits(&mut self, shapes: &mut Shapes, load: &Load) -> Result<bool, Failure> {
        let Some(state) = &mut self.remote else { return Ok(false) };
        if state.has(|p| matches!(p, Purpose::LoadExits(_))) {
            return Ok(false);
        }
        let links = next_links(&self.plan, load.exits_after(), state.can.max_fetch)?;
        if links.ids.is_empty() {
            return load::note_exits(self, shapes, &[], links.end, links.complete);
        }
        let request = Request::Fetch { ids: links.ids.clone() };
        state.call(request, Purpose::LoadExits(links));
        Ok(true)
    }

    pub(super) fn take_exits(
        &mut self,
        shapes: &mut Shapes,
        links: Asked,
        records: &[Option<Record>],
    ) -> Result<(), Failure> {
        let counts = |load: &Load| load.kind == Kind::Rows && load.counts_exits(&self.plan);
        if !self.loads.first().is_some_and(counts) {
            return Ok(());
        }
        let records: Vec<Record> = records.iter().flatten().cloned().collect();
        let bump = Bump::new();
        let halves = self.halves_for_filter(&bump, &records);
        load::note_exits(self, shapes, &halves, links.end, links.complete).map(drop)
    }

    /// Are there, with these, more linked records that have lost a value than may be taken over without asking? Those of a
    /// job are read again if they differ, and are counted then.
    fn meets_blanks(&mut self, shapes: &mut Shapes, records: &[Record]) -> Result<bool, Failure> {
        let Self { plan, places, loads, remote: Some(state), .. } = self else { return Ok(false) };
        let Some((remote, _)) = plan.remote() else { return Ok(false) };
        if !loads.first().is_some_and(|load| load.side == remote && load.counts_blanks(plan)) {
            return Ok(false);
        }
        let bump = Bump::new();
        let mut emptied: Vec<Vec<u8>> = Vec::new();
        transaction(|| {
            if !link::is_indexed(plan) {
                return Ok(());
            }
            let mut links = Links::open(plan, places);
            for record in records.iter().filter(|r| r.values.iter().any(Option::is_none)) {
                let Some(key) = values::key_of(plan.side(remote), &record.id) else { continue };
                let link = links.find(&bump, shapes, remote, &key);
                let link = link.filter(|l| !l.deleted && screen::takes_part(l.standing));
                if !record.deleted
                    && !state.is_taken(remote, &key)
                    && link.is_some_and(|link| poll::empties(plan, remote, &link, record))
                {
                    emptied.push(key);
                }
            }
            links.close();
            Ok(())
        })?;
        let keys: Vec<&[u8]> = emptied.iter().map(Vec::as_slice).collect();
        load::asks_about_blanks(self, &keys)
    }

    /// Records of the other system as its filter is asked of them. What cannot be read as a row is put aside when its turn
    /// comes.
    pub(super) fn halves_for_filter<'b>(
        &self,
        bump: &'b Bump,
        records: &[Record],
    ) -> Vec<Half<'b>> {
        let Some((remote, _)) = self.plan.remote() else { return Vec::new() };
        if !exits::of_side(&self.plan, remote) {
            return Vec::new();
        }
        let table = self.plan.side(remote);
        let half = |record: &Record| {
            let key = bump.alloc_slice_copy(&values::key_of(table, &record.id)?);
            let row = values::row(bump, table, &record.id, &record.values).ok()?;
            Some(remote_half(remote, key, row, i64::MIN))
        };
        let living: Vec<&Record> = records.iter().filter(|record| !record.deleted).collect();
        let all = transaction(|| Ok(living.iter().filter_map(|record| half(record)).collect()));
        all.unwrap_or_else(|_| {
            let one = |record: &&Record| transaction(|| Ok(half(record))).ok().flatten();
            living.iter().filter_map(one).collect()
        })
    }

    /// Asks for the next page of the object, in the order of the ids.
    pub(super) fn list_on(&mut self, load: &Load) -> Result<bool, Failure> {
        let Some((remote, _)) = self.plan.remote() else { return Ok(false) };
        let Some(state) = &mut self.remote else { return Ok(false) };
        if state.work.is_some() || state.has(|p| matches!(p, Purpose::Load)) {
            return Ok(false);
        }
        let table = self.plan.side(remote);
        let after = load.last_key.as_deref().and_then(|k| values::id_of(table, k));
        state.call(Request::List { after }, Purpose::Load);
        Ok(true)
    }

    pub(super) fn end_load_page(&mut self, load: Load, work: &Work) -> Result<(), Failure> {
        if work.from_job {
            return self.end_job_page(&load, work);
        }
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let last = work.records.last().and_then(|r| values::key_of(self.plan.side(remote), &r.id));
        let last = last.or_else(|| load.last_key.clone());
        load::finish_piece(self, &load, last, !work.more, work.records.len() as i64)
    }

    /// Links whose records were looked for: those that are gone over there.
    pub(super) fn take_links(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        links: Asked,
        records: &[Option<Record>],
    ) -> Result<(), Failure> {
        let Some(load) = self.loads.first().cloned() else { return Ok(()) };
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let table = self.plan.side(remote);
        let missing = links
            .ids
            .iter()
            .zip(records)
            .filter(|(_, record)| record.as_ref().is_none_or(|r| r.deleted))
            .filter_map(|(id, _)| values::key_of(table, id));
        let Some(state) = &mut self.remote else { return Ok(()) };
        state.missing.extend(missing);
        let count = links.ids.len() as i64;
        // All of them are counted before the first is deleted.
        if !load.confirmed && !load.discarded {
            let (plan, missing) = (&self.plan, state.missing.len() as u64);
            let limit = transaction(|| Ok(plan.delete_limit(link::estimate(plan))))?;
            if missing > limit {
                state.missing.clear();
                return load::ask_about(plan, remote, missing, limit);
            }
        }
        if !links.complete {
            if let Some(first) = self.loads.first_mut() {
                first.last_key = links.end;
            }
            return Ok(());
        }
        let bump = Bump::new();
        let halves = std::mem::take(&mut state.missing)
            .iter()
            .filter(|key| !state.is_taken(remote, key))
            .map(|key| {
                let key = &*bump.alloc_slice_copy(key);
                Half { seen: Seen::Gone, left: true, ..Half::unread(remote, key, i64::MIN) }
            })
            .collect();
        self.loading = Some(load.clone());
        let worked = self.merge_anew(epoch, shapes, &bump, halves);
        self.loading = None;
        worked?;
        load::finish_piece(self, &load, links.end, true, count)
    }
}

/// The next links of a load, in its order.
fn next_links(plan: &Plan, after: &[u8], limit: usize) -> Result<Asked, Failure> {
    let Some((remote, _)) = plan.remote() else {
        return Ok(Asked { ids: Vec::new(), end: None, complete: true });
    };
    let keys = link::after(plan, after, limit)?;
    let table = plan.side(remote);
    Ok(Asked {
        complete: keys.len() < limit,
        end: keys.last().map(|k| k.0.clone()),
        ids: keys
            .iter()
            .filter_map(|(source, target)| {
                values::id_of(table, if remote == Side::Source { source } else { target })
            })
            .collect(),
    })
}
