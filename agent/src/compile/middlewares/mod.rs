//! Middlewares: from definitions to what routers run.
//!
//! One whose definition and service are the same as in the last compile stays the same object, and keeps what it has
//! counted. A `chain` is nothing at run time: whoever names it runs its members. One that can't be built disables the
//! routers that name it, because serving them without it could open what it closes.

mod access;
mod attempts;
mod chains;
mod content;
mod forward_auth;
mod kinds;
mod limit;
mod paths;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use constellation_config::dynamic;
use constellation_middleware::Middleware;
use constellation_table::Target;

use super::names;
use crate::sources::{Contribution, Problem};

/// What the last compile made of the middlewares of all providers.
#[derive(Debug, Default)]
pub(super) struct Middlewares {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Names that stand for something else than they did in the compile before.
    replaced: HashSet<Arc<str>>,
}

/// What compile made of one definition.
#[derive(Debug)]
struct Entry {
    definition: Arc<dynamic::Middleware>,
    /// The service that it needs, when it was built.
    service: Option<Target>,
    /// What routers run that name it: itself, or the members of a chain. Or why nobody can.
    outcome: Result<Vec<Arc<Middleware>>, String>,
    warnings: Vec<String>,
}

/// What middlewares need of what else was compiled.
pub(super) struct Around<'a> {
    /// The service called `name` of `provider`; the error says why there is none.
    pub(super) service: &'a dyn Fn(&str, &str) -> Result<Target, String>,
}

impl Middlewares {
    /// Compiles the definitions of all providers.
    pub(super) fn compile(&mut self, contributions: &[Arc<Contribution>], around: &Around<'_>) {
        let mut last = std::mem::take(&mut self.entries);
        let mut chains: Vec<(Arc<str>, &str, &Arc<dynamic::Middleware>)> = Vec::new();
        let mut before: BTreeMap<Arc<str>, Option<Vec<Arc<Middleware>>>> = BTreeMap::new();
        for contribution in contributions {
            for (name, definition) in &contribution.dynamic.http.middlewares {
                let qualified = names::qualify(name, contribution.provider);
                let old = last.remove(&qualified);
                let ran = old.as_ref().and_then(|old| old.outcome.clone().ok());
                before.insert(qualified.clone(), ran);
                if definition.kinds() == ["chain"] {
                    chains.push((qualified, contribution.provider, definition));
                    continue;
                }
                let entry = Entry::compile(&qualified, contribution.provider, definition, old, around);
                self.entries.insert(qualified, entry);
            }
        }
        chains::resolve(&chains, &mut self.entries);
        self.replaced = last.into_keys().collect();
        for (name, entry) in &self.entries {
            let same = match (before.get(name), &entry.outcome) {
                (Some(Some(before)), Ok(now)) => {
                    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| Arc::ptr_eq(a, b))
                }
                (Some(None), Err(_)) => true,
                _ => false,
            };
            if !same {
                self.replaced.insert(name.clone());
            }
        }
    }

    /// Whether none of these names stands for something else than in the compile before.
    pub(super) fn same_for(&self, names: &[Arc<str>]) -> bool {
        self.replaced.is_empty() || names.iter().all(|name| !self.replaced.contains(name))
    }

    /// What a router of `provider` runs that names these, in their order.
    pub(super) fn resolve(
        &self,
        references: &[String],
        provider: &str,
    ) -> Result<Vec<Arc<Middleware>>, String> {
        let mut found = Vec::with_capacity(references.len());
        for reference in references {
            found.extend(find(&self.entries, reference, provider)?.iter().cloned());
        }
        if found.len() > chains::MAX_MEMBERS {
            return Err(format!(
                "it runs {} middlewares, chains counted by their members: at most {} are possible",
                found.len(),
                chains::MAX_MEMBERS
            ));
        }
        Ok(found)
    }

    /// What is wrong with them.
    pub(super) fn report(&self, problems: &mut Vec<Problem>) {
        for (name, entry) in &self.entries {
            super::report(
                problems,
                "middleware",
                name,
                entry.outcome.as_ref().err(),
                &entry.warnings,
            );
        }
    }
}

/// What a reference stands for; the error says why it is nothing.
fn find<'e>(
    entries: &'e BTreeMap<Arc<str>, Entry>,
    reference: &str,
    provider: &str,
) -> Result<&'e [Arc<Middleware>], String> {
    let (name, owner) = names::split_reference(reference, provider);
    let qualified = names::qualify(name, owner);
    if let Some(entry) = entries.get(&qualified) {
        return match &entry.outcome {
            Ok(members) => Ok(members),
            Err(error) => Err(format!("its middleware \"{qualified}\" can't be used: {error}")),
        };
    }
    let elsewhere = entries
        .keys()
        .find(|key| key.rsplit_once('@').is_some_and(|(local, _)| local == name));
    Err(match elsewhere {
        Some(other) => format!(
            "there is no middleware \"{qualified}\", but there is \"{other}\": write that under middlewares"
        ),
        None => format!(
            "there is no middleware \"{qualified}\": define it in the provider {owner:?}, or write NAME@PROVIDER for \
             another provider's"
        ),
    })
}

impl Entry {
    /// Builds what is no chain; the same object as before where nothing has changed.
    fn compile(
        qualified: &Arc<str>,
        provider: &str,
        definition: &Arc<dynamic::Middleware>,
        old: Option<Self>,
        around: &Around<'_>,
    ) -> Self {
        let service = definition.errors.as_ref().map(|errors| {
            let (name, owner) = names::split_reference(&errors.service, provider);
            (around.service)(name, owner)
        });
        if let Some(old) = old
            && old.definition == *definition
            && old.outcome.is_ok()
            && old.service.as_ref() == service.as_ref().and_then(|service| service.as_ref().ok())
        {
            return Self {
                definition: definition.clone(),
                ..old
            };
        }
        let mut warnings = Vec::new();
        let mut entry = |service: Option<Target>| {
            let input = kinds::Input {
                name: qualified,
                service: service.as_ref(),
                warnings: &mut warnings,
            };
            input.build(definition).map(|kind| {
                vec![Arc::new(Middleware {
                    name: qualified.clone(),
                    kind,
                })]
            })
        };
        let (service, outcome) = match service {
            None => (None, entry(None)),
            Some(Ok(service)) => (Some(service.clone()), entry(Some(service))),
            Some(Err(error)) => (None, Err(error)),
        };
        Self {
            definition: definition.clone(),
            service,
            outcome,
            warnings,
        }
    }
}
