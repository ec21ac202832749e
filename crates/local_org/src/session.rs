//! Who may log in, and who is logged in.

use crate::certificate::Certificate;
use crate::id;
use crate::moment::Millis;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a session lives without a call, unless told otherwise (Salesforce help, Modify Session Security
/// Settings: two hours).
const LIFETIME: Duration = Duration::from_secs(2 * 60 * 60);

/// How long a code of the authorization flow can be redeemed (Salesforce help, OAuth 2.0 Web Server Flow: 15 minutes).
const CODE_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A program that may log in: what an org calls a connected app or an external client app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct App {
    pub(crate) secret: String,
    /// By which the assertions of the JWT bearer flow are checked.
    pub(crate) certificate: Option<Certificate>,
    /// Whether users are pre-authorised for it, as the JWT bearer flow needs.
    pub(crate) approved: bool,
    /// Whether it has a user on whose behalf it runs, as the client credentials flow needs.
    pub(crate) runs_as_user: bool,
}

/// What a user has granted to an app, until it is revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) user: String,
    pub(crate) client: String,
}

/// A session that is open.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// Empty for a login by SOAP.
    pub(crate) client: String,
    pub(crate) scope: Option<&'static str>,
    /// The refresh token that it comes from, with which it dies.
    pub(crate) parent: Option<String>,
    pub(crate) issued: Millis,
    used: Instant,
}

/// A code of the authorization flow that was not redeemed yet.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) grant: Grant,
    pub(crate) redirect: String,
    /// The SHA-256 of the verifier that redeems it, in base64url (RFC 7636, S256).
    pub(crate) challenge: Option<String>,
    issued: Instant,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) apps: BTreeMap<String, App>,
    /// By user; whoever has none can't log in with one.
    pub(crate) passwords: BTreeMap<String, String>,
    /// By refresh token.
    pub(crate) grants: BTreeMap<String, Grant>,
    open: BTreeMap<String, Session>,
    codes: BTreeMap<String, Code>,
    /// Tokens of all kinds so far.
    pub(crate) issued: u64,
    /// How long a session lives without a call.
    pub(crate) lifetime: Duration,
    /// Whether a refresh token is good only once, and comes with its successor.
    pub(crate) rotating: bool,
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            apps: BTreeMap::new(),
            passwords: BTreeMap::new(),
            grants: BTreeMap::new(),
            open: BTreeMap::new(),
            codes: BTreeMap::new(),
            issued: 0,
            lifetime: LIFETIME,
            rotating: false,
        }
    }

    /// Adds a client, or changes its secret: the old one is refused from then on.
    pub(crate) fn set_client(&mut self, client: &str, secret: &str) {
        let app = self.apps.entry(client.to_owned()).or_insert_with(|| App {
            secret: String::new(),
            certificate: None,
            approved: true,
            runs_as_user: true,
        });
        secret.clone_into(&mut app.secret);
    }

    /// A token that nobody can read.
    fn token(&mut self) -> String {
        self.issued += 1;
        let body = STANDARD.encode(format!("local org session {:012}", self.issued));
        body.trim_end_matches('=').to_owned()
    }

    /// Opens a session; its token begins with the org's short id, an exclamation mark and `AQ`.
    pub(crate) fn open(
        &mut self,
        org: &str,
        grant: &Grant,
        scope: Option<&'static str>,
        parent: Option<String>,
        issued: Millis,
    ) -> String {
        let token = format!("{}!AQ{}", id::short(org), self.token());
        let Grant { user, client } = grant.clone();
        let session = Session { user, client, scope, parent, issued, used: Instant::now() };
        self.open.insert(token.clone(), session);
        token
    }

    /// A refresh token for what was granted.
    pub(crate) fn grant(&mut self, grant: Grant) -> String {
        let token = format!("5Aep{}", self.token());
        self.grants.insert(token.clone(), grant);
        token
    }

    pub(crate) fn code(
        &mut self,
        grant: Grant,
        redirect: String,
        challenge: Option<String>,
    ) -> String {
        let code = format!("aPrx{}", self.token());
        self.codes
            .insert(code.clone(), Code { grant, redirect, challenge, issued: Instant::now() });
        code
    }

    /// Takes a code that is still good: it is so only once.
    pub(crate) fn redeem(&mut self, code: &str) -> Option<Code> {
        self.codes.remove(code).filter(|code| code.issued.elapsed() < CODE_LIFETIME)
    }

    /// The session of a token, if it still lives.
    pub(crate) fn get(&self, token: &str) -> Option<&Session> {
        self.open.get(token).filter(|session| session.used.elapsed() < self.lifetime)
    }

    /// The same for a call, with which its life begins anew; tells the user.
    pub(crate) fn enter(&mut self, token: &str) -> Option<String> {
        let user = self.get(token)?.user.clone();
        self.open.get_mut(token)?.used = Instant::now();
        Some(user)
    }

    /// How long the session of a token lives if nothing more happens.
    pub(crate) fn left(&self, session: &Session) -> Duration {
        self.lifetime.saturating_sub(session.used.elapsed())
    }

    pub(crate) fn close(&mut self, token: &str) -> bool {
        self.open.remove(token).is_some()
    }

    /// Takes back what a refresh token stands for, with all sessions that came from it.
    pub(crate) fn revoke(&mut self, token: &str) -> bool {
        let known = self.grants.remove(token).is_some();
        self.open.retain(|_, session| session.parent.as_deref() != Some(token));
        known
    }

    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }
}
