use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::is_public;
use crate::host::is_loopback;
use crate::policy::Policy;

/// The system's resolver, with the addresses taken out that no name may lead to. A name that
/// resolves to nothing else is an error that [`Refused`] tells from a name that is not known.
pub(crate) struct Filter {
    policy: Policy,
}

impl Filter {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy }
    }
}

/// What a name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Addresses of the public internet.
    Public,
    /// This machine, as the list of hosts names it.
    Loopback,
    /// Wherever: an administrator named the proxy itself.
    Anywhere,
}

fn reach(policy: &Policy, host: &str) -> Reach {
    let is_proxy = policy.proxy.as_ref().is_some_and(|proxy| proxy.host_str() == Some(host));
    if is_proxy {
        Reach::Anywhere
    } else if is_loopback(host) && policy.names_loopback(host) {
        Reach::Loopback
    } else {
        Reach::Public
    }
}

fn admit(reach: Reach, found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    found
        .filter(|address| match reach {
            Reach::Public => is_public(address.ip()),
            Reach::Loopback => address.ip().is_loopback(),
            Reach::Anywhere => true,
        })
        .collect()
}

impl Resolve for Filter {
    fn resolve(&self, name: Name) -> Resolving {
        let found = addresses(&self.policy, name.as_str().to_ascii_lowercase());
        Box::pin(async move { Ok(Box::new(found.await?.into_iter()) as Addrs) })
    }
}

/// The addresses of a name that something may be sent to, with port 0. At least one.
pub(crate) fn addresses(
    policy: &Policy,
    host: String,
) -> impl Future<Output = Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>>> + Send + use<> {
    let reach = reach(policy, &host);
    async move {
        let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
        let admitted = admit(reach, found);
        if admitted.is_empty() {
            return Err(Box::new(Refused { host }) as Box<dyn Error + Send + Sync>);
        }
        Ok(admitted)
    }
}

/// A name leads only to addresses that nothing may be sent to.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) host: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host \"{}\" leads to no public address", self.host)
    }
}

impl Error for Refused {}

#[cfg(test)]
mod tests {
    use super::{Reach, admit, reach};
    use crate::policy::{Policy, Rules};

    #[test]
    fn a_name_reaches_what_its_entry_says() {
        let policy = Policy::parse(&Rules {
            allowed_hosts: "a.example.com,localhost:80",
            proxy: "http://proxy.internal:3128",
            ..Rules::default()
        })
        .expect("a test's policy");
        assert_eq!(reach(&policy, "a.example.com"), Reach::Public);
        assert_eq!(reach(&policy, "localhost"), Reach::Loopback);
        assert_eq!(reach(&policy, "proxy.internal"), Reach::Anywhere);
        let listed = Policy::parse(&Rules { allowed_hosts: "a.example.com", ..Rules::default() })
            .expect("a test's policy");
        assert_eq!(reach(&listed, "localhost"), Reach::Public);
    }

    #[test]
    fn private_addresses_are_taken_out_of_an_answer() {
        let found =
            ["10.0.0.1:0", "127.0.0.1:0", "13.110.54.1:0"].map(|a| a.parse().expect("address"));
        let kept = |reach| admit(reach, found.into_iter()).len();
        assert_eq!((kept(Reach::Public), kept(Reach::Loopback), kept(Reach::Anywhere)), (1, 1, 3));
    }
}
