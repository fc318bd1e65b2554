//! From a decision to a connection with a back end: one candidate after the other, until one takes the connection.
//!
//! Nothing of the client has been sent while this runs, so another endpoint may always be tried, and it costs nothing
//! of the retry budget. What counts as an attempt, how long it may take and what follows it is as in HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use constellation_table::{AttemptOutcome, Candidates, Endpoint, Peer, Probe, Running, Service};
use nix::errno::Errno;
use smallvec::SmallVec;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use super::account::Account;
use super::backend::{Backend, Backends};
use super::{Scene, outgoing_header};
use crate::access_log::AttemptOutcome as LineOutcome;
use crate::departure;
use crate::http::{IMPATIENT, MAX_ATTEMPTS, ServiceRuntime, pause, runtime_of};
use crate::l4::postgres;
use crate::l4::proxy_protocol::Tlvs;
use crate::l4::socket::Socket;
use crate::mesh::head::Refusal;
use crate::mesh::{self, Refused};
use crate::metrics::{EndpointFailure, GaveUp, InFlight, StreamEnd};

/// Stands for a limit that there is not.
const FAR: Duration = Duration::from_secs(365 * 86_400);

/// An endpoint that may be tried.
struct Candidate {
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    /// The connection is the probe of this endpoint.
    probe: Option<Probe>,
    tried: bool,
}

/// The endpoints that may be tried, in that order.
pub(crate) struct Line(SmallVec<[Candidate; 4]>);

impl Line {
    /// Those of a decision.
    pub(crate) fn new<'s>(legs: impl Iterator<Item = (&'s Arc<Service>, Candidates<'s>)>) -> Self {
        let candidate = |(service, candidates): (&'s Arc<Service>, Candidates<'s>)| {
            candidates.order.into_iter().map(|candidate| Candidate {
                service: service.clone(),
                endpoint: candidate.endpoint.clone(),
                probe: candidate.probe,
                tried: false,
            })
        };
        Self(legs.flat_map(candidate).collect())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that was not tried and may be. What was decided just now needs no second look.
    fn next(&self, but: Option<usize>, fresh: bool) -> Option<usize> {
        let now = std::time::Instant::now();
        self.0.iter().enumerate().position(|(number, candidate)| {
            Some(number) != but
                && !candidate.tried
                && (fresh || candidate.probe.is_some() || candidate.service.may_try(&candidate.endpoint, now))
        })
    }
}

/// What is said to a back end before the first byte of the client.
#[derive(Clone, Debug)]
pub(super) struct Preface {
    /// The two ends of the client's connection.
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    /// What else is known of it: what a trusted proxy said, and the name that the client asked for.
    pub(super) tlvs: Tlvs,
    /// TLS begins as PostgreSQL wants it, for TLS that comes from the client.
    pub(super) postgres: bool,
    /// The client's TLS goes on to the back end.
    pub(super) encrypted: bool,
}

/// A connection with a back end.
pub(super) struct Connected {
    pub(super) service: Arc<Service>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) socket: Socket,
    /// TLS over the socket.
    pub(super) tls: Option<Box<TlsStream<Socket>>>,
    pub(super) since: Instant,
    /// From the begin of the attempt to here.
    pub(super) latency: Duration,
    /// The endpoint was told something before the client's bytes.
    pub(super) prefaced: bool,
    /// Kept until the outcome is recorded.
    pub(super) probe: Option<Probe>,
    _busy: Busy,
}

/// Counts a connection as running at its endpoint.
struct Busy {
    _live: Running,
    _metrics: InFlight,
}

/// The search for a back end.
pub(super) struct Search<'a> {
    scene: Scene<'a>,
    service: &'a Arc<Service>,
    runtime: &'a ServiceRuntime,
    line: &'a mut Line,
    preface: Preface,
    /// The end of all attempts.
    until: Option<Instant>,
    /// How the attempt before failed.
    why: Option<EndpointFailure>,
}

