//! A connection that the server closed while nobody looked. The caller's runtime stands still
//! between two requests, so the end of the connection is noticed only by the next of them; it must
//! not be taken for a request that may have been carried out.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use egress::{Method, Policy, Rules, Url};

#[test]
fn a_connection_closed_in_the_meantime_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let (closed, seen_closed) = mpsc::channel();
    let server = thread::spawn(move || {
        for _ in 0..20 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let length = stream.read(&mut [0; 4096]).expect("a request");
            assert!(length > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("an answer");
            // It said nothing of closing, and closes.
            drop(stream);
            closed.send(()).expect("a listener");
        }
    });
    let allowed_hosts = format!("127.0.0.1:{port}");
    let rules = Rules { allowed_hosts: &allowed_hosts, ..Rules::default() };
    let client = Policy::parse(&rules).and_then(|policy| policy.client()).expect("a client");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for _ in 0..20 {
        let url = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a URL");
        let mut request = client.request(Method::POST, url);
        *request.body_mut() = Some("{}".into());
        let answer = runtime.block_on(client.send(request));
        assert_eq!(answer.map(|answer| answer.status.as_u16()), Ok(200));
        seen_closed.recv().expect("closed");
        // What the kernel has still to deliver.
        thread::sleep(Duration::from_millis(5));
    }
    server.join().expect("no panic");
}
