//! A worker's connections to other nodes: made when they are needed, shared by many streams, and kept while their node
//! is one.
//!
//! Requests and tunnels have connections of their own: the streams of a connection share its window, and tunnels stay for
//! as long as somebody likes. A connection answers pings, or it is closed; so a node that is gone without a word is found
//! out within seven seconds also where nothing is sent.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use pingora_core::connectors::http::v2::ConnectionRef;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::v2::client::{Http2Session, drive_connection};
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

use super::io::Counted;
use super::outlet::say_leaving;
use super::{ALPN, Mesh, Node};
use crate::metrics::{InFlight, MeshConnectionOutcome, MeshDirection, MeshMetrics};

/// Streams on one connection at once; a further one opens another connection.
pub(super) const STREAMS: u32 = 200;
/// What one stream may send before it is read.
pub(super) const STREAM_WINDOW: u32 = 1 << 20;
/// The same for all streams of a connection: more than they can have together, so that none waits for another's reader.
pub(super) const CONNECTION_WINDOW: u32 = (STREAMS + 1) * STREAM_WINDOW;
/// How long making a connection may take.
const DIAL: Duration = Duration::from_secs(5);
/// How long one of several addresses may take.
const IMPATIENT: Duration = Duration::from_secs(1);
/// Between two pings.
const PING: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Requests,
    Tunnels,
}

/// The connections of one worker.
pub(crate) struct Links {
    mesh: Mesh,
    pub(super) metrics: MeshMetrics,
    nodes: Mutex<HashMap<Arc<str>, Arc<Neighbour>>>,
    /// What carries bytes between sockets and tunnels.
    pub(super) carrying: TaskTracker,
    /// This worker is about to stop.
    leaving: AtomicBool,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

/// Another node, as one worker knows it.
#[derive(Default)]
struct Neighbour {
    requests: Lane,
    tunnels: Lane,
}

#[derive(Default)]
struct Lane {
    open: Mutex<Vec<Link>>,
    /// Held by whoever makes a connection; and when and why that failed last.
    dialling: tokio::sync::Mutex<Option<(Instant, Arc<str>)>>,
}

#[derive(Clone)]
struct Link {
    requests: ConnectionRef,
    tunnels: SendRequest<Bytes>,
    /// Tunnels on it.
    running: Arc<AtomicUsize>,
}

/// A place for a tunnel on a connection.
pub(super) struct Opening {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) place: Place,
}

/// Counts a tunnel until it is dropped.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    fn is_usable(&self) -> bool {
        !self.requests.is_closed() && !self.requests.is_shutting_down()
    }
}

impl Lane {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Link>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection with room for one more stream.
    fn roomy(&self, of: Use) -> Option<Link> {
        self.with(|open| {
            open.retain(Link::is_usable);
            let room = |link: &&Link| match of {
                Use::Requests => link.requests.more_streams_allowed(),
                Use::Tunnels => {
                    link.running.load(Ordering::Relaxed)
                        < link.tunnels.current_max_send_streams().min(STREAMS as usize)
                }
            };
            open.iter().find(room).cloned()
        })
    }

    /// Takes no further stream on a connection that said that it closes.
    fn forget(&self, link: &Link) {
        link.requests.mark_shutdown();
        self.with(|open| open.retain(Link::is_usable));
    }
}

impl Links {
    pub(crate) fn new(mesh: Mesh, metrics: MeshMetrics) -> Self {
        Self {
            mesh,
            metrics,
            nodes: Mutex::default(),
            carrying: TaskTracker::new(),
            leaving: AtomicBool::new(false),
        }
    }

