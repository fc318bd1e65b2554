//! Services and their endpoints; what did not change stays the same `Arc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic;
use constellation_table::{Endpoint, Service, ServiceSpec, Transport};

use super::names;
use super::server;
use crate::sources::ServerOrigin;

/// What compile made of one service definition.
#[derive(Debug)]
pub(super) struct ServiceEntry {
    /// The qualified name.
    pub(super) name: Arc<str>,
    /// The service, or why there is none.
    pub(super) outcome: Result<Arc<Service>, String>,
    /// What deserves a look although the service works.
    pub(super) warnings: Vec<String>,
}

impl ServiceEntry {
    /// Whether the service was built with `transport`. One that could not be built is worth another try.
    pub(super) fn uses(&self, transport: &Result<Arc<Transport>, String>) -> bool {
        match (&self.outcome, transport) {
            (Ok(service), Ok(transport)) => Arc::ptr_eq(&service.transport, transport),
            _ => false,
        }
    }

    /// Whether both stand for the same service object, or for the same reason that there is none.
    pub(super) fn is_same_object(&self, other: &Self) -> bool {
        match (&self.outcome, &other.outcome) {
            (Ok(a), Ok(b)) => Arc::ptr_eq(a, b),
            (Err(a), Err(b)) => a == b,
            _ => false,
        }
    }
}

/// One service definition with everything that shapes it.
pub(super) struct ServiceInput<'a> {
    pub(super) provider: &'a str,
    pub(super) name: &'a str,
    pub(super) definition: &'a dynamic::Service,
    pub(super) origins: Option<&'a BTreeMap<String, ServerOrigin>>,
    /// The transport it names, or the default one; an error names what is wrong with it.
    pub(super) transport: Result<Arc<Transport>, String>,
    pub(super) retry_after: u32,
}

impl ServiceInput<'_> {
    /// Builds the service. `previous` is the same-named entry of the last compile, whose endpoints and cursor go on.
    pub(super) fn compile(self, previous: Option<&ServiceEntry>) -> ServiceEntry {
        let qualified = previous.map_or_else(
            || names::qualify(self.name, self.provider),
            |entry| entry.name.clone(),
        );
        let mut warnings = Vec::new();
        let outcome = self.build(qualified.clone(), previous, &mut warnings);
        ServiceEntry {
            name: qualified,
            outcome,
            warnings,
        }
    }

    fn build(
        self,
        qualified: Arc<str>,
        previous: Option<&ServiceEntry>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Service>, String> {
        if let Some(refusal) = names::refusal(self.name) {
            return Err(refusal);
        }
        let balancer = load_balancer(self.definition)?;
        let transport = self.transport?;
        warn_of_unserved_options(balancer, warnings);
        let old = previous.and_then(|entry| entry.outcome.as_ref().ok());
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::with_capacity(balancer.servers.len());
        for server in &balancer.servers {
            let origin = self.origins.and_then(|origins| origins.get(&server.url));
            match server::endpoint(server, origin) {
                Ok(spec) => endpoints
                    .push(carried(old, endpoints.len(), &spec).unwrap_or_else(|| Endpoint::new(spec).into())),
                Err(error) => warnings.push(error),
            }
        }
        if endpoints.is_empty() && !balancer.servers.is_empty() {
            return Err(warnings.join("; "));
        }
        let pass_host_header = balancer.pass_host_header.unwrap_or(true);
        if let Some(old) = old
            && old.pass_host_header == pass_host_header
            && old.retry_after == self.retry_after
            && Arc::ptr_eq(&old.transport, &transport)
            && same_endpoints(&old.endpoints, &endpoints)
        {
            return Ok(old.clone());
        }
        let spec = ServiceSpec {
            name: qualified,
            endpoints,
            pass_host_header,
            transport,
            retry_after: self.retry_after,
            policy: Arc::default(),
        };
        Ok(Arc::new(Service::new(spec, old.map(AsRef::as_ref))))
    }
}

