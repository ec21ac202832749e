//! Runs whole syncs in memory, thousands of times, from a seed: users who write on two to five sides, transactions that
//! overlap, a worker that is killed, another system that answers late, twice or not at all, clocks that differ and go
//! back. After each run it is checked what a sync promises (P1 to P8 and P11 of the design).
//!
//! What decides is the code that also runs in the server: the order and the batches of the log are [`change`]'s, every
//! merge is [`merge`]'s. What surrounds it there, PostgreSQL's tables, transactions and locks and the calls to another
//! system, is a model: [`World`] is the database and the other systems, [`engine`] the steps of the worker between them.
//!
//! A [`Case`] is made from a seed and is a plain list of steps, so that one that fails can be [`shrink`]ed and read.
//! Each [`Bug`] is a mistake that can be made on purpose: a check that no bug ever fails is worth nothing.

mod bug;
mod campaign;
mod case;
mod check;
mod engine;
mod remote;
mod shrink;
mod value;
mod world;

pub use bug::Bug;
pub use campaign::{Campaign, campaign};
pub use case::{Case, Step, generate};
pub use check::{Failure, Report, simulate};
pub use shrink::shrink;
pub use world::World;

/// Runs the case of a seed.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Report, Failure> {
    simulate(&generate(seed), bug)
}
