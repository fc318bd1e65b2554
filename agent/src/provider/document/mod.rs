//! The document: what all nodes serve, as Traefik's dynamic configuration. Pure.
//!
//! [`document()`] takes the readings with other nodes laid over them, as compile does, and gives one value: the same for the
//! same readings, whatever the order of anything. Every field is put in by name ([`object`]), so what nobody knows never
//! gets to a Traefik, which would refuse all of it for one. An object that can't be used is left out with the reason, and so
//! is what depends on it; nothing else is hurt.
//!
//! | file | what |
//! |---|---|
//! | [`object`] | objects without what says nothing; the text |
//! | [`names`] | bare names, each once |
//! | [`priority`] | priorities, each written out |
//! | [`routers`], [`services`], [`balancer`], [`middlewares`], [`transports`] | the section `http` |
//! | [`streams`] | the sections `tcp` and `udp` |
//! | [`tls`] | the section `tls` |

mod balancer;
mod middlewares;
mod names;
mod object;
mod priority;
mod routers;
mod services;
mod streams;
#[cfg(test)]
mod tests;
mod tls;
mod transports;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use self::names::Names;
use self::object::Object;
use crate::sources::{Contribution, Problem, Section};

pub use self::middlewares::RETRY;

/// What shapes the document besides the readings; fixed for the life of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// `HOST:PORT` where Traefik reaches this node for what other nodes have; `None`: it does not.
    pub failover: Option<String>,
    /// Entry points of HTTP routers that name none; empty: Traefik's default ones.
    pub entry_points: Vec<String>,
    /// The resolver of TLS routers that name none.
    pub cert_resolver: Option<String>,
    /// Whether certificates are told, keys included.
    pub certificates: bool,
}

/// A document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Sections `http`, `tcp`, `udp` and `tls`, as far as there is something in them.
    pub value: Value,
    /// Routers of all sections.
    pub routers: usize,
    /// Services of all sections.
    pub services: usize,
    /// What is not in it although it is defined, ordered by subject.
    pub left_out: Vec<Problem>,
}

impl Document {
    /// As it is sent.
    pub fn text(&self) -> String {
        object::to_text(&self.value)
    }
}

/// The objects of one kind by bare name.
type Objects = BTreeMap<String, Object>;

/// What is being put together.
struct Draft<'s> {
    readings: &'s [Arc<Contribution>],
    terms: &'s Terms,
    left_out: Vec<Problem>,
}

impl<'s> Draft<'s> {
    fn leave_out(&mut self, kind: &str, provider: &str, name: &str, reason: impl Into<String>) {
        self.left_out.push(Problem {
            subject: format!("{kind} {name}@{provider}"),
            message: format!("not in the document for Traefik: {}", reason.into()),
        });
    }

    /// Every object of one kind, with its provider.
    fn each<T: 's>(
        &self,
        of: impl Fn(&'s Contribution) -> &'s BTreeMap<String, T>,
    ) -> Vec<(&'static str, &'s String, &'s T)> {
        let readings: &'s [Arc<Contribution>] = self.readings;
        let each = readings.iter().flat_map(|reading| {
            let objects = of(reading).iter();
            objects.map(|(name, object)| (reading.provider, name, object))
        });
        each.collect()
    }

    fn reading(&self, provider: &str) -> Option<&'s Contribution> {
        let readings: &'s [Arc<Contribution>] = self.readings;
        readings
            .iter()
            .map(AsRef::as_ref)
            .find(|reading| reading.provider == provider)
    }
}

fn names_of<'o, T: 'o>(objects: &[(&'static str, &'o String, &'o T)]) -> Names {
    Names::of(
        objects
            .iter()
            .map(|(provider, name, _)| (*provider, name.as_str())),
    )
}

/// The document that says what `readings` serve.
pub fn document(readings: &[Arc<Contribution>], terms: &Terms) -> Document {
    let mut draft = Draft {
        readings,
        terms,
        left_out: Vec::new(),
    };
    let options = tls::options(&mut draft);
    let transports = transports::http(&mut draft);
    let services = services::all(&mut draft, &transports);
    let middlewares = middlewares::all(&mut draft, &services);
    let routers = routers::all(&mut draft, &services, &middlewares, &options);
    let tcp = streams::tcp(&mut draft, &options);
    let udp = streams::udp(&mut draft);
    let (routers_of, services_of) = (
        routers.len() + tcp.routers.len() + udp.routers.len(),
        services.objects.len() + tcp.services.len() + udp.services.len(),
    );
    let http = Object::default()
        .object("routers", Some(section(routers)))
        .object("services", Some(section(services.objects)))
        .object("middlewares", Some(section(middlewares.objects)))
        .object("serversTransports", Some(section(transports.objects)));
    let tls = tls::section(&mut draft, options);
    let mut left_out = draft.left_out;
    left_out.sort_by(|a, b| (&a.subject, &a.message).cmp(&(&b.subject, &b.message)));
    left_out.dedup();
    Document {
        value: Object::default()
            .object("http", Some(http))
            .object("tcp", Some(tcp.section()))
            .object("udp", Some(udp.section()))
            .object("tls", Some(tls))
            .into(),
        routers: routers_of,
        services: services_of,
        left_out,
    }
}

fn section(objects: Objects) -> Object {
    objects
        .into_iter()
        .fold(Object::default(), |section, (name, object)| {
            section.value(&name, object.into())
        })
}

/// What is known of a service beyond its definition.
struct Whereabouts<'s> {
    /// The conditions of its servers.
    origins: Option<&'s BTreeMap<String, crate::sources::ServerOrigin>>,
    /// Whether another node can serve it now.
    elsewhere: bool,
}

impl<'s> Whereabouts<'s> {
    fn of(draft: &Draft<'s>, provider: &str, section: Section, name: &str) -> Self {
        let key = section.key(name);
        let reading = draft.reading(provider);
        let peers = reading.and_then(|reading| reading.peers.get(&key));
        Self {
            origins: reading.and_then(|reading| reading.origins.get(&key)),
            elsewhere: peers.is_some_and(|peers| {
                peers
                    .iter()
                    .any(|peer| peer.condition == constellation_table::Condition::Ready)
            }),
        }
    }

    /// Whether the server can serve, as far as is known.
    fn is_ready(&self, server: &str) -> bool {
        let origin = self.origins.and_then(|origins| origins.get(server));
        origin.is_none_or(|origin| origin.condition == constellation_table::Condition::Ready)
    }
}
