//! What the source has said last, and what of a new reading is worth saying again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::{info, warn};

use super::{Contribution, Problem, SourceState};

/// The sending side of a source's state. Only real changes wake the receivers.
#[derive(Debug)]
pub(crate) struct Publication {
    state: watch::Sender<SourceState>,
    /// Problems that were logged and still stand.
    logged: BTreeSet<(String, String)>,
    provider: &'static str,
}

impl Publication {
    /// Nothing said yet.
    pub(crate) fn new(provider: &'static str) -> (Self, watch::Receiver<SourceState>) {
        let (state, receiver) = watch::channel(SourceState::default());
        let publication = Self {
            state,
            logged: BTreeSet::new(),
            provider,
        };
        (publication, receiver)
    }

    /// A complete reading.
    pub(crate) fn publish(&mut self, contribution: Contribution) {
        self.publish_partly(contribution, None);
    }

    /// A complete reading in which something left that was there before: whoever compiles must not wait.
    pub(crate) fn publish_departure(&mut self, contribution: Contribution) {
        self.log_problems(&contribution);
        self.state.send_if_modified(|state| {
            // The container may be one that defines nothing.
            let same = state.contribution.as_deref() == Some(&contribution);
            if !same {
                state.departures += 1;
                state.contribution = Some(Arc::new(contribution));
            }
            !same
        });
    }

    /// A reading of which a part failed, if there is an `error`; what was known of that part stands in it.
    pub(crate) fn publish_partly(&mut self, contribution: Contribution, error: Option<String>) {
        self.log_problems(&contribution);
        self.state.send_if_modified(|state| {
            let same = state.contribution.as_deref() == Some(&contribution)
                && state.status.connected == error.is_none()
                && state.status.error == error;
            state.status.connected = error.is_none();
            state.status.error = error;
            state.status.last_read = Some(SystemTime::now());
            if !same {
                state.contribution = Some(Arc::new(contribution));
            }
            !same
        });
    }

    /// A reading that found nothing new.
    pub(crate) fn read_again(&mut self) {
        self.state.send_if_modified(|state| {
            state.status.last_read = Some(SystemTime::now());
            false
        });
    }

    /// The world can't be read; the last contribution stands.
    pub(crate) fn fail(&mut self, error: String) {
        self.state.send_if_modified(|state| {
            if !state.status.connected && state.status.error.as_ref() == Some(&error) {
                return false;
            }
            warn!(provider = self.provider, "{error}");
            state.status.connected = false;
            state.status.error = Some(error);
            true
        });
    }

    fn log_problems(&mut self, contribution: &Contribution) {
        let key = |problem: &Problem| (problem.subject.clone(), problem.message.clone());
        let now: BTreeSet<_> = contribution.problems.iter().map(key).collect();
        for (subject, message) in now.difference(&self.logged) {
            warn!(provider = self.provider, "{subject}: {message}");
        }
        for (subject, message) in self.logged.difference(&now) {
            info!(provider = self.provider, "{subject}: no longer: {message}");
        }
        self.logged = now;
    }
}
