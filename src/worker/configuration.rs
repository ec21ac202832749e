//! What a worker is to do: the syncs as the tables have them, and their order.

use super::identity::Standing;
use super::process::extension;
use super::round::Worker;
use super::transaction::{Failure, as_owner, transaction};
use super::upkeep;
use crate::engine::local_schema::{self, Followed};
use crate::engine::plan::{self, Stored};
use crate::engine::remote::schema;
use crate::engine::remote::side::UNDESCRIBED;
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Cursor, Sync, Verdict};
use crate::engine::{link, load, queue};
use crate::sql::{self, Arg};
use change::snapshot::Snapshot;
use pgrx::pg_sys;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

impl Worker {
    /// Reads the configuration again.
    pub(super) fn configure(&mut self) -> Result<(), Failure> {
        if self.is_stream() && transaction(|| Ok(extension() == Some(self.extension)))? {
            schema::follow()?;
        }
        let stored = transaction(|| {
            if extension() != Some(self.extension) {
                return Ok(None);
            }
            let now = sql::one("SELECT state FROM sync._epoch ORDER BY epoch DESC LIMIT 1", &[]);
            if now.as_deref() == Some("active") {
                self.epoch.standing = Standing::Active;
            }
            if self.is_stream() {
                let all = sql::read("SELECT id FROM sync._sync", &[]);
                let all: Vec<u32> =
                    all.iter().filter_map(|row| row[0].as_deref()?.parse().ok()).collect();
                self.slot.keep_progress_of(&all);
            }
            Ok(Some(read_syncs()))
        })?;
        // A sync that has ended may have left triggers behind.
        self.tidy_at = Some(Instant::now());
        let Some(mut stored) = stored else { return self.leave_what_is_gone() };
        stored.retain(|s| self.slot.keeper(s.0.id as u32) == self.number);
        self.configure_outlets()?;
        self.keep_descriptions(stored.iter().map(|(stored, _)| stored));
        let mut before = std::mem::take(&mut self.syncs);
        // What an earlier worker has read or written beyond a cursor nobody remembers.
        // SAFETY: reads a counter.
        let unknown = transaction(|| Ok(unsafe { pg_sys::ReadNextFullTransactionId().value }))?;
        let known: Vec<i32> = stored.iter().map(|s| s.0.id).collect();
        for (mut stored, cursor) in stored {
            let id = stored.id;
            if let Some(old) = before.get(&id) {
                match local_schema::follow(&stored, &old.plan)? {
                    Followed::On(None) => {}
                    Followed::On(Some(document)) => stored.document = document,
                    Followed::Paused => {
                        self.resting.extend(before.remove(&id).map(|old| (id, old.known)));
                        continue;
                    }
                }
            }
            let plan = as_owner(stored.owner, &stored.search_path, true, || {
                let plan = plan::compile(stored.clone())?;
                link::check_key(&plan)?;
                Ok(plan)
            });
            let plan = plan.and_then(|mut plan| {
                let state = self.connect(&mut plan)?;
                Ok((plan, state))
            });
            let (plan, state) = match plan {
                Ok(made) => made,
                Err(failure) if failure.sqlstate == UNDESCRIBED => {
                    self.want_description(&stored, 0);
                    self.resting.extend(before.remove(&id).map(|old| (id, old.known)));
                    continue;
                }
                Err(_) if self.ask_about_dropped(&stored)? => {
                    self.broken.remove(&id);
                    if let Some(old) = before.remove(&id) {
                        self.resting.insert(id, old.known);
                    }
                    continue;
                }
                Err(failure) => {
                    self.note_trouble(id, Some(&failure))?;
                    let tries = self.broken.get(&id).map_or(0, |b| b.2) + 1;
                    // Over there it may be mended.
                    self.want_description(&stored, tries);
                    self.broken.insert(
                        id,
                        (
                            failure,
                            Instant::now() + Duration::from_secs(u64::from(tries.min(60))),
                            tries,
                        ),
                    );
                    if let Some(old) = before.remove(&id) {
                        self.resting.insert(id, old.known);
                    }
                    continue;
                }
            };
            let was_broken = self.broken.remove(&id).is_some();
            if was_broken {
                self.note_trouble(id, None)?;
            }
            let old = before.get(&id).map(|s| &s.plan);
            transaction(|| {
                load::widen(&plan);
                for side in merge::Side::BOTH.into_iter().filter(|&s| plan.captured(s)) {
                    // A column that was dropped and made again has other values.
                    if was_broken || old.is_some_and(|o| o.side(side).replaced_in(plan.side(side)))
                    {
                        load::request(id, side, load::Kind::Rows, "the table was changed");
                    }
                }
                Ok(())
            })?;
            let (loads, queued, (verdict, pulled), trouble) = transaction(|| {
                let row = sql::read(
                    "SELECT decision, reason FROM sync._sync WHERE id = $1",
                    &[Arg::Int4(id)],
                );
                let text = |n: usize| row.first().and_then(|r| r[n].clone());
                let trouble = text(1).map(|reason| Failure::new("", reason));
                let verdict = match text(0).as_deref() {
                    Some("confirmed") => (Some(Verdict::Confirmed), None),
                    Some("discarded") => (Some(Verdict::Discarded), None),
                    Some("pull confirmed") => (None, Some(Verdict::Confirmed)),
                    Some("pull discarded") => (None, Some(Verdict::Discarded)),
                    _ => (None, None),
                };
                Shapes::store(&plan.base);
                Ok((load::read(&plan), queue::marks(id), verdict, trouble))
            })?;
            let mut sync = Sync::new(plan, cursor, loads, queued);
            sync.remote = state;
            let had = before
                .get(&id)
                .is_some_and(|old| old.remote.is_some() && sync.plan.speaks_alike(&old.plan));
            if let Some(old) = before.remove(&id) {
                sync.inherit(old);
            } else if let Some(known) = self.resting.remove(&id) {
                sync.known = known;
            } else {
                sync.known.below = [unknown; 2];
            }
            if sync.remote.is_some() && !had {
                sync.take_up()?;
            }
            sync.keep_pace()?;
            sync.keep_looks()?;
            (sync.verdict, sync.pulled) = (verdict, pulled);
            // What sync.status says of it is taken back by the first work that succeeds.
            sync.trouble = sync.trouble.or(trouble);
            self.syncs.insert(id, sync);
        }
        let syncs = &self.syncs;
        (self.order, self.families) = transaction(|| {
            queue::look_who_waits();
            Ok(parents_first(syncs))
        })?;
        for (n, id) in self.order.iter().enumerate() {
            if let Some(sync) = self.syncs.get_mut(id) {
                let before = self.order[..n].iter().copied();
                sync.parents = before.filter(|&parent| sync.plan.refers_to(parent)).collect();
            }
        }
        self.resting.extend(before.into_iter().map(|(id, sync)| (id, sync.known)));
        self.broken.retain(|id, _| known.contains(id));
        upkeep::touch_all();
        self.tick = None;
        Ok(())
    }

