//! What the other system answered to a write: links, history, conflicts and queue follow, in one
//! transaction. What it held just before says whether somebody else had changed the record meanwhile.

use super::intent::{self, Op};
use super::push::{self, Sent};
use super::{State, values};
use crate::connection;
use crate::engine::apply::{self, Writers};
use crate::engine::collect::{Half, Seen};
use crate::engine::departed;
use crate::engine::link::Links;
use crate::engine::plan::Plan;
use crate::engine::queue::{self, Marks, Parked};
use crate::engine::references;
use crate::engine::resolve::{self, Readers, Record};
use crate::engine::settle::{self as peers, key_text};
use crate::engine::shapes::Shapes;
use crate::engine::sync::Sync;
use crate::log::history;
use crate::worker::transaction::{Failure, as_owner, transaction};
use bumpalo::Bump;
use change::image::Value;
use connector::{Before, Done, Fault, FaultKind, Outcome};
use merge::{Base, Decision, Side, Write};
use std::time::Instant;

/// So often a record is sent again, one after the other, for what passes by itself as a rule.
const MOST_TRIES: u32 = 3;

/// A field that was overwritten over there, and should not have been.
struct Restore<'b> {
    key: &'b [u8],
    row: &'b [Value<'b>],
    fields: Vec<usize>,
}

/// What is to be done once the writes are settled.
#[derive(Default)]
struct Follow<'b> {
    /// What the other system told of its records.
    halves: Vec<Half<'b>>,
    restores: Vec<Restore<'b>>,
    /// Records that were to be updated and are not there.
    vanished: bool,
}

impl Sync {
    /// Settles what was answered.
    ///
    /// # Errors
    /// Trouble of the sync as a whole; what was answered is then found out once more.
    pub(super) fn settle_written(
        &mut self,
        epoch: i32,
        shapes: &mut Shapes,
        sent: Vec<Sent>,
        outcomes: Vec<Outcome>,
    ) -> Result<(), Failure> {
        let (mut later, mut again): (Vec<Sent>, Vec<Sent>) = Default::default();
        let mut settled: Vec<(Sent, Outcome)> = Vec::new();
        {
            let Some(state) = &mut self.remote else { return Ok(()) };
            let missing = sent.len().saturating_sub(outcomes.len());
            let unanswered = (0..missing).map(|_| Outcome {
                result: Err(Fault::new(FaultKind::Ambiguous, "NO_ANSWER", "no answer came")),
                before: Before::NotRead,
            });
            for (mut one, outcome) in sent.into_iter().zip(outcomes.into_iter().chain(unanswered)) {
                match &outcome.result {
                    Err(fault) if fault.kind == FaultKind::Ambiguous => state.unsure.push(one),
                    // What does not pass is the record's own trouble, which is told and waits its turn: a lock that
                    // an approval holds, for one, lasts for days.
                    Err(fault)
                        if one.tries >= MOST_TRIES
                            && (fault.is_of_connection() || fault.kind == FaultKind::Cascade) =>
                    {
                        settled.push((one, outcome));
                    }
                    // What kept it from being carried out is not there any more: at once, while those that failed
                    // with it do the same.
                    Err(fault) if fault.kind == FaultKind::Cascade && one.tries == 0 => {
                        one.tries += 1;
                        again.push(one);
                    }
                    Err(fault)
                        if fault.is_of_connection()
                            || matches!(fault.kind, FaultKind::Cascade | FaultKind::Schema) =>
                    {
                        one.tries += 1;
                        later.push(one);
                    }
                    _ => settled.push((one, outcome)),
                }
            }
            // Nothing of these was carried out: they leave once more as they are.
            if let Some(tries) = later.iter().map(|s| s.tries).max() {
                let at = Instant::now() + push::pause(tries);
                push::dispatch(&self.plan, state, later, Some(at));
            }
            push::dispatch(&self.plan, state, again, None);
        }
        if settled.is_empty() {
            return Ok(());
        }
        let bump = Bump::new();
        let follow = match self.settle_in_one(&bump, shapes, &settled) {
            Ok(follow) => follow,
            Err(failure) => {
                // The answers are lost with the transaction: what became of the records is asked for.
                if let Some(state) = &mut self.remote {
                    state.unsure.extend(settled.into_iter().map(|(sent, _)| sent));
                }
                return Err(failure);
            }
        };
        if let Some(state) = &mut self.remote {
            for (one, outcome) in &settled {
                state.leave_lane(&self.plan, &one.intent);
                if let Ok(Done::Created { id } | Done::Updated { id }) = &outcome.result {
                    state.note_settled(&self.plan, id);
                }
            }
        }
        self.stamp();
        if follow.vanished {
            self.hurry_poll();
        }
        self.next_due = Some(Instant::now());
        for restore in &follow.restores {
            self.restore(&bump, shapes, restore)?;
        }
        self.merge_anew(epoch, shapes, &bump, follow.halves)
    }

