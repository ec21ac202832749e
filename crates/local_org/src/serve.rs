//! From sockets to requests and back.

use crate::exchange::{Answer, Body, Request};
use crate::gate::{self, Delivery};
use crate::org::Org;
use crate::{ApiError, bulk, control, wire};
use axum::Router;
use axum::body::Body as HttpBody;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, Request as HttpRequest, Response, StatusCode};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_service::Service;

/// The largest body, before and after it is unpacked (App Limits Cheatsheet: about 50 MB).
const LARGEST_BODY: u64 = 50 << 20;

/// Of the data of a bulk job: 150 MB once it is encoded in base64 (Bulk API guide, Limits).
const LARGEST_UPLOAD: u64 = 100 << 20;

#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Org>>);

impl Shared {
    pub(crate) fn new(org: Org) -> Self {
        Self(Arc::new(Mutex::new(org)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Org> {
        // A request that panicked is a defect of its own; the others go on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Told with an answer that has to be withheld.
#[derive(Clone, Copy)]
struct Cut;

/// The connection ends without an answer.
#[derive(Debug)]
struct Dropped;

impl std::fmt::Display for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is dropped")
    }
}

impl std::error::Error for Dropped {}

/// Serves connections until it is told to stop.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    shared: Shared,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let router = Router::new()
        .fallback(handle)
        .layer(DefaultBodyLimit::max(LARGEST_BODY as usize))
        .with_state(shared);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return Ok(()),
        };
        let Ok((stream, _)) = accepted else { continue };
        // Small answers would otherwise wait for the other side's acknowledgement.
        let _ = stream.set_nodelay(true);
        let router = router.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: HttpRequest<Incoming>| {
                let mut router = router.clone();
                async move {
                    let response: Result<Response<HttpBody>, Infallible> =
                        router.call(request).await;
                    let Ok(response) = response;
                    if response.extensions().get::<Cut>().is_some() {
                        return Err(Dropped);
                    }
                    Ok(response)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            // An error here is the other side's going away, or a cut that was ordered.
            let _ = connection.await;
        });
    }
}

async fn handle(
    State(shared): State<Shared>,
    request: HttpRequest<HttpBody>,
) -> Response<HttpBody> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::new(parts.method.as_str(), target);
    let headers = parts.headers.iter();
    request.headers = headers
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    // A request that broke off is not served, as if it had never come.
    let Ok(body) = body.collect().await else { return dropped() };
    let body = body.to_bytes();
    let largest = if bulk::is_upload(&request) { LARGEST_UPLOAD } else { LARGEST_BODY };
    let unpacked = match request.header("content-encoding") {
        Some(encoding) if encoding.eq_ignore_ascii_case("gzip") => unpack(&body, largest),
        _ => Ok(body.to_vec()),
    };
    match unpacked {
        Ok(body) if body.len() as u64 <= largest => request.body = body,
        _ => {
            let error =
                ApiError::new(400, "JSON_PARSER_ERROR", "The request body can't be unpacked");
            return respond(&request, error.into(), Delivery::default()).await;
        }
    }
    if request.path == "/control" || request.path.starts_with("/control/") {
        let answer = control::control(&mut shared.lock(), &request);
        return respond(&request, answer, Delivery::default()).await;
    }
    let arrival = gate::arrive(&mut shared.lock(), &request);
    let latency = arrival.latency_ms();
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    let (answer, delivery) = gate::pass(&mut shared.lock(), &request, &arrival);
    respond(&request, answer, delivery).await
}

fn dropped() -> Response<HttpBody> {
    let mut response = Response::new(HttpBody::empty());
    response.extensions_mut().insert(Cut);
    response
}

async fn respond(request: &Request, answer: Answer, delivery: Delivery) -> Response<HttpBody> {
    if delivery.cut {
        return dropped();
    }
    let pretty = request.header("x-prettyprint").is_some_and(|value| value != "0");
    let (kind, mut bytes) = match answer.body {
        Body::Empty => (None, Vec::new()),
        Body::Json(value) => (Some("application/json;charset=UTF-8"), wire::write(&value, pretty)),
        Body::Html(page) => (Some("text/html;charset=UTF-8"), page.into_bytes()),
        Body::Csv(bytes) => (Some("text/csv;charset=UTF-8"), bytes),
        Body::Xml(text) => (Some("text/xml;charset=UTF-8"), text.into_bytes()),
    };
    let mut headers = answer.headers;
    if let Some(kind) = kind {
        headers.push(("Content-Type", kind.to_owned()));
    }
    let packed = request.header("accept-encoding").is_some_and(|e| e.contains("gzip"));
    if packed
        && bytes.len() > 1024
        && let Ok(smaller) = pack(&bytes)
    {
        bytes = smaller;
        headers.push(("Content-Encoding", "gzip".to_owned()));
    }
    if request.method == "HEAD" {
        bytes.clear();
    }
    let body = if delivery.half {
        let half = bytes.len() / 2;
        HttpBody::new(Pieces {
            rest: vec![Bytes::from(bytes).slice(..half)],
            total: None,
            pause: None,
            cut: true,
            sleep: None,
        })
    } else if delivery.slow_ms > 0 && !bytes.is_empty() {
        let bytes = Bytes::from(bytes);
        let size = bytes.len().div_ceil(4);
        let mut pieces: Vec<Bytes> = (0..bytes.len())
            .step_by(size)
            .map(|at| bytes.slice(at..(at + size).min(bytes.len())))
            .collect();
        pieces.reverse();
        let pause = Duration::from_millis(delivery.slow_ms) / pieces.len() as u32;
        HttpBody::new(Pieces {
            rest: pieces,
            total: Some(bytes.len() as u64),
            pause: Some(pause),
            cut: false,
            sleep: None,
        })
    } else {
        HttpBody::from(bytes)
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A body that comes in pieces, with a pause before each, and may break off.
struct Pieces {
    /// Last one first.
    rest: Vec<Bytes>,
    total: Option<u64>,
    pause: Option<Duration>,
    cut: bool,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, io::Error>>> {
        if let Some(pause) = self.pause.filter(|_| !self.rest.is_empty()) {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        match self.rest.pop() {
            Some(piece) => Poll::Ready(Some(Ok(hyper::body::Frame::data(piece)))),
            None if self.cut => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.total.map_or_else(hyper::body::SizeHint::default, hyper::body::SizeHint::with_exact)
    }
}

fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut packed)?;
    Ok(packed)
}

fn unpack(bytes: &[u8], largest: u64) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).take(largest + 1).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}
