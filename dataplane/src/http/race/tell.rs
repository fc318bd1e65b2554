//! Telling of attempts: to the balancer's outlier detection, the metrics and the access log; and what ends with them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use constellation_table::{AttemptOutcome, Endpoint};

use super::{Race, Running};
use crate::access_log::{AttemptLine, AttemptOutcome as LineOutcome};
use crate::http::exchange::Exchange;
use crate::http::runtime::ServiceRuntime;
use crate::metrics::{EndpointFailure, HedgeOutcome};

impl Race<'_> {
    pub(super) fn endpoint_of(&self, number: usize, exchange: &Exchange) -> Option<Arc<Endpoint>> {
        let candidate = self.running.get(number)?.candidate;
        Some(exchange.candidates.get(candidate)?.endpoint.clone())
    }

    pub(super) fn record(&self, number: usize, outcome: AttemptOutcome, exchange: &Exchange) {
        let Some(endpoint) = self.endpoint_of(number, exchange) else {
            return;
        };
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        let Some(leg) = exchange.leg_of(candidate) else {
            return;
        };
        let transitions = leg.service.record(&endpoint, outcome, std::time::Instant::now());
        self.app.edge.note(&leg.service, &transitions);
    }

    /// Writes down how an attempt ended; a single good one needs no words.
    pub(super) fn tell(&self, number: usize, outcome: LineOutcome, exchange: &mut Exchange) {
        let good = matches!(outcome, LineOutcome::Status(_)) && exchange.attempts == 1;
        let (Some(running), Some(endpoint), false) =
            (self.running.get(number), self.endpoint_of(number, exchange), good)
        else {
            return;
        };
        exchange.lines.push(AttemptLine {
            endpoint: endpoint.name.clone(),
            outcome,
            duration: running.since.elapsed(),
        });
    }

    pub(super) fn count_failure(&self, number: usize, reason: EndpointFailure, exchange: &Exchange) {
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        if let Some((.., state)) = Self::reach(candidate, exchange) {
            state.metrics.failed(reason);
        }
    }

    pub(super) fn count_answer(&self, number: usize, exchange: &Exchange) {
        let candidate = self.running.get(number).map_or(0, |running| running.candidate);
        if let Some(runtime) = exchange
            .leg_of(candidate)
            .and_then(|leg| leg.service.live.slot.get::<Arc<ServiceRuntime>>())
        {
            runtime.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives an attempt up of which nothing bad is known.
    pub(super) fn abandon(&mut self, number: usize, exchange: &mut Exchange) {
        self.record(number, AttemptOutcome::Abandoned, exchange);
        self.tell(number, LineOutcome::Abandoned, exchange);
        if self
            .running
            .get(number)
            .is_some_and(|running| running.look.unanswered)
        {
            self.count_failure(number, EndpointFailure::Unanswered, exchange);
        }
        if let Some(running) = self.take(number, exchange) {
            if running.hedge {
                self.runtime.metrics.hedge(HedgeOutcome::Lost);
            }
            // It cost the back end something, but nothing was wrong with it.
            if let Some(token) = running.token {
                token.refund();
            }
        }
    }

    /// The request has its response (`won`), or will have none: what still runs is given up.
    pub(super) fn end(&mut self, won: bool, exchange: &mut Exchange) {
        for number in (0..self.running.len()).rev() {
            let unanswered = |running: &Running| running.look.unanswered;
            if won && self.running.get(number).is_some_and(unanswered) {
                // What it left unanswered was answered elsewhere.
                self.record(number, AttemptOutcome::Unanswered, exchange);
            }
            self.abandon(number, exchange);
        }
        if let Some((upstream, ..)) = self.held.take() {
            self.discard(upstream);
        }
        // What was not asked is free for another request's probe, however long this response lasts.
        for candidate in &mut exchange.candidates {
            candidate.probe = None;
        }
    }
}
