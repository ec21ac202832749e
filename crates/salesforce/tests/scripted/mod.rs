//! A server that answers what a test tells it to, one request per connection, and keeps what it was sent.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use connector::Secret;
use egress::{Policy, Rules};
use salesforce::{Credentials, Salesforce, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const SECRET: &str = "planted-client-secret-7c1d";
pub(crate) const TOKEN: &str = "00D000000000001!planted-access-token";
pub(crate) const ORG: &str = "00D000000000001EAA";
pub(crate) const USER: &str = "005000000000001AAA";

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_login(&self) -> bool {
        self.path == "/services/oauth2/token"
    }
}

pub(crate) enum Reply {
    Json(u16, String),
    Html(u16, String),
    With(u16, Vec<(&'static str, String)>, String),
    /// An answer as it goes over the wire, head and all.
    Raw(Vec<u8>),
    /// The connection ends without an answer.
    Cut,
    /// Nothing comes, and the connection stays.
    Silence,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// The handler is given the number of the request, from 0, and the server's own port.
    pub(crate) async fn start(
        handler: impl Fn(usize, &Asked, u16) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (handler, seen) = (Arc::new(handler), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
                tokio::spawn(async move { serve(stream, port, &seen, &*handler).await });
            }
        });
        Self { port, asked }
    }

    /// A server at which logging in works.
    pub(crate) async fn with_login(
        handler: impl Fn(usize, &Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let number = Mutex::new(0);
        Self::start(move |_, asked, port| {
            if asked.is_login() {
                return login(port, TOKEN);
            }
            let mut number = number.lock().expect("no panic before");
            *number += 1;
            handler(*number - 1, asked)
        })
        .await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic before").clone()
    }

    pub(crate) fn logins(&self) -> usize {
        self.asked().iter().filter(|asked| asked.is_login()).count()
    }

    pub(crate) fn client(&self) -> Salesforce {
        client(self.port)
    }
}

pub(crate) fn client(port: u16) -> Salesforce {
    let allowed_hosts = format!("127.0.0.1:{port}");
    let rules = Rules {
        allowed_hosts: &allowed_hosts,
        timeout: Duration::from_secs(2),
        ..Rules::default()
    };
    let policy = Policy::parse(&rules).expect("a policy");
    let credentials = Credentials::ClientCredentials {
        client_id: "app".into(),
        client_secret: Secret::new(SECRET.into()),
    };
    Salesforce::new(&Settings::new(format!("http://127.0.0.1:{port}")), credentials, &policy)
        .expect("a client")
}

pub(crate) fn login(port: u16, token: &str) -> Reply {
    let body = serde_json::json!({
        "access_token": token, "instance_url": format!("http://127.0.0.1:{port}"), "token_type": "Bearer",
        "id": format!("https://login.salesforce.com/id/{ORG}/{USER}"), "issued_at": "1682703577744",
    });
    Reply::Json(200, body.to_string())
}

async fn serve(
    mut stream: TcpStream,
    port: u16,
    seen: &Mutex<Vec<Asked>>,
    handler: &(dyn Fn(usize, &Asked, u16) -> Reply + Send + Sync),
) {
    let Some(asked) = read(&mut stream).await else { return };
    let reply = {
        let mut seen = seen.lock().expect("no panic before");
        seen.push(asked.clone());
        handler(seen.len() - 1, &asked, port)
    };
    let (status, headers, body) = match reply {
        Reply::Json(status, body) => {
            (status, vec![("content-type", "application/json;charset=UTF-8".into())], body)
        }
        Reply::Html(status, body) => (status, vec![("content-type", "text/html".into())], body),
        Reply::With(status, headers, body) => (status, headers, body),
        Reply::Raw(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            return;
        }
        Reply::Cut => return,
        Reply::Silence => return tokio::time::sleep(Duration::from_secs(5)).await,
    };
    let mut head =
        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16_384];
    let end = loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or_default();
    while bytes.len() < end + 4 + length {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
    }
    let body = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    Some(Asked { method, path, headers, body })
}
