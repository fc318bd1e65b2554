//! One pass over a reading for each kind of object: keep what is the same as in the last compile, compile the rest.

use std::collections::HashSet;
use std::sync::Arc;

use constellation_config::dynamic;
use constellation_table::Transport;

use super::carry::Previous;
use super::options::OptionsIndex;
use super::references::References;
use super::routers::{self, RouterCompiler, RouterEntry};
use super::services::{ServiceEntry, ServiceInput, is_kind};
use super::transports::{self, TransportEntry};
use super::{Changes, Compiler, ProviderEntries, names, statics};
use crate::sources::Contribution;

/// What services refer to beside their definition.
pub(super) struct Surroundings<'a> {
    pub(super) contributions: &'a [Arc<Contribution>],
    pub(super) transports: &'a [Vec<TransportEntry>],
    pub(super) options: &'a OptionsIndex<'a>,
}

impl Compiler {
    /// Compiles the transports of one reading; equal ones stay the same object.
    pub(super) fn transports(
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

    /// Compiles the services of one reading that have servers; kinds built of others keep what the last compile made of
    /// them until [`super::kinds`] comes. The names of services that came, went or became another object are added to
    /// `replaced`, so that the routers which refer to them follow.
    pub(super) fn services(
        &self,
        contribution: &Arc<Contribution>,
        last: Option<&mut ProviderEntries>,
        around: &Surroundings<'_>,
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
        let old_peers = |name: &String| reading.as_ref().and_then(|last| last.peers.get(name));
        let definitions = contribution.dynamic.http.services.iter();
        let services = definitions
            .map(|(name, definition)| {
                let old = previous.take(name);
                if is_kind(definition) {
                    return ServiceEntry::kind(contribution.provider, name, old.map(|(_, entry)| entry));
                }
                let transport = self.transport(definition, contribution.provider, around);
                let options = around.options.about(name, contribution.provider);
                let origins = contribution.origins.get(name);
                let peers = contribution.peers.get(name);
                let old = match old {
                    Some((old, entry))
                        if entry.uses(&transport)
                            && entry.options == options
                            && (same_reading
                                || (old == definition
                                    && old_origins(name) == origins
                                    && old_peers(name) == peers)) =>
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
                    peers: peers.map(Vec::as_slice).unwrap_or_default(),
                    transport,
                    options,
                    statics: &self.statics,
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
        around: &Surroundings<'_>,
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
        let mut entries = around
            .contributions
            .iter()
            .zip(around.transports)
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
}

/// Compiles the routers of one reading; an entry whose definition and references are the same is kept as it is.
pub(super) fn compile_routers(
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
