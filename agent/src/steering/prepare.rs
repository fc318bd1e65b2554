//! Whether steering works here, found out without a client noticing.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use constellation_config::{Config, EntryPoint, SteeringMode};
use constellation_ebpf_loader as kernel;
use constellation_ebpf_loader::{Availability, Error, Lock, Namespace};

use super::stand_in::{Reason, WHAT_STANDS_IN};
use super::{Shared, State, Steering};
use crate::cli::Failure;

/// Finds out whether steering works here, as far as `edge.steering` asks for it. `handed`: the lock that the process before
/// this one, or the service manager, has passed on.
///
/// # Errors
/// When the configuration needs steering and it can't be had.
pub fn prepare(config: &Config, handed: Option<OwnedFd>) -> Result<Steering, Failure> {
    let mode = config.edge.steering;
    let state = match mode {
        SteeringMode::Off => State::Ordinary(Reason::Disabled, leftover(handed)),
        SteeringMode::Auto | SteeringMode::Ebpf => match load(handed) {
            Ok((steering, lock)) => State::Prepared(Box::new(steering), lock),
            Err((reason, lock)) => {
                required_by(config).map_or(Ok(()), |who| Err(reason.refusal(&who)))?;
                if let Reason::Busy(_) = reason {
                    tracing::warn!(%reason, "steering is not used; addresses that the other node steers get nothing here");
                } else {
                    tracing::info!(%reason, "steering is not used: {WHAT_STANDS_IN}");
                }
                State::Ordinary(reason, lock)
            }
        },
    };
    Ok(Steering(Arc::new(Shared {
        mode,
        lease: config.edge.lease,
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

/// Everything that can fail without a client noticing. With the reason comes the lock, where there is something to clear
/// away with it.
fn load(handed: Option<OwnedFd>) -> Result<(kernel::Steering, Lock), (Reason, Option<Lock>)> {
    let missing = kernel::missing_capabilities();
    if !missing.is_empty() {
        return Err((
            Reason::Unavailable(Availability::Denied { missing }),
            leftover(handed),
        ));
    }
    let lock = Namespace::current()
        .and_then(|namespace| take(&namespace, handed))
        .map_err(|error| (Reason::of(error), None))?;
    let failed = |reason: Reason| (reason, has_pins(&lock).then(|| lock.clone()));
    match kernel::probe_steering(&lock) {
        Availability::Active => {}
        unavailable => return Err(failed(Reason::Unavailable(unavailable))),
    }
    let steering = kernel::Steering::open(&lock).map_err(|error| failed(Reason::of(error)))?;
    Ok((steering, lock))
}

/// The lock that was handed over, if it is the right one; else one of our own.
fn take(namespace: &Namespace, handed: Option<OwnedFd>) -> Result<Lock, Error> {
    match handed.map(|handed| Lock::inherit(namespace, handed)) {
        Some(Ok(lock)) => return Ok(lock),
        Some(Err(error)) => tracing::warn!(%error, "taking the lock anew"),
        None => {}
    }
    Lock::take(namespace)
}

/// The lock of a namespace in which an earlier process has left its program: it would refuse every client of ours. Nothing
/// when there is nothing, or when it is another node's.
fn leftover(handed: Option<OwnedFd>) -> Option<Lock> {
    let found = Namespace::find().and_then(|namespace| {
        let Some(namespace) = namespace else {
            return Ok(None);
        };
        take(&namespace, handed).map(Some)
    });
    match found {
        Ok(lock) => lock.filter(has_pins),
        Err(Error::Busy(_)) => None,
        Err(error) => {
            tracing::debug!(%error, "whether an earlier process has left a program can't be told");
            None
        }
    }
}

fn has_pins(lock: &Lock) -> bool {
    kernel::has_pins(lock.namespace()).unwrap_or_else(|error| {
        tracing::debug!(%error, "what is pinned can't be looked at");
        false
    })
}
