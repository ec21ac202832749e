//! A case: sides, syncs, and what happens, as a list of steps.

use fastrand::Rng;
use merge::{Deletes, Flow, Rule, Side};

/// A side of the world.
#[derive(Clone, Debug)]
pub struct SideSpec {
    /// An object of another system, which rounds what it is given and is asked for its changes.
    pub remote: bool,
    /// What its clock differs by.
    pub skew: i64,
    /// A trigger that changes what is written, once.
    pub normalises: bool,
}

/// A sync between two sides.
#[derive(Clone, Debug)]
pub struct SyncSpec {
    pub sides: [usize; 2],
    pub flows: Vec<Flow>,
    pub deletes: Deletes,
}

/// What a user does to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Writes one field; a row that is not there is inserted.
    Write {
        field: usize,
        null: bool,
    },
    Delete,
    /// One statement on this row and the next, with a trigger on the first that writes the second.
    Statement {
        field: usize,
    },
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered,
    LostBefore,
    LostAfter,
}

/// What happens next. Numbers beyond what there is mean nothing happens, so that steps can be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// In one of the open transactions of the database.
    User {
        transaction: usize,
        side: usize,
        key: u32,
        deed: Deed,
    },
    /// In another system.
    There {
        side: usize,
        key: u32,
        deed: Deed,
    },
    Commit(usize),
    Abort(usize),
    Savepoint(usize),
    RollbackTo(usize),
    /// The worker works on a sync; `killed` before it could commit.
    Work {
        sync: usize,
        killed: bool,
    },
    /// All that the worker had in memory is gone.
    Restart,
    Call {
        sync: usize,
        fate: Fate,
    },
    /// Asks for changes, and gets them, once or twice.
    Ask(usize),
    Told {
        sync: usize,
        twice: bool,
    },
    Clock {
        side: usize,
        by: i64,
    },
}

#[derive(Clone, Debug)]
pub struct Case {
    pub seed: u64,
    pub fields: usize,
    pub sides: Vec<SideSpec>,
    pub syncs: Vec<SyncSpec>,
    pub steps: Vec<Step>,
}

/// Transactions that may be open at once.
pub(crate) const OPEN: usize = 3;
/// Keys that all tables have in common, and those that each other system gives out itself.
pub(crate) const KEYS: u32 = 4;

/// The case of a seed.
pub fn generate(seed: u64) -> Case {
    let mut rng = Rng::with_seed(seed);
    let fields = rng.usize(1..=4);
    let count = rng.usize(2..=5);
    let clocks = rng.u8(0..3);
    let mut sides: Vec<SideSpec> = (0..count)
        .map(|n| SideSpec {
            remote: n > 0 && rng.u8(0..5) < 2,
            skew: if clocks == 0 { 0 } else { rng.i64(-20..=20) },
            normalises: rng.u8(0..6) == 0,
        })
        .collect();
    sides.iter_mut().filter(|side| side.remote).for_each(|side| side.normalises = false);
    // A tree: around one table, or along a chain of them.
    let chain = rng.bool();
    let mut syncs = Vec::new();
    for n in 1..count {
        let tables: Vec<usize> = (0..n).filter(|&other| !sides[other].remote).collect();
        let to = if chain { tables[tables.len() - 1] } else { 0 };
        syncs.push(sync(&mut rng, [to, n], fields));
    }
    // A trigger's change of a value is an edit, and so is what a group brings along: they only go to all others where all
    // fields go both ways. Where a field has two authorities somebody has to lose.
    if !syncs.iter().flat_map(|sync: &SyncSpec| &sync.flows).all(|flow| flow.to_source) {
        sides.iter_mut().for_each(|side| side.normalises = false);
        syncs.iter_mut().flat_map(|sync| &mut sync.flows).for_each(|flow| flow.group = None);
    }
    let steps = (0..rng.usize(10..=120)).map(|_| step(&mut rng, &sides, &syncs, fields)).collect();
    Case { seed, fields, sides, syncs, steps }
}

fn sync(rng: &mut Rng, sides: [usize; 2], fields: usize) -> SyncSpec {
    let rules = [
        Rule::Later,
        Rule::Later,
        Rule::Prefer(Side::Source),
        Rule::Prefer(Side::Target),
        Rule::Review,
    ];
    let deletes = [
        Deletes::Later,
        Deletes::Later,
        Deletes::Delete,
        Deletes::Edit,
        Deletes::Prefer(Side::Source),
        Deletes::Prefer(Side::Target),
        Deletes::Review,
    ];
    let one_way = rng.u8(0..5) == 0;
    let rule = rules[rng.usize(0..rules.len())];
    let group = (rng.u8(0..4) == 0).then_some(0);
    let flows = (0..fields)
        .map(|_| Flow {
            to_target: true,
            to_source: !one_way && rng.u8(0..6) > 0,
            rule: if group.is_some() { rule } else { rules[rng.usize(0..rules.len())] },
            group,
            ignores_null: false,
        })
        .collect();
    SyncSpec { sides, flows, deletes: deletes[rng.usize(0..deletes.len())] }
}

fn step(rng: &mut Rng, sides: &[SideSpec], syncs: &[SyncSpec], fields: usize) -> Step {
    let deed = |rng: &mut Rng| match rng.u8(0..10) {
        0 | 1 => Deed::Delete,
        2 => Deed::Statement { field: rng.usize(0..fields) },
        _ => Deed::Write { field: rng.usize(0..fields), null: rng.u8(0..10) == 0 },
    };
    let sync = rng.usize(0..syncs.len());
    match rng.u8(0..34) {
        0..12 => {
            let side = rng.usize(0..sides.len());
            let key = rng.u32(0..KEYS);
            let deed = deed(rng);
            if sides[side].remote {
                let deed = if matches!(deed, Deed::Statement { .. }) { Deed::Delete } else { deed };
                let own = KEYS * (side as u32 + 1) + key % 2;
                Step::There { side, key: if rng.bool() { key } else { own }, deed }
            } else {
                Step::User { transaction: rng.usize(0..OPEN), side, key, deed }
            }
        }
        12..18 => Step::Commit(rng.usize(0..OPEN)),
        18 => Step::Abort(rng.usize(0..OPEN)),
        19 => Step::Savepoint(rng.usize(0..OPEN)),
        20 => Step::RollbackTo(rng.usize(0..OPEN)),
        21..26 => Step::Work { sync, killed: rng.u8(0..6) == 0 },
        26 => {
            if rng.u8(0..3) == 0 {
                Step::Restart
            } else {
                Step::Clock { side: rng.usize(0..sides.len()), by: rng.i64(-30..=30) }
            }
        }
        27..30 => {
            let fate = match rng.u8(0..4) {
                0 => Fate::LostBefore,
                1 => Fate::LostAfter,
                _ => Fate::Answered,
            };
            Step::Call { sync, fate }
        }
        30 | 31 => Step::Ask(sync),
        _ => Step::Told { sync, twice: rng.u8(0..4) == 0 },
    }
}
