//! `POST /api/v1/services/{name}/endpoints/{endpoint}/drain` and `/undrain`: an operator takes an endpoint out of
//! service and back. Kept in memory: a restart of the node forgets it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, State};
use constellation_table::{Condition, Service};
use http::StatusCode;

use super::ControlState;
use super::problem::Problem;
use super::services::{EndpointView, find};
use crate::drains::{Drained, MAX_DRAINED};

/// How long a change may take to be in force; it is answered for in any case.
const PATIENCE: Duration = Duration::from_secs(5);

type Answer = Result<Json<EndpointView>, Problem>;

/// No new requests; what runs may finish.
pub(super) async fn drain(
    State(state): State<ControlState>,
    Path((service, endpoint)): Path<(String, String)>,
) -> Answer {
    let drained = named(&state, &service, &endpoint)?;
    if !state.drains.drain(drained.clone()) {
        let detail = format!("{MAX_DRAINED} endpoints are drained already; undrain some");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    tracing::info!(service = %drained.service, endpoint = %drained.endpoint, "drained by an operator");
    in_force(&state, &drained, true).await
}

/// Takes requests again, as far as nothing else speaks against it.
pub(super) async fn undrain(
    State(state): State<ControlState>,
    Path((service, endpoint)): Path<(String, String)>,
) -> Answer {
    let drained = named(&state, &service, &endpoint)?;
    if state.drains.undrain(&drained) {
        tracing::info!(service = %drained.service, endpoint = %drained.endpoint, "taken back by an operator");
    }
    in_force(&state, &drained, false).await
}

fn named(state: &ControlState, service: &str, endpoint: &str) -> Result<Drained, Problem> {
    let generation = state.published.load_full();
    let service = find(&generation.table, service)?;
    let Some(endpoint) = service.endpoints.iter().find(|e| *e.name == *endpoint) else {
        let names: Vec<&str> = service.endpoints.iter().map(|e| &*e.name).collect();
        let detail = format!(
            "the service {} has no endpoint {endpoint:?}; it has: {}",
            service.name,
            names.join(", ")
        );
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    Ok(Drained {
        service: service.name.clone(),
        endpoint: endpoint.name.clone(),
    })
}

/// Waits until a generation serves that knows of the change, and says how the endpoint stands then.
async fn in_force(state: &ControlState, drained: &Drained, wanted: bool) -> Answer {
    let mut report = state.report.clone();
    let published = report.wait_for(|_| {
        let service = state.published.load().table.service(&drained.service).cloned();
        service.is_none_or(|service| is_drained(&service, drained) == wanted || is_out(&service, drained))
    });
    // Too late or over: the answer says how it stands all the same.
    drop(tokio::time::timeout(PATIENCE, published).await);
    let generation = state.published.load_full();
    let service = find(&generation.table, &drained.service)?;
    let endpoint = service.endpoints.iter().find(|e| e.name == drained.endpoint);
    let endpoint =
        endpoint.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the endpoint has just left"))?;
    Ok(Json(EndpointView::of(
        service,
        endpoint,
        &state.drains.now(),
        Instant::now(),
    )))
}

fn is_drained(service: &Arc<Service>, drained: &Drained) -> bool {
    conditions(service, drained).any(|condition| matches!(condition, Condition::Draining(_)))
}

/// It takes no requests whether or not it is drained.
fn is_out(service: &Arc<Service>, drained: &Drained) -> bool {
    conditions(service, drained).all(|condition| matches!(condition, Condition::Unavailable(_)))
}

fn conditions<'s>(service: &'s Arc<Service>, drained: &'s Drained) -> impl Iterator<Item = &'s Condition> {
    let named = service.endpoints.iter().filter(|e| e.name == drained.endpoint);
    named.map(|endpoint| &endpoint.condition)
}
