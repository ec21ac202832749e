//! Reading the records of an object on behalf of a person: read only, in his own backend.

use super::call::{Caller, Resolve, Turn};
use super::catalog::Connection;
use super::{connector, fault_to_failure};
use crate::worker::transaction::Failure;
use connector::{Column, Connector, Page, Record};
use std::sync::Arc;

/// One object, read with one login.
pub struct Records {
    caller: Caller,
    connector: Arc<dyn Connector>,
    object: Arc<str>,
    columns: Arc<[Column]>,
    before: u64,
    _turn: Turn,
}

impl Records {
    /// # Errors
    /// What [`connector`] says.
    pub fn of(connection: &Connection, object: &str, columns: &[Column]) -> Result<Self, Failure> {
        let turn = Turn::take(connection)?;
        let connector = connector(connection.server)?;
        Ok(Self {
            caller: Caller::new(connection, Arc::clone(&connector)),
            before: connector.calls(),
            connector,
            object: object.into(),
            columns: columns.into(),
            _turn: turn,
        })
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        Arc::clone(&self.connector)
    }

    /// How many requests it took so far.
    pub fn calls(&self) -> u64 {
        self.connector.calls().saturating_sub(self.before)
    }

    /// The next records in the order of their ids.
    ///
    /// # Errors
    /// What the other side says.
    pub fn list(&mut self, after: Option<String>) -> Result<Page, Failure> {
        let (object, columns) = (Arc::clone(&self.object), Arc::clone(&self.columns));
        self.caller
            .ask(Resolve::Yields, move |c| {
                Box::pin(async move { c.list(&object, &columns, after.as_deref()).await })
            })?
            .map_err(|fault| fault_to_failure(&fault))
    }

    /// The records with these ids, in their order.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn fetch(&mut self, ids: Vec<String>) -> Result<Vec<Option<Record>>, Failure> {
        let (object, columns) = (Arc::clone(&self.object), Arc::clone(&self.columns));
        self.caller
            .ask(Resolve::Yields, move |c| {
                Box::pin(async move { c.fetch(&object, &columns, &ids).await })
            })?
            .map_err(|fault| fault_to_failure(&fault))
    }
}
