//! What the composition root holds of a running source: its state, a way to ask for a re-read, and its task.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::SourceState;

/// A running source. The task ends when the cancellation token it was spawned with is cancelled, and only then.
#[derive(Debug)]
pub struct SourceHandle {
    /// The latest state. Every value is complete; values in between may be skipped.
    pub state: watch::Receiver<SourceState>,
    /// Asks for a re-read.
    pub reload: Reload,
    /// The task; awaited at shutdown.
    pub task: JoinHandle<()>,
}

/// Asks a source to read its world again now, as SIGHUP does. Requests made while one is pending become one.
#[derive(Clone, Debug, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Asks. Returns at once; the outcome shows in the source's state.
    pub fn request(&self) {
        self.0.notify_one();
    }

    /// Waits for a request. Cancellation safe.
    pub(crate) async fn requested(&self) {
        self.0.notified().await;
    }
}
