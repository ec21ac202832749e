//! A server of the Pub/Sub API that is told byte for byte what to answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Response};
use tokio::net::{TcpListener, TcpStream};

/// How the server ends what it says.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Trailers(Vec<(&'static str, String)>),
    /// Without a status.
    Bare,
    Reset,
    /// The connection is gone.
    Gone,
}

#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) end: End,
}

impl Said {
    /// A message with its length before it (gRPC over HTTP/2, Length-Prefixed-Message).
    pub(crate) fn of(messages: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "application/grpc".into())],
            pieces: messages.into_iter().map(|message| framed(&message)).collect(),
            end: End::Trailers(vec![("grpc-status", "0".into())]),
        }
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short one");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// What is said to whom.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) schema: Said,
    pub(crate) stream: Said,
}

/// Serves whatever the script says at the time; the port.
pub(crate) async fn serve(script: Arc<Mutex<Script>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&script)));
        }
    });
    port
}

async fn connection(stream: TcpStream, script: Arc<Mutex<Script>>) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let script = script.lock().expect("no panic before").clone();
        let is_schema = request.uri().path().ends_with("/GetSchema");
        let said = if is_schema { script.schema } else { script.stream };
        if matches!(said.end, End::Gone) && said.pieces.is_empty() {
            return;
        }
        tokio::spawn(async move {
            // The body of the request is held, so that the stream stays open.
            let _request = request;
            say(respond, said).await
        });
    }
}

async fn say(mut respond: SendResponse<Bytes>, said: Said) -> Option<()> {
    let mut response = Response::builder().status(said.status);
    for (name, value) in said.headers {
        response = response.header(name, value);
    }
    let mut body = respond.send_response(response.body(()).ok()?, false).ok()?;
    for piece in said.pieces {
        body.send_data(Bytes::from(piece), false).ok()?;
    }
    match said.end {
        End::Trailers(fields) => {
            let mut trailers = HeaderMap::new();
            for (name, value) in fields {
                trailers.append(name, value.parse().ok()?);
            }
            body.send_trailers(trailers).ok()?;
        }
        End::Bare => body.send_data(Bytes::new(), true).ok()?,
        End::Reset | End::Gone => {
            tokio::time::sleep(Duration::from_millis(2)).await;
            body.send_reset(h2::Reason::INTERNAL_ERROR);
        }
    }
    Some(())
}
