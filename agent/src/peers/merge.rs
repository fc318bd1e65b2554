//! What this node and the others define, as one reading per provider. Pure.
//!
//! An object of this node wins over one of the same name elsewhere; among others the one of the node with the lowest
//! priority number, then of the first by name, so that all nodes choose the same. That they differ is a problem that is
//! shown. A service has this node's servers, and behind them one endpoint for each node that has instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use constellation_config::dynamic::Dynamic;
use constellation_table::{Condition, EndpointSpec, Locality, Reach, Scheme};

use super::direct;
use super::{Fit, Instances, Own, Peer, ProviderExport, Standing};
use crate::sources::{Contribution, Problem, Section};

/// Most objects named in warnings about one provider.
const MAX_WARNINGS: usize = 100;
/// Heaviest weight that the balancer's schedule takes.
const MAX_WEIGHT: u32 = 1_000_000;

/// Lays what `peers` tell over the readings of this node.
pub fn merge(own: &Own, readings: &[Arc<Contribution>], peers: &[Peer]) -> Vec<Arc<Contribution>> {
    let mut peers: Vec<&Peer> = peers.iter().filter(|peer| peer.node != own.node).collect();
    peers.sort_by(|a, b| (a.priority, &a.node).cmp(&(b.priority, &b.node)));
    peers.dedup_by(|a, b| a.node == b.node);
    let mut merged: Vec<Arc<Contribution>> = readings
        .iter()
        .map(|reading| {
            let others = of_provider(&peers, reading.provider);
            match others.is_empty() && own.domain.is_empty() {
                true => reading.clone(),
                false => Arc::new(merge_provider(own, reading, &others)),
            }
        })
        .collect();
    let mut further: Vec<&'static str> = peers
        .iter()
        .flat_map(|peer| peer.export.providers.keys().copied())
        .filter(|provider| readings.iter().all(|reading| reading.provider != *provider))
        .collect();
    further.sort_unstable();
    further.dedup();
    for provider in further {
        let nothing = Contribution {
            provider,
            ..Contribution::default()
        };
        let reading = merge_provider(own, &nothing, &of_provider(&peers, provider));
        merged.push(Arc::new(reading));
    }
    merged
}

/// The peers that have something of a provider.
fn of_provider<'p>(peers: &[&'p Peer], provider: &str) -> Vec<(&'p Peer, &'p ProviderExport)> {
    let of = |peer: &&'p Peer| Some((*peer, peer.export.providers.get(provider)?));
    peers.iter().filter_map(of).collect()
}

