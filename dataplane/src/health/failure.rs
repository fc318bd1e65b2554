//! Why a check failed: words for the operator and a label for the metrics.

use std::fmt;
use std::io;
use std::time::Duration;

use http::{Method, StatusCode};
use pingora_error::ErrorType;

use crate::metrics::CheckOutcome;

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) outcome: CheckOutcome,
    /// Words that follow "the check failed: ".
    pub(crate) reason: Box<str>,
}

/// Text from outside is cut to this many characters.
const SHOWN: usize = 120;

impl Failure {
    pub(super) fn new(outcome: CheckOutcome, reason: impl Into<Box<str>>) -> Self {
        Self {
            outcome,
            reason: reason.into(),
        }
    }

    /// `GET /healthz gave 500`.
    pub(super) fn status(
        method: &Method,
        path: &str,
        status: StatusCode,
        wanted: Option<StatusCode>,
    ) -> Self {
        let wanted = match wanted {
            Some(wanted) => format!(", not {}", wanted.as_u16()),
            None => String::new(),
        };
        let reason = format!("{method} {} gave {}{wanted}", shown(path), status.as_u16());
        Self::new(CheckOutcome::Status, reason)
    }

    pub(super) fn no_connection(limit: Duration) -> Self {
        Self::new(
            CheckOutcome::ConnectTimeout,
            format!("no connection within {limit:?}"),
        )
    }

    pub(super) fn no_answer(limit: Duration) -> Self {
        Self::new(CheckOutcome::Timeout, format!("no answer within {limit:?}"))
    }

    /// No address of the name.
    pub(super) fn name(host: &str, error: &io::Error) -> Self {
        Self::new(CheckOutcome::Name, format!("no address of {host}: {error}"))
    }

    /// No connection for a reason that the kernel gave.
    pub(super) fn connect(error: &io::Error) -> Self {
        let words = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
            io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
            io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
            _ => format!("no connection: {error}"),
        };
        Self::new(CheckOutcome::Connect, words)
    }

    /// No connection, or no TLS on it.
    pub(super) fn stream(error: &pingora_error::Error) -> Self {
        match error.etype() {
            ErrorType::ConnectRefused => Self::new(CheckOutcome::Connect, "connection refused"),
            ErrorType::ConnectNoRoute => Self::new(CheckOutcome::Connect, "no route to the host"),
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => Self::tls(&error.to_string()),
            _ => Self::new(
                CheckOutcome::Connect,
                format!("no connection: {}", shown(&error.to_string())),
            ),
        }
    }

    /// The transport can't be used.
    pub(super) fn settings(why: &str) -> Self {
        Self::new(CheckOutcome::Settings, why)
    }

    /// No TLS on a connection.
    pub(super) fn tls(text: &str) -> Self {
        let reason = match text.split_once("invalid peer certificate: ") {
            Some((_, why)) => {
                let why = why.split(", SNI:").next().unwrap_or(why);
                format!("certificate not accepted: {}", shown(why))
            }
            None => {
                let why = text.split_once("failed: ").map_or(text, |(_, why)| why);
                format!("TLS failed: {}", shown(why))
            }
        };
        Self::new(CheckOutcome::Tls, reason)
    }

    /// The exchange on an open connection failed.
    pub(super) fn exchange(error: &hyper::Error) -> Self {
        if error.is_parse_too_large() {
            return Self::new(CheckOutcome::Protocol, "the head of the answer is too large");
        }
        if error.is_parse() {
            return Self::new(CheckOutcome::Protocol, "the answer is not HTTP");
        }
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            if let Some(h2) = inner.downcast_ref::<h2::Error>() {
                return Self::h2(h2);
            }
            cause = inner.source();
        }
        Self::new(
            CheckOutcome::Closed,
            "the connection ended before the answer was complete",
        )
    }

    fn h2(error: &h2::Error) -> Self {
        match (error.is_io(), error.reason()) {
            (true, _) => Self::new(
                CheckOutcome::Closed,
                "the connection ended before the answer was complete",
            ),
            (false, Some(reason)) => {
                Self::new(CheckOutcome::Protocol, format!("HTTP/2 ended with {reason:?}"))
            }
            (false, None) => Self::new(CheckOutcome::Protocol, "the answer is not HTTP/2"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Text from outside as it may stand in a reason: bounded, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    let mut short: String = clean.take(SHOWN).collect();
    if text.chars().count() > SHOWN {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_what_was_seen() {
        let status = |wanted| {
            Failure::status(
                &Method::GET,
                "/healthz",
                StatusCode::INTERNAL_SERVER_ERROR,
                wanted,
            )
        };
        for (failure, reason) in [
            (status(None), "GET /healthz gave 500"),
            (
                status(Some(StatusCode::NO_CONTENT)),
                "GET /healthz gave 500, not 204",
            ),
            (Failure::no_answer(Duration::from_secs(5)), "no answer within 5s"),
            (
                Failure::no_connection(Duration::from_millis(250)),
                "no connection within 250ms",
            ),
            (
                Failure::connect(&io::Error::from(io::ErrorKind::ConnectionRefused)),
                "connection refused",
            ),
            (
                Failure::tls(
                    "TLSHandshakeFailure context: TLS connect() failed: invalid peer certificate: UnknownIssuer, SNI: a.test",
                ),
                "certificate not accepted: UnknownIssuer",
            ),
        ] {
            assert_eq!(&*failure.reason, reason);
        }
    }

    #[test]
    fn text_from_outside_is_short_and_clean() {
        assert_eq!(shown("a\r\n\u{1b}[31mb"), "a???[31mb");
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), SHOWN + 1);
    }
}