/// A failed attempt.
struct Failed {
    reason: EndpointFailure,
    outcome: AttemptOutcome,
    error: io::Error,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        scene: Scene<'a>,
        service: &'a Arc<Service>,
        runtime: &'a ServiceRuntime,
        line: &'a mut Line,
        preface: Preface,
    ) -> Self {
        let total = service.policy.retry.total;
        Self {
            scene,
            service,
            runtime,
            line,
            preface,
            until: total.map(|total| Instant::now() + total),
            why: None,
        }
    }

    /// Whether another endpoint could be tried.
    pub(super) fn has_more(&self, account: &Account) -> bool {
        account.attempts < self.most() && self.line.next(None, false).is_some()
    }

    fn most(&self) -> usize {
        let allowed = self.service.policy.retry.attempts;
        allowed.map_or(MAX_ATTEMPTS, usize::from).min(MAX_ATTEMPTS)
    }

    /// A connection with the next endpoint that takes one; how the client's connection ends when none does.
    pub(super) async fn next(&mut self, account: &mut Account) -> Result<Connected, StreamEnd> {
        loop {
            let made = account.attempts;
            let next = self.line.next(None, made == 0);
            let (Some(number), true) = (next, made < self.most()) else {
                if made == 0 {
                    return Err(StreamEnd::Unavailable);
                }
                self.runtime.metrics.gave_up(match next {
                    Some(_) => GaveUp::Attempts,
                    None => GaveUp::Candidates,
                });
                return Err(StreamEnd::Unreachable);
            };
            if let Some(pause) = pause(&self.service.policy.retry, made) {
                tokio::time::sleep(pause).await;
            }
            if self.until.is_some_and(|until| until <= Instant::now()) {
                self.runtime.metrics.gave_up(GaveUp::Deadline);
                return Err(StreamEnd::Unreachable);
            }
            if let Some(connected) = self.attempt(number, account).await {
                return Ok(connected);
            }
        }
    }

    /// Tries one endpoint, and writes down how that went.
    async fn attempt(&mut self, number: usize, account: &mut Account) -> Option<Connected> {
        let impatient = self.line.next(Some(number), false).is_some();
        let candidate = self.line.0.get_mut(number)?;
        candidate.tried = true;
        let (service, endpoint) = (candidate.service.clone(), candidate.endpoint.clone());
        let probe = candidate.probe.take();
        // The services after the first one are prepared when they are needed.
        runtime_of(self.scene.edge, &service)?;
        let metrics = &self.scene.edge.metrics;
        let backend = Backends::of(&service, metrics)?.get(&service, &endpoint)?;
        let busy = Busy {
            _live: endpoint.live.begin(),
            _metrics: backend.metrics.attempt(),
        };
        if let Some(why) = self.why.take() {
            backend.metrics.retried();
            self.runtime.metrics.retry(why);
        }
        account.tries(&endpoint, &backend.url);
        let since = Instant::now();
        let trying = Attempt {
            scene: self.scene,
            service: &service,
            endpoint: &endpoint,
            backend,
            preface: self.preface.clone(),
            impatient,
            until: self.until,
        };
        let connected = tokio::select! {
            biased;
            connected = trying.connect() => connected,
            () = departure::departed(&endpoint.live) => Err(Failed::departed()),
        };
        match connected {
            Ok((socket, tls, prefaced)) => {
                let latency = since.elapsed();
                account.connected();
                account.line(&endpoint, LineOutcome::Connected, latency);
                Some(Connected {
                    service,
                    endpoint,
                    socket,
                    tls,
                    since: Instant::now(),
                    latency,
                    prefaced,
                    probe,
                    _busy: busy,
                })
            }
            Err(failed) => {
                let Failed {
                    reason,
                    outcome,
                    error,
                } = failed;
                tracing::debug!(endpoint = %endpoint.name, reason = reason.as_str(), %error, "no connection");
                backend.metrics.failed(reason);
                account.line(&endpoint, LineOutcome::Failed(reason), since.elapsed());
                record(&self.scene, &service, &endpoint, outcome);
                self.why = Some(reason);
                None
            }
        }
    }

    /// A connection was of no use before any byte: what that says of the endpoint is written down, and the search may
    /// go on.
    pub(super) fn was_useless(&mut self, connected: &Connected, account: &mut Account) {
        let metrics = &self.scene.edge.metrics;
        let (service, endpoint) = (&connected.service, &connected.endpoint);
        if let Some(backend) =
            Backends::of(service, metrics).and_then(|backends| backends.get(service, endpoint))
        {
            backend.metrics.failed(EndpointFailure::Closed);
        }
        account.failed_after_all(EndpointFailure::Closed);
        self.why = Some(EndpointFailure::Closed);
    }
}

/// Takes in what became of an attempt, and tells what changed by it.
pub(super) fn record(scene: &Scene<'_>, service: &Service, endpoint: &Endpoint, outcome: AttemptOutcome) {
    let transitions = service.record(endpoint, outcome, std::time::Instant::now());
    scene.edge.note(service, &transitions);
}

/// One attempt at one endpoint.
struct Attempt<'a> {
    scene: Scene<'a>,
    service: &'a Service,
    endpoint: &'a Endpoint,
    backend: &'a Backend,
    preface: Preface,
    /// Others wait in line.
    impatient: bool,
    until: Option<Instant>,
}

type Reached = (Socket, Option<Box<TlsStream<Socket>>>, bool);

