//! What the back end answers:
//!
//! | path | answer |
//! |---|---|
//! | `/status/N` | status N, empty body, once the whole request has come |
//! | `/bytes/N` | N bytes of a known pattern, streamed with a length |
//! | `/chunks/N` | the same without a length |
//! | `/upload` | how many bytes came and their checksum |
//! | `/gate` | nothing until [`Backend::open_gate`](super::Backend::open_gate), then 200 |
//! | `/hold` | the head at once, the body after the gate |
//! | `/events` | server-sent events: one at once, one more for each opening of the gate |
//! | `/ws` | a WebSocket that echoes |
//! | `/stream` | echoes the request's body frame by frame, then trailers `grpc-status: 0` (a gRPC method's shape) |
//! | `/trailers` | a body, then trailers `x-checksum: 1` |
//! | `/cut` | announces 1000 bytes, sends 10, closes |
//! | others | [`Echo`] as JSON |

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Received, Shared};

type Body = BoxBody<Bytes, std::io::Error>;

/// Holds requests until a test lets them go, one at a time.
#[derive(Debug)]
pub(super) struct Gate {
    permits: Semaphore,
    waiting: AtomicUsize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            permits: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Gate {
    pub(super) fn open(&self) {
        self.permits.add_permits(1);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        let _waiting = Waiting::new(&self.waiting);
        self.permits.acquire().await.unwrap().forget();
    }
}

/// Counts one more who waits, also when the request is given up meanwhile.
struct Waiting<'g>(&'g AtomicUsize);

impl<'g> Waiting<'g> {
    fn new(count: &'g AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The echo of a request.
#[derive(Clone, Debug)]
pub struct Echo(Value);

impl Echo {
    /// Reads an answer's body.
    ///
    /// # Panics
    /// When it is not an echo.
    pub fn parse(body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body)
            .unwrap_or_else(|error| panic!("not an echo: {error}: {}", String::from_utf8_lossy(body)));
        assert!(value["backend"].is_string(), "not an echo: {value}");
        Self(value)
    }

    /// Who answered.
    pub fn backend(&self) -> &str {
        self.0["backend"].as_str().unwrap()
    }

    /// The method that arrived.
    pub fn method(&self) -> &str {
        self.0["method"].as_str().unwrap()
    }

    /// The path and query that arrived.
    pub fn target(&self) -> &str {
        self.0["target"].as_str().unwrap()
    }

    /// The authority that arrived (`Host` or `:authority`).
    pub fn authority(&self) -> &str {
        self.0["authority"].as_str().unwrap()
    }

    /// The HTTP version that arrived, as `HTTP/1.1`.
    pub fn version(&self) -> &str {
        self.0["version"].as_str().unwrap()
    }

    /// All lines of a header, by lower-case name.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.0["headers"][name].as_array();
        lines.map_or_else(Vec::new, |lines| lines.iter().filter_map(Value::as_str).collect())
    }

    /// The body that arrived.
    pub fn body(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }
}

pub(super) async fn answer(
    shared: Arc<Shared>,
    connection: usize,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let received = received(connection, &request);
    shared.record.request(received.clone());
    let path = request.uri().path().to_owned();
    let (route, argument) = path[1.min(path.len())..]
        .split_once('/')
        .unwrap_or((&path[1.min(path.len())..], ""));
    let mut response = match route {
        "status" => {
            let status = StatusCode::from_bytes(argument.as_bytes()).unwrap();
            // Whoever breaks off has no use for the answer either.
            drop(request.into_body().collect().await);
            empty(status)
        }
        "bytes" => {
            let length: u64 = argument.parse().unwrap();
            let mut response = Response::new(pattern(length));
            response
                .headers_mut()
                .insert(header::CONTENT_LENGTH, length.into());
            response
        }
        "chunks" => Response::new(pattern(argument.parse().unwrap())),
        "upload" => upload(request.into_body()).await,
        "gate" => {
            shared.gate.pass().await;
            Response::new(full(format!("{} passed\n", shared.name)))
        }
        "hold" => spawned(|sender| hold(Arc::clone(&shared), sender)),
        "events" => {
            let mut response = spawned(|sender| events(Arc::clone(&shared), sender));
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/event-stream"),
            );
            response
        }
        "ws" => websocket(request),
        "stream" => {
            let mut response = spawned(|sender| echo_frames(request.into_body(), sender));
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        "trailers" => trailers(),
        "cut" => cut(),
        _ => echo(&shared, &received, request.into_body()).await,
    };
    let name = HeaderValue::from_str(&shared.name).unwrap();
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-backend"), name);
    Ok(response)
}

