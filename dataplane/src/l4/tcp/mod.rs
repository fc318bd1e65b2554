//! The life of a connection that a TCP router takes.
//!
//! [`enter`] is asked about each new connection of an entry point that has TCP routers. It reads as little as the
//! decision needs ([`opening`]), in Traefik's order:
//!
//! 1. No TLS router of any kind: plain TCP routers are asked before a byte is read, so that protocols in which the
//!    server speaks first work. Whatever comes goes to the router as it is, TLS too.
//! 2. A PostgreSQL client that asks for TLS is answered in its protocol; what follows is a ClientHello.
//! 3. A ClientHello is read whole: its name and protocols decide between TCP routers and HTTPS. One that can't be read
//!    goes to neither.
//! 4. Anything else is for plain TCP routers, or HTTP.
//!
//! A connection that a router takes passes its middlewares ([`guard`]), has its TLS ended here where the router says so,
//! gets a back end ([`connect`], by way of [`backend`]), is carried ([`session`], [`super::relay`]), and is counted and
//! logged ([`account`]). It keeps nothing of the generation that decided it but its service and endpoint; so a change of
//! the configuration does not touch it.

mod account;
mod backend;
mod connect;
mod guard;
mod handed;
mod opening;
mod session;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use constellation_table::{
    Choice, ConnectionMeta, EntryPointId, ProxyProtocolVersion, Service, Snapshot, TcpDecision, TcpRouter,
    TcpRouterSpec, TcpRule, TcpTls, Transport, Turn, decide_tcp,
};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::hello::ClientHello;
use super::proxy_protocol::{self, Addresses, ProxyHeader, Tlvs};
use crate::http::{Edge, EntryPointState, Names, Proxy, last_call};
use crate::l4::socket::reset_on_close;
use crate::mesh::Links;
use crate::metrics::StreamEnd;
use crate::named;
use account::Account;
pub(crate) use connect::Line;
use connect::Preface;
use opening::{Opened, Opening};
use session::Session;

/// A connection that was accepted.
pub(crate) struct Arrival {
    /// The connection.
    pub(crate) socket: TcpStream,
    /// Bytes that were read from it.
    pub(crate) first: Vec<u8>,
    /// The peer, or the client of a trusted PROXY protocol header.
    pub(crate) client: SocketAddr,
    /// Where the client connected to.
    pub(crate) local: SocketAddr,
    /// The other end of the TCP connection, whatever it said about the client.
    pub(crate) peer: IpAddr,
    /// What else a trusted PROXY protocol header says.
    pub(crate) tlvs: Tlvs,
    /// When it must have said what it wants.
    pub(crate) deadline: Instant,
    /// Turns true when we drain.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// What becomes of a connection.
pub(crate) enum Entered {
    /// It is HTTP's: the connection, and all bytes that were read from it.
    Http(TcpStream, Vec<u8>),
    /// A router has taken it: to be given to [`serve`].
    Stream(Box<Stream>),
    /// It was refused.
    Over,
}

/// What a worker needs to serve streams.
#[derive(Clone, Copy)]
struct Scene<'a> {
    edge: &'a Arc<Edge>,
    names: &'a Arc<Names>,
    links: &'a Arc<Links>,
    entry_point: &'a Arc<EntryPointState>,
}

/// A connection that a router has taken. It outlives the generation of the decision.
pub(crate) struct Stream {
    router: Arc<TcpRouter>,
    verdict: Verdict,
    arrival: Arrival,
    opening: Opening,
    /// Who waits for a back end to take it.
    waiting: Option<oneshot::Sender<()>>,
}

impl Stream {
    /// A connection that another node has decided about, to the local instances of its service. `ends`: the client's
    /// address, and where it connected to. `waiting` is told when a back end has taken it, and dropped when none has.
    pub(crate) fn tunnelled(
        router: Arc<TcpRouter>,
        (service, line): Route,
        socket: TcpStream,
        ends: [SocketAddr; 2],
        stopping: watch::Receiver<bool>,
        waiting: oneshot::Sender<()>,
    ) -> Self {
        Self {
            router,
            verdict: Verdict::Forward { service, line },
            arrival: Arrival {
                socket,
                first: Vec::new(),
                client: ends[0],
                local: ends[1],
                peer: ends[0].ip(),
                tlvs: Tlvs::default(),
                deadline: Instant::now(),
                stopping,
            },
            opening: Opening::default(),
            waiting: Some(waiting),
        }
    }
}

/// A service, and its endpoints in the order to try.
pub(crate) type Route = (Arc<Service>, Line);

type Decided = (Arc<TcpRouter>, Verdict);

enum Verdict {
    Forward { service: Arc<Service>, line: Line },
    Refused,
}

/// The router of connections whose service another program or node has decided.
pub(crate) fn router_to(
    service: &Arc<Service>,
    name: Arc<str>,
    entry_point: EntryPointId,
    tls: Option<TcpTls>,
) -> Option<Arc<TcpRouter>> {
    Some(Arc::new(TcpRouter::new(TcpRouterSpec {
        name,
        entry_points: vec![entry_point],
        tls,
        rule: Arc::new(TcpRule::parse("HostSNI(`*`)").ok()?),
        priority: 0,
        target: service.clone().into(),
        middlewares: Vec::new(),
    })))
}

