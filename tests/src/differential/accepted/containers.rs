//! Containers and the routers of their labels.

use super::{Accepted, received, received_header};
use crate::differential::case::Container;
use crate::differential::compare::Part;

/// The differences that are meant there.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "not ready",
        line: "a stopped, starting or unhealthy container loses its routes",
        meant: |pair, _| {
            let mut down = pair
                .case
                .containers
                .iter()
                .filter(|container| !container.is_ready());
            let names_a_service = |container: &Container| {
                let mut labels = container.labels.iter();
                labels
                    .any(|(name, _)| name.starts_with("traefik.http.routers.") && name.ends_with(".service"))
            };
            // There the route is gone, and another one may take the request.
            let elsewhere = !pair.theirs.received.is_empty() || pair.theirs.header("location").is_some();
            // With `allowEmptyServices` or `allownonrunning` it stays, without a server.
            let without = [404, 500, 503].map(Some).contains(&pair.theirs.status());
            let stays = pair.ours.status() == Some(503)
                && pair.ours.header("retry-after").is_some()
                && pair.ours.received.is_empty()
                && (elsewhere || without);
            // Its router may name the service of another container.
            let leads_on = pair.theirs.status() == Some(404) && pair.ours.status() != Some(404);
            down.any(|container| stays || leads_on && names_a_service(container))
        },
    },
    Accepted {
        name: "default router's mark",
        line: "a request that a router with the default rule has taken goes on with `X-Traefik-Router`",
        meant: |pair, part| {
            *part == received_header("x-traefik-router")
                && received(pair.theirs, "x-traefik-router").len() == 1
                && received(pair.ours, "x-traefik-router").is_empty()
        },
    },
    Accepted {
        name: "equal default rules",
        line: "routers of equal priority win at random",
        meant: |pair, part| {
            *part == Part::Backends
                && pair.case.subject.contains("docker")
                && pair.case.containers.len() > 1
                && received(pair.theirs, "x-traefik-router").len() == 1
                && pair.theirs.status() == pair.ours.status()
                && pair.ours.received.len() == 1
        },
    },
    Accepted {
        name: "unknown scheme",
        line: "a server whose scheme is none that the proxy speaks",
        meant: |pair, _| {
            let mut labels = pair
                .case
                .containers
                .iter()
                .flat_map(|container| &container.labels);
            labels.any(|(name, scheme)| name.ends_with(".server.scheme") && scheme == "gopher")
                && pair.theirs.status() == Some(500)
        },
    },
    Accepted {
        name: "port for both",
        line: "`useBindPortIP` takes by chance what is published for TCP or for UDP",
        meant: |pair, part| {
            let both = |container: &Container| {
                let mut ports = container.bound.iter().map(|(port, ..)| port);
                ports.any(|port| {
                    let other = match port.split_once('/') {
                        Some((number, "tcp")) => format!("{number}/udp"),
                        _ => return false,
                    };
                    container.bound.iter().any(|(port, ..)| *port == other)
                })
            };
            *part == Part::Backends && pair.case.containers.iter().any(both)
        },
    },
];
