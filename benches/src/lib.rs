//! What several benches measure on: tables of routes and requests of a given size and shape.
//!
//! The benches live in `benches/`, one file per question. Compile and publish belong to the agent's library.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use constellation_table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, RequestMeta, Router, RouterSpec, Rule,
    RuleError, Scheme, Service, ServiceSpec, Snapshot, Turn,
};
use http::HeaderMap;

/// The rule of host route `number`.
pub fn host_rule(number: usize) -> String {
    format!("Host(`app-{number}.example.test`) && PathPrefix(`/`)")
}

/// Host routes with one service of two endpoints each, 100 wildcard routes and 20 routes without a host.
pub fn routers(hosts: usize) -> Result<Vec<Arc<Router>>, RuleError> {
    let named = (0..hosts).map(|number| (format!("app-{number}@docker"), host_rule(number)));
    let wildcards = (0..100).map(|n| {
        (
            format!("wild-{n}@file"),
            format!("Host(`*.tenant-{n}.example.test`)"),
        )
    });
    let rest = (0..20).map(|n| (format!("rest-{n}@file"), format!("PathPrefix(`/shared/{n}`)")));
    named
        .chain(wildcards)
        .chain(rest)
        .map(|(name, rule)| router(&name, &rule))
        .collect()
}

/// A router on entry point 0 with a service of its own.
pub fn router(name: &str, rule: &str) -> Result<Arc<Router>, RuleError> {
    Ok(Arc::new(Router::new(RouterSpec {
        name: name.into(),
        entry_points: vec![EntryPointId(0)],
        tls: false,
        rule: Arc::new(Rule::parse_http(rule)?),
        priority: i64::try_from(rule.len()).unwrap_or(i64::MAX),
        action: Action::Forward(service(name).into()),
        middlewares: None,
    })))
}

fn service(name: &str) -> Arc<Service> {
    let endpoint = |port| {
        Arc::new(Endpoint::new(EndpointSpec {
            name: name.into(),
            scheme: Scheme::Http,
            host: "127.0.0.1".into(),
            port,
            base_path: "".into(),
            weight: 1,
            condition: Condition::Ready,
            url_as_written: "".into(),
            locality: Default::default(),
            peer: None,
        }))
    };
    Arc::new(Service::new(
        ServiceSpec {
            name: name.into(),
            endpoints: vec![endpoint(8001), endpoint(8002)],
            pass_host_header: true,
            transport: Arc::default(),
            retry_after: 5,
            policy: Arc::default(),
        },
        None,
    ))
}

/// The snapshot of [`routers`].
pub fn snapshot(hosts: usize) -> Result<Snapshot, RuleError> {
    let routers = routers(hosts)?;
    let services = routers
        .iter()
        .filter_map(|router| router.service().cloned())
        .collect();
    Ok(Snapshot::build(1, 1, routers, services))
}

/// A GET from loopback that takes its turn.
pub fn request<'r>(host: &'r str, path: &'r str, headers: &'r HeaderMap) -> RequestMeta<'r> {
    RequestMeta {
        entry_point: EntryPointId(0),
        tls: false,
        method: "GET",
        host,
        path,
        query: "",
        headers,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        repeatable: true,
        now: std::time::Instant::now(),
        turn: Turn::Take,
    }
}
