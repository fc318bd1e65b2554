//! Serves what other nodes send: requests and tunnels, by instances that are this node's own and by no others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use constellation_table::EntryPointId;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::server::ShutdownWatch;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::ALPN;
use super::arrival::{Arrival, refuse};
use super::head::{Kind, Refusal, StreamHead};
use super::io::{Counted, MeshIo};
use super::links::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS};
use crate::http::Proxy;
use crate::metrics::{MeshConnectionOutcome, MeshDirection, MeshKind, MeshOutcome};
use crate::settings::{
    EntryPoint, ForwardedHeaders, Limits, Protocol, ProxyProtocolTrust, TcpSettings, UdpSettings,
};
use crate::tenure::Tenure;

/// The TLS handshake of another node.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// All header fields of a request: what clients may send at most, and what nodes add.
const HEADERS: u32 = 1 << 20;
/// Response bytes of one stream that wait for the other node.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams that were given up before they were looked at: the clients behind another node are many, and it keeps count of
/// what each may do.
const RESETS: usize = 10_000;
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
        limits: Limits::of_a_proxy(),
        tcp: TcpSettings::default(),
        udp: UdpSettings::default(),
        exempt_sources: Vec::new(),
        default_tls_options: "default".into(),
        tenure: Tenure::default(),
        by_service: false,
        shared: false,
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
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(None)
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
        proxy.edge.settings.mesh.admitting_view().await,
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
    let node = view.admits.as_ref().and_then(|admits| admits(tls.get_ref().1));
    let Some(node) = node else {
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
