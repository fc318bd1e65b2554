//! What an attempt at an endpoint ended in, and the step that follows.

use pingora_error::{Error, ErrorType};
use pingora_proxy::Session;

use super::exchange::Exchange;
use super::forwarded::Upgrade;
use super::proxy::App;
use super::retry::{Attempt, Failure, Verdict, is_idempotent, retry_verdict};
use crate::metrics::EndpointFailure;

impl App {
    /// Decides what follows a failed attempt and prepares for it.
    pub(super) fn follow(
        &self,
        session: &mut Session,
        exchange: &mut Exchange,
        failure: Failure,
        error: &mut Error,
    ) {
        let request = session.req_header();
        let repeatable = is_idempotent(&request.method) && exchange.upgrade == Upgrade::None;
        let attempt = Attempt {
            failure,
            repeatable,
            replayable: !session.as_ref().retry_buffer_truncated(),
            answered: exchange.answered
                || session
                    .response_written()
                    .is_some_and(|r| !r.status.is_informational()),
            made: exchange.attempts,
            others: exchange.has_others(),
        };
        let verdict = retry_verdict(&attempt);
        if let Some((endpoint, state)) = exchange.endpoint(&self.edge) {
            tracing::debug!(endpoint = %endpoint.name, ?failure, ?verdict, %error, "an attempt failed");
            state.metrics.failed(reason(failure, error));
        }
        exchange.end_attempt();
        match verdict {
            Verdict::Next => {
                exchange.step(matches!(failure, Failure::Connect { .. }));
                error.set_retry(true);
            }
            Verdict::Again => error.set_retry(true),
            Verdict::GiveUp(status) => {
                exchange.failure = status;
                error.set_retry(false);
            }
        }
    }
}

/// The label of a failed attempt.
fn reason(failure: Failure, error: &Error) -> EndpointFailure {
    match (failure, error.etype()) {
        (_, ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert) => {
            EndpointFailure::Tls
        }
        (Failure::Connect { timed_out: true }, _) => EndpointFailure::ConnectTimeout,
        (Failure::Connect { .. }, _) => EndpointFailure::Connect,
        (Failure::Silent, _) | (_, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            EndpointFailure::Timeout
        }
        (_, ErrorType::InvalidHTTPHeader | ErrorType::InvalidH2) => EndpointFailure::Protocol,
        _ => EndpointFailure::Closed,
    }
}

/// How an attempt failed after there was a connection.
pub(super) fn failure_of(error: &Error, reused: bool) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Silent,
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError => {
            Failure::Broken { reused }
        }
        ErrorType::H2Error | ErrorType::H2Downgrade | ErrorType::InvalidH2 | ErrorType::H1Error => {
            match error.retry {
                // GOAWAY and REFUSED_STREAM: the back end says that it did nothing (RFC 9113 section 8.7).
                pingora_error::RetryType::Decided(true) => Failure::NotProcessed,
                _ => Failure::Broken { reused },
            }
        }
        _ => Failure::Final,
    }
}