    fn settle_in_one<'b>(
        &mut self,
        bump: &'b Bump,
        shapes: &mut Shapes,
        settled: &[(Sent, Outcome)],
    ) -> Result<Follow<'b>, Failure> {
        let Self { plan, places, queued, remote, .. } = self;
        let Some(state) = remote else { return Ok(Follow::default()) };
        let mut follow = Follow::default();
        let done = as_owner(plan.owner, &plan.search_path, false, || {
            follow = Follow::default();
            let marks = &mut *queued;
            let mut ends: [Vec<i64>; 3] = Default::default();
            let mut links = Links::open(plan, places);
            for (sent, outcome) in settled {
                let end =
                    one(bump, plan, state, shapes, &mut links, sent, outcome, marks, &mut follow)?;
                ends[end as usize].push(sent.intent.number);
            }
            links.close();
            for (numbers, letter) in
                ends.iter().zip([history::SYNCED, history::CONFLICT, history::PARKED])
            {
                intent::settle(plan.id, numbers, letter);
            }
            Ok(())
        });
        queued.finish(done.is_ok());
        done?;
        Ok(follow)
    }

    /// Brings a value back that was overwritten over there by an earlier change of ours: it becomes the
    /// local row's, and from there goes out again as an edit.
    fn restore<'b>(
        &mut self,
        bump: &'b Bump,
        shapes: &mut Shapes,
        restore: &Restore<'b>,
    ) -> Result<(), Failure> {
        let Self { plan, readers, writers, places, .. } = self;
        let Some((remote, _)) = plan.remote() else { return Ok(()) };
        let (r, l) = (remote as usize, remote.other() as usize);
        let mut record = transaction(|| {
            let mut links = Links::open(plan, places);
            let link = links.find(bump, shapes, remote.other(), restore.key);
            links.close();
            Ok(Record::new(link.filter(|l| !l.deleted)))
        })?;
        if record.link.is_none() {
            return Ok(());
        }
        record.seen[r] = Seen::Row(restore.row);
        let mut records = vec![record];
        evaluate_remote(bump, plan, readers, remote, &mut records)?;
        let mut decision = Decision {
            write: Default::default(),
            conflicts: Vec::new(),
            base: records[0].linked().and_then(|l| l.base.clone()),
        };
        decision.write[l] = Write::Update(restore.fields.clone());
        apply_local(bump, plan, writers, &records, &[decision])
    }
}

/// Evaluates what the other system's rows send, read-only.
fn evaluate_remote<'b>(
    bump: &'b Bump,
    plan: &Plan,
    readers: &mut Readers,
    remote: Side,
    records: &mut [Record<'b>],
) -> Result<(), Failure> {
    as_owner(plan.owner, &plan.search_path, true, || {
        resolve::evaluate(bump, plan, readers, remote, records);
        Ok(())
    })
}

/// Writes to the local side alone. A row that has moved is left alone: its own change decides.
fn apply_local<'b>(
    bump: &'b Bump,
    plan: &Plan,
    writers: &mut Writers,
    records: &[Record<'b>],
    decisions: &[Decision<'b>],
) -> Result<(), Failure> {
    as_owner(plan.owner, &plan.search_path, false, || {
        apply::apply(bump, plan, writers, records, decisions).map(drop)
    })
}

/// How the changes of a record end up in history.
#[derive(Clone, Copy)]
enum End {
    Synced = 0,
    Conflict = 1,
    Parked = 2,
}

#[allow(clippy::too_many_arguments)]
fn one<'b>(
    bump: &'b Bump,
    plan: &Plan,
    state: &State,
    shapes: &mut Shapes,
    links: &mut Links<'_>,
    sent: &Sent,
    outcome: &Outcome,
    marks: &mut Marks,
    follow: &mut Follow<'b>,
) -> Result<End, Failure> {
    let Some((remote, _)) = plan.remote() else { return Ok(End::Parked) };
    let local = remote.other();
    let intent = &sent.intent;
    let key = &*bump.alloc_slice_copy(&intent.key);
    match &outcome.result {
        Ok(Done::Deleted | Done::Gone | Done::Updated { .. }) if intent.op == Op::Delete => {
            let standing = departed::standing(plan, remote);
            if let Some(id) = &intent.id
                && let Some(remote_key) = values::key_of(plan.side(remote), id)
                && let Some(link) = links.find(bump, shapes, remote, &remote_key)
                && !link.deleted
            {
                let lost = match (&outcome.before, &link.base) {
                    (Before::There(record), Some(old)) if standing == 0 => {
                        let row = values::row(bump, plan.side(remote), id, &record.values)?;
                        note_deleted_over(plan, key, old, row, remote)
                    }
                    _ => false,
                };
                links.bury(&link, standing);
                if lost {
                    queue::sent(plan, local, key, marks);
                    return Ok(End::Conflict);
                }
            }
            queue::sent(plan, local, key, marks);
            Ok(End::Synced)
        }
        Ok(Done::Created { id } | Done::Updated { id }) => {
            agreed(bump, plan, state, shapes, links, sent, id, &outcome.before, marks, follow)
        }
        Ok(Done::Gone | Done::Deleted) => {
            follow.vanished = true;
            let failure = vanished(intent.id.as_deref());
            queue::park(plan, local, key, None, intent.at, &Parked::Failed(failure), marks);
            Ok(End::Parked)
        }
        Err(fault) => {
            let failure = connection::fault_to_failure(fault);
            let why = match fault.kind {
                FaultKind::Dependency => Parked::Parent(failure),
                FaultKind::Defect => Parked::Review(failure),
                _ => Parked::Failed(failure),
            };
            queue::park(plan, local, key, None, intent.at, &why, marks);
            Ok(End::Parked)
        }
    }
}

