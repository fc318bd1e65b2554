//! The report of a stream as data.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::{
    Considered, EndpointLine, EntryPointLine, ExcludedLine, FurtherLine, NearMiss, RouterLine, WayLine,
};
use crate::{TcpMiddleware, TcpRouter, TcpTls};

/// A decision about a stream with its reasons. `Display` writes it as text for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamExplanation {
    /// The generation that was asked.
    pub generation: u64,
    /// What was asked.
    pub connection: AskedConnection,
    /// Nothing that the client sends is looked at before the decision, since no router of the entry point wants TLS.
    pub unheard: bool,
    /// What happens to it.
    pub outcome: StreamOutcome,
    /// The TCP or UDP router that won.
    pub router: Option<RouterLine>,
    /// What happens to its TLS; `None`: the router answers connections without.
    pub tls: Option<TcpTls>,
    /// What the connection has to pass, in order, up to the one that refuses.
    pub middlewares: Vec<MiddlewareLine>,
    /// The service.
    pub service: Option<String>,
    /// The way to it through kinds of services, from the router down.
    pub way: WayLine,
    /// How its endpoints take turns.
    pub balanced: Option<String>,
    /// Services that follow when no candidate can be connected to.
    pub further: Vec<FurtherLine>,
    /// Too few of its endpoints are healthy, so all that are there are used.
    pub panic: bool,
    /// The endpoints in the order they would be tried.
    pub candidates: Vec<EndpointLine>,
    /// The endpoints left out, with the reason.
    pub excluded: Vec<ExcludedLine>,
    /// The routers that were asked, best first; at most 50.
    pub considered: Vec<Considered>,
    /// How many more were asked and are not listed.
    pub considered_more: usize,
    /// How many routers of the same table can't match under this server name and were not asked.
    pub other_names: usize,
    /// Routers that would take it on another entry point, or with TLS, or without; at most 10.
    pub near_misses: Vec<NearMiss>,
}

/// The connection as the decision saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedConnection {
    /// TCP or UDP.
    pub kind: StreamKind,
    /// The entry point that would accept it.
    pub entry_point: EntryPointLine,
    /// It begins with a ClientHello.
    pub tls: bool,
    /// The name that the ClientHello asks for; empty when there is none.
    pub server_name: String,
    /// The protocols that it offers; the first 8.
    pub alpn: Vec<String>,
    /// The client's address.
    pub client: String,
}

/// What kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StreamKind {
    /// A connection.
    Tcp,
    /// The datagrams of a client.
    Udp,
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum StreamOutcome {
    /// It goes to the first candidate that can be connected to.
    Forward,
    /// The connection is closed, datagrams are dropped: the router exists, and no endpoint can serve.
    Unavailable,
    /// The connection is closed: a middleware doesn't let the client in.
    Refused {
        /// The middleware.
        by: String,
    },
    /// The HTTP stack serves it; with TLS that is HTTPS.
    Http {
        /// The HTTPS router because of which no TCP router gets it; `None`: no TCP router matches.
        claim: Option<HttpsLine>,
    },
    /// Datagrams are dropped: the entry point has no UDP router.
    NoRoute,
}

/// An HTTPS router that comes before the TCP router that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpsLine {
    /// The router.
    #[serde(flatten)]
    pub router: RouterLine,
    /// Its rule names the server name; otherwise it is for any name, and the TCP router is a catch-all.
    pub by_name: bool,
}

/// A middleware that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MiddlewareLine {
    /// The qualified name.
    pub name: String,
    /// The kind as Traefik writes it.
    pub kind: String,
    /// What it says.
    pub verdict: MiddlewareVerdict,
}

/// What a middleware says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MiddlewareVerdict {
    /// The client may pass.
    Passes,
    /// It may not.
    Refuses,
    /// So many connections of the client at once may; how many there are now is not known here.
    UpTo(usize),
}

impl StreamExplanation {
    /// That nothing takes it.
    pub(super) fn new(generation: u64, connection: AskedConnection) -> Self {
        Self {
            generation,
            connection,
            unheard: false,
            outcome: StreamOutcome::NoRoute,
            router: None,
            tls: None,
            middlewares: Vec::new(),
            service: None,
            way: WayLine::default(),
            balanced: None,
            further: Vec::new(),
            panic: false,
            candidates: Vec::new(),
            excluded: Vec::new(),
            considered: Vec::new(),
            considered_more: 0,
            other_names: 0,
            near_misses: Vec::new(),
        }
    }

    /// Adds the names of entry points, given in the order of the static configuration.
    pub fn name_entry_points(&mut self, names: &[impl AsRef<str>]) {
        let near = self
            .near_misses
            .iter_mut()
            .flat_map(|near| &mut near.entry_points);
        EntryPointLine::name(near.chain([&mut self.connection.entry_point]), names);
    }
}

impl MiddlewareLine {
    /// Those of a router, up to the first that refuses.
    pub(super) fn all(router: &TcpRouter, client: IpAddr) -> Vec<Self> {
        let mut lines = Vec::new();
        for middleware in &router.spec.middlewares {
            let line = Self::of(middleware, client);
            let refuses = line.verdict == MiddlewareVerdict::Refuses;
            lines.push(line);
            if refuses {
                break;
            }
        }
        lines
    }

    fn of(middleware: &TcpMiddleware, client: IpAddr) -> Self {
        let (name, kind, verdict) = match middleware {
            TcpMiddleware::IpAllowList(list) if list.admits(client) => {
                (&list.name, "ipAllowList", MiddlewareVerdict::Passes)
            }
            TcpMiddleware::IpAllowList(list) => (&list.name, "ipAllowList", MiddlewareVerdict::Refuses),
            TcpMiddleware::InFlightConn(limit) => {
                (&limit.name, "inFlightConn", MiddlewareVerdict::UpTo(limit.amount))
            }
        };
        Self {
            name: name.to_string(),
            kind: kind.to_owned(),
            verdict,
        }
    }
}
