//! Connections for what is not a request and its answer, under the same rules as requests.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use connector::{Fault, FaultKind};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::tls;
use crate::failure::{REACH, of_tls};
use crate::host::{address, is_loopback};
use crate::policy::Policy;
use crate::resolver::{Refused, addresses};

/// Longest answer of a proxy to the wish for a connection.
const LONGEST_ANSWER: usize = 8192;

/// A connection to one place, with TLS where its URL says https.
pub struct Connection(Box<dyn Io>);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Policy {
    /// Connects to the place that a URL names, if the policy lets it, through the proxy where there is one.
    /// `protocol` is what is to be spoken, as TLS has to name it (`h2`).
    ///
    /// # Errors
    /// Nothing has been sent to the other side, whatever the error is.
    pub async fn connect(&self, url: &Url, protocol: &str) -> Result<Connection, Fault> {
        self.check(url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        let opened = tokio::time::timeout(self.connect_timeout, async {
            let proxy = self.proxy.as_ref().filter(|_| !is_loopback(&host));
            let stream: Box<dyn Io> = match proxy {
                Some(proxy) => self.tunnel(proxy, &host, port).await?,
                None => Box::new(self.reach(&host, port).await?),
            };
            if url.scheme() == "https" {
                self.secure(stream, &host, Some(protocol)).await
            } else {
                Ok(stream)
            }
        });
        match opened.await {
            Ok(opened) => opened.map(Connection),
            Err(_) => {
                let message = format!("no connection to host \"{host}\" came about in time");
                Err(Fault::new(FaultKind::Transient, "CONNECT_TIMEOUT", message).with_hint(REACH))
            }
        }
    }

    async fn reach(&self, host: &str, port: u16) -> Result<TcpStream, Fault> {
        // An address got past the policy as one that is listed, or as the proxy's own.
        let found = match address(host) {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => addresses(self, host.to_owned()).await.map_err(|error| of_name(host, error))?,
        };
        let mut last = None;
        for mut place in found {
            place.set_port(port);
            match dial(place).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        let cause = last.map(|error| error.to_string()).unwrap_or_default();
        let message = format!("no connection to host \"{host}\": {cause}");
        Err(Fault::new(FaultKind::Transient, "NOT_CONNECTED", message).with_hint(REACH))
    }

    /// Through a proxy (RFC 9110, 9.3.6 CONNECT).
    async fn tunnel(&self, proxy: &Url, host: &str, port: u16) -> Result<Box<dyn Io>, Fault> {
        let own = proxy.host_str().unwrap_or_default().to_owned();
        let reached = self.reach(&own, proxy.port_or_known_default().unwrap_or_default()).await?;
        let mut stream: Box<dyn Io> = Box::new(reached);
        if proxy.scheme() == "https" {
            stream = self.secure(stream, &own, None).await?;
        }
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if !proxy.username().is_empty() || proxy.password().is_some() {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&credentials(proxy));
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let answer = async {
            stream.write_all(request.as_bytes()).await?;
            stream.flush().await?;
            let mut head = Vec::new();
            // Byte by byte: what follows the head belongs to the other side.
            while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_ANSWER {
                head.push(stream.read_u8().await?);
            }
            io::Result::Ok(head)
        };
        let refused = |why: String| {
            Fault::new(
                FaultKind::Transient,
                "PROXY_REFUSED",
                format!("the proxy opens no connection to host \"{host}\": {why}"),
            )
            .with_hint("Check the rules of the proxy that sync_ext.proxy names.")
        };
        let head = answer.await.map_err(|error| refused(error.to_string()))?;
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if status.len() == 3 && status.starts_with(b"2") {
            return Ok(stream);
        }
        let status: String =
            status.iter().filter(|b| b.is_ascii_digit()).take(3).map(|b| char::from(*b)).collect();
        Err(refused(format!("it answers {status}")))
    }

    async fn secure(
        &self,
        stream: Box<dyn Io>,
        host: &str,
        protocol: Option<&str>,
    ) -> Result<Box<dyn Io>, Fault> {
        let mut config = tls(self)?;
        config.alpn_protocols = protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| {
            let message = format!("\"{host}\" can't be the name of a certificate");
            Fault::new(FaultKind::Configuration, "INVALID_URL", message)
        })?;
        let secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let secured =
            secured.map_err(|error| match error.get_ref().and_then(|e| e.downcast_ref()) {
                Some(tls) => of_tls(tls),
                None => Fault::new(FaultKind::Transient, "TLS_FAILED", error.to_string()),
            })?;
        Ok(Box::new(secured))
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn of_name(host: &str, error: Box<dyn std::error::Error + Send + Sync>) -> Fault {
    match error.downcast_ref::<Refused>() {
        Some(refused) => crate::failure::not_public(refused),
        None => crate::failure::not_resolved(host, &error.to_string()),
    }
}

/// User and password as basic authentication has them (RFC 7617).
fn credentials(proxy: &Url) -> String {
    let plain = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let (user, password) = (plain(proxy.username()), plain(proxy.password().unwrap_or_default()));
    BASE64.encode([user, password].join(&b':'))
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
