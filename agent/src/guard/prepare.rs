//! Whether the guard works here, found out without a client noticing; and what it takes from the configuration.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use constellation_config::{Config, GuardMode, Protocol};
use constellation_dataplane::gate::Gate;
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::{Availability, BootTime};
use ipnet::IpNet;

use super::book::Book;
use super::force::Loaded;
use super::lines::Lines;
use super::offenders::Offenders;
use super::store::Store;
use super::watch::Inbox;
use super::{Counts, Guard, OFF, Shared, Stage, State, WHAT, WHAT_STANDS_IN};
use crate::cli::{Exit, Failure};
use crate::kernel::{self, Kernel, Reason};

/// Finds out whether the guard works here, as far as `edge.guard.mode` asks for it.
///
/// # Errors
/// When the configuration needs it and it can't be had.
pub fn prepare(config: &Config, kernel: &Kernel) -> Result<Guard, Failure> {
    let guard = &config.edge.guard;
    let stage = match guard.mode {
        GuardMode::Off => Stage::Ordinary(Reason::Disabled(OFF)),
        GuardMode::Auto | GuardMode::Ebpf => match load(kernel) {
            Ok(loaded) => Stage::Prepared(Box::new(loaded)),
            Err(reason) if guard.mode == GuardMode::Ebpf => {
                return Err(reason.refusal("edge.guard.mode is ebpf", WHAT));
            }
            Err(reason) => {
                tracing::warn!(%reason, "the guard is not used: {WHAT_STANDS_IN}");
                Stage::Ordinary(reason)
            }
        },
    };
    let state = State {
        config: guard.clone(),
        ports: Vec::new(),
        stage,
        book: Book::default(),
        unwritten: false,
        unkept: None,
        trusted: trusted(config),
        offenders: Offenders::default(),
        events: VecDeque::new(),
        counts: Counts::default(),
        held: false,
        watching: false,
        next_look: BootTime::now(),
        next_write: BootTime::now(),
        lines: Lines::default(),
    };
    Ok(Guard(Arc::new(Shared {
        kernel: kernel.clone(),
        gate: Gate::default(),
        inbox: Arc::new(Inbox::new().map_err(|error| {
            let text =
                format!("cannot make a descriptor for the guard: {error}; check the limit on open files");
            Failure::new(Exit::System, text)
        })?),
        store: Mutex::new(Store::new(&config.node.data_dir)),
        state: Mutex::new(state),
    })))
}

/// Everything that can fail without a client noticing.
pub(super) fn load(kernel: &Kernel) -> Result<Loaded, Reason> {
    let lock = kernel.claim()?;
    match loader::probe_guard(&lock) {
        Availability::Active => {
            let guard = loader::Guard::open(&lock).map_err(Reason::of)?;
            let xdp = loader::probe_guard_xdp(&lock);
            Ok(Loaded { guard, xdp })
        }
        unavailable => Err(Reason::Unavailable(unavailable)),
    }
}

/// Networks whose members speak for others.
pub(super) fn trusted(config: &Config) -> Vec<IpNet> {
    let of_each = config.entry_points.iter().flat_map(|entry_point| {
        let forwarded = &entry_point.forwarded_headers.trusted_ips;
        forwarded.iter().chain(&entry_point.proxy_protocol.trusted_ips)
    });
    of_each.copied().collect()
}

/// The ports that clients come to: as configured, and as bound where any free one was asked for.
pub(super) fn ports(config: &Config, bound: &[(Arc<str>, SocketAddr)]) -> Vec<(Protocol, u16)> {
    let mut ports = config.edge.guard.ports.clone();
    if ports.is_empty() {
        ports = kernel::ports(&config.entry_points, bound);
        ports.sort_unstable_by_key(|(protocol, port)| (*protocol == Protocol::Udp, *port));
        ports.dedup();
    }
    ports
}
