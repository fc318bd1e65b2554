//! The paths and what answers them.

use std::time::SystemTime;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use constellation_dataplane::metrics;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::explain::{Question, QuestionError};
use super::guard::{guard, may_change};
use super::health::{Health, Overall};
use super::problem::{Problem, method_not_allowed, not_found};
use super::routes::Routes;
use super::status::Status;
use super::{ControlState, chase, cluster, drain, edge_guard, services, upgrade};

/// Everything that is served.
pub(super) fn router(state: ControlState) -> Router {
    let changes = Router::new()
        .route(
            "/api/v1/services/{name}/endpoints/{endpoint}/drain",
            post(drain::drain),
        )
        .route(
            "/api/v1/services/{name}/endpoints/{endpoint}/undrain",
            post(drain::undrain),
        )
        .route("/api/v1/guard/deny", post(edge_guard::deny))
        .route("/api/v1/guard/undeny", post(edge_guard::undeny))
        .route("/api/v1/guard/allow", post(edge_guard::allow))
        .route("/api/v1/guard/disallow", post(edge_guard::disallow))
        .route("/api/v1/guard/attack", post(edge_guard::attack))
        .route("/api/v1/chase/on", post(chase::on))
        .route("/api/v1/chase/off", post(chase::off))
        .layer(DefaultBodyLimit::max(edge_guard::MAX_BODY))
        .route("/api/v1/nodes/{name}/cordon", post(cluster::cordon))
        .route("/api/v1/nodes/{name}/drain", post(cluster::drain))
        .route("/api/v1/nodes/{name}/uncordon", post(cluster::uncordon))
        .route("/api/v1/nodes/{name}/remove", post(cluster::remove))
        .route("/api/v1/leases/{lease}/transfer", post(cluster::transfer))
        .route("/api/v1/tokens", post(cluster::token))
        .route("/api/v1/cluster/leave", post(cluster::leave))
        .route("/api/v1/cluster/rotate-gossip-key", post(cluster::rotate_gossip))
        .route(
            "/api/v1/cluster/renew-certificate",
            post(cluster::renew_certificate),
        )
        .route("/api/v1/upgrade", post(upgrade::upgrade))
        .route_layer(middleware::from_fn_with_state(state.clone(), may_change));
    Router::new()
        .merge(changes)
        .route("/health", get(ready))
        .route("/health/ready", get(ready))
        .route("/health/live", get(live))
        .route("/metrics", get(openmetrics))
        .route("/api/v1/health", get(ready))
        .route("/api/v1/status", get(status))
        .route("/api/v1/nodes", get(cluster::nodes))
        .route("/api/v1/nodes/{name}", get(cluster::node))
        .route("/api/v1/cluster", get(cluster::report))
        .route("/api/v1/raft/status", get(cluster::raft))
        .route("/api/v1/raft/leader", get(cluster::raft))
        .route("/api/v1/leases", get(cluster::leases))
        .route("/api/v1/chase", get(chase::show))
        .route("/api/v1/guard", get(edge_guard::show))
        .route("/api/v1/guard/lists", get(edge_guard::lists))
        .route("/api/v1/routes", get(routes))
        .route("/api/v1/services", get(all_services))
        .route("/api/v1/services/{name}", get(one_service))
        .route("/api/v1/explain", get(explain))
        .route("/api/v1/metrics", get(summary))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::map_response_with_state(state.clone(), add_headers))
        .layer(middleware::from_fn_with_state(state.clone(), guard))
        .with_state(state)
}

/// Whether a majority of the cluster stands behind what is said; not there on a node in no cluster.
const QUORUM: HeaderName = HeaderName::from_static("constellation-quorum");

/// What is said is true now and not later, and it is what its type says.
async fn add_headers(State(state): State<ControlState>, mut response: Response) -> Response {
    let headers: [(HeaderName, &'static str); 2] =
        [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    if let Some(node) = state.cluster.node() {
        let quorum = if *node.quorum().borrow() { "yes" } else { "no" };
        response
            .headers_mut()
            .insert(QUORUM, HeaderValue::from_static(quorum));
    }
    response
}

async fn live() -> Json<Health> {
    Json(Health::live(SystemTime::now()))
}

async fn ready(State(state): State<ControlState>) -> (StatusCode, Json<Health>) {
    let health = Health::ready(&state, SystemTime::now());
    let status = match health.status {
        Overall::Healthy | Overall::Degraded => StatusCode::OK,
        Overall::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health))
}

async fn openmetrics(State(state): State<ControlState>) -> Result<Response, Problem> {
    let text = metrics::encode(&state.registry).map_err(|_| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be encoded",
        )
    })?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

async fn status(State(state): State<ControlState>) -> Json<Status> {
    Json(Status::read(&state, SystemTime::now()))
}

async fn routes(State(state): State<ControlState>) -> Json<Routes> {
    Json(Routes::read(&state))
}

async fn all_services(State(state): State<ControlState>) -> Json<Vec<services::ServiceView>> {
    Json(services::all(&state))
}

async fn one_service(
    State(state): State<ControlState>,
    Path(name): Path<String>,
) -> Result<Json<services::ServiceView>, Problem> {
    services::one(&state, &name).map(Json)
}

async fn explain(
    State(state): State<ControlState>,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let bad_request = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(parameters) = query.map_err(|error| bad_request(error.to_string()))?;
    let refused = |error: QuestionError| bad_request(error.to_string());
    let question = Question::from_parameters(parameters).map_err(refused)?;
    let generation = state.published.load_full();
    let explanation = question
        .ask(&generation.table, &state.entry_points)
        .map_err(refused)?;
    Ok(Json(explanation).into_response())
}

/// The figures that a page or a script wants without a parser for metrics.
#[derive(Debug, Serialize)]
struct Summary {
    requests: u64,
    requests_in_flight: i64,
    open_connections: i64,
    generation: u64,
    routers: usize,
    services: usize,
    problems: usize,
    reload_failures: u64,
    timestamp: String,
}

async fn summary(State(state): State<ControlState>) -> Json<Summary> {
    let generation = state.published.load_full();
    let report = state.report.borrow().clone();
    Json(Summary {
        requests: state.metrics.requests(),
        requests_in_flight: state.metrics.in_flight(),
        open_connections: state.metrics.open_connections(),
        generation: generation.table.generation(),
        routers: super::routes::count(&generation.table),
        services: generation.table.services().len(),
        problems: report.problems.len(),
        reload_failures: report.failures,
        timestamp: super::rfc3339(SystemTime::now()),
    })
}
