//! What a person wants to know of an org when he looks at a connection.

use connector::{Fault, FaultKind, Remark};
use serde_json::Value;

use crate::call::Call;
use crate::client::Salesforce;
use crate::session::Session;
use crate::{id, soql};

impl Salesforce {
    /// The org, the user, the version of the API. One call counts.
    pub(crate) async fn remarks(&self) -> Result<Vec<Remark>, Fault> {
        let session = self.session(None).await?;
        let mut remarks = vec![self.version_served().await?];
        // With a version that is not served there is nothing more to ask.
        if remarks[0].ok {
            remarks.push(self.org(&session).await?);
            remarks.push(self.user(&session).await?);
        }
        Ok(remarks)
    }

    /// `GET /services/data`: every version that is served; not counted (REST API guide, Versions).
    async fn version_served(&self) -> Result<Remark, Fault> {
        let path = "/services/data".to_owned();
        let body = self.call(&Call { counts: false, ..Call::get(path) }).await?;
        let served: Vec<&str> = body
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|version| version.get("version")?.as_str())
            .collect();
        let ours = self.place.version.as_str();
        let ok = served.contains(&ours);
        let range = match (served.first(), served.last()) {
            (Some(first), Some(last)) => format!("the org serves {first} to {last}"),
            _ => "the org names no version".to_owned(),
        };
        let (detail, remedy) = if ok {
            (format!("{ours}; {range}"), String::new())
        } else {
            let remedy = "Set api_version to one that is served, with sync.alter_connection.";
            (format!("{ours} is not served; {range}"), remedy.to_owned())
        };
        Ok(Remark { what: "API version", ok, detail, remedy })
    }

    /// Organization tells most; not every user may read it (Object reference, Organization).
    async fn org(&self, session: &Session) -> Result<Remark, Fault> {
        let query = "SELECT Id, Name, OrganizationType, IsSandbox, InstanceName FROM Organization";
        let asked = self.call(&Call::get(soql::path(&self.path("/query"), query))).await;
        let row = match asked {
            Ok(body) => body.pointer("/records/0").cloned().unwrap_or(Value::Null),
            Err(fault) if hidden(&fault) => Value::Null,
            Err(fault) => return Err(fault),
        };
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let host = session.origin.split_once("://").map_or("", |(_, host)| host);
        let kind = match row.get("IsSandbox").and_then(Value::as_bool) {
            Some(true) => "a sandbox",
            Some(false) => "no sandbox",
            // The host tells it of those that are (Salesforce help, My Domain URL Formats).
            None if host.ends_with(".sandbox.my.salesforce.com") => "a sandbox",
            None if host.ends_with(".scratch.my.salesforce.com") => "a scratch org",
            None => "the user may not see whether it is a sandbox",
        };
        let id = text("Id").map_or_else(|| session.org_id.clone(), |id| id::long(&id));
        let parts = [Some(id), text("Name"), text("OrganizationType"), Some(kind.to_owned())];
        let instance = text("InstanceName").map(|name| format!("instance {name}"));
        let parts = parts.into_iter().chain([instance, Some(format!("at {host}"))]);
        let detail = parts.flatten().collect::<Vec<_>>().join(", ");
        Ok(Remark { what: "org", ok: true, detail, remedy: String::new() })
    }

    async fn user(&self, session: &Session) -> Result<Remark, Fault> {
        let path = "/services/oauth2/userinfo".to_owned();
        let body = match self.call(&Call { counts: false, ..Call::get(path) }).await {
            Ok(body) => body,
            Err(fault) if hidden(&fault) => Value::Null,
            Err(fault) => return Err(fault),
        };
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let parts = [text("name"), text("preferred_username"), Some(session.user_id.as_str())];
        let detail = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        Ok(Remark { what: "user", ok: true, detail, remedy: String::new() })
    }
}

/// Is it only that this user may not see it?
fn hidden(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Refused | FaultKind::Schema | FaultKind::Configuration)
        && fault.code != "API_DISABLED_FOR_ORG"
}
