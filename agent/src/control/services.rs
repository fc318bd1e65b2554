//! `/api/v1/services`: every service with its endpoints and whether they can serve.

use std::sync::Arc;

use constellation_table::{Condition, Endpoint, Scheme, Service, Snapshot};
use http::StatusCode;
use serde::Serialize;

use super::ControlState;
use super::problem::Problem;

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

#[derive(Debug, Serialize)]
struct EndpointView {
    name: Arc<str>,
    url: String,
    weight: u32,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Every service, by name.
pub(super) fn all(state: &ControlState) -> Vec<ServiceView> {
    let generation = state.published.load_full();
    generation
        .table
        .services()
        .iter()
        .map(|service| ServiceView::of(service, &state.facts.name))
        .collect()
}

/// One service by `NAME@PROVIDER`, or by `NAME` where only one provider has it.
pub(super) fn one(state: &ControlState, name: &str) -> Result<ServiceView, Problem> {
    let generation = state.published.load_full();
    let service = find(&generation.table, name)?;
    Ok(ServiceView::of(service, &state.facts.name))
}

fn find<'s>(table: &'s Snapshot, name: &str) -> Result<&'s Arc<Service>, Problem> {
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
    fn of(service: &Service, node: &str) -> Self {
        let endpoints: Vec<EndpointView> = service
            .endpoints
            .iter()
            .map(|endpoint| EndpointView::of(endpoint))
            .collect();
        let healthy = is_healthy(service);
        Self {
            service_name: Arc::clone(&service.name),
            instances: endpoints.len(),
            healthy_count: endpoints.iter().filter(|endpoint| endpoint.ready).count(),
            nodes: vec![ServiceOnNode {
                node_name: node.to_owned(),
                healthy,
                state: if healthy { "healthy" } else { "unhealthy" },
                checked_at: None,
                endpoints: endpoints.iter().map(|endpoint| endpoint.url.clone()).collect(),
                networks: Vec::new(),
            }],
            current_lease: None,
            pass_host_header: service.pass_host_header,
            servers_transport: Arc::clone(&service.transport.name),
            endpoints,
        }
    }
}

impl EndpointView {
    fn of(endpoint: &Endpoint) -> Self {
        Self {
            name: Arc::clone(&endpoint.name),
            url: url(endpoint),
            weight: endpoint.weight,
            ready: is_ready(endpoint),
            reason: match &endpoint.condition {
                Condition::Unavailable(reason) | Condition::Draining(reason) => Some(reason.to_string()),
                Condition::Ready if endpoint.weight == 0 => Some("its weight is 0".to_owned()),
                Condition::Ready => None,
            },
        }
    }
}

fn url(endpoint: &Endpoint) -> String {
    let scheme = match endpoint.scheme {
        Scheme::Http => "http",
        Scheme::H2c => "h2c",
        Scheme::Https => "https",
    };
    let Endpoint {
        host,
        port,
        base_path,
        ..
    } = endpoint;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_string()
    };
    format!("{scheme}://{host}:{port}{base_path}")
}

/// Whether an endpoint takes requests.
pub(super) fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.condition == Condition::Ready && endpoint.weight > 0
}

/// Whether any endpoint takes requests.
pub(super) fn is_healthy(service: &Service) -> bool {
    service.endpoints.iter().any(|endpoint| is_ready(endpoint))
}
