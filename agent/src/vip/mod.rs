//! Virtual addresses: on this host while it holds the lease, and announced to the network.
//!
//! [`VirtualIps::prepare`] finds the devices and refuses addresses that somebody else has configured. [`VirtualIps::acquire`]
//! puts them on the devices and announces them, and is called again at every renewal: in the kernel they last until the
//! lease's deadline, rounded up to seconds, so that those of a process that is stopped vanish by themselves.
//! [`VirtualIps::set_aside`] takes them off again and keeps them to this host alone (on `lo`, unannounced) for connections
//! that are open; that ends by itself, too. All of it is told to the kernel over netlink, one short call each.

mod announcer;
mod device;
mod frame;
mod message;
mod netlink;
mod report;
mod settled;
mod stray;
mod usher;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use constellation_cluster::lease::Held;
use constellation_config::Config;
use constellation_ebpf_loader::{Availability, BootTime, Capability, missing_of};
use ipnet::IpNet;
use nix::libc::{EADDRNOTAVAIL, EEXIST};
use nix::net::if_::if_nametoindex;

pub(crate) use self::announcer::ALL as ANNOUNCING;
use self::announcer::{Announcer, Here, Place};
use self::device::Device;
use self::message::{Arp, Found, OURS};
pub use self::report::Report;
pub use self::stray::Porter;
pub(crate) use self::usher::Ready;
use self::usher::Usher;
use crate::cli::{Exit, Failure};
use crate::kernel::{Reason, Standing};

/// An address without `IFA_PROTO` (before Linux 5.18) is taken for ours if it lasts no longer than this: nobody else's is
/// both short-lived and one of the cluster's.
const SHORT: u32 = 120;

/// The addresses of one node. It is told by one task alone.
pub struct VirtualIps {
    addresses: Vec<(IpNet, Device)>,
    /// Why there are none.
    reason: Option<Reason>,
    here: Here,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the kernel takes them away, if nothing else happens.
    vanishes: BootTime,
    announcer: Option<Announcer>,
    aside: Option<Aside>,
    usher: Option<Usher>,
    announced: u64,
}

/// Addresses that are kept to this host for connections that are open.
struct Aside {
    until: BootTime,
    /// How devices did ARP before.
    before: BTreeMap<u32, Arp>,
}

/// Why addresses are not where they should be.
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    /// The lease is over.
    #[error("the lease was over before the virtual addresses could be put in place")]
    Over,
    /// They can't be had here.
    #[error("virtual addresses can't be had: {0}")]
    Unavailable(Reason),
    /// The kernel is against it.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What it said.
        source: io::Error,
    },
}

impl VipError {
    fn kernel(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Kernel { what, source }
    }
}

impl VirtualIps {
    /// Finds out whether the addresses of `edge.virtualIps` can be had. Changes nothing: the process before this one may have
    /// them.
    ///
    /// # Errors
    /// When somebody else has configured one here, or there is no device for it.
    pub fn prepare(config: &Config) -> Result<Self, Failure> {
        let wanted = &config.edge.virtual_ips;
        let mut addresses = Vec::new();
        let mut reason = wanted
            .is_empty()
            .then_some(Reason::Disabled("edge.virtualIps is empty"));
        if reason.is_none() {
            let missing = missing_of(&[Capability::NetAdmin, Capability::NetRaw]);
            if !missing.is_empty() {
                reason = Some(Reason::Unavailable(Availability::Denied { missing }));
            }
        }
        if reason.is_none() {
            let refuse = |text: String| Failure::new(Exit::Config, format!("edge.virtualIps: {text}"));
            let found = netlink::addresses()
                .map_err(|error| Failure::new(Exit::System, format!("addresses can't be listed: {error}")))?;
            for net in wanted {
                let others = found
                    .iter()
                    .find(|found| found.net.addr() == net.addr() && !is_ours(found));
                if let Some(other) = others {
                    let device = nix::net::if_::if_indextoname(other.device);
                    let device =
                        device.map_or_else(|_| "a device".into(), |name| name.to_string_lossy().into_owned());
                    return Err(refuse(format!(
                        "{} is configured on {device} by somebody else, and would be at two nodes at once: remove it there \
                         (`ip address del {} dev {device}`, and from the network's configuration)",
                        net.addr(),
                        other.net
                    )));
                }
                let device = Device::of(*net, config.edge.virtual_ip_device.as_deref()).map_err(refuse)?;
                addresses.push((*net, device));
            }
        }
        if let Some(reason @ Reason::Unavailable(_)) = &reason {
            tracing::warn!(%reason, "virtual addresses are not used");
        }
        Ok(Self {
            addresses,
            reason,
            here: Here::default(),
            state: Mutex::default(),
        })
    }

