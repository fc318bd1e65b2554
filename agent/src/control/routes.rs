//! `/api/v1/routes`: every router, best first, and those that are defined but not served.

use std::sync::Arc;
use std::time::Instant;

use constellation_table::{Action, Router, Target};
use serde::Serialize;

use super::ControlState;
use super::services::ready;

#[derive(Debug, Serialize)]
pub(super) struct Routes {
    generation: u64,
    routes: Vec<Route>,
}

#[derive(Debug, Serialize)]
struct Route {
    name: String,
    /// `enabled`, or `disabled` with a reason.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    rule: String,
    priority: Option<i64>,
    entry_points: Vec<Arc<str>>,
    tls: Option<bool>,
    service: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_to: Option<String>,
    endpoints: usize,
    ready_endpoints: usize,
}

impl Routes {
    pub(super) fn read(state: &ControlState) -> Self {
        let generation = state.published.load_full();
        let report = Arc::clone(&state.report.borrow());
        let disabled = report.disabled.iter().map(|disabled| Route {
            name: disabled.name.clone(),
            status: "disabled",
            reason: Some(disabled.reason.clone()),
            rule: disabled.rule.clone(),
            priority: None,
            entry_points: Vec::new(),
            tls: None,
            service: None,
            redirect_to: None,
            endpoints: 0,
            ready_endpoints: 0,
        });
        let served = generation
            .table
            .routers()
            .iter()
            .map(|router| Route::of(router, state));
        Self {
            generation: generation.table.generation(),
            routes: served.chain(disabled).collect(),
        }
    }
}

impl Route {
    fn of(router: &Router, state: &ControlState) -> Self {
        let (spec, now) = (&router.spec, Instant::now());
        let name = |id: usize| {
            state
                .entry_points
                .get(id)
                .map(|entry_point| Arc::clone(&entry_point.name))
        };
        let services = router.target().map(Target::services).unwrap_or_default();
        let redirect_to = match &spec.action {
            Action::Redirect(redirect) => Some(redirect.port.map_or_else(
                || redirect.scheme.to_string(),
                |port| format!("{}:{port}", redirect.scheme),
            )),
            Action::Forward(_) => None,
        };
        let endpoints = || services.iter().flat_map(|service| &service.endpoints);
        Self {
            name: spec.name.to_string(),
            status: "enabled",
            reason: None,
            rule: spec.rule.text().to_owned(),
            priority: Some(spec.priority),
            entry_points: spec
                .entry_points
                .iter()
                .filter_map(|id| name(usize::from(id.0)))
                .collect(),
            tls: Some(spec.tls),
            service: router.target().map(|target| Arc::clone(target.name())),
            redirect_to,
            endpoints: endpoints().count(),
            ready_endpoints: services.iter().map(|service| ready(service, now)).sum(),
        }
    }
}
