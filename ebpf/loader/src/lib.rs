//! Loads, attaches, pins and feeds the eBPF programs, and owns everything about them that outlives a process.
//!
//! [`Namespace`] finds the folder of this network namespace in the BPF file system, [`Lock`] makes one process its owner,
//! and with it [`Steering`], [`Guard`] and [`Chase`] are opened: what a process before left pinned is taken over, anything else is
//! made anew. All decisions about connections and packets are made by the programs; this crate only writes what they
//! read and reads what they count. [`probe`] tells what of it works here, [`status`] what is pinned, and [`detach`]
//! removes it all.
//!
//! Nothing here is asynchronous: every call is one or a few short system calls, except [`guard::Events`], which has a
//! descriptor to wait on.

mod capability;
pub mod chase;
mod cost;
mod error;
mod feature;
pub mod guard;
mod kernel;
mod layout;
mod lock;
mod maps;
mod namespace;
mod object;
mod pins;
mod probe;
mod status;
pub mod steering;
mod tc;

pub use capability::{Capability, missing_capabilities, missing_of};
pub use chase::Chase;
pub use constellation_boot_time::BootTime;
pub use constellation_ebpf_abi as abi;
pub use cost::Cost;
pub use error::Error;
pub use feature::Feature;
pub use guard::Guard;
pub use kernel::{Lookup, LookupOutcome};
pub use lock::Lock;
pub use namespace::Namespace;
pub use pins::{Origin, remove_orphans, remove_other_versions};
pub use probe::{Availability, Report, probe, probe_chase, probe_guard, probe_guard_xdp, probe_steering};
pub use status::{PinnedLink, PinnedMap, Status, detach, detach_without_lock, granted, has_pins, status};
pub use steering::Steering;
