//! `retry`: more attempts at a request than its service's own policy makes.
//!
//! Attempts are the data plane's business; here is what the options say about them. A request that is not safe to repeat
//! is repeated only where nothing of it can have arrived, unless the options ask for more.

use std::sync::Arc;
use std::time::Duration;

use crate::statuses::Statuses;

/// Most attempts that are made at one request, whoever asks for them.
pub const MAX_ATTEMPTS: usize = 16;

/// Asks for more attempts.
#[derive(Debug)]
pub struct Retry(pub(crate) Arc<Retrying>);

/// What the options say about attempts.
#[derive(Clone, Debug)]
pub struct Retrying {
    /// All attempts, the first included; 1 to 16.
    pub attempts: usize,
    /// The first pause; later ones grow up to twice that. Zero: none.
    pub initial_interval: Duration,
    /// No attempt begins later than this after the first; `None`: any.
    pub timeout: Option<Duration>,
    /// The longest body that is kept for further attempts; `None`: what the service's policy says.
    pub max_body: Option<u64>,
    /// Statuses that are tried again. A back end that can't be used counts as 502 here.
    pub statuses: Statuses,
    /// Whether a back end that can't be reached is tried again.
    pub on_network_error: bool,
    /// Whether methods that are not idempotent are tried again as well, once they may have arrived.
    pub non_idempotent: bool,
}

impl Retry {
    /// `attempts`: as written. `warnings`: what deserves a look.
    pub fn new(attempts: i64, retrying: Retrying, warnings: &mut Vec<String>) -> Result<Self, String> {
        let written = usize::try_from(attempts)
            .ok()
            .filter(|attempts| *attempts > 0)
            .ok_or_else(|| format!("attempts is {attempts}: write at least 1, for the first attempt"))?;
        if written > MAX_ATTEMPTS {
            warnings.push(format!("attempts is {attempts}: at most {MAX_ATTEMPTS} are made"));
        }
        let attempts = written.min(MAX_ATTEMPTS);
        Ok(Self(Arc::new(Retrying { attempts, ..retrying })))
    }
}

impl Retrying {
    /// The pause before the next attempt when so many were made. `share`: 0 to 1, drawn at random.
    pub fn pause(&self, made: usize, share: f64) -> Duration {
        let steps = self.attempts.saturating_sub(1).max(1);
        let step = made.saturating_sub(1).min(steps);
        #[expect(clippy::cast_precision_loss, reason = "both are at most 16")]
        let growth = 2f64.powf(step as f64 / steps as f64);
        self.initial_interval
            .mul_f64(growth * (0.5 + share.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retrying(milliseconds: u64) -> Retrying {
        Retrying {
            attempts: 3,
            initial_interval: Duration::from_millis(milliseconds),
            timeout: None,
            max_body: None,
            statuses: Statuses::default(),
            on_network_error: true,
            non_idempotent: false,
        }
    }

    #[test]
    fn pauses_grow_to_twice_the_first() {
        // made, share, milliseconds
        for (made, share, expected) in [
            (1, 0.5, 100),
            (2, 0.5, 141),
            (3, 0.5, 200),
            (9, 0.5, 200),
            (1, 0.0, 50),
            (1, 1.0, 150),
        ] {
            let pause = retrying(100).pause(made, share);
            assert_eq!(pause.as_millis(), expected, "{made} {share}");
        }
        assert_eq!(retrying(0).pause(2, 1.0), Duration::ZERO);
    }

    #[test]
    fn attempts_have_bounds() {
        // attempts as written, what is made of them, warnings
        for (attempts, expected, said) in [
            (0, None, 0),
            (-1, None, 0),
            (1, Some(1), 0),
            (16, Some(16), 0),
            (17, Some(16), 1),
        ] {
            let mut warnings = Vec::new();
            let made = Retry::new(attempts, retrying(0), &mut warnings);
            assert_eq!(made.ok().map(|retry| retry.0.attempts), expected, "{attempts}");
            assert_eq!(warnings.len(), said, "{attempts}");
        }
    }
}
