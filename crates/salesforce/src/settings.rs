use connector::{Fault, FaultKind, Secret};
use egress::{Policy, Url};

/// The version that is spoken where nothing else is said: old enough to be everywhere, and with all
/// that is used here.
pub const DEFAULT_VERSION: &str = "62.0";

/// An org, and how to speak with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The org's My Domain: `https://acme.my.salesforce.com`.
    pub instance_url: String,
    /// Where to log in; the My Domain itself where nothing is said. The client credentials flow
    /// works nowhere else.
    pub login_url: Option<String>,
    /// `62.0`
    pub version: String,
    /// The name under which our own changes can be told from others: it comes back in the events of
    /// change data capture (REST API guide, Sforce-Call-Options).
    pub client: String,
    /// Where the Pub/Sub API is: the public one where nothing is said.
    pub pubsub_url: Option<String>,
}

impl Settings {
    pub fn new(instance_url: impl Into<String>) -> Self {
        Self {
            instance_url: instance_url.into(),
            login_url: None,
            version: DEFAULT_VERSION.to_owned(),
            client: "sync_ext".to_owned(),
            pubsub_url: None,
        }
    }
}

/// How to prove who we are (Salesforce help, OAuth Authorization Flows). Every flow ends in an access token.
/// No Debug: most of it is secret.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// OAuth 2.0 client credentials: the app's own user, only on the org's My Domain.
    ClientCredentials { client_id: String, client_secret: Secret },
    /// A statement signed with a key of which the app has the certificate. The user has to be approved for the
    /// app beforehand.
    JwtBearer {
        client_id: String,
        username: String,
        /// RSA, in PEM form, PKCS #8 or PKCS #1, not encrypted.
        private_key: Secret,
        /// For whom the statement is, which is not always the host it is sent to; where nothing is said
        /// `https://test.salesforce.com` for a sandbox, and else `https://login.salesforce.com`.
        audience: Option<String>,
    },
    /// What a user has granted once. It may be good for one login only and come with its successor, which
    /// [`connector::Connector::rotating_secret`] tells.
    RefreshToken { client_id: String, client_secret: Option<Secret>, refresh_token: Secret },
    /// For sandboxes and developer orgs; new orgs have the flow switched off.
    Password {
        client_id: String,
        client_secret: Secret,
        username: String,
        password: Secret,
        /// Needed where we come from no address that the org trusts.
        security_token: Option<Secret>,
    },
}

/// Settings that were looked at.
pub(crate) struct Place {
    pub(crate) token_url: Url,
    pub(crate) version: String,
    pub(crate) client: String,
}

impl Place {
    pub(crate) fn new(settings: &Settings, policy: &Policy) -> Result<Self, Fault> {
        let instance = origin(&settings.instance_url, policy)?;
        let login = match &settings.login_url {
            Some(url) => origin(url, policy)?,
            None => instance,
        };
        let token_url = policy.url(&format!("{login}/services/oauth2/token"))?;
        let version = settings.version.strip_prefix('v').unwrap_or(&settings.version);
        if !is_version(version) {
            return Err(refuse(
                "INVALID_VERSION",
                format!("\"{version}\" is no version of the API"),
            )
            .with_hint("A version is given as 62.0."));
        }
        let client = &settings.client;
        if client.is_empty()
            || !client.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        {
            return Err(refuse("INVALID_CLIENT_NAME", format!("\"{client}\" can't name a client")));
        }
        Ok(Self { token_url, version: version.to_owned(), client: client.clone() })
    }
}

/// Scheme, host and port of a URL that requests may go to; a path other than / is refused.
pub(crate) fn origin(text: &str, policy: &Policy) -> Result<String, Fault> {
    let url = policy.url(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refuse("INVALID_URL", "the URL of an org has no path".to_owned())
            .with_hint("It is given as https://acme.my.salesforce.com."));
    }
    Ok(url.origin().ascii_serialization())
}

fn refuse(code: &str, message: String) -> Fault {
    Fault::new(FaultKind::Configuration, code, message)
}

fn is_version(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| {
        (2..=3).contains(&major.len()) && major.bytes().all(|b| b.is_ascii_digit()) && minor == "0"
    })
}