/// Decides about a connection of an entry point that has TCP routers, or gets connections with the names of their services.
pub(crate) async fn enter(
    proxy: &Proxy,
    entry_point: &Arc<EntryPointState>,
    mut arrival: Arrival,
) -> Entered {
    let scene = Scene::new(proxy, entry_point);
    let by_service = entry_point.settings.by_service;
    if !by_service && let Some((router, verdict)) = scene.decide_unheard(&arrival) {
        return Entered::Stream(Box::new(Stream {
            router,
            verdict,
            arrival,
            opening: Opening::default(),
            waiting: None,
        }));
    }
    let stopping = arrival.stopping.clone();
    let opened = tokio::select! {
        // Who was accepted is heard, also while we drain.
        biased;
        opened = opening::read(&mut arrival, entry_point.settings.limits.handshake_timeout) => opened,
        () = last_call(stopping) => return Entered::Over,
    };
    let opening = match opened {
        Opened::Ready(opening) => opening,
        Opened::Refused(refusal) => {
            if let Some(refusal) = refusal {
                tracing::debug!(reason = refusal.as_str(), client = %arrival.client, "refused before the decision");
                scene.edge.refused(&entry_point.settings, arrival.peer, refusal);
            }
            return Entered::Over;
        }
    };
    let name = opening
        .hello
        .as_ref()
        .and_then(|hello| hello.server_name.as_deref());
    let decided = match name.filter(|_| by_service).and_then(named::from_host) {
        Some(service) => {
            let decided = handed::decide(&scene, &service, arrival.client);
            if decided.is_none() {
                // The proxy in front knows a service that is gone here, or not there yet.
                tracing::debug!(service, "nobody serves a connection that names its service");
                reset_on_close(&arrival.socket);
                return Entered::Over;
            }
            decided
        }
        None if by_service => None,
        None => scene.decide(&arrival, opening.hello.as_ref()),
    };
    match decided {
        Some((router, verdict)) => Entered::Stream(Box::new(Stream {
            router,
            verdict,
            arrival,
            opening,
            waiting: None,
        })),
        // HTTP does not speak PostgreSQL's preamble, so that the client would not know what it hears.
        None if opening.postgres => {
            tracing::debug!(client = %arrival.client, "no TCP router for this PostgreSQL client");
            Entered::Over
        }
        None => Entered::Http(arrival.socket, arrival.first),
    }
}

/// Serves a connection that a router has taken, to its end. Whoever drops the future cuts the connection.
pub(crate) async fn serve(proxy: &Proxy, entry_point: &Arc<EntryPointState>, stream: Box<Stream>) {
    let scene = Scene::new(proxy, entry_point);
    let Stream {
        router,
        verdict,
        arrival,
        opening,
        waiting,
    } = *stream;
    let Some(mut account) = Account::open(&scene, &router, &arrival, &opening) else {
        return;
    };
    let (service, line) = match verdict {
        Verdict::Forward { service, line } => (service, line),
        Verdict::Refused => return account.close(StreamEnd::NotAllowed),
    };
    account.goes_to(&service);
    let place = match guard::enter(&router, arrival.client.ip()) {
        Ok(place) => place,
        Err(guard::Full) => return account.close(StreamEnd::InFlight),
    };
    let mut session = Box::new(Session::new(router, service, line, arrival, opening, waiting));
    let end = session.run(&scene, &mut account).await;
    // Before the client learns of the end: it may come again at once.
    drop(place);
    account.close(end);
    drop(session);
}

/// The PROXY protocol header that a back end gets before the client's bytes.
fn outgoing_header(transport: &Transport, preface: &Preface) -> Option<Vec<u8>> {
    let version = match transport.stream.proxy_protocol? {
        ProxyProtocolVersion::V1 => proxy_protocol::Version::V1,
        ProxyProtocolVersion::V2 => proxy_protocol::Version::V2,
    };
    let header = ProxyHeader {
        addresses: Some(Addresses::new(preface.client, preface.local)),
        tlvs: preface.tlvs.clone(),
    };
    Some(proxy_protocol::encode(version, &header))
}

impl<'a> Scene<'a> {
    fn new(proxy: &'a Proxy, entry_point: &'a Arc<EntryPointState>) -> Self {
        Self {
            edge: &proxy.edge,
            names: proxy.names(),
            links: proxy.links(),
            entry_point,
        }
    }

    /// The router for a connection of which nothing was read, where that is enough.
    fn decide_unheard(&self, arrival: &Arrival) -> Option<Decided> {
        let generation = self.edge.published.load();
        let unheard = generation
            .table
            .server_may_speak_first(self.entry_point.settings.id);
        unheard.then(|| self.decide_in(&generation.table, arrival, None))?
    }

    fn decide(&self, arrival: &Arrival, hello: Option<&ClientHello>) -> Option<Decided> {
        let generation = self.edge.published.load();
        self.decide_in(&generation.table, arrival, hello)
    }

    fn decide_in(&self, table: &Snapshot, arrival: &Arrival, hello: Option<&ClientHello>) -> Option<Decided> {
        let alpn = hello.map(ClientHello::alpn).unwrap_or_default();
        let meta = ConnectionMeta {
            entry_point: self.entry_point.settings.id,
            tls: hello.is_some(),
            server_name: hello
                .and_then(|hello| hello.server_name.as_deref())
                .unwrap_or_default(),
            alpn: &alpn,
            client: arrival.client.ip(),
            now: std::time::Instant::now(),
            turn: Turn::Take,
        };
        let (router, verdict) = match decide_tcp(table, &meta) {
            TcpDecision::Http => return None,
            TcpDecision::Forward { router, choice } => {
                let Choice {
                    service,
                    candidates,
                    via,
                } = choice;
                let further = via.map(|via| via.further).unwrap_or_default();
                let legs = further.into_iter().map(|leg| (leg.service, leg.candidates));
                let verdict = Verdict::Forward {
                    service: service.clone(),
                    line: Line::new([(service, candidates)].into_iter().chain(legs)),
                };
                (router, verdict)
            }
            TcpDecision::Refused { router, .. } => (router, Verdict::Refused),
        };
        Some((router.clone(), verdict))
    }
}
