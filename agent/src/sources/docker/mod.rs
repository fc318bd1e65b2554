//! The Docker provider: containers and their labels to routes.
//!
//! Data moves one way: `engine` reads the containers, [`container`] keeps what matters of each, `inventory` remembers
//! them through stops and removals, `definition` turns each into routers and services by its [`labels`], `merge` makes
//! one [`super::Contribution`] of all, and `publication` sends it when it differs from the last. Everything between
//! the engine and the publication is pure.

mod address;
mod constraint;
pub mod container;
mod definition;
mod drift;
mod endpoint;
mod engine;
mod event;
mod failure;
mod inventory;
pub mod labels;
mod merge;
mod name;
mod policy;
mod template;
#[cfg(test)]
mod tests;
mod unverified;

use std::path::Path;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use constellation_config::DockerProvider;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use constraint::{Constraint, ConstraintError};
pub use policy::OptionError;
pub use template::{Model, Template, TemplateError};

use super::publication::Publication;
use super::{Reload, SourceHandle};
use engine::Engine;
use inventory::{Grace, Inventory};
use merge::PROVIDER;
use policy::Policy;

/// First and longest wait between attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// A connection that held this long resets the wait.
const STABLE: Duration = Duration::from_secs(30);

/// Checks the options that only this provider understands: default rule and constraints.
pub fn check(provider: &DockerProvider) -> Result<(), OptionError> {
    Policy::new(provider).map(drop)
}

/// Starts the provider. It runs, connected or not, until `cancel`.
pub fn spawn(provider: DockerProvider, cancel: CancellationToken) -> Result<SourceHandle, OptionError> {
    let policy = Policy::new(&provider)?;
    let (publication, state) = Publication::new(PROVIDER);
    let reload = Reload::default();
    let task = tokio::spawn({
        let reload = reload.clone();
        async move {
            let running = run(provider, policy, publication, reload);
            cancel.run_until_cancelled_owned(running).await;
        }
    });
    Ok(SourceHandle { state, reload, task })
}

async fn run(provider: DockerProvider, mut policy: Policy, mut publication: Publication, reload: Reload) {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(RETRY.0)
        .with_max_delay(RETRY.1)
        .with_jitter()
        .without_max_times();
    let mut inventory = Inventory::new(Grace::from(&provider));
    let mut waits = backoff.build();
    loop {
        let started = Instant::now();
        policy.host_address = host_address().await;
        let error = match Engine::connect(&provider).await {
            Ok(engine) => {
                let endpoint = engine.endpoint().to_string();
                if provider.endpoint == DockerProvider::DEFAULT_ENDPOINT && endpoint != provider.endpoint {
                    info!(%endpoint, "{} is missing; the rootless engine stands in", provider.endpoint);
                }
                info!(%endpoint, "connected to Docker");
                engine
                    .follow(&mut inventory, &policy, &mut publication, &reload)
                    .await
            }
            Err(error) => error,
        };
        publication.fail(error.to_string());
        if started.elapsed() >= STABLE {
            waits = backoff.build();
        }
        let wait = waits.next().unwrap_or(RETRY.1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = reload.requested() => {}
        }
    }
}

/// Where the ports of containers in the host's network are. From inside a container that is not loopback, and the
/// engine may have given the host a name; outside of one, such a name could only come from a foreign DNS.
async fn host_address() -> String {
    let inside = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    if inside {
        for name in ["host.docker.internal", "host.containers.internal"] {
            let lookup = tokio::time::timeout(Duration::from_secs(1), tokio::net::lookup_host((name, 0)));
            if let Ok(Ok(mut addresses)) = lookup.await
                && let Some(address) = addresses.next()
            {
                return address.ip().to_string();
            }
        }
    }
    "127.0.0.1".to_owned()
}
