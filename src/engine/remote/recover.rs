//! Finds out what became of calls that were not answered, and whether a record that is to be created is
//! there already. The other system is read before anything is sent again: repeating a write would
//! overwrite what somebody has changed since.

use super::intent::{self, Op};
use super::push::{self, Sent};
use super::settle::{at_of, deleted_half, remote_half};
use super::{Purpose, Request, State, values};
use crate::engine::collect::Half;
use crate::engine::link::Links;
use crate::engine::plan::Plan;
use crate::engine::queue::{self, Parked};
use crate::engine::shapes::Shapes;
use crate::engine::sync::{Sync, flush};
use crate::log::history;
use crate::worker::transaction::{Failure, transaction};
use bumpalo::Bump;
use change::image::Value;
use connector::{Before, Done, Kind, Outcome, Record};
use merge::Side;
use std::time::{Duration, Instant};

/// A create whose call was not answered may be carried out this long after it was sent.
const LATE: Duration = Duration::from_secs(10);
/// The other system's clock may be off by so much from what we take it for.
const CLOCK: Duration = Duration::from_secs(5);

/// Asks what became of the intents of which nobody knows, all of which may have been sent.
pub fn ask(plan: &Plan, state: &mut State) {
    let unsure = std::mem::take(&mut state.unsure);
    let (creates, rest): (Vec<Sent>, Vec<Sent>) =
        unsure.into_iter().partition(|s| s.intent.op == Op::Create);
    let mut rest = rest.into_iter().peekable();
    while rest.peek().is_some() {
        let piece: Vec<Sent> = rest.by_ref().take(state.can.max_fetch).collect();
        let ids = piece.iter().filter_map(|s| s.intent.id.clone()).collect();
        state.call(Request::Fetch { ids }, Purpose::Recover(piece));
    }
    let (named, unnamed): (Vec<Sent>, Vec<Sent>) =
        creates.into_iter().partition(|s| s.intent.identity.is_some());
    look_up(plan, state, named, None);
    look_up(plan, state, unnamed, None);
}

/// Looks creates up that may have been carried out.
fn look_up(plan: &Plan, state: &mut State, creates: Vec<Sent>, not_before: Option<Instant>) {
    let Some((_, object)) = plan.remote() else { return };
    let Some(first) = creates.first() else { return };
    let request = if let (Some(_), Some(identity)) = (&first.intent.identity, &object.identity) {
        Request::Find {
            field: connector::Column {
                name: identity.field.clone(),
                kind: Kind::Text,
                ..connector::Column::default()
            },
            values: creates.iter().filter_map(|s| s.intent.identity.clone()).collect(),
        }
    } else {
        let made = creates.iter().map(|s| s.intent.made_at).min().unwrap_or_default();
        let at = made + state.clock_offset_ms - CLOCK.as_millis() as i64;
        Request::CreatedSince { at: moment_text(at) }
    };
    state.call_later(request, Purpose::RecoverCreates(creates), not_before);
}

/// A moment in milliseconds since 1970 as a mark has it.
pub fn moment_text(ms: i64) -> String {
    let (day, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days from 1970 to 2000, from which history counts its days.
    let date = history::name_of(day - 10_957);
    let (seconds, ms) = (rest / 1000, rest % 1000);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}-{}-{}T{h:02}:{m:02}:{s:02}.{ms:03}Z", &date[..4], &date[4..6], &date[6..])
}

/// Sorts records by the value they were looked for by, which is the last one of each.
pub fn by_last_value(
    sent: &[Sent],
    records: Vec<Record>,
    wanted: impl Fn(&Sent) -> Option<&str>,
) -> Vec<Vec<Record>> {
    let mut found: Vec<Vec<Record>> = vec![Vec::new(); sent.len()];
    for mut record in records {
        let Some(Some(value)) = record.values.pop() else { continue };
        let place = sent.iter().position(|s| wanted(s) == Some(value.as_str())).or_else(|| {
            sent.iter().position(|s| wanted(s).is_some_and(|w| w.eq_ignore_ascii_case(&value)))
        });
        if let Some(place) = place {
            found[place].push(record);
        }
    }
    found
}

