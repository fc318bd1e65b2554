//! What status, health and metrics tell of steering.

use std::time::Duration;

use constellation_ebpf_loader::BootTime;
use constellation_ebpf_loader::abi::steer::Verdict;
use serde::Serialize;

use super::record::Record;
use crate::kernel::Standing;

/// Steering at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `edge.steering`: `auto`, `ebpf` or `off`.
    pub mode: &'static str,
    /// Who decides that this node may answer: `local`, itself; `lease`, its cluster.
    pub authority: &'static str,
    /// Whether it is in force, and why not.
    #[serde(flatten)]
    pub standing: Standing,
    /// The lease, where steering is active or a cluster's lease decides.
    pub lease: Option<LeaseReport>,
}

/// The lease, and what was done under it.
#[derive(Clone, Debug, Serialize)]
pub struct LeaseReport {
    /// The epoch of the grant: under a cluster's lease, its token.
    pub epoch: u64,
    /// Whether connections come only to be passed on, or left unanswered: this node is not the holder.
    pub stands_by: bool,
    /// How long the kernel lets this node answer from now; 0 when it refuses new connections.
    #[serde(rename = "remaining_seconds", serialize_with = "seconds")]
    pub remaining: Duration,
    /// Grants since this process serves, extensions included.
    pub renewals: u64,
    /// How often the lease had ended before it was renewed.
    pub losses: u64,
    /// Grants that were refused: the lease was over, or older than one that was used here, or the kernel was against it.
    pub refused: u64,
    /// Addresses, networks and ports that are steered.
    pub steered: usize,
    /// How often the program said what, since the maps were made.
    #[serde(skip)]
    pub verdicts: Vec<(Verdict, u64)>,
}

impl LeaseReport {
    pub(super) fn of(record: &Record, steered: usize, verdicts: Vec<(Verdict, u64)>) -> Self {
        Self {
            epoch: record.epoch,
            stands_by: record.stands_by,
            remaining: record.deadline.remaining(BootTime::now()).unwrap_or_default(),
            renewals: record.renewals,
            losses: record.losses,
            refused: record.refused,
            steered,
            verdicts,
        }
    }
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
