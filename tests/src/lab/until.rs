//! Awaiting a condition, for what does not run on tokio.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How long a condition may take. Far above what any of them needs, so that a busy machine is no failure.
const PATIENCE: Duration = Duration::from_secs(45);

/// Polls `probe` until it succeeds, and returns its value.
///
/// # Errors
/// The probe's last, with `what` before it, once patience has run out.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("{what}: still not so after {PATIENCE:?}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
