//! Serves what other nodes send: requests and tunnels, by instances that are this node's own and by no others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use constellation_table::{EntryPointId, TcpRouter, TcpRouterSpec, TcpRule, decide_stream_here};
use h2::SendStream;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::HttpSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::server::ShutdownWatch;
use pingora_http::ResponseHeader;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::head::{Kind, Refusal, StreamHead};
use super::io::{Counted, MeshIo};
use super::links::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS};
use super::pair::{carry, pair};
use super::tunnel::Tunnel;
use super::{ALPN, serve_datagrams};
use crate::http::{EntryPointState, Proxy, serve_relayed, serve_tunnelled};
use crate::l4::tcp;
use crate::metrics::{MeshConnectionOutcome, MeshDirection, MeshKind, MeshMetrics, MeshOutcome};
use crate::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, TcpSettings, UdpSettings,
};
use crate::tenure::Tenure;
use crate::worker::OpenConnection;

/// The TLS handshake of another node.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// All header fields of a request: what clients may send at most, and what nodes add.
const HEADERS: u32 = 1 << 20;
/// Response bytes of one stream that wait for the other node.
const SEND_BUFFER: usize = 256 * 1024;
/// The place of nodes among the entry points; no configured one has it.
pub(crate) const ENTRY_POINT: EntryPointId = EntryPointId(u16::MAX);
/// Its name in metrics and logs.
pub(crate) const NAME: &str = "mesh";

/// What other nodes' connections come in at: no address of its own, and no limits, as the node that a client has
/// connected to keeps to them.
pub(crate) fn entry_point() -> EntryPoint {
    EntryPoint {
        id: ENTRY_POINT,
        name: NAME.into(),
        protocol: Protocol::Tcp,
        addresses: Vec::new(),
        key: "cluster.mesh".into(),
        forwarded: ForwardedHeaders::default(),
        proxy_protocol: ProxyProtocolTrust::default(),
        limits: Limits {
            read_timeout: None,
            write_timeout: None,
            max_body_bytes: None,
            max_connections_per_source: None,
            min_body_rate: None,
            min_send_rate: None,
            max_requests_per_connection: None,
            ..Limits::default()
        },
        tcp: TcpSettings::default(),
        udp: UdpSettings::default(),
        exempt_sources: Vec::new(),
        default_tls_options: "default".into(),
        tenure: Tenure::default(),
    }
}

/// One worker's side towards other nodes that connect.
pub(crate) struct Inlet {
    proxy: Arc<Proxy>,
    app: Arc<StreamApp>,
    stopping: watch::Receiver<bool>,
}

impl Inlet {
    pub(crate) fn new(proxy: Arc<Proxy>, stopping: watch::Receiver<bool>) -> Self {
        let mut h2 = h2::server::Builder::new();
        h2.max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER);
        let app = StreamApp {
            proxy: proxy.clone(),
            options: HttpServerOptions::default(),
            h2,
        };
        Self {
            proxy,
            app: Arc::new(app),
            stopping,
        }
    }

    /// Serves a connection of another node to its end. Whoever drops the future cuts it.
    pub(crate) fn serve(&self, socket: TcpStream) -> impl Future<Output = ()> + Send + 'static {
        serve(
            self.proxy.clone(),
            self.app.clone(),
            socket,
            self.stopping.clone(),
        )
    }
}

async fn serve(proxy: Arc<Proxy>, app: Arc<StreamApp>, socket: TcpStream, stopping: watch::Receiver<bool>) {
    let (Some(view), Ok(peer), Ok(local)) = (
        proxy.edge.settings.mesh.view(),
        socket.peer_addr(),
        socket.local_addr(),
    ) else {
        return;
    };
    let metrics = proxy.edge.metrics.mesh();
    let count = |outcome| metrics.connection(MeshDirection::In, outcome);
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, %peer, "a socket option was refused");
    }
    let accepting = TlsAcceptor::from(view.server.clone()).accept(socket);
    let tls = match timeout(HANDSHAKE, accepting).await {
        Ok(Ok(tls)) if tls.get_ref().1.alpn_protocol() == Some(ALPN) => tls,
        Ok(Ok(_)) => return count(MeshConnectionOutcome::Tls),
        Ok(Err(error)) => {
            tracing::debug!(%error, %peer, "no TLS with another node");
            return count(MeshConnectionOutcome::Tls);
        }
        Err(_) => return count(MeshConnectionOutcome::Tls),
    };
    let Some(node) = (view.admits)(tls.get_ref().1) else {
        tracing::warn!(%peer, "a connection with a certificate of no node that belongs here was closed");
        return count(MeshConnectionOutcome::Stranger);
    };
    drop(view);
    count(MeshConnectionOutcome::Made);
    let _open = metrics.connected(MeshDirection::In);
    let Some(handle) = proxy.mesh_handle(node, peer, local) else {
        return;
    };
    let io = MeshIo::http2(Counted::new(tls, metrics.bytes()), handle);
    // It ends the connection by itself; what it returns is a stream to be used again, which it never is.
    drop(app.process_new(Box::new(io), &stopping).await);
}

