//! Comparing an object as a whole from time to time: what neither events nor polls tell is found by it, such as a
//! formula whose value changed without its record being touched.

use crate::engine::load::{self, Kind};
use crate::engine::sync::Sync;
use crate::sql::{self, Arg};
use crate::worker::transaction::{Failure, transaction};
use std::time::{Duration, Instant};

/// What `sync.progress` says of it.
const REASON: &str = "it is compared from time to time";

impl Sync {
    /// Asks for the object to be gone through once it is time, and nothing else is being gone through.
    pub(super) fn reconcile_if_due(&mut self) -> Result<(), Failure> {
        let Some(interval) = self.plan.config.reconcile_interval else { return Ok(()) };
        let Some(remote) = self.plan.remote_side() else { return Ok(()) };
        let id = self.plan.id;
        let idle = self.loads.is_empty();
        let Some(state) = &mut self.remote else { return Ok(()) };
        let due = match state.reconcile_at {
            Some(due) => due,
            None => {
                let left = transaction(|| Ok(left(id, interval)))?;
                *state.reconcile_at.insert(Instant::now() + left)
            }
        };
        if !idle || due > Instant::now() {
            return Ok(());
        }
        transaction(|| {
            for kind in [Kind::Rows, Kind::Links] {
                load::request(id, remote, kind, REASON);
            }
            sql::query(
                "UPDATE sync._pull SET reconciled_at = pg_catalog.clock_timestamp() WHERE sync = $1",
                &[Arg::Int4(id)],
            );
            Ok(())
        })?;
        state.reconcile_at = Some(Instant::now() + interval);
        crate::engine::mark_configuration_stale();
        Ok(())
    }
}

/// How long until it is time again.
fn left(sync: i32, interval: Duration) -> Duration {
    let seconds = sql::one(
        "SELECT GREATEST(0, $2 - EXTRACT(epoch FROM pg_catalog.clock_timestamp() - p.reconciled_at)) FROM sync._pull p WHERE p.sync = $1",
        &[Arg::Int4(sync), Arg::Int(interval.as_secs() as i64)],
    );
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    seconds.map_or(interval, Duration::from_secs_f64)
}
