//! P8: whatever is killed with -9 at whatever moment, nothing is lost, doubled or brought back.
//!
//! Seeded writers work on five pairs of tables while a worker, a job worker, the launcher, a writing backend or
//! the postmaster is killed again and again. Every so often the writers stop, everything has to settle, and the
//! invariants are checked by `checks`. Each value is written once only, and each edit notes the value
//! it replaced in the same transaction, so what became of every committed value can be told exactly.
//!
//! The server runs without fsync: the operating system outlives its processes and keeps their pages.
//!
//! `cargo suite --kills N` (100), which sets `SYNC_EXT_KILLS`, and `SYNC_EXT_SEED` (drawn by lot) change a run; both
//! are printed.

mod calm;
mod campaign;
mod checks;
pub(crate) mod random;
mod schema;
mod writers;

use random::Random;

/// P1-P5, P7-P9, P12, P13, P15 under kills (P8).
#[test]
fn kills_at_random_points_lose_and_double_nothing() {
    let seed = number("SYNC_EXT_SEED").unwrap_or_else(Random::lot);
    let kills = number("SYNC_EXT_KILLS").unwrap_or(100);
    println!("kill campaign: {kills} kills");
    campaign::Campaign::start(seed).run(kills);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
