//! `edge.guard` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Time, network_list};
use crate::resolved::{Guard, GuardAttack, GuardFeed, GuardMode, XdpMode};

/// Stands for the devices of default routes.
pub(crate) const AUTO: &str = "auto";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawGuard {
    /// Who looks at packets before the host does. `auto`: an eBPF program in the kernel, and where that does not work the
    /// node itself, which then refuses connections from denied prefixes; `ebpf`: that program, or the node does not start;
    /// `off`: nobody, and nothing can be denied. SIGHUP applies every key of this section.
    pub(crate) mode: GuardMode,
    /// Network devices at which it is, by name, whether they are there or come later. `auto`: those that a default route
    /// leads through.
    pub(crate) devices: Vec<String>,
    /// Networks and addresses from which nothing is taken, on any port of the host, for good.
    /// `constellation guard deny` does the same while the node runs.
    #[schemars(schema_with = "network_list")]
    pub(crate) deny: Vec<String>,
    /// Networks and addresses from which everything is taken, whatever is denied or limited. Those that you administer the
    /// host from belong here.
    #[schemars(schema_with = "network_list")]
    pub(crate) allow: Vec<String>,
    /// How fast one source (an IPv4 address, an IPv6 /64) may open connections to guarded ports.
    pub(crate) connections: RawGuardRate,
    /// How fast one source may begin UDP flows to guarded ports.
    pub(crate) flows: RawGuardRate,
    /// Silence after which a UDP flow is a new one, 1s to 1h.
    pub(crate) flow_idle: Time,
    /// Ports that the two rates apply to, such as `443` or `53/udp`; `0` and `0/udp` stand for all. Empty: those of the
    /// entry points.
    pub(crate) ports: Vec<String>,
    /// When the program moves into the drivers of the devices (XDP), where it drops three times as cheaply, and where some
    /// drivers slow down what passes.
    pub(crate) attack: RawGuardAttack,
    /// Bans of clients that keep offending against the proxy: floods, headers that do not arrive, requests that are none,
    /// more connections than a source may have.
    pub(crate) feed: RawGuardFeed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawGuardRate {
    /// That many a second, 0 to 1000000; 0: no limit.
    #[schemars(range(max = 1_000_000))]
    pub(crate) per_second: u32,
    /// That many at once after a pause, 0 to 1000000; 0: as many as in a second.
    #[schemars(range(max = 1_000_000))]
    pub(crate) burst: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawGuardAttack {
    /// `auto`: while there is an attack; `on`: always; `off`: never. `constellation guard attack` overrules it
    /// while the node runs.
    pub(crate) xdp: XdpMode,
    /// Packets dropped in a second that are an attack, 1 to 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(crate) raise: u32,
    /// Packets dropped in a second below which it is calm; less than `raise`.
    pub(crate) calm: u32,
    /// How long it has to be calm before the attack is over, 1s to 24h.
    pub(crate) patience: Time,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RawGuardFeed {
    /// Whether anybody is banned this way. Never banned are addresses on the allow list, of this host, and those that an
    /// entry point trusts (`forwardedHeaders`, `proxyProtocol`): they speak for others.
    pub(crate) enabled: bool,
    /// So many offences of one source are too many, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) offences: u32,
    /// Within this time, 1s to 1h.
    pub(crate) within: Time,
    /// Length of the first ban, 1s or more; each further one is twice as long.
    pub(crate) ban: Time,
    /// Length of the longest ban, from `ban` to 720h; after so long without a ban a source begins again with the shortest.
    pub(crate) longest: Time,
}

impl Default for RawGuard {
    fn default() -> Self {
        Self {
            mode: GuardMode::default(),
            devices: vec![AUTO.to_owned()],
            deny: Vec::new(),
            allow: Vec::new(),
            connections: RawGuardRate::default(),
            flows: RawGuardRate::default(),
            flow_idle: Guard::default().flow_idle.into(),
            ports: Vec::new(),
            attack: RawGuardAttack::default(),
            feed: RawGuardFeed::default(),
        }
    }
}

impl Default for RawGuardAttack {
    fn default() -> Self {
        let GuardAttack {
            xdp,
            raise,
            calm,
            patience,
        } = GuardAttack::default();
        Self {
            xdp,
            raise,
            calm,
            patience: patience.into(),
        }
    }
}

impl Default for RawGuardFeed {
    fn default() -> Self {
        let defaults = GuardFeed::default();
        Self {
            enabled: defaults.enabled,
            offences: defaults.offences,
            within: defaults.within.into(),
            ban: defaults.ban.into(),
            longest: defaults.longest.into(),
        }
    }
}