    /// Removes what a process that is gone has left. To be called once nobody else serves.
    ///
    /// # Errors
    /// When the kernel refuses; they vanish by themselves then.
    pub fn clear_leftovers(&self) -> Result<(), VipError> {
        if self.addresses.is_empty() {
            return Ok(());
        }
        let found = netlink::addresses().map_err(VipError::kernel("listing addresses"))?;
        for found in found.iter().filter(|found| is_ours(found)) {
            let is_wanted = self
                .addresses
                .iter()
                .any(|(net, _)| net.addr() == found.net.addr());
            if found.proto == Some(OURS) || is_wanted {
                take_off(found.net, found.device)?;
                tracing::info!(address = %found.net, "removed a virtual address that an earlier process has left");
            }
        }
        Ok(())
    }

    /// Puts the addresses on the devices, or has them stay for the lease as it is now. Announces them where they were
    /// not here.
    ///
    /// # Errors
    /// When the lease is over, or the kernel refuses. What is there of them vanishes by itself.
    pub fn acquire(&self, held: Held) -> Result<(), VipError> {
        if let Some(reason @ Reason::Unavailable(_)) = &self.reason {
            return Err(VipError::Unavailable(reason.clone()));
        }
        if self.addresses.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        let now = BootTime::now();
        let remaining = held.remaining(now).ok_or(VipError::Over)?;
        let seconds = seconds(remaining);
        let were_here = state.vanishes.remaining(now).is_some() && state.aside.is_none();
        for (net, device) in &self.addresses {
            netlink::tell(&message::put(*net, device.index, seconds, false))
                .map_err(VipError::kernel(format!("putting {net} on {}", device.name)))?;
        }
        // This process may have been stopped in between, for however long.
        if held.remaining(BootTime::now()).is_none() {
            self.take_all_off();
            return Err(VipError::Over);
        }
        self.here.until(held.deadline());
        state.vanishes = now + Duration::from_secs(seconds.into());
        if !were_here {
            for (net, device) in &self.addresses {
                settled::wait(net.addr(), &device.name);
            }
            self.end_aside(&mut state);
            state.announcer = None;
            state.usher = None;
            let places = self.addresses.iter().map(|(net, device)| Place {
                address: net.addr(),
                device: device.index,
                mac: device.mac,
            });
            let announcer = Announcer::start(places.collect(), self.here.clone());
            state.announcer = Some(announcer.map_err(VipError::kernel("announcing the virtual addresses"))?);
            state.announced += 1;
            tracing::info!(
                addresses = self.addresses.len(),
                "virtual addresses are here, and announced"
            );
        }
        Ok(())
    }

    /// Takes the addresses off the devices and keeps them to this host, for connections that are open, for this long.
    /// Afterwards the network does not find them here any more.
    ///
    /// # Errors
    /// When the kernel refuses; then they are taken off all the same, or vanish by themselves.
    pub fn set_aside(&self, time: Duration) -> Result<(), VipError> {
        if self.addresses.is_empty() {
            return Ok(());
        }
        let mut state = self.state();
        // First of all, and waited for: nothing is said any more.
        self.here.until(BootTime::default());
        state.announcer = None;
        let kept = self.keep(&mut state, time);
        self.take_all_off();
        state.vanishes = BootTime::default();
        kept
    }

