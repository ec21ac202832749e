use std::net::IpAddr;
use std::str::FromStr;

use connector::{Fault, FaultKind};

/// One entry of the list of allowed hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// `login.salesforce.com`, `api.pubsub.salesforce.com:7443`: by https alone, on port 443 or the one given.
    Exact { name: String, port: u16 },
    /// `*.my.salesforce.com`: what lies below; kept with its leading dot.
    Below(String),
    /// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`: the one case in which http is allowed.
    Loopback { host: String, port: u16 },
}

impl Host {
    pub(crate) fn parse(entry: &str) -> Result<Self, Fault> {
        let entry = entry.to_ascii_lowercase();
        let refuse = |why: &str| Err(refusal(&entry, why));
        if entry.contains("://") || entry.contains(['/', '@', '?', '#', ' ', '\t']) {
            return refuse("a host alone is expected, without scheme, path or user");
        }
        if let Some((host, port)) = split_port(&entry) {
            let Some(port) = u16::from_str(port).ok().filter(|port| *port > 0) else {
                return refuse("its port is not a number from 1 to 65535");
            };
            if is_loopback(host) {
                return Ok(Self::Loopback { host: host.to_owned(), port });
            }
            if address(host).is_some() || looks_numeric(host) || !is_name(host) {
                return refuse("a port can be given only with a name or a loopback address");
            }
            return Ok(Self::Exact { name: host.to_owned(), port });
        }
        if is_loopback(&entry) {
            return refuse("a loopback address needs its port, as in 127.0.0.1:8080");
        }
        if address(&entry).is_some() || looks_numeric(&entry) {
            return refuse("an address other than loopback can't be allowed; give a name");
        }
        if let Some(suffix) = entry.strip_prefix('*') {
            return match suffix.strip_prefix('.') {
                Some(name) if is_name(name) && name.contains('.') => {
                    Ok(Self::Below(suffix.to_owned()))
                }
                _ => refuse("a suffix is written *.example.com, with two names or more"),
            };
        }
        if !is_name(&entry) {
            return refuse("it is not the name of a host");
        }
        Ok(Self::Exact { name: entry, port: 443 })
    }

    /// Does the entry let this host and port through? `host` as in a URL: in lower case, IPv6 in brackets.
    pub(crate) fn admits(&self, https: bool, host: &str, port: u16) -> bool {
        match self {
            Self::Exact { name, port: p } => https && port == *p && host == name,
            Self::Below(suffix) => {
                https && port == 443 && host.len() > suffix.len() && host.ends_with(suffix.as_str())
            }
            Self::Loopback { host: loopback, port: p } => host == loopback && port == *p,
        }
    }
}

pub(crate) fn refusal(entry: &str, why: &str) -> Fault {
    Fault::new(
        FaultKind::Configuration,
        "INVALID_ALLOWED_HOST",
        format!("allowed host \"{entry}\" can't be used: {why}"),
    )
    .with_hint("Entries are names (login.salesforce.com), suffixes (*.my.salesforce.com) names with another port than 443 (api.pubsub.salesforce.com:7443), or loopback addresses with their port (127.0.0.1:8080).")
}

/// The host and the port of an entry; the colons of a bare IPv6 address part nothing.
fn split_port(entry: &str) -> Option<(&str, &str)> {
    let (host, port) = entry.rsplit_once(':')?;
    (!host.contains(':') || host.starts_with('[') && host.ends_with(']')).then_some((host, port))
}

/// Is this host this machine itself, by what it says and not by what it might resolve to?
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|a| a.is_loopback())
}

/// The address that a host is, with or without brackets.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Would a URL parser take the host for an IPv4 address in one of its odd forms (`0x7f.1`, `127.1`)?
fn looks_numeric(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    !last.is_empty()
        && (last.bytes().all(|b| b.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit())))
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::Host;

    #[test]
    fn the_grammar_of_entries() {
        let exact = |name: &str, port| Host::Exact { name: name.into(), port };
        let good = [
            ("login.salesforce.com", exact("login.salesforce.com", 443)),
            ("Login.SalesForce.com", exact("login.salesforce.com", 443)),
            ("api.pubsub.salesforce.com:7443", exact("api.pubsub.salesforce.com", 7443)),
            ("localhost.evil.com:80", exact("localhost.evil.com", 80)),
            ("*.my.salesforce.com", Host::Below(".my.salesforce.com".into())),
            ("127.0.0.1:8080", Host::Loopback { host: "127.0.0.1".into(), port: 8080 }),
            ("[::1]:8080", Host::Loopback { host: "[::1]".into(), port: 8080 }),
            ("localhost:1", Host::Loopback { host: "localhost".into(), port: 1 }),
        ];
        for (entry, expected) in good {
            assert_eq!(Host::parse(entry), Ok(expected), "{entry}");
        }
        let bad = [
            "",
            "*",
            "*.com",
            "*salesforce.com",
            "a.*.salesforce.com",
            "https://login.salesforce.com",
            "login.salesforce.com/x",
            "login.salesforce.com:0",
            "*.salesforce.com:443",
            "user@login.salesforce.com",
            "login.salesforce.com.",
            "lo gin.salesforce.com",
            "-a.com",
            "münchen.de",
            "127.0.0.1",
            "localhost",
            "::1",
            "::1:8080",
            "[::1]",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:x",
            "10.0.0.1",
            "10.0.0.1:80",
            "8.8.8.8",
            "0x7f.1",
            "127.1",
            "2130706433",
            "[2600::1]",
            "2600::1",
            "169.254.169.254:80",
        ];
        for entry in bad {
            let fault = Host::parse(entry).expect_err(entry);
            assert!(fault.message.contains(&format!("\"{entry}\"")), "{entry}: {}", fault.message);
        }
    }
}
