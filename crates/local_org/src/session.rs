//! Who may log in, and who is logged in.

use crate::id;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(crate) struct Sessions {
    /// Secrets by client.
    clients: BTreeMap<String, String>,
    tokens: BTreeSet<String>,
    issued: u64,
}

impl Sessions {
    pub(crate) fn new(client: String, secret: String) -> Self {
        Self { clients: [(client, secret)].into(), tokens: BTreeSet::new(), issued: 0 }
    }

    /// Adds a client, or changes its secret: the old one is refused from then on.
    pub(crate) fn set_client(&mut self, client: &str, secret: &str) {
        self.clients.insert(client.to_owned(), secret.to_owned());
    }

    pub(crate) fn remove_client(&mut self, client: &str) {
        self.clients.remove(client);
    }

    pub(crate) fn secret(&self, client: &str) -> Option<&str> {
        self.clients.get(client).map(String::as_str)
    }

    /// A new token: the org's short id, an exclamation mark, and what nobody can read.
    pub(crate) fn issue(&mut self, org: &str) -> String {
        self.issued += 1;
        let body = STANDARD.encode(format!("local org session {:012}", self.issued));
        let token = format!("{}!AQ{}", id::short(org), body.trim_end_matches('='));
        self.tokens.insert(token.clone());
        token
    }

    pub(crate) fn is_open(&self, token: &str) -> bool {
        self.tokens.contains(token)
    }

    pub(crate) fn close(&mut self, token: &str) -> bool {
        self.tokens.remove(token)
    }

    pub(crate) fn close_all(&mut self) {
        self.tokens.clear();
    }
}
