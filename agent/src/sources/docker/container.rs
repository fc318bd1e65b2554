//! A container as the routes need it, taken from the engine's inspection.
//!
//! Engines differ in what they leave out, so everything is optional on the wire; what is missing gets the most harmless
//! meaning here: no port, no network, not running.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, EndpointSettings, HealthStatusEnum,
    PortMap,
};
use constellation_table::Condition;

/// What is known of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// When it was made, RFC 3339 as the engine writes it; orders containers by age.
    pub created: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Running or not.
    pub state: State,
    /// When this run of it began, RFC 3339 as the engine writes it; tells runs apart.
    pub started: String,
    /// What an event said since the last inspection that could know better.
    pub leaving: Option<Leaving>,
    /// The signal that `docker stop` sends, as the engine writes it.
    pub stop_signal: Option<String>,
    /// Seconds until `SIGKILL` follows.
    pub stop_timeout: Option<i64>,
    /// The health check's verdict.
    pub health: Health,
    /// Ports the container exposes.
    pub ports: BTreeSet<Port>,
    /// Host bindings of ports.
    pub bindings: Vec<Binding>,
    /// Whose network stack it uses.
    pub network_mode: NetworkMode,
    /// Addresses by network name.
    pub networks: BTreeMap<String, Addresses>,
}

/// The life cycle, as far as it matters to a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Serves, if healthy.
    Running,
    /// Frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// Never started, or the engine doesn't say.
    #[default]
    Created,
    /// Ended.
    Exited {
        /// Exit status.
        code: Option<i64>,
        /// When, as the engine writes it.
        at: Option<String>,
    },
    /// Being removed, or half removed.
    Dead,
    /// The engine doesn't know it any more.
    Removed {
        /// When that was noticed, RFC 3339.
        at: String,
    },
}

/// How a container that the engine still calls running takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It was told to end.
    Stopping,
    /// It has ended.
    Ended {
        /// Exit status.
        code: Option<i64>,
    },
    /// It was frozen.
    Paused,
}

/// A health check's verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// There is no check.
    #[default]
    Unchecked,
    /// Passing.
    Healthy,
    /// Not yet known.
    Starting,
    /// Failing.
    Unhealthy,
}

/// A port of a container: `80/tcp`. They are in the order of their numbers, whatever the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// From 1.
    pub number: u16,
    /// `/udp`; all else counts as TCP, as where nothing stands.
    pub udp: bool,
}

/// A host port that leads to a container port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// In the container.
    pub port: Port,
    /// Empty or unspecified: all addresses of the host.
    pub host_ip: String,
    /// On the host.
    pub host_port: String,
}

/// Whose network stack a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own.
    #[default]
    Own,
    /// The host's.
    Host,
    /// Another container's, by id or name.
    Container(String),
}

/// The addresses in one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Option<IpAddr>,
    /// Global IPv6.
    pub v6: Option<IpAddr>,
}

impl Addresses {
    /// IPv4 before IPv6.
    pub fn preferred(&self) -> Option<IpAddr> {
        self.v4.or(self.v6)
    }
}

impl Container {
    /// Takes what matters from an inspection; `None` without id.
    pub fn from_inspect(inspect: ContainerInspectResponse) -> Option<Self> {
        let config = inspect.config.unwrap_or_default();
        let host = inspect.host_config.unwrap_or_default();
        let network = inspect.network_settings.unwrap_or_default();
        let started = inspect.state.as_ref().and_then(|state| state.started_at.clone());
        let (state, health) = inspect.state.map(life).unwrap_or_default();
        let published = network.ports.unwrap_or_default();
        let network_mode = match host.network_mode.as_deref() {
            Some("host") => NetworkMode::Host,
            Some(mode) => match mode.strip_prefix("container:") {
                Some(other) => NetworkMode::Container(other.to_owned()),
                None => NetworkMode::Own,
            },
            None => NetworkMode::Own,
        };
        let mut ports = self::ports(published.keys());
        // The engine empties this table when a container stops; what the image and the command line say remains.
        if state != State::Running && network_mode == NetworkMode::Own {
            ports.extend(self::ports(config.exposed_ports.iter().flatten()));
            ports.extend(self::ports(
                host.port_bindings.iter().flat_map(|bindings| bindings.keys()),
            ));
        }
        let networks = network.networks.unwrap_or_default().into_iter();
        Some(Self {
            id: inspect.id.filter(|id| !id.is_empty())?,
            name: inspect
                .name
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned(),
            created: inspect.created.map(|time| time.to_string()).unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            state,
            started: started.unwrap_or_default(),
            leaving: None,
            stop_signal: config.stop_signal,
            stop_timeout: config.stop_timeout,
            health,
            ports,
            bindings: bindings(published),
            network_mode,
            networks: networks
                .map(|(name, endpoint)| (name, addresses(&endpoint)))
                .collect(),
        })
    }