impl Sync {
    /// Updates and deletes that were not answered: what the records hold now decides.
    pub(super) fn recover(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        sent: Vec<Sent>,
        records: Vec<Option<Record>>,
    ) -> Result<(), Failure> {
        let there: Vec<Record> = records.iter().flatten().cloned().collect();
        if self.asks_about_losses(shapes, &there)? {
            if let Some(state) = &mut self.remote {
                state.unsure.extend(sent);
            }
            return Ok(());
        }
        let bump = Bump::new();
        let mut halves = Vec::new();
        let mut carried_out: Vec<(Sent, Outcome)> = Vec::new();
        let mut again = Vec::new();
        for (mut one, record) in sent.into_iter().zip(records) {
            let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
            let intent = &one.intent;
            let Some(id) = intent.id.clone() else { continue };
            let gone = record.as_ref().is_none_or(|record| record.deleted);
            match (record, intent.op) {
                (_, Op::Delete) if gone => {
                    let result = Ok(Done::Deleted);
                    carried_out.push((one, Outcome { result, before: Before::NotRead }));
                }
                (Some(record), _) if record.deleted => {
                    // What arrived of the update before is seen by what the record held last.
                    let (plan, key) = (&self.plan, values::key_of(self.plan.side(remote), &id));
                    let (key, own) = (key.unwrap_or_default(), one.intent.key.clone());
                    let (key, own) = (&*bump.alloc_slice_copy(&key), &*bump.alloc_slice_copy(&own));
                    let offset = self.remote.as_ref().map_or(0, |state| state.clock_offset_ms);
                    let half = Half::unread(remote.other(), own, one.intent.at);
                    halves.push(Half { both: false, ..half });
                    halves.push(transaction(|| {
                        Ok(deleted_half(&bump, plan, remote, key, &record, offset))
                    })?);
                    again.push(one);
                }
                (None, _) => {
                    let result = Ok(Done::Gone);
                    carried_out.push((one, Outcome { result, before: Before::NotRead }));
                }
                (Some(record), op) => {
                    let table = self.plan.side(remote);
                    let key = values::key_of(table, &id).unwrap_or_default();
                    let key = &*bump.alloc_slice_copy(&key);
                    let Some(state) = &self.remote else { return Ok(()) };
                    let (plan, intent) = (&self.plan, &one.intent);
                    let read = transaction(|| {
                        let row = values::row(&bump, table, &id, &record.values)?;
                        let at = at_of(plan, state, row, &record.version);
                        let arrived = op == Op::Update
                            && intent::decode(&bump, plan, shapes, one.layout, intent)
                                .is_some_and(|meant| holds(plan, row, meant.side(remote), true));
                        Ok((row, at, arrived))
                    })?;
                    let (row, at, arrived) = read;
                    if arrived {
                        one.fields = (0..self.plan.fields.len()).collect();
                        let result = Ok(Done::Updated { id });
                        carried_out.push((one, Outcome { result, before: Before::NotRead }));
                    } else {
                        // Merged anew, with what is there now.
                        let local = remote.other();
                        let own = &*bump.alloc_slice_copy(&one.intent.key);
                        let mut half = Half::unread(local, own, one.intent.at);
                        half.both = false;
                        halves.push(half);
                        halves.push(remote_half(remote, key, row, at));
                        again.push(one);
                    }
                }
            }
        }
        self.decide_anew(&again)?;
        self.merge_anew(epoch, shapes, &bump, halves)?;
        if carried_out.is_empty() {
            return Ok(());
        }
        let (sent, outcomes) = carried_out.into_iter().unzip();
        self.settle_written(epoch, shapes, sent, outcomes)
    }

