//! Snapshots from a few words.
#![expect(
    clippy::expect_used,
    reason = "a malformed row of a test table fails the test"
)]
#![allow(
    dead_code,
    reason = "each test file that includes this module uses another part of it"
)]

use std::sync::Arc;

use constellation_table::{
    Action, Condition, Endpoint, EndpointSpec, EntryPointId, Locality, Policy, Reach, Redirect, Router,
    RouterSpec, Rule, Scheme, Service, ServiceSpec, Snapshot, Target,
};

/// An endpoint `http://NAME:80`; `down` is why it can't serve.
pub(crate) fn endpoint(name: &str, weight: u32, down: Option<&str>) -> Arc<Endpoint> {
    Arc::new(Endpoint::new(EndpointSpec {
        name: name.into(),
        scheme: Scheme::Http,
        host: name.into(),
        port: 80,
        base_path: "".into(),
        weight,
        condition: down.map_or(Condition::Ready, |reason| Condition::Unavailable(reason.into())),
        url_as_written: "".into(),
        locality: Default::default(),
        peer: None,
    }))
}

/// An endpoint of weight 1 on another node of the region, or farther away.
pub(crate) fn endpoint_at(name: &str, reach: Reach, priority: u32, down: bool) -> Arc<Endpoint> {
    let condition = if down {
        Condition::Unavailable("down".into())
    } else {
        Condition::Ready
    };
    Arc::new(Endpoint::new(EndpointSpec {
        name: name.into(),
        scheme: Scheme::Http,
        host: name.into(),
        port: 80,
        base_path: "".into(),
        weight: 1,
        condition,
        url_as_written: "".into(),
        locality: Locality { reach, priority },
        peer: None,
    }))
}

/// A service with these endpoints.
pub(crate) fn service(name: &str, endpoints: Vec<Arc<Endpoint>>) -> Arc<Service> {
    service_with(name, endpoints, Policy::default())
}

/// A service with these endpoints and this policy.
pub(crate) fn service_with(name: &str, endpoints: Vec<Arc<Endpoint>>, policy: Policy) -> Arc<Service> {
    let spec = ServiceSpec {
        name: name.into(),
        endpoints,
        pass_host_header: true,
        transport: Arc::default(),
        retry_after: 5,
        policy: Arc::new(policy),
    };
    Arc::new(Service::new(spec, None))
}

/// A router as a row of a table.
pub(crate) struct Row<'r> {
    pub(crate) name: &'r str,
    pub(crate) rule: &'r str,
    /// 0: the rule's length.
    pub(crate) priority: i64,
    pub(crate) entry_points: &'r [u16],
    pub(crate) tls: bool,
}

impl<'r> Row<'r> {
    /// Plain, on entry point 0, default priority.
    pub(crate) fn plain(name: &'r str, rule: &'r str) -> Self {
        Self {
            name,
            rule,
            priority: 0,
            entry_points: &[0],
            tls: false,
        }
    }

    /// The router, forwarding to `service`.
    pub(crate) fn forward(&self, service: &Arc<Service>) -> Arc<Router> {
        self.lead_to(service.clone().into())
    }

    /// The router, forwarding to `target`.
    pub(crate) fn lead_to(&self, target: Target) -> Arc<Router> {
        self.router(Action::Forward(target))
    }

    /// The router, redirecting to https.
    pub(crate) fn redirect(&self) -> Arc<Router> {
        self.router(Action::Redirect(Redirect {
            scheme: "https".into(),
            port: None,
            permanent: true,
        }))
    }

    fn router(&self, action: Action) -> Arc<Router> {
        let rule = Rule::parse_http(self.rule).expect("a valid rule");
        let length = i64::try_from(self.rule.len()).expect("a short rule");
        Arc::new(Router::new(RouterSpec {
            name: self.name.into(),
            entry_points: self.entry_points.iter().copied().map(EntryPointId).collect(),
            tls: self.tls,
            rule: Arc::new(rule),
            priority: if self.priority == 0 { length } else { self.priority },
            action,
            middlewares: None,
        }))
    }
}

/// A snapshot of these routers with two entry points.
pub(crate) fn snapshot(routers: Vec<Arc<Router>>) -> Snapshot {
    let mut services: Vec<_> = routers
        .iter()
        .filter_map(|router| router.target())
        .flat_map(Target::services)
        .cloned()
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services.dedup_by(|a, b| Arc::ptr_eq(a, b));
    Snapshot::build(1, 2, routers, services)
}
