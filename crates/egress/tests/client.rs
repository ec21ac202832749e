//! The client against servers that answer what a test tells them to, and against nobody.

use std::time::Duration;

use connector::FaultKind;
use egress::{Client, Method, Policy, Rules, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A server that answers one connection with these bytes and closes it.
async fn answering(bytes: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = Vec::new();
            let mut piece = [0; 4096];
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(n) => seen.extend_from_slice(&piece[..n]),
                }
            }
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}

fn client(port: u16, body_limit: usize) -> Client {
    let allowed_hosts = format!("127.0.0.1:{port}");
    let (timeout, connect_timeout) = (Duration::from_millis(500), Duration::from_millis(250));
    let rules = Rules {
        allowed_hosts: &allowed_hosts,
        body_limit,
        timeout,
        connect_timeout,
        ..Rules::default()
    };
    Policy::parse(&rules).and_then(|policy| policy.client()).expect("a client")
}

async fn get(client: &Client, url: &str) -> Result<egress::Response, connector::Fault> {
    client.send(client.request(Method::GET, Url::parse(url).expect("a URL"))).await
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let port = answering(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
            .to_vec(),
    )
    .await;
    let answer =
        get(&client(port, 100), &format!("http://127.0.0.1:{port}/")).await.expect("an answer");
    assert_eq!(answer.status, 302);
}

#[tokio::test]
async fn a_body_over_the_limit_is_given_up() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n".to_vec();
    bytes.extend([b'x'; 101]);
    let port = answering(bytes).await;
    let url = format!("http://127.0.0.1:{port}/");
    let fault = get(&client(port, 100), &url).await.err().expect("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("ANSWER_TOO_LARGE", FaultKind::Ambiguous));
    assert_eq!(get(&client(port, 101), &url).await.expect("an answer").body.len(), 101);
}

#[tokio::test]
async fn a_body_that_unpacks_to_more_than_the_limit_is_given_up() {
    // 1 MB of zero bytes, packed to about 1 kB.
    let packed = include_bytes!("zeros.gz");
    assert!(packed.len() < 2000);
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    )
    .into_bytes();
    bytes.extend(packed);
    let port = answering(bytes).await;
    let url = format!("http://127.0.0.1:{port}/");
    let fault = get(&client(port, 100_000), &url).await.err().expect("a fault");
    assert_eq!(fault.code, "ANSWER_TOO_LARGE");
    assert_eq!(get(&client(port, 1 << 20), &url).await.expect("an answer").body.len(), 1 << 20);
}

#[tokio::test]
async fn nobody_there_means_that_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    drop(listener);
    let fault =
        get(&client(port, 100), &format!("http://127.0.0.1:{port}/")).await.err().expect("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("NOT_CONNECTED", FaultKind::Transient));
}

#[tokio::test]
async fn a_connection_that_ends_before_the_answer_leaves_it_open() {
    let port = answering(Vec::new()).await;
    let fault =
        get(&client(port, 100), &format!("http://127.0.0.1:{port}/")).await.err().expect("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("CONNECTION_LOST", FaultKind::Ambiguous));
    let port = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf".to_vec()).await;
    let fault =
        get(&client(port, 100), &format!("http://127.0.0.1:{port}/")).await.err().expect("a fault");
    assert_eq!(fault.kind, FaultKind::Ambiguous);
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_with_the_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let fault =
        get(&client(port, 100), &format!("http://127.0.0.1:{port}/")).await.err().expect("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("TIMEOUT", FaultKind::Ambiguous));
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_never_asked() {
    let fault = get(&client(1, 100), "http://127.0.0.1:2/").await.err().expect("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("HOST_NOT_ALLOWED", FaultKind::Configuration));
}

#[tokio::test]
async fn a_name_that_leads_to_a_private_address_is_refused() {
    // The name of this machine itself, as the system's resolver knows it.
    let rules = Rules { allowed_hosts: "ip6-localhost", ..Rules::default() };
    let client = Policy::parse(&rules).and_then(|policy| policy.client()).expect("a client");
    let fault = get(&client, "https://ip6-localhost/").await.err().expect("a fault");
    assert!(matches!(fault.code.as_str(), "HOST_NOT_ALLOWED" | "NAME_NOT_RESOLVED"), "{fault:?}");
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_end_sends_nothing() {
    let port = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let fault = get(&client(port, 100), &format!("https://127.0.0.1:{port}/"))
        .await
        .err()
        .expect("a fault");
    assert_eq!((fault.code.as_str(), fault.kind), ("CONNECT_TIMEOUT", FaultKind::Transient));
}
