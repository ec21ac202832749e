//! Runs a case and holds what came of it against what a sync promises. The numbers are those of the design.

use crate::bug::Bug;
use crate::case::{Case, Fate, Step};
use crate::engine::Sync;
use crate::value::{id, rounded};
use crate::world::World;
use change::snapshot::Snapshot;
use merge::Side;
use std::collections::BTreeSet;

/// What a run has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that users wrote or deleted.
    pub edits: u64,
    /// Rows that the worker wrote or deleted.
    pub writes: u64,
    pub conflicts: u64,
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `P1` and so on.
    pub promise: &'static str,
    /// What was found, and what had to be.
    pub what: String,
}

fn broken(promise: &'static str, what: impl Into<String>) -> Failure {
    Failure { promise, what: what.into() }
}

/// Rounds until everything has to be at rest.
const ROUNDS: usize = 120;

/// Runs a case.
///
/// # Errors
/// The first promise that was broken.
pub fn simulate(case: &Case, bug: Option<Bug>) -> Result<Report, Failure> {
    let mut world = World::new(case, bug);
    let mut syncs: Vec<Sync> =
        case.syncs.iter().enumerate().map(|(n, spec)| Sync::new(n, spec.clone(), &world)).collect();
    for (n, step) in case.steps.iter().enumerate() {
        world.step = n;
        world.now += 1;
        take(&mut world, &mut syncs, step);
    }
    for slot in 0..crate::case::OPEN {
        world.commit(slot);
    }
    let edits = world.users.len() as u64;
    come_to_rest(&mut world, &mut syncs)?;
    equal(&world, &syncs)?;
    nothing_lost(&world, &syncs)?;
    nothing_revived(&world, &syncs)?;
    in_order(&world, &syncs)?;
    let most = 8 * (edits + 1) * syncs.len() as u64;
    if world.writes > most {
        let what = format!("{} writes for {edits} edits and {} syncs", world.writes, syncs.len());
        return Err(broken("P6", what));
    }
    once_more(&mut world, &mut syncs)?;
    let conflicts = syncs.iter().map(|sync| sync.lost.len() as u64).sum();
    Ok(Report { edits, writes: world.writes, conflicts })
}

fn take(world: &mut World, syncs: &mut [Sync], step: &Step) {
    match *step {
        Step::User { transaction, side, key, deed } => world.user(transaction, side, key, deed),
        Step::There { side, key, deed } => world.there(side, key, deed),
        Step::Commit(slot) => world.commit(slot),
        Step::Abort(slot) => world.abort(slot),
        Step::Savepoint(slot) => world.savepoint(slot),
        Step::RollbackTo(slot) => world.roll_back_to(slot),
        Step::Work { sync, killed } => {
            if let Some(sync) = syncs.get_mut(sync) {
                sync.fetch(world);
                sync.work(world, killed);
            }
        }
        Step::Restart => syncs.iter_mut().for_each(|sync| sync.restart(world.bug)),
        Step::Call { sync, fate } => {
            if let Some(sync) = syncs.get_mut(sync) {
                sync.call(world, fate);
            }
        }
        Step::Ask(sync) => {
            if let Some(sync) = syncs.get_mut(sync) {
                sync.ask(world);
            }
        }
        Step::Told { sync, twice } => {
            if let Some(sync) = syncs.get_mut(sync) {
                sync.told(world, twice);
            }
        }
        Step::Clock { side, by } => {
            // Another system's clock may be wrong, but it is its own, and goes on.
            if let Some(side) = world.sides.get_mut(side).filter(|side| !side.remote) {
                side.skew += by;
            }
        }
    }
}

/// P6: users have stopped, everything is answered, and after a while nobody writes any more.
fn come_to_rest(world: &mut World, syncs: &mut [Sync]) -> Result<(), Failure> {
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let (writes, log) = (world.writes, world.log.len());
        for sync in syncs.iter_mut() {
            world.now += 1;
            sync.call(world, Fate::Answered);
            sync.call(world, Fate::Answered);
            sync.ask(world);
            sync.told(world, false);
            sync.fetch(world);
            sync.work(world, false);
        }
        let idle = syncs.iter().all(|sync| {
            sync.queue.is_empty() && sync.remote.as_ref().is_none_or(|remote| remote.is_idle())
        });
        let still = idle && (writes, log) == (world.writes, world.log.len());
        quiet = if still { quiet + 1 } else { 0 };
        if quiet == 3 {
            return Ok(());
        }
    }
    Err(broken("P6", format!("still writing after {ROUNDS} rounds without an edit")))
}

