//! What the active checks say of an endpoint.

use std::time::Instant;

use crate::policy::HealthCheck;

/// The fact, with its evidence. An endpoint that was not checked yet is usable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) state: CheckState,
    /// Results in a row that contradict the state.
    pub(super) against: u32,
    /// When the last result came, and why it was bad if it was.
    pub(super) last: Option<(Instant, Option<Box<str>>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CheckState {
    #[default]
    Unknown,
    Healthy,
    Unhealthy,
}

impl Check {
    /// Takes in one result (`Err`: why it is bad). Whether that made a usable endpoint unusable or the reverse.
    pub(super) fn observe(&mut self, policy: &HealthCheck, result: Result<(), &str>, now: Instant) -> bool {
        self.last = Some((now, result.err().map(Into::into)));
        let (threshold, other) = match (self.state, result) {
            // The first good result needs no repetition: nothing is known against the endpoint.
            (CheckState::Unknown, Ok(())) => (1, CheckState::Healthy),
            (CheckState::Unhealthy, Ok(())) => (policy.healthy_threshold, CheckState::Healthy),
            (CheckState::Unknown | CheckState::Healthy, Err(_)) => {
                (policy.unhealthy_threshold, CheckState::Unhealthy)
            }
            (CheckState::Healthy, Ok(())) | (CheckState::Unhealthy, Err(_)) => {
                self.against = 0;
                return false;
            }
        };
        self.against = self.against.saturating_add(1);
        if self.against < threshold {
            return false;
        }
        self.against = 0;
        let was_usable = self.is_usable();
        self.state = other;
        was_usable != self.is_usable()
    }

    pub(super) fn is_usable(&self) -> bool {
        self.state != CheckState::Unhealthy
    }

    /// Why the last result was bad.
    pub(super) fn reason(&self) -> Option<&str> {
        self.last.as_ref()?.1.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states after each of a sequence of results: `+` good, `-` bad.
    fn states(healthy_threshold: u32, unhealthy_threshold: u32, results: &str) -> String {
        let policy = HealthCheck {
            healthy_threshold,
            unhealthy_threshold,
            ..HealthCheck::default()
        };
        let mut check = Check::default();
        let mut usable = true;
        let after = |result| {
            let changed = check.observe(
                &policy,
                if result == '+' { Ok(()) } else { Err("503") },
                Instant::now(),
            );
            assert_eq!(changed, usable != check.is_usable(), "{results}");
            usable = check.is_usable();
            match check.state {
                CheckState::Unknown => '?',
                CheckState::Healthy => 'h',
                CheckState::Unhealthy => 'u',
            }
        };
        results.chars().map(after).collect()
    }

    #[test]
    fn transitions() {
        for (up, down, results, want) in [
            (1, 2, "+", "h"),
            (3, 2, "+", "h"),
            (1, 2, "-+--+", "?hhuh"),
            (1, 1, "-+-", "uhu"),
            (1, 3, "----", "??uu"),
            (2, 2, "--+-++", "?uuuuh"),
            (3, 1, "-++-+++", "uuuuuuh"),
            (1, 2, "+-+-+--", "hhhhhhu"),
        ] {
            assert_eq!(states(up, down, results), want, "up {up}, down {down}: {results}");
        }
    }
}
