//! A client that sends any bytes as a request and says what came back, over connections that it keeps.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::case::{Hello, Version};
use super::pki::Pki;
use super::wire::{Head, Reader, text};
use crate::certificates::provider;

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(20);

/// What a proxy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    /// What TLS came to.
    pub(super) session: Option<Session>,
    pub(super) status: u16,
    /// Header lines by name in lower case, in their order.
    pub(super) headers: BTreeMap<String, Vec<String>>,
    /// As it was before it was compressed.
    pub(super) body: String,
    /// Whether it came compressed.
    pub(super) compressed: bool,
}

/// What a TLS handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The names of the server's certificate; none when the proxy has made it.
    pub(super) certificate: Option<String>,
    /// The application protocol, where one was agreed on.
    pub(super) protocol: Option<String>,
    pub(super) version: String,
    pub(super) suite: String,
}

/// How a connection is made; the same one serves all requests that need it like that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Route {
    pub(super) to: SocketAddr,
    pub(super) from: IpAddr,
    /// No TLS without it.
    pub(super) tls: Option<Hello>,
    /// In HTTP/2 without asking.
    pub(super) prior: bool,
}

/// A request in both versions of HTTP.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The bytes of HTTP/1.
    pub(super) one: Vec<u8>,
    /// In HTTP/2, where it can be said there.
    pub(super) two: Option<http::Request<Full<Bytes>>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open connection.
struct Connection {
    session: Option<Session>,
    protocol: Protocol,
}

enum Protocol {
    One(Reader<Box<dyn Stream>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// Open connections.
pub(super) struct Client {
    pki: Arc<Pki>,
    open: HashMap<Route, Connection>,
    /// What drives those of HTTP/2.
    driving: JoinSet<()>,
}

impl Client {
    /// Without connections.
    pub(super) fn new(pki: Arc<Pki>) -> Self {
        Self {
            pki,
            open: HashMap::new(),
            driving: JoinSet::new(),
        }
    }

    /// Sends a request and reads its answer; the error says why there is none.
    pub(super) async fn send(&mut self, route: &Route, message: &Message) -> Result<Answered, String> {
        let kept = self.open.remove(route);
        let reused = kept.is_some();
        let first = self.attempt(route, kept, message).await;
        match first {
            // The other side closed it meanwhile, as it may.
            Ok(None) if reused => {
                let second = self.attempt(route, None, message).await;
                second?.ok_or_else(|| "closed without an answer".to_owned())
            }
            other => other?.ok_or_else(|| "closed without an answer".to_owned()),
        }
    }

    /// `None`: closed before the first byte of an answer.
    async fn attempt(
        &mut self,
        route: &Route,
        kept: Option<Connection>,
        message: &Message,
    ) -> Result<Option<Answered>, String> {
        let exchange = async {
            let connection = match kept {
                Some(connection) => connection,
                None => self
                    .connect(route)
                    .await
                    .map_err(|error| format!("no connection: {error}"))?,
            };
            let Connection { session, protocol } = connection;
            let (answer, protocol) = match protocol {
                Protocol::One(reader) => in_one(reader, &message.one).await?,
                Protocol::Two(sender) => in_two(sender, message.two.clone()).await?,
            };
            let answer = answer.map(|answer| Answered {
                session: session.clone(),
                ..answer
            });
            let kept = protocol.map(|protocol| Connection { session, protocol });
            Ok((answer, kept))
        };
        let (answer, kept) = timeout(LIMIT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")))?;
        if let Some(kept) = kept {
            self.open.insert(route.clone(), kept);
        }
        Ok(answer)
    }

    async fn connect(&mut self, route: &Route) -> io::Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(route.from, 0))?;
        let stream = socket.connect(route.to).await?;
        stream.set_nodelay(true)?;
        let (session, stream): (_, Box<dyn Stream>) = match &route.tls {
            None => (None, Box::new(stream)),
            Some(hello) => {
                let stream = secure(stream, hello, &self.pki).await?;
                (Some(session(stream.get_ref().1, &self.pki)), Box::new(stream))
            }
        };
        let agreed = session.as_ref().and_then(|session| session.protocol.as_deref());
        let protocol = if route.prior || agreed == Some("h2") {
            let executor = hyper_util::rt::TokioExecutor::new();
            let connection = http2::handshake(executor, hyper_util::rt::TokioIo::new(stream)).await;
            let (sender, connection) = connection.map_err(io::Error::other)?;
            // How it ends shows at the requests.
            self.driving
                .spawn(async move { connection.await.unwrap_or_default() });
            Protocol::Two(sender)
        } else {
            Protocol::One(Reader::new(stream))
        };
        Ok(Connection { session, protocol })
    }
}

type Exchanged = (Option<Answered>, Option<Protocol>);

async fn in_one(mut reader: Reader<Box<dyn Stream>>, bytes: &[u8]) -> Result<Exchanged, String> {
    // What was answered before everything was sent counts all the same.
    drop(reader.stream.write_all(bytes).await);
    let answer = match answer(&mut reader, bytes.starts_with(b"HEAD ")).await {
        Ok(answer) => answer,
        // Traefik resets idle connections when an entry point gets its first router with TLS.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
        Err(error) => return Err(format!("a broken answer: {error}")),
    };
    Ok(match answer {
        Some((answer, closes)) => (Some(answer), (!closes).then_some(Protocol::One(reader))),
        None => (None, None),
    })
}

async fn in_two(
    mut sender: http2::SendRequest<Full<Bytes>>,
    request: Option<http::Request<Full<Bytes>>>,
) -> Result<Exchanged, String> {
    let request = request.ok_or("HTTP/2 has no such request")?;
    if sender.ready().await.is_err() {
        return Ok((None, None));
    }
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("no answer in HTTP/2: {error:?}"))?;
    let (head, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| format!("a broken answer in HTTP/2: {error:?}"))?
        .to_bytes();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        let lines = headers.entry(name.as_str().to_owned()).or_default();
        lines.push(text(value.as_bytes()));
    }
    let answer = answered(head.status.as_u16(), headers, body.to_vec());
    Ok((Some(answer), Some(Protocol::Two(sender))))
}

