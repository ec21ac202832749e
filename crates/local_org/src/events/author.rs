use crate::exchange::Request;

/// On whose behalf a transaction is committed, and through what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    pub(crate) user: String,
    /// As `changeOrigin` has it (Change Data Capture guide, ChangeEventHeader fields).
    pub(crate) origin: String,
}

impl Author {
    /// Somebody at the user interface.
    pub(crate) fn person(user: &str) -> Self {
        let origin = "com/salesforce/api/soap/66.0;client=SfdcInternalAPI/";
        Self { user: user.to_owned(), origin: origin.to_owned() }
    }

    /// Who called a version of the SOAP API, and the client of its CallOptions.
    pub(crate) fn of_soap(user: &str, version: u32, client: Option<&str>) -> Self {
        let mut origin = format!("com/salesforce/api/soap/{version}.0");
        if let Some(client) = client {
            origin.push_str(";client=");
            origin.push_str(client.trim());
        }
        Self { user: user.to_owned(), origin }
    }

    /// Who created a bulk job of this version of the API.
    pub(crate) fn of_bulk(user: &str, version: &str) -> Self {
        Self { user: user.to_owned(), origin: format!("com/salesforce/api/bulkapi/{version}") }
    }

    /// Who sent this request of the REST API.
    pub(crate) fn of_request(user: &str, request: &Request) -> Self {
        let version = request.path.strip_prefix("/services/data/v").unwrap_or_default();
        let version = version.split('/').next().unwrap_or_default();
        let mut origin = format!("com/salesforce/api/rest/{version}");
        let options = request.header("sforce-call-options").unwrap_or_default();
        let client = options.split(',').find_map(|option| option.trim().strip_prefix("client="));
        if let Some(client) = client {
            origin.push_str(";client=");
            origin.push_str(client.trim());
        }
        Self { user: user.to_owned(), origin }
    }
}
