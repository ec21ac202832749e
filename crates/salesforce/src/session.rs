use std::sync::Arc;
use std::time::{Duration, SystemTime};

use connector::{Fault, FaultKind, Secret};
use egress::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use egress::{Method, Response};
use serde_json::Value;

use crate::client::Salesforce;
use crate::settings::origin;
use crate::{id, json, refusal};

/// Proof of who we are, for as long as the org accepts it. Lives in memory only.
pub(crate) struct Session {
    pub(crate) token: Secret,
    /// Where data lives, as the org says: scheme, host and port.
    pub(crate) origin: String,
    pub(crate) org_id: String,
    pub(crate) user_id: String,
    /// Which login it came from.
    pub(crate) login: u64,
}

/// What is known of logins; behind one lock, so that whoever finds the session dead while another
/// logs in waits for that login and shares what comes of it.
#[derive(Default)]
pub(crate) struct Logins {
    pub(crate) session: Option<Arc<Session>>,
    count: u64,
    failed: Option<Fault>,
}

impl Salesforce {
    /// The session; a new one where there is none yet, or where it is the one that the org no
    /// longer accepts.
    pub(crate) async fn session(&self, dead: Option<u64>) -> Result<Arc<Session>, Fault> {
        let seen = self.login_count();
        let mut logins = self.logins.lock().await;
        if let Some(session) = &logins.session
            && dead != Some(session.login)
        {
            return Ok(session.clone());
        }
        // Somebody tried while this one waited for the lock, and was turned away.
        if self.login_count() != seen
            && let Some(fault) = &logins.failed
        {
            return Err(fault.clone());
        }
        (logins.session, logins.failed) = (None, None);
        logins.count += 1;
        let outcome = self.log_in(logins.count).await;
        self.note_login();
        match outcome {
            Ok(session) => {
                let session = Arc::new(session);
                logins.session = Some(session.clone());
                Ok(session)
            }
            Err(fault) => {
                logins.failed = Some(fault.clone());
                Err(fault)
            }
        }
    }

    /// One login. Where the org refuses it for the time that we have, the same with the org's own.
    async fn log_in(&self, login: u64) -> Result<Session, Fault> {
        let mut again = true;
        loop {
            let sent = SystemTime::now();
            let answer = self.ask_for_token().await?;
            self.note_headers(&answer.headers);
            if answer.status.is_success() {
                let body = json::read(&answer.body).unwrap_or(Value::Null);
                self.flow.accepted(&body);
                return self.session_of(&body, login).map_err(|fault| self.redacted(fault, None));
            }
            let mut fault = of_token_endpoint(&answer);
            let offset = clock_offset(&answer, sent, SystemTime::now());
            if !self.flow.refused(&mut fault, offset) || !again {
                return Err(self.redacted(fault, None));
            }
            again = false;
        }
    }

    async fn ask_for_token(&self) -> Result<Response, Fault> {
        let form = self.flow.form()?;
        let mut request = self.http.request(Method::POST, self.place.token_url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(form.reveal().to_owned().into());
        // A login carries no record: it can be repeated, whatever became of it. Even where its answer held a new
        // refresh token there is nothing else to try.
        self.http.send(request).await.map_err(repeatable)
    }

    fn session_of(&self, body: &Value, login: u64) -> Result<Session, Fault> {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let (Some(token), Some(instance)) = (text("access_token"), text("instance_url")) else {
            let message = "the answer to a login holds no token";
            return Err(Fault::new(FaultKind::Configuration, "NO_TOKEN", message)
                .with_hint("Check that the URL of the connection is that of a Salesforce org."));
        };
        // https://login.salesforce.com/id/<org>/<user>
        let mut ends = text("id").unwrap_or_default().rsplit('/').map(id::long);
        let user_id = ends.next().filter(|id| id::is_id(id)).unwrap_or_default();
        let org_id = ends.next().filter(|id| id::is_id(id)).unwrap_or_default();
        let origin = origin(instance, self.http.policy())?;
        Ok(Session { token: Secret::new(token.to_owned()), origin, org_id, user_id, login })
    }
}

/// Errors of the token endpoint: `{"error": …, "error_description": …}` with status 400.
fn of_token_endpoint(answer: &Response) -> Fault {
    let mut fault = refusal::of_answer(answer);
    if fault.kind == FaultKind::Refused {
        // No record was refused: it is who asks, or how.
        fault.kind = FaultKind::Credentials;
    }
    if fault.kind == FaultKind::Transient && fault.retry_after.is_none() {
        fault.retry_after = Some(Duration::from_secs(5));
    }
    fault
}

/// Of a request that changes nothing it does not matter whether it was carried out.
pub(crate) fn repeatable(mut fault: Fault) -> Fault {
    if fault.code == "ANSWER_TOO_LARGE" {
        // It would be so again.
        fault.kind = FaultKind::Configuration;
    }
    if fault.kind == FaultKind::Ambiguous {
        fault.kind = FaultKind::Transient;
    }
    fault
}

/// The other side's clock minus ours, from the Date of an answer. It tells whole seconds; the middle
/// of the second is the best guess, as is the middle of the time that the request took.
pub(crate) fn clock_offset(
    answer: &Response,
    sent: SystemTime,
    received: SystemTime,
) -> Option<i64> {
    let date = answer.headers.get("date")?.to_str().ok()?;
    let theirs = millis(httpdate::parse_http_date(date).ok()?)? + 500;
    Some(theirs - (millis(sent)? + millis(received)?) / 2)
}

fn millis(at: SystemTime) -> Option<i64> {
    i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis()).ok()
}
