use std::sync::Arc;
use std::time::Duration;

use connector::{Fault, FaultKind};
use reqwest::header::HeaderMap;
use reqwest::{Method, Request, StatusCode, Url};
use rustls::{ClientConfig, RootCertStore};

use crate::failure::{sort, too_large};
use crate::policy::Policy;
use crate::resolver::Filter;

/// Longer than a busy stream pauses, shorter than servers keep a silent connection: a request must
/// not go out on one that is being closed, because nobody could tell what became of it.
const IDLE: Duration = Duration::from_secs(30);

/// Sends requests under a [`Policy`]. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    policy: Arc<Policy>,
    http: reqwest::Client,
}

/// An answer with its whole body.
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(policy: &Policy) -> Result<Self, Fault> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(policy)?)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .http1_only()
            .connect_timeout(policy.connect_timeout)
            .timeout(policy.timeout)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true)
            .dns_resolver(Filter::new(policy.clone()));
        if let Some(url) = &policy.proxy {
            let proxy = reqwest::Proxy::all(url.clone()).map_err(unusable)?;
            let not_for = reqwest::NoProxy::from_string("localhost,127.0.0.0/8,::1");
            builder = builder.proxy(proxy.no_proxy(not_for));
        }
        let http = builder.build().map_err(unusable)?;
        Ok(Self { policy: Arc::new(policy.clone()), http })
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Sends a request, if the policy lets it, and reads the answer up to the limit of its size.
    ///
    /// The kind of a fault says what is known: with `Ambiguous` the request may have been carried
    /// out; with every other kind it never left.
    pub async fn send(&self, request: Request) -> Result<Response, Fault> {
        self.policy.check(request.url())?;
        // A runtime that stood still has not seen yet which of its connections the other side closed: it polls
        // the network on the first turn, and its connections take note on the second.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        let mut answer = self.http.execute(request).await.map_err(sort)?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        let limit = self.policy.body_limit;
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(sort)? {
            if piece.len() > limit - body.len() {
                return Err(too_large(limit));
            }
            body.extend_from_slice(&piece);
        }
        Ok(Response { status, headers, body })
    }

    /// An empty request; it is checked when it is sent.
    pub fn request(&self, method: Method, url: Url) -> Request {
        Request::new(method, url)
    }
}

/// The provider is named here and not installed for the process: a library that is loaded into a
/// server has no business with the state of the process.
pub(crate) fn tls(policy: &Policy) -> Result<ClientConfig, Fault> {
    let mut roots = RootCertStore::empty();
    if policy.reaches_out() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    for certificate in &policy.authorities {
        roots.add(certificate.clone()).map_err(|error| {
            Fault::new(
                FaultKind::Configuration,
                "INVALID_CA_FILE",
                format!("a certificate of the CA file can't be used: {error}"),
            )
        })?;
    }
    if roots.is_empty() && policy.reaches_out() {
        return Err(Fault::new(
            FaultKind::Configuration,
            "NO_CERTIFICATES",
            "the system has no certificate authorities, and no CA file names any",
        )
        .with_hint("Install the system's package ca-certificates, or set sync_ext.ca_file."));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth())
        .map_err(|error| Fault::new(FaultKind::Defect, "TLS_UNUSABLE", error.to_string()))
}

fn unusable(error: reqwest::Error) -> Fault {
    Fault::new(
        FaultKind::Configuration,
        "CLIENT_UNUSABLE",
        format!("requests can't be sent: {}", error.without_url()),
    )
}