    /// A table of the sync was dropped: stops it and asks, because that never means to delete its rows
    /// elsewhere. False if both are there.
    fn ask_about_dropped(&self, stored: &Stored) -> Result<bool, Failure> {
        transaction(|| {
            let Some(sentence) = plan::dropped(stored) else { return Ok(false) };
            sql::query(
                "UPDATE sync._sync SET state = 'needs decision', decision = 'dropped', reason = $2, changed_at = pg_catalog.clock_timestamp()
                  WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(stored.id), Arg::Text(&sentence)],
            );
            Ok(true)
        })
    }

    /// What the user reads in `sync.status` of a sync that cannot work.
    pub(super) fn note_trouble(&self, id: i32, failure: Option<&Failure>) -> Result<(), Failure> {
        let text = failure.map(|f| {
            let mut text = f.message.clone();
            for more in [&f.detail, &f.hint].into_iter().flatten() {
                text.push_str(" - ");
                text.push_str(more);
            }
            text
        });
        let state = failure.map(|f| f.sqlstate.clone());
        transaction(|| {
            sql::query(
                "UPDATE sync._sync SET reason = $2 WHERE id = $1 AND state = 'running'",
                &[Arg::Int4(id), Arg::OptText(text.as_deref())],
            );
            if let (Some(state), Some(failure)) = (&state, failure) {
                sql::query(
                    "INSERT INTO sync._error (sync, attempt, sqlstate, message, detail, hint) VALUES ($1, 1, $2, $3, $4, $5)",
                    &[
                        Arg::Int4(id),
                        Arg::Text(state),
                        Arg::Text(&failure.message),
                        Arg::OptText(failure.detail.as_deref()),
                        Arg::OptText(failure.hint.as_deref()),
                    ],
                );
            }
            Ok(())
        })
    }
}

