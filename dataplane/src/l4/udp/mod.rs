//! UDP: sessions between clients and back ends.
//!
//! One task per worker and entry point ([`pump`]) does everything: it has the worker's sockets of the entry point, among
//! which the kernel spreads clients by address and port, so that a client stays at its worker and workers share no
//! lock; and one connected socket per session, so that a back end tells sessions apart and says when it has no such
//! port. All of them wait in one epoll instance, so an idle session costs neither a task nor a waker.
//!
//! [`table`] is what a flood of forged addresses meets: a bounded table that gives up sessions by what they have shown.
//! [`inward`] carries datagrams to back ends, [`outward`] carries replies back from the address that was asked;
//! [`place`] decides which back end a session talks to, and moves it to another one when that one refuses, leaves or
//! falls silent. [`train`] finds datagrams that can leave together. [`socket`] has the calls, [`names`] the addresses of
//! back ends, [`budget`] and [`rate`] the limits.

mod account;
mod budget;
mod inward;
mod names;
mod outward;
mod place;
mod poller;
mod pump;
mod rate;
mod session;
mod socket;
mod table;
mod train;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crate::http::Edge;
use crate::metrics::{DatagramDrop, DropMetrics};
use crate::settings::{EntryPoint, Protocol, Settings};
use crate::sources::{Counted, Sources};

pub(crate) use pump::serve;
pub(crate) use socket::listen;

/// A UDP entry point, as all workers share it.
pub(crate) struct Entrance {
    settings: EntryPoint,
    /// Sessions of each worker.
    share: usize,
    /// Sessions by source, where there is a limit.
    sources: Option<Arc<Sources>>,
    drops: DropMetrics,
    receiver: socket::Receiver,
}

impl Entrance {
    /// Those of all entry points, by position; `None` where connections come in.
    pub(crate) fn all(edge: &Edge) -> io::Result<Vec<Option<Arc<Self>>>> {
        let settings = &edge.settings;
        let shares = shares(settings);
        let entrance = |(entry_point, share): (&EntryPoint, usize)| {
            if entry_point.protocol != Protocol::Udp {
                return Ok(None);
            }
            let most = entry_point.udp.max_sessions_per_source;
            let entrance = Self {
                settings: entry_point.clone(),
                share,
                sources: most.map(|most| Arc::new(Sources::new(most))),
                drops: edge.metrics.udp_drops(&entry_point.name),
                receiver: socket::Receiver::new()?,
            };
            Ok(Some(Arc::new(entrance)))
        };
        settings.entry_points.iter().zip(shares).map(entrance).collect()
    }

    /// Counts a session of its source; an error when the source has as many as it may.
    fn admit(&self, client: IpAddr) -> Result<Option<Counted>, DatagramDrop> {
        let Some(sources) = &self.sources else {
            return Ok(None);
        };
        if self
            .settings
            .exempt_sources
            .iter()
            .any(|net| net.contains(&client))
        {
            return Ok(None);
        }
        sources.admit(client).map(Some).ok_or(DatagramDrop::Source)
    }
}

/// How many sessions each worker may have at each entry point.
fn shares(settings: &Settings) -> Vec<usize> {
    let wanted = |entry_point: &EntryPoint| match entry_point.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => entry_point.udp.max_sessions.max(1),
    };
    let wanted: Vec<usize> = settings.entry_points.iter().map(wanted).collect();
    let allotted = budget::allot(&wanted, budget::descriptors(), budget::ports());
    for ((entry_point, wanted), allotted) in settings.entry_points.iter().zip(&wanted).zip(&allotted) {
        if entry_point.protocol == Protocol::Udp && allotted < wanted {
            tracing::warn!(
                entry_point = &*entry_point.name,
                wanted,
                allotted,
                "this process can't have as many UDP sessions as udp.maxSessions says: each takes a descriptor \
                 (LimitNOFILE, of which half stay for connections) and a port (net.ipv4.ip_local_port_range)"
            );
        }
    }
    let workers = settings.workers.get();
    allotted.into_iter().map(|all| all.div_ceil(workers)).collect()
}