impl Attempt<'_> {
    async fn connect(&self) -> Result<Reached, Failed> {
        let now = Instant::now();
        let dial = self.service.transport.timeouts.dial.unwrap_or(FAR);
        let deadline = self.until.map_or(now + dial, |until| until.min(now + dial));
        if let Some(peer) = &self.endpoint.peer {
            let socket = self.reach_node(peer, deadline).await?;
            // The client's TLS goes through: its own back end is asked for it. All else is that node's business.
            let asks = self.preface.postgres && self.preface.encrypted;
            let socket = timeout_at(deadline, preface(socket, None, asks))
                .await
                .map_err(|_| Failed::late(EndpointFailure::Timeout))??;
            return Ok((Socket::new(socket), None, asks));
        }
        let tls = self
            .backend
            .tls()
            .map_err(|why| Failed::tls(io::Error::other(&*why)))?;
        let socket = self.reach(deadline).await?;
        let header = outgoing_header(&self.service.transport, &self.preface);
        let asks = self.preface.postgres && (self.preface.encrypted || tls.is_some());
        let prefaced = asks || header.is_some();
        let prefacing = preface(socket, header, asks);
        let socket = timeout_at(deadline, prefacing)
            .await
            .map_err(|_| Failed::late(EndpointFailure::Timeout))??;
        let socket = Socket::new(socket);
        let Some(tls) = tls else {
            return Ok((socket, None, prefaced));
        };
        let handshake = timeout_at(deadline, tls.connect(socket.clone())).await;
        let stream = handshake
            .map_err(|_| Failed::late(EndpointFailure::Tls))?
            .map_err(Failed::tls)?;
        Ok((socket, Some(Box::new(stream)), prefaced))
    }

    /// A connection that another node has made with a back end, which that node has told all that is to be said.
    async fn reach_node(&self, peer: &Peer, deadline: Instant) -> Result<TcpStream, Failed> {
        let Preface { client, local, .. } = self.preface;
        let reaching = mesh::tcp_stream(self.scene.links, peer, client, local);
        let limit = match self.impatient {
            // It may have to try several of its instances.
            true => deadline.min(Instant::now() + 3 * IMPATIENT),
            false => deadline,
        };
        match timeout_at(limit, reaching).await {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(refused)) => Err(Failed::refused(refused)),
            Err(_) => Err(Failed::late(EndpointFailure::ConnectTimeout)),
        }
    }

    /// Connects to the first address that answers.
    async fn reach(&self, deadline: Instant) -> Result<TcpStream, Failed> {
        let addresses = self
            .backend
            .addresses(self.service, self.endpoint, self.scene.names)
            .await
            .map_err(Failed::connect)?;
        let count = addresses.len();
        let mut failed = Failed::connect(io::ErrorKind::NotFound.into());
        for (number, address) in addresses.into_iter().enumerate() {
            let limit = match self.impatient || number + 1 < count {
                true => deadline.min(Instant::now() + IMPATIENT),
                false => deadline,
            };
            failed = match timeout_at(limit, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    if let Err(error) = self.tune(&socket) {
                        tracing::debug!(%error, %address, "a socket option was refused");
                    }
                    return Ok(socket);
                }
                Ok(Err(error)) => Failed::connect(error),
                Err(_) => Failed::late(EndpointFailure::ConnectTimeout),
            };
            self.scene.names.forget(&self.endpoint.host, self.endpoint.port);
        }
        Err(failed)
    }

    fn tune(&self, socket: &TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let Some(time) = self.service.transport.stream.dial_keep_alive else {
            return Ok(());
        };
        SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(time))
    }
}

/// Says what is to be said before the client's bytes.
async fn preface(mut socket: TcpStream, header: Option<Vec<u8>>, asks: bool) -> Result<TcpStream, Failed> {
    if let Some(header) = header {
        socket.write_all(&header).await.map_err(Failed::broken)?;
    }
    if asks {
        socket
            .write_all(&postgres::SSL_REQUEST)
            .await
            .map_err(Failed::broken)?;
        let answer = socket.read_u8().await.map_err(Failed::broken)?;
        postgres::starts_tls(answer).map_err(|refused| Failed {
            reason: EndpointFailure::Protocol,
            outcome: AttemptOutcome::Broken,
            error: io::Error::other(refused),
        })?;
    }
    Ok(socket)
}

impl Failed {
    fn connect(error: io::Error) -> Self {
        Self {
            reason: EndpointFailure::Connect,
            outcome: match is_ours(&error) {
                true => AttemptOutcome::Abandoned,
                false => AttemptOutcome::ConnectFailed,
            },
            error,
        }
    }

    fn late(reason: EndpointFailure) -> Self {
        Self {
            reason,
            outcome: AttemptOutcome::ConnectTimeout,
            error: io::ErrorKind::TimedOut.into(),
        }
    }

    fn tls(error: io::Error) -> Self {
        Self {
            reason: EndpointFailure::Tls,
            outcome: AttemptOutcome::ConnectFailed,
            error,
        }
    }

    fn broken(error: io::Error) -> Self {
        Self {
            reason: EndpointFailure::Closed,
            outcome: AttemptOutcome::Broken,
            error,
        }
    }

    fn refused(refused: Refused) -> Self {
        let refusal = match refused {
            Refused::Connect(error) => return Self::connect(error),
            Refused::Refusal(refusal) => refusal,
        };
        Self {
            reason: EndpointFailure::Connect,
            outcome: match refusal {
                // It has too much to do, which is no fault.
                Refusal::Busy => AttemptOutcome::Abandoned,
                _ => AttemptOutcome::ConnectFailed,
            },
            error: io::Error::other(refusal.as_str()),
        }
    }

    fn departed() -> Self {
        Self {
            reason: EndpointFailure::Departed,
            outcome: AttemptOutcome::Abandoned,
            error: io::Error::other("the endpoint left"),
        }
    }
}

/// Whether an error tells of this host and not of the other one.
fn is_ours(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw);
    matches!(
        number,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL)
    )
}