/// A record that was to be written is not there.
pub(super) fn vanished(id: Option<&str>) -> Failure {
    Failure {
        sqlstate: "P0002".into(),
        message: "the record is not there any more, or this user may no longer see it".into(),
        detail: id.map(|id| format!("Its id is {id}.")),
        hint: Some("If it was deleted, its deletion arrives with the next changes; if not, give the user of the connection the right to see it.".into()),
    }
}

/// Notes what somebody had changed of a record over there before it was deleted from here, unknown to us.
/// True if there was anything.
fn note_deleted_over(
    plan: &Plan,
    key: &[u8],
    old: &Base<'_>,
    row: &[Value<'_>],
    remote: Side,
) -> bool {
    let mut any = false;
    for (n, field) in plan.fields.iter().enumerate() {
        // What the other system sets by itself, such as the time of the last change, is nobody's edit.
        let column = field.column[remote as usize];
        let Some(c) = column.filter(|&c| !plan.side(remote).columns[c].generated) else { continue };
        let known = old.side(remote)[n];
        if field.how[remote as usize].is_some() && known.is_known() && row[c] != known {
            any = true;
            let times = [i64::MIN; 2];
            let winner = Some(remote.other());
            peers::note_overwritten(plan, key, n, old, None, row[c], remote, winner, times);
        }
    }
    any
}

/// The record is there, with what was sent.
#[allow(clippy::too_many_arguments)]
fn agreed<'b>(
    bump: &'b Bump,
    plan: &Plan,
    state: &State,
    shapes: &mut Shapes,
    links: &mut Links<'_>,
    sent: &Sent,
    id: &str,
    before: &Before,
    marks: &mut Marks,
    follow: &mut Follow<'b>,
) -> Result<End, Failure> {
    let Some((remote, _)) = plan.remote() else { return Ok(End::Parked) };
    let local = remote.other();
    let r = remote as usize;
    let table = plan.side(remote);
    let intent = &sent.intent;
    let key = &*bump.alloc_slice_copy(&intent.key);
    let Some(remote_key) = values::key_of(table, id) else { return Ok(End::Parked) };
    let remote_key = &*bump.alloc_slice_copy(&remote_key);
    if let Some(other) = links.find(bump, shapes, remote, remote_key)
        && !other.deleted
        && other.key_of(local) != key
    {
        let failure = Failure {
            sqlstate: "21000".into(),
            message: "the record belongs to another row already".into(),
            detail: Some(format!(
                "The other system took the row for its record {id}, which is linked to the row {}.",
                key_text(plan, local, other.key_of(local))
            )),
            hint: Some("Give the two rows different values in the column that is the identity, then retry the record.".into()),
        };
        queue::park(plan, local, key, None, intent.at, &Parked::Review(failure), marks);
        return Ok(End::Parked);
    }
    let over = links.find(bump, shapes, local, key);
    // Created anew, it has another id: what was agreed on of the one that is gone is no agreement on this.
    let same = over.as_ref().filter(|l| !l.deleted && l.key_of(remote) == remote_key);
    let old = same.and_then(|l| l.base.clone());
    let Some(meant) = intent::decode(bump, plan, shapes, sent.layout, intent) else {
        return Err(Failure::new("XX000", "the intent of a record cannot be read"));
    };
    let mut base = match (&old, intent.op) {
        (Some(old), Op::Update) => {
            let mut base = old.clone();
            for &field in &sent.fields {
                set(&mut base, &meant, field);
            }
            base
        }
        _ => meant.clone(),
    };
    let mut end = End::Synced;
    if let (Before::There(record), Some(old)) = (before, &old) {
        let row = values::row(bump, table, id, &record.values)?;
        let at = at_of(plan, state, row, &record.version);
        // What it holds now: as it was, with what was sent.
        let mut held = row.to_vec();
        let mut news = false;
        let mut restored = Vec::new();
        for (n, field) in plan.fields.iter().enumerate() {
            let Some(c) = field.column[r] else { continue };
            if sent.fields.contains(&n) {
                held[c] = meant.side(remote)[n];
            }
            let known = old.side(remote)[n];
            if field.how[r].is_none() || row[c] == known || !known.is_known() {
                continue;
            }
            if !sent.fields.contains(&n) {
                news = true;
            } else if row[c] != meant.side(remote)[n] {
                // Somebody changed over there what we have just overwritten.
                end = End::Conflict;
                let mut times = [i64::MIN; 2];
                (times[r], times[local as usize]) = (at, intent.at);
                let winner = plan.flows[n].rule.winner(times);
                peers::note_overwritten(
                    plan,
                    key,
                    n,
                    old,
                    Some(&meant),
                    row[c],
                    remote,
                    winner,
                    times,
                );
                if winner == Some(remote) {
                    restored.push(n);
                }
            }
        }
        if news {
            follow.halves.push(remote_half(remote, remote_key, bump.alloc_slice_copy(&held), at));
        }
        if !restored.is_empty() {
            follow.restores.push(Restore { key, row, fields: restored });
        }
    }
    if old.is_none() {
        // Its id, and nothing else, is news.
        let mut row = vec![Value::Null; table.columns.len()];
        for (n, field) in plan.fields.iter().enumerate() {
            if let Some(c) = field.column[r] {
                row[c] = base.side(remote)[n];
            }
        }
        for &k in &table.key {
            row[k] = Value::Bytes(bump.alloc_slice_copy(id.as_bytes()));
        }
        let wanted = plan
            .fields
            .iter()
            .any(|f| f.how[r].is_some() && f.column[r].is_some_and(|c| table.key.contains(&c)));
        if wanted {
            // What the side holds that nobody has told is not known.
            for (n, field) in plan.fields.iter().enumerate() {
                if field.how[r].is_some() && field.column[r].is_some_and(|c| table.key.contains(&c))
                {
                    unset(&mut base, remote, n);
                }
            }
            let row = bump.alloc_slice_copy(&row);
            follow.halves.push(remote_half(remote, remote_key, row, i64::MIN));
            // The row may hold an earlier id, of a record that is gone.
            follow.halves.push(Half { both: false, ..Half::unread(local, key, intent.at) });
        }
    }
    let (source, target) =
        if remote == Side::Source { (remote_key, key) } else { (key, remote_key) };
    links.put(over.as_ref(), source, target, &base, over.as_ref().map_or(0, |l| l.standing));
    queue::sent(plan, local, key, marks);
    let marked = plan.marks[r].is_some_and(|mark| sent.fields.contains(&mark));
    if marked || references::follows(plan, meant.side(local)) {
        follow.halves.push(Half { both: false, ..Half::unread(local, key, intent.at) });
    }
    Ok(end)
}

