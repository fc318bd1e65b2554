//! A back end on loopback that speaks HTTP/1.1 and HTTP/2 (clear or TLS) and remembers what reached it.
//!
//! Every answer carries `x-backend: NAME`. What the paths do is in [`routes`]; everything else is an echo of the
//! request as JSON, read back by tests as [`Echo`]. What arrived is kept twice: as parsed requests and as raw bytes
//! per connection, so that a test can show that *nothing* arrived.

mod record;
mod routes;
mod tee;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use record::{Received, Record};
pub use routes::Echo;

use routes::Gate;
use tee::Tee;

/// A running back end; stops when dropped.
#[derive(Debug)]
pub struct Backend {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
    scheme: &'static str,
}

#[derive(Debug)]
struct Shared {
    name: String,
    record: Record,
    gate: Gate,
    connections: AtomicUsize,
    open: AtomicUsize,
}

impl Backend {
    /// A clear-text back end on a free port of 127.0.0.1.
    pub async fn start(name: &str) -> Self {
        Self::listen(name, ([127, 0, 0, 1], 0).into(), None).await
    }

    /// A TLS back end.
    pub async fn start_tls(name: &str, tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(name, ([127, 0, 0, 1], 0).into(), Some(tls)).await
    }

    /// A back end on this address.
    ///
    /// # Panics
    /// When the address can't be bound.
    pub async fn listen(name: &str, address: SocketAddr, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            record: Record::default(),
            gate: Gate::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), tls.map(TlsAcceptor::from)));
        Self {
            shared,
            address,
            task,
            scheme,
        }
    }

    /// Its name, as in `x-backend`.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL for a service, `http://` or `https://`.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Its URL with another scheme, as `h2c://`.
    pub fn url_as(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// What reached it.
    pub fn record(&self) -> &Record {
        &self.shared.record
    }

    /// Lets one request that waits at `/gate` go on (now or when it arrives).
    pub fn open_gate(&self) {
        self.shared.gate.open();
    }

    /// How many requests wait at `/gate`.
    pub fn waiting_at_gate(&self) -> usize {
        self.shared.gate.waiting()
    }

    /// How many connections it ever accepted.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits for ever; for a back end that is a process of its own.
    pub async fn serve(self) {
        std::future::pending().await
    }

    /// Closes the listener and cuts every connection; the address is free when this returns.
    pub async fn stop(mut self) {
        self.task.abort();
        // The result is the cancellation just asked for.
        if let Err(error) = (&mut self.task).await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Accepts until the task is aborted; the connections live in its set and end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                // Latency of tests, not correctness.
                stream.set_nodelay(true).unwrap_or_default();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                match tls.clone() {
                    None => connections.spawn(serve(stream, shared)),
                    Some(tls) => connections.spawn(async move {
                        // A handshake that fails is the client's finding.
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, shared).await;
                        }
                    }),
                };
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    shared.open.fetch_add(1, Ordering::SeqCst);
    let number = shared.record.connection();
    let stream = Tee::new(stream, shared.record.clone(), number);
    let service_shared = Arc::clone(&shared);
    let service = service_fn(move |request| routes::answer(Arc::clone(&service_shared), number, request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().keep_alive(true).half_close(true);
    let served = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await;
    // A client that goes away in the middle is part of many tests; what it did is in the record.
    drop(served);
    shared.open.fetch_sub(1, Ordering::SeqCst);
}
