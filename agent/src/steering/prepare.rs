//! Whether steering works here, found out without a client noticing.

use std::sync::{Arc, Mutex};

use constellation_config::{Config, EntryPoint, SteeringMode};
use constellation_dataplane::tenure::Tenure;
use constellation_ebpf_loader as loader;
use constellation_ebpf_loader::Availability;

use super::stand_in::StandIn;
use super::{Authority, Shared, State, Steering, WHAT, WHAT_STANDS_IN};
use crate::cli::Failure;
use crate::kernel::{Kernel, Reason};

/// Finds out whether steering works here, as far as `edge.steering` asks for it. With [`Authority::Lease`] nobody is answered
/// before [`Steering::grant`], whether it does or not.
///
/// # Errors
/// When the configuration needs steering and it can't be had.
pub fn prepare(config: &Config, kernel: &Kernel, authority: Authority) -> Result<Steering, Failure> {
    let mode = config.edge.steering;
    let tenure = Tenure::default();
    let ordinary = |reason| State::Ordinary(Box::new(StandIn::new(reason, authority, tenure.clone())));
    let state = match mode {
        SteeringMode::Off => ordinary(Reason::Disabled("edge.steering is off")),
        SteeringMode::Auto | SteeringMode::Ebpf => match load(kernel) {
            Ok(steering) => State::Prepared(Box::new(steering)),
            Err(reason) => {
                required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who, WHAT)))?;
                if let Reason::Busy(_) = reason {
                    tracing::warn!(%reason, "steering is not used; addresses that the other node steers get nothing here");
                } else {
                    tracing::info!(%reason, "steering is not used: {WHAT_STANDS_IN}");
                }
                ordinary(reason)
            }
        },
    };
    Ok(Steering(Arc::new(Shared {
        kernel: kernel.clone(),
        mode,
        lease: config.edge.lease,
        tenure: tenure.clone(),
        authority: Mutex::new(authority),
        state: Mutex::new(state),
    })))
}

/// What in the configuration can't do without steering.
pub(super) fn required_by(config: &Config) -> Option<String> {
    if config.edge.steering == SteeringMode::Ebpf {
        return Some("edge.steering is ebpf".to_owned());
    }
    let with_prefix = |entry_point: &EntryPoint| {
        let prefix = entry_point.prefixes.first()?;
        Some(format!(
            "{} holds the network {prefix}",
            entry_point.address_key()
        ))
    };
    config.entry_points.iter().find_map(with_prefix)
}

/// Everything that can fail without a client noticing.
fn load(kernel: &Kernel) -> Result<loader::Steering, Reason> {
    let lock = kernel.claim()?;
    match loader::probe_steering(&lock) {
        Availability::Active => loader::Steering::open(&lock).map_err(Reason::of),
        unavailable => Err(Reason::Unavailable(unavailable)),
    }
}
