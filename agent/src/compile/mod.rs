//! Compile: the latest reading of every source, to the tables the data plane serves from.
//!
//! [`Compiler::compile`] is a function of the readings, the static configuration, the PEM files these name, and what it
//! made the last time; it knows no clock, no socket and no channel. What did not change is carried over: the same
//! `Arc<Router>`, `Arc<Service>` and `Arc<Endpoint>`, with the counters and connection pools that hang on them. An
//! object that can't be used is left out with a [`Problem`] that says why; it never hurts another one.
//!
//! One file per kind of object: [`transports`] -> [`services`] (with [`server`]) -> [`routers`] (with [`rules`]) and
//! [`tls`]. [`carry`] walks the new document beside the old one. [`starting()`] is what serves before the first compile.

mod carry;
mod names;
mod pem;
mod routers;
mod rules;
mod server;
mod services;
mod starting;
mod statics;
mod tls;
mod transports;

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use constellation_config::dynamic;
use constellation_dataplane::tls::TlsSpec;
use constellation_table::{Router, Service, Snapshot, Transport};

use self::carry::Previous;
use self::pem::PemFiles;
use self::routers::{RouterCompiler, RouterEntry};
use self::rules::RuleCache;
use self::services::{ServiceEntry, ServiceInput};
use self::tls::OptionNames;
use self::transports::TransportEntry;
use crate::report::DisabledRouter;
use crate::sources::{Contribution, Problem};

pub use self::starting::starting;
pub use self::statics::{EntryPointRules, Redirection, Statics};

/// What one compile gives.
#[derive(Debug)]
pub struct Compiled {
    /// Routers and services.
    pub snapshot: Snapshot,
    /// Certificates and TLS options.
    pub tls: TlsSpec,
    /// What could not be used, of the readings and of compile, ordered by subject.
    pub problems: Vec<Problem>,
    /// Routers that are defined and not served, by name.
    pub disabled: Vec<DisabledRouter>,
    /// Which routers came, went or changed since the last compile.
    pub changes: Changes,
}

impl Compiled {
    /// Adds what was found wrong when the result was put to use.
    pub fn add_problems(&mut self, more: impl IntoIterator<Item = Problem>) {
        self.problems.extend(more);
        self.problems
            .sort_by(|a, b| (&a.subject, &a.message).cmp(&(&b.subject, &b.message)));
        self.problems.dedup();
    }
}

/// Differences between two compiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Routers that are served now and were not before.
    pub added: Vec<Arc<str>>,
    /// Routers that were served before and are not now.
    pub removed: Vec<Arc<str>>,
    /// Routers that are served differently, for instance by other endpoints.
    pub changed: Vec<Arc<str>>,
    /// Whether a service changed, one without routers included.
    pub services: bool,
    /// Whether certificates or TLS options changed.
    pub tls: bool,
}

impl Changes {
    /// Whether both compiles serve exactly the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compiles, and remembers what it made so that the next compile costs only what changed.
#[derive(Debug)]
pub struct Compiler {
    statics: Statics,
    files: PemFiles,
    rules: RuleCache,
    redirections: Vec<Arc<Router>>,
    providers: Vec<ProviderEntries>,
    option_names: OptionNames,
    tls: TlsSpec,
    reread: bool,
}

/// What the last compile made of one source's reading; every list is in the order of the reading's map.
#[derive(Debug)]
struct ProviderEntries {
    contribution: Arc<Contribution>,
    transports: Vec<TransportEntry>,
    services: Vec<ServiceEntry>,
    routers: Vec<RouterEntry>,
}

impl Compiler {
    /// A compiler that has compiled nothing yet.
    pub fn new(statics: Statics) -> Self {
        let mut rules = RuleCache::default();
        let redirections = routers::redirections(&statics, &mut rules);
        Self {
            statics,
            files: PemFiles::default(),
            rules,
            redirections,
            providers: Vec::new(),
            option_names: OptionNames::default(),
            tls: TlsSpec::default(),
            reread: false,
        }
    }

    /// Makes the next compile read every file again and count as a change of TLS, as SIGHUP asks for.
    pub fn reread_files(&mut self) {
        self.files.forget();
        self.reread = true;
    }

