//! Tunnels that another node asks for: each is taken once there is a local instance that serves it, or refused.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use constellation_table::{TcpRouter, decide_stream_here};
use h2::SendStream;
use pingora_core::protocols::http::v2::server::HttpSession;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_http::ResponseHeader;
use tokio::sync::{oneshot, watch};

use super::head::{Kind, Refusal, StreamHead};
use super::inlet::{ENTRY_POINT, NAME};
use super::io::MeshIo;
use super::pair::{carry, pair};
use super::serve_datagrams;
use super::tunnel::Tunnel;
use crate::http::{Closing, EntryPointState, Proxy, closing_of, serve_relayed, serve_tunnelled};
use crate::l4::tcp;
use crate::metrics::{MeshDirection, MeshKind, MeshMetrics, MeshOutcome};
use crate::settings::Protocol;
use crate::worker::OpenConnection;

/// A tunnel that another node asks for.
pub(super) struct Arrival<'a> {
    pub(super) proxy: &'a Arc<Proxy>,
    pub(super) session: HttpSession,
    pub(super) handle: Arc<ProxyDigest>,
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) metrics: &'a MeshMetrics,
    pub(super) kind: MeshKind,
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

    pub(super) async fn serve(self, head: StreamHead) {
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
            Kind::Leaving => self.leaving(),
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
        let Some(closing) = closing_of(&self.handle) else {
            return self.refuse(Refusal::Malformed);
        };
        let Some(tunnel) = self.accept() else { return };
        let (tell, stopping) = watch::channel(false);
        let end = Closing {
            token: closing.clone(),
            told: stopping,
        };
        let serving = serve_relayed(proxy, entry_point, near, head.client, head.local, end);
        let serving = async {
            tokio::pin!(serving);
            tokio::select! {
                () = &mut serving => return,
                // This worker drains, or the one that the client is connected to.
                () = closing.cancelled() => {}
            }
            tell.send_replace(true);
            serving.await;
        };
        tokio::join!(serving, carry(far, tunnel));
    }

    /// The other node is about to stop, and its clients can't be told but by what is answered here.
    fn leaving(mut self) {
        if let Some(closing) = closing_of(&self.handle) {
            closing.cancel();
        }
        self.metrics
            .stream(MeshDirection::In, self.kind, MeshOutcome::Taken);
        let told = ResponseHeader::build(200, Some(0))
            .and_then(|head| self.session.write_response_header(Box::new(head), true));
        if let Err(error) = told {
            tracing::debug!(%error, "the other node was gone before it was told that its word was heard");
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
    let router = tcp::router_to(service, NAME.into(), ENTRY_POINT, None)?;
    let line = tcp::Line::new([(service, candidates)].into_iter());
    Some((router, (service.clone(), line)))
}

/// Says that the stream is not taken.
pub(super) fn refuse(session: &mut HttpSession, refusal: Refusal) {
    let sent = ResponseHeader::build(503, Some(1)).and_then(|mut head| {
        let (name, value) = refusal.field();
        head.insert_header(name, value)?;
        session.write_response_header(Box::new(head), true)
    });
    if let Err(error) = sent {
        tracing::debug!(%error, "the other node was gone before the refusal");
    }
}
