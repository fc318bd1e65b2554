//! TCP and UDP routers: which service gets a connection, or a client's datagrams.
//!
//! The services are those of HTTP, with endpoints of the schemes `tcp`, `tls` and `udp`: health, breakers, draining and
//! balancing are the same. Their names carry the kind in front (`tcp/db@docker`), so that no name of one section can be
//! taken for one of another.
//!
//! This file has what `compile` says of them; [`table`] indexes it, [`decide`] reads it, [`shadow`] finds what of it is in
//! vain.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::rule::TcpRule;
use crate::{EntryPointId, Slot, Target, Turn};

mod decide;
mod shadow;
mod table;

pub use decide::{TcpDecision, UdpDecision, decide_tcp, decide_udp};
pub(crate) use decide::{as_heard, connection_request, refusing, route, walk};
pub use shadow::{Shadow, Shadowed};
pub(crate) use table::{HttpsClaim, Streams};

/// One connection as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionMeta<'c> {
    /// The entry point that accepted it.
    pub entry_point: EntryPointId,
    /// Whether it begins with a ClientHello.
    pub tls: bool,
    /// The name the ClientHello asks for: lower case, without a trailing dot; empty when there is none.
    pub server_name: &'c str,
    /// The protocols that the ClientHello offers, in its order.
    pub alpn: &'c [&'c [u8]],
    /// The address of the TCP peer, or of the trusted PROXY protocol header.
    pub client: IpAddr,
    /// The time of the decision.
    pub now: Instant,
    /// Whether this decision takes the service's next turn or only looks.
    pub turn: Turn,
}

/// What happens to the TLS of a TCP router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TcpTls {
    /// It goes to the back end as it is.
    Passthrough,
    /// It ends here.
    Terminate,
}

/// What `compile` says of a TCP router.
#[derive(Clone, Debug)]
pub struct TcpRouterSpec {
    /// The qualified name, `tcp/NAME@PROVIDER`.
    pub name: Arc<str>,
    /// The entry points it answers on; never empty.
    pub entry_points: Vec<EntryPointId>,
    /// `None`: it answers connections without TLS.
    pub tls: Option<TcpTls>,
    /// The compiled rule.
    pub rule: Arc<TcpRule>,
    /// Explicit priority, or [`TcpRule::default_priority`].
    pub priority: i64,
    /// Where connections go.
    pub target: Target,
    /// What a connection has to pass, in order.
    pub middlewares: Vec<TcpMiddleware>,
}

/// What a connection has to pass before it is forwarded.
#[derive(Clone, Debug)]
pub enum TcpMiddleware {
    /// Traefik's `ipAllowList`.
    IpAllowList(Arc<IpAllowList>),
    /// Traefik's `inFlightConn`.
    InFlightConn(Arc<InFlightConn>),
}

/// Lets only these clients in.
#[derive(Debug)]
pub struct IpAllowList {
    /// The qualified name.
    pub name: Arc<str>,
    /// Networks; never empty.
    pub source_range: Vec<IpNet>,
}

impl IpAllowList {
    /// Whether the client may pass.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.source_range.iter().any(|network| network.contains(&client))
    }
}

/// Lets so many connections of one client address in at once.
#[derive(Debug)]
pub struct InFlightConn {
    /// The qualified name.
    pub name: Arc<str>,
    /// Connections of one client address at once; 0 lets nobody in.
    pub amount: usize,
    /// Who is in; the data plane counts here, so that all routers that name the middleware count together.
    pub slot: Slot,
}

/// A TCP router in a snapshot.
#[derive(Debug)]
pub struct TcpRouter {
    /// What `compile` said.
    pub spec: TcpRouterSpec,
    /// What the data plane hangs on this router, kept across generations with it.
    pub slot: Slot,
}

impl TcpRouter {
    /// A router with an empty slot.
    pub fn new(spec: TcpRouterSpec) -> Self {
        Self {
            spec,
            slot: Slot::default(),
        }
    }

    /// The order of routers but for their names, the same as among HTTP routers; smaller is better.
    pub(crate) fn rank(&self) -> (Reverse<i64>, Reverse<usize>, bool) {
        (
            Reverse(self.spec.priority),
            Reverse(self.spec.rule.text().len()),
            !self.spec.rule.names_its_hosts(),
        )
    }
}

/// What `compile` says of a UDP router. There is no rule: an entry point has one.
#[derive(Clone, Debug)]
pub struct UdpRouterSpec {
    /// The qualified name, `udp/NAME@PROVIDER`.
    pub name: Arc<str>,
    /// The entry points it answers on; never empty.
    pub entry_points: Vec<EntryPointId>,
    /// Where datagrams go.
    pub target: Target,
}

/// A UDP router in a snapshot.
#[derive(Debug)]
pub struct UdpRouter {
    /// What `compile` said.
    pub spec: UdpRouterSpec,
    /// What the data plane hangs on this router, kept across generations with it.
    pub slot: Slot,
}

impl UdpRouter {
    /// A router with an empty slot.
    pub fn new(spec: UdpRouterSpec) -> Self {
        Self {
            spec,
            slot: Slot::default(),
        }
    }
}