    /// Whether it can serve, and why not. The text holds absolute times only: an unchanged container must give an
    /// unchanged text, or every reading would publish a generation.
    pub fn condition(&self) -> Condition {
        let name = &self.name;
        match (&self.state, self.leaving) {
            (State::Running, Some(Leaving::Stopping)) => {
                return Condition::Draining(format!("container {name} is stopping").into());
            }
            (State::Running, Some(Leaving::Ended { code })) => {
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                return Condition::Unavailable(format!("container {name} exited{code}").into());
            }
            (State::Running, Some(Leaving::Paused)) => {
                return Condition::Unavailable(format!("container {name} is paused").into());
            }
            _ => {}
        }
        let reason = match (&self.state, self.health) {
            (State::Running, Health::Unchecked | Health::Healthy) => return Condition::Ready,
            (State::Running, Health::Starting) => format!("container {name}: health check: starting"),
            (State::Running, Health::Unhealthy) => format!("container {name}: health check: unhealthy"),
            (State::Paused, _) => format!("container {name} is paused"),
            (State::Restarting, _) => format!("container {name} is restarting"),
            (State::Created, _) => format!("container {name} was never started"),
            (State::Dead, _) => format!("container {name} is being removed"),
            (State::Removed { at }, _) => format!("container {name} was removed at {at}"),
            (State::Exited { code, at }, _) => {
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                let at = at.as_ref().map(|at| format!(" at {at}")).unwrap_or_default();
                format!("container {name} exited{code}{at}")
            }
        };
        Condition::Unavailable(Arc::from(reason))
    }

    /// Keeps the addresses and ports of an earlier reading where a container that isn't running has lost them, so that
    /// its endpoint stays recognisable.
    pub fn remember(&mut self, earlier: &Self) {
        if self.state == State::Running {
            return;
        }
        for (network, addresses) in &earlier.networks {
            let now = self.networks.entry(network.clone()).or_default();
            if now.preferred().is_none() {
                *now = *addresses;
            }
        }
        if self.ports.is_empty() {
            self.ports.clone_from(&earlier.ports);
        }
        if self.bindings.is_empty() {
            self.bindings.clone_from(&earlier.bindings);
        }
    }
}

fn life(state: ContainerState) -> (State, Health) {
    let exited = State::Exited {
        code: state.exit_code,
        // Year 1 is how the engine writes "never".
        at: state
            .finished_at
            .filter(|at| !at.is_empty() && !at.starts_with("0001-")),
    };
    let life = match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => State::Running,
        Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => State::Restarting,
        Some(ContainerStateStatusEnum::EXITED) => exited,
        Some(ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::DEAD) => State::Dead,
        Some(ContainerStateStatusEnum::CREATED) => State::Created,
        Some(_) | None => match state.running {
            Some(true) => State::Running,
            _ => State::Created,
        },
    };
    let health = match state.health.and_then(|health| health.status) {
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        // `none` says that there is no check. Traefik drops such a container; it serves as well as one without health.
        _ => Health::Unchecked,
    };
    (life, health)
}

/// What isn't a port is left out.
fn ports<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<Port> {
    texts.filter_map(|text| port(text)).collect()
}

/// `80/tcp`, `53/udp` or `80`.
fn port(text: &str) -> Option<Port> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some(Port {
        number,
        udp: protocol.eq_ignore_ascii_case("udp"),
    })
}

fn bindings(ports: PortMap) -> Vec<Binding> {
    let mut bindings = Vec::new();
    for (text, hosts) in ports {
        let Some(port) = port(&text) else { continue };
        for host in hosts.into_iter().flatten() {
            bindings.push(Binding {
                port,
                host_ip: host.host_ip.unwrap_or_default(),
                host_port: host.host_port.unwrap_or_default(),
            });
        }
    }
    bindings.sort();
    bindings
}

pub(super) fn addresses(endpoint: &EndpointSettings) -> Addresses {
    let parse = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
    Addresses {
        v4: parse(&endpoint.ip_address),
        v6: parse(&endpoint.global_ipv6_address),
    }
}
