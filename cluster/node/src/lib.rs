//! One node of a cluster at work: what `cluster`, `identity`, `gossip` and `link` offer, put together.
//!
//! [`found`] makes a cluster, [`join`] gets into one; both write to [`Home`] who this node is, and nothing else ever does. A
//! [`Node`] runs what is written there: the replicated log and its membership, gossip, the leases that it was told to
//! [`Node::take_part`] in, and what nodes tell each other about what runs on them. It knows nothing of routes, of the data plane or
//! of the kernel: bytes go in with [`Node::export`] and come out with [`Node::peers`], and whatever acts under a lease is an
//! [`Actuator`].
//!
//! Every task belongs to a node and has ended when [`Node::stop`] returns.

mod ask;
mod core;
mod current;
mod ending;
mod expiry;
mod founding;
mod gossiping;
mod home;
mod joining;
mod lease;
mod membership;
mod memory;
mod node;
mod orders;
mod pull;
mod quorum;
mod recovery;
mod report;
mod secrets;
mod serve;
mod telling;
mod upkeep;

#[doc(hidden)]
pub use ask::read_any;
pub use ask::{JoinCall, JoinFailure, Joined};
pub use constellation_gossip::{Counts, Load, ServiceId};
pub use core::ApplyError;
pub use founding::{Founder, FoundingError, found};
pub use home::{Home, HomeError, Identity};
pub use joining::{Joiner, JoiningError, join, source_towards};
pub use lease::{Actuator, LeaseReport, Previous};
pub use node::{GossipTraffic, Node, Settings, StartError};
pub use orders::OrderError;
pub use pull::{Export, MAX_EXPORT, PeerNode};
pub use recovery::{Recovered, RecoveryError, recover};
pub use report::{ClusterReport, LoadReport, NodeReport, RaftReport};
pub use secrets::SecretError;
pub use telling::Services;
