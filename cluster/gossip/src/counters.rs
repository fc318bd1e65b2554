//! What went over the wire and what was refused, for metrics and for an operator who asks why nodes don't see each other.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a datagram or a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refused {
    /// More than [`crate::DATAGRAM_LIMIT`] bytes.
    Size,
    /// Not ours at all.
    Foreign,
    /// Of a release that seals in another way.
    Format,
    /// Under a key that is not known here.
    Key,
    /// Under a known key, but changed on the way, or for another cluster.
    Forged,
    /// By a member, and still nonsense: another release, or a fault.
    Malformed,
    /// By a node that is no member, or no longer.
    NotAMember,
    /// By a former life of a node.
    FormerLife,
    /// Seen before, or too old to tell.
    Replay,
    /// A whole message that chitchat can't read.
    Message,
}

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 10] = [
        Self::Size,
        Self::Foreign,
        Self::Format,
        Self::Key,
        Self::Forged,
        Self::Malformed,
        Self::NotAMember,
        Self::FormerLife,
        Self::Replay,
        Self::Message,
    ];

    /// The label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Foreign => "foreign",
            Self::Format => "format",
            Self::Key => "key",
            Self::Forged => "forged",
            Self::Malformed => "malformed",
            Self::NotAMember => "not_a_member",
            Self::FormerLife => "former_life",
            Self::Replay => "replay",
            Self::Message => "message",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "it is larger than any gossip datagram",
            Self::Foreign => "it is not gossip of Constellation: something else sends to this port",
            Self::Format => "it is sealed in a format of another release: run the same release on all nodes",
            Self::Key => "it is sealed under a key that is not known here: another cluster, or a node that missed a rotation",
            Self::Forged => "it was changed on the way, or is for another cluster",
            Self::Malformed => "it is by a member and can't be read: another release, or a fault",
            Self::NotAMember => "its sender is not a member: it was removed (join it again), or never joined",
            Self::FormerLife => {
                "its sender has started again since: an old datagram, or a node whose generation went back"
            }
            Self::Replay => "it was seen before",
            Self::Message => "chitchat can't read the message: another release, or a fault",
        })
    }
}

/// Counts since the start. Cheap to read at any time.
#[derive(Debug, Default)]
pub struct Counters {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    largest: AtomicU64,
    largest_message: AtomicU64,
    unsent: AtomicU64,
    received: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    codecs: AtomicU64,
}

impl Counters {
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.largest.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn message(&self, bytes: usize) {
        self.largest_message.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn unsent(&self) {
        self.unsent.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn codec_replaced(&self) {
        self.codecs.fetch_add(1, Ordering::Relaxed);
    }

    /// Datagrams and bytes that were sent.
    pub fn total_sent(&self) -> (u64, u64) {
        (
            self.sent.load(Ordering::Relaxed),
            self.sent_bytes.load(Ordering::Relaxed),
        )
    }

    /// The largest datagram and the largest whole message that were sent since the last call, in bytes.
    pub fn take_largest(&self) -> (u64, u64) {
        (
            self.largest.swap(0, Ordering::Relaxed),
            self.largest_message.swap(0, Ordering::Relaxed),
        )
    }

    /// Datagrams that could not be sent: no route, no buffer.
    pub fn total_unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    /// Datagrams that came in and were accepted.
    pub fn total_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Datagrams and messages that were dropped for this reason.
    pub fn total_refused(&self, why: Refused) -> u64 {
        self.refused[why as usize].load(Ordering::Relaxed)
    }

    /// How often the codec had to be replaced: zero, unless something local sends to its port or messages are garbage.
    pub fn total_codecs_replaced(&self) -> u64 {
        self.codecs.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place() {
        let counters = Counters::default();
        for (at, why) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, at);
            assert_eq!(counters.total_refused(why), 0);
            counters.refused(why);
            assert_eq!(counters.total_refused(why), 1, "{}", why.label());
        }
    }
}