    fn neighbour(&self, node: &Arc<str>) -> Arc<Neighbour> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(node.clone()).or_default().clone()
    }

    /// Has the connections of clients that other nodes serve ended there, between two requests where they are HTTP: only
    /// who serves them sees where one ends. To be called when this worker accepts no more.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        for neighbour in nodes.values() {
            let tunnels = neighbour.tunnels.with(|open| open.clone());
            for link in tunnels.into_iter().filter(Link::is_usable) {
                self.carrying.spawn(say_leaving(link.tunnels));
            }
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Waits until what is in tunnels has been carried. To be called when nothing opens further ones.
    pub(crate) async fn settle(&self) {
        self.carrying.close();
        self.carrying.wait().await;
    }

    /// Closes connections to nodes that are none any more, once their streams are over. To be called now and then.
    pub(crate) fn sweep(&self) {
        let view = self.mesh.view();
        let known = |node: &str| view.as_ref().is_some_and(|view| view.nodes.contains_key(node));
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|node, _| known(node));
    }

    /// A stream for a request, and whether its connection was used before.
    pub(super) async fn request(&self, node: &Arc<str>) -> io::Result<(Http2Session, bool)> {
        let neighbour = self.neighbour(node);
        let lane = &neighbour.requests;
        loop {
            let (link, used) = self.link(node, lane, Use::Requests).await?;
            match link.requests.spawn_stream().await {
                Ok(Some(session)) => return Ok((session, used)),
                Ok(None) if !link.requests.is_shutting_down() && link.is_usable() => {}
                Ok(None) => lane.forget(&link),
                Err(error) => {
                    lane.forget(&link);
                    if !used {
                        return Err(io::Error::other(error));
                    }
                }
            }
        }
    }

    /// A place for a tunnel.
    pub(super) async fn tunnel(&self, node: &Arc<str>) -> io::Result<Opening> {
        let neighbour = self.neighbour(node);
        let lane = &neighbour.tunnels;
        loop {
            let (link, used) = self.link(node, lane, Use::Tunnels).await?;
            link.running.fetch_add(1, Ordering::Relaxed);
            let place = Place(link.running.clone());
            match link.tunnels.clone().ready().await {
                Ok(sender) => return Ok(Opening { sender, place }),
                Err(error) => {
                    lane.forget(&link);
                    if !used {
                        return Err(io::Error::other(error));
                    }
                }
            }
        }
    }

    /// A connection there is, or a new one. Many may wait for the same new one; when it can't be made, all of them have
    /// their answer.
    async fn link(&self, node: &Arc<str>, lane: &Lane, of: Use) -> io::Result<(Link, bool)> {
        if let Some(link) = lane.roomy(of) {
            return Ok((link, true));
        }
        let since = Instant::now();
        let mut dialling = lane.dialling.lock().await;
        if let Some(link) = lane.roomy(of) {
            return Ok((link, true));
        }
        if let Some((_, why)) = dialling.as_ref().filter(|(at, _)| *at >= since) {
            return Err(io::Error::other(why.to_string()));
        }
        let dialled = timeout(DIAL, self.dial(node)).await;
        match dialled.unwrap_or_else(|late| Err(late.into())) {
            Ok(link) => {
                *dialling = None;
                lane.with(|open| open.push(link.clone()));
                Ok((link, false))
            }
            Err(error) => {
                *dialling = Some((Instant::now(), error.to_string().into()));
                Err(error)
            }
        }
    }

    async fn dial(&self, name: &Arc<str>) -> io::Result<Link> {
        let node = self.mesh.view().and_then(|view| view.nodes.get(name).cloned());
        let node = node.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{name} is no node that can be reached"),
            )
        })?;
        let count = |outcome| self.metrics.connection(MeshDirection::Out, outcome);
        let mut again = true;
        let tls = loop {
            let socket = reach(name, &node)
                .await
                .inspect_err(|_| count(MeshConnectionOutcome::Connect))?;
            match secure(name, &node, socket).await {
                Ok(tls) => break tls,
                // The process that has accepted it ends, and the next one may be there already.
                Err(error) if std::mem::take(&mut again) && was_cut(&error) => {
                    tracing::debug!(node = %name, %error, "a connection to a node was cut at its start");
                }
                Err(error) => {
                    count(MeshConnectionOutcome::Tls);
                    return Err(error);
                }
            }
        };
        let link = self.speak(tls).await?;
        count(MeshConnectionOutcome::Made);
        Ok(link)
    }

    async fn speak(&self, tls: TlsStream<TcpStream>) -> io::Result<Link> {
        let io = Counted::new(tls, self.metrics.bytes());
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake::<_, Bytes>(io)
            .await
            .map_err(io::Error::other)?;
        let (closed, closing) = watch::channel(false);
        let silent = Arc::new(AtomicBool::new(false));
        let open = self.metrics.connected(MeshDirection::Out);
        // Ends when the connection does: when all that use it are gone, the other node ends it, or it answers no ping.
        tokio::spawn({
            let silent = silent.clone();
            async move {
                let _open: InFlight = open;
                drive_connection(connection, -1, closed, Some(PING), silent).await;
            }
        });
        Ok(Link {
            requests: ConnectionRef::new(
                sender.clone(),
                closing,
                silent,
                -1,
                STREAMS as usize,
                Digest::default(),
            ),
            tunnels: sender,
            running: Arc::default(),
        })
    }
}

/// Whether the other end has gone rather than said something.
fn was_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Connects to the first address that answers.
async fn reach(name: &str, node: &Node) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, format!("{name} has no address"));
    for (number, address) in node.addresses.iter().enumerate() {
        let limit = match number + 1 < node.addresses.len() {
            true => IMPATIENT,
            false => DIAL,
        };
        let until = Instant::now() + limit;
        match timeout_at(until, TcpStream::connect(&**address)).await {
            Ok(Ok(socket)) => {
                socket.set_nodelay(true)?;
                let probes = TcpKeepalive::new().with_time(PING).with_interval(PING);
                SockRef::from(&socket).set_tcp_keepalive(&probes)?;
                return Ok(socket);
            }
            Ok(Err(error)) => failed = io::Error::new(error.kind(), format!("{name} at {address}: {error}")),
            Err(late) => failed = late.into(),
        }
    }
    Err(failed)
}

/// TLS with this node and no other: its certificate is checked by the configuration, which knows the name. The name in
/// the ClientHello says nothing.
async fn secure(name: &str, node: &Node, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let server = ServerName::try_from(name.to_owned())
        .or_else(|_| ServerName::try_from("node.invalid"))
        .map_err(io::Error::other)?;
    let connector = TlsConnector::from(node.client.clone());
    let tls = connector.connect(server, socket).await?;
    if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::other(format!(
            "{name} does not speak {}",
            String::from_utf8_lossy(ALPN)
        )));
    }
    Ok(tls)
}
