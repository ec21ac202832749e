use std::time::SystemTime;

use connector::{Account, Connector, Fault, FaultKind, Usage};
use serde_json::Value;

use crate::call::Call;
use crate::client::Salesforce;
use crate::id;
use crate::json;
use crate::session::clock_offset;

impl Salesforce {
    /// Logs in and asks who we are. The rights to see oneself and the limits may be missing; then
    /// what the login itself said has to do.
    pub(crate) async fn account(&self) -> Result<Account, Fault> {
        let session = self.session(None).await?;
        let (mut id, mut user, mut user_id) =
            (session.org_id.clone(), String::new(), session.user_id.clone());
        let mut clock_offset_ms = None;
        let sent = SystemTime::now();
        let who = Call { counts: false, ..Call::get("/services/oauth2/userinfo".to_owned()) };
        match self.answer(&who).await {
            Ok(answer) => {
                clock_offset_ms = clock_offset(&answer, sent, SystemTime::now());
                let body = json::read(&answer.body).unwrap_or(Value::Null);
                let text = |name: &str| body.get(name).and_then(Value::as_str);
                if let Some(org) = text("organization_id") {
                    id = id::long(org);
                }
                if let Some(of_user) = text("user_id") {
                    user_id = id::long(of_user);
                }
                user = text("preferred_username").unwrap_or_default().to_owned();
            }
            Err(fault) if fault.kind == FaultKind::Configuration && !id.is_empty() => {}
            Err(fault) => return Err(fault),
        }
        self.ask_limits().await?;
        Ok(Account {
            id,
            user,
            user_id,
            version: self.place.version.clone(),
            clock_offset_ms,
            usage: self.usage(),
        })
    }

    /// `{"DailyApiRequests": {"Max": 15000, "Remaining": 14998}}`, and `DailyDeliveredPlatformEvents`, which change
    /// events count towards (REST API guide, limits); needs a
    /// right that the user may not have. It is also the first request of the REST API proper: that
    /// the API is closed to the user shows here.
    async fn ask_limits(&self) -> Result<(), Fault> {
        let body = match self.call(&Call::get(self.path("/limits"))).await {
            Ok(body) => body,
            Err(fault)
                if matches!(
                    fault.code.as_str(),
                    "FORBIDDEN" | "INSUFFICIENT_ACCESS" | "NOT_FOUND"
                ) =>
            {
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        let usage = |name: &str| {
            let number = |part: &str| body.get(name)?.get(part)?.as_u64();
            let (allowed, remaining) = (number("Max")?, number("Remaining")?);
            let used = allowed.saturating_sub(remaining);
            Some(Usage { used, allowed, at: SystemTime::now() })
        };
        if let Some(usage) = usage("DailyApiRequests") {
            self.note_usage(usage);
        }
        // Where an add-on counts them by the month, the day's number is 0.
        if let Some(usage) = usage("DailyDeliveredPlatformEvents").filter(|u| u.allowed > 0) {
            self.note_events_usage(usage);
        }
        Ok(())
    }
}
