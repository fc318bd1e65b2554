//! What status and metrics tell of virtual addresses.

use std::time::Duration;

use serde::Serialize;

use crate::kernel::Standing;

/// Virtual addresses at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether they can be had, and why not.
    #[serde(flatten)]
    pub standing: Standing,
    /// Each with its device.
    pub addresses: Vec<String>,
    /// How long they are here for without another renewal; 0: they are not.
    #[serde(rename = "remaining_seconds", serialize_with = "seconds")]
    pub remaining: Duration,
    /// How long they are kept to this host yet, for connections from before; 0: they are not.
    #[serde(rename = "set_aside_seconds", serialize_with = "seconds")]
    pub set_aside: Duration,
    /// How often they came here.
    pub announced: u64,
}

fn seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}
