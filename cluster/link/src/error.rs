//! Why a call has no answer, and whether it may have arrived.

use std::io;

use constellation_identity::tls::explain;
use thiserror::Error;

use crate::frame::Service;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// No connection: the request was not sent.
    #[error("{peer} can't be reached: {detail}")]
    Unreachable {
        /// Which node, or where it was looked for.
        peer: String,
        /// What was tried, and what came of it.
        detail: String,
    },
    /// No answer in time, or the connection ended before: the request may have arrived.
    #[error("no answer from {peer}: {detail}")]
    NoAnswer {
        /// Which node.
        peer: String,
        /// What happened instead.
        detail: String,
    },
    /// One of the two does not believe the other. Trying again helps only after somebody has done something about it.
    #[error("no connection with {peer}: {reason}")]
    Refused {
        /// Which node, or where it was looked for.
        peer: String,
        /// Who refused, why, and what to do.
        reason: String,
    },
    /// Not sent: the other side would end the connection.
    #[error("a request of {size} bytes to service {}, at most {limit} are allowed", .service.name())]
    TooLarge {
        /// For whom.
        service: Service,
        /// As given.
        size: usize,
        /// As allowed.
        limit: usize,
    },
    /// [`crate::Links::shut_down`] was called.
    #[error("this node is stopping, it calls nobody any more")]
    Stopped,
}

/// What an error of a TLS stream means for who opened it.
pub(crate) fn of_tls(peer: &str, error: &io::Error) -> LinkError {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let peer = peer.to_owned();
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => LinkError::Refused {
            reason: format!(
                "it refused this node's certificate or protocol (TLS alert {alert:?}): the reason is in its log"
            ),
            peer,
        },
        Some(error) => LinkError::Refused {
            reason: explain(error),
            peer,
        },
        None => LinkError::Unreachable {
            detail: error.to_string(),
            peer,
        },
    }
}