    /// Takes intents away that will be made anew if they are still needed.
    fn forget(&mut self, sent: &[Sent], outcome: u8) -> Result<(), Failure> {
        if sent.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = sent.iter().map(|s| s.intent.number).collect();
        let id = self.plan.id;
        transaction(|| {
            intent::settle(id, &numbers, outcome);
            Ok(())
        })?;
        if let Some(state) = &mut self.remote {
            for one in sent {
                state.leave_lane(&self.plan, &one.intent);
            }
        }
        self.next_due = Some(Instant::now());
        Ok(())
    }

    /// Creates that were not answered: one that is there is taken for what it is, one that is not is
    /// sent again, but not before a late one could have arrived.
    pub(super) fn recover_creates(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        sent: Vec<Sent>,
        records: Vec<Record>,
    ) -> Result<(), Failure> {
        let named = sent.first().is_some_and(|s| s.intent.identity.is_some());
        let found = if named {
            by_last_value(&sent, records, |s| s.intent.identity.as_deref())
        } else {
            self.match_by_values(shapes, &sent, records)?
        };
        let mut there = Vec::new();
        let mut outcomes = Vec::new();
        let mut edits = Vec::new();
        let mut missing = Vec::new();
        let mut doubtful = Vec::new();
        for (one, mut records) in sent.into_iter().zip(found) {
            match records.len() {
                0 => missing.push(one),
                1 => {
                    if let Some(record) = records.pop() {
                        outcomes.push(Outcome {
                            result: Ok(Done::Created { id: record.id.clone() }),
                            before: Before::NotRead,
                        });
                        edits.push(record);
                        there.push(one);
                    }
                }
                _ => doubtful.push(one),
            }
        }
        self.send_again(shapes, missing)?;
        self.review(
            &doubtful,
            "more than one record could be the one that was created for the row",
            Parked::InDoubt,
        )?;
        if there.is_empty() {
            return Ok(());
        }
        self.settle_written(epoch, shapes, there, outcomes)?;
        // Where they are no longer as they were sent, somebody has changed them since.
        self.take_records(epoch, shapes, edits)
    }

