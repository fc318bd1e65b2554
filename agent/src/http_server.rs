//! A small HTTP server on a thread and a runtime of its own: control and the provider are one each.
//!
//! It owns a listener, what it takes at once and how it ends; what is answered is the router's business. It answers while
//! the proxy is saturated, and until somebody stops it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use constellation_config::Secret;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// From a connection's start, or its last answer, to the end of the next request's headers.
const HEADER_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Request line and headers together, bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How long the last answer of a connection may take once it is to be closed.
const FINISH_LIMIT: Duration = Duration::from_secs(30);
/// A connection is closed after its current answer when it is this old, so that clients that read slowly or not at all
/// can't hold all slots for ever.
const LIFETIME: Duration = Duration::from_secs(600);
/// Pause after an accept that failed for lack of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the end may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// How long a new connection may stay silent once the server stops: who was accepted is heard.
    pub(crate) last_call: Duration,
    /// How long answers under way may take when the server stops.
    pub(crate) limit: Duration,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            last_call: Duration::from_secs(1),
            limit: Duration::from_secs(2),
        }
    }
}

/// The caller's address; put into each request by the accept loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) SocketAddr);

/// Whether the caller has sent this token.
pub(crate) fn is_bearer(headers: &HeaderMap, token: &Secret) -> bool {
    let sent = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    sent.is_some_and(|sent| equal(sent, token.expose().as_bytes()))
}

/// Takes the same time wherever the first difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b));
    a.len() == b.len() && std::hint::black_box(difference) == 0
}

/// What TLS shows, asked anew for every connection.
pub(crate) type Identity = Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// The running server. [`HttpServer::stop`] ends it; dropping it ends it without waiting.
#[derive(Debug)]
pub(crate) struct HttpServer {
    name: &'static str,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Starts serving on a bound listener. `name` is that of the thread.
    pub(crate) fn start(
        name: &'static str,
        listener: TcpListener,
        router: Router,
        identity: Option<Identity>,
        ending: Ending,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        // It moves from the runtime that bound it to the one that serves.
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let served = runtime.block_on(async {
                let listener = TcpListener::from_std(listener)?;
                serve(listener, router, identity, stopped, ending).await;
                io::Result::Ok(())
            });
            if let Err(error) = served {
                tracing::error!(server = name, %error, "an HTTP server could not be started");
            }
        })?;
        Ok(Self {
            name,
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers under way finish, and ends the thread.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!(server = self.name, "an HTTP server ended badly");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(
    listener: TcpListener,
    router: Router,
    identity: Option<Identity>,
    stop: CancellationToken,
    ending: Ending,
) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(slot) = stop.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await {
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else {
            break;
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = accept(
                    stream,
                    peer,
                    router.clone(),
                    identity.clone(),
                    stop.clone(),
                    ending,
                );
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(ending.limit, connections.wait())
        .await
        .is_err()
    {
        tracing::debug!(connections = connections.len(), "connections were cut");
    }
}

/// Serves a connection, inside of TLS where that is asked for.
async fn accept(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    identity: Option<Identity>,
    stop: CancellationToken,
    ending: Ending,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on a connection");
    }
    let Some(identity) = identity else {
        return connection(stream, peer, router, stop, ending).await;
    };
    let accepting = TlsAcceptor::from(identity()).accept(stream);
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(HEADER_TIME_LIMIT, accepting) => accepted,
        () = stop.cancelled() => return,
    };
    match accepted {
        Ok(Ok(stream)) => connection(stream, peer, router, stop, ending).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
        Err(_) => tracing::debug!(%peer, "no TLS in time"),
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    ending: Ending,
) {
    let service = TowerToHyperService::new(router);
    let heard = CancellationToken::new();
    let hears = heard.clone();
    let service = service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        hears.cancel();
        request.extensions_mut().insert(Caller(peer));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let over = async {
        tokio::select! {
            () = stop.cancelled() => {
                // In time or not, what has been said by then is answered.
                drop(tokio::time::timeout(ending.last_call, heard.cancelled()).await);
            }
            () = tokio::time::sleep(LIFETIME) => {}
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = over => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(FINISH_LIMIT, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_as_a_whole() {
        for (a, b, same) in [
            ("abc", "abc", true),
            ("abc", "abd", false),
            ("ab", "abc", false),
            ("", "", true),
        ] {
            assert_eq!(equal(a.as_bytes(), b.as_bytes()), same);
        }
    }
}
