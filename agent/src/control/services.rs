//! `/api/v1/services`: every service with its endpoints, whether they take requests, and what speaks against it.

use std::sync::Arc;
use std::time::Instant;

use constellation_table::{Endpoint, Exclusion, Service, Snapshot, Standing};
use http::StatusCode;
use serde::Serialize;

use super::ControlState;
use super::problem::Problem;
use crate::drains::{DrainSet, Drained};

/// One service. `nodes` and `current_lease` are what clients of a whole cluster know.
#[derive(Debug, Serialize)]
pub(super) struct ServiceView {
    service_name: Arc<str>,
    instances: usize,
    healthy_count: usize,
    nodes: Vec<ServiceOnNode>,
    current_lease: Option<()>,
    pass_host_header: bool,
    servers_transport: Arc<str>,
    /// Too few endpoints are healthy, so all that are there are used.
    panic: bool,
    endpoints: Vec<EndpointView>,
}

#[derive(Debug, Serialize)]
struct ServiceOnNode {
    node_name: String,
    healthy: bool,
    state: &'static str,
    checked_at: Option<String>,
    endpoints: Vec<String>,
    networks: Vec<String>,
}

/// One endpoint of a service.
#[derive(Debug, Serialize)]
pub(super) struct EndpointView {
    name: Arc<str>,
    url: String,
    weight: u32,
    /// It takes requests.
    ready: bool,
    /// `ready`, or the fact that keeps it from taking requests: `unavailable`, `draining`, `no-weight`, `check-failed`,
    /// `ejected`, `breaker-open`, `probation`.
    state: &'static str,
    /// Why it takes none, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// An operator has drained it.
    drained: bool,
    in_flight: u32,
    /// Moving average of the time to the head of its good answers.
    latency_seconds: Option<f64>,
    /// All that is known of it in one line.
    evidence: String,
    /// The same by fact, as `explain` gives it.
    standing: Standing,
}

/// Every service, by name.
pub(super) fn all(state: &ControlState) -> Vec<ServiceView> {
    let generation = state.published.load_full();
    generation
        .table
        .services()
        .iter()
        .map(|service| ServiceView::of(service, state))
        .collect()
}

/// One service by `NAME@PROVIDER`, or by `NAME` where only one provider has it.
pub(super) fn one(state: &ControlState, name: &str) -> Result<ServiceView, Problem> {
    let generation = state.published.load_full();
    let service = find(&generation.table, name)?;
    Ok(ServiceView::of(service, state))
}

pub(super) fn find<'s>(table: &'s Snapshot, name: &str) -> Result<&'s Arc<Service>, Problem> {
    if let Some(service) = table.services().iter().find(|service| *service.name == *name) {
        return Ok(service);
    }
    let unqualified = |service: &&Arc<Service>| {
        service
            .name
            .rsplit_once('@')
            .is_some_and(|(short, _)| short == name)
    };
    let found: Vec<_> = table.services().iter().filter(unqualified).collect();
    match found.as_slice() {
        [service] => Ok(service),
        [] => {
            let detail = format!("there is no service {name:?}; /api/v1/services lists all of them");
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|service| &*service.name).collect();
            let detail = format!(
                "several services are called {name:?}; say which one: {}",
                names.join(", ")
            );
            Err(Problem::new(StatusCode::NOT_FOUND, detail))
        }
    }
}

impl ServiceView {
    fn of(service: &Service, state: &ControlState) -> Self {
        let (drains, now) = (state.drains.now(), Instant::now());
        let endpoints: Vec<EndpointView> = service
            .endpoints
            .iter()
            .map(|endpoint| EndpointView::of(service, endpoint, &drains, now))
            .collect();
        let is_healthy = |endpoint: &&EndpointView| endpoint.ready && !endpoint.standing.panic;
        let healthy_count = endpoints.iter().filter(is_healthy).count();
        Self {
            service_name: Arc::clone(&service.name),
            instances: endpoints.len(),
            healthy_count,
            nodes: nodes(&state.facts.name, service, &endpoints),
            current_lease: None,
            pass_host_header: service.pass_host_header,
            servers_transport: Arc::clone(&service.transport.name),
            panic: service.view(now).is_panic(),
            endpoints,
        }
    }
}

/// This node with its own endpoints, and each that has the service as well.
fn nodes(own: &str, service: &Service, views: &[EndpointView]) -> Vec<ServiceOnNode> {
    let mut nodes: Vec<ServiceOnNode> = vec![ServiceOnNode::new(own)];
    for (endpoint, view) in service.endpoints.iter().zip(views) {
        let name = endpoint.peer.as_ref().map_or(own, |peer| &*peer.node);
        let known = nodes.iter().position(|node| node.node_name == name);
        let at = known.unwrap_or_else(|| {
            nodes.push(ServiceOnNode::new(name));
            nodes.len() - 1
        });
        if let Some(node) = nodes.get_mut(at) {
            node.endpoints.push(view.url.clone());
            if view.ready && !view.standing.panic {
                node.healthy = true;
                node.state = "healthy";
            }
        }
    }
    nodes
}

impl ServiceOnNode {
    fn new(name: &str) -> Self {
        Self {
            node_name: name.to_owned(),
            healthy: false,
            state: "unhealthy",
            checked_at: None,
            endpoints: Vec::new(),
            networks: Vec::new(),
        }
    }
}

impl EndpointView {
    pub(super) fn of(service: &Service, endpoint: &Endpoint, drains: &DrainSet, now: Instant) -> Self {
        let standing = service.standing(endpoint, now);
        let evidence = standing.to_string();
        // The text of the standing says more of a fact that was inferred than its name does.
        let reason = standing.excluded.map(|exclusion| match exclusion {
            Exclusion::CheckFailed | Exclusion::Ejected | Exclusion::BreakerOpen | Exclusion::Probation
                if !evidence.is_empty() =>
            {
                evidence.clone()
            }
            _ => exclusion.reason(endpoint).to_owned(),
        });
        let drained = Drained {
            service: service.name.clone(),
            endpoint: endpoint.name.clone(),
        };
        Self {
            name: Arc::clone(&endpoint.name),
            url: endpoint.url(),
            weight: endpoint.weight,
            ready: standing.excluded.is_none(),
            state: standing.excluded.map_or("ready", Exclusion::word),
            reason,
            drained: drains.contains(&drained),
            in_flight: standing.in_flight,
            latency_seconds: endpoint.live.latency().map(|latency| latency.as_secs_f64()),
            evidence,
            standing,
        }
    }
}

/// How many endpoints of a service take requests.
pub(super) fn ready(service: &Service, now: Instant) -> usize {
    service.view(now).usable().len()
}

/// Whether any endpoint takes requests.
pub(super) fn is_healthy(service: &Service, now: Instant) -> bool {
    ready(service, now) > 0
}