fn set<'b>(base: &mut Base<'b>, from: &Base<'b>, field: usize) {
    base.source[field] = from.source[field];
    base.target[field] = from.target[field];
}

fn unset(base: &mut Base<'_>, side: Side, field: usize) {
    match side {
        Side::Source => base.source[field] = Value::Null,
        Side::Target => base.target[field] = Value::Null,
    }
}

/// When a record of the other system was last changed, by our clock.
pub(super) fn at_of(plan: &Plan, state: &State, row: &[Value<'_>], version: &str) -> i64 {
    if let Some((side, column)) = plan.timestamp
        && plan.is_remote(side)
        && let Some(text) = values::text(row[column], &plan.side(side).columns[column])
    {
        return values::moment(&text, state.clock_offset_ms);
    }
    values::moment(version, state.clock_offset_ms)
}

/// What is known of a record of the other system.
pub(super) fn remote_half<'b>(
    side: Side,
    key: &'b [u8],
    row: &'b [Value<'b>],
    at: i64,
) -> Half<'b> {
    Half { seen: Seen::Row(row), both: false, ..Half::unread(side, key, at) }
}

/// A record of the other system that was deleted; `offset_ms`: of its clock. Inside a transaction. Whatever is known of its own row is taken in with it.
pub(super) fn deleted_half<'b>(
    bump: &'b Bump,
    plan: &Plan,
    side: Side,
    key: &'b [u8],
    record: &connector::Record,
    offset_ms: i64,
) -> Half<'b> {
    let at = values::moment(&record.version, offset_ms);
    // One value that cannot be read leaves the rest untold; the delete stands.
    let last = (!record.values.is_empty())
        .then(|| values::row(bump, plan.side(side), &record.id, &record.values).ok())
        .flatten();
    Half { seen: Seen::Gone, left: true, both: false, last, ..Half::unread(side, key, at) }
}
