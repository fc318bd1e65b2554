//! chitchat's transport: sealed datagrams on the network, plain messages inside.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::{ChitchatEnvelope, ProtocolVersion};
use constellation_identity::ClusterId;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use crate::codec::{Codec, PATIENCE, plausible};
use crate::counters::{Counters, Refused};
use crate::envelope::{DATAGRAM_LIMIT, Sender, seal};
use crate::fragment::cut;
use crate::key::KeyRing;
use crate::members::Members;
use crate::receive::{Message, Receiver};

/// How often one reason is logged as a warning; all are counted.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Up to so many members a message that tells of all of them fits into a datagram as it is, also with long names (about 50 bytes
/// each and the name). Compressing it costs more than all else about it: zstd is set up anew for each message.
const FEW: usize = 12;

/// What the transport shares with [`crate::Gossip`], which changes the keys and reads the counters.
pub(crate) struct Shared {
    pub(crate) cluster: ClusterId,
    pub(crate) sender: Sender,
    pub(crate) keys: RwLock<KeyRing>,
    pub(crate) members: watch::Receiver<Arc<Members>>,
    pub(crate) counters: Counters,
}

impl Shared {
    /// How messages are written. Every release reads both ways, and answers are read whichever way they are written.
    fn version(&self) -> ProtocolVersion {
        match self.members.borrow().count() {
            Some(count) if count <= FEW => ProtocolVersion::V0,
            _ => ProtocolVersion::V1,
        }
    }

    fn keys(&self) -> std::sync::RwLockReadGuard<'_, KeyRing> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens once: the socket was bound before, so that its address is known.
pub(crate) struct Sealed {
    shared: Arc<Shared>,
    bound: Mutex<Option<UdpSocket>>,
}

impl Sealed {
    pub(crate) fn new(shared: Arc<Shared>, bound: UdpSocket) -> Self {
        Self {
            shared,
            bound: Mutex::new(Some(bound)),
        }
    }
}

#[async_trait]
impl Transport for Sealed {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(SealedSocket {
            shared: Arc::clone(&self.shared),
            network: bound.context("gossip's socket was taken already")?,
            codec: Codec::open().await?,
            receiver: Receiver::default(),
            sequence: 0,
            buffer: [0; DATAGRAM_LIMIT + 1],
            accepted: None,
            decoding: None,
            warned: [None; Refused::ALL.len()],
        }))
    }
}

/// A message that the codec has, and until when its result is waited for.
#[derive(Clone, Copy)]
struct Decoding {
    from: SocketAddr,
    deadline: Instant,
}

/// Unlike a sleep, over at once when it is late: whoever waits may never come so far as to let a timer fire.
async fn passed(deadline: Instant) {
    if Instant::now() < deadline {
        sleep_until(deadline).await;
    }
}

struct SealedSocket {
    shared: Arc<Shared>,
    network: UdpSocket,
    codec: Codec,
    receiver: Receiver,
    sequence: u64,
    /// One byte more than is accepted, so that what is too large shows.
    buffer: [u8; DATAGRAM_LIMIT + 1],
    /// A message on its way to the codec.
    accepted: Option<Message>,
    decoding: Option<Decoding>,
    warned: [Option<Instant>; Refused::ALL.len()],
}

impl SealedSocket {
    fn refuse(&mut self, why: Refused, from: SocketAddr) {
        self.shared.counters.refused(why);
        let now = Instant::now();
        let due = self.warned[why as usize].is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        // Copies and late datagrams are the network's everyday.
        if due && why != Refused::Replay {
            self.warned[why as usize] = Some(now);
            warn!(%from, "gossip: a datagram was dropped: {why}; more of the kind are counted, not logged, for a minute");
        }
    }

    async fn replace_codec(&mut self) -> anyhow::Result<()> {
        self.shared.counters.codec_replaced();
        self.codec = Codec::open().await?;
        Ok(())
    }

