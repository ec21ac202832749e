//! New records that leave together: where a connection takes several objects in one request, parents and the children
//! that name them cost one call, and no child arrives before its parent.

use super::{Answer, Asked, note_call, polls::OfSync};
use crate::engine::remote::{Reply, State};
use crate::worker::round::Worker;
use crate::worker::transaction::Failure;
use connector::WriteBatch;
use governor::{Kind, Urgency};
use std::sync::Arc;

impl Worker {
    /// Lets out new records of which some name others. What is alone leaves with the other calls of its sync.
    pub(super) fn let_families_out(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.network.connections.keys().cloned().collect();
        for name in names {
            while self.network.room() && self.let_family_out(&name)? {}
        }
        Ok(())
    }

    fn let_family_out(&mut self, name: &str) -> Result<bool, Failure> {
        let Some(connector) = self.network.connector_for_several(name) else { return Ok(false) };
        let most = connector.most_together();
        if most == 0 {
            return Ok(false);
        }
        let creates = |id: &i32| {
            let sync = self.syncs.get(id)?;
            sync.plan.remote().filter(|(_, remote)| remote.connection == name)?;
            let batch = sync.remote.as_ref()?.next_creates(sync.plan.parallelism())?;
            (batch.writes.len() <= most).then(|| (*id, Arc::clone(batch)))
        };
        let family = family(self.order.iter().filter_map(creates).collect(), most);
        if family.is_empty() {
            return Ok(false);
        }
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(false) };
        let wait = connection.leave(Urgency::Change, Kind::Push);
        if !wait.is_zero() {
            self.network.turns.waits();
            self.hold_back(name, wait)?;
            return Ok(false);
        }
        let (mut of, mut batches): (Vec<OfSync>, Vec<Arc<WriteBatch>>) = Default::default();
        for (id, batch) in family {
            let Some(sync) = self.syncs.get_mut(&id) else { continue };
            note_call(&sync.plan)?;
            if let Some((number, _)) = sync.remote.as_mut().and_then(State::next) {
                self.network.turns.called(id);
                of.push((id, number));
                batches.push(batch);
            }
        }
        self.network.submit(Asked::Together(of, name.to_owned()), &connector, |c| {
            Box::pin(async move {
                let written = c.write_together(&batches).await;
                let replies =
                    |all: Vec<_>| all.into_iter().map(|o| Ok(Reply::Written(o))).collect();
                Answer::Together(written.map(replies))
            })
        })?;
        Ok(true)
    }
}

/// The first that names another, or its own like, with all that are connected with it, as far as one request takes
/// them; empty where none does.
fn family(mut waiting: Vec<(i32, Arc<WriteBatch>)>, most: usize) -> Vec<(i32, Arc<WriteBatch>)> {
    let names = |batch: &WriteBatch| waiting.iter().any(|(_, other)| batch.names(other));
    let Some(first) = waiting.iter().position(|(_, batch)| names(batch)) else { return Vec::new() };
    let mut family = vec![waiting.remove(first)];
    let mut records = family[0].1.writes.len();
    loop {
        let joins = |(_, batch): &(i32, Arc<WriteBatch>)| {
            records + batch.writes.len() <= most
                && family.iter().any(|(_, of)| of.names(batch) || batch.names(of))
        };
        let Some(next) = waiting.iter().position(joins) else { break };
        let next = waiting.remove(next);
        records += next.1.writes.len();
        family.push(next);
    }
    let apart = |(_, batch): &(i32, Arc<WriteBatch>)| !batch.names(batch);
    if family.len() == 1 && family.iter().all(apart) { Vec::new() } else { family }
}
