//! Opens streams to other nodes.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use constellation_table::Peer;
use h2::client::SendRequest;
use http::{Method, Request, StatusCode};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v2::client::Http2Session;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::head::{Kind, Refusal, StreamHead};
use super::io::MeshIo;
use super::links::{Links, Opening, Place};
use super::pair::{carry, pair};
use super::tunnel::Tunnel;
use crate::metrics::{InFlight, MeshDirection, MeshKind, MeshOutcome};

/// Why there is no stream. Nothing was done for it.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no connection to the node.
    Connect(io::Error),
    /// The node does not take it.
    Refusal(Refusal),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::Refusal(refusal) => f.write_str(refusal.as_str()),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Connect(error)
    }
}

impl MeshKind {
    pub(super) fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Request(_) => Self::Request,
            Kind::Http => Self::Http,
            Kind::Tcp(_) => Self::Tcp,
            Kind::Udp(_) => Self::Udp,
            Kind::EntryPoint(_) => Self::EntryPoint,
            Kind::Leaving => Self::Leaving,
        }
    }
}

impl MeshOutcome {
    pub(crate) fn of(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoInstance => Self::NoInstance,
            Refusal::Unreachable => Self::Unreachable,
            Refusal::Busy => Self::Busy,
            Refusal::Malformed => Self::Malformed,
        }
    }
}

/// A stream for a request to a node, and whether its connection was used before.
pub(crate) async fn request_stream(links: &Links, peer: &Peer) -> Result<(Http2Session, bool), Refused> {
    let opened = links.request(&peer.node).await;
    let outcome = match &opened {
        Ok(_) => MeshOutcome::Taken,
        Err(_) => MeshOutcome::Broken,
    };
    links
        .metrics
        .stream(MeshDirection::Out, MeshKind::Request, outcome);
    Ok(opened?)
}

/// A stream of HTTP/1.1 for one request to a node.
pub(crate) async fn upgrade_stream(
    links: &Links,
    peer: &Peer,
    client: SocketAddr,
    local: SocketAddr,
) -> Result<Stream, Refused> {
    let open = open(links, &peer.node, Kind::Http, client, local).await?;
    Ok(Box::new(MeshIo::http1(open, None)))
}

/// A socket whose other end is a back end of a TCP service at a node. The connection to the back end stands.
pub(crate) async fn tcp_stream(
    links: &Links,
    peer: &Peer,
    client: SocketAddr,
    local: SocketAddr,
) -> Result<TcpStream, Refused> {
    let kind = Kind::Tcp((*peer.service).into());
    let open = open(links, &peer.node, kind, client, local).await?;
    let (near, far) = pair().await?;
    // Ends when both sides have.
    links.carrying.spawn(carry(far, open));
    Ok(near)
}

/// A tunnel that the other node has taken.
pub(crate) struct Open {
    tunnel: Tunnel,
    _counted: (Place, InFlight),
}

impl AsyncRead for Open {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.tunnel).poll_read(cx, to)
    }
}

impl AsyncWrite for Open {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        data: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.tunnel).poll_write(cx, data)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.tunnel).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.tunnel).poll_shutdown(cx)
    }
}

/// Opens a tunnel, and waits until the other node has taken it.
pub(super) async fn open(
    links: &Links,
    node: &Arc<str>,
    kind: Kind,
    client: SocketAddr,
    local: SocketAddr,
) -> Result<Open, Refused> {
    let counted = MeshKind::of(&kind);
    let opened = try_open(links, node, kind, client, local).await;
    let outcome = match &opened {
        Ok(_) => MeshOutcome::Taken,
        Err(Refused::Connect(_)) => MeshOutcome::Broken,
        Err(Refused::Refusal(refusal)) => MeshOutcome::of(*refusal),
    };
    links.metrics.stream(MeshDirection::Out, counted, outcome);
    let (tunnel, place) = opened?;
    Ok(Open {
        tunnel,
        _counted: (place, links.metrics.open(MeshDirection::Out, counted)),
    })
}

async fn try_open(
    links: &Links,
    node: &Arc<str>,
    kind: Kind,
    client: SocketAddr,
    local: SocketAddr,
) -> Result<(Tunnel, Place), Refused> {
    let Opening { mut sender, place } = links.tunnel(node).await?;
    let relayed = matches!(kind, Kind::EntryPoint(_));
    let request = request_of(kind, client, local)?;
    let (answer, to) = sender.send_request(request, false).map_err(io::Error::other)?;
    let answer = answer.await.map_err(io::Error::other)?;
    if answer.status() != StatusCode::OK {
        return Err(match Refusal::read(answer.headers()) {
            Some(refusal) => Refused::Refusal(refusal),
            None => Refused::Connect(io::Error::other(format!("{node} answers {}", answer.status()))),
        });
    }
    if relayed && links.is_leaving() {
        // It was accepted in the last moment, and its connection may be a new one.
        links.carrying.spawn(say_leaving(sender));
    }
    Ok((Tunnel::opened(answer.into_body(), to), place))
}

fn request_of(kind: Kind, client: SocketAddr, local: SocketAddr) -> io::Result<Request<()>> {
    let head = StreamHead {
        kind,
        client,
        local,
        deadline: None,
        tell: false,
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("https://node.invalid/")
        .body(())
        .map_err(io::Error::other)?;
    head.write(|name, value| {
        request.headers_mut().insert(name, value);
    });
    Ok(request)
}

/// Tells the node at the other end of a connection that this one is about to stop. A node that does not know the word, or
/// is gone, changes nothing: what is open is cut when the time to drain is over.
pub(super) async fn say_leaving(sender: SendRequest<Bytes>) {
    let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let saying = async {
        let request = request_of(Kind::Leaving, nobody, nobody)?;
        let mut sender = sender.ready().await.map_err(io::Error::other)?;
        let (answer, _) = sender.send_request(request, true).map_err(io::Error::other)?;
        answer.await.map_err(io::Error::other)
    };
    match saying.await {
        Ok(answer) => tracing::debug!(status = %answer.status(), "another node knows that this one stops"),
        Err(error) => tracing::debug!(%error, "another node does not hear that this one stops"),
    }
}
