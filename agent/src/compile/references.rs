//! What routers may refer to, and whether it is what it was in the last compile.

use std::collections::HashSet;
use std::sync::Arc;

use constellation_middleware::Middleware;
use constellation_table::Target;

use super::middlewares::Middlewares;
use super::names;
use super::routers::{self, RouterEntry};
use super::services::ServiceEntry;
use super::statics::INTERNAL;
use super::tls::OptionNames;
use crate::sources::Contribution;

/// What routers may refer to: the services and TLS options of every provider.
pub(super) struct References<'a> {
    pub(super) contributions: &'a [Arc<Contribution>],
    pub(super) services: &'a [Vec<ServiceEntry>],
    pub(super) middlewares: &'a Middlewares,
    pub(super) options: &'a OptionNames,
    pub(super) same_options: bool,
    /// Services that are not the object they were in the last compile.
    pub(super) replaced: &'a HashSet<Arc<str>>,
}

impl References<'_> {
    /// Whether everything that the last compile of `entry` referred to is still the same.
    pub(super) fn same_for(&self, entry: &RouterEntry) -> bool {
        match &entry.outcome {
            Err(disabled) => !disabled.depends_on_others,
            Ok(served) => {
                self.same_options
                    && self.middlewares.same_for(&entry.middlewares)
                    && (self.replaced.is_empty()
                        || served
                            .iter()
                            .all(|served| !served.target().is_some_and(|t| self.replaced.contains(t.name()))))
            }
        }
    }
}

impl routers::References for References<'_> {
    fn service(&self, name: &str, provider: &str) -> Result<Target, String> {
        service(self.contributions, self.services, name, provider)
    }

    fn middlewares(&self, references: &[String], provider: &str) -> Result<Vec<Arc<Middleware>>, String> {
        self.middlewares.resolve(references, provider)
    }

    fn middlewares_of_service(&self, name: &str, provider: &str) -> &[String] {
        middlewares_of(self.contributions, name, provider)
    }

    fn tls_options(&self, name: &str, provider: &str) -> Result<Option<Arc<str>>, String> {
        self.options.resolve(name, provider)
    }
}

/// What compile made of a service. The entries of a provider are in the order of the local names.
fn entry<'a>(
    contributions: &[Arc<Contribution>],
    services: &'a [Vec<ServiceEntry>],
    name: &str,
    provider: &str,
) -> Option<&'a ServiceEntry> {
    let mut readings = contributions.iter().zip(services);
    let (_, entries) = readings.find(|(contribution, _)| contribution.provider == provider)?;
    let found = entries.binary_search_by(|entry| names::local(&entry.name, provider).cmp(name));
    entries.get(found.ok()?)
}

/// The same for what uses a service other than as a router's own: its middlewares would not be run there, and serving it
/// without them could open what they close.
pub(super) fn bare_service(
    contributions: &[Arc<Contribution>],
    services: &[Vec<ServiceEntry>],
    name: &str,
    provider: &str,
) -> Result<Target, String> {
    let middlewares = middlewares_of(contributions, name, provider);
    if middlewares.is_empty() {
        return service(contributions, services, name, provider);
    }
    Err(format!(
        "the service \"{name}@{provider}\" has middlewares ({}), which run only where a router names the service itself: \
         move them to the router",
        middlewares.join(", ")
    ))
}

/// The middlewares that the definition of a service names.
fn middlewares_of<'a>(contributions: &'a [Arc<Contribution>], name: &str, provider: &str) -> &'a [String] {
    let mut readings = contributions.iter();
    let reading = readings.find(|contribution| contribution.provider == provider);
    let service = reading.and_then(|reading| reading.dynamic.http.services.get(name));
    service
        .map(|service| service.middlewares.as_slice())
        .unwrap_or_default()
}

/// The service called `name` of `provider`; the error says why there is none, or why it can't be used.
pub(super) fn service(
    contributions: &[Arc<Contribution>],
    services: &[Vec<ServiceEntry>],
    name: &str,
    provider: &str,
) -> Result<Target, String> {
    let of = |provider| entry(contributions, services, name, provider);
    if let Some(entry) = of(provider) {
        return entry
            .outcome
            .clone()
            .map_err(|error| format!("its service \"{}\" can't be used: {error}", entry.name));
    }
    if provider == INTERNAL {
        return Err(format!(
            "the service \"{name}@{provider}\" is Traefik's own and is not served by this version: health, metrics and \
             API are on the control address"
        ));
    }
    let elsewhere = contributions
        .iter()
        .map(|contribution| contribution.provider)
        .find(|other| of(other).is_some());
    Err(match elsewhere {
        Some(other) => format!(
            "there is no service \"{name}@{provider}\", but there is \"{name}@{other}\": write \
             service: {name}@{other}"
        ),
        None => format!(
            "there is no service \"{name}@{provider}\": define it in the provider {provider:?}, or write \
             NAME@PROVIDER for another provider's"
        ),
    })
}
