//! The access log: records leave the request path through a bounded queue; a writer thread formats and writes.

/// A handle to the log. Cloning shares the queue.
#[derive(Clone, Debug, Default)]
pub struct AccessLog {}

impl AccessLog {
    /// A log that records nothing.
    pub fn off() -> Self {
        Self {}
    }
}
