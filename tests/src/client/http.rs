//! An HTTP client on one connection, so that a test knows which connection it speaks on.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::backend::Echo;

/// A request body.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// An answer that has arrived in full.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Version of the connection.
    pub version: Version,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers, if any came.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// Reads an answer to its end.
    pub async fn collect(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as the back end's echo.
    ///
    /// # Panics
    /// When the status is not 200 or the body is something else.
    pub fn echo(&self) -> Echo {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        Echo::parse(&self.body)
    }

    /// A header's value; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

#[derive(Debug)]
enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// A client on one connection.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    scheme: &'static str,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Client {
    /// HTTP/1.1 in clear text.
    pub async fn h1(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(connect(address).await?, false, "http").await
    }

    /// HTTP/2 with prior knowledge in clear text.
    pub async fn h2c(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(connect(address).await?, true, "http").await
    }

    /// HTTP over a stream that is connected already.
    pub async fn over<S>(stream: S, h2: bool, scheme: &'static str) -> std::io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if h2 {
            let handshake = http2::Builder::new(TokioExecutor::new()).handshake(io).await;
            let (sender, connection) = handshake.map_err(std::io::Error::other)?;
            let connection = tokio::spawn(connection);
            Ok(Self {
                sender: Sender::H2(sender),
                scheme,
                connection,
            })
        } else {
            let (sender, connection) = http1::handshake(io).await.map_err(std::io::Error::other)?;
            let connection = tokio::spawn(connection.with_upgrades());
            Ok(Self {
                sender: Sender::H1(sender),
                scheme,
                connection,
            })
        }
    }

    /// Sends a request and returns when the head of the answer is here.
    pub async fn open(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let request = self.fit(request);
        match &mut self.sender {
            Sender::H1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::H2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        Answer::collect(self.open(request).await?).await
    }

    /// `GET path` of `host`.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send(request(Method::GET, host, path)).await.unwrap()
    }

    /// Waits until the other side closes the connection, and says whether that was in good order.
    pub async fn closed(self) -> hyper::Result<()> {
        let Self {
            sender, connection, ..
        } = self;
        let ended = connection.await.unwrap();
        drop(sender);
        ended
    }

    /// Whether the connection takes no more requests.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::H1(sender) => sender.is_closed(),
            Sender::H2(sender) => sender.is_closed(),
        }
    }

    /// `http://HOST/path` means the path and `Host` in HTTP/1.1, `:authority` in HTTP/2.
    fn fit(&self, mut request: Request<Body>) -> Request<Body> {
        let uri = request.uri().clone();
        match &self.sender {
            Sender::H1(_) => {
                if let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) {
                    let host = authority.as_str().parse().unwrap();
                    request.headers_mut().entry(http::header::HOST).or_insert(host);
                    *request.uri_mut() = Uri::from(path.clone());
                }
            }
            Sender::H2(_) => {
                let mut parts = uri.into_parts();
                // CONNECT has an authority alone.
                if parts.authority.is_some() && parts.path_and_query.is_some() {
                    parts.scheme = Some(self.scheme.parse().unwrap());
                }
                *request.uri_mut() = Uri::from_parts(parts).unwrap();
            }
        }
        request
    }
}

/// A request without a body.
pub fn request(method: Method, host: &str, path: &str) -> Request<Body> {
    let mut request = Request::new(empty());
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://{host}{path}").parse().unwrap();
    request
}

/// One `GET` on an HTTP/1.1 connection of its own.
///
/// # Panics
/// When no whole answer comes.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> Answer {
    Client::h1(address).await.unwrap().get(host, path).await
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// This text as body.
pub fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
