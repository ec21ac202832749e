//! Sockets of the event bus: one port that takes TLS and plain connections alike.

use super::service::{Scissors, Service};
use crate::serve::Shared;
use anyhow::Context;
use eventbus::v1::pub_sub_server::PubSubServer;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

/// A certificate authority that lives as long as the org.
pub(crate) struct Authority {
    /// For those that are to trust it.
    pub(crate) pem: String,
    config: Arc<ServerConfig>,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate whose issuer is called like itself for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "local org authority");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("the certificate can't be used")?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { pem: issuer.pem(), config: Arc::new(config) })
    }
}

/// Serves connections until it is told to stop.
pub(crate) async fn listen(
    listener: std::net::TcpListener,
    shared: Shared,
    authority: Arc<Authority>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&authority.config));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return Ok(()),
        };
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let service = Service { shared: shared.clone() };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // An error here is the other side's going away.
            if is_tls(&stream).await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    serve(stream, service).await;
                }
            } else {
                serve(stream, service).await;
            }
        });
    }
}

/// A hello of TLS begins with the number of a handshake, and HTTP/2 with a letter.
async fn is_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first == [0x16]
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, service: Service) {
    let scissors = Scissors::default();
    let cut = Arc::clone(&scissors.0);
    let server = PubSubServer::new(service);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(scissors.clone());
        server.clone().call(request)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        _ = connection => {}
        () = cut.notified() => {}
    }
}
