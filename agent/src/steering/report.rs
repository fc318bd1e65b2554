//! What status, health and metrics tell of steering.

use std::time::Duration;

use constellation_ebpf_loader::abi::steer::Verdict;
use serde::Serialize;

use crate::kernel::Standing;

/// Steering at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `edge.steering`: `auto`, `ebpf` or `off`.
    pub mode: &'static str,
    /// Whether it is in force, and why not.
    #[serde(flatten)]
    pub standing: Standing,
    /// The lease, where steering is active.
    pub lease: Option<LeaseReport>,
}

/// The lease, and what was done under it.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseReport {
    /// The epoch of the grant.
    pub epoch: u64,
    /// How long the kernel lets this node answer from now; 0 when it refuses new connections.
    #[serde(rename = "remaining_seconds", serialize_with = "seconds")]
    pub remaining: Duration,
    /// Grants since this process serves, extensions included.
    pub renewals: u64,
    /// How often the lease had ended before it was renewed.
    pub losses: u64,
    /// Addresses, networks and ports that are steered.
    pub steered: usize,
    /// How often the program said what, since the maps were made.
    #[serde(skip)]
    pub verdicts: Vec<(Verdict, u64)>,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