/// Serves the streams of connections of other nodes.
struct StreamApp {
    proxy: Arc<Proxy>,
    options: HttpServerOptions,
    h2: h2::server::Builder,
}

#[async_trait]
impl HttpServerApp for StreamApp {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let metrics = self.proxy.edge.metrics.mesh();
        let head = StreamHead::read(&session.req_header().headers);
        let kind = match &head {
            Ok(StreamHead {
                kind: Kind::Request(_),
                ..
            }) => {
                // Whether it is taken shows when its service is looked for.
                let _open = metrics.open(MeshDirection::In, MeshKind::Request);
                return self.proxy.serve_request(session).await;
            }
            Ok(head) => MeshKind::of(&head.kind),
            Err(_) => MeshKind::Request,
        };
        let ServerSession::H2(mut session) = session else {
            return None;
        };
        let handle = session.digest().and_then(|digest| digest.proxy_digest.clone());
        let _open = metrics.open(MeshDirection::In, kind);
        let refusal = match (head, handle) {
            (Ok(head), Some(handle)) => {
                let arrival = Arrival {
                    proxy: &self.proxy,
                    session,
                    handle,
                    stopping: shutdown.clone(),
                    metrics,
                    kind,
                };
                arrival.serve(head).await;
                return None;
            }
            (Err(error), _) => {
                tracing::warn!(%error, "a stream of another node can't be understood; are the versions of both nodes close?");
                Refusal::Malformed
            }
            (Ok(_), None) => Refusal::Malformed,
        };
        metrics.stream(MeshDirection::In, kind, MeshOutcome::of(refusal));
        refuse(&mut session, refusal);
        None
    }

    fn h2_options(&self) -> Option<h2::server::Builder> {
        Some(self.h2.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

fn refuse(session: &mut HttpSession, refusal: Refusal) {
    let sent = ResponseHeader::build(503, Some(1)).and_then(|mut head| {
        let (name, value) = refusal.field();
        head.insert_header(name, value)?;
        session.write_response_header(Box::new(head), true)
    });
    if let Err(error) = sent {
        tracing::debug!(%error, "the other node was gone before the refusal");
    }
}

/// A tunnel that another node asks for.
struct Arrival<'a> {
    proxy: &'a Arc<Proxy>,
    session: HttpSession,
    handle: Arc<ProxyDigest>,
    stopping: watch::Receiver<bool>,
    metrics: &'a MeshMetrics,
    kind: MeshKind,
}

impl Arrival<'_> {
    fn refuse(mut self, refusal: Refusal) {
        self.metrics
            .stream(MeshDirection::In, self.kind, MeshOutcome::of(refusal));
        refuse(&mut self.session, refusal);
    }

    /// Says that the tunnel is taken.
    fn accept(mut self) -> Option<Tunnel> {
        let accepted = ResponseHeader::build(200, Some(0))
            .and_then(|head| self.session.write_response_header(Box::new(head), false));
        let writer: Option<SendStream<Bytes>> = match accepted {
            Ok(()) => self.session.take_response_body_writer(),
            Err(error) => {
                tracing::debug!(%error, "the other node was gone before its tunnel was taken");
                None
            }
        };
        let outcome = match writer {
            Some(_) => MeshOutcome::Taken,
            None => MeshOutcome::Broken,
        };
        self.metrics.stream(MeshDirection::In, self.kind, outcome);
        Some(Tunnel::accepted(Box::new(self.session), writer?))
    }

    async fn serve(self, head: StreamHead) {
        match &head.kind {
            // Served where it was read.
            Kind::Request(_) => {}
            Kind::Http => {
                let (proxy, handle) = (self.proxy.clone(), self.handle.clone());
                if let Some(tunnel) = self.accept() {
                    let io = MeshIo::http1(tunnel, Some(handle));
                    serve_tunnelled(&proxy, Box::new(io)).await;
                }
            }
            Kind::Tcp(service) => self.tcp(service, &head).await,
            Kind::Udp(service) => self.udp(service, &head).await,
            Kind::EntryPoint(name) => self.relayed(name, &head).await,
        }
    }

    async fn tcp(self, service: &str, head: &StreamHead) {
        let proxy = self.proxy.clone();
        let Some((router, line)) = line_to(&proxy, service, head.client) else {
            return self.refuse(Refusal::NoInstance);
        };
        let (near, far) = match pair().await {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(%error, "no sockets for a tunnel; check the limit on open files of this process");
                return self.refuse(Refusal::Busy);
            }
        };
        let (tell, told) = oneshot::channel();
        let stream = tcp::Stream::tunnelled(
            router,
            line,
            near,
            [head.client, head.local],
            self.stopping.clone(),
            tell,
        );
        let entry_point = proxy.edge.mesh.clone();
        let serving = tcp::serve(&proxy, &entry_point, Box::new(stream));
        let carrying = async move {
            // Dropped untold when there is no back end that takes the connection.
            match told.await {
                Ok(()) => {
                    if let Some(tunnel) = self.accept() {
                        carry(far, tunnel).await;
                    }
                }
                Err(_) => self.refuse(Refusal::Unreachable),
            }
        };
        tokio::join!(serving, carrying);
    }

    async fn udp(self, service: &str, head: &StreamHead) {
        let proxy = self.proxy.clone();
        let generation = proxy.edge.published.load_full();
        let client = head.client.ip();
        let found = decide_stream_here(&generation.table, service, client, std::time::Instant::now());
        let Some((service, candidates)) = found.filter(|(_, found)| !found.order.is_empty()) else {
            return self.refuse(Refusal::NoInstance);
        };
        let names = proxy.names();
        for candidate in candidates.order {
            match super::datagrams::reach(service, candidate.endpoint, names).await {
                Ok(socket) => {
                    let _running = candidate.endpoint.live.begin();
                    let live = candidate.endpoint.live.clone();
                    drop(candidate.probe);
                    if let Some(tunnel) = self.accept() {
                        serve_datagrams(socket, tunnel, &live).await;
                    }
                    return;
                }
                Err(error) => {
                    tracing::debug!(%error, endpoint = %candidate.endpoint.name, "there is no way to a back end")
                }
            }
        }
        self.refuse(Refusal::Unreachable);
    }

    async fn relayed(self, name: &str, head: &StreamHead) {
        let proxy = self.proxy.clone();
        let named = |state: &&Arc<EntryPointState>| {
            *state.settings.name == *name && state.settings.protocol == Protocol::Tcp
        };
        let Some(entry_point) = proxy.edge.entry_points.iter().find(named).cloned() else {
            return self.refuse(Refusal::NoInstance);
        };
        let metrics = proxy.edge.metrics.entry_point(entry_point.settings.id);
        let Ok(_open) = OpenConnection::count(&entry_point, head.client, metrics) else {
            return self.refuse(Refusal::Busy);
        };
        let (near, far) = match pair().await {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(%error, "no sockets for a relayed connection; check the limit on open files of this process");
                return self.refuse(Refusal::Busy);
            }
        };
        let stopping = self.stopping.clone();
        if let Some(tunnel) = self.accept() {
            let serving = serve_relayed(proxy, entry_point, near, head.client, head.local, stopping);
            tokio::join!(serving, carry(far, tunnel));
        }
    }
}

/// The local instances of a TCP service, and what stands for the router that the other node has asked; `None`: there is
/// no instance that could serve.
fn line_to(proxy: &Proxy, service: &str, client: SocketAddr) -> Option<(Arc<TcpRouter>, tcp::Route)> {
    let generation = proxy.edge.published.load();
    let (service, candidates) =
        decide_stream_here(&generation.table, service, client.ip(), std::time::Instant::now())?;
    if candidates.order.is_empty() {
        return None;
    }
    let router = TcpRouter::new(TcpRouterSpec {
        name: NAME.into(),
        entry_points: vec![ENTRY_POINT],
        tls: None,
        rule: Arc::new(TcpRule::parse("HostSNI(`*`)").ok()?),
        priority: 0,
        target: service.clone().into(),
        middlewares: Vec::new(),
    });
    let line = tcp::Line::new([(service, candidates)].into_iter());
    Some((Arc::new(router), (service.clone(), line)))
}
