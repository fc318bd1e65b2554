//! Kinds of services that are built of others: `weighted`, `failover`, `mirroring`, `highestRandomWeight`.
//!
//! They refer to each other across providers, so they are built after all services with servers, from the leaves up.
//! One whose definition and parts are the same stays the same object.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use constellation_config::dynamic::{self, WeightedService};
use constellation_table::{
    Child, Definition, Failover, FailoverErrors, FailoverSpec, HighestRandomWeight, HighestRandomWeightSpec,
    Mirror, Mirroring, MirroringSpec, Target, TargetError, Weighted, WeightedSpec, nesting,
};

use super::references;
use super::services::ServiceEntry;
use super::{balancer, names};
use crate::sources::Contribution;

/// Heaviest weight that the schedule takes.
const MAX_WEIGHT: i64 = 1_000_000;

/// One definition that is built of other services.
struct Kind<'a> {
    provider: &'static str,
    name: &'a str,
    definition: &'a dynamic::Service,
    qualified: Arc<str>,
    /// Qualified names of what it is built of.
    uses: Vec<Arc<str>>,
    /// Its place among the entries.
    place: (usize, usize),
}

/// Builds all kinds in `services`, whose entries have what the last compile made of them. The names of those that
/// became another object are added to `replaced`.
pub(super) fn build(
    contributions: &[Arc<Contribution>],
    services: &mut [Vec<ServiceEntry>],
    replaced: &mut HashSet<Arc<str>>,
) {
    let kinds = find(contributions, services);
    if kinds.is_empty() {
        return;
    }
    let definitions: Vec<Definition<'_>> = kinds
        .iter()
        .map(|kind| Definition {
            name: &kind.qualified,
            uses: kind.uses.iter().map(AsRef::as_ref).collect(),
        })
        .collect();
    let nesting = nesting(&definitions);
    let by_name: HashMap<&str, &Kind<'_>> = kinds.iter().map(|kind| (&*kind.qualified, kind)).collect();
    // What can't be built goes first, so that what is built of it sees why.
    for (name, error) in &nesting.refused {
        if let Some(kind) = by_name.get(name) {
            kind.finish(services, Err(error.to_string()), Vec::new(), replaced);
        }
    }
    for name in &nesting.order {
        if let Some(kind) = by_name.get(name) {
            let mut warnings = Vec::new();
            let outcome = kind.build(contributions, services, &mut warnings);
            kind.finish(services, outcome, warnings, replaced);
        }
    }
}

fn find<'a>(contributions: &'a [Arc<Contribution>], services: &[Vec<ServiceEntry>]) -> Vec<Kind<'a>> {
    let mut kinds = Vec::new();
    for (provider, (contribution, entries)) in contributions.iter().zip(services).enumerate() {
        let definitions = contribution.dynamic.http.services.iter();
        for (position, ((name, definition), entry)) in definitions.zip(entries).enumerate() {
            if entry.is_kind {
                let references = references_of(definition).into_iter();
                let uses = references.map(|reference| {
                    let (name, owner) = names::split_reference(reference, contribution.provider);
                    names::qualify(name, owner)
                });
                kinds.push(Kind {
                    provider: contribution.provider,
                    name,
                    definition,
                    qualified: entry.name.clone(),
                    uses: uses.collect(),
                    place: (provider, position),
                });
            }
        }
    }
    kinds
}

/// What a definition refers to, as written.
fn references_of(definition: &dynamic::Service) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    if let Some(weighted) = &definition.weighted {
        found.extend(weighted.services.iter().map(|service| service.name.as_str()));
    }
    if let Some(hrw) = &definition.highest_random_weight {
        found.extend(hrw.services.iter().map(|service| service.name.as_str()));
    }
    if let Some(mirroring) = &definition.mirroring {
        found.push(&mirroring.service);
        found.extend(mirroring.mirrors.iter().map(|mirror| mirror.name.as_str()));
    }
    if let Some(failover) = &definition.failover {
        found.extend([failover.service.as_str(), failover.fallback.as_str()]);
    }
    found
}

impl Kind<'_> {
    /// Puts the outcome into the entry.
    fn finish(
        &self,
        services: &mut [Vec<ServiceEntry>],
        outcome: Result<Target, String>,
        warnings: Vec<String>,
        replaced: &mut HashSet<Arc<str>>,
    ) {
        let (provider, position) = self.place;
        let Some(entry) = services
            .get_mut(provider)
            .and_then(|entries| entries.get_mut(position))
        else {
            return;
        };
        if entry.outcome != outcome {
            replaced.insert(entry.name.clone());
        }
        entry.outcome = outcome;
        entry.warnings = warnings;
    }

    fn build(
        &self,
        contributions: &[Arc<Contribution>],
        services: &[Vec<ServiceEntry>],
        warnings: &mut Vec<String>,
    ) -> Result<Target, String> {
        if let Some(refusal) = names::http_refusal(self.name) {
            return Err(refusal);
        }
        let (provider, position) = self.place;
        let entry = services.get(provider).and_then(|entries| entries.get(position));
        let parts = Parts {
            provider: self.provider,
            contributions,
            services,
            previous: entry.and_then(|entry| entry.outcome.as_ref().ok()),
            name: self.qualified.clone(),
        };
        let definition = self.definition;
        if let Some(weighted) = &definition.weighted {
            parts.weighted(weighted, warnings)
        } else if let Some(hrw) = &definition.highest_random_weight {
            parts.highest_random_weight(hrw)
        } else if let Some(mirroring) = &definition.mirroring {
            parts.mirroring(mirroring)
        } else if let Some(failover) = &definition.failover {
            parts.failover(failover)
        } else {
            Err("it has no kind: write loadBalancer with its servers".to_owned())
        }
    }
}

