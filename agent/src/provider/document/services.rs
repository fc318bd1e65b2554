//! HTTP services.

use std::collections::BTreeSet;

use constellation_config::dynamic::{self, OfServices, WeightedService};
use serde_json::Value;

use super::balancer::{self, Balancer, Written};
use super::names::Names;
use super::object::{Object, check_key};
use super::transports::Transports;
use super::{Draft, Objects, Whereabouts, names_of};
use crate::sources::Section;

/// Behind the name of a service whose instances here have a name of their own.
const HERE: &str = "-here";
/// Behind the name of this node as the server of a service.
const ELSEWHERE: &str = "-elsewhere";

/// The services that are in the document.
pub(super) struct Services {
    names: Names,
    pub(super) objects: Objects,
    /// Those that Traefik itself checks.
    checked: BTreeSet<String>,
}

impl Services {
    /// The presence of `healthCheck` in a service built of these, as far as it is asked for and has a meaning: Traefik
    /// refuses the service where one of them is not checked.
    fn health<'r>(
        &self,
        asked: Option<&OfServices>,
        parts: impl IntoIterator<Item = &'r str>,
    ) -> Option<Object> {
        asked?;
        parts
            .into_iter()
            .all(|part| self.checked.contains(part))
            .then(Object::default)
    }

    /// The bare name of a service that a document of `provider` names; `None`: it is not in the document.
    pub(super) fn resolve(&self, reference: &str, provider: &str) -> Option<&str> {
        let bare = self.names.resolve(reference, provider)?;
        self.objects.contains_key(bare).then_some(bare)
    }
}

pub(super) fn all(draft: &mut Draft<'_>, transports: &Transports) -> Services {
    let all = draft.each(|reading| &reading.dynamic.http.services);
    let mut services = Services {
        names: names_of(&all),
        objects: Objects::new(),
        checked: BTreeSet::new(),
    };
    let mut kinds = Vec::new();
    for (provider, name, service) in all {
        let outcome = check_key(name).and_then(|()| kind(service));
        match outcome {
            Err(reason) => draft.leave_out("service", provider, name, reason),
            Ok(None) => kinds.push((provider, name, service)),
            Ok(Some(definition)) => {
                let balancer = Balancer {
                    provider,
                    name,
                    definition,
                    whereabouts: Whereabouts::of(draft, provider, Section::Http, name),
                    terms: draft.terms,
                    transports,
                };
                match balancer.write() {
                    Ok(written) => services.add(provider, name, written),
                    Err(reason) => draft.leave_out("service", provider, name, reason),
                }
            }
        }
    }
    // Those that others are built of come first.
    loop {
        let before = kinds.len();
        kinds.retain(|(provider, name, service)| {
            match built(provider, name, service, &services) {
                Ok(Some(object)) => services.add(provider, name, Written::One(object)),
                // What can't be written is told of below.
                Ok(None) | Err(_) => return true,
            }
            false
        });
        if kinds.len() == before {
            break;
        }
    }
    for (provider, name, service) in kinds {
        let reason = built(provider, name, service, &services).err();
        let reason = reason
            .unwrap_or_else(|| "it is built of a service that is not in the document either".to_owned());
        draft.leave_out("service", provider, name, reason);
    }
    services
}

impl Services {
    fn add(&mut self, provider: &str, name: &str, written: Written) {
        let Some(bare) = self.names.bare(provider, name).map(str::to_owned) else {
            return;
        };
        let object = match written {
            Written::One(object) => object,
            Written::Checked(object) => {
                self.checked.insert(bare.clone());
                object
            }
            Written::Both { here, elsewhere } => {
                let main = self.names.free(&format!("{bare}{HERE}"));
                let fallback = self.names.free(&format!("{bare}{ELSEWHERE}"));
                let failover = Object::default()
                    .text("service", Some(&main))
                    .text("fallback", Some(&fallback));
                self.checked.insert(main.clone());
                self.objects.insert(main, here);
                self.objects.insert(fallback, elsewhere);
                Object::default().object("failover", Some(failover))
            }
        };
        self.objects.insert(bare, object);
    }
}

