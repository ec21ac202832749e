//! With a proxy that the policy names.

use std::sync::{Arc, Mutex};

use egress::{Method, Policy, Rules, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Notes the first line of each request and refuses it.
async fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let lines = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&piece[..length]).into_owned();
            lines
                .lock()
                .expect("no panic before")
                .push(text.lines().next().unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    });
    (port, seen)
}

#[tokio::test]
async fn what_is_far_goes_through_the_proxy_and_this_machine_does_not() {
    let (port, seen) = proxy().await;
    let address = format!("http://127.0.0.1:{port}");
    let allowed_hosts = format!("acme.my.salesforce.com,127.0.0.1:{port}");
    let rules = Rules { allowed_hosts: &allowed_hosts, proxy: &address, ..Rules::default() };
    let client = Policy::parse(&rules).and_then(|policy| policy.client()).expect("a client");
    let get = |url: &str| client.request(Method::GET, Url::parse(url).expect("a URL"));

    let fault = client.send(get("https://acme.my.salesforce.com/x")).await.err().expect("a fault");
    assert_eq!(
        fault.kind,
        connector::FaultKind::Transient,
        "nothing was sent past the proxy: {fault:?}"
    );
    assert_eq!(client.send(get(&format!("{address}/near"))).await.expect("an answer").status, 403);
    let refused = client.send(get("https://elsewhere.example.com/")).await.err().expect("a fault");
    assert_eq!(refused.code, "HOST_NOT_ALLOWED");

    let lines = seen.lock().expect("no panic before").clone();
    assert_eq!(lines, ["CONNECT acme.my.salesforce.com:443 HTTP/1.1", "GET /near HTTP/1.1"]);
}
