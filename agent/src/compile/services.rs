//! Services and their endpoints; what did not change stays the same `Arc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::{self, Layered as _, ServiceOptions};
use constellation_table::{Endpoint, EndpointSpec, Policy, Service, ServiceSpec, Target, Transport};

use super::statics::Statics;
use super::{balancer, names, policy, server};
use crate::sources::ServerOrigin;

/// What compile made of one service definition.
#[derive(Debug)]
pub(super) struct ServiceEntry {
    /// The qualified name.
    pub(super) name: Arc<str>,
    /// The service, or why there is none.
    pub(super) outcome: Result<Target, String>,
    /// Whether it is built of other services.
    pub(super) is_kind: bool,
    /// What was said of it beside its definition.
    pub(super) options: Option<Arc<ServiceOptions>>,
    /// What deserves a look although the service works.
    pub(super) warnings: Vec<String>,
}

impl ServiceEntry {
    /// A kind that is still to be built; `previous` is what the last compile made of this name.
    pub(super) fn kind(provider: &str, name: &str, previous: Option<Self>) -> Self {
        let unbuilt = |name| Self {
            name,
            outcome: Err(String::new()),
            is_kind: true,
            options: None,
            warnings: Vec::new(),
        };
        match previous {
            Some(previous) if previous.is_kind => previous,
            Some(previous) => unbuilt(previous.name),
            None => unbuilt(names::qualify(name, provider)),
        }
    }

    /// The service with servers, if it is one.
    pub(super) fn service(&self) -> Option<&Arc<Service>> {
        self.outcome.as_ref().ok().and_then(Target::as_service)
    }

    /// Whether the service was built with `transport`. One that could not be built is worth another try.
    pub(super) fn uses(&self, transport: &Result<Arc<Transport>, String>) -> bool {
        match (self.service(), transport) {
            (Some(service), Ok(transport)) => Arc::ptr_eq(&service.transport, transport),
            _ => false,
        }
    }

    /// Whether both stand for the same service object, or for the same reason that there is none.
    pub(super) fn is_same_object(&self, other: &Self) -> bool {
        self.outcome == other.outcome
    }
}

/// Whether a service is built of others. One with several kinds, or none, is refused as a service with servers.
pub(super) fn is_kind(definition: &dynamic::Service) -> bool {
    matches!(kinds(definition).as_slice(), [only] if *only != "loadBalancer")
}

/// One service definition with everything that shapes it.
pub(super) struct ServiceInput<'a> {
    pub(super) provider: &'a str,
    pub(super) name: &'a str,
    pub(super) definition: &'a dynamic::Service,
    pub(super) origins: Option<&'a BTreeMap<String, ServerOrigin>>,
    /// The endpoints of other nodes.
    pub(super) peers: &'a [EndpointSpec],
    /// The transport it names, or the default one; an error names what is wrong with it.
    pub(super) transport: Result<Arc<Transport>, String>,
    /// What is said of it beside its definition.
    pub(super) options: Option<Arc<ServiceOptions>>,
    pub(super) statics: &'a Statics,
}

