//! From the configuration to what [`constellation_node`] takes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use constellation_cluster::lease::{Damping, Timing};
use constellation_cluster::raft::Timers;
use constellation_config::{Cluster as Config, ClusterProfile, Config as Whole};
use constellation_node::{Settings, source_towards};

/// How much earlier than the leader counts a holder stops: a tenth of the lease, which is the least there can be.
const MARGIN: u32 = 10;
/// How much later each next node asks for a lease that became free.
const STAGGER: Duration = Duration::from_millis(200);

/// What a node is, whether it is in a cluster or not.
#[derive(Clone, Debug)]
pub struct Traits {
    /// Its name.
    pub node: String,
    /// Lower is preferred.
    pub priority: u32,
    /// Its region.
    pub region: Option<String>,
    /// Its release.
    pub release: String,
    /// What it can do.
    pub capabilities: Vec<String>,
}

impl Traits {
    /// As the configuration says.
    #[must_use]
    pub fn of(config: &Whole, release: &str, capabilities: Vec<String>) -> Self {
        Self {
            node: config.node.name.clone(),
            priority: config.node.priority.into(),
            region: (!config.node.region.is_empty()).then(|| config.node.region.clone()),
            release: release.to_owned(),
            capabilities,
        }
    }
}

pub(super) fn of(config: &Config, advertise: IpAddr, traits: Traits) -> Settings {
    let (timers, gossip_timing) = match config.profile {
        ClusterProfile::Lan => (Timers::LAN, constellation_gossip::Timing::LAN),
        ClusterProfile::Wan => (Timers::WAN, constellation_gossip::Timing::WAN),
    };
    Settings {
        advertise: Some(advertise),
        gossip: config.gossip.or(advertise),
        peers: config.peers.clone(),
        timers,
        gossip_timing,
        lease: lease(config),
        damping: Damping {
            settle: config.settle,
            stagger: STAGGER,
        },
        priority: traits.priority,
        region: traits.region,
        public: Vec::new(),
        release: traits.release,
        capabilities: traits.capabilities,
    }
}

/// The configuration's range is within that of a lease.
fn lease(config: &Config) -> Timing {
    let ttl = Duration::from_millis(u64::try_from(config.lease.as_millis()).unwrap_or(u64::MAX));
    let margin = Duration::from_millis(
        u64::try_from(ttl.as_millis())
            .unwrap_or(u64::MAX)
            .div_ceil(u64::from(MARGIN)),
    );
    #[expect(clippy::expect_used, reason = "constants that are a timing")]
    Timing::new(ttl, margin).unwrap_or_else(|_| {
        Timing::new(Duration::from_secs(1), Duration::from_millis(100)).expect("a timing")
    })
}

/// The address by which others reach this node: as configured, else the one from which it reaches the Internet.
///
/// # Errors
/// When there is none, in words for the operator.
pub fn advertised(config: &Config) -> Result<IpAddr, String> {
    if let Some(ip) = config
        .advertise
        .or(config.raft.ip.filter(|ip| !ip.is_unspecified()))
    {
        return Ok(ip);
    }
    // RFC 5737: nobody is there, and nothing is sent.
    let nowhere = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 9);
    source_towards(nowhere).map_err(|error| {
        format!(
            "this node's address among the others can't be found ({error}): set cluster.advertise, or give --advertise IP"
        )
    })
}
