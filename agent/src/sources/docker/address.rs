//! Where a container is reached: which address, which port.
//!
//! Order: the network the container names, the one the provider names, the host's network, another container's, and
//! then the container's own networks. With several of those Traefik takes a random one; here it is the first by name,
//! never Swarm's `ingress`, and the choice is reported.

use std::collections::BTreeMap;

use super::container::{Addresses, Container, NetworkMode, State};
use super::labels::ContainerOptions;
use super::name::normalize;
use super::policy::Policy;
use crate::sources::Section;

/// How many containers may stand in a row, each using the next one's network.
const MAX_NETWORK_HOPS: usize = 4;

/// An address, as it goes into a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// IP address literal without brackets, or a name.
    pub(super) host: String,
    /// Not checked: a label may say anything, and compile judges URLs.
    pub(super) port: String,
}

impl Place {
    /// As Go's JoinHostPort: brackets around what has a colon.
    pub(super) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What is to be found: the server of a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) section: Section,
    pub(super) service: &'a str,
    /// The label's port; empty when there is none.
    pub(super) port: &'a str,
}

impl Wanted<'_> {
    /// The label's port, else the lowest that is exposed. HTTP takes the lowest number whatever the protocol, as Traefik
    /// does for all; TCP and UDP services take one of their own protocol where there is one.
    pub(super) fn port(&self, container: &Container) -> Option<String> {
        if !self.port.is_empty() {
            return Some(self.port.to_owned());
        }
        let lowest = container.ports.first();
        let fitting = container.ports.iter().find(|port| match self.section {
            Section::Http => true,
            Section::Tcp => !port.udp,
            Section::Udp => port.udp,
        });
        fitting.or(lowest).map(|port| port.number.to_string())
    }
}

/// Why a container can't be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreachable {
    /// No label, nothing exposed.
    #[error(
        "port is missing: the container exposes none; set the label \
         `traefik.{section}.services.{service}.loadbalancer.server.port`"
    )]
    Port {
        /// `http`, `tcp` or `udp`.
        section: &'static str,
        /// The service whose server lacks a port.
        service: String,
    },
    /// No usable network.
    #[error("it has no IP address: {0}")]
    Address(String),
}

/// The containers that another one may borrow its network from, by id and by name.
pub(super) type Neighbours<'a> = BTreeMap<&'a str, &'a Container>;

/// Finds the place of `container`. What deserves a look is added to `remarks`.
pub(super) fn locate(
    container: &Container,
    options: &ContainerOptions,
    policy: &Policy,
    neighbours: &Neighbours<'_>,
    wanted: Wanted<'_>,
    remarks: &mut Vec<String>,
) -> Result<Place, Unreachable> {
    let port = wanted.port(container);
    if policy.use_bind_port_ip
        && let Some(place) = bound(container, port.as_deref(), wanted.section)
    {
        return Ok(place);
    }
    let network = options.network.as_deref().or(policy.network.as_deref());
    let host = address(container, network, policy, neighbours, MAX_NETWORK_HOPS, remarks);
    let host = match host {
        // A container that is down has no address. Its endpoint stays, unavailable, under a name that RFC 6761 promises
        // never to resolve.
        Err(_) if container.state != State::Running => format!("{}.invalid", normalize(&container.name)),
        host => host.map_err(Unreachable::Address)?,
    };
    match port {
        Some(port) => Ok(Place { host, port }),
        None => Err(Unreachable::Port {
            section: wanted.section.name(),
            service: wanted.service.to_owned(),
        }),
    }
}

/// The host's side of the port, if it is bound to one address of the host.
fn bound(container: &Container, port: Option<&str>, section: Section) -> Option<Place> {
    let number: u16 = port?.parse().ok()?;
    let mut bindings = container
        .bindings
        .iter()
        .filter(|binding| binding.port.number == number);
    let binding = match section {
        Section::Http => bindings.next(),
        Section::Tcp => bindings.find(|binding| !binding.port.udp),
        Section::Udp => bindings.find(|binding| binding.port.udp),
    }?;
    let host = binding.host_ip.trim_matches(['[', ']']);
    (!matches!(host, "" | "0.0.0.0" | "::")).then(|| Place {
        host: host.to_owned(),
        port: binding.host_port.clone(),
    })
}

fn address(
    container: &Container,
    network: Option<&str>,
    policy: &Policy,
    neighbours: &Neighbours<'_>,
    hops: usize,
    remarks: &mut Vec<String>,
) -> Result<String, String> {
    let mut missing = None;
    if let Some(wanted) = network {
        match container.networks.get(wanted) {
            Some(addresses) => {
                let address = addresses.preferred();
                return address
                    .map(|address| address.to_string())
                    .ok_or_else(|| format!("network `{wanted}` gave it none"));
            }
            None => missing = Some(wanted),
        }
    }
    match &container.network_mode {
        NetworkMode::Host => Ok(policy.host_address.clone()),
        NetworkMode::Container(other) => borrowed(other, network, policy, neighbours, hops, remarks),
        NetworkMode::Own => own(container, missing, remarks),
    }
}

fn borrowed(
    other: &str,
    network: Option<&str>,
    policy: &Policy,
    neighbours: &Neighbours<'_>,
    hops: usize,
    remarks: &mut Vec<String>,
) -> Result<String, String> {
    let Some(owner) = neighbours.get(other) else {
        return Err(format!(
            "it uses the network of container {other}, which doesn't exist"
        ));
    };
    let Some(hops) = hops.checked_sub(1) else {
        return Err(format!(
            "it uses the network of container {}, and that one again another's, more than {MAX_NETWORK_HOPS} deep",
            owner.name
        ));
    };
    let options = ContainerOptions::read(&owner.labels)
        .map_err(|error| format!("it uses the network of container {}, whose {error}", owner.name))?;
    let network = options.network.as_deref().or(network);
    address(owner, network, policy, neighbours, hops, remarks)
}

fn own(container: &Container, missing: Option<&str>, remarks: &mut Vec<String>) -> Result<String, String> {
    let usable = container.networks.iter().filter(|(name, _)| *name != "ingress");
    let mut usable = usable.filter_map(|(name, addresses): (&String, &Addresses)| {
        addresses.preferred().map(|address| (name, address))
    });
    let Some((chosen, address)) = usable.next() else {
        return Err("no network gave it one; connect it to a network that this node reaches".to_owned());
    };
    if let Some(wanted) = missing {
        let attached: Vec<&str> = container.networks.keys().map(String::as_str).collect();
        remarks.push(format!(
            "network `{wanted}` is not one of its networks ({}), so `{chosen}` is used; names are exact, with the \
             Compose project in front",
            attached.join(", ")
        ));
    } else if usable.next().is_some() {
        remarks.push(format!(
            "it has several networks and names none, so `{chosen}` is used, the first by name; set the label \
             `traefik.docker.network`"
        ));
    }
    Ok(address.to_string())
}