    /// Compiles the latest reading of every source, one per provider, into the tables of generation `generation`.
    pub fn compile(&mut self, contributions: &[Arc<Contribution>], generation: u64) -> Compiled {
        if self.revised(contributions) {
            self.reread_files();
        }
        self.files.begin();
        let mut changes = Changes::default();
        let mut replaced = HashSet::new();
        let mut last = self.take_last(contributions, &mut changes, &mut replaced);

        let transports: Vec<Vec<TransportEntry>> = contributions
            .iter()
            .zip(&mut last)
            .map(|(contribution, last)| self.transports(contribution, last.as_mut()))
            .collect();
        let services: Vec<Vec<ServiceEntry>> = contributions
            .iter()
            .zip(&mut last)
            .map(|(contribution, last)| {
                self.services(
                    contribution,
                    last.as_mut(),
                    contributions,
                    &transports,
                    &mut replaced,
                )
            })
            .collect();
        changes.services = !replaced.is_empty();
        let option_names = OptionNames::of(contributions);
        let references = References {
            contributions,
            services: &services,
            by_name: OnceCell::new(),
            options: &option_names,
            same_options: option_names == self.option_names,
            replaced: &replaced,
        };
        let mut compiler = RouterCompiler::new(&self.statics, &mut self.rules);
        let routers: Vec<Vec<RouterEntry>> = contributions
            .iter()
            .zip(&mut last)
            .map(|(contribution, last)| {
                compile_routers(
                    &mut compiler,
                    contribution,
                    last.as_mut(),
                    &references,
                    &mut changes,
                )
            })
            .collect();

        self.option_names = option_names;
        self.providers = contributions
            .iter()
            .zip(transports)
            .zip(services)
            .zip(routers)
            .map(
                |(((contribution, transports), services), routers)| ProviderEntries {
                    contribution: contribution.clone(),
                    transports,
                    services,
                    routers,
                },
            )
            .collect();
        self.rules.sweep();
        self.finish(contributions, generation, changes)
    }

    /// Whether a source says that something its objects point at has changed.
    fn revised(&self, contributions: &[Arc<Contribution>]) -> bool {
        let last = |provider| {
            let mut last = self.providers.iter().map(|entries| &entries.contribution);
            last.find(|last| last.provider == provider)
        };
        contributions
            .iter()
            .any(|now| last(now.provider).is_some_and(|last| last.revision != now.revision))
    }

    /// What the last compile made of each provider in `contributions`; the rest is counted as gone.
    fn take_last(
        &mut self,
        contributions: &[Arc<Contribution>],
        changes: &mut Changes,
        replaced: &mut HashSet<Arc<str>>,
    ) -> Vec<Option<ProviderEntries>> {
        let mut last = std::mem::take(&mut self.providers);
        let taken = contributions
            .iter()
            .map(|contribution| {
                let position = last
                    .iter()
                    .position(|last| last.contribution.provider == contribution.provider)?;
                Some(last.swap_remove(position))
            })
            .collect();
        for gone in last {
            replaced.extend(gone.services.into_iter().map(|entry| entry.name));
            changes.removed.extend(
                gone.routers
                    .iter()
                    .filter(|r| r.outcome.is_ok())
                    .map(|r| r.name.clone()),
            );
        }
        taken
    }

    fn transports(
        &mut self,
        contribution: &Contribution,
        last: Option<&mut ProviderEntries>,
    ) -> Vec<TransportEntry> {
        let reading = last.as_ref().map(|last| last.contribution.clone());
        let mut previous = match (&reading, last) {
            (Some(reading), Some(last)) => Previous::new(
                &reading.dynamic.http.servers_transports,
                std::mem::take(&mut last.transports),
            ),
            _ => Previous::none(),
        };
        let definitions = contribution.dynamic.http.servers_transports.iter();
        definitions
            .map(|(name, definition)| {
                transports::compile(
                    contribution.provider,
                    name,
                    definition,
                    &self.statics.default_transport,
                    &mut self.files,
                    previous.take(name).map(|(_, entry)| entry).as_ref(),
                )
            })
            .collect()
    }

