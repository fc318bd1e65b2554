//! The sections `tcp` and `udp`: transports, services, middlewares and routers of all providers.
//!
//! These sections are small beside `http`, so what is said in them is compiled as a whole when any of it has changed;
//! objects that come out the same stay the same `Arc`, with the counters and connections that hang on them. Names carry
//! the section in front (`tcp/db@docker`), see [`constellation_table::TcpRouter`].

mod middlewares;
mod options;
mod routers;
mod services;
pub(super) mod shadowed;
mod transports;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use constellation_config::dynamic::{Dynamic, SectionExtensions, Tcp, Udp};
use constellation_table::{EndpointSpec, Service, Target, TcpRouter, TcpRule, Transport, UdpRouter};

use super::pem::PemFiles;
use super::statics::Statics;
use super::{Changes, names};
use crate::report::DisabledRouter;
use crate::sources::{Contribution, Problem, ServerOrigin};

pub(super) use self::routers::TlsHosts;

/// A section of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Section {
    Tcp,
    Udp,
}

impl Section {
    /// What stands in front of the names of its objects.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Tcp => "tcp/",
            Self::Udp => "udp/",
        }
    }

    /// The qualified name of an object.
    fn qualify(self, name: &str, provider: &str) -> Arc<str> {
        names::qualify(&format!("{}{name}", self.prefix()), provider)
    }

    /// The section's key in documents.
    fn key(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What the sections give.
#[derive(Clone, Debug, Default)]
pub(super) struct Compiled {
    pub(super) tcp: Vec<Arc<TcpRouter>>,
    pub(super) udp: Vec<Arc<UdpRouter>>,
    pub(super) services: Vec<Arc<Service>>,
    /// The names under which TLS ends here, with the options.
    pub(super) tls: Vec<TlsHosts>,
    pub(super) problems: Vec<Problem>,
    pub(super) disabled: Vec<DisabledRouter>,
}

/// Compiles the sections, and remembers what it made.
#[derive(Debug, Default)]
pub(super) struct Streams {
    inputs: Vec<Input>,
    compiled: Compiled,
    /// By qualified name.
    transports: HashMap<Arc<str>, Arc<Transport>>,
    targets: HashMap<Arc<str>, Target>,
    middlewares: middlewares::Middlewares,
    rules: HashMap<String, Arc<TcpRule>>,
}

/// The part of a reading that these sections are made of.
#[derive(Debug, PartialEq)]
struct Input {
    provider: &'static str,
    tcp: Tcp,
    udp: Udp,
    tcp_options: SectionExtensions,
    udp_options: SectionExtensions,
    tls_options: Vec<String>,
    origins: BTreeMap<String, BTreeMap<String, ServerOrigin>>,
    /// Endpoints of other nodes.
    peers: BTreeMap<String, Vec<EndpointSpec>>,
}

impl Input {
    fn of(contribution: &Contribution) -> Self {
        let Dynamic {
            tcp,
            udp,
            tls,
            constellation,
            ..
        } = &contribution.dynamic;
        let ours = |name: &String| {
            [Section::Tcp, Section::Udp]
                .iter()
                .any(|section| name.starts_with(section.prefix()))
        };
        Self {
            provider: contribution.provider,
            tcp: tcp.clone(),
            udp: udp.clone(),
            tcp_options: constellation.tcp.clone(),
            udp_options: constellation.udp.clone(),
            tls_options: tls.options.keys().cloned().collect(),
            origins: contribution
                .origins
                .iter()
                .filter(|(name, _)| ours(name))
                .map(|(name, origins)| (name.clone(), origins.clone()))
                .collect(),
            peers: contribution
                .peers
                .iter()
                .filter(|(name, _)| ours(name))
                .map(|(name, peers)| (name.clone(), peers.clone()))
                .collect(),
        }
    }

    fn options(&self, section: Section) -> &SectionExtensions {
        match section {
            Section::Tcp => &self.tcp_options,
            Section::Udp => &self.udp_options,
        }
    }
}

/// What all objects of one compile see.
struct Around<'a> {
    inputs: &'a [Input],
    statics: &'a Statics,
}

