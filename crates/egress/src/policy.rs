use std::time::Duration;

use connector::{Fault, FaultKind};
use reqwest::Url;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::client::Client;
use crate::host::Host;

/// Most bytes of one answer, after decompression, where nothing else is said.
pub const DEFAULT_BODY_LIMIT: usize = 64 << 20;

/// What an administrator says about ways out, as texts.
#[derive(Clone)]
pub struct Rules<'a> {
    /// Comma separated: `login.salesforce.com, *.my.salesforce.com, 127.0.0.1:8080`.
    pub allowed_hosts: &'a str,
    /// `http://proxy.example.com:3128`; empty: none, whatever the environment says. It is the proxy
    /// then that finds the addresses of names; which it may reach is for its own rules to say.
    pub proxy: &'a str,
    /// Certificates in PEM form that are trusted besides those of the system; empty: none.
    pub ca_pem: &'a [u8],
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time of one request, its answer included.
    pub timeout: Duration,
    /// Most bytes of one answer, after decompression.
    pub body_limit: usize,
}

impl Default for Rules<'_> {
    fn default() -> Self {
        Self {
            allowed_hosts: "",
            proxy: "",
            ca_pem: &[],
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(120),
            body_limit: DEFAULT_BODY_LIMIT,
        }
    }
}

/// Where requests may go. No Debug: the address of a proxy may hold a password.
#[derive(Clone)]
pub struct Policy {
    pub(crate) hosts: Vec<Host>,
    pub(crate) proxy: Option<Url>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
}

impl Policy {
    /// Reads the rules. An error names the entry that can't be used.
    pub fn parse(rules: &Rules<'_>) -> Result<Self, Fault> {
        let hosts = rules
            .allowed_hosts
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(Host::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            proxy: proxy(rules.proxy.trim())?,
            authorities: authorities(rules.ca_pem)?,
            connect_timeout: rules.connect_timeout,
            timeout: rules.timeout,
            body_limit: rules.body_limit,
        })
    }

    /// May a request go there?
    pub fn check(&self, url: &Url) -> Result<(), Fault> {
        let Some(host) = url.host_str() else {
            return Err(not_allowed("a URL has no host"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(not_allowed(format!(
                "the URL of host \"{host}\" holds a user or a password"
            )));
        }
        let https = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(not_allowed(format!("scheme \"{other}\" can't be used"))),
        };
        let port = url.port_or_known_default().unwrap_or_default();
        if self.hosts.iter().any(|entry| entry.admits(https, host, port)) {
            return Ok(());
        }
        let place = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        if !https && self.hosts.iter().any(|entry| entry.admits(true, host, 443)) {
            return Err(not_allowed(format!("host \"{place}\" can be reached by https only")));
        }
        Err(not_allowed(format!("host \"{place}\" is not among the allowed hosts"))
            .with_hint("An administrator can add it to the setting sync_ext.allowed_hosts."))
    }

    /// The text as a URL that a request may go to.
    pub fn url(&self, text: &str) -> Result<Url, Fault> {
        let url = Url::parse(text).map_err(|error| {
            Fault::new(
                FaultKind::Configuration,
                "INVALID_URL",
                format!("a URL can't be read: {error}"),
            )
        })?;
        self.check(&url)?;
        Ok(url)
    }

    /// A client that keeps to the policy. Costly: one for a connection, to be cloned.
    pub fn client(&self) -> Result<Client, Fault> {
        Client::new(self)
    }

    /// Is the host one that the list names as loopback, so that it may be this machine?
    pub(crate) fn names_loopback(&self, host: &str) -> bool {
        self.hosts.iter().any(|entry| matches!(entry, Host::Loopback { host: h, .. } if h == host))
    }

    /// Can anything be reached at all that needs a certificate?
    pub(crate) fn reaches_out(&self) -> bool {
        self.hosts.iter().any(|entry| !matches!(entry, Host::Loopback { .. }))
    }
}

pub(crate) fn not_allowed(message: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Configuration, "HOST_NOT_ALLOWED", message)
}

fn proxy(text: &str) -> Result<Option<Url>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    // The text is not repeated: it may hold a password.
    let refuse = |why: &str| {
        Fault::new(
            FaultKind::Configuration,
            "INVALID_PROXY",
            format!("the proxy can't be used: {why}"),
        )
        .with_hint("A proxy is given as http://host:port or https://host:port.")
    };
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("its scheme is neither http nor https"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("it has no host"));
    }
    Ok(Some(url))
}

fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let refuse = |why: String| {
        Fault::new(
            FaultKind::Configuration,
            "INVALID_CA_FILE",
            format!("the CA file can't be used: {why}"),
        )
    };
    if pem.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(error.to_string()))?;
    if found.is_empty() {
        return Err(refuse("it holds no certificate in PEM form".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Policy, Rules};

    fn policy(allowed_hosts: &str) -> Policy {
        Policy::parse(&Rules { allowed_hosts, ..Rules::default() }).expect("a test's policy")
    }

    #[test]
    fn only_listed_places_pass() {
        let policy = policy(
            "login.salesforce.com, *.my.salesforce.com,127.0.0.1:8080,[::1]:8081,localhost:8082",
        );
        let cases = [
            ("https://login.salesforce.com/services/oauth2/token", true),
            ("https://LOGIN.salesforce.com/", true),
            ("https://login.salesforce.com:443/", true),
            ("https://acme.my.salesforce.com/x?q=1", true),
            ("https://acme--dev.sandbox.my.salesforce.com/", true),
            ("http://127.0.0.1:8080/", true),
            ("https://127.0.0.1:8080/", true),
            ("http://[::1]:8081/", true),
            ("http://[0:0:0:0:0:0:0:1]:8081/", true),
            ("http://localhost:8082/", true),
            ("http://0x7f.1:8080/", true),
            ("http://login.salesforce.com/", false),
            ("https://login.salesforce.com:8443/", false),
            ("https://login.salesforce.com./", false),
            ("https://xlogin.salesforce.com/", false),
            ("https://my.salesforce.com/", false),
            ("https://evilmy.salesforce.com/", false),
            ("https://acme.my.salesforce.com.evil.com/", false),
            ("https://user@login.salesforce.com/", false),
            ("https://user:pw@login.salesforce.com/", false),
            ("https://login.salesforce.com@evil.com/", false),
            ("https://evil.com\\@login.salesforce.com/", false),
            ("https://evil.com#.my.salesforce.com/", false),
            ("https://evil.com?.my.salesforce.com", false),
            ("ftp://login.salesforce.com/", false),
            ("file:///etc/passwd", false),
            ("data:text/plain,x", false),
            ("http://127.0.0.1:8081/", false),
            ("http://127.0.0.1/", false),
            ("http://127.0.0.2:8080/", false),
            ("http://localhost:8080/", false),
            ("https://10.0.0.1/", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://2130706433/", false),
            ("https://8.8.8.8/", false),
            ("https://[::ffff:127.0.0.1]:8080/", false),
            ("https://[2600::1]/", false),
        ];
        for (url, expected) in cases {
            let passed = url.parse().is_ok_and(|url| policy.check(&url).is_ok());
            assert_eq!(passed, expected, "{url}");
        }
    }

    #[test]
    fn an_empty_list_lets_nothing_through() {
        assert!(policy("").url("https://login.salesforce.com/").is_err());
        assert!(policy(" , ,").url("https://login.salesforce.com/").is_err());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_of_a_proxy() {
        let fault = |rules: Rules<'_>| Policy::parse(&rules).err().expect("a fault");
        let hosts = fault(Rules { allowed_hosts: "a.example.com,10.0.0.1", ..Rules::default() });
        assert!(hosts.message.contains("\"10.0.0.1\""), "{hosts}");
        for proxy in ["socks5://u:hunter2@p:1", "hunter2", "http://", "mailto:hunter2"] {
            let fault = fault(Rules { proxy, ..Rules::default() });
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
        let ca = fault(Rules { ca_pem: b"nothing", ..Rules::default() });
        assert_eq!(ca.code, "INVALID_CA_FILE");
    }

    #[test]
    fn a_host_that_is_not_allowed_is_named_with_what_to_do() {
        let fault = policy("a.example.com").url("https://b.example.com/x?token=1").unwrap_err();
        assert_eq!(fault.code, "HOST_NOT_ALLOWED");
        assert!(fault.message.contains("\"b.example.com\""));
        assert!(!fault.message.contains("token"));
        assert!(fault.hint.contains("sync_ext.allowed_hosts"));
    }
}
