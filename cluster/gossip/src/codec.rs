//! chitchat's messages as bytes.
//!
//! chitchat 0.13 keeps its serialization to itself (its issue 207), so its own UDP socket serves as the codec: it is bound
//! to loopback and talks to a socket of ours beside it, the tap. To encode, the codec sends to the tap; to decode, the tap
//! sends to the codec. Both are bound to 127.0.0.1 and take nothing from any other address than each other's; who wanted
//! to forge that needs CAP_NET_RAW on this host.
//!
//! The codec says nothing about what it can't read, so that a decode may never end: whoever waits has a deadline, and
//! replaces the codec then, so that no late result is ever taken for another message's.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{Socket as _, UdpSocket as ChitchatSocket};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long the way over loopback may take: it takes microseconds.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

/// chitchat's own limit.
pub(crate) const MESSAGE_LIMIT: usize = 65_507;

/// magic | version | type, then what the type needs.
const HEADER: usize = 4;
const MAGIC: [u8; 2] = 45_139_u16.to_le_bytes();

pub(crate) struct Codec {
    socket: ChitchatSocket,
    address: SocketAddr,
    tap: UdpSocket,
    tap_address: SocketAddr,
    buffer: Box<[u8]>,
}

impl Codec {
    pub(crate) async fn open() -> anyhow::Result<Self> {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let what = "gossip encodes its messages over loopback: is the interface lo up and has 127.0.0.1?";
        let socket = ChitchatSocket::open(loopback).await.context(what)?;
        let tap = UdpSocket::bind(loopback).await.context(what)?;
        Ok(Self {
            address: socket.local_addr()?,
            socket,
            tap_address: tap.local_addr()?,
            tap,
            buffer: vec![0; MESSAGE_LIMIT].into_boxed_slice(),
        })
    }

    /// To bytes. Not cancel safe: replace the codec when it was cancelled or failed.
    pub(crate) async fn encode(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<&[u8]> {
        self.socket.send(self.tap_address, envelope).await?;
        let length = timeout(PATIENCE, async {
            loop {
                let (length, from) = self.tap.recv_from(&mut self.buffer).await?;
                if from == self.address {
                    return anyhow::Ok(length);
                }
            }
        });
        let length = length
            .await
            .context("chitchat's message did not come back over loopback")??;
        Ok(&self.buffer[..length])
    }

    /// Hands bytes over; [`Codec::decoded`] gives the message. Cancel safe: then they were not handed over.
    pub(crate) async fn decode(&mut self, message: &[u8]) -> std::io::Result<()> {
        self.tap.send_to(message, self.address).await.map(drop)
    }

    /// The message, once it is there. Cancel safe.
    pub(crate) async fn decoded(&mut self) -> anyhow::Result<(ChitchatEnvelope, usize)> {
        loop {
            let outcome = self.socket.recv().await?;
            if outcome.from_addr == self.tap_address {
                return Ok((outcome.envelope, outcome.num_bytes_received));
            }
        }
    }
}

/// Whether the codec would even try: the version is one it knows, and the type one that members send. "Bad cluster" is
/// not: another cluster's messages don't come this far.
pub(crate) fn plausible(message: &[u8]) -> bool {
    message.len() > HEADER && message[..2] == MAGIC && message[2] <= 1 && message[3] <= 2
}

#[cfg(test)]
pub(crate) mod tests {
    use chitchat::{ChitchatMessage, ProtocolVersion};

    use super::*;

    /// The shortest message, with a text of any length in it.
    pub(crate) fn syn(text: &str) -> ChitchatEnvelope {
        let message = ChitchatMessage::Syn {
            cluster_id: text.to_owned(),
            digest: Default::default(),
        };
        ChitchatEnvelope {
            version: ProtocolVersion::V1,
            message,
        }
    }

    #[tokio::test]
    async fn there_and_back() {
        let mut codec = Codec::open().await.unwrap();
        for text in ["a", &"b".repeat(60_000)] {
            let bytes = codec.encode(syn(text)).await.unwrap().to_vec();
            assert!(plausible(&bytes));
            codec.decode(&bytes).await.unwrap();
            assert_eq!(codec.decoded().await.unwrap(), (syn(text), bytes.len()));
        }
        let bad_cluster = ChitchatEnvelope {
            version: ProtocolVersion::V0,
            message: ChitchatMessage::BadCluster,
        };
        assert!(!plausible(codec.encode(bad_cluster).await.unwrap()));
        assert!(!plausible(b"") && !plausible(b"anything else"));
    }

    #[tokio::test]
    async fn others_on_the_host_are_not_listened_to() {
        let mut codec = Codec::open().await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let forged = codec.encode(syn("forged")).await.unwrap().to_vec();
        for port in [codec.address, codec.tap_address] {
            stranger.send_to(&forged, port).await.unwrap();
        }
        // The stranger's came first, in both directions.
        let bytes = codec.encode(syn("ours")).await.unwrap().to_vec();
        codec.decode(&bytes).await.unwrap();
        assert_eq!(codec.decoded().await.unwrap().0, syn("ours"));
    }
}