    fn send_again(&mut self, shapes: &mut Shapes, missing: Vec<Sent>) -> Result<(), Failure> {
        let Self { plan, remote: Some(state), .. } = self else { return Ok(()) };
        let (mut ready, mut later, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for mut one in missing {
            one.tries += 1;
            if one.write.is_none() {
                one.write = transaction(|| Ok(push::rebuild(plan, shapes, &one)))?;
            }
            let age = push::unix_ms() - one.intent.made_at;
            if one.write.is_none() {
                // Nobody can say any more what was sent: it is decided anew from the row.
                lost.push(one);
            } else if one.intent.identity.is_some() || age >= LATE.as_millis() as i64 {
                one.intent.op = Op::Create;
                ready.push(one);
            } else {
                later.push(one);
            }
        }
        push::dispatch(plan, state, ready, None);
        look_up(plan, state, later, Some(Instant::now() + LATE / 4));
        self.decide_anew(&lost)
    }

    pub(super) fn decide_anew(&mut self, sent: &[Sent]) -> Result<(), Failure> {
        if sent.is_empty() {
            return Ok(());
        }
        let Some(local) = intent::local_side(&self.plan) else { return Ok(()) };
        let Self { plan, queued, .. } = self;
        let done = transaction(|| {
            for one in sent {
                let (key, at) = (&one.intent.key, one.intent.at);
                queue::park(plan, local, key, None, at, &Parked::Again, queued);
            }
            Ok(())
        });
        queued.finish(done.is_ok());
        done?;
        self.forget(sent, history::AGAIN)
    }

    /// Puts records before a person.
    fn review(
        &mut self,
        sent: &[Sent],
        why: &str,
        parked: fn(Failure) -> Parked,
    ) -> Result<(), Failure> {
        self.set_before_a_person(sent, parked, |_| Failure {
            sqlstate: "21000".into(),
            message: why.into(),
            detail: Some("Which one belongs to it is not for the sync to guess.".into()),
            hint: Some("Make the records distinguishable, or name an external-id field in \"identity\"; then send the row with sync.push, or delete it if its record has come as a row of its own.".into()),
        })
    }

    fn set_before_a_person(
        &mut self,
        sent: &[Sent],
        parked: fn(Failure) -> Parked,
        why: impl Fn(&Sent) -> Failure,
    ) -> Result<(), Failure> {
        if sent.is_empty() {
            return Ok(());
        }
        let Some(local) = intent::local_side(&self.plan) else { return Ok(()) };
        let Self { plan, queued, .. } = self;
        let done = transaction(|| {
            for one in sent {
                let (key, at) = (&one.intent.key, one.intent.at);
                queue::park(plan, local, key, None, at, &parked(why(one)), queued);
            }
            Ok(())
        });
        queued.finish(done.is_ok());
        done?;
        self.forget(sent, history::PARKED)
    }

    /// Of rows whose record was looked for and is not there, those that may be created, and those that may not: a row
    /// that was never linked and holds the id of a record belonged to that one, which was deleted when nobody watched.
    fn without_record(
        &mut self,
        shapes: &mut Shapes,
        missing: Vec<Sent>,
    ) -> Result<(Vec<Sent>, Vec<Sent>), Failure> {
        let Self { plan, places, .. } = self;
        let (Some((remote, _)), Some(&(source, target))) = (plan.remote(), plan.match_on.first())
        else {
            return Ok((missing, Vec::new()));
        };
        let theirs = if remote == Side::Source { source } else { target };
        if missing.is_empty() || !plan.side(remote).key.contains(&theirs) {
            return Ok((missing, Vec::new()));
        }
        let bump = Bump::new();
        transaction(|| {
            let mut links = Links::open(plan, places);
            let apart = missing.into_iter().partition(|one| {
                links.find(&bump, shapes, remote.other(), &one.intent.key).is_some()
            });
            links.close();
            Ok(apart)
        })
    }

    fn review_strange(&mut self, sent: &[Sent]) -> Result<(), Failure> {
        self.set_before_a_person(sent, Parked::Review, |one| Failure {
            sqlstate: "02000".into(),
            message: "the row holds the id of a record that the other system does not have".into(),
            detail: one.look.as_ref().map(|id| {
                format!("The id is {id}. The record was deleted there, or the user of the connection may not see it.")
            }),
            hint: Some("Delete the row if the record is gone; or empty the column with the id, and a record is created for the row.".into()),
        })
    }

    /// Which of the records that were created since could be those that were sent: the ones that hold
    /// what was sent and belong to nobody.
    fn match_by_values(
        &mut self,
        shapes: &mut Shapes,
        sent: &[Sent],
        records: Vec<Record>,
    ) -> Result<Vec<Vec<Record>>, Failure> {
        let Self { plan, places, .. } = self;
        let mut found: Vec<Vec<Record>> = vec![Vec::new(); sent.len()];
        let Some((remote, _)) = plan.remote() else { return Ok(found) };
        let bump = Bump::new();
        let table = plan.side(remote);
        transaction(|| {
            let mut links = Links::open(plan, places);
            let mut free = Vec::new();
            for record in records {
                let key = values::key_of(table, &record.id).unwrap_or_default();
                if links.find(&bump, shapes, remote, &key).is_none_or(|l| l.deleted) {
                    let row = values::row(&bump, table, &record.id, &record.values)?;
                    free.push((record, row));
                }
            }
            links.close();
            let meant: Vec<_> = sent
                .iter()
                .map(|s| intent::decode(&bump, plan, shapes, s.layout, &s.intent))
                .collect();
            // Rows that were sent with the same values are as good as one another: each takes one.
            let mut alike: Vec<Vec<usize>> = vec![Vec::new(); sent.len()];
            let mut first: Vec<usize> = (0..sent.len()).collect();
            for n in 0..sent.len() {
                if let Some(twin) = (0..n).find(|&t| {
                    meant[t].as_ref().map(|b| b.side(remote))
                        == meant[n].as_ref().map(|b| b.side(remote))
                }) {
                    first[n] = first[twin];
                }
                alike[first[n]].push(n);
            }
            for group in alike.into_iter().filter(|g| !g.is_empty()) {
                let Some(base) = &meant[group[0]] else { continue };
                let fits: Vec<usize> = (0..free.len())
                    .filter(|&f| holds(plan, free[f].1, base.side(remote), false))
                    .collect();
                if fits.len() > group.len() {
                    for &n in &group {
                        found[n] = fits.iter().map(|&f| free[f].0.clone()).collect();
                    }
                } else {
                    for (&n, &f) in group.iter().zip(&fits) {
                        found[n].push(free[f].0.clone());
                    }
                }
            }
            // Somebody may have changed one already. It is the row's if it still holds half of what was sent,
            // and no other row or record comes into question.
            free.retain(|(record, _)| !found.iter().flatten().any(|r| r.id == record.id));
            let likeness = |n: usize, row: &[Value<'_>]| {
                meant[n].as_ref().map_or((0, 0), |base| likeness(plan, row, base.side(remote)))
            };
            let open: Vec<usize> = (0..sent.len()).filter(|&n| found[n].is_empty()).collect();
            for &n in &open {
                for (record, row) in &free {
                    let (alike, of) = likeness(n, row);
                    let others = open.iter().filter(|&&o| o != n && likeness(o, row).0 > 0).count();
                    if alike > 0 {
                        found[n].push(record.clone());
                    }
                    if alike > 0 && (2 * alike < of || others > 0) {
                        // Doubtful whose it is.
                        found[n].push(record.clone());
                    }
                }
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Was a record there already of which a create was decided? Then the two are paired.
    pub(super) fn found_existing(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        sent: Vec<Sent>,
        found: Vec<Vec<Record>>,
    ) -> Result<(), Failure> {
        let (mut missing, mut doubtful, mut there, mut pairs) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (one, mut records) in sent.into_iter().zip(found) {
            match (records.pop(), records.len()) {
                (None, _) => missing.push(one),
                (Some(record), 0) => {
                    pairs.push(record);
                    there.push(one);
                }
                _ => doubtful.push(one),
            }
        }
        self.review(
            &doubtful,
            "more than one record of the other system matches the row",
            Parked::Review,
        )?;
        let (mut missing, strange) = self.without_record(shapes, missing)?;
        self.review_strange(&strange)?;
        if !there.is_empty() {
            let pairs = self.pair_existing(shapes, &there, pairs)?;
            self.forget(&there, history::AGAIN)?;
            self.take_records(epoch, shapes, pairs)?;
        }
        if missing.is_empty() {
            return Ok(());
        }
        let numbers: Vec<i64> = missing.iter().map(|s| s.intent.number).collect();
        let id = self.plan.id;
        transaction(|| {
            intent::becomes_create(id, &numbers);
            Ok(())
        })?;
        flush();
        for one in &mut missing {
            one.intent.op = Op::Create;
            one.intent.made_at = push::unix_ms();
        }
        let Self { plan, remote: Some(state), .. } = self else { return Ok(()) };
        push::dispatch(plan, state, missing, None);
        Ok(())
    }

    /// Links rows with the records that were found for them. Nothing has been agreed on yet: what the
    /// row holds is an edit, and what the record holds is what the other side is known to be.
    fn pair_existing(
        &mut self,
        shapes: &mut Shapes,
        sent: &[Sent],
        records: Vec<Record>,
    ) -> Result<Vec<Record>, Failure> {
        let Self { plan, places, queued, .. } = self;
        let Some((remote, _)) = plan.remote() else { return Ok(records) };
        let (local, table) = (remote.other(), plan.side(remote));
        let bump = Bump::new();
        let mut paired = Vec::new();
        let done = transaction(|| {
            paired.clear();
            let mut links = Links::open(plan, places);
            for (one, record) in sent.iter().zip(&records) {
                let key = values::key_of(table, &record.id).unwrap_or_default();
                let at = one.intent.at;
                let taken = links.find(&bump, shapes, remote, &key).filter(|l| !l.deleted);
                if let Some(taken) = taken
                    && taken.key_of(local) != one.intent.key
                {
                    let failure = Failure {
                        sqlstate: "21000".into(),
                        message: "the record that matches the row belongs to another row already"
                            .into(),
                        detail: Some(format!("Its id is {}.", record.id)),
                        hint: Some(
                            "Make the columns of \"match_on\" unique, then retry the record."
                                .into(),
                        ),
                    };
                    queue::park(
                        plan,
                        local,
                        &one.intent.key,
                        None,
                        at,
                        &Parked::Review(failure),
                        queued,
                    );
                    continue;
                }
                let row = values::row(&bump, table, &record.id, &record.values)?;
                let held = |n: usize| {
                    plan.fields[n].column[remote as usize].map_or(Value::Null, |c| row[c])
                };
                let fields = plan.fields.len();
                let unknown = vec![Value::Marker; fields];
                let known: Vec<Value<'_>> = (0..fields)
                    .map(|n| if plan.flows_from(remote) { Value::Marker } else { held(n) })
                    .collect();
                let (source, target) =
                    if remote == Side::Source { (known, unknown) } else { (unknown, known) };
                let base = merge::Base { source, target };
                let over = links.find(&bump, shapes, local, &one.intent.key);
                let (s, t) = if remote == Side::Source {
                    (key.as_slice(), one.intent.key.as_slice())
                } else {
                    (one.intent.key.as_slice(), key.as_slice())
                };
                links.put(over.as_ref(), s, t, &base, over.as_ref().map_or(0, |l| l.standing));
                queue::park(plan, local, &one.intent.key, None, at, &Parked::Again, queued);
                paired.push(record.clone());
            }
            links.close();
            Ok(())
        });
        queued.finish(done.is_ok());
        done?;
        Ok(paired)
    }

    /// Merges records as they were just read.
    pub(super) fn take_records(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        records: Vec<Record>,
    ) -> Result<(), Failure> {
        let bump = Bump::new();
        let Some((remote, _)) = self.plan.remote() else { return Ok(()) };
        let (plan, Some(state)) = (&self.plan, &self.remote) else { return Ok(()) };
        let table = plan.side(remote);
        let halves = transaction(|| {
            let mut halves = Vec::new();
            for record in &records {
                let key = values::key_of(table, &record.id).unwrap_or_default();
                let row = values::row(&bump, table, &record.id, &record.values)?;
                let at = at_of(plan, state, row, &record.version);
                halves.push(remote_half(remote, bump.alloc_slice_copy(&key), row, at));
            }
            Ok(halves)
        })?;
        self.merge_anew(epoch, shapes, &bump, halves)
    }
}

/// How many of the values that were meant for a record it holds, and of how many.
fn likeness(plan: &Plan, row: &[Value<'_>], meant: &[Value<'_>]) -> (usize, usize) {
    let Some((remote, _)) = plan.remote() else { return (0, 0) };
    let (r, l) = (remote as usize, remote.other() as usize);
    let sent = plan.fields.iter().zip(meant).filter_map(|(field, &meant)| {
        let column = field.column[r].filter(|_| field.how[l].is_some())?;
        matches!(meant, Value::Bytes(_)).then_some(row[column] == meant)
    });
    sent.fold((0, 0), |(alike, of), same| (alike + usize::from(same), of + 1))
}

/// Does a record of the other system hold what it was meant to? What was created without a value may have got one there;
/// what an update has `emptied` has none.
fn holds(plan: &Plan, row: &[Value<'_>], meant: &[Value<'_>], emptied: bool) -> bool {
    let Some((remote, _)) = plan.remote() else { return false };
    let (r, l) = (remote as usize, remote.other() as usize);
    plan.fields.iter().zip(meant).enumerate().all(|(n, (field, &meant))| match field.column[r] {
        Some(c) if field.how[l].is_some() && emptied && meant == Value::Null => row[c] == meant,
        Some(c) if field.how[l].is_some() || plan.marks[r] == Some(n) => {
            !matches!(meant, Value::Bytes(_)) || row[c] == meant
        }
        _ => true,
    })
}
