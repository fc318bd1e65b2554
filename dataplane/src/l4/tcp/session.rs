//! A connection from its decision to its end: TLS with the client, a back end, the relay between them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use constellation_table::{AttemptOutcome, Service, TcpRouter, TcpTls};
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use super::account::Account;
use super::connect::{Connected, Line, Preface, Search, record};
use super::opening::Opening;
use super::{Arrival, Scene};
use crate::departure::{self, Running};
use crate::http::runtime_of;
use crate::l4::proxy_protocol::kind;
use crate::l4::relay::{Begin, Each, Ending, Io, Limits, Progress, Side, Wrapped, carry, relay};
use crate::l4::socket::{Replay, Socket, reset_on_close};
use crate::metrics::{HandshakeOutcome, QueueRefusal, RetryOutcome, StreamEnd, TlsVersion};
use crate::tls;

/// A back end that ends a connection in this time, without a byte from either side, has not served it: another one is
/// tried. One that waits longer has waited for the client, and most servers close on who says nothing.
const EARLY: Duration = Duration::from_millis(500);

/// The client's side.
struct Client {
    socket: Socket,
    /// TLS that ends here.
    tls: Option<Box<TlsStream<Replay>>>,
    /// What was read and is the back end's.
    first: Vec<u8>,
}

/// A connection that is being served. In a box of its own, because what is kept for the length of a connection would
/// else be kept once by every function on the way down.
pub(super) struct Session {
    router: Arc<TcpRouter>,
    service: Arc<Service>,
    preface: Preface,
    line: Line,
    client: Client,
    /// Who waits for a back end to take it.
    waiting: Option<oneshot::Sender<()>>,
}

