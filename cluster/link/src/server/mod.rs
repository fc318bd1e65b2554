//! The port of the cluster: what comes in, who may come in, and where it goes.
//!
//! One task accepts, one task has each connection, and all of them end before [`Server::run`] returns. Until a connection
//! has shown who it is it holds a seat in the [`Gate`]; strangers get no further than that.

mod configs;
mod gate;
mod joiner;
mod peer;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use constellation_identity::NodeIdentity;
use constellation_identity::tls::{self, Credentials, explain};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::counters::{Counters, Refused};
use crate::frame::Service;
use crate::hello::{Hello, Purpose, peek};
use crate::membership::Membership;
use crate::socket;
use crate::throttle::Throttle;
use configs::Configs;
use gate::{Gate, Seat};

/// How long a handshake of TLS may take once its ClientHello is here.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections of members and joiners, handshakes not counted.
const CONNECTIONS: usize = 1024;
/// Joiners at a time.
const JOINERS: usize = 16;
/// How long accepting rests after the system refused, which is when files or memory run out.
const REST: Duration = Duration::from_millis(100);

/// What calls mean.
///
/// A call that takes longer than a minute, or panics, is answered as dropped; neither holds up others. The futures are dropped when
/// the connection ends.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call of a member. `from` is certain. Nothing drops the call: the other side is told just that.
    fn answer(
        &self,
        from: &NodeIdentity,
        service: Service,
        body: Vec<u8>,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send;

    /// Answers somebody of whom nothing is known, and who wants to join. At most 16 KiB come in, at most 64 KiB go out.
    fn join(&self, body: Vec<u8>) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

/// The port of the cluster.
pub struct Server<H> {
    listener: TcpListener,
    shared: Shared<H>,
}

/// What every connection needs.
struct Shared<H> {
    handler: Arc<H>,
    configs: Configs,
    members: watch::Receiver<Membership>,
    mesh: Option<mpsc::Sender<std::net::TcpStream>>,
    counters: Arc<Counters>,
    connections: Arc<Semaphore>,
    joiners: Arc<Semaphore>,
    /// What strangers cause, who can cause a lot of it.
    strangers: Throttle,
    /// What members cause.
    known: Throttle,
}

impl<H> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Server<H> {
    /// On a listener that is bound already. Nothing is accepted before [`Server::run`].
    ///
    /// New connections see the latest `credentials`; `members` cuts at once whoever is no longer among them. Connections for
    /// the data plane go to `mesh`, non-blocking and with nothing read from them; they are closed where there is none, or
    /// where it is full.
    #[must_use]
    pub fn new(
        listener: TcpListener,
        handler: Arc<H>,
        credentials: watch::Receiver<Arc<Credentials>>,
        members: watch::Receiver<Membership>,
        mesh: Option<mpsc::Sender<std::net::TcpStream>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            listener,
            shared: Shared {
                handler,
                configs: Configs::new(credentials),
                members,
                mesh,
                counters,
                connections: Arc::new(Semaphore::new(CONNECTIONS)),
                joiners: Arc::new(Semaphore::new(JOINERS)),
                strangers: Throttle::default(),
                known: Throttle::default(),
            },
        }
    }

    /// Accepts until it is told to stop. Then the port is closed, every connection ends, and this returns: calls in flight
    /// are not waited for, their callers learn that there is no answer. Not cancel safe.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, shared } = self;
        let shared = Arc::new(shared);
        let gate = Gate::default();
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => report(ended),
                accepted = accept(&listener, &gate) => match accepted {
                    Ok((stream, from, seat)) => {
                        let (shared, stop) = (Arc::clone(&shared), stop.clone());
                        connections.spawn(async move {
                            let admitted = tokio::select! {
                                biased;
                                () = stop.cancelled() => None,
                                admitted = shared.admit(stream, from, &seat) => admitted,
                            };
                            drop(seat);
                            if let Some(admitted) = admitted {
                                shared.serve(admitted, from, &stop).await;
                            }
                        });
                    }
                    Err(error) => {
                        shared.complain(|left_out| {
                            tracing::warn!(%error, left_out, "the port of the cluster accepts nothing now");
                        });
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection between nodes has failed");
    }
}

async fn accept(listener: &TcpListener, gate: &Gate) -> io::Result<(TcpStream, SocketAddr, Seat)> {
    gate.room().await;
    let (stream, from) = listener.accept().await?;
    Ok((stream, from, gate.seat(Instant::now())))
}

/// What an accepted connection has turned out to be.
enum Admitted {
    Peer(Box<TlsStream<TcpStream>>, NodeIdentity),
    Join(Box<TlsStream<TcpStream>>),
    Mesh(TcpStream),
}

impl<H: Handler> Shared<H> {
    fn complain(&self, line: impl FnOnce(u64)) {
        if let Some(left_out) = self.strangers.pass(Instant::now()) {
            line(left_out);
        }
    }

    fn refuse(&self, reason: Refused, from: SocketAddr) {
        self.counters.refuse(reason);
        self.complain(|left_out| {
            let reason = reason.name();
            tracing::info!(%from, reason, left_out, "a connection to the port of the cluster was refused");
        });
    }

    /// Sees a connection through its handshake, unless its seat is wanted more by somebody else.
    async fn admit(&self, stream: TcpStream, from: SocketAddr, seat: &Seat) -> Option<Admitted> {
        tokio::select! {
            admitted = self.handshake(stream, from) => admitted,
            () = seat.evicted() => {
                self.refuse(Refused::Handshakes, from);
                None
            }
        }
    }

    async fn handshake(&self, stream: TcpStream, from: SocketAddr) -> Option<Admitted> {
        let config = match peek(&stream).await {
            Hello::For(Purpose::Mesh) => return Some(Admitted::Mesh(stream)),
            Hello::For(Purpose::Peer) => self.configs.peer(),
            Hello::For(Purpose::Join) => self.configs.join(),
            Hello::Other => {
                self.refuse(Refused::Protocol, from);
                return None;
            }
            Hello::Part | Hello::Not => {
                self.refuse(Refused::Hello, from);
                return None;
            }
        };
        let failed = |reason: String| {
            self.counters.handshake_failed();
            self.complain(|left_out| {
                tracing::warn!(%from, reason, left_out, "a handshake on the port of the cluster failed");
            });
        };
        let config = config.map_err(|error| failed(explain(&error))).ok()?;
        let stream = async {
            socket::prepare(&stream)?;
            TlsAcceptor::from(config).accept(stream).await
        };
        let stream = timeout(HANDSHAKE, stream)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| failed(told(&error)))
            .ok()?;
        let stream = Box::new(stream);
        match tls::peer(stream.get_ref().1) {
            Ok(Some(peer)) => Some(Admitted::Peer(stream, peer)),
            Ok(None) => Some(Admitted::Join(stream)),
            Err(error) => {
                failed(error.to_string());
                None
            }
        }
    }

    async fn serve(&self, admitted: Admitted, from: SocketAddr, stop: &CancellationToken) {
        let limit = match &admitted {
            Admitted::Mesh(_) => None,
            Admitted::Peer(..) => Some((&self.connections, Refused::Connections)),
            Admitted::Join(_) => Some((&self.joiners, Refused::Joins)),
        };
        let place = match limit {
            None => None,
            Some((places, full)) => match places.try_acquire() {
                Ok(place) => Some(place),
                Err(_) => return self.refuse(full, from),
            },
        };
        match admitted {
            Admitted::Mesh(stream) => self.pass_on(stream, from),
            Admitted::Join(stream) => self.serve_joiner(*stream, from, stop).await,
            Admitted::Peer(stream, peer) => self.serve_peer(*stream, peer, from, stop).await,
        }
        drop(place);
    }

    /// Gives a connection to the data plane.
    fn pass_on(&self, stream: TcpStream, from: SocketAddr) {
        let given = stream
            .into_std()
            .ok()
            .zip(self.mesh.as_ref())
            .is_some_and(|(stream, mesh)| mesh.try_send(stream).is_ok());
        if given {
            self.counters.accept(Purpose::Mesh);
        } else {
            self.refuse(Refused::Mesh, from);
        }
    }
}

/// What an operator reads of an error of TLS.
fn told(error: &io::Error) -> String {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .map_or_else(|| error.to_string(), explain)
}