    /// Prepares to pass clients on that come here after the addresses have gone. To be called before they go.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub(crate) fn ready(&self) -> Result<Ready, VipError> {
        let places = self.addresses.iter();
        let places = places.map(|(net, device)| (net.addr(), device.index, device.mac));
        Ready::new(places).map_err(VipError::kernel(
            "preparing to pass clients on to the next holder",
        ))
    }

    /// Passes on who comes here from now until that time to whoever announces the addresses. Nobody is answered here any
    /// more.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(crate) fn usher(&self, ready: Ready, until: BootTime) -> Result<(), VipError> {
        let usher = ready.begin(until);
        self.state().usher = Some(usher.map_err(VipError::kernel("passing clients on to the next holder"))?);
        Ok(())
    }

    /// Takes the addresses off the devices, and from open connections.
    pub fn release(&self) {
        let mut state = self.state();
        self.here.until(BootTime::default());
        state.announcer = None;
        state.usher = None;
        self.take_all_off();
        self.end_aside(&mut state);
        state.vanishes = BootTime::default();
    }

    /// Ends what was set aside, once its time is over; says when to ask again.
    pub fn tend(&self) -> Option<Duration> {
        let mut state = self.state();
        let until = state.aside.as_ref()?.until;
        let remaining = until.remaining(BootTime::now());
        if remaining.is_none() {
            self.end_aside(&mut state);
        }
        remaining
    }

    /// The virtual addresses as they are now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let now = BootTime::now();
        Report {
            standing: match &self.reason {
                Some(reason) => Standing::without(reason, None),
                None => Standing::ACTIVE,
            },
            addresses: self
                .addresses
                .iter()
                .map(|(net, device)| format!("{net} at {}", device.name))
                .collect(),
            remaining: state.vanishes.remaining(now).unwrap_or_default(),
            set_aside: state
                .aside
                .as_ref()
                .and_then(|aside| aside.until.remaining(now))
                .unwrap_or_default(),
            announced: state.announced,
        }
    }

    /// The addresses themselves, each as a network of one.
    pub fn nets(&self) -> Vec<IpNet> {
        self.addresses.iter().map(|(net, _)| net.addr().into()).collect()
    }

    /// On `lo`, with the devices answering and asking for their own addresses alone.
    fn keep(&self, state: &mut State, time: Duration) -> Result<(), VipError> {
        let lo = loopback()?;
        let now = BootTime::now();
        let mut before = state.aside.take().map(|aside| aside.before).unwrap_or_default();
        for (net, device) in &self.addresses {
            if net.addr().is_ipv4() && !before.contains_key(&device.index) {
                let what = || format!("having {} answer for its own addresses alone", device.name);
                let own = netlink::arp_of(device.index).map_err(VipError::kernel(what()))?;
                let kept = Arp {
                    ignore: own.ignore.max(1),
                    announce: own.announce.max(2),
                };
                netlink::tell(&message::set_arp(device.index, kept)).map_err(VipError::kernel(what()))?;
                before.insert(device.index, own);
            }
        }
        state.aside = Some(Aside {
            until: now + time,
            before,
        });
        for (net, _) in &self.addresses {
            let alone = IpNet::from(net.addr());
            netlink::tell(&message::put(alone, lo, seconds(time), true))
                .map_err(VipError::kernel(format!("keeping {alone} to this host")))?;
        }
        for (net, _) in &self.addresses {
            settled::wait(net.addr(), "lo");
        }
        Ok(())
    }

    fn end_aside(&self, state: &mut State) {
        let Some(aside) = state.aside.take() else { return };
        if let Ok(lo) = loopback() {
            for (net, _) in &self.addresses {
                if let Err(error) = take_off(net.addr().into(), lo) {
                    tracing::warn!(%error, "an address that was set aside vanishes later");
                }
            }
        }
        for (device, own) in aside.before {
            if let Err(error) = netlink::tell(&message::set_arp(device, own)) {
                tracing::warn!(%error, device, "arp_ignore and arp_announce of a device stay as they were needed");
            }
        }
    }

    fn take_all_off(&self) {
        for (net, device) in &self.addresses {
            if let Err(error) = take_off(*net, device.index) {
                tracing::error!(%error, "a virtual address stays until the kernel removes it");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for VirtualIps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualIps").field(&self.report()).finish()
    }
}

fn loopback() -> Result<u32, VipError> {
    if_nametoindex("lo").map_err(|error| VipError::kernel("finding the loopback device")(error.into()))
}

/// Whole seconds, and never none: 0 would be for ever to some kernels, and an error to others.
fn seconds(time: Duration) -> u32 {
    let rounded = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(rounded)
        .unwrap_or(u32::MAX - 1)
        .clamp(1, u32::MAX - 1)
}

fn is_ours(found: &Found) -> bool {
    match found.proto {
        Some(proto) => proto == OURS,
        None => found.valid <= SHORT,
    }
}

fn take_off(net: IpNet, device: u32) -> Result<(), VipError> {
    match netlink::tell(&message::remove(net, device)) {
        Err(error) if matches!(error.raw_os_error(), Some(EADDRNOTAVAIL | EEXIST)) => Ok(()),
        other => other.map_err(VipError::kernel(format!("taking {net} off"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_rounded_up() {
        for (millis, expected) in [(0, 1), (1, 1), (850, 1), (1000, 1), (1001, 2), (600_000, 600)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected, "{millis}");
        }
    }

    #[test]
    fn ours_are_told_by_the_mark_or_by_a_short_life() {
        let found = |proto, valid| Found {
            net: "192.0.2.10/24".parse().unwrap(),
            device: 1,
            proto,
            valid,
        };
        assert!(is_ours(&found(Some(OURS), u32::MAX)));
        assert!(is_ours(&found(None, 2)));
        assert!(!is_ours(&found(None, u32::MAX)), "an operator's");
        assert!(!is_ours(&found(Some(3), 2)), "the kernel's own");
    }
}
