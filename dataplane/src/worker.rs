//! One worker: a thread with its own runtime, listening sockets, connections and upstream pool.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use socket2::{SockRef, Socket, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{Edge, EntryPointState, Proxy, serve_connection};
use crate::l4::udp::{self, Entrance};
use crate::liveness::{Workers, message};
use crate::mesh::Inlet;
use crate::metrics::{EntryPointMetrics, InFlight, Refusal};
use crate::server::StartError;
use crate::sources::Counted;

/// A silent peer is noticed after this long, plus nine probes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Pause after the process ran out of descriptors or memory; accepting at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A worker that was prepared and not yet started.
pub(crate) struct Worker {
    number: usize,
    runtime: Runtime,
    proxy: Arc<Proxy>,
    edge: Arc<Edge>,
    sockets: Sockets,
    signals: Signals,
    report: mpsc::UnboundedSender<usize>,
    workers: Workers,
}

/// What the workers are told.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// `true`: accept.
    pub(crate) opening: watch::Receiver<bool>,
    /// `true`: drain. Closed: end at once.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// The sockets of one worker.
#[derive(Default)]
struct Sockets {
    /// With the position of their entry point.
    connections: Vec<(usize, StdListener)>,
    /// All of an entry point together.
    datagrams: Vec<(Arc<Entrance>, Vec<UdpSocket>)>,
}

impl Sockets {
    fn sorted(entrances: &[Option<Arc<Entrance>>], all: Vec<(usize, Socket)>) -> Self {
        let mut sorted = Self::default();
        for (entry_point, socket) in all {
            let Some(entrance) = entrances.get(entry_point).and_then(Option::as_ref) else {
                sorted.connections.push((entry_point, socket.into()));
                continue;
            };
            let same = |(own, _): &&mut (Arc<Entrance>, _)| Arc::ptr_eq(own, entrance);
            match sorted.datagrams.iter_mut().find(same) {
                Some((_, sockets)) => sockets.push(socket.into()),
                None => sorted.datagrams.push((entrance.clone(), vec![socket.into()])),
            }
        }
        sorted
    }
}

impl Worker {
    /// Makes everything that can fail.
    pub(crate) fn prepare(
        number: usize,
        edge: Arc<Edge>,
        entrances: &[Option<Arc<Entrance>>],
        sockets: Vec<(usize, Socket)>,
        signals: Signals,
        report: mpsc::UnboundedSender<usize>,
        workers: Workers,
    ) -> Result<Self, StartError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| StartError::Worker {
                worker: number,
                source,
            })?;
        let proxy = Proxy::new(edge.clone()).ok_or(StartError::CertificateAuthorities)?;
        Ok(Self {
            number,
            runtime,
            proxy: Arc::new(proxy),
            edge,
            sockets: Sockets::sorted(entrances, sockets),
            signals,
            report,
            workers,
        })
    }

    /// Number of the worker, from 0.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Serves until told to stop; then drains and reports how many connections were cut.
    pub(crate) fn run(self) {
        let Self {
            number,
            runtime,
            proxy,
            edge,
            sockets,
            signals,
            report,
            workers,
        } = self;
        if let Some(cpu) = edge.settings.cpu_of(number)
            && let Err(error) = stay_on(cpu)
        {
            tracing::warn!(worker = number, cpu, %error, "a worker can't stay on its CPU");
        }
        let lost = |reason: &str| workers.failed(number, reason);
        workers.watch(number, || {
            let cut = runtime.block_on(serve(proxy, edge, sockets, signals, lost));
            // What pingora spawned (HTTP/2 streams, idle upstream connections) ends with its runtime.
            runtime.shutdown_timeout(Duration::from_secs(1));
            if report.send(cut).is_err() {
                tracing::debug!(worker = number, cut, "nobody waits for the end of this worker");
            }
        });
    }
}