impl ServiceInput<'_> {
    /// Builds the service. `previous` is the same-named entry of the last compile, whose endpoints and cursor go on.
    pub(super) fn compile(self, previous: Option<&ServiceEntry>) -> ServiceEntry {
        let qualified = previous.map_or_else(
            || names::qualify(self.name, self.provider),
            |entry| entry.name.clone(),
        );
        let mut warnings = Vec::new();
        let options = self.options.clone();
        let outcome = self.build(qualified.clone(), previous, &mut warnings);
        ServiceEntry {
            name: qualified,
            outcome: outcome.map(Target::Service),
            is_kind: false,
            options,
            warnings,
        }
    }

    fn build(
        self,
        qualified: Arc<str>,
        previous: Option<&ServiceEntry>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Service>, String> {
        if let Some(refusal) = names::http_refusal(self.name) {
            return Err(refusal);
        }
        let balancer = load_balancer(self.definition)?;
        let old = previous.and_then(ServiceEntry::service);
        let endpoints = self.endpoints(balancer, old, warnings)?;
        let policy = self.policy(balancer, &qualified, old, warnings)?;
        let transport = self.transport?;
        let pass_host_header = balancer.pass_host_header.unwrap_or(true);
        let retry_after = self.statics.retry_after;
        if let Some(old) = old
            && old.pass_host_header == pass_host_header
            && old.retry_after == retry_after
            && Arc::ptr_eq(&old.transport, &transport)
            && Arc::ptr_eq(&old.policy, &policy)
            && same_endpoints(&old.endpoints, &endpoints)
        {
            return Ok(old.clone());
        }
        let spec = ServiceSpec {
            name: qualified,
            endpoints,
            pass_host_header,
            transport,
            retry_after,
            policy,
        };
        Ok(Arc::new(Service::new(spec, old.map(AsRef::as_ref))))
    }

    fn endpoints(
        &self,
        balancer: &dynamic::LoadBalancer,
        old: Option<&Arc<Service>>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Arc<Endpoint>>, String> {
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
        for spec in self.peers {
            let known = carried(old, endpoints.len(), spec);
            endpoints.push(known.unwrap_or_else(|| Endpoint::new(spec.clone()).into()));
        }
        Ok(endpoints)
    }

    /// What the service itself says over what Traefik's options say over the defaults; the same object while it is
    /// equal.
    fn policy(
        &self,
        balancer: &dynamic::LoadBalancer,
        qualified: &str,
        old: Option<&Arc<Service>>,
        warnings: &mut Vec<String>,
    ) -> Result<Arc<Policy>, String> {
        let traefik = balancer::options(balancer, warnings)?;
        let sticky = balancer::cookie(balancer.sticky.as_ref(), qualified, warnings);
        if self.options.is_none() && sticky.is_none() && traefik == ServiceOptions::default() {
            return Ok(self.statics.default_policy.clone());
        }
        let mut layers = self.options.as_deref().cloned().unwrap_or_default();
        if let Some(check) = &mut layers.health_check
            && (check.mode.is_some() || check.path.is_some())
        {
            check.enabled.get_or_insert(true);
        }
        let complete = layers.over(&traefik).over(&self.statics.service_defaults);
        let mut policy = policy::policy(&complete, warnings);
        policy.sticky = sticky;
        let known = [old.map(|old| &old.policy), Some(&self.statics.default_policy)];
        let known = known.into_iter().flatten().find(|known| ***known == policy);
        Ok(known.cloned().unwrap_or_else(|| Arc::new(policy)))
    }
}

/// The endpoint of the last compile that `spec` describes; most often it stands at the same position.
fn carried(old: Option<&Arc<Service>>, position: usize, spec: &EndpointSpec) -> Option<Arc<Endpoint>> {
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

/// The kinds that a definition has.
fn kinds(definition: &dynamic::Service) -> Vec<&'static str> {
    [
        ("loadBalancer", definition.load_balancer.is_some()),
        ("weighted", definition.weighted.is_some()),
        ("highestRandomWeight", definition.highest_random_weight.is_some()),
        ("mirroring", definition.mirroring.is_some()),
        ("failover", definition.failover.is_some()),
    ]
    .into_iter()
    .filter_map(|(kind, present)| present.then_some(kind))
    .collect()
}

/// The servers of a service that has nothing else.
fn load_balancer(definition: &dynamic::Service) -> Result<&dynamic::LoadBalancer, String> {
    let kinds = kinds(definition);
    if kinds.len() > 1 {
        return Err(format!("it has several kinds ({}): keep one", kinds.join(", ")));
    }
    definition
        .load_balancer
        .as_ref()
        .ok_or_else(|| "it has no kind: write loadBalancer with its servers".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use constellation_table::Condition;

    use super::*;

    static STATICS: LazyLock<Statics> =
        LazyLock::new(|| Statics::new(&constellation_config::Config::default(), &[]).unwrap());

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
            peers: &[],
            transport: Ok(transport.clone()),
            options: None,
            statics: &STATICS,
        }
        .compile(previous)
    }

    fn service(entry: &ServiceEntry) -> Arc<Service> {
        entry.service().unwrap().clone()
    }

    #[test]
    fn an_unchanged_service_is_the_same_object() {
        let transport = Arc::default();
        let definition = of_servers(&["http://a", "http://b"]);
        let first = compile(&definition, None, &transport, None);
        let second = compile(&definition, None, &transport, Some(&first));
        assert!(Arc::ptr_eq(&service(&first), &service(&second)));
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
        let (first, second) = (service(&first), service(&second));
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
        let (first, second) = (service(&first), service(&second));
        assert_eq!(second.endpoints.len(), 2);
        assert_eq!(second.endpoints[0].condition, stopped.condition);
        assert!(Arc::ptr_eq(&first.endpoints[1], &second.endpoints[1]));
    }

    #[test]
    fn a_bad_server_leaves_its_neighbours_and_is_named() {
        let entry = compile(&of_servers(&["http://a", "b:80"]), None, &Arc::default(), None);
        assert_eq!(service(&entry).endpoints.len(), 1);
        assert!(entry.warnings[0].contains("b:80"), "{:?}", entry.warnings);
        let entry = compile(&of_servers(&["b:80"]), None, &Arc::default(), None);
        assert!(entry.outcome.unwrap_err().contains("b:80"));
    }

    #[test]
    fn a_service_without_servers_exists() {
        let entry = compile(&of_servers(&[]), None, &Arc::default(), None);
        assert!(service(&entry).endpoints.is_empty());
    }

    #[test]
    fn what_is_no_service_says_so() {
        let weighted = Some(dynamic::Weighted::default());
        let both = dynamic::Service {
            weighted,
            ..of_servers(&[])
        };
        let mut unknown = of_servers(&["http://a"]);
        unknown.load_balancer.as_mut().unwrap().strategy = Some("foo".to_owned());
        for (definition, expected) in [
            (both, "several kinds (loadBalancer, weighted)"),
            (dynamic::Service::default(), "no kind"),
            (unknown, "unsupported load-balancer strategy \"foo\""),
        ] {
            assert!(!is_kind(&definition));
            let error = compile(&definition, None, &Arc::default(), None)
                .outcome
                .unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_default_policy_is_one_object_and_an_equal_one_is_kept() {
        let transport = Arc::default();
        let first = compile(&of_servers(&["http://a"]), None, &transport, None);
        assert_eq!(*service(&first).policy, Policy::default());
        let mut definition = of_servers(&["http://a"]);
        definition.load_balancer.as_mut().unwrap().strategy = Some("p2c".to_owned());
        let second = compile(&definition, None, &transport, Some(&first));
        let third = compile(&definition, None, &transport, Some(&second));
        assert_eq!(
            service(&second).policy.balance,
            constellation_table::policy::Balance::LeastRequests
        );
        assert!(Arc::ptr_eq(&service(&second), &service(&third)));
    }
}
