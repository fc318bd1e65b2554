//! The decisions of streams: pure functions of one snapshot and one connection, or one new client.

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::HeaderMap;

use super::{ConnectionMeta, HttpsClaim, IpAllowList, TcpMiddleware, TcpRouter, UdpRouter};
use crate::balance::MAX_CANDIDATES;
use crate::decide::{Observer, choose};
use crate::{Choice, EntryPointId, RequestMeta, Snapshot, Turn};

/// What to do with a connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the usual variant; a box would be an allocation for each decision"
)]
pub enum TcpDecision<'s> {
    /// The HTTP stack serves it; over TLS when it begins with a ClientHello.
    Http,
    /// Forward to the first candidate that can be connected to; without candidates nothing can serve it.
    Forward {
        /// The router that won.
        router: &'s Arc<TcpRouter>,
        /// Where it goes.
        choice: Choice<'s>,
    },
    /// The router that won doesn't let this client in.
    Refused {
        /// The router that won.
        router: &'s Arc<TcpRouter>,
        /// What refuses.
        by: &'s Arc<IpAllowList>,
    },
}

/// What to do with a new client of a UDP entry point.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the usual variant; a box would be an allocation for each decision"
)]
pub enum UdpDecision<'s> {
    /// Forward to the first candidate; without candidates nothing can serve it.
    Forward {
        /// The router of the entry point.
        router: &'s Arc<UdpRouter>,
        /// Where it goes.
        choice: Choice<'s>,
    },
    /// The entry point has no router.
    NoRoute,
}

/// Decides one connection, in Traefik's order. Without TLS: a TCP router, else HTTP. With TLS: an HTTPS router that
/// names the server name, else the best TCP router that matches, unless that one is a catch-all and there is an HTTPS
/// router for any name, else HTTPS. Pure but for the balancing cursor, which advances only with [`Turn::Take`].
pub fn decide_tcp<'s>(snapshot: &'s Snapshot, connection: &ConnectionMeta<'_>) -> TcpDecision<'s> {
    let connection = &as_heard(snapshot, connection);
    let found = walk(snapshot, connection, &mut ());
    match route(snapshot, connection, found) {
        Err(_) => TcpDecision::Http,
        Ok(router) => conclude(router, connection),
    }
}

/// The connection as it is decided. Where no router wants TLS nobody looks for a ClientHello: its bytes are as good as
/// any others, and go to the router that takes them as they are. The same follows whether they were read or not.
pub(crate) fn as_heard<'c>(snapshot: &Snapshot, connection: &ConnectionMeta<'c>) -> ConnectionMeta<'c> {
    if !snapshot.server_may_speak_first(connection.entry_point) {
        return *connection;
    }
    ConnectionMeta {
        tls: false,
        server_name: "",
        alpn: &[],
        ..*connection
    }
}

/// Asks the TCP routers that may match, best first, and returns the first that does.
pub(crate) fn walk<'s>(
    snapshot: &'s Snapshot,
    connection: &ConnectionMeta<'_>,
    observer: &mut impl Observer<'s, TcpRouter>,
) -> Option<&'s Arc<TcpRouter>> {
    let mut winner = None;
    for router in snapshot.tcp_candidates(connection.entry_point, connection.tls, connection.server_name) {
        let matches = router.spec.rule.matches(connection);
        if matches && winner.is_none() {
            winner = Some(router);
        }
        if observer.asked(router, matches) == ControlFlow::Break(()) {
            break;
        }
    }
    winner
}

/// The TCP router that gets the connection, when `found` is the best that matches; otherwise it is HTTP's, because of
/// an HTTPS router's claim or because no TCP router matches.
pub(crate) fn route<'s>(
    snapshot: &'s Snapshot,
    connection: &ConnectionMeta<'_>,
    found: Option<&'s Arc<TcpRouter>>,
) -> Result<&'s Arc<TcpRouter>, Option<HttpsClaim<'s>>> {
    let router = found.ok_or(None)?;
    if connection.tls
        && let Some(claim) = snapshot.https_first(connection, router)
    {
        return Err(Some(claim));
    }
    Ok(router)
}

/// What follows from the router.
fn conclude<'s>(router: &'s Arc<TcpRouter>, connection: &ConnectionMeta<'_>) -> TcpDecision<'s> {
    if let Some(by) = refusing(router, connection.client) {
        return TcpDecision::Refused { router, by };
    }
    let request = connection_request(
        connection.entry_point,
        connection.client,
        connection.now,
        connection.turn,
    );
    TcpDecision::Forward {
        router,
        choice: choose(&router.spec.target, &request, MAX_CANDIDATES),
    }
}

/// The first middleware that doesn't let the client in.
pub(crate) fn refusing(router: &TcpRouter, client: IpAddr) -> Option<&Arc<IpAllowList>> {
    router
        .spec
        .middlewares
        .iter()
        .find_map(|middleware| match middleware {
            TcpMiddleware::IpAllowList(list) if !list.admits(client) => Some(list),
            _ => None,
        })
}

/// Decides where a new client's datagrams go.
pub fn decide_udp(
    snapshot: &Snapshot,
    entry_point: EntryPointId,
    client: IpAddr,
    now: Instant,
    turn: Turn,
) -> UdpDecision<'_> {
    match snapshot.udp_router(entry_point) {
        None => UdpDecision::NoRoute,
        Some(router) => UdpDecision::Forward {
            router,
            choice: choose(
                &router.spec.target,
                &connection_request(entry_point, client, now, turn),
                MAX_CANDIDATES,
            ),
        },
    }
}

/// A stream as services see it: a request of which only the client is known.
pub(crate) fn connection_request(
    entry_point: EntryPointId,
    client: IpAddr,
    now: Instant,
    turn: Turn,
) -> RequestMeta<'static> {
    static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    RequestMeta {
        entry_point,
        tls: false,
        method: "",
        host: "",
        path: "",
        query: "",
        headers: &NO_HEADERS,
        client,
        // Nothing of the connection has been sent when a connect fails, so another endpoint may always be tried.
        repeatable: true,
        now,
        turn,
    }
}