/// Keeps this thread on one CPU.
fn stay_on(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

async fn serve(
    proxy: Arc<Proxy>,
    edge: Arc<Edge>,
    sockets: Sockets,
    signals: Signals,
    lost: impl Fn(&str),
) -> usize {
    let Signals {
        mut opening,
        mut stopping,
    } = signals;
    let opened = tokio::select! {
        opened = opening.wait_for(|open| *open) => opened.is_ok(),
        _ = stopping.wait_for(|stop| *stop) => false,
    };
    // Told to stop before there was anything to accept.
    let sockets = if opened { sockets } else { Sockets::default() };
    let mut accepting = JoinSet::new();
    let connections = TaskTracker::new();
    let close = CancellationToken::new();
    let cut = CancellationToken::new();
    // What UDP entry points do; each ends with the number of sessions it had to cut.
    let mut datagrams = JoinSet::new();
    for (entrance, sockets) in sockets.datagrams {
        let serving = udp::serve(
            edge.clone(),
            proxy.links().clone(),
            entrance,
            sockets,
            close.clone(),
            cut.clone(),
        );
        datagrams.spawn(serving);
    }
    for (entry_point, socket) in sockets.connections {
        let acceptor = Acceptor {
            entry_point,
            proxy: proxy.clone(),
            edge: edge.clone(),
            connections: connections.clone(),
            stopping: stopping.clone(),
            close: close.clone(),
            cut: cut.clone(),
        };
        accepting.spawn(acceptor.run(socket));
    }
    if opened {
        let inlet = Inlet::new(proxy.clone(), stopping.clone());
        let (mesh, connections) = (edge.settings.mesh.clone(), connections.clone());
        let (close, cut) = (close.clone(), cut.clone());
        accepting.spawn(async move {
            loop {
                let arrived = tokio::select! {
                    arrived = mesh.arrival() => arrived,
                    // Whoever comes last has been accepted already.
                    () = close.cancelled() => mesh.arrived(),
                };
                let Some(socket) = arrived else { return };
                let taken = socket
                    .set_nonblocking(true)
                    .and_then(|()| TcpStream::from_std(socket));
                match taken {
                    Ok(socket) => hold(&connections, cut.clone(), (), inlet.serve(socket)),
                    Err(error) => tracing::warn!(%error, "a connection of another node can't be served"),
                }
            }
        });
    }
    // Ends when this function does.
    let mut house = JoinSet::new();
    house.spawn({
        let proxy = proxy.clone();
        async move { proxy.keep_house().await }
    });
    let drain = loop {
        tokio::select! {
            // An error means that the data plane was dropped: nobody gave time to drain.
            told = stopping.wait_for(|stop| *stop) => break told.is_ok(),
            Some(ended) = accepting.join_next() => lost(&accept_loop_ended(ended)),
            Some(ended) = datagrams.join_next() => lost(&datagrams_ended(ended)),
        }
    };
    close.cancel();
    while accepting.join_next().await.is_some() {}
    connections.close();
    proxy.drain();
    proxy.links().leave();
    let mut sessions = 0;
    if drain {
        let over = async {
            connections.wait().await;
            proxy.links().settle().await;
            sessions += cut_sessions(&mut datagrams).await;
        };
        if tokio::time::timeout(edge.settings.drain, over).await.is_ok() {
            return sessions;
        }
    }
    let left = connections.len();
    cut.cancel();
    connections.wait().await;
    left + sessions + cut_sessions(&mut datagrams).await
}

/// Waits for the end of all UDP entry points; how many sessions they had to cut.
async fn cut_sessions(datagrams: &mut JoinSet<io::Result<usize>>) -> usize {
    let mut cut = 0;
    while let Some(ended) = datagrams.join_next().await {
        // An entry point that failed was told of when it did.
        cut += ended.map_or(0, |ended| ended.unwrap_or_default());
    }
    cut
}

/// Why an accept loop ended that nobody told to.
fn accept_loop_ended(ended: Result<(), JoinError>) -> String {
    match ended.map_err(JoinError::try_into_panic) {
        Err(Ok(panic)) => format!("has a listener less: it panicked: {}", message(&*panic)),
        _ => "has a listener less, see the log".to_owned(),
    }
}

/// Why the datagrams of an entry point are carried no more, though nobody told to stop.
fn datagrams_ended(ended: Result<io::Result<usize>, JoinError>) -> String {
    match ended.map_err(JoinError::try_into_panic) {
        Err(Ok(panic)) => format!("has a UDP entry point less: it panicked: {}", message(&*panic)),
        Ok(Err(error)) => format!("has a UDP entry point less: {error}"),
        _ => "has a UDP entry point less, see the log".to_owned(),
    }
}

/// Accepts the connections of one socket.
struct Acceptor {
    entry_point: usize,
    proxy: Arc<Proxy>,
    edge: Arc<Edge>,
    connections: TaskTracker,
    stopping: watch::Receiver<bool>,
    close: CancellationToken,
    cut: CancellationToken,
}

impl Acceptor {
    async fn run(self, socket: StdListener) {
        let listener = match TcpListener::from_std(socket) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listening socket can't be served");
                return;
            }
        };
        let mut starving: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.close.cancelled() => break,
            };
            match accepted {
                Ok((socket, client)) => {
                    if let Some(since) = starving.take() {
                        tracing::info!(
                            seconds = since.elapsed().as_secs(),
                            "connections are accepted again"
                        );
                    }
                    self.take(socket, client);
                }
                Err(error) if is_of_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    self.starve(&error, &mut starving);
                    // New connections wait in the kernel's queue, where most outlast the shortage.
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                        () = self.close.cancelled() => break,
                    }
                }
            }
        }
        if let Err(error) = self.take_waiting(listener) {
            tracing::warn!(%error, "connections that waited to be accepted were lost");
        }
    }

    /// Counts a failed accept, and says so once for each shortage.
    fn starve(&self, error: &io::Error, starving: &mut Option<Instant>) {
        let Some(entry_point) = self.edge.entry_points.get(self.entry_point) else {
            return;
        };
        if let Some(metrics) = self.edge.metrics.entry_point(entry_point.settings.id) {
            metrics.accept_failed();
        }
        if starving.is_none() {
            *starving = Some(Instant::now());
            tracing::error!(
                %error,
                entry_point = &*entry_point.settings.name,
                open = entry_point.open.load(Ordering::Relaxed),
                "cannot accept connections; they wait until descriptors are free. Raise the limit on open files \
                 (LimitNOFILE), or lower limits.maxConnections of the entry point"
            );
        }
    }

    /// Takes what the kernel has completed already: closing the socket would reset these connections.
    fn take_waiting(&self, listener: TcpListener) -> io::Result<()> {
        // Asked directly: the runtime may not have heard yet that there is something to accept.
        let listener = listener.into_std()?;
        loop {
            match listener.accept() {
                Ok((socket, client)) => {
                    socket.set_nonblocking(true)?;
                    self.take(TcpStream::from_std(socket)?, client);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&self, socket: TcpStream, client: SocketAddr) {
        let Some(entry_point) = self.edge.entry_points.get(self.entry_point) else {
            return;
        };
        let metrics = self.edge.metrics.entry_point(entry_point.settings.id);
        let settings = &self.edge.settings;
        if entry_point.settings.tenure.is_over() {
            if let Some(metrics) = metrics {
                metrics.refused(Refusal::NoLease);
            }
            reset(socket);
            return;
        }
        let counted = if settings.gate.refuses(client.ip()) {
            Err(Refusal::Denied)
        } else {
            OpenConnection::count(entry_point, client, metrics)
        };
        let open = match counted {
            Ok(open) => open,
            // Closed without a word: whether a word would have to be encrypted is known only after reading, and that
            // takes the task and the memory that the limit is there to save.
            Err(reason) => {
                if let Some(metrics) = metrics {
                    metrics.refused(reason);
                }
                settings.offences.tell(&entry_point.settings, client.ip(), reason);
                return;
            }
        };
        if let Err(error) = tune(&socket) {
            tracing::debug!(%error, %client, "a socket option was refused");
        }
        let serving = serve_connection(
            self.proxy.clone(),
            entry_point.clone(),
            socket,
            client,
            self.stopping.clone(),
        );
        hold(&self.connections, self.cut.clone(), open, serving);
    }
}

/// Serves a connection in a task of its own until it ends or is cut. A panic in it ends this task alone; `open` is
/// dropped in any case.
fn hold(
    connections: &TaskTracker,
    cut: CancellationToken,
    open: impl Send + 'static,
    serving: impl Future<Output = ()> + Send + 'static,
) {
    connections.spawn(async move {
        let _open = open;
        tokio::select! {
            () = serving => {}
            () = cut.cancelled() => {}
        }
    });
}

/// Counts a connection until it is dropped.
pub(crate) struct OpenConnection {
    _place: Place,
    _of_source: Option<Counted>,
    _counted: Option<InFlight>,
}

impl OpenConnection {
    /// Counts a connection, unless there are too many.
    pub(crate) fn count(
        entry_point: &Arc<EntryPointState>,
        client: SocketAddr,
        metrics: Option<&EntryPointMetrics>,
    ) -> Result<Self, Refusal> {
        let place = Place::take(entry_point).ok_or(Refusal::TooManyConnections)?;
        // Who may say whose connection it is has brought it for somebody else: that one is counted once it is named.
        let of_source = match entry_point.settings.proxy_protocol.trusts(client.ip()) {
            true => None,
            false => entry_point
                .admit(client.ip())
                .map_err(|_| Refusal::TooManyFromSource)?,
        };
        Ok(Self {
            _place: place,
            _of_source: of_source,
            _counted: metrics.map(EntryPointMetrics::connection),
        })
    }
}

/// One of the connections that an entry point may have.
struct Place(Arc<EntryPointState>);

impl Place {
    fn take(entry_point: &Arc<EntryPointState>) -> Option<Self> {
        let open = entry_point.open.fetch_add(1, Ordering::Relaxed);
        let place = Self(entry_point.clone());
        (open < entry_point.settings.limits.max_connections).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends a connection as if nobody had listened: the client learns at once that it has to go elsewhere.
fn reset(socket: TcpStream) {
    if let Err(error) = socket.set_zero_linger() {
        tracing::debug!(%error, "a connection is closed rather than reset");
    }
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    SockRef::from(socket).set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(TCP_KEEPALIVE)
            .with_interval(TCP_KEEPALIVE / 4),
    )
}

/// Errors of `accept` that concern one connection only (`accept(2)`), so that the next one can follow at once.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_one_connection_ends_that_connection_alone() {
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
            let open = Arc::new(());
            let (go, wait) = tokio::sync::oneshot::channel::<()>();
            hold(&connections, cut.clone(), open.clone(), async {
                panic!("a defect in one connection")
            });
            hold(&connections, cut, open.clone(), async move {
                wait.await.unwrap();
            });
            while connections.len() > 1 {
                tokio::task::yield_now().await;
            }
            assert_eq!(
                Arc::strong_count(&open),
                2,
                "the one that panicked counts no longer"
            );
            go.send(()).unwrap();
            connections.close();
            connections.wait().await;
            assert_eq!(Arc::strong_count(&open), 1);
        });
    }
}
