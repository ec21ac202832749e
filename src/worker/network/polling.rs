//! How often the other side is asked for changes. What a document says is a wish: where the account's calls would not
//! last, all syncs of it poll more rarely, alike, before changes of rows have to wait.

use crate::worker::round::Worker;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often it is seen anew.
const EVERY: Duration = Duration::from_secs(10);

impl Worker {
    pub(super) fn pace_polling(&mut self) {
        let now = Instant::now();
        if self.network.polling_due.is_some_and(|due| due > now) {
            return;
        }
        self.network.polling_due = Some(now + EVERY);
        let Self { syncs, network, .. } = self;
        // Connections with one account share its calls.
        let account =
            |connection: &str| Some(network.connections.get(connection)?.line.as_ref()?.account);
        // Objects that are due together go in one call, as many as a request takes.
        let mut together: HashMap<_, (usize, usize)> = HashMap::new();
        for sync in syncs.values() {
            let Some((side, remote)) = sync.plan.remote() else { continue };
            let (Some(state), Some(account)) = (&sync.remote, account(&remote.connection)) else {
                continue;
            };
            if sync.plan.listens_to(side) {
                let at_once = state.connector.objects_at_once().max(1);
                let interval = state.poll.interval().max(Duration::from_secs(1));
                together.entry((account, interval)).or_insert((0, at_once)).0 += 1;
            }
        }
        let mut wished = HashMap::new();
        for ((account, interval), (objects, at_once)) in together {
            *wished.entry(account).or_insert(0.0) +=
                objects.div_ceil(at_once) as f64 / interval.as_secs_f64();
        }
        let lines: HashMap<_, _> = network
            .connections
            .values()
            .filter_map(|connection| connection.line.as_ref())
            .map(|line| (line.account, &line.meter))
            .collect();
        let stretch: HashMap<_, _> = wished
            .into_iter()
            .filter_map(|(account, wished)| Some((account, lines.get(&account)?.polling(wished))))
            .collect();
        for sync in syncs.values_mut() {
            let Some((_, remote)) = sync.plan.remote() else { continue };
            let times = account(&remote.connection).and_then(|account| stretch.get(&account));
            if let (Some(state), Some(&times)) = (&mut sync.remote, times) {
                state.poll.stretch(times);
            }
        }
    }
}
