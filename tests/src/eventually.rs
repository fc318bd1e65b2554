//! Awaiting a condition instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// How long a condition may take before the test fails. Far above what any of them needs, so that a busy machine
/// does not turn into a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `probe` until it returns `Ok`, and returns that value.
///
/// # Panics
/// When [`PATIENCE`] runs out; the message carries `what` and the last error.
pub async fn eventually<T, E, F>(what: &str, mut probe: F) -> T
where
    F: AsyncFnMut() -> Result<T, E>,
    E: std::fmt::Display,
{
    let started = Instant::now();
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(error) if started.elapsed() > PATIENCE => {
                panic!("{what}: still not so after {PATIENCE:?}: {error}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
