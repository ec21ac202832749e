//! A secret that the other side replaces at a login: the refresh token of an app that rotates them. Each is good for
//! one login, so the next one is stored as soon as it is seen, and those who share it are told.

use super::secret;
use crate::sql;
use connector::{Connector, Secret};
use pgrx::pg_sys::Oid;
use std::sync::Arc;

/// The refresh token of a connector, and what is known to be stored of it.
pub struct Rotating {
    connector: Arc<dyn Connector>,
    server: Oid,
    /// The option of the mapping that it came from.
    option: &'static str,
    stored: Secret,
}

impl Rotating {
    /// Of a connector just made; `None` where its secrets stay what they are. Inside a transaction.
    pub fn of(connector: &Arc<dyn Connector>, server: Oid) -> Option<Self> {
        let stored = connector.rotating_secret()?;
        const NEW: &str = "new_refresh_token";
        let is_new = secret::stored(server, NEW).is_some_and(|new| new == stored);
        let option = if is_new { NEW } else { "refresh_token" };
        Some(Self { connector: Arc::clone(connector), server, option, stored })
    }

    /// Does nobody use the connector any more? Then no more will come after what has been settled.
    pub fn is_over(&self) -> bool {
        Arc::strong_count(&self.connector) == 1
    }

    /// Stores the one in use, or takes over what somebody else has stored. Inside a transaction, which is on disk when
    /// it has been committed; then [`Self::settled`] is told the answer.
    pub fn settle(&self) -> Option<Secret> {
        let (stored, now) =
            (secret::stored(self.server, self.option)?, self.connector.rotating_secret()?);
        if stored != self.stored {
            self.connector.take_rotating_secret(stored.clone());
            return Some(stored);
        }
        if now != stored {
            // The other side has forgotten the old one already.
            sql::set_local("synchronous_commit", "on");
            secret::replace(self.server, self.option, &stored, &now);
        }
        Some(now)
    }

    pub fn settled(&mut self, stored: Secret) {
        self.stored = stored;
    }

    /// The same from a person's own backend, whose transaction may still be rolled back: by `deliver`, which is given
    /// server, option, the token before and the one now, and says whether that is stored.
    pub(super) fn deliver(
        &mut self,
        deliver: impl Fn(Oid, &str, &Secret, &Secret) -> bool,
    ) -> bool {
        let Some(now) = self.connector.rotating_secret().filter(|now| *now != self.stored) else {
            return true;
        };
        let done = deliver(self.server, self.option, &self.stored, &now);
        self.stored = now;
        done
    }
}
