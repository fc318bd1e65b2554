//! `edge.chase`: connections that stay with the node that had their address before.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

/// `edge.chase`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chase {
    /// Network devices at which packets are looked at; none: it is off.
    pub devices: Vec<String>,
    /// What moves, where nobody says otherwise.
    pub addresses: Vec<IpNet>,
    /// Who had it before, where nobody says otherwise; at most one of each family.
    pub previous: Vec<IpAddr>,
    /// For how long, where nobody says otherwise; within [`Self::DURATION`].
    pub duration: Duration,
}

impl Chase {
    /// A chase that is over before a handshake is no use, and one of more than a day is a mistake.
    pub const DURATION: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
}

impl Default for Chase {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            addresses: Vec::new(),
            previous: Vec::new(),
            duration: Duration::from_secs(600),
        }
    }
}
