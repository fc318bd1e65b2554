//! The connections between the nodes of a cluster: mutual TLS on one port, calls over it, and the door for joiners.
//!
//! [`Server`] accepts on the cluster's port. It looks at the ClientHello without taking it and goes by the application
//! protocol: [`PEER_ALPN`] for calls between members, [`constellation_identity::tls::JOIN_ALPN`] for one request of a node
//! that joins, [`MESH_ALPN`] for connections that are the data plane's and go there as they came.
//!
//! [`Links`] is the other side: one connection for each (node, [`Lane`]), made when it is needed, given up when it is
//! dead, and never the same for heartbeats and for what is large. [`RaftTransport`] is the replicated log's view of it.
//! [`join()`] is the joiner's.
//!
//! Who is at the other end is certain on both sides before a call is read: the certificate is of this cluster, and its owner is
//! one of the [`Membership`] for as long as the connection lasts. What calls mean is the [`Handler`]'s business.
//!
//! Data moves one way: bytes come in, [`frame`] says whether they are a frame and how large it may be, the handler answers, and
//! [`Counters`] are read by whoever exports them. All tasks end before [`Server::run`] and [`Links::shut_down`] return.

mod counters;
mod error;
pub mod frame;
mod hello;
mod io;
mod join;
mod links;
mod membership;
mod server;
mod socket;
mod throttle;
mod transport;

pub use counters::{Counters, Direction, Refused};
pub use error::LinkError;
pub use frame::Service;
#[doc(hidden)]
pub use hello::{Hello, Purpose, look};
pub use join::join;
pub use links::{Lane, Links};
pub use membership::Membership;
pub use server::{Handler, Server};
pub use transport::{RaftTransport, Resolver};

/// The application protocol of calls between members. Another format of frames is another name.
pub const PEER_ALPN: &[u8] = b"constellation-peer/1";

/// The application protocol of connections that the data plane of a node opens to the data plane of another.
pub const MESH_ALPN: &[u8] = b"constellation-mesh/1";
