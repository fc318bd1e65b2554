//! What the nodes of a cluster tell each other all the time: that they live, what runs on them and how it feels.
//!
//! chitchat spreads small strings; this crate puts types on them and encryption under them.
//!
//! - **Down**: chitchat makes a message, `transport` cuts it into datagrams of at most [`DATAGRAM_LIMIT`] bytes and
//!   [`envelope`] seals each under the cluster's key.
//! - **Up**: a datagram is opened, checked (key, cluster, member, generation, replay, whole message), and only then seen
//!   by chitchat. Values are parsed into a [`View`] of [`Peer`]s, whose changes are [`Event`]s.
//!
//! A node writes its own keys only ([`Own`]); there are no shared ones and no clocks in merges: for each owner the higher
//! version of the higher generation wins. Values are small ([`VALUE_LIMIT`]); what is larger is announced as a [`Bulk`],
//! version and digest, and pulled over mTLS by who needs it.
//!
//! Who belongs to the cluster is not gossip: it is told from outside ([`Members`]), by Raft in the end. A node that it
//! removed is refused as a sender and left out of every view, whatever a third party still has of it.
//!
//! # Replays
//!
//! A datagram that is recorded and sent again is dropped by everybody who saw the sender since: for each sender there is
//! a window over its sequence numbers, and only its highest generation counts. A node that just started has no windows
//! yet. To it a replay is old news: versions and heartbeats only grow, so once it heard a newer one the old one
//! changes nothing; and answers go to the address inside the sealed part, never to where the datagram came from, so
//! nobody can be flooded by answers. What remains: who sits on the path, records a node that then dies, and plays it
//! to nodes that started after its death, can make them believe for as long as the recording lasts that it lives. The
//! key's rotation ends that: nothing sealed under a key that was dropped is opened.

mod codec;
mod counters;
pub mod envelope;
mod fragment;
mod generation;
mod key;
mod members;
mod node;
mod own;
mod receive;
mod transport;
pub mod value;
mod view;

pub use counters::{Counters, Refused};
pub use envelope::DATAGRAM_LIMIT;
pub use generation::{GenerationError, next_generation};
pub use key::{GossipKey, KeyError, KeyId, KeyRing};
pub use members::Members;
pub use node::{Config, Gossip, StartError, Timing};
pub use own::{Own, OwnError, SERVICES_LIMIT};
pub use receive::{Message, Receiver};
pub use value::{Bulk, Counts, Label, Load, Metadata, ServiceId, Standing, VALUE_LIMIT, ValueError};
pub use view::{Event, Gone, Peer, View, Watch};
