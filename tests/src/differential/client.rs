//! A client that sends any bytes as a request and says what came back, over connections that it keeps.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::wire::{Head, Reader, text};
use crate::certificates::provider;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// What a proxy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// Header lines by name in lower case, in their order.
    pub(super) headers: BTreeMap<String, Vec<String>>,
    /// As it was before it was compressed.
    pub(super) body: String,
    /// Whether it came compressed.
    pub(super) compressed: bool,
}

/// How a connection is made; the same one serves all requests that need it like that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) to: SocketAddr,
    pub(super) from: IpAddr,
    /// The server name; empty: none is sent. No TLS without it.
    pub(super) tls: Option<String>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Open connections.
#[derive(Default)]
pub(super) struct Client {
    open: HashMap<Route, Reader<Box<dyn Stream>>>,
}

impl Client {
    /// Sends a request and reads its answer; the error says why there is none.
    pub(super) async fn send(&mut self, route: &Route, bytes: &[u8]) -> Result<Answered, String> {
        let kept = self.open.remove(route);
        let reused = kept.is_some();
        let first = self.attempt(route, kept, bytes).await;
        match first {
            // The other side closed it meanwhile, as it may.
            Ok(None) if reused => {
                let second = self.attempt(route, None, bytes).await;
                second?.ok_or_else(|| "closed without an answer".to_owned())
            }
            other => other?.ok_or_else(|| "closed without an answer".to_owned()),
        }
    }

    /// `None`: closed before the first byte of an answer.
    async fn attempt(
        &mut self,
        route: &Route,
        kept: Option<Reader<Box<dyn Stream>>>,
        bytes: &[u8],
    ) -> Result<Option<Answered>, String> {
        let exchange = async {
            let mut reader = match kept {
                Some(reader) => reader,
                None => Reader::new(
                    connect(route)
                        .await
                        .map_err(|error| format!("no connection: {error}"))?,
                ),
            };
            // What was answered before everything was sent counts all the same.
            drop(reader.stream.write_all(bytes).await);
            let answer = match answer(&mut reader, bytes.starts_with(b"HEAD ")).await {
                Ok(answer) => answer,
                // Traefik resets idle connections when an entry point gets its first router with TLS.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
                Err(error) => return Err(format!("a broken answer: {error}")),
            };
            Ok(answer.map(|(answer, closes)| (answer, (!closes).then_some(reader))))
        };
        let done = timeout(LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")))?;
        let Some((answer, reader)) = done else {
            return Ok(None);
        };
        if let Some(reader) = reader {
            self.open.insert(route.clone(), reader);
        }
        Ok(Some(answer))
    }
}

async fn answer<S: AsyncRead + Unpin>(
    reader: &mut Reader<S>,
    head_only: bool,
) -> io::Result<Option<(Answered, bool)>> {
    let (head, status) = loop {
        let Some(head) = reader.head().await? else {
            return Ok(None);
        };
        let status = status(&head)?;
        // Interim ones are followed by the answer.
        if !(100..200).contains(&status) || status == 101 {
            break (head, status);
        }
    };
    let mut closes = head.closes();
    let body = match head.length() {
        _ if head_only || matches!(status, 204 | 304) => Vec::new(),
        _ if head.chunked() => reader.chunks().await?,
        Some(length) => reader.exactly(length).await?,
        None => {
            closes = true;
            reader.rest().await?
        }
    };
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in head.headers {
        headers.entry(name.to_ascii_lowercase()).or_default().push(value);
    }
    let encoding = headers.get("content-encoding").and_then(|lines| lines.first());
    let plain = encoding.and_then(|encoding| decompress(encoding, &body));
    let answered = Answered {
        status,
        headers,
        compressed: plain.is_some(),
        body: text(&plain.unwrap_or(body)),
    };
    Ok(Some((answered, closes)))
}

/// What was compressed; `None` when it was not, whatever the header says.
fn decompress(encoding: &str, body: &[u8]) -> Option<Vec<u8>> {
    if body.is_empty() {
        return None;
    }
    let mut plain = Vec::new();
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut plain).ok()?,
        "br" => brotli::Decompressor::new(body, 4096)
            .read_to_end(&mut plain)
            .ok()?,
        "zstd" => return zstd::decode_all(body).ok(),
        _ => return None,
    };
    Some(plain)
}

fn status(head: &Head) -> io::Result<u16> {
    let status = head
        .first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other(format!("no status line: {:?}", head.first)))
}

async fn connect(route: &Route) -> io::Result<Box<dyn Stream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(route.from, 0))?;
    let stream = socket.connect(route.to).await?;
    stream.set_nodelay(true)?;
    match &route.tls {
        None => Ok(Box::new(stream)),
        Some(name) => Ok(Box::new(secure(stream, name).await?)),
    }
}

async fn secure(stream: TcpStream, name: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.enable_sni = !name.is_empty();
    let name = if name.is_empty() { "no.name" } else { name };
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Trusts every server: each proxy makes a certificate of its own for names it has none for.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
