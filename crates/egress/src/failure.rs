use std::error::Error;
use std::io;

use connector::{Fault, FaultKind};
use reqwest::Url;

use crate::resolver::Refused;

pub(crate) const REACH: &str = "Check host and port, and whether this server may reach them.";

/// Sorts a request that came to no answer. What failed before the connection stood carried out
/// nothing; of all else nobody knows.
pub(crate) fn sort(error: reqwest::Error) -> Fault {
    let host = error.url().and_then(Url::host_str).unwrap_or_default().to_owned();
    // A URL may hold values of records.
    let error = error.without_url();
    if error.is_builder() {
        return Fault::new(FaultKind::Defect, "INVALID_REQUEST", deepest(&error));
    }
    if let Some(refused) = find::<Refused>(&error) {
        return not_public(refused);
    }
    if !error.is_connect() {
        return if error.is_timeout() {
            Fault::new(FaultKind::Ambiguous, "TIMEOUT", "no whole answer came in time")
        } else {
            Fault::new(FaultKind::Ambiguous, "CONNECTION_LOST", deepest(&error))
        };
    }
    if let Some(tls) = find::<rustls::Error>(&error) {
        return of_tls(tls);
    }
    if error.is_timeout() {
        return Fault::new(
            FaultKind::Transient,
            "CONNECT_TIMEOUT",
            format!("no connection to host \"{host}\" came about in time"),
        )
        .with_hint(REACH);
    }
    let cause = deepest(&error);
    if error.is_dns() {
        return not_resolved(&host, &cause);
    }
    let message = format!("no connection to host \"{host}\": {cause}");
    Fault::new(FaultKind::Transient, "NOT_CONNECTED", message).with_hint(REACH)
}

pub(crate) fn not_public(refused: &Refused) -> Fault {
    Fault::new(FaultKind::Configuration, "HOST_NOT_ALLOWED", refused.to_string())
        .with_hint("A name of a host in another network can be reached only through a proxy.")
}

pub(crate) fn not_resolved(host: &str, cause: &str) -> Fault {
    let message = format!("no address is found for host \"{host}\": {cause}");
    Fault::new(FaultKind::Transient, "NAME_NOT_RESOLVED", message)
        .with_hint("Check the name, and whether this server can resolve names.")
}

pub(crate) fn of_tls(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(why) => Fault::new(
            FaultKind::Configuration,
            "CERTIFICATE_REFUSED",
            format!("the other side's certificate is not trusted: {why}"),
        )
        .with_hint("A certificate authority of your own is named in the setting sync_ext.ca_file."),
        other => Fault::new(FaultKind::Transient, "TLS_FAILED", other.to_string()),
    }
}

pub(crate) fn too_large(limit: usize) -> Fault {
    Fault::new(
        FaultKind::Ambiguous,
        "ANSWER_TOO_LARGE",
        format!("an answer is larger than {limit} bytes"),
    )
}

/// The cause at the bottom: the layers above only say that something below them failed.
fn deepest(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = cause(error) {
        error = source;
    }
    error.to_string()
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(found) = this.downcast_ref::<T>() {
            return Some(found);
        }
        error = cause(this);
    }
    None
}

/// An I/O error hides the error that it wraps from `source`, and hands out that one's source.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(inner);
    }
    error.source()
}