fn merge_provider(own: &Own, reading: &Contribution, peers: &[(&Peer, &ProviderExport)]) -> Contribution {
    let mut union = Union {
        warnings: Vec::new(),
        provider: reading.provider,
    };
    let mut merged = reading.clone();
    let mut owners: BTreeMap<(&'static str, String), Arc<str>> = BTreeMap::new();
    for (peer, export) in peers {
        let (to, from) = (&mut merged.dynamic, &export.dynamic);
        let mut lay = Lay {
            union: &mut union,
            owners: &mut owners,
            own,
            peer,
        };
        lay.objects("router ", &mut to.http.routers, &from.http.routers, true);
        lay.objects("router tcp/", &mut to.tcp.routers, &from.tcp.routers, true);
        lay.objects("router udp/", &mut to.udp.routers, &from.udp.routers, true);
        lay.objects(
            "middleware tcp/",
            &mut to.tcp.middlewares,
            &from.tcp.middlewares,
            true,
        );
        lay.objects(
            "middleware ",
            &mut to.http.middlewares,
            &from.http.middlewares,
            true,
        );
        // Definitions of services differ in what only their own node is told, and the others have left out.
        lay.objects("service ", &mut to.http.services, &from.http.services, false);
        lay.objects("service tcp/", &mut to.tcp.services, &from.tcp.services, false);
        lay.objects("service udp/", &mut to.udp.services, &from.udp.services, false);
        let (to, from) = (&mut to.constellation, &from.constellation);
        lay.objects("options ", &mut to.http.services, &from.http.services, false);
        lay.objects("options tcp/", &mut to.tcp.services, &from.tcp.services, false);
        lay.objects("options udp/", &mut to.udp.services, &from.udp.services, false);
    }
    for (peer, export) in peers {
        for (key, instances) in &export.instances {
            if let Some((section, scheme)) = with_servers(&merged.dynamic, key)
                && let Some(endpoint) = endpoint(own, peer, reading.provider, key, instances, scheme)
            {
                debug_assert!(key.starts_with(section.prefix()));
                merged.peers.entry(key.clone()).or_default().push(endpoint);
            }
        }
    }
    direct::add(own, reading, peers, &mut merged);
    merged.problems.extend(union.warnings);
    merged
}

/// The section and the scheme of a service, when it is one with servers here too.
fn with_servers(dynamic: &Dynamic, key: &str) -> Option<(Section, Scheme)> {
    if let Some(name) = key.strip_prefix(Section::Tcp.prefix()) {
        let service = dynamic.tcp.services.get(name)?;
        return service
            .load_balancer
            .as_ref()
            .map(|_| (Section::Tcp, Scheme::Tcp));
    }
    if let Some(name) = key.strip_prefix(Section::Udp.prefix()) {
        let service = dynamic.udp.services.get(name)?;
        return service
            .load_balancer
            .as_ref()
            .map(|_| (Section::Udp, Scheme::Udp));
    }
    let service = dynamic.http.services.get(key)?;
    service
        .load_balancer
        .as_ref()
        .map(|_| (Section::Http, Scheme::Http))
}

/// The instances of a node as one endpoint; `None`: it is gone.
pub(super) fn endpoint(
    own: &Own,
    peer: &Peer,
    provider: &str,
    key: &str,
    instances: &Instances,
    scheme: Scheme,
) -> Option<EndpointSpec> {
    let service = format!("{key}@{provider}");
    let told = Fit {
        ready: instances.fit,
        failing: 0,
    };
    let fit = peer.fit.get(&service).copied().unwrap_or(told);
    // Better than nobody, and worse than everybody else.
    let last = fit.ready == 0;
    let node = &peer.node;
    let condition = match peer.standing {
        Standing::Gone => return None,
        Standing::Cordoned => Condition::Unavailable(format!("node {node} is cordoned").into()),
        Standing::Draining => Condition::Draining(format!("node {node} is about to stop").into()),
        Standing::Ready if last && fit.failing == 0 => {
            Condition::Unavailable(format!("no instance at node {node} can serve").into())
        }
        Standing::Ready => Condition::Ready,
    };
    Some(EndpointSpec {
        name: format!("node {node}").into(),
        scheme,
        host: (**node).into(),
        port: 0,
        base_path: "".into(),
        weight: if last { fit.failing } else { fit.ready }.clamp(1, MAX_WEIGHT),
        condition,
        url_as_written: "".into(),
        locality: Locality {
            reach: match (last && fit.failing > 0, own.region == peer.region) {
                (true, _) => Reach::LastResort,
                (false, true) => Reach::Region,
                (false, false) => Reach::Elsewhere,
            },
            priority: peer.priority,
        },
        peer: Some(Arc::new(constellation_table::Peer {
            node: node.clone(),
            service: service.into(),
            // A cookie does not hold a client to what fails.
            instances: if last {
                Box::default()
            } else {
                instances.urls.clone().into()
            },
        })),
    })
}

struct Union {
    warnings: Vec<Problem>,
    provider: &'static str,
}

/// Lays the objects of one peer over those of this node and of the peers before.
struct Lay<'a> {
    union: &'a mut Union,
    /// Who has defined what this node does not.
    owners: &'a mut BTreeMap<(&'static str, String), Arc<str>>,
    own: &'a Own,
    peer: &'a Peer,
}

impl Lay<'_> {
    /// `compare`: whether it is worth a warning that they differ.
    fn objects<T: Clone + PartialEq>(
        &mut self,
        kind: &'static str,
        to: &mut BTreeMap<String, T>,
        from: &BTreeMap<String, T>,
        compare: bool,
    ) {
        for (name, object) in from {
            match to.get(name) {
                None => {
                    to.insert(name.clone(), object.clone());
                    self.owners.insert((kind, name.clone()), self.peer.node.clone());
                }
                Some(known) if compare && self.peer.standing != Standing::Gone && known != object => {
                    self.warn(kind, name);
                }
                Some(_) => {}
            }
        }
    }

    fn warn(&mut self, kind: &'static str, name: &str) {
        let Union { warnings, provider } = &mut *self.union;
        if warnings.len() >= MAX_WARNINGS {
            return;
        }
        let owner = self.owners.get(&(kind, name.to_owned()));
        let winner = owner.unwrap_or(&self.own.node);
        warnings.push(Problem {
            subject: format!("{kind}{name}@{provider}"),
            message: format!(
                "the nodes {winner} and {} define it differently: here that of {winner} counts; make the definitions the \
                 same, or give each its own name",
                self.peer.node
            ),
        });
    }
}
