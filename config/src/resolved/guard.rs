//! `edge.guard`: whose packets come in at all.

use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// `edge.guard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Whether there is a guard, and who it is.
    pub mode: GuardMode,
    /// Where packets are looked at.
    pub devices: GuardDevices,
    /// Prefixes from which nothing is taken, without bits beyond the prefix.
    pub deny: Vec<IpNet>,
    /// Prefixes from which everything is taken, whatever else is said about them.
    pub allow: Vec<IpNet>,
    /// New connections of one source to guarded ports.
    pub connections: GuardRate,
    /// New UDP flows of one source to guarded ports.
    pub flows: GuardRate,
    /// Silence after which a UDP flow is a new one; more than 0.
    pub flow_idle: Duration,
    /// Ports that the rates apply to; empty: those of the entry points. Port 0 stands for all of a protocol.
    pub ports: Vec<(Protocol, u16)>,
    /// When the guard moves into the drivers of the devices.
    pub attack: GuardAttack,
    /// Who is banned for what they do to the proxy.
    pub feed: GuardFeed,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            mode: GuardMode::default(),
            devices: GuardDevices::default(),
            deny: Vec::new(),
            allow: Vec::new(),
            connections: GuardRate::default(),
            flows: GuardRate::default(),
            // As `nf_conntrack_udp_timeout`.
            flow_idle: Duration::from_secs(30),
            ports: Vec::new(),
            attack: GuardAttack::default(),
            feed: GuardFeed::default(),
        }
    }
}

/// `edge.guard.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GuardMode {
    /// The eBPF program where it works; where it does not, the node refuses denied clients itself.
    Auto,
    /// The eBPF program, or the node does not start.
    Ebpf,
    /// No guard.
    #[default]
    Off,
}

impl GuardMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Off => "off",
        }
    }
}

/// `edge.guard.devices`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardDevices {
    /// Those that a default route leads through, whichever these are.
    pub of_default_routes: bool,
    /// Those by name, whether they are there or not.
    pub names: Vec<String>,
}

impl Default for GuardDevices {
    fn default() -> Self {
        Self {
            of_default_routes: true,
            names: Vec::new(),
        }
    }
}

/// How fast a source may begin something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardRate {
    /// That many a second; 0: no limit.
    pub per_second: u32,
    /// That many at once after a pause; at least 1 where there is a limit.
    pub burst: u32,
}

/// `edge.guard.attack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardAttack {
    /// Whether the guard moves into the drivers.
    pub xdp: XdpMode,
    /// Drops a second that are an attack.
    pub raise: u32,
    /// Drops a second below which it is calm; less than `raise`.
    pub calm: u32,
    /// How long it has to be calm before the attack is over; more than 0.
    pub patience: Duration,
}

impl Default for GuardAttack {
    fn default() -> Self {
        Self {
            xdp: XdpMode::Auto,
            raise: 50_000,
            calm: 5_000,
            patience: Duration::from_secs(60),
        }
    }
}

/// `edge.guard.attack.xdp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum XdpMode {
    /// While there is an attack.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl XdpMode {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// `edge.guard.feed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardFeed {
    /// Whether anybody is banned for what they do to the proxy.
    pub enabled: bool,
    /// That many offences are too many; at least 1.
    pub offences: u32,
    /// Within this time; more than 0.
    pub within: Duration,
    /// Length of the first ban, more than 0; each further one is twice as long.
    pub ban: Duration,
    /// Length of the longest ban, and how long a source has to behave before it starts again with the shortest.
    pub longest: Duration,
}

impl Default for GuardFeed {
    fn default() -> Self {
        Self {
            enabled: false,
            offences: 20,
            within: Duration::from_secs(60),
            ban: Duration::from_secs(300),
            longest: Duration::from_secs(24 * 3600),
        }
    }
}
