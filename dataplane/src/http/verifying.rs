//! Checks of passwords, which take the processor for long: on threads of their own, few at a time.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;

/// Requests of all workers that wait for a check. More are turned away, so that a flood of wrong passwords takes neither
/// memory nor, beyond what the checks themselves take, the time of others.
const WAITING: usize = 256;

/// The places for checks, which all workers share.
#[derive(Debug)]
pub(super) struct Verifying {
    waiting: Semaphore,
    running: Arc<Semaphore>,
}

/// There are too many checks already.
#[derive(Debug)]
pub(super) struct Crowded;

impl Default for Verifying {
    /// Checks take no more than half of the processors.
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self {
            waiting: Semaphore::new(WAITING),
            running: Arc::new(Semaphore::new((processors / 2).max(1))),
        }
    }
}

impl Verifying {
    /// Has `work` done. Cancel safe; work that has begun goes on to its end, and its place with it.
    pub(super) async fn run(&self, work: impl FnOnce() -> bool + Send + 'static) -> Result<bool, Crowded> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Crowded)?;
        let place = self.running.clone().acquire_owned().await.map_err(|_| Crowded)?;
        let running = tokio::task::spawn_blocking(move || {
            let right = work();
            drop(place);
            right
        });
        // Who can't be checked is not let in.
        Ok(running.await.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn no_more_wait_than_there_is_room_for() {
        let verifying = Arc::new(Verifying {
            waiting: Semaphore::new(2),
            running: Arc::new(Semaphore::new(1)),
        });
        let (go, wait) = channel::<()>();
        let first = tokio::spawn({
            let verifying = verifying.clone();
            async move { verifying.run(move || wait.recv().is_ok()).await }
        });
        let second = tokio::spawn({
            let verifying = verifying.clone();
            async move { verifying.run(|| false).await }
        });
        while verifying.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(verifying.run(|| true).await.is_err());
        go.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert!(!second.await.unwrap().unwrap());
        assert!(verifying.run(|| true).await.unwrap());
    }

    #[tokio::test]
    async fn a_check_that_breaks_lets_nobody_in() {
        let verifying = Verifying::default();
        assert!(!verifying.run(|| panic!("as a test of it")).await.unwrap());
        assert!(verifying.run(|| true).await.unwrap());
    }
}
