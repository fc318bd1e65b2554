//! `/api/v1/routes`: every router, best first within its protocol, and those that are defined but not served.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use constellation_table::{
    Action, EntryPointId, Router, Service, Snapshot, Target, TcpMiddleware, TcpRouter, TcpTls, UdpRouter,
};
use serde::Serialize;

use super::ControlState;
use super::services::ready;
use crate::report::Report;
use crate::sources::Section;

#[derive(Debug, Serialize)]
pub(super) struct Routes {
    generation: u64,
    routes: Vec<Route>,
}

#[derive(Debug, Default, Serialize)]
struct Route {
    name: String,
    /// `http`, `tcp` or `udp`.
    protocol: &'static str,
    /// `enabled`, or `disabled` with a reason.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    rule: String,
    priority: Option<i64>,
    entry_points: Vec<Arc<str>>,
    tls: Option<bool>,
    /// The TLS goes to the server as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    passthrough: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    middlewares: Vec<Arc<str>>,
    service: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_to: Option<String>,
    /// What deserves a look although the router is served.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    endpoints: usize,
    ready_endpoints: usize,
}

/// How many routers a table serves.
pub(super) fn count(table: &Snapshot) -> usize {
    table.routers().len() + table.all_tcp_routers().len() + table.all_udp_routers().len()
}

impl Routes {
    pub(super) fn read(state: &ControlState) -> Self {
        let generation = state.published.load_full();
        let report = Arc::clone(&state.report.borrow());
        let disabled = report.disabled.iter().map(|disabled| Route {
            protocol: protocol_of(&disabled.name).name(),
            name: disabled.name.clone(),
            status: "disabled",
            reason: Some(disabled.reason.clone()),
            rule: disabled.rule.clone(),
            ..Route::default()
        });
        let table = &generation.table;
        let http = table.routers().iter().map(|router| Route::http(router, state));
        let tcp = table
            .all_tcp_routers()
            .iter()
            .map(|router| Route::tcp(router, state));
        let udp = table
            .all_udp_routers()
            .iter()
            .map(|router| Route::udp(router, state));
        let warnings = warnings(&report);
        let warned = |mut route: Route| {
            let of_it = warnings.get(route.name.as_str());
            route.warnings = of_it.cloned().unwrap_or_default();
            route
        };
        let served = http.chain(tcp).chain(udp).map(warned);
        Self {
            generation: table.generation(),
            routes: served.chain(disabled).collect(),
        }
    }
}

/// What was found about routers, by their names.
fn warnings(report: &Report) -> HashMap<&str, Vec<String>> {
    let mut warnings: HashMap<&str, Vec<String>> = HashMap::new();
    for problem in &report.problems {
        if let Some(name) = problem.subject.strip_prefix("router ") {
            warnings.entry(name).or_default().push(problem.message.clone());
        }
    }
    warnings
}

/// The section of an object, by its name among those of all sections.
fn protocol_of(name: &str) -> Section {
    let mut others = [Section::Tcp, Section::Udp].into_iter();
    let found = others.find(|section| name.starts_with(section.prefix()));
    found.unwrap_or(Section::Http)
}

impl Route {
    fn http(router: &Router, state: &ControlState) -> Self {
        let spec = &router.spec;
        let redirect_to = match &spec.action {
            Action::Redirect(redirect) => Some(redirect.port.map_or_else(
                || redirect.scheme.to_string(),
                |port| format!("{}:{port}", redirect.scheme),
            )),
            Action::Forward(_) => None,
        };
        Self {
            protocol: Section::Http.name(),
            rule: spec.rule.text().to_owned(),
            priority: Some(spec.priority),
            tls: Some(spec.tls),
            middlewares: spec
                .middlewares
                .as_ref()
                .map(|steps| steps.names())
                .unwrap_or_default(),
            redirect_to,
            ..Self::enabled(&spec.name, &spec.entry_points, router.target(), state)
        }
    }

    fn tcp(router: &TcpRouter, state: &ControlState) -> Self {
        let spec = &router.spec;
        let middlewares = spec.middlewares.iter().map(|middleware| match middleware {
            TcpMiddleware::IpAllowList(list) => Arc::clone(&list.name),
            TcpMiddleware::InFlightConn(limit) => Arc::clone(&limit.name),
        });
        Self {
            protocol: Section::Tcp.name(),
            rule: spec.rule.text().to_owned(),
            priority: Some(spec.priority),
            tls: Some(spec.tls.is_some()),
            passthrough: spec.tls == Some(TcpTls::Passthrough),
            middlewares: middlewares.collect(),
            ..Self::enabled(&spec.name, &spec.entry_points, Some(&spec.target), state)
        }
    }

    fn udp(router: &UdpRouter, state: &ControlState) -> Self {
        let spec = &router.spec;
        Self {
            protocol: Section::Udp.name(),
            ..Self::enabled(&spec.name, &spec.entry_points, Some(&spec.target), state)
        }
    }

    /// What routers of all protocols have.
    fn enabled(
        name: &str,
        entry_points: &[EntryPointId],
        target: Option<&Target>,
        state: &ControlState,
    ) -> Self {
        let now = Instant::now();
        let facts = |id: &EntryPointId| state.entry_points.get(usize::from(id.0));
        let entry_points = entry_points.iter().filter_map(facts);
        let services: Vec<&Arc<Service>> = target.map(Target::services).unwrap_or_default();
        Self {
            name: name.to_owned(),
            status: "enabled",
            entry_points: entry_points
                .map(|entry_point| Arc::clone(&entry_point.name))
                .collect(),
            service: target.map(|target| Arc::clone(target.name())),
            endpoints: services.iter().map(|service| service.endpoints.len()).sum(),
            ready_endpoints: services.iter().map(|service| ready(service, now)).sum(),
            ..Self::default()
        }
    }
}
