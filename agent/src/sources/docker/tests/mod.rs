//! Tests of the pure part, from inspections to contributions, and of the engine against a scripted API.

mod address;
mod engine;
mod lifecycle;
mod merge;
mod options;
mod streams;
mod tls;

use std::collections::BTreeMap;

use bollard::models::ContainerInspectResponse;
use constellation_config::DockerProvider;
use constellation_table::Condition;
use serde_json::{Value, json};

use super::container::Container;
use super::inventory::{Grace, Inventory, Now};
use super::policy::Policy;
use crate::sources::Contribution;

/// Options under which every container is looked at.
fn provider() -> DockerProvider {
    DockerProvider {
        exposed_by_default: true,
        ..DockerProvider::default()
    }
}

/// What an engine says of a running container with port 80 in one network.
fn inspection(name: &str, address: &str, labels: &[(&str, &str)]) -> Value {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    json!({
        "Id": format!("id-{name}"),
        "Created": "2026-01-01T00:00:00Z",
        "Name": format!("/{name}"),
        "State": {"Status": "running", "Running": true},
        "Config": {"Labels": labels, "ExposedPorts": {"80/tcp": {}}},
        "HostConfig": {"NetworkMode": "front"},
        "NetworkSettings": {
            "Ports": {"80/tcp": null},
            "Networks": {"front": {"IPAddress": address}},
        },
    })
}

/// The same container, ended.
fn exited(mut inspection: Value, code: i64) -> Value {
    inspection["State"] =
        json!({"Status": "exited", "ExitCode": code, "FinishedAt": "2026-01-01T10:00:00.5Z"});
    inspection["NetworkSettings"]["Ports"] = json!({});
    for network in inspection["NetworkSettings"]["Networks"]
        .as_object_mut()
        .into_iter()
        .flat_map(|map| map.values_mut())
    {
        network["IPAddress"] = json!("");
    }
    inspection
}

fn container(inspection: Value) -> Container {
    let inspection: ContainerInspectResponse = serde_json::from_value(inspection).unwrap();
    Container::from_inspect(inspection).unwrap()
}

/// What these containers give together.
fn contribution(provider: &DockerProvider, inspections: Vec<Value>) -> Contribution {
    let policy = Policy::new(provider).unwrap();
    let mut inventory = Inventory::new(Grace::from(provider));
    let now = Now::read();
    for inspection in inspections {
        inventory.observe(container(inspection), now);
    }
    inventory.contribution(&policy, now)
}

/// `SERVICE URL` of every server, with the reason if it is unavailable.
fn servers(contribution: &Contribution) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, service) in &contribution.dynamic.http.services {
        for server in service
            .load_balancer
            .iter()
            .flat_map(|balancer| &balancer.servers)
        {
            let line = format!("{name} {}", server.url);
            lines.push(match &contribution.origins[name][&server.url].condition {
                Condition::Ready => line,
                Condition::Unavailable(reason) | Condition::Draining(reason) => format!("{line} ({reason})"),
            });
        }
    }
    lines
}

/// `ROUTER RULE -> SERVICE` of every router.
fn routers(contribution: &Contribution) -> Vec<String> {
    let routers = contribution.dynamic.http.routers.iter();
    routers
        .map(|(name, router)| format!("{name} {} -> {}", router.rule, router.service))
        .collect()
}

/// `SUBJECT: MESSAGE` of every problem.
fn problems(contribution: &Contribution) -> Vec<String> {
    let problems = contribution.problems.iter();
    problems
        .map(|problem| format!("{}: {}", problem.subject, problem.message))
        .collect()
}
