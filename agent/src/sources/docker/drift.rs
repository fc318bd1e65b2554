//! Whether a line of the engine's container list contradicts what is known of the container.

use std::collections::BTreeMap;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};

use super::container::{Container, Health, State, addresses};

/// Compares what a list line says: state, health, name, addresses. Labels never change in a container's life.
pub(super) fn differs(known: &Container, listed: &ContainerSummary) -> bool {
    state_differs(known, listed) || name_differs(known, listed) || networks_differ(known, listed)
}

fn state_differs(known: &Container, listed: &ContainerSummary) -> bool {
    use ContainerSummaryStateEnum as Listed;
    let state = match &listed.state {
        Some(Listed::RUNNING) => matches!(known.state, State::Running),
        Some(Listed::PAUSED) => matches!(known.state, State::Paused),
        Some(Listed::RESTARTING) => matches!(known.state, State::Restarting),
        Some(Listed::EXITED) => matches!(known.state, State::Exited { .. }),
        Some(Listed::CREATED) => matches!(known.state, State::Created),
        Some(Listed::DEAD | Listed::REMOVING) => matches!(known.state, State::Dead),
        _ => true,
    };
    !state || (known.state == State::Running && health_differs(known, listed))
}

/// `Up 3 hours (healthy)`: the only place where engines of all versions list health.
fn health_differs(known: &Container, listed: &ContainerSummary) -> bool {
    let Some(status) = listed.status.as_deref() else {
        return false;
    };
    let health = if status.ends_with("(healthy)") {
        Health::Healthy
    } else if status.ends_with("(unhealthy)") {
        Health::Unhealthy
    } else if status.ends_with("(health: starting)") {
        Health::Starting
    } else {
        return false;
    };
    health != known.health
}

fn name_differs(known: &Container, listed: &ContainerSummary) -> bool {
    let mut names = listed
        .names
        .iter()
        .flatten()
        .map(|name| name.trim_start_matches('/'))
        .peekable();
    names.peek().is_some() && !names.any(|name| name == known.name)
}

fn networks_differ(known: &Container, listed: &ContainerSummary) -> bool {
    let networks = listed
        .network_settings
        .as_ref()
        .and_then(|settings| settings.networks.as_ref());
    match networks {
        Some(networks) if known.state == State::Running => {
            let listed: BTreeMap<_, _> = networks
                .iter()
                .map(|(name, network)| (name, addresses(network)))
                .collect();
            !listed
                .into_iter()
                .eq(known.networks.iter().map(|(name, known)| (name, *known)))
        }
        _ => false,
    }
}
