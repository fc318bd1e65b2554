//! What is in force: the listeners and addresses in the maps, and the grant.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use constellation_config::{Config, EntryPoint, Protocol};
use constellation_dataplane::{listener, port_owner};
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::steering::{Bind, Changes, Dest};
use constellation_ebpf_loader::{Availability, BootTime, Error, Origin};

use super::layout::{Layout, LayoutError, Listener};
use super::lease::LocalLease;
use super::local::Local;
use super::record::Record;
use super::report::LeaseReport;
use super::silence::Silence;
use super::{Authority, Shared};
use crate::kernel::Reason;

/// What is in force.
pub(super) struct Active {
    pub(super) kernel: loader::Steering,
    pub(super) layout: Layout,
    /// The listeners of each destination, once more: silence takes their places for a while.
    pub(super) listeners: Vec<(Dest, Vec<OwnedFd>)>,
    pub(super) record: Record,
    pub(super) granting: Granting,
}

/// How grants come about.
pub(super) enum Granting {
    /// By this node itself.
    Local(Local),
    /// By a cluster; with what stands in the places of the listeners, if anything does.
    Lease(Option<Silence>),
}

impl Active {
    /// Puts these sockets and the addresses of the configuration into force. By its own authority the node takes the lease
    /// and has it renewed; under a cluster's, nothing is granted but what the process before this one had.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        authority: Authority,
        mut steering: loader::Steering,
        config: &Config,
        sockets: &[(Arc<str>, OwnedFd)],
    ) -> Result<Self, Reason> {
        let in_words = |text: String| {
            Reason::Unavailable(Availability::Unsupported {
                errno: None,
                kernel: String::new(),
                reason: text,
            })
        };
        let listeners = listeners(config, sockets).map_err(|error| in_words(error.to_string()))?;
        let earlier = steering.destinations();
        let layout = Layout::new(listeners, &earlier).map_err(|error| in_words(error.to_string()))?;
        let binds = layout
            .binds(&config.entry_points)
            .map_err(|error| in_words(error.to_string()))?;
        let copies = copies(&layout, sockets).map_err(|error| {
            in_words(format!(
                "a listening socket can't be copied: {error}; check the limit on open files"
            ))
        })?;
        let mut put = || -> Result<(Record, Option<LocalLease>), Error> {
            if steering.act_for(authority.issuer())? {
                tracing::info!(
                    authority = authority.as_str(),
                    "steering: grants are another's from now on, and epochs begin anew"
                );
            }
            // Where the process before this one stood by, this one does until then: whoever comes waits until it knows who
            // holds the lease.
            if authority == Authority::Local && steering.granted()?.stands_by {
                steering.revoke()?;
            }
            for (dest, sockets) in &copies {
                steering.insert_listeners(*dest, &borrowed(sockets))?;
            }
            steering.remove_listeners(layout.closed())?;
            let before = steering.granted()?;
            let mut record = Record {
                epoch: before.epoch,
                deadline: before.valid_until,
                stands_by: before.stands_by,
                ..Record::default()
            };
            let lease = match authority {
                Authority::Local => {
                    let mut lease = LocalLease::after(before.epoch, shared.lease.ttl);
                    let now = BootTime::now();
                    let term = lease.renew(now).term();
                    steering.grant(term.epoch, term.deadline)?;
                    record.granted(term.epoch, term.deadline, now);
                    Some(lease)
                }
                Authority::Lease(_) => None,
            };
            // One step for each address: it leads to the listeners of before, or to these.
            steering.set_binds(&binds)?;
            for dest in earlier.iter().filter(|dest| **dest != layout.closed()) {
                steering.remove_listeners(*dest)?;
            }
            let attached = steering.attach()?;
            tracing::info!(
                authority = authority.as_str(),
                epoch = record.epoch,
                addresses = steering.steered(),
                pins = match steering.origin() {
                    Origin::New => "made",
                    Origin::Pinned => "reused",
                    Origin::Rebuilt(why) => why,
                },
                program = ?attached,
                "steering: the kernel gives new connections to this process while its lease lasts"
            );
            Ok((record, lease))
        };
        let (record, lease) = put().map_err(Reason::of)?;
        let granting = match lease {
            Some(lease) => Granting::Local(Local::begin(shared, lease).map_err(|error| {
                in_words(format!(
                    "the thread that renews the lease can't be started: {error}"
                ))
            })?),
            None => Granting::Lease(None),
        };
        Ok(Self {
            kernel: steering,
            layout,
            listeners: copies,
            record,
            granting,
        })
    }

    /// What to steer for these entry points, and the addresses that are new and that nobody else may have. `running` are
    /// the entry points of before.
    pub(super) fn plan(
        &self,
        running: &[EntryPoint],
        entry_points: &[EntryPoint],
    ) -> Result<(Vec<Bind>, Vec<Added>), LayoutError> {
        let binds = self.layout.binds(entry_points)?;
        let known: HashSet<&SocketAddr> = running.iter().flat_map(|before| &before.addresses).collect();
        let of_tcp = entry_points.iter().filter(|now| now.protocol == Protocol::Tcp);
        let all = of_tcp.flat_map(|now| now.addresses.iter().map(move |address| (now, address)));
        let added = all.filter(|(_, address)| {
            address.port() != 0 && !known.contains(address) && !self.layout.has_bound(**address)
        });
        let added = added.map(|(now, address)| Added {
            key: now.address_key(),
            address: *address,
        });
        Ok((binds, added.collect()))
    }

    pub(super) fn set_binds(&mut self, binds: &[Bind]) -> Result<Changes, Error> {
        self.kernel.set_binds(binds)
    }

    /// New connections are refused from now on, and nothing is granted any more.
    pub(super) fn revoke(&mut self) {
        self.granting = Granting::Lease(None);
        // The copies: else the listeners would outlive those who accept from them.
        self.listeners.clear();
        if let Err(error) = self.kernel.revoke() {
            tracing::warn!(%error, "the grant can't be revoked; it ends by itself");
        }
        self.record.withdrawn();
    }

    pub(super) fn report(&self) -> LeaseReport {
        let verdicts = self.kernel.stats().unwrap_or_else(|error| {
            tracing::debug!(%error, "the counters of steering can't be read");
            Vec::new()
        });
        LeaseReport::of(&self.record, self.kernel.steered(), verdicts)
    }
}