/// What one kind is built from.
struct Parts<'a> {
    provider: &'static str,
    contributions: &'a [Arc<Contribution>],
    services: &'a [Vec<ServiceEntry>],
    /// What the last compile made of it.
    previous: Option<&'a Target>,
    name: Arc<str>,
}

impl Parts<'_> {
    fn target(&self, key: &str, reference: &str) -> Result<Target, String> {
        if reference.is_empty() {
            return Err(format!(
                "it names no service under {key}: write NAME, or NAME@PROVIDER for another provider's"
            ));
        }
        let (name, owner) = names::split_reference(reference, self.provider);
        references::bare_service(self.contributions, self.services, name, owner)
            .map_err(|error| format!("{key}: {error}"))
    }

    fn children(&self, services: &[WeightedService]) -> Result<Vec<Child>, String> {
        let child = |service: &WeightedService| {
            let weight = service.weight.unwrap_or(1);
            let target = self.target("services", &service.name)?;
            let fitting = u32::try_from(weight).ok().filter(|_| weight <= MAX_WEIGHT);
            Ok(Child {
                name: service.name.as_str().into(),
                target,
                weight: fitting.ok_or_else(|| {
                    format!(
                        "services: the weight {weight} of {} is out of range: write 0 to {MAX_WEIGHT}",
                        service.name
                    )
                })?,
            })
        };
        services.iter().map(child).collect()
    }

    fn weighted(&self, definition: &dynamic::Weighted, warnings: &mut Vec<String>) -> Result<Target, String> {
        let spec = WeightedSpec {
            name: self.name.clone(),
            children: self.children(&definition.services)?,
            sticky: balancer::cookie(definition.sticky.as_ref(), &self.name, warnings),
        };
        let previous = match self.previous {
            Some(Target::Weighted(previous)) if previous.spec == spec => {
                return Ok(Target::Weighted(previous.clone()));
            }
            Some(Target::Weighted(previous)) => Some(previous.as_ref()),
            _ => None,
        };
        built(Weighted::new(spec, previous), Target::Weighted)
    }

    fn highest_random_weight(&self, definition: &dynamic::HighestRandomWeight) -> Result<Target, String> {
        let spec = HighestRandomWeightSpec {
            name: self.name.clone(),
            children: self.children(&definition.services)?,
        };
        match self.previous {
            Some(Target::HighestRandomWeight(previous)) if previous.spec == spec => {
                Ok(Target::HighestRandomWeight(previous.clone()))
            }
            _ => built(HighestRandomWeight::new(spec), Target::HighestRandomWeight),
        }
    }

    fn mirroring(&self, definition: &dynamic::Mirroring) -> Result<Target, String> {
        let mirror = |mirror: &dynamic::Mirror| {
            let percent = u8::try_from(mirror.percent)
                .ok()
                .filter(|percent| *percent <= 100);
            Ok(Mirror {
                name: mirror.name.as_str().into(),
                target: self.target("mirrors", &mirror.name)?,
                percent: percent.ok_or_else(|| {
                    format!(
                        "mirrors: percent must be between 0 and 100, and that of {} is {}",
                        mirror.name, mirror.percent
                    )
                })?,
            })
        };
        let spec = MirroringSpec {
            name: self.name.clone(),
            main: self.target("service", &definition.service)?,
            mirrors: definition
                .mirrors
                .iter()
                .map(mirror)
                .collect::<Result<_, String>>()?,
            mirror_body: definition.mirror_body.unwrap_or(true),
            max_body_bytes: definition
                .max_body_size
                .and_then(|bytes| u64::try_from(bytes).ok()),
        };
        let previous = match self.previous {
            Some(Target::Mirroring(previous)) if previous.spec == spec => {
                return Ok(Target::Mirroring(previous.clone()));
            }
            Some(Target::Mirroring(previous)) => Some(previous.as_ref()),
            _ => None,
        };
        built(Mirroring::new(spec, previous), Target::Mirroring)
    }

    fn failover(&self, definition: &dynamic::Failover) -> Result<Target, String> {
        let errors = definition.errors.as_ref().map(errors).transpose()?;
        let spec = FailoverSpec {
            name: self.name.clone(),
            main: self.target("service", &definition.service)?,
            fallback: self.target("fallback", &definition.fallback)?,
            errors,
        };
        match self.previous {
            Some(Target::Failover(previous)) if previous.spec == spec => {
                Ok(Target::Failover(previous.clone()))
            }
            _ => built(Failover::new(spec), Target::Failover),
        }
    }
}

fn built<T>(object: Result<T, TargetError>, target: fn(Arc<T>) -> Target) -> Result<Target, String> {
    object
        .map(|object| target(Arc::new(object)))
        .map_err(|error| error.to_string())
}

fn errors(definition: &dynamic::FailoverErrors) -> Result<FailoverErrors, String> {
    let statuses = definition.status.iter().map(|text| status_range(text));
    Ok(FailoverErrors {
        statuses: statuses.collect::<Result<_, _>>()?,
        max_request_body_bytes: definition
            .max_request_body_bytes
            .and_then(|bytes| u64::try_from(bytes).ok()),
    })
}

/// `503` or `500-599`.
fn status_range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| {
        let status: Option<u16> = text.trim().parse().ok();
        status.filter(|status| (100..=599).contains(status))
    };
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => Err(format!(
            "errors.status: {text:?} is not a status or a range of them: write 503 or 500-599"
        )),
    }
}
