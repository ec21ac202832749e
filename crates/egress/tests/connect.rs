//! Connections that are no requests.

use std::sync::{Arc, Mutex};

use connector::{Fault, FaultKind};
use egress::{Policy, Rules, Url};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A server that speaks `h2` under this name and sends back what it is sent; its port, and whom it is to be
/// trusted by.
async fn echo(name: &str) -> (u16, String) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
        .expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = [0; 4];
            if stream.read_exact(&mut bytes).await.is_ok() {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (port, authority.pem())
}

/// A proxy that notes what it is asked, and leads everybody to this port, or nowhere.
async fn proxy(to: Option<u16>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            asked
                .lock()
                .expect("no panic before")
                .push(String::from_utf8_lossy(&head).into_owned());
            let Some(to) = to else {
                let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await;
                continue;
            };
            let mut far = TcpStream::connect(("127.0.0.1", to)).await.expect("the server");
            let _ =
                stream.write_all(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n").await;
            let _ = copy_bidirectional(&mut stream, &mut far).await;
        }
    });
    (port, seen)
}

async fn speak(rules: Rules<'_>, url: &str) -> Result<Vec<u8>, Fault> {
    let policy = Policy::parse(&rules).expect("a policy");
    let mut connection = policy.connect(&Url::parse(url).expect("a URL"), "h2").await?;
    connection.write_all(b"ping").await.expect("sent");
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.expect("an answer");
    Ok(answer)
}

#[tokio::test]
async fn a_proxy_leads_to_the_other_side_and_reads_nothing() {
    let (port, ca_pem) = echo("far.example.com").await;
    let (proxy_port, asked) = proxy(Some(port)).await;
    let proxy = format!("http://us%40er:p%3Aw@127.0.0.1:{proxy_port}");
    let rules = Rules {
        allowed_hosts: "far.example.com:7443",
        proxy: &proxy,
        ca_pem: ca_pem.as_bytes(),
        ..Rules::default()
    };
    assert_eq!(speak(rules.clone(), "https://far.example.com:7443").await, Ok(b"ping".to_vec()));
    let head = asked.lock().expect("no panic before").concat();
    assert!(head.starts_with("CONNECT far.example.com:7443 HTTP/1.1\r\n"), "{head}");
    // us@er:p:w
    assert!(head.contains("\r\nProxy-Authorization: Basic dXNAZXI6cDp3\r\n"), "{head}");
    // Whom the certificate does not name is not spoken with.
    let rules = Rules { allowed_hosts: "other.example.com", ..rules };
    let fault = speak(rules, "https://other.example.com").await.expect_err("another name");
    assert_eq!(fault.code, "CERTIFICATE_REFUSED");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_said_to() {
    let (proxy_port, _) = proxy(None).await;
    let proxy = format!("http://127.0.0.1:{proxy_port}");
    let rules = Rules { allowed_hosts: "far.example.com", proxy: &proxy, ..Rules::default() };
    let fault = speak(rules, "https://far.example.com").await.expect_err("refused");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Transient, "PROXY_REFUSED"));
    assert!(fault.message.contains("403"), "{fault}");
}

#[tokio::test]
async fn this_machine_is_reached_past_the_proxy_where_it_is_listed() {
    let (port, ca_pem) = echo("localhost").await;
    let (proxy_port, asked) = proxy(None).await;
    let (hosts, proxy) = (format!("localhost:{port}"), format!("http://127.0.0.1:{proxy_port}"));
    let rules = Rules {
        allowed_hosts: &hosts,
        proxy: &proxy,
        ca_pem: ca_pem.as_bytes(),
        ..Rules::default()
    };
    assert_eq!(
        speak(rules.clone(), &format!("https://localhost:{port}")).await,
        Ok(b"ping".to_vec())
    );
    let fault = speak(rules, &format!("https://127.0.0.1:{port}")).await.expect_err("not listed");
    assert_eq!(fault.code, "HOST_NOT_ALLOWED");
    assert!(asked.lock().expect("no panic before").is_empty());
}

#[tokio::test]
async fn a_name_leads_only_to_public_addresses() {
    // Every system takes such names for this machine, and no list can make them more than a name.
    let rules = Rules { allowed_hosts: "a.localhost:7443", ..Rules::default() };
    let fault = speak(rules, "https://a.localhost:7443").await.expect_err("this machine");
    assert!(["HOST_NOT_ALLOWED", "NAME_NOT_RESOLVED"].contains(&fault.code.as_str()), "{fault}");
}