    /// Compiles the services of one reading. The names of services that came, went or became another object are added
    /// to `replaced`, so that the routers which refer to them follow.
    fn services(
        &self,
        contribution: &Arc<Contribution>,
        last: Option<&mut ProviderEntries>,
        contributions: &[Arc<Contribution>],
        transports: &[Vec<TransportEntry>],
        replaced: &mut HashSet<Arc<str>>,
    ) -> Vec<ServiceEntry> {
        let reading = last.as_ref().map(|last| last.contribution.clone());
        let mut previous = match (&reading, last) {
            (Some(reading), Some(last)) => {
                Previous::new(&reading.dynamic.http.services, std::mem::take(&mut last.services))
            }
            _ => Previous::none(),
        };
        let same_reading = reading
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, contribution));
        let old_origins = |name: &String| reading.as_ref().and_then(|last| last.origins.get(name));
        let definitions = contribution.dynamic.http.services.iter();
        let services = definitions
            .map(|(name, definition)| {
                let transport = self.transport(definition, contribution.provider, contributions, transports);
                let origins = contribution.origins.get(name);
                let old = match previous.take(name) {
                    Some((old, entry))
                        if entry.uses(&transport)
                            && (same_reading || (old == definition && old_origins(name) == origins)) =>
                    {
                        return entry;
                    }
                    old => old.map(|(_, entry)| entry),
                };
                let input = ServiceInput {
                    provider: contribution.provider,
                    name,
                    definition,
                    origins,
                    transport,
                    retry_after: self.statics.retry_after,
                };
                let entry = input.compile(old.as_ref());
                if !old.is_some_and(|old| old.is_same_object(&entry)) {
                    replaced.insert(entry.name.clone());
                }
                entry
            })
            .collect();
        replaced.extend(previous.finish().into_iter().map(|entry| entry.name));
        services
    }

    /// The transport that a service names, or the default one.
    fn transport(
        &self,
        definition: &dynamic::Service,
        provider: &str,
        contributions: &[Arc<Contribution>],
        transports: &[Vec<TransportEntry>],
    ) -> Result<Arc<Transport>, String> {
        let balancer = definition.load_balancer.as_ref();
        let reference = balancer.and_then(|balancer| balancer.servers_transport.as_deref());
        let Some(reference) = reference.filter(|reference| !reference.is_empty()) else {
            return Ok(self.statics.default_transport.clone());
        };
        let (name, owner) = names::split_reference(reference, provider);
        if (name, owner) == ("default", statics::INTERNAL) {
            return Ok(self.statics.default_transport.clone());
        }
        let qualified = names::qualify(name, owner);
        let mut entries = contributions
            .iter()
            .zip(transports)
            .filter(|(contribution, _)| contribution.provider == owner)
            .flat_map(|(_, entries)| entries);
        match entries.find(|entry| entry.name == qualified) {
            Some(entry) => entry.outcome.clone().map_err(|_| {
                format!("the serversTransport \"{qualified}\" can't be used: see its own problem")
            }),
            None => Err(format!(
                "there is no serversTransport \"{qualified}\": define it under http.serversTransports of the \
                 provider {owner:?}"
            )),
        }
    }

    /// Gathers what the providers' entries say into one result.
    fn finish(
        &mut self,
        contributions: &[Arc<Contribution>],
        generation: u64,
        mut changes: Changes,
    ) -> Compiled {
        let mut problems: Vec<Problem> = Vec::new();
        let mut disabled = Vec::new();
        let mut routers = self.redirections.clone();
        let mut services: Vec<Arc<Service>> = Vec::new();
        let mut served_tls = Vec::new();
        for provider in &self.providers {
            let contribution = &provider.contribution;
            problems.extend(contribution.problems.iter().cloned());
            for (section, present) in [
                ("tcp", contribution.dynamic.tcp.is_some()),
                ("udp", contribution.dynamic.udp.is_some()),
            ] {
                if present {
                    problems.push(Problem {
                        subject: format!("provider {}", contribution.provider),
                        message: format!(
                            "the section {section} is not served by this version: its routers and services are \
                             left out"
                        ),
                    });
                }
            }
            for entry in &provider.transports {
                let error = entry.outcome.as_ref().err();
                report(
                    &mut problems,
                    "serversTransport",
                    &entry.name,
                    error,
                    &entry.warnings,
                );
            }
            for entry in &provider.services {
                let error = entry.outcome.as_ref().err();
                report(&mut problems, "service", &entry.name, error, &entry.warnings);
                services.extend(entry.outcome.iter().cloned());
            }
            let definitions = contribution.dynamic.http.routers.values();
            for (entry, definition) in provider.routers.iter().zip(definitions) {
                let error = entry.outcome.as_ref().err().map(|disabled| &disabled.reason);
                report(&mut problems, "router", &entry.name, error, &entry.warnings);
                match &entry.outcome {
                    Ok(served) => {
                        routers.extend(served.iter().map(|served| served.router.clone()));
                        served_tls.extend(served.iter().filter(|served| served.router.spec.tls));
                    }
                    Err(error) => disabled.push(DisabledRouter {
                        name: entry.name.to_string(),
                        rule: definition.rule.clone(),
                        reason: error.reason.clone(),
                    }),
                }
            }
        }
        let tls = tls::gather(contributions, &served_tls, &self.statics, &mut problems);
        self.files.end();
        changes.tls = tls != self.tls || std::mem::take(&mut self.reread);
        self.tls = tls.clone();
        disabled.sort_by(|a, b| a.name.cmp(&b.name));
        let mut compiled = Compiled {
            snapshot: Snapshot::build(generation, self.statics.entry_points.len(), routers, services),
            tls,
            problems: Vec::new(),
            disabled,
            changes,
        };
        compiled.add_problems(problems);
        compiled
    }
}

