//! Whom the client trusts: the system's authorities, and those that a CA file adds.

use std::sync::Arc;

use connector::{Fault, FaultKind};
use egress::{Method, Policy, Rules, Url};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server with a certificate for this name.
    async fn serve(&self, name: &str) -> u16 {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .expect("a configuration");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        port
    }
}

async fn ask(port: u16, ca_pem: &str) -> Result<u16, Fault> {
    let allowed_hosts = format!("127.0.0.1:{port}");
    let rules =
        Rules { allowed_hosts: &allowed_hosts, ca_pem: ca_pem.as_bytes(), ..Rules::default() };
    let client = Policy::parse(&rules)?.client()?;
    let url = Url::parse(&format!("https://127.0.0.1:{port}/")).expect("a URL");
    Ok(client.send(client.request(Method::GET, url)).await?.status.as_u16())
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_a_file_names_it() {
    let authority = Authority::new();
    let port = authority.serve("127.0.0.1").await;
    assert_eq!(ask(port, &authority.pem()).await, Ok(204));
    for pem in [String::new(), Authority::new().pem()] {
        let fault = ask(port, &pem).await.expect_err("a fault");
        assert_eq!(
            (fault.code.as_str(), fault.kind),
            ("CERTIFICATE_REFUSED", FaultKind::Configuration)
        );
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let port = authority.serve("acme.my.salesforce.com").await;
    let fault = ask(port, &authority.pem()).await.expect_err("a fault");
    assert_eq!(
        (fault.code.as_str(), fault.kind),
        ("CERTIFICATE_REFUSED", FaultKind::Configuration)
    );
}
