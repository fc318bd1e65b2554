//! The listener's thread: accepts, limits, stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::Caller;
use super::{ControlState, api};

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
pub(super) struct Ending {
    /// How long a new connection may stay silent once the server stops: who was accepted is heard.
    pub(super) last_call: Duration,
    /// How long answers under way may take when the server stops.
    pub(super) limit: Duration,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            last_call: Duration::from_secs(1),
            limit: Duration::from_secs(2),
        }
    }
}

/// The running server. [`ControlServer::stop`] ends it; dropping it ends it without waiting.
#[derive(Debug)]
pub struct ControlServer {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Starts serving on a bound listener.
    pub fn start(listener: TcpListener, state: ControlState) -> io::Result<Self> {
        Self::start_with(listener, state, Ending::default())
    }

    /// The same with another end.
    pub(super) fn start_with(listener: TcpListener, state: ControlState, ending: Ending) -> io::Result<Self> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() && state.token.is_none() {
            tracing::warn!(
                %address,
                "the control server can be reached from other machines and asks for no token; bind control.address to \
                 127.0.0.1 or set control.token"
            );
        }
        // It moves from the runtime that bound it to the one that serves.
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("control-api".into())
            .spawn(move || {
                let served = runtime.block_on(async {
                    let listener = TcpListener::from_std(listener)?;
                    serve(listener, api::router(state), stopped, ending).await;
                    io::Result::Ok(())
                });
                if let Err(error) = served {
                    tracing::error!(%error, "the control server could not be started");
                }
            })?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets answers under way finish within two seconds, and ends the thread.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let Some(thread) = self.thread.take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the control server ended badly");
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, ending: Ending) {
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some(slot) = stop.run_until_cancelled(Arc::clone(&slots).acquire_owned()).await {
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else {
            break;
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), stop.clone(), ending);
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a control connection could not be accepted");
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
        tracing::debug!(connections = connections.len(), "control connections were cut");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    ending: Ending,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY on a control connection");
    }
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
        tracing::debug!(%peer, %error, "a control connection ended early");
    }
}