impl Streams {
    /// Compiles the sections of all readings. `reread`: files that they name may have changed.
    pub(super) fn compile(
        &mut self,
        contributions: &[Arc<Contribution>],
        statics: &Statics,
        files: &mut PemFiles,
        reread: bool,
        changes: &mut Changes,
    ) -> &Compiled {
        let inputs: Vec<Input> = contributions.iter().map(|one| Input::of(one)).collect();
        if inputs == self.inputs && !reread {
            self.transports(&inputs, statics, files, &mut Vec::new());
            return &self.compiled;
        }
        let mut compiled = Compiled::default();
        let transports = self.transports(&inputs, statics, files, &mut compiled.problems);
        let around = Around {
            inputs: &inputs,
            statics,
        };
        let targets = services::compile(&around, &transports, &self.targets, &mut compiled);
        let guards = self.middlewares.compile(&around, &mut compiled.problems);
        routers::compile(
            &around,
            &targets,
            &guards,
            &mut self.rules,
            &self.compiled,
            &mut compiled,
        );
        self.note(&compiled, changes);
        self.transports = usable(&transports);
        self.targets = usable(&targets);
        self.inputs = inputs;
        self.compiled = compiled;
        self.rules.retain(|_, rule| Arc::strong_count(rule) > 1);
        &self.compiled
    }

    /// Also where nothing has changed, so that the files they name count as used.
    fn transports(
        &self,
        inputs: &[Input],
        statics: &Statics,
        files: &mut PemFiles,
        problems: &mut Vec<Problem>,
    ) -> HashMap<Arc<str>, Result<Arc<Transport>, String>> {
        transports::compile(inputs, statics, files, &self.transports, problems)
    }

    /// Which routers came, went or changed.
    fn note(&self, new: &Compiled, changes: &mut Changes) {
        changes.services |= new.services.len() != self.compiled.services.len()
            || new
                .services
                .iter()
                .zip(&self.compiled.services)
                .any(|(new, old)| !Arc::ptr_eq(new, old));
        let tcp = |compiled: &Compiled| {
            let routers = compiled.tcp.iter();
            routers
                .map(|router| (router.spec.name.clone(), Arc::as_ptr(router).addr()))
                .collect()
        };
        let udp = |compiled: &Compiled| {
            let routers = compiled.udp.iter();
            routers
                .map(|router| (router.spec.name.clone(), Arc::as_ptr(router).addr()))
                .collect()
        };
        differences(&tcp(&self.compiled), &tcp(new), changes);
        differences(&udp(&self.compiled), &udp(new), changes);
    }
}

fn differences(old: &BTreeMap<Arc<str>, usize>, new: &BTreeMap<Arc<str>, usize>, changes: &mut Changes) {
    for (name, place) in new {
        match old.get(name) {
            None => changes.added.push(name.clone()),
            Some(before) if before != place => changes.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    changes.removed.extend(gone.cloned());
}

fn usable<T: Clone>(all: &HashMap<Arc<str>, Result<T, String>>) -> HashMap<Arc<str>, T> {
    all.iter()
        .filter_map(|(name, outcome)| Some((name.clone(), outcome.as_ref().ok()?.clone())))
        .collect()
}

/// Finds an object that a reference of `provider` names.
fn resolve<T: Clone>(
    section: Section,
    kind: &str,
    reference: &str,
    provider: &str,
    objects: &HashMap<Arc<str>, Result<T, String>>,
    inputs: &[Input],
) -> Result<T, String> {
    let (name, owner) = names::split_reference(reference, provider);
    let qualified = section.qualify(name, owner);
    let shown = names::qualify(name, owner);
    let key = section.key();
    match objects.get(&qualified) {
        Some(Ok(object)) => return Ok(object.clone()),
        Some(Err(error)) => return Err(format!("its {kind} \"{shown}\" can't be used: {error}")),
        None => {}
    }
    let elsewhere = inputs
        .iter()
        .map(|input| input.provider)
        .find(|other| objects.contains_key(&section.qualify(name, other)));
    Err(match elsewhere {
        Some(other) => format!(
            "there is no {kind} \"{shown}\" in the section {key}, but there is \"{name}@{other}\": write {name}@{other}"
        ),
        None => format!(
            "there is no {kind} \"{shown}\" in the section {key}: define it there (those of http are others), or write \
             NAME@PROVIDER for another provider's"
        ),
    })
}

#[cfg(test)]
mod tests;