impl Session {
    pub(super) fn new(
        router: Arc<TcpRouter>,
        service: Arc<Service>,
        line: Line,
        arrival: Arrival,
        opening: Opening,
        waiting: Option<oneshot::Sender<()>>,
    ) -> Self {
        let mut tlvs = arrival.tlvs;
        let name = opening
            .hello
            .as_ref()
            .and_then(|hello| hello.server_name.as_deref());
        if let (Some(name), None) = (name, tlvs.authority()) {
            tlvs.set(kind::AUTHORITY, name.as_bytes());
        }
        Self {
            preface: Preface {
                client: arrival.client,
                local: arrival.local,
                tlvs,
                postgres: opening.postgres,
                encrypted: router.spec.tls == Some(TcpTls::Passthrough),
            },
            router,
            service,
            line,
            waiting,
            client: Client {
                socket: Socket::new(arrival.socket),
                tls: None,
                first: arrival.first,
            },
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(&mut self, scene: &Scene<'_>, account: &mut Account) -> StreamEnd {
        let end = self.forward(scene, account).await;
        if end.is_unserved() {
            // An end like any other would tell the client that it was served.
            reset_on_close(self.client.socket.get());
        }
        end
    }

    async fn forward(&mut self, scene: &Scene<'_>, account: &mut Account) -> StreamEnd {
        let runtime = runtime_of(scene.edge, &self.service).filter(|_| !self.line.is_empty());
        let Some(runtime) = runtime else {
            return StreamEnd::Unavailable;
        };
        let limits = &self.service.policy.limits;
        let admitted = {
            let _queued = limits.max_in_flight.map(|_| runtime.metrics.queued());
            let entering = runtime
                .admission
                .enter(limits.max_in_flight, limits.queue, limits.queue_timeout);
            entering.await
        };
        let _place = match admitted {
            Ok(place) => place,
            Err(refused) => {
                runtime.metrics.queue_refused(QueueRefusal::from(&refused));
                return StreamEnd::ServiceFull;
            }
        };
        let terminate = self.router.spec.tls == Some(TcpTls::Terminate);
        if terminate && !Box::pin(self.client.end_tls(scene, account)).await {
            return StreamEnd::Handshake;
        }
        let mut search = Search::new(
            *scene,
            &self.service,
            &runtime,
            &mut self.line,
            self.preface.clone(),
        );
        loop {
            // In a box: a handshake with a back end needs room that the connection, once it is carried, does not.
            let searching = Box::pin(search.next(account));
            let connected = tokio::select! {
                biased;
                connected = searching => connected,
                _ = self.client.socket.get().ready(Interest::ERROR) => Err(StreamEnd::ClientLeft),
            };
            let mut connected = match connected {
                Ok(connected) => connected,
                Err(end) => {
                    if account.attempts > 1 && end == StreamEnd::Unreachable {
                        runtime.metrics.retried(RetryOutcome::Failed);
                    }
                    return end;
                }
            };
            if let Some(waiting) = self.waiting.take()
                && waiting.send(()).is_err()
            {
                return StreamEnd::ClientLeft;
            }
            let forgiving = search.has_more(account);
            let exchanging = exchange(
                scene,
                &mut self.client,
                &mut connected,
                forgiving,
                &account.progress,
            );
            let ending = exchanging.await;
            if ending == Ending::Unserved {
                search.was_useless(&connected, account);
                continue;
            }
            if account.attempts > 1 {
                runtime.metrics.retried(RetryOutcome::Saved);
            }
            return match ending {
                Ending::Complete => StreamEnd::Complete,
                Ending::Broken(Side::Client) => StreamEnd::ClientReset,
                Ending::Broken(Side::Server) | Ending::Unserved => StreamEnd::ServerReset,
                Ending::Idle => StreamEnd::Idle,
                Ending::HalfOpen => StreamEnd::HalfOpen,
                Ending::Stopped => StreamEnd::Departed,
            };
        }
    }
}

/// Carries the connection between the client and a back end, and records what that says of the endpoint.
async fn exchange(
    scene: &Scene<'_>,
    client: &mut Client,
    connected: &mut Connected,
    forgiving: bool,
    progress: &Progress,
) -> Ending {
    let (service, endpoint) = (connected.service.clone(), connected.endpoint.clone());
    let limits = Limits {
        idle: scene.entry_point.settings.tcp.idle_timeout,
        half_open: service.transport.stream.termination_delay,
    };
    let early_until = connected.since + EARLY;
    let recorded = AtomicBool::new(false);
    let good = || {
        if !recorded.swap(true, Ordering::Relaxed) {
            let latency = connected.latency;
            record(scene, &service, &endpoint, AttemptOutcome::Connected { latency });
        }
    };
    let stop = async {
        tokio::time::sleep_until(early_until).await;
        good();
        departure::limit_of(&endpoint.live, Running::Upgraded).await;
    };
    // By reference from here on: every function on the way down would keep a place for it.
    let mut stop = pin!(stop);
    let mut begin = Begin {
        first: std::mem::take(&mut client.first),
        forgiving: forgiving.then_some(early_until),
        ..Begin::default()
    };
    let sockets = Each {
        client: client.socket.clone(),
        server: connected.socket.clone(),
    };
    let ending = match (client.tls.take(), connected.tls.take()) {
        (None, None) => {
            let (near, far) = (sockets.client.get(), sockets.server.get());
            relay(near, far, &mut begin, limits, progress, stop.as_mut()).await
        }
        (None, Some(tls)) => {
            let near = sockets.client.clone();
            let carrying = wrapped(near, tls, &sockets, &mut begin, limits, progress, stop.as_mut());
            Box::pin(carrying).await.0
        }
        (Some(near), None) => {
            let far = sockets.server.clone();
            let carrying = wrapped(near, far, &sockets, &mut begin, limits, progress, stop.as_mut());
            let (ending, near) = Box::pin(carrying).await;
            client.tls = Some(near);
            ending
        }
        (Some(near), Some(tls)) => {
            let carrying = wrapped(near, tls, &sockets, &mut begin, limits, progress, stop.as_mut());
            let (ending, near) = Box::pin(carrying).await;
            client.tls = Some(near);
            ending
        }
    };
    client.first = std::mem::take(&mut begin.first);
    let unused = Side::BOTH
        .into_iter()
        .all(|side| progress.from(side) == 0 && !(side == Side::Server && progress.has_begun(side)));
    let ended_early = matches!(ending, Ending::Unserved | Ending::Broken(Side::Server));
    if ended_early && unused && Instant::now() <= early_until {
        if !recorded.swap(true, Ordering::Relaxed) {
            // Whom a back end learns of by our header it may refuse; that says nothing of the back end.
            let outcome = match connected.prefaced {
                true => AttemptOutcome::Abandoned,
                false => AttemptOutcome::Broken,
            };
            record(scene, &service, &endpoint, outcome);
        }
    } else {
        good();
    }
    connected.probe = None;
    ending
}

/// Carries a connection of which at least one side is more than a socket.
async fn wrapped<C: Io, S: Io>(
    client: C,
    server: S,
    sockets: &Each<Socket>,
    begin: &mut Begin,
    limits: Limits,
    progress: &Progress,
    stop: impl Future<Output = ()>,
) -> (Ending, C) {
    let mut lanes = Wrapped::new(client, server, std::mem::take(&mut begin.first));
    let below = Each {
        client: sockets.client.get(),
        server: sockets.server.get(),
    };
    let ending = carry(&mut lanes, below, begin, limits, progress, stop).await;
    let (client, unsent) = lanes.into_client();
    begin.first = unsent;
    (ending, client)
}

impl Client {
    /// Ends the client's TLS here. Whether that went well; counts how it went.
    async fn end_tls(&mut self, scene: &Scene<'_>, account: &mut Account) -> bool {
        let entry_point = &scene.entry_point.settings;
        let count = |version, outcome| {
            if let Some(metrics) = scene.edge.metrics.entry_point(entry_point.id) {
                metrics.handshake(version, outcome);
            }
        };
        let io = Replay::new(std::mem::take(&mut self.first), self.socket.clone());
        let accepting = tls::accept_stream(io, entry_point.id, &scene.edge.published);
        match timeout(entry_point.limits.handshake_timeout, accepting).await {
            Ok(Ok(accepted)) => {
                count(accepted.version, accepted.outcome);
                account.tls = Some(accepted.details);
                self.tls = Some(Box::new(accepted.stream));
                true
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no TLS");
                count(TlsVersion::None, error.outcome());
                false
            }
            Err(_) => {
                count(TlsVersion::None, HandshakeOutcome::Timeout);
                false
            }
        }
    }
}
