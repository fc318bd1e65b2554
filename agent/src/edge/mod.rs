//! The edge under a lease: one type that does what holding it means, and letting go of it, in the right order.
//!
//! [`Edge`] owns nothing that decides: whoever runs the lease (`lb_leader`) calls it. Between nodes the rules are those of
//! leases; here it is steering, the virtual addresses and the chase, each of which ends by itself, in the kernel, when
//! nobody calls any more.
//!
//! | moment | in this order |
//! |---|---|
//! | [`Edge::gained`] | chase the previous holder's connections; grant; put the addresses in place; announce |
//! | [`Edge::renewed`] | grant; addresses |
//! | [`Edge::release`], then the lease is let go of | leave new clients without an answer; take the addresses off, keep them aside |
//! | [`Edge::lost`] | the same: who is late has nothing to hand over, and the kernel refuses already |
//!
//! While an address moves, a client that the network still leads here gets no answer, rather than a refusal; its first packet
//! is kept until another node announces the address, and is passed on to it. What is lost of that comes again within a
//! second. What is open goes on: the new holder passes its packets here, and
//! this host has the address, to itself, until `edge.chase.for` is over.

use std::net::IpAddr;
use std::time::Duration;

use constellation_cluster::lease::{BootTime, Held};
use constellation_config::Config;

use crate::chase::{self, Chase};
use crate::cli::Failure;
use crate::steering::{GrantError, Steering};
use crate::vip::{ANNOUNCING, VipError, VirtualIps};

/// How long who comes here after the addresses have gone is left without an answer: until the last announcement of the next
/// holder, and a second more. Whoever still comes after that is refused.
const SILENCE: Duration = ANNOUNCING.saturating_add(Duration::from_secs(1));

/// Who held the addresses until now, and is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousHolder {
    /// Addresses of that node's own, at most one of each family, in a network of a device of `edge.chase.devices`.
    pub addresses: Vec<IpAddr>,
}

/// Why the node does not hold the edge, though it holds the lease: it had better let go.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Steering.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The virtual addresses.
    #[error(transparent)]
    VirtualIps(#[from] VipError),
}

/// What acts under the lease of the edge.
#[derive(Debug)]
pub struct Edge {
    steering: Steering,
    chase: Chase,
    virtual_ips: VirtualIps,
    /// How long connections that stayed behind are kept.
    keep: Duration,
}

impl Edge {
    /// Changes nothing yet.
    ///
    /// # Errors
    /// When a virtual address can't be one: somebody else has configured it, or there is no device.
    pub fn prepare(config: &Config, steering: Steering, chase: Chase) -> Result<Self, Failure> {
        Ok(Self {
            steering,
            chase,
            virtual_ips: VirtualIps::prepare(config)?,
            keep: config.edge.chase.duration,
        })
    }

    /// Clears away what a process that is gone has left. To be called once nobody else serves, after steering and chase
    /// have been engaged.
    pub fn engage(&self) {
        if let Err(error) = self.virtual_ips.clear_leftovers() {
            tracing::warn!(%error, "virtual addresses that were left here vanish by themselves");
        }
    }

    /// The lease is this node's. `previous` is who had it until now, if that node is alive: dead, it would answer nothing,
    /// and its connections had better be reset.
    ///
    /// # Errors
    /// When this node can't act under the lease. It has to let go of it, after [`Self::lost`].
    pub fn gained(&self, held: Held, previous: Option<&PreviousHolder>) -> Result<(), EdgeError> {
        // Connections that nobody here knows are reset where it does not work; that is no reason not to serve.
        self.follow(previous);
        self.renewed(held)
    }

    /// The lease lasts longer.
    ///
    /// # Errors
    /// As those of [`Self::gained`].
    pub fn renewed(&self, held: Held) -> Result<(), EdgeError> {
        self.steering.grant(held)?;
        self.virtual_ips.acquire(held)?;
        Ok(())
    }

    /// Stops acting under the lease, which is let go of afterwards. Does not wait for anything, so it is done when it
    /// returns, and not half of it when somebody does not wait for it.
    ///
    /// # Errors
    /// When steering could not be taken back. Then the lease is not to be let go of: it has to run out.
    pub fn release(&self) -> Result<(), EdgeError> {
        let until = BootTime::now() + SILENCE;
        // Where the kernel does not steer, clients are answered and reset: they must not get a second answer.
        let ready = self.steering.is_active().then(|| self.virtual_ips.ready());
        let silent = self.steering.fall_silent(until);
        if silent.is_ok()
            && let Some(ready) = ready
            && let Err(error) = ready.and_then(|ready| self.virtual_ips.usher(ready, until))
        {
            tracing::warn!(%error, "clients that come here meanwhile are not passed on: they ask again within a second");
        }
        // In any case: who has no grant has no use for the addresses.
        if let Err(error) = self.virtual_ips.set_aside(self.keep) {
            tracing::error!(%error, "connections that are open here may end: their addresses could not be kept");
        }
        Ok(silent?)
    }

    /// The lease is not this node's any more, or its deadline has passed. The kernel has refused new connections since
    /// then.
    pub fn lost(&self) {
        if let Err(error) = self.release() {
            tracing::warn!(%error, "the grant of the lease that was lost can't be taken back; it is over by the kernel's clock");
        }
    }

    /// Ends what was kept for connections from before, once its time is over. Says when to call it again; nothing while there
    /// is nothing to end.
    pub fn tend(&self) -> Option<Duration> {
        self.virtual_ips.tend()
    }

    /// The node stops, and its connections have ended: takes off whatever there is.
    pub fn end(&self) {
        self.virtual_ips.release();
    }

    /// Until when clients are left without an answer after [`Self::release`]; `None`: they are not, as nothing moves.
    pub fn is_silent_until(&self) -> Option<BootTime> {
        (!self.virtual_ips.nets().is_empty() && self.steering.is_active()).then(|| BootTime::now() + SILENCE)
    }

    /// The virtual addresses.
    pub fn virtual_ips(&self) -> &VirtualIps {
        &self.virtual_ips
    }

    fn follow(&self, previous: Option<&PreviousHolder>) {
        let has_v6 = previous.is_none_or(|previous| previous.addresses.iter().any(IpAddr::is_ipv6));
        let nets = self.virtual_ips.nets().into_iter();
        // An IPv6 address can't be chased by a neighbour that is known by IPv4 alone; the others can.
        let nets = nets.filter(|net| has_v6 || net.addr().is_ipv4());
        let addresses: Vec<String> = nets.map(|net| net.to_string()).collect();
        if addresses.is_empty() || !self.chase.is_active() {
            return;
        }
        let wish = chase::Wish {
            addresses,
            previous: previous.map_or_else(Vec::new, |previous| {
                previous.addresses.iter().map(ToString::to_string).collect()
            }),
            duration: None,
        };
        let followed = match previous {
            Some(_) => self.chase.begin(&wish),
            None => self.chase.end(&wish),
        };
        if let Err(error) = followed {
            tracing::warn!(%error, "connections that stay with the previous holder are reset");
        }
    }
}
