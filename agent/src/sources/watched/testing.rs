//! A source that runs in a test.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::sources::{Contribution, SourceHandle, SourceState};

/// Longer than any poll; only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

pub(in crate::sources) struct Running {
    pub(in crate::sources) handle: SourceHandle,
    cancel: CancellationToken,
}

impl Running {
    pub(in crate::sources) fn start(spawn: impl FnOnce(CancellationToken) -> SourceHandle) -> Self {
        let cancel = CancellationToken::new();
        let handle = spawn(cancel.clone());
        Self { handle, cancel }
    }

    /// Waits for a state that is `wanted`.
    pub(in crate::sources) async fn until(
        &mut self,
        wanted: impl FnMut(&SourceState) -> bool,
    ) -> SourceState {
        let seen = self.handle.state.clone();
        match timeout(PATIENCE, self.handle.state.wait_for(wanted)).await {
            Ok(state) => state.unwrap().clone(),
            Err(_) => panic!("never came; last: {:#?}", seen.borrow()),
        }
    }

    /// Waits for a reading that is `wanted`.
    pub(in crate::sources) async fn until_contribution(
        &mut self,
        mut wanted: impl FnMut(&Contribution) -> bool,
    ) -> SourceState {
        self.until(|state| state.contribution.as_deref().is_some_and(&mut wanted))
            .await
    }

    pub(in crate::sources) async fn stop(self) {
        self.cancel.cancel();
        timeout(PATIENCE, self.handle.task).await.unwrap().unwrap();
    }
}
