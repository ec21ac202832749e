//! Questions for changes that leave together: where a connection takes several objects in one request, those that are
//! due at the same time cost one call.

use super::{Answer, Asked, note_call};
use crate::engine::remote::{Reply, State};
use crate::worker::round::Worker;
use crate::worker::transaction::Failure;
use connector::{ChangesOf, Fault};
use governor::{Kind, Urgency};

/// The call of a sync that an answer belongs to.
pub(super) type OfSync = (i32, u64);

impl Worker {
    /// Lets out what may leave together. What is alone leaves with the other calls of its sync.
    pub(super) fn let_polls_out(&mut self) -> Result<(), Failure> {
        let names: Vec<String> = self.network.connections.keys().cloned().collect();
        for name in names {
            while self.network.room() && self.let_out_together(&name)? {}
        }
        Ok(())
    }

    fn let_out_together(&mut self, name: &str) -> Result<bool, Failure> {
        let Some(connector) = self.network.connector_for_several(name) else { return Ok(false) };
        let most = connector.objects_at_once();
        if most < 2 {
            return Ok(false);
        }
        let order = self.network.poll_turns.begin(&self.order);
        let asks = |id: &i32| {
            let sync = self.syncs.get(id)?;
            let (_, remote) = sync.plan.remote().filter(|(_, remote)| remote.connection == name)?;
            let since = sync.remote.as_ref()?.next_poll(sync.plan.parallelism())?.clone();
            let (object, columns) = (remote.object.clone(), remote.columns.clone());
            Some((*id, ChangesOf { object, columns, since }))
        };
        let asking: Vec<(i32, ChangesOf)> = order.iter().filter_map(asks).take(most).collect();
        if asking.len() < 2 {
            return Ok(false);
        }
        let Some(connection) = self.network.connections.get_mut(name) else { return Ok(false) };
        let wait = connection.leave(Urgency::Background, Kind::Poll);
        if !wait.is_zero() {
            self.network.poll_turns.waits();
            self.hold_back(name, wait)?;
            return Ok(false);
        }
        let (mut of, mut asked): (Vec<OfSync>, Vec<ChangesOf>) = (Vec::new(), Vec::new());
        for (id, changes) in asking {
            let Some(sync) = self.syncs.get_mut(&id) else { continue };
            note_call(&sync.plan)?;
            if let Some((number, _)) = sync.remote.as_mut().and_then(State::next) {
                self.network.poll_turns.called(id);
                of.push((id, number));
                asked.push(changes);
            }
        }
        self.network.submit(Asked::Together(of, name.to_owned()), &connector, |c| {
            Box::pin(async move {
                let pages = c.changes_of(&asked).await;
                let replies =
                    |all: Vec<Result<_, _>>| all.into_iter().map(|p| p.map(Reply::Page)).collect();
                Answer::Together(pages.map(replies))
            })
        })?;
        Ok(true)
    }

    /// What came of it, for each of the syncs.
    pub(super) fn replied_together(
        &mut self,
        of: &[OfSync],
        name: &str,
        result: Result<Vec<Result<Reply, Fault>>, Fault>,
    ) -> Result<(), Failure> {
        match result {
            Ok(answers) => {
                for (&(sync, call), answer) in of.iter().zip(answers) {
                    self.replied(sync, call, name, answer)?;
                }
            }
            Err(fault) => {
                // One failure, of which each hears.
                self.heard(name, &Err(fault.clone()))?;
                for &(sync, call) in of {
                    self.deliver(sync, call, name, Err(fault.clone()))?;
                }
            }
        }
        Ok(())
    }
}
