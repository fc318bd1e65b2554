//! What routers may refer to, and whether it is what it was in the last compile.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use constellation_table::Service;

use super::routers::{self, RouterEntry};
use super::services::ServiceEntry;
use super::tls::OptionNames;
use crate::sources::Contribution;

/// What routers may refer to: the services and TLS options of every provider.
pub(super) struct References<'a> {
    pub(super) contributions: &'a [Arc<Contribution>],
    pub(super) services: &'a [Vec<ServiceEntry>],
    /// Services by provider and local name; made when the first router asks.
    pub(super) by_name: OnceCell<HashMap<(&'a str, &'a str), &'a ServiceEntry>>,
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
                    && (self.replaced.is_empty()
                        || served
                            .iter()
                            .all(|served| !served.service().is_some_and(|s| self.replaced.contains(&s.name))))
            }
        }
    }
}

impl routers::References for References<'_> {
    fn service(&self, name: &str, provider: &str) -> Result<Arc<Service>, String> {
        let by_name = self.by_name.get_or_init(|| {
            let pairs = self.contributions.iter().zip(self.services);
            pairs
                .flat_map(|(contribution, entries)| {
                    let names = contribution.dynamic.http.services.keys();
                    names
                        .zip(entries)
                        .map(|(name, entry)| ((contribution.provider, name.as_str()), entry))
                })
                .collect()
        });
        if let Some(entry) = by_name.get(&(provider, name)) {
            return entry
                .outcome
                .clone()
                .map_err(|error| format!("its service \"{}\" can't be used: {error}", entry.name));
        }
        let elsewhere = self
            .contributions
            .iter()
            .map(|contribution| contribution.provider)
            .find(|other| by_name.contains_key(&(*other, name)));
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

    fn tls_options(&self, name: &str, provider: &str) -> Result<Option<Arc<str>>, String> {
        self.options.resolve(name, provider)
    }
}
