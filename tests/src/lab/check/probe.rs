//! What a node's kernel does: a connection to its entry point every few milliseconds, from its own host, and what the kernel
//! was told before and after.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use constellation_ebpf_loader::steering::Granted;
use constellation_ebpf_loader::{Namespace, granted};
use socket2::SockRef;

use super::{Shared, now};
use crate::lab::{LabNode, address};

/// Between two probes.
const PAUSE: Duration = Duration::from_millis(3);
/// A connection from a host to itself is there at once, or nobody takes it.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the kernel's map of grants said at some time between two moments, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Before it was read.
    pub before: u64,
    /// After it was read.
    pub after: u64,
    /// What it said; nothing while nothing is pinned.
    pub grant: Option<Granted>,
}

/// A connection, with a reading before and one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Before.
    pub first: Reading,
    /// Whether it was let in.
    pub accepted: bool,
    /// After.
    pub second: Reading,
}

/// Probes a node until the run is over.
pub(super) fn probe(node: LabNode<'_>, shared: &Shared) -> Result<Vec<Probe>> {
    let to = SocketAddr::new(address(node.number()), 80);
    let probes = node.place()?.within(|| {
        let mut probes = Vec::new();
        let mut namespace = None;
        while !shared.stopped() {
            if namespace.is_none() {
                // Made by the node's first process.
                namespace = Namespace::find().ok().flatten();
            }
            let first = read(namespace.as_ref());
            let accepted = connects(to);
            let second = read(namespace.as_ref());
            if accepted
                && second
                    .grant
                    .is_some_and(|grant| grant.issuer.is_cluster() && !grant.stands_by)
            {
                shared.holder.store(node.number(), Ordering::Relaxed);
            }
            probes.push(Probe {
                first,
                accepted,
                second,
            });
            std::thread::sleep(PAUSE);
        }
        probes
    })?;
    Ok(probes)
}

fn read(namespace: Option<&Namespace>) -> Reading {
    let before = now();
    let grant = namespace.and_then(granted);
    Reading {
        before,
        after: now(),
        grant,
    }
}

fn connects(to: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect_timeout(&to, PATIENCE) else {
        return false;
    };
    // Thousands of them would wait for two minutes each otherwise.
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap_or_default();
    true
}
