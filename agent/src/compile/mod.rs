//! Compile: the latest reading of every source, to the tables the data plane serves from.
//!
//! [`Compiler::compile`] is a function of the readings, the static configuration, the PEM files these name, and what it
//! made the last time; it knows no clock, no socket and no channel. What did not change is carried over: the same
//! `Arc<Router>`, `Arc<Service>` and `Arc<Endpoint>`, with the counters and connection pools that hang on them. An
//! object that can't be used is left out with a [`Problem`] that says why; it never hurts another one.
//!
//! One file per kind of object: [`transports`] -> [`services`] (with [`server`], [`balancer`], [`options`] and
//! [`policy`]) -> [`kinds`] -> [`middlewares`] -> [`routers`] (with [`rules`]) and [`tls`]; [`streams`] for TCP and UDP. [`passes`] runs them over a reading with [`carry`], which walks the new document beside the old one.
//! [`starting()`] is what serves before the first compile.

mod balancer;
mod carry;
mod kinds;
mod middlewares;
mod names;
mod options;
mod passes;
mod pem;
mod policy;
mod references;
mod routers;
mod rules;
mod server;
mod services;
mod starting;
mod statics;
mod streams;
mod tls;
mod transports;

use std::collections::HashSet;
use std::sync::Arc;

use constellation_dataplane::tls::TlsSpec;
use constellation_table::{Router, Service, Snapshot};

use self::middlewares::{Around, Middlewares};
use self::options::OptionsIndex;
use self::passes::{Surroundings, compile_routers};
use self::pem::PemFiles;
use self::references::References;
use self::routers::{RouterCompiler, RouterEntry};
use self::rules::RuleCache;
use self::services::ServiceEntry;
use self::streams::{Streams, shadowed};
use self::tls::OptionNames;
use self::transports::TransportEntry;
use crate::report::DisabledRouter;
use crate::sources::{Contribution, Problem};

pub(crate) use self::balancer::cookie_name as cookie;
pub(crate) use self::server::endpoint;
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
    middlewares: Middlewares,
    option_names: OptionNames,
    tls: TlsSpec,
    reread: bool,
    streams: Streams,
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
            middlewares: Middlewares::default(),
            option_names: OptionNames::default(),
            tls: TlsSpec::default(),
            reread: false,
            streams: Streams::default(),
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
        let options = OptionsIndex::of(contributions);
        let mut services: Vec<Vec<ServiceEntry>> = contributions
            .iter()
            .zip(&mut last)
            .map(|(contribution, last)| {
                let surroundings = Surroundings {
                    contributions,
                    transports: &transports,
                    options: &options,
                };
                self.services(contribution, last.as_mut(), &surroundings, &mut replaced)
            })
            .collect();
        kinds::build(contributions, &mut services, &mut replaced);
        changes.services = !replaced.is_empty();
        let around = Around {
            service: &|name, provider| references::bare_service(contributions, &services, name, provider),
        };
        self.middlewares.compile(contributions, &around);
        let option_names = OptionNames::of(contributions);
        let references = References {
            contributions,
            services: &services,
            middlewares: &self.middlewares,
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

    /// Gathers what the providers' entries say into one result.
    fn finish(
        &mut self,
        contributions: &[Arc<Contribution>],
        generation: u64,
        mut changes: Changes,
    ) -> Compiled {
        let streams = self
            .streams
            .compile(
                contributions,
                &self.statics,
                &mut self.files,
                self.reread,
                &mut changes,
            )
            .clone();
        let mut problems: Vec<Problem> = Vec::new();
        let mut disabled = Vec::new();
        let mut routers = self.redirections.clone();
        let mut services: Vec<Arc<Service>> = Vec::new();
        let mut served_tls = Vec::new();
        for provider in &self.providers {
            let contribution = &provider.contribution;
            problems.extend(contribution.problems.iter().cloned());
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
                services.extend(entry.service().cloned());
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
        self.middlewares.report(&mut problems);
        options::without_effect(contributions, &mut problems);
        services.extend(streams.services);
        problems.extend(streams.problems);
        disabled.extend(streams.disabled);
        let tls = tls::gather(
            contributions,
            &served_tls,
            &streams.tls,
            &self.statics,
            &mut problems,
        );
        self.files.end();
        changes.tls = tls != self.tls || std::mem::take(&mut self.reread);
        self.tls = tls.clone();
        disabled.sort_by(|a, b| a.name.cmp(&b.name));
        let snapshot = Snapshot::build(generation, self.statics.entry_points.len(), routers, services)
            .with_streams(streams.tcp, streams.udp);
        problems.extend(shadowed::problems(&snapshot, &self.statics));
        let mut compiled = Compiled {
            snapshot,
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

#[cfg(test)]
mod tests;
