//! Why something could not be done with the kernel, in words for the operator with the next step.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::capability::{Capability, missing_capabilities};

/// Why a call of this crate failed. What was pinned before stays as it was unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system that pins live in is not there.
    #[error("{} is not a BPF file system. Mount it: mount -t bpf bpf {}", .0.display(), .0.display())]
    NoBpfFileSystem(PathBuf),
    /// Another process owns the pins.
    #[error(
        "{} is locked by another process: another node runs in this network namespace. Stop it, or let it hand over \
         (`constellation upgrade`)", .0.display()
    )]
    Busy(PathBuf),
    /// A descriptor that was handed over is not the lock of this network namespace.
    #[error("the descriptor that was handed over is not the lock of {}", .0.display())]
    ForeignLock(PathBuf),
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel did not let us, and we know what we lack.
    #[error(
        "{what}: not permitted; this process lacks {}. Grant it (AmbientCapabilities= in the unit)",
        list(missing)
    )]
    Denied {
        /// What was tried.
        what: String,
        /// What the thread lacks of what the programs need.
        missing: Vec<Capability>,
    },
    /// The kernel refused.
    #[error("{what}: {reason}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer, with the verifier's log where it is one.
        reason: String,
        /// The error number, where there was one.
        errno: Option<i32>,
    },
    /// The embedded object lacks something: a fault of the build.
    #[error("the embedded eBPF object has no {0}. This binary was built wrong; report it")]
    Object(&'static str),
    /// A handle that only a probe has.
    #[error("this was loaded for a probe, which pins nothing")]
    Unpinned,
    /// A grant with an epoch lower than one given before.
    #[error(
        "a grant of epoch {given} came after one of epoch {held}: this process acts on an old lease. If the cluster was \
         made anew, remove what is left of the old one (`constellation ebpf detach`)"
    )]
    StaleEpoch {
        /// The epoch of this grant.
        given: u64,
        /// The highest epoch so far.
        held: u64,
    },
    /// A grant under the epochs of somebody who grants here no more.
    #[error(
        "a grant came under the epochs of a cluster, or of this host itself, that this node does not act for any more: the \
         grant is not written. If no change of clusters is under way, restart the node"
    )]
    OtherIssuer,
    /// An epoch for which there is no room.
    #[error("epoch {0} is beyond the last one that the kernel's map has room for, {last}", last = crate::steering::MAX_EPOCH)]
    EpochTooHigh(u64),
    /// Standing by while holding.
    #[error("this node is the holder, under epoch {0}: it has to let go before it stands by")]
    Held(u64),
    /// A destination beyond the map.
    #[error("destination {0} is beyond the last one, {last}", last = constellation_ebpf_abi::steer::MAX_DESTS - 1)]
    Destination(u32),
    /// More addresses than the map holds.
    #[error("{0} addresses and ports are more than the {max} that can be steered", max = constellation_ebpf_abi::steer::MAX_BINDS)]
    TooManyBinds(usize),
    /// One address twice, for different destinations.
    #[error("{0} is asked for two entry points. Remove it from one")]
    Contradiction(String),
    /// Nobody to give connections to.
    #[error("no listener for destination {0}: expected at least one socket")]
    NoListener(u32),
    /// A socket that can't get new connections.
    #[error(
        "a socket for destination {0} takes no new clients: a TCP socket has to listen, a UDP socket must not be connected"
    )]
    NotListening(u32),
    /// An allow list that the map can't hold, or a deny list.
    #[error("{net} does not fit: the list already holds {max} prefixes. Remove some, or join neighbours")]
    ListFull {
        /// The prefix that was too much.
        net: IpNet,
        /// The limit.
        max: u32,
    },
    /// More addresses moved than the map holds.
    #[error("{0} prefixes have moved here, more than the {max} that can be chased for. Join neighbours", max = constellation_ebpf_abi::chase::MAX_MOVED)]
    TooManyMoved(usize),
    /// A previous holder that is not at the network of any device.
    #[error(
        "{address} is not in the network of {}: a previous holder has to be a direct neighbour at a device that `edge_chase` \
         is attached to, by an address of its own", devices.join(", ")
    )]
    NoNeighbour {
        /// The previous holder.
        address: IpAddr,
        /// Where the program is attached, or `no device`.
        devices: Vec<String>,
    },
    /// An address that is in the networks of several devices.
    #[error("{address} is in the networks of {} alike: name the previous holder by another address", devices.join(" and "))]
    AmbiguousNeighbour {
        /// The previous holder.
        address: IpAddr,
        /// The devices.
        devices: Vec<String>,
    },
    /// An IPv6 address with a previous holder that is named by an IPv4 one.
    #[error(
        "{moved} is an IPv6 prefix and {previous} an IPv4 address: name its previous holder by an IPv6 address"
    )]
    OtherFamily {
        /// What moved.
        moved: IpNet,
        /// The previous holder.
        previous: IpAddr,
    },
    /// The previous holder is this node.
    #[error("{0} is this node's own address: expected one of the node that had the address before")]
    OwnAddress(IpAddr),
    /// A device that can't be chased at.
    #[error(
        "packets of {0} have no Ethernet header, so they can't be handed to a neighbour: name another device"
    )]
    NoEthernet(String),
    /// There is no such device.
    #[error("there is no network device `{0}` in this network namespace")]
    NoDevice(String),
}

impl Error {
    /// From whatever aya reports.
    pub(crate) fn kernel(what: impl Into<String>, error: &(dyn StdError + 'static)) -> Self {
        Self::new(what.into(), errno(error), error.to_string())
    }

    /// From a system call of our own.
    pub(crate) fn syscall(what: impl Into<String>, error: &io::Error) -> Self {
        Self::new(what.into(), error.raw_os_error(), error.to_string())
    }

    fn new(what: String, errno: Option<i32>, reason: String) -> Self {
        if matches!(errno, Some(nix::libc::EPERM | nix::libc::EACCES)) {
            let missing = missing_capabilities();
            if !missing.is_empty() {
                return Self::Denied { what, missing };
            }
        }
        Self::Kernel { what, reason, errno }
    }

    pub(crate) fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::File {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// The number of the innermost I/O error.
fn errno<'a>(error: &'a (dyn StdError + 'static)) -> Option<i32> {
    let next = |error: &&'a (dyn StdError + 'static)| {
        let error: &'a (dyn StdError + 'static) = *error;
        error.source()
    };
    std::iter::successors(Some(error), next)
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .find_map(io::Error::raw_os_error)
}

fn list(capabilities: &[Capability]) -> String {
    let names: Vec<_> = capabilities.iter().map(ToString::to_string).collect();
    names.join(", ")
}