/// The listeners of each destination, once more.
fn copies(layout: &Layout, sockets: &[(Arc<str>, OwnedFd)]) -> std::io::Result<Vec<(Dest, Vec<OwnedFd>)>> {
    let of_one = |(dest, positions): (Dest, Vec<usize>)| {
        let own = positions.iter().filter_map(|position| sockets.get(*position));
        let copies: std::io::Result<Vec<OwnedFd>> = own.map(|(_, socket)| socket.try_clone()).collect();
        Ok((dest, copies?))
    };
    layout.destinations().map(of_one).collect()
}

pub(super) fn borrowed(sockets: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    sockets.iter().map(|socket| socket.as_fd()).collect()
}

/// The sockets as the layout sees them, in the same order.
fn listeners(config: &Config, sockets: &[(Arc<str>, OwnedFd)]) -> std::io::Result<Vec<Listener>> {
    let protocol = |name: &str| {
        let mut entry_points = config.entry_points.iter();
        let found = entry_points.find(|entry_point| *entry_point.name == *name);
        found.map(|entry_point| entry_point.protocol).unwrap_or_default()
    };
    let listener = |(name, socket): &(Arc<str>, OwnedFd)| {
        let socket = socket2::SockRef::from(socket);
        let address = socket.local_addr()?.as_socket();
        let address = address.ok_or_else(|| std::io::Error::other("a listening socket has no IP address"))?;
        Ok(Listener {
            entry_point: name.clone(),
            protocol: protocol(name),
            address,
            only_v6: address.is_ipv6() && socket.only_v6()?,
        })
    };
    sockets.iter().map(listener).collect()
}

/// An address that is new.
pub(super) struct Added {
    key: String,
    address: SocketAddr,
}

impl Added {
    /// Whether a start would get it; why not, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { key, address } = self;
        let Err(error) = listener::try_address(*address) else {
            return Ok(());
        };
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("it is held by {}", port_owner::tcp(*address)),
            std::io::ErrorKind::AddrNotAvailable => {
                "this host has no such address; as a network of one (IP/32:PORT) it need not be there"
                    .to_owned()
            }
            _ => "a restart would fail".to_owned(),
        };
        Err(format!("{key}: {address}: {error}; {hint}"))
    }
}