/// The syncs, those that write the parents of a foreign key before those that write its children;
/// and for each the lowest of those that foreign keys connect it with.
fn parents_first(syncs: &BTreeMap<i32, Sync>) -> (Vec<i32>, HashMap<i32, i32>) {
    let keys: Vec<(u32, u32)> = sql::read(
        "SELECT DISTINCT conrelid, confrelid FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conrelid <> confrelid",
        &[],
    )
    .into_iter()
    .filter_map(|row| Some((row[0].as_deref()?.parse().ok()?, row[1].as_deref()?.parse().ok()?)))
    .collect();
    let writes = |sync: &Sync, table: u32| {
        merge::Side::BOTH.into_iter().any(|side| {
            sync.plan.flows_from(side.other()) && sync.plan.side(side).oid.to_u32() == table
        })
    };
    let waits_for = |child: i32, parent: i32| {
        syncs[&child].plan.refers_to(parent)
            || keys.iter().any(|&(c, p)| writes(&syncs[&child], c) && writes(&syncs[&parent], p))
    };
    let mut families: HashMap<i32, i32> = syncs.keys().map(|&id| (id, id)).collect();
    for (&child, &parent) in syncs.keys().flat_map(|c| syncs.keys().map(move |p| (c, p))) {
        let (one, other) = (families[&child], families[&parent]);
        if one != other && waits_for(child, parent) {
            let (into, from) = (one.min(other), one.max(other));
            families.values_mut().filter(|f| **f == from).for_each(|f| *f = into);
        }
    }
    let mut order = Vec::with_capacity(syncs.len());
    let mut rest: Vec<i32> = syncs.keys().copied().collect();
    while !rest.is_empty() {
        let free = |id: &i32| !rest.iter().any(|other| other != id && waits_for(*id, *other));
        // In a circle somebody has to be first; whoever is too early waits for his parent.
        let next = rest.iter().copied().find(free).unwrap_or(rest[0]);
        rest.retain(|&id| id != next);
        order.push(next);
    }
    (order, families)
}

/// The syncs that are to run, with their cursors.
fn read_syncs() -> Vec<(Stored, Cursor)> {
    read_cursors("s.state = 'running' AND (s.target IS NOT NULL OR s.connection IS NOT NULL)")
}

/// The syncs of which this is true, with their cursors.
pub(super) fn read_cursors(which: &str) -> Vec<(Stored, Cursor)> {
    sql::read(
        &format!(
            "SELECT {}, c.seen, c.frozen, c.seq
               FROM sync._sync s JOIN sync._cursor c ON c.sync = s.id
              WHERE {which}
                AND s.installation = (SELECT i.id FROM sync._installation i)
              ORDER BY s.id",
            plan::STORED
        ),
        &[],
    )
    .into_iter()
    .filter_map(|row| {
        let text = |n: usize| row[n].as_deref();
        Some((
            Stored::of(&row)?,
            Cursor {
                seen: Snapshot::parse(text(9)?)?,
                frozen: text(10).and_then(Snapshot::parse),
                seq: text(11)?.parse().ok()?,
            },
        ))
    })
    .collect()
}
