//! Which options of ours apply to which service: what its own provider says of it, and over that what other providers
//! say of `NAME@PROVIDER`.

use std::collections::HashMap;
use std::sync::Arc;

use constellation_config::dynamic::{Layered as _, ServiceOptions};

use super::names;
use crate::sources::{Contribution, Problem};

/// The options of all providers, by the service they are about.
pub(super) struct OptionsIndex<'a> {
    /// By provider and name; the provider's own first.
    by_service: HashMap<(&'a str, &'a str), Vec<&'a Arc<ServiceOptions>>>,
}

impl<'a> OptionsIndex<'a> {
    pub(super) fn of(contributions: &'a [Arc<Contribution>]) -> Self {
        let mut by_service: HashMap<_, Vec<_>> = HashMap::new();
        for contribution in contributions {
            for (reference, options) in &contribution.dynamic.constellation.http.services {
                let (name, owner) = names::split_reference(reference, contribution.provider);
                let layers = by_service.entry((owner, name)).or_default();
                if owner == contribution.provider {
                    layers.insert(0, options);
                } else {
                    layers.push(options);
                }
            }
        }
        Self { by_service }
    }

    /// What is said of a service; `None`: nothing.
    pub(super) fn about(&self, name: &'a str, provider: &'a str) -> Option<Arc<ServiceOptions>> {
        if self.by_service.is_empty() {
            return None;
        }
        let mut layers = self.by_service.get(&(provider, name))?.iter();
        let first = Arc::clone(layers.next()?);
        Some(layers.fold(first, |below, above| Arc::new(above.over(&below))))
    }
}

/// Options of services that don't exist, or that have no servers of their own to apply them to.
pub(super) fn without_effect(contributions: &[Arc<Contribution>], problems: &mut Vec<Problem>) {
    for contribution in contributions {
        for reference in contribution.dynamic.constellation.http.services.keys() {
            let (name, owner) = names::split_reference(reference, contribution.provider);
            let services = contributions
                .iter()
                .filter(|other| other.provider == owner)
                .find_map(|other| other.dynamic.http.services.get(name));
            let message = match services {
                Some(service) if service.load_balancer.is_some() => continue,
                Some(_) => format!(
                    "the service {name}@{owner} has no servers of its own, so these options have no effect: give them \
                     to the services it is built of"
                ),
                None => format!(
                    "there is no service {name}@{owner}, so these options have no effect: write the name as the \
                     service has it, or NAME@PROVIDER for another provider's"
                ),
            };
            problems.push(Problem {
                subject: format!("options of service {name}@{owner}"),
                message,
            });
        }
    }
}
