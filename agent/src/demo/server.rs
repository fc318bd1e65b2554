//! The requests a demo back end answers.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Router, body::Bytes};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};
use tokio_util::task::TaskTracker;

use crate::cli::{Exit, Failure};

#[derive(Clone)]
struct Demo {
    name: std::sync::Arc<str>,
    sockets: TaskTracker,
}

pub(super) async fn serve(listener: TcpListener, name: &str) -> Result<(), Failure> {
    let demo = Demo {
        name: name.into(),
        sockets: TaskTracker::new(),
    };
    let app = Router::new()
        .route("/headers", any(headers))
        .route("/sse", get(events))
        .route("/ws", any(web_socket))
        .fallback(hello)
        .with_state(demo);
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|e| Failure::new(Exit::System, e.to_string()))?;
    tokio::select! {
        served = axum::serve(listener, app) => served.map_err(|e| Failure::new(Exit::System, e.to_string())),
        _ = terminate.recv() => Ok(()),
        // The terminal's Ctrl-C goes to the whole group; the node drains first and then closes our standard input.
        () = ignore_interrupts() => Ok(()),
        () = parent_gone() => Ok(()),
    }
}

async fn ignore_interrupts() {
    if let Ok(mut interrupts) = signal(SignalKind::interrupt()) {
        while interrupts.recv().await.is_some() {}
    }
    std::future::pending().await
}

/// Ends when standard input does.
async fn parent_gone() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0u8; 256];
    while matches!(input.read(&mut ignored).await, Ok(1..)) {}
}

async fn hello(State(demo): State<Demo>, request: Request) -> String {
    format!(
        "Hello from {}: {} {}\n",
        demo.name,
        request.method(),
        request.uri()
    )
}

async fn headers(State(demo): State<Demo>, request: Request) -> String {
    let mut text = format!("{} {} at {}\n", request.method(), request.uri(), demo.name);
    for (name, value) in request.headers() {
        text.push_str(&format!(
            "{name}: {}\n",
            String::from_utf8_lossy(value.as_bytes())
        ));
    }
    text
}

async fn events(State(demo): State<Demo>) -> Response {
    let ticks = stream::iter(1..=5).then(move |n| {
        let name = demo.name.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, Infallible>(Bytes::from(format!("data: event {n} from {name}\n\n")))
        }
    });
    (
        [(header::CONTENT_TYPE, "text/event-stream")],
        Body::from_stream(ticks),
    )
        .into_response()
}

async fn web_socket(State(demo): State<Demo>, mut request: Request) -> Response {
    let key = match handshake_key(request.version(), request.headers()) {
        Ok(key) => key,
        Err(reason) => return (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response(),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let name = demo.name.clone();
    let greet_only = request.uri().query() == Some("greet");
    demo.sockets.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => echo(TokioIo::new(upgraded), &name, greet_only).await,
            Err(error) => tracing::debug!(%error, "the connection was not upgraded"),
        }
    });
    (
        StatusCode::SWITCHING_PROTOCOLS,
        [
            (header::CONNECTION, "Upgrade".to_owned()),
            (header::UPGRADE, "websocket".to_owned()),
            (header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())),
        ],
    )
        .into_response()
}

/// The client's key, when the request is a WebSocket handshake (RFC 6455, section 4.2.1).
fn handshake_key(version: Version, headers: &HeaderMap) -> Result<String, &'static str> {
    let is = |name, wanted: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(wanted))
    };
    if version != Version::HTTP_11 || !is(header::CONNECTION, "upgrade") || !is(header::UPGRADE, "websocket")
    {
        return Err("this is a WebSocket: ask with Connection: Upgrade and Upgrade: websocket");
    }
    if !is(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("Sec-WebSocket-Version must be 13");
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok());
    key.map(str::to_owned).ok_or("Sec-WebSocket-Key is missing")
}

async fn echo<IO>(io: IO, name: &str, greet_only: bool)
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let limits = WebSocketConfig::default().max_message_size(Some(1 << 20));
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
    let greeting = Message::text(format!("Hello from {name}: send something and it comes back\n"));
    if socket.send(greeting).await.is_err() {
        return;
    }
    if greet_only {
        // Whoever greets and does not wait for the answer to its close frame ends the connection at once.
        if let Err(error) = socket.close(None).await {
            tracing::debug!(%error, "the client was faster");
        }
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_handshake_is_one() {
        let whole = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let map = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        assert!(handshake_key(Version::HTTP_11, &map(&whole)).is_ok());
        assert!(handshake_key(Version::HTTP_10, &map(&whole)).is_err());
        for missing in 0..whole.len() {
            let mut partial = whole.to_vec();
            partial.remove(missing);
            assert!(
                handshake_key(Version::HTTP_11, &map(&partial)).is_err(),
                "{partial:?}"
            );
        }
    }
}