/// P1, and with it P8 and P11: whatever happened, all sides are equal in canonical form.
fn equal(world: &World, syncs: &[Sync]) -> Result<(), Failure> {
    for sync in syncs {
        let sides = Side::BOTH.map(|side| world.rows(sync.side(side)));
        let keys: BTreeSet<u32> = sides.iter().flat_map(|rows| rows.keys().copied()).collect();
        for key in keys {
            let rows = [sides[0].get(&key), sides[1].get(&key)];
            let flow = |side: Side| sync.flows_from(side);
            let what = |field: usize| {
                format!(
                    "sync {} {:?}: record {key} field {field} is {:?} on side {} and {:?} on side {}",
                    sync.number,
                    sync.spec.sides,
                    World::value_at(rows[0], field),
                    sync.side(Side::Source),
                    World::value_at(rows[1], field),
                    sync.side(Side::Target)
                )
            };
            match rows {
                [Some(source), Some(target)] => {
                    for field in 0..world.fields {
                        if sync.is_open(key, field) {
                            continue;
                        }
                        // What triggers and rounding change of a value is no difference.
                        let pair = [rounded(source[field]), rounded(target[field])];
                        if sync.is_left_empty(key, field, [source, target]) {
                            continue;
                        }
                        if pair[0] != pair[1] {
                            return Err(broken("P1", what(field)));
                        }
                    }
                }
                [Some(_), None] if flow(Side::Source) && !sync.is_open(key, 0) => {
                    return Err(broken("P1", what(0) + ", where it is missing"));
                }
                [None, Some(_)] if flow(Side::Target) && !sync.is_open(key, 0) => {
                    return Err(broken("P1", what(0) + ", where it is missing"));
                }
                [None, Some(_)]
                    if flow(Side::Source)
                        && sync.links.get(&key).is_some_and(Option::is_some)
                        && !sync.is_open(key, 0) =>
                {
                    return Err(broken("P1", what(0) + ", and is still linked"));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// P2, and with it P3: every value that a user committed is there, or was replaced by a user who saw it, or is the loser of
/// a recorded conflict. What a call wrote over whose answer was lost nobody can know.
fn nothing_lost(world: &World, syncs: &[Sync]) -> Result<(), Failure> {
    let mut accounted: BTreeSet<u32> = BTreeSet::new();
    for side in 0..world.sides.len() {
        accounted.extend(world.rows(side).values().flatten().flatten().map(|&value| id(value)));
    }
    accounted.extend(world.users.iter().flat_map(|told| told.over.iter().copied()));
    for sync in syncs {
        accounted.extend(sync.lost.iter().flat_map(|lost| lost.values.iter().copied()));
        accounted.extend(sync.remote.iter().flat_map(|remote| remote.unknown.iter().copied()));
    }
    for told in &world.users {
        if let Some(wrote) = told.wrote.filter(|wrote| !accounted.contains(wrote)) {
            let what = format!(
                "value {wrote} of record {}, written in step {}, is gone and was nobody's conflict",
                told.key, told.step
            );
            return Err(broken("P2", what));
        }
    }
    Ok(())
}

/// P4: a record that was deleted does not come back as it was.
fn nothing_revived(world: &World, syncs: &[Sync]) -> Result<(), Failure> {
    let mut last: std::collections::BTreeMap<u32, usize> = Default::default();
    for (n, told) in world.users.iter().enumerate() {
        last.insert(told.key, n);
    }
    for (key, n) in last {
        let told = &world.users[n];
        let again = |sync: &Sync| sync.remote.as_ref().is_some_and(|r| r.made_again.contains(&key));
        if !told.delete
            || syncs.iter().any(again)
            || syncs.iter().any(|sync| {
                (0..world.fields).any(|field| sync.is_open(key, field))
                    || sync.lost.iter().any(|lost| lost.key == key && lost.of_delete)
            })
        {
            continue;
        }
        for side in 0..world.sides.len() {
            let Some(row) = world.rows(side).get(&key).cloned() else { continue };
            let known = |value: &u32| told.over.contains(&id(*value));
            if row.iter().any(Option::is_some) && row.iter().flatten().all(known) {
                let what = format!(
                    "record {key}, deleted in step {}, is on side {side} as it was: {row:?}",
                    told.step
                );
                return Err(broken("P4", what));
            }
        }
    }
    Ok(())
}

/// P7: no field goes back to a value that it had before, unless a conflict says so.
fn in_order(world: &World, syncs: &[Sync]) -> Result<(), Failure> {
    for &(side, key, field, value) in &world.went_back {
        let met = |sync: &Sync| {
            sync.lost.iter().any(|lost| {
                lost.key == key
                    && (lost.of_delete || lost.field == field || lost.values.contains(&value))
            }) || sync.remote.as_ref().is_some_and(|remote| !remote.unknown.is_empty())
                || sync.spec.flows[field].group.is_some()
                    && sync.lost.iter().any(|lost| lost.key == key)
        };
        if !syncs.iter().any(met) {
            return Err(broken(
                "P7",
                format!("field {field} of record {key} on side {side} went back to value {value}"),
            ));
        }
    }
    Ok(())
}

/// P5: what has been done is taken up once more, and changes nothing.
fn once_more(world: &mut World, syncs: &mut [Sync]) -> Result<(), Failure> {
    for (n, sync) in syncs.iter_mut().enumerate() {
        // A delete that a person has not decided about is decided as soon as the edit it met is taken back.
        if sync.lost.iter().any(|lost| lost.open && lost.of_delete) {
            continue;
        }
        let (writes, conflicts) = (world.writes, sync.lost.len());
        sync.cursor = Snapshot::empty();
        let keys: Vec<u32> = sync.keys().into_iter().collect();
        if let Some(remote) = &mut sync.remote {
            remote.again.extend(keys);
        }
        sync.fetch(world);
        sync.work(world, false);
        sync.call(world, Fate::Answered);
        let asked = sync.lost[conflicts..].iter().any(|lost| !lost.open);
        if world.writes != writes || asked {
            return Err(broken(
                "P5",
                format!(
                    "sync {n}, run over the whole log once more, wrote {} rows",
                    world.writes - writes
                ),
            ));
        }
    }
    Ok(())
}