fn report(problems: &mut Vec<Problem>, kind: &str, name: &str, error: Option<&String>, warnings: &[String]) {
    for message in error.into_iter().chain(warnings) {
        problems.push(Problem {
            subject: format!("{kind} {name}"),
            message: message.clone(),
        });
    }
}

/// Compiles the routers of one reading; an entry whose definition and references are the same is kept as it is.
fn compile_routers(
    compiler: &mut RouterCompiler<'_>,
    contribution: &Arc<Contribution>,
    last: Option<&mut ProviderEntries>,
    references: &References<'_>,
    changes: &mut Changes,
) -> Vec<RouterEntry> {
    let reading = last.as_ref().map(|last| last.contribution.clone());
    let mut previous = match (&reading, last) {
        (Some(reading), Some(last)) => {
            Previous::new(&reading.dynamic.http.routers, std::mem::take(&mut last.routers))
        }
        _ => Previous::none(),
    };
    let same_reading = reading
        .as_ref()
        .is_some_and(|last| Arc::ptr_eq(last, contribution));
    let definitions = contribution.dynamic.http.routers.iter();
    let entries = definitions
        .map(|(name, definition)| {
            let old = match previous.take(name) {
                Some((old, entry)) if references.same_for(&entry) && (same_reading || old == definition) => {
                    return entry;
                }
                old => old.map(|(_, entry)| entry),
            };
            let entry = compiler.compile(contribution.provider, name, definition, references, old.as_ref());
            let before = old.as_ref().and_then(|old| old.outcome.as_ref().ok());
            match (before, &entry.outcome) {
                (None, Ok(_)) => changes.added.push(entry.name.clone()),
                (Some(_), Err(_)) => changes.removed.push(entry.name.clone()),
                (Some(before), Ok(after)) if !routers::same_objects(before, after) => {
                    changes.changed.push(entry.name.clone());
                }
                _ => {}
            }
            entry
        })
        .collect();
    let gone = previous.finish().into_iter();
    changes
        .removed
        .extend(gone.filter(|entry| entry.outcome.is_ok()).map(|entry| entry.name));
    entries
}

/// What routers may refer to: the services and TLS options of every provider.
struct References<'a> {
    contributions: &'a [Arc<Contribution>],
    services: &'a [Vec<ServiceEntry>],
    /// Services by provider and local name; made when the first router asks.
    by_name: OnceCell<HashMap<(&'a str, &'a str), &'a ServiceEntry>>,
    options: &'a OptionNames,
    same_options: bool,
    /// Services that are not the object they were in the last compile.
    replaced: &'a HashSet<Arc<str>>,
}

impl References<'_> {
    /// Whether everything that the last compile of `entry` referred to is still the same.
    fn same_for(&self, entry: &RouterEntry) -> bool {
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

#[cfg(test)]
mod tests;