/// The servers of a service that has them; `None`: it is built of others.
fn kind(service: &dynamic::Service) -> Result<Option<&dynamic::LoadBalancer>, String> {
    let others = [
        service.weighted.is_some(),
        service.highest_random_weight.is_some(),
        service.mirroring.is_some(),
        service.failover.is_some(),
    ];
    let others = others.into_iter().filter(|there| *there).count();
    if !service.middlewares.is_empty() {
        return Err("middlewares of a service are not served: name them on its routers".to_owned());
    }
    match (&service.load_balancer, others) {
        (Some(balancer), 0) => Ok(Some(balancer)),
        (None, 1) => Ok(None),
        (None, 0) => Err("it has no kind: write loadBalancer with its servers".to_owned()),
        _ => Err("it has several kinds: keep one".to_owned()),
    }
}

/// A service that is built of others; `None`: one of them is not in the document.
fn built(
    provider: &str,
    name: &str,
    service: &dynamic::Service,
    services: &Services,
) -> Result<Option<Object>, String> {
    let resolve = |reference: &str| services.resolve(reference, provider);
    let qualified = format!("{name}@{provider}");
    let health_of = |parts: &[WeightedService], asked: Option<&OfServices>| {
        services.health(asked, parts.iter().filter_map(|part| resolve(&part.name)))
    };
    if let Some(weighted) = &service.weighted {
        let Some(parts) = weights(&weighted.services, &resolve) else {
            return Ok(None);
        };
        let weighted = Object::default()
            .list("services", parts)
            .object("sticky", balancer::sticky(weighted.sticky.as_ref(), &qualified))
            .presence(
                "healthCheck",
                health_of(&weighted.services, weighted.health_check.as_ref()),
            );
        return Ok(Some(Object::default().object("weighted", Some(weighted))));
    }
    if let Some(weighted) = &service.highest_random_weight {
        let Some(parts) = weights(&weighted.services, &resolve) else {
            return Ok(None);
        };
        let weighted = Object::default().list("services", parts).presence(
            "healthCheck",
            health_of(&weighted.services, weighted.health_check.as_ref()),
        );
        return Ok(Some(
            Object::default().object("highestRandomWeight", Some(weighted)),
        ));
    }
    if let Some(mirroring) = &service.mirroring {
        let mut mirrors = Vec::new();
        for mirror in &mirroring.mirrors {
            let Some(name) = resolve(&mirror.name) else {
                return Ok(None);
            };
            let mirror = Object::default()
                .text("name", Some(name))
                .number("percent", Some(mirror.percent));
            mirrors.push(Value::from(mirror));
        }
        let Some(main) = resolve(&mirroring.service) else {
            return Ok(None);
        };
        let object = Object::default()
            .text("service", Some(main))
            .flag("mirrorBody", mirroring.mirror_body)
            .number("maxBodySize", mirroring.max_body_size)
            .list("mirrors", mirrors)
            .presence(
                "healthCheck",
                services.health(mirroring.health_check.as_ref(), [main]),
            );
        return Ok(Some(Object::default().object("mirroring", Some(object))));
    }
    let Some(failover) = &service.failover else {
        return Err("it has no kind: write loadBalancer with its servers".to_owned());
    };
    let (Some(main), Some(fallback)) = (resolve(&failover.service), resolve(&failover.fallback)) else {
        return Ok(None);
    };
    let errors = failover.errors.as_ref().map(|errors| {
        Object::default()
            .number("maxRequestBodyBytes", errors.max_request_body_bytes)
            .texts("status", errors.status.iter().map(String::as_str))
    });
    let object = Object::default()
        .text("service", Some(main))
        .text("fallback", Some(fallback))
        .object("errors", errors)
        .presence(
            "healthCheck",
            services.health(failover.health_check.as_ref(), [main, fallback]),
        );
    Ok(Some(Object::default().object("failover", Some(object))))
}

/// Services with their shares; `None`: one of them is not in the document.
pub(super) fn weights<'r>(
    services: &[WeightedService],
    resolve: &impl Fn(&str) -> Option<&'r str>,
) -> Option<Vec<Value>> {
    let parts = services.iter().map(|part| {
        let object = Object::default()
            .text("name", Some(resolve(&part.name)?))
            .number("weight", part.weight);
        Some(Value::from(object))
    });
    parts.collect()
}
