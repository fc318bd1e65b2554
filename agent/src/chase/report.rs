//! What status, health and metrics tell of the chase.

use std::net::IpAddr;
use std::time::Duration;

use constellation_config::Chase as ChaseConfig;
use constellation_ebpf_loader::abi::chase::Verdict;
use ipnet::IpNet;
use serde::Serialize;

use crate::kernel::Standing;

/// The chase at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether it is in force, and why not.
    #[serde(flatten)]
    pub standing: Standing,
    /// Devices at which packets are looked at.
    pub devices: Vec<String>,
    /// What has moved here, in order, as long as connections stay with the node before.
    pub moved: Vec<MovedReport>,
    /// What should be otherwise.
    pub problems: Vec<String>,
    /// Whether it is to be used.
    #[serde(skip)]
    pub is_wanted: bool,
    /// How often the program said what, since the maps were made.
    #[serde(skip)]
    pub verdicts: Vec<(Verdict, u64)>,
}

/// An address that has moved here.
#[derive(Clone, Debug, Serialize)]
pub struct MovedReport {
    /// It, or a network.
    pub address: String,
    /// Who had it.
    pub previous: IpAddr,
    /// How long its connections go on there.
    #[serde(rename = "remaining_seconds", serialize_with = "seconds")]
    pub remaining: Duration,
}

impl Report {
    pub(super) fn new(config: &ChaseConfig) -> Self {
        Self {
            standing: Standing::ENDED,
            devices: Vec::new(),
            moved: Vec::new(),
            problems: Vec::new(),
            is_wanted: !config.devices.is_empty(),
            verdicts: Vec::new(),
        }
    }
}

/// An address without the length of its prefix.
pub(super) fn short(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
