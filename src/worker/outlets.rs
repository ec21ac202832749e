//! Syncs whose changes applications take: what is committed is put down for them, whoever listens or not, and also
//! while nothing may leave this database.

use super::configuration::read_cursors;
use super::process::report;
use super::round::Worker;
use super::transaction::{Failure, transaction};
use crate::engine::outlet::Outlet;
use std::sync::atomic::Ordering;

impl Worker {
    /// Reads which there are. Only the first worker of a database serves them.
    ///
    /// # Errors
    /// What reading raised.
    pub(super) fn configure_outlets(&mut self) -> Result<(), Failure> {
        if !self.is_stream() {
            return Ok(());
        }
        let mut before = std::mem::take(&mut self.outlets);
        let stored = transaction(|| {
            Ok(read_cursors(
                "s.target IS NULL AND s.connection IS NULL AND s.state IN ('running', 'paused')",
            ))
        })?;
        let outlet = |(stored, cursor): (crate::engine::plan::Stored, _)| {
            let mut outlet = Outlet::new(&stored, cursor);
            if let Some(old) = before.remove(&outlet.id) {
                outlet.inherit(old);
            }
            (outlet.id, outlet)
        };
        self.outlets = stored.into_iter().map(outlet).collect();
        Ok(())
    }

    /// Puts down what was committed up to the tick. True when there is more.
    ///
    /// # Errors
    /// What reading the log or writing raised.
    pub(super) fn serve_outlets(&mut self, asked: u64) -> Result<bool, Failure> {
        let Some(tick) = self.tick.clone() else { return Ok(false) };
        let mut busy = false;
        for outlet in self.outlets.values_mut() {
            report(&format!("syncing {}", outlet.name));
            let (more, span) =
                outlet.step(self.epoch.number, &self.map, &mut self.shapes, &tick)?;
            busy |= more;
            if let Some(span) = span {
                self.notes.put_down(outlet, span)?;
            }
            if !more && let Some(progress) = self.slot.claim_progress(outlet.id as u32) {
                progress.done.fetch_max(asked, Ordering::AcqRel);
            }
        }
        Ok(busy)
    }
}