    /// The next message, or none if what came was none. Cancel safe: each await either has no effect until it ends, or
    /// what it works on is in `accepted` or `decoding`.
    async fn step(&mut self) -> anyhow::Result<Option<RecvOutcome>> {
        if let Some(Decoding { from, deadline }) = self.decoding {
            let outcome = tokio::select! {
                biased;
                outcome = self.codec.decoded() => outcome.ok(),
                () = passed(deadline) => None,
            };
            if let Some((envelope, bytes)) = outcome {
                self.decoding = None;
                return Ok(Some(RecvOutcome {
                    from_addr: from,
                    envelope,
                    num_bytes_received: bytes,
                }));
            }
            // First a codec that knows nothing of the message, then forget it: cancelled in between, this is done again.
            self.replace_codec().await?;
            self.decoding = None;
            self.refuse(Refused::Message, from);
            return Ok(None);
        }
        if let Some(message) = &self.accepted {
            let from = message.from;
            self.codec
                .decode(&message.bytes)
                .await
                .context("gossip's codec failed")?;
            self.accepted = None;
            self.decoding = Some(Decoding {
                from,
                deadline: Instant::now() + PATIENCE,
            });
            return Ok(None);
        }
        let (length, from) = match self.network.recv_from(&mut self.buffer).await {
            Ok(received) => received,
            // What an earlier datagram of ours met; says nothing about this socket.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::OutOfMemory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error).context("gossip's socket failed"),
        };
        let members = Arc::clone(&self.shared.members.borrow());
        let accepted = self.receiver.accept(
            &self.shared.keys(),
            self.shared.cluster,
            &members,
            &self.buffer[..length],
        );
        let message = match accepted {
            Ok(message) => {
                self.shared.counters.received();
                message
            }
            Err(why) => {
                self.refuse(why, from);
                return Ok(None);
            }
        };
        let Some(message) = message else { return Ok(None) };
        if !plausible(&message.bytes) {
            self.refuse(Refused::Message, message.from);
            return Ok(None);
        }
        self.accepted = Some(message);
        Ok(None)
    }
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.network
            .local_addr()
            .context("gossip's socket has no address")
    }

    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let envelope = ChitchatEnvelope {
            version: self.shared.version(),
            ..envelope
        };
        let parts = match self.codec.encode(envelope).await {
            Ok(message) => {
                self.shared.counters.message(message.len());
                cut(&self.shared.sender, self.sequence, message)
            }
            Err(error) => {
                warn!("gossip: a message was not sent: {error:#}; the next round tells it again");
                self.shared.counters.unsent();
                // A codec that lost a message may still give it: to the wrong peer.
                self.decoding = None;
                self.replace_codec().await?;
                return Ok(SendOutcome { num_bytes_sent: 0 });
            }
        };
        let mut bytes = 0;
        for part in parts.unwrap_or_default() {
            self.sequence = part.sequence + 1;
            let datagram = seal(self.shared.keys().seals(), self.shared.cluster, &part)?;
            match self.network.send_to(&datagram, to).await {
                Ok(sent) => {
                    self.shared.counters.sent(sent);
                    bytes += sent;
                }
                // A peer that can't be reached right now is no fault of this socket.
                Err(error) => {
                    debug!(%to, %error, "gossip: a datagram was not sent");
                    self.shared.counters.unsent();
                }
            }
        }
        Ok(SendOutcome {
            num_bytes_sent: bytes,
        })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            if let Some(outcome) = self.step().await? {
                return Ok(outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chitchat::ChitchatMessage;

    use super::*;
    use crate::codec::tests::syn;
    use crate::key::GossipKey;

    fn text(envelope: &ChitchatEnvelope) -> &str {
        match &envelope.message {
            ChitchatMessage::Syn { cluster_id, .. } => cluster_id,
            other => panic!("{other:?}"),
        }
    }

    async fn socket(name: &str, key: &GossipKey) -> (Box<dyn Socket>, Arc<Shared>, SocketAddr) {
        socket_among(name, key, Members::anybody()).await
    }

    async fn socket_among(
        name: &str,
        key: &GossipKey,
        members: Members,
    ) -> (Box<dyn Socket>, Arc<Shared>, SocketAddr) {
        let network = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = network.local_addr().unwrap();
        let shared = Arc::new(Shared {
            cluster: ClusterId::from_bytes([1; 16]),
            sender: Sender {
                name: name.parse().unwrap(),
                generation: 1,
                address,
            },
            keys: RwLock::new(KeyRing::new(key.clone())),
            members: watch::channel(Arc::new(members)).1,
            counters: Counters::default(),
        });
        let socket = Sealed::new(Arc::clone(&shared), network)
            .open(address)
            .await
            .unwrap();
        (socket, shared, address)
    }

    #[tokio::test]
    async fn messages_of_every_size_arrive_as_sent() {
        let key = GossipKey::generate().unwrap();
        let (mut a, sent, a_address) = socket("a", &key).await;
        let (mut b, received, b_address) = socket("b", &key).await;
        for size in [1, 1000, 1200, 5000, 60_000] {
            let message = "x".repeat(size);
            a.send(b_address, syn(&message)).await.unwrap();
            let outcome = b.recv().await.unwrap();
            assert_eq!((outcome.from_addr, outcome.envelope), (a_address, syn(&message)));
            assert!(sent.counters.take_largest().0 <= DATAGRAM_LIMIT as u64);
        }
        assert_eq!(sent.counters.total_sent().0, received.counters.total_received());
        assert_eq!(received.counters.total_codecs_replaced(), 0);
    }

    #[tokio::test]
    async fn few_members_do_not_compress_and_everybody_reads_both_ways() {
        let key = GossipKey::generate().unwrap();
        let (mut b, _, b_address) = socket("b", &key).await;
        for (count, expected) in [
            (2, ProtocolVersion::V0),
            (FEW, ProtocolVersion::V0),
            (FEW + 1, ProtocolVersion::V1),
        ] {
            let names = (0..count).map(|number| format!("n{number}").parse().unwrap());
            // Of a name of its own: its first datagram would be an old one of the other else.
            let (mut a, _, _) = socket_among(&format!("a{count}"), &key, Members::listed(names)).await;
            a.send(b_address, syn("text")).await.unwrap();
            let envelope = b.recv().await.unwrap().envelope;
            assert_eq!(
                (envelope.version, text(&envelope)),
                (expected, "text"),
                "{count} members"
            );
        }
    }

    /// chitchat drops `recv` whenever a round begins. Here it is dropped whenever it waits: not for the network, which is
    /// loopback, but because tokio makes it wait when it had its share, which hits every point in turn.
    #[tokio::test]
    async fn a_receive_that_is_dropped_loses_and_mixes_nothing() {
        const ROUNDS: usize = 180;
        let key = GossipKey::generate().unwrap();
        let (mut a, _, a_address) = socket("a", &key).await;
        let (mut b, _, b_address) = socket("b", &key).await;
        let (mut c, shared, c_address) = socket("c", &key).await;
        let mut dropped = 0;
        for round in 0..ROUNDS {
            a.send(c_address, syn(&format!("a {round}"))).await.unwrap();
            b.send(c_address, syn(&format!("b {round}"))).await.unwrap();
            // A fresh share, of which so little is left that the receive stops somewhere else in every round.
            tokio::task::yield_now().await;
            for _ in 0..120 + round % 8 {
                tokio::task::coop::consume_budget().await;
            }
            let mut got = Vec::new();
            while got.len() < 2 {
                let outcome = tokio::select! {
                    biased;
                    outcome = c.recv() => outcome.unwrap(),
                    () = std::future::ready(()) => {
                        dropped += 1;
                        tokio::task::yield_now().await;
                        // And in between it sends, as chitchat does.
                        c.send(a_address, syn("round")).await.unwrap();
                        continue;
                    }
                };
                got.push((text(&outcome.envelope).to_owned(), outcome.from_addr));
            }
            got.sort();
            assert_eq!(
                got,
                [
                    (format!("a {round}"), a_address),
                    (format!("b {round}"), b_address)
                ]
            );
        }
        assert!(dropped >= ROUNDS / 4, "{dropped}");
        assert_eq!(shared.counters.total_codecs_replaced(), 0);
    }

    #[tokio::test]
    async fn nonsense_by_a_member_costs_the_codec_and_nothing_else() {
        let key = GossipKey::generate().unwrap();
        let (mut a, shared, a_address) = socket("a", &key).await;
        let (mut b, received, b_address) = socket("b", &key).await;
        let nonsense = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let sender = Sender {
            name: "n".parse().unwrap(),
            generation: 1,
            address: nonsense.local_addr().unwrap(),
        };
        let plausible_header = [&45_139_u16.to_le_bytes()[..], &[1, 2, 0xff, 0xff, 0xff]].concat();
        for (sequence, message) in [(0, plausible_header), (1, b"not chitchat".to_vec())] {
            let part = cut(&sender, sequence, &message).unwrap().swap_remove(0);
            let datagram = seal(&key, shared.cluster, &part).unwrap();
            nonsense.send_to(&datagram, b_address).await.unwrap();
            nonsense.send_to(&datagram, b_address).await.unwrap();
        }
        nonsense.send_to(b"garbage", b_address).await.unwrap();
        a.send(b_address, syn("after")).await.unwrap();
        let outcome = b.recv().await.unwrap();
        assert_eq!((text(&outcome.envelope), outcome.from_addr), ("after", a_address));
        let refused = |why| received.counters.total_refused(why);
        assert_eq!(
            (
                refused(Refused::Message),
                refused(Refused::Replay),
                refused(Refused::Foreign)
            ),
            (2, 2, 1)
        );
        assert_eq!(received.counters.total_codecs_replaced(), 1);
    }
}