/// The endpoint of the last compile that `spec` describes; most often it stands at the same position.
fn carried(
    old: Option<&Arc<Service>>,
    position: usize,
    spec: &constellation_table::EndpointSpec,
) -> Option<Arc<Endpoint>> {
    let endpoints = &old?.endpoints;
    endpoints
        .get(position)
        .into_iter()
        .chain(endpoints)
        .find(|endpoint| endpoint.matches(spec))
        .cloned()
}

fn same_endpoints(old: &[Arc<Endpoint>], new: &[Arc<Endpoint>]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// The one kind of service that this version serves.
fn load_balancer(definition: &dynamic::Service) -> Result<&dynamic::LoadBalancer, String> {
    let kinds: Vec<&str> = [
        ("loadBalancer", definition.load_balancer.is_some()),
        ("weighted", definition.weighted.is_some()),
        ("highestRandomWeight", definition.highest_random_weight.is_some()),
        ("mirroring", definition.mirroring.is_some()),
        ("failover", definition.failover.is_some()),
    ]
    .into_iter()
    .filter_map(|(kind, present)| present.then_some(kind))
    .collect();
    match (kinds.as_slice(), &definition.load_balancer) {
        ([_], Some(balancer)) if definition.middlewares.is_empty() => Ok(balancer),
        ([_], Some(_)) => Err(format!(
            "it asks for the middlewares {}, which this version does not run: serving it without them could be \
             unsafe; remove them to have it served",
            definition.middlewares.join(", ")
        )),
        ([], _) => Err("it has no kind: write loadBalancer with its servers".to_owned()),
        ([kind], _) => Err(format!(
            "the kind {kind} is not served by this version: use loadBalancer with all servers in one list"
        )),
        (several, _) => Err(format!("it has several kinds ({}): keep one", several.join(", "))),
    }
}

/// Options that are read but change nothing yet. The service works without them, so it stays, and says so.
fn warn_of_unserved_options(balancer: &dynamic::LoadBalancer, warnings: &mut Vec<String>) {
    let mut warn = |option: &str, instead: &str| {
        warnings.push(format!(
            "the option loadBalancer.{option} is not served by this version: {instead}"
        ));
    };
    if balancer.sticky.is_some() {
        warn("sticky", "requests of one client go to all servers in turn");
    }
    if balancer.health_check.is_some() {
        warn(
            "healthCheck",
            "servers are not probed; a container counts as healthy by its own state",
        );
    }
    if balancer.passive_health_check.is_some() {
        warn("passiveHealthCheck", "a failing server stays in turn");
    }
    match balancer.strategy.as_deref() {
        None | Some("" | "wrr") => {}
        Some(other) => warn(
            "strategy",
            &format!("{other:?} was asked for, weighted round robin (wrr) is used"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use constellation_table::Condition;

    use super::*;

    fn of_servers(urls: &[&str]) -> dynamic::Service {
        let servers = urls.iter().map(|url| dynamic::Server {
            url: (*url).to_owned(),
            ..dynamic::Server::default()
        });
        dynamic::Service {
            load_balancer: Some(dynamic::LoadBalancer {
                servers: servers.collect(),
                ..dynamic::LoadBalancer::default()
            }),
            ..dynamic::Service::default()
        }
    }

    fn compile(
        definition: &dynamic::Service,
        origins: Option<&BTreeMap<String, ServerOrigin>>,
        transport: &Arc<Transport>,
        previous: Option<&ServiceEntry>,
    ) -> ServiceEntry {
        ServiceInput {
            provider: "docker",
            name: "a",
            definition,
            origins,
            transport: Ok(transport.clone()),
            retry_after: 5,
        }
        .compile(previous)
    }

    #[test]
    fn an_unchanged_service_is_the_same_object() {
        let transport = Arc::default();
        let definition = of_servers(&["http://a", "http://b"]);
        let first = compile(&definition, None, &transport, None);
        let second = compile(&definition, None, &transport, Some(&first));
        assert!(Arc::ptr_eq(
            first.outcome.as_ref().unwrap(),
            second.outcome.as_ref().unwrap()
        ));
        assert_eq!(&*second.name, "a@docker");
    }

    #[test]
    fn endpoints_outlive_a_change_of_their_neighbours() {
        let transport = Arc::default();
        let first = compile(&of_servers(&["http://a", "http://b"]), None, &transport, None);
        let second = compile(
            &of_servers(&["http://b", "http://c"]),
            None,
            &transport,
            Some(&first),
        );
        let (first, second) = (first.outcome.unwrap(), second.outcome.unwrap());
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first.endpoints[1], &second.endpoints[0]));
    }

    #[test]
    fn a_server_that_stops_stays_in_the_service_as_unavailable() {
        let transport = Arc::default();
        let definition = of_servers(&["http://a", "http://b"]);
        let first = compile(&definition, None, &transport, None);
        let stopped = ServerOrigin {
            name: "http://a".into(),
            condition: Condition::Unavailable("container exited (0)".into()),
        };
        let origins = BTreeMap::from([("http://a".to_owned(), stopped.clone())]);
        let second = compile(&definition, Some(&origins), &transport, Some(&first));
        let (first, second) = (first.outcome.unwrap(), second.outcome.unwrap());
        assert_eq!(second.endpoints.len(), 2);
        assert_eq!(second.endpoints[0].condition, stopped.condition);
        assert!(Arc::ptr_eq(&first.endpoints[1], &second.endpoints[1]));
    }

    #[test]
    fn a_bad_server_leaves_its_neighbours_and_is_named() {
        let entry = compile(&of_servers(&["http://a", "b:80"]), None, &Arc::default(), None);
        assert_eq!(entry.outcome.unwrap().endpoints.len(), 1);
        assert!(entry.warnings[0].contains("b:80"), "{:?}", entry.warnings);
        let entry = compile(&of_servers(&["b:80"]), None, &Arc::default(), None);
        assert!(entry.outcome.unwrap_err().contains("b:80"));
    }

    #[test]
    fn a_service_without_servers_exists() {
        let entry = compile(&of_servers(&[]), None, &Arc::default(), None);
        assert!(entry.outcome.unwrap().endpoints.is_empty());
    }

    #[test]
    fn unserved_kinds_say_so() {
        let value = Some(serde_json::Value::Null);
        let weighted = dynamic::Service {
            weighted: value.clone(),
            ..dynamic::Service::default()
        };
        let both = dynamic::Service {
            weighted: value,
            ..of_servers(&[])
        };
        let guarded = dynamic::Service {
            middlewares: vec!["auth".to_owned()],
            ..of_servers(&[])
        };
        for (definition, expected) in [
            (weighted, "weighted is not served"),
            (both, "several kinds (loadBalancer, weighted)"),
            (dynamic::Service::default(), "no kind"),
            (guarded, "middlewares auth"),
        ] {
            let error = compile(&definition, None, &Arc::default(), None)
                .outcome
                .unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn unserved_options_warn_and_the_service_stays() {
        let mut definition = of_servers(&["http://a"]);
        let balancer = definition.load_balancer.as_mut().unwrap();
        balancer.sticky = Some(serde_json::json!({"cookie": {}}));
        balancer.health_check = Some(serde_json::json!({"path": "/"}));
        balancer.passive_health_check = Some(serde_json::json!({}));
        balancer.strategy = Some("p2c".to_owned());
        let entry = compile(&definition, None, &Arc::default(), None);
        assert!(entry.outcome.is_ok());
        for (warning, option) in
            entry
                .warnings
                .iter()
                .zip(["sticky", "healthCheck", "passiveHealthCheck", "strategy"])
        {
            assert!(warning.contains(&format!("loadBalancer.{option} ")), "{warning}");
        }
        assert_eq!(entry.warnings.len(), 4);
    }
}
