use crate::duplicates::DuplicateRule;
use crate::schema::{Field, Object};
use crate::value::Manners;
use std::path::PathBuf;

/// How to start an org.
#[derive(Clone, Debug)]
pub struct Options {
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    pub client_id: String,
    pub client_secret: String,
    /// The client's certificate (X.509 as PEM, RSA), by which assertions of the JWT bearer flow are checked.
    pub certificate: Option<String>,
    /// The password of `integration@example.com`; logins take it with and without the security token behind it.
    pub password: String,
    pub security_token: String,
    /// Calls of one day; 15,000 is what a Developer Edition has (App Limits Cheatsheet, API Request Limits).
    pub daily_limit: u64,
    /// Whether Account has `External_Id__c`.
    pub external_id: bool,
    /// Whether accounts can be persons.
    pub person_accounts: bool,
    /// Whether the sample records of a new Developer Edition are there.
    pub seed_data: bool,
    /// Objects more than the standard ones, or in their place.
    pub objects: Vec<Object>,
    /// Fields more, with the object that each belongs to.
    pub fields: Vec<(String, Field)>,
    /// When a new record is taken for one that is there.
    pub duplicate_rules: Vec<DuplicateRule>,
    pub manners: Manners,
    /// The port of the event bus on 127.0.0.1; 0 takes a free one.
    pub events_port: u16,
    /// The objects whose changes become events; an org selects none by itself.
    pub change_events: Vec<String>,
    /// The file in which the org outlives its program. Where it is there, it says what the org is, and the options that
    /// shape a new one (objects, fields, duplicate rules, person accounts, sample data) say nothing.
    pub persist: Option<PathBuf>,
    /// Whether every edit is kept, for [`crate::LocalOrg::history`].
    pub history: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            client_id: "local-org-client".into(),
            client_secret: "local-org-secret".into(),
            certificate: None,
            password: "local-org-password".into(),
            security_token: "local-org-token".into(),
            daily_limit: 15_000,
            external_id: true,
            person_accounts: false,
            seed_data: false,
            objects: Vec::new(),
            fields: Vec::new(),
            duplicate_rules: Vec::new(),
            manners: Manners::default(),
            events_port: 0,
            change_events: Vec::new(),
            persist: None,
            history: false,
        }
    }
}
