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
        // An engine that doesn't say is asked.
        _ => false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::docker::container::Addresses;

    #[test]
    fn sees_what_an_event_would_have_told() {
        let known = Container {
            name: "web".to_owned(),
            state: State::Running,
            health: Health::Healthy,
            networks: BTreeMap::from([(
                "front".to_owned(),
                Addresses {
                    v4: Some([10, 0, 0, 1].into()),
                    v6: None,
                },
            )]),
            ..Container::default()
        };
        let networks = r#"{"Networks": {"front": {"IPAddress": "10.0.0.1"}}}"#;
        for (line, expected) in [
            (r#"{"State": "running", "Status": "Up 3 hours (healthy)", "Names": ["/web"]}"#.to_owned(), false),
            (r#"{"State": "running", "Status": "Up 4 hours (healthy)"}"#.to_owned(), false),
            (format!(r#"{{"State": "running", "NetworkSettings": {networks}}}"#), false),
            (r#"{"State": "running", "Status": "Up 3 hours (unhealthy)"}"#.to_owned(), true),
            (r#"{"State": "running", "Status": "Up 1 second (health: starting)"}"#.to_owned(), true),
            (r#"{"State": "exited", "Status": "Exited (0) 3 hours ago"}"#.to_owned(), true),
            (r#"{"State": "paused"}"#.to_owned(), true),
            (r#"{}"#.to_owned(), true),
            (r#"{"State": "running", "Names": ["/other"]}"#.to_owned(), true),
            (r#"{"State": "running", "Names": ["/db/alias", "/web"]}"#.to_owned(), false),
            (r#"{"State": "running", "NetworkSettings": {"Networks": {}}}"#.to_owned(), true),
            (
                r#"{"State": "running", "NetworkSettings": {"Networks": {"front": {"IPAddress": "10.0.0.2"}}}}"#
                    .to_owned(),
                true,
            ),
        ] {
            let listed: ContainerSummary = serde_json::from_str(&line).unwrap();
            assert_eq!(differs(&known, &listed), expected, "{line}");
        }
        let stopped = Container {
            state: State::Exited {
                code: Some(0),
                at: None,
            },
            ..known
        };
        let line = r#"{"State": "exited", "NetworkSettings": {"Networks": {"front": {"IPAddress": ""}}}}"#;
        let listed: ContainerSummary = serde_json::from_str(line).unwrap();
        assert!(
            !differs(&stopped, &listed),
            "a remembered address is no difference"
        );
    }
}
