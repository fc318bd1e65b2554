//! What happened, as figures that only grow. The agent exports them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::frame::Service;
use crate::hello::Purpose;

/// Which way a call or its bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// A call from another node, and its request; for bytes: those that were read.
    In,
    /// A call of this node; for bytes: those that were written.
    Out,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];
}

/// Why a connection was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// No ClientHello in time, or something else.
    Hello,
    /// It asks for a protocol that is not spoken here.
    Protocol,
    /// So many others are not through with their handshake, and this one was the slowest.
    Handshakes,
    /// As many connections as there may be.
    Connections,
    /// As many joiners as there may be at a time.
    Joins,
    /// The certificate is of this cluster, its owner is not one of the members.
    NotAMember,
    /// It was one of the members, and is no more.
    Removed,
    /// A connection for the data plane, and nobody takes it.
    Mesh,
    /// Bytes that are no frame, or none that belongs there.
    Malformed,
}

impl Refused {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Hello,
        Self::Protocol,
        Self::Handshakes,
        Self::Connections,
        Self::Joins,
        Self::NotAMember,
        Self::Removed,
        Self::Mesh,
        Self::Malformed,
    ];

    /// For a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Protocol => "protocol",
            Self::Handshakes => "handshakes",
            Self::Connections => "connections",
            Self::Joins => "joins",
            Self::NotAMember => "not_a_member",
            Self::Removed => "removed",
            Self::Mesh => "mesh",
            Self::Malformed => "malformed",
        }
    }
}

/// The figures of a [`crate::Server`], of [`crate::Links`], or of both.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: [AtomicU64; 3],
    refused: [AtomicU64; 9],
    handshakes_failed: AtomicU64,
    connected: AtomicU64,
    connects_failed: AtomicU64,
    calls: [[AtomicU64; 3]; 2],
    bytes: [[AtomicU64; 3]; 2],
}

impl Counters {
    /// Connections that came to what they were for: a member's after its certificate was checked, a joiner's, or one that
    /// was given to the data plane.
    #[must_use]
    pub fn accepted(&self, purpose: Purpose) -> u64 {
        read(&self.accepted[purpose as usize])
    }

    /// Connections that were refused, or ended for what came over them.
    #[must_use]
    pub fn refused(&self, reason: Refused) -> u64 {
        read(&self.refused[reason as usize])
    }

    /// Handshakes of TLS that others began here and that failed: strangers, expired certificates, wrong authorities.
    #[must_use]
    pub fn handshakes_failed(&self) -> u64 {
        read(&self.handshakes_failed)
    }

    /// Connections that this node opened to others.
    #[must_use]
    pub fn connected(&self) -> u64 {
        read(&self.connected)
    }

    /// Attempts that came to nothing.
    #[must_use]
    pub fn connects_failed(&self) -> u64 {
        read(&self.connects_failed)
    }

    /// Calls, by who made them.
    #[must_use]
    pub fn calls(&self, service: Service, direction: Direction) -> u64 {
        read(&self.calls[direction as usize][service.index()])
    }

    /// Bytes of frames, requests and answers alike.
    #[must_use]
    pub fn bytes(&self, service: Service, direction: Direction) -> u64 {
        read(&self.bytes[direction as usize][service.index()])
    }

    pub(crate) fn accept(&self, purpose: Purpose) {
        add(&self.accepted[purpose as usize], 1);
    }

    pub(crate) fn refuse(&self, reason: Refused) {
        add(&self.refused[reason as usize], 1);
    }

    pub(crate) fn handshake_failed(&self) {
        add(&self.handshakes_failed, 1);
    }

    pub(crate) fn connect(&self, succeeded: bool) {
        add(
            if succeeded {
                &self.connected
            } else {
                &self.connects_failed
            },
            1,
        );
    }

    pub(crate) fn call(&self, service: Service, direction: Direction) {
        add(&self.calls[direction as usize][service.index()], 1);
    }

    pub(crate) fn frame(&self, service: Service, direction: Direction, body: usize) {
        let bytes = crate::frame::HEADER_BYTES.saturating_add(body);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        add(&self.bytes[direction as usize][service.index()], bytes);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}