fn session(connection: &rustls::ClientConnection, pki: &Pki) -> Session {
    let shown = connection.peer_certificates().and_then(|chain| chain.first());
    let word = |value: Option<String>| value.unwrap_or_default();
    Session {
        certificate: shown.and_then(|shown| pki.names(shown)),
        protocol: connection.alpn_protocol().map(text),
        version: word(
            connection
                .protocol_version()
                .map(|version| format!("{version:?}")),
        ),
        suite: word(
            connection
                .negotiated_cipher_suite()
                .map(|suite| format!("{:?}", suite.suite())),
        ),
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
    Ok(Some((answered(status, headers, body), closes)))
}

fn answered(status: u16, headers: BTreeMap<String, Vec<String>>, body: Vec<u8>) -> Answered {
    let encoding = headers.get("content-encoding").and_then(|lines| lines.first());
    let plain = encoding.and_then(|encoding| decompress(encoding, &body));
    Answered {
        session: None,
        status,
        headers,
        compressed: plain.is_some(),
        body: text(&plain.unwrap_or(body)),
    }
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

async fn secure(
    stream: TcpStream,
    hello: &Hello,
    pki: &Pki,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut cryptography = (*provider()).clone();
    if let Some(only) = hello.suite {
        cryptography
            .cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()) == only);
    }
    let versions: &[&rustls::SupportedProtocolVersion] = match hello.version {
        None => rustls::ALL_VERSIONS,
        Some(Version::Two) => &[&rustls::version::TLS12],
        Some(Version::Three) => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(cryptography))
        .with_protocol_versions(versions)
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    let mut config = match pki.client(hello.presented) {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .map_err(io::Error::other)?,
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = hello
        .protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    config.enable_sni = !hello.name.is_empty();
    let name = if hello.name.is_empty() {
        "no.name"
    } else {
        &hello.name
    };
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
