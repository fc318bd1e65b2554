//! Metrics of the data plane, declared once.

use prometheus_client::registry::Registry;

/// Every metric family of the data plane.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Declares the families in `registry`.
    pub fn register(_registry: &mut Registry) -> Self {
        Self {}
    }
}
