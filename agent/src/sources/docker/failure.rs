//! Why the engine can't be used, in words for the operator with the next step.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::endpoint::Endpoint;

/// Why there is no connection to the engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(
        "`{0}` is not an endpoint of a Docker engine; expected unix:///path, tcp://host:port, http://host:port or \
         https://host:port. Correct providers.docker.endpoint or DOCKER_HOST"
    )]
    Endpoint(String),
    #[error("Docker is not reachable at {endpoint}: {reason}. {step}")]
    Unreachable {
        endpoint: String,
        reason: String,
        step: &'static str,
    },
    #[error("Docker at {endpoint} did not answer within {}. Check that the engine is alive (`docker info`)", humantime::format_duration(*limit))]
    Silent { endpoint: String, limit: Duration },
    #[error(
        "what answers at {endpoint} is not a Docker engine: {reason}. Correct providers.docker.endpoint or DOCKER_HOST"
    )]
    NotDocker { endpoint: String, reason: String },
    #[error("the event stream of Docker at {0} has ended. The engine is probably restarting")]
    EventsEnded(String),
    #[error("TLS towards Docker can't be set up: {0}")]
    Tls(String),
}

const START: &str = "Start Docker, set DOCKER_HOST, or remove providers.docker";
const PERMIT: &str =
    "Add the user of this process to the group that owns the socket (usually `docker`), or run it as root";
const CERTIFY: &str = "Check providers.docker.tls and the engine's certificate";

impl ConnectError {
    /// The connection couldn't be made.
    pub(super) fn unreachable(endpoint: &Endpoint, error: &io::Error) -> Self {
        let (reason, step) = match error.kind() {
            io::ErrorKind::NotFound => ("no such file".to_owned(), START),
            io::ErrorKind::PermissionDenied => ("permission denied".to_owned(), PERMIT),
            io::ErrorKind::ConnectionRefused => ("connection refused".to_owned(), START),
            // rustls reports a failed handshake so.
            io::ErrorKind::InvalidData => (error.to_string(), CERTIFY),
            _ => (error.to_string(), START),
        };
        Self::Unreachable {
            endpoint: endpoint.to_string(),
            reason,
            step,
        }
    }

    /// A request failed as a whole.
    pub(super) fn from_client(endpoint: &Endpoint, error: &bollard::errors::Error) -> Self {
        use bollard::errors::Error as Client;
        if let Some(error) = io_cause(error) {
            return Self::unreachable(endpoint, error);
        }
        let endpoint = endpoint.to_string();
        match error {
            Client::RequestTimeoutError => Self::Unreachable {
                endpoint,
                reason: "no answer in time".to_owned(),
                step: "Check that the engine is alive (`docker info`)",
            },
            Client::DockerResponseServerError { status_code, message } => Self::NotDocker {
                reason: format!("it answers {status_code} {}", message.trim()),
                endpoint,
            },
            Client::JsonDataError { .. }
            | Client::JsonSerdeError { .. }
            | Client::APIVersionParseError {} => Self::NotDocker {
                reason: format!("its answer is not Docker's ({error})"),
                endpoint,
            },
            other if protocol(other) => Self::NotDocker {
                reason: "it doesn't speak HTTP".to_owned(),
                endpoint,
            },
            other => Self::Unreachable {
                reason: innermost(other),
                endpoint,
                step: START,
            },
        }
    }

    /// A certificate or key file can't be used.
    pub(super) fn file(path: &Path, error: &dyn std::fmt::Display) -> Self {
        Self::Tls(format!("{}: {error}", path.display()))
    }
}

/// Whether it concerns one container only, so that the connection can go on.
pub(super) fn concerns_one(error: &bollard::errors::Error) -> bool {
    use bollard::errors::Error as Client;
    matches!(
        error,
        Client::DockerResponseServerError { .. }
            | Client::JsonDataError { .. }
            | Client::JsonSerdeError { .. }
            | Client::RequestTimeoutError
    )
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let next = |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    };
    std::iter::successors(Some(error), next)
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn protocol(error: &(dyn Error + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(|error| error.is_parse() || error.is_incomplete_message())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}