fn received(connection: usize, request: &Request<Incoming>) -> Received {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    Received {
        connection,
        method: request.method().clone(),
        target: request
            .uri()
            .path_and_query()
            .map_or_else(|| request.uri().to_string(), ToString::to_string),
        authority: authority.or(host).unwrap_or_default().to_owned(),
        version: request.version(),
        headers: request.headers().clone(),
    }
}

async fn echo(shared: &Shared, received: &Received, body: Incoming) -> Response<Body> {
    let mut headers = serde_json::Map::new();
    for name in received.headers.keys() {
        let lines = received.headers.get_all(name).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        headers.insert(name.to_string(), json!(lines));
    }
    // A body that breaks off is shown as what had come.
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let echo = json!({
        "backend": shared.name,
        "method": received.method.as_str(),
        "target": received.target,
        "authority": received.authority,
        "version": format!("{:?}", received.version),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(full(echo.to_string()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn upload(mut body: Incoming) -> Response<Body> {
    let (mut length, mut sum) = (0u64, 0u64);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return empty(StatusCode::BAD_REQUEST);
        };
        if let Ok(data) = frame.into_data() {
            length += data.len() as u64;
            sum = data
                .iter()
                .fold(sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        }
    }
    Response::new(full(format!("{length} {sum}")))
}

async fn hold(shared: Arc<Shared>, mut sender: Sender<Bytes, std::io::Error>) {
    shared.gate.pass().await;
    // Nobody reads any more when this fails.
    sender.send_data(Bytes::from("held\n")).await.unwrap_or_default();
}

async fn events(shared: Arc<Shared>, mut sender: Sender<Bytes, std::io::Error>) {
    for number in 1_u64.. {
        let event = Bytes::from(format!("id: {number}\ndata: event {number}\n\n"));
        if sender.send_data(event).await.is_err() {
            return;
        }
        shared.gate.pass().await;
    }
}

async fn echo_frames(mut body: Incoming, mut sender: Sender<Bytes, std::io::Error>) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data()
            && sender.send_data(data).await.is_err()
        {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    sender.send_trailers(trailers).await.unwrap_or_default();
}

fn websocket(mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned() else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).unwrap();
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("1"));
    let frames = [
        Frame::data(Bytes::from("with trailers\n")),
        Frame::trailers(trailers),
    ];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    let mut response = Response::new(BodyExt::boxed(body));
    response
        .headers_mut()
        .insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    response
}

fn cut() -> Response<Body> {
    let (mut sender, body) = Channel::new(1);
    tokio::spawn(async move {
        sender
            .send_data(Bytes::from("0123456789"))
            .await
            .unwrap_or_default();
        // The head and these bytes leave before the connection breaks; nothing tells a body when they have.
        tokio::time::sleep(Duration::from_millis(100)).await;
        sender.abort(std::io::Error::other("cut on purpose"));
    });
    let mut response = Response::new(BodyExt::boxed(body));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from_static("1000"));
    response
}

/// A body that a task of its own fills.
fn spawned<F>(fill: impl FnOnce(Sender<Bytes, std::io::Error>) -> F) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, body) = Channel::new(1);
    tokio::spawn(fill(sender));
    Response::new(BodyExt::boxed(body))
}

/// `length` bytes of a repeating pattern, 64 KiB at a time.
fn pattern(length: u64) -> Body {
    let block: Bytes = (0..=255).cycle().take(64 * 1024).collect::<Vec<u8>>().into();
    let frames = futures_util::stream::unfold(length, move |left| {
        let block = block.clone();
        async move {
            let size = usize::try_from(left.min(block.len() as u64)).unwrap();
            (left > 0).then(|| (Ok(Frame::data(block.slice(..size))), left - size as u64))
        }
    });
    BodyExt::boxed(StreamBody::new(frames))
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text))
        .map_err(|never| match never {})
        .boxed()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
