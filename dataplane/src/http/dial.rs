//! The way to an endpoint: a connection that was idle, a new one, or a stream to the node that has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use constellation_table::{Endpoint, Live, Peer, Service};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_error::{Error, ErrorType, Result};
use tokio::time::timeout;

use super::attempt::{Failed, Upstream};
use super::backlog::Patient;
use super::meshed;
use super::pool::Pool;
use super::retry::Failure;
use super::upstream::{IMPATIENT, Names, ServiceState};
use crate::departure;
use crate::mesh::{self, Links};

/// How long a connect to an endpoint that left goes on when there is no other. One that only lost its place in the
/// configuration still takes the connection at once.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// How long the way to another node may take: a connection, and its answer to a tunnel.
const LONGEST_OPENING: Duration = Duration::from_secs(10);

/// How an endpoint is to be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Others wait in line: don't wait for a connection for long.
    pub(super) impatient: bool,
    /// The request changes protocols, which HTTP/2 can't carry.
    pub(super) h1_only: bool,
    /// Not on a connection that was idle: one of those has just failed.
    pub(super) fresh: bool,
    /// The request can't be repeated: an idle connection must be open for sure.
    pub(super) surely: bool,
}

/// An idle connection, without waiting.
pub(super) fn idle(
    pool: &Arc<Pool>,
    service: &Service,
    endpoint: &Arc<Endpoint>,
    manner: Manner,
) -> Option<Box<Upstream>> {
    if endpoint.peer.is_some() {
        return None;
    }
    let state = ServiceState::known(service)?.of(service, endpoint)?;
    let key = state.literal_key().filter(|_| !manner.fresh)?;
    let session = pool.idle(key, manner.surely)?;
    Some(Upstream::new(
        pool,
        session,
        Some(key),
        None,
        endpoint.clone(),
        true,
    ))
}

/// Waits until the endpoint is not worth waiting for, because it left.
async fn left(live: &Live, others: bool) {
    departure::departed(live).await;
    if !others {
        tokio::time::sleep(LAST_CHANCE).await;
    }
}

/// A stream to another node that has the endpoint. `ends`: the client's address, and where it connected to.
pub(super) async fn connect_to_node(
    pool: Arc<Pool>,
    links: Arc<Links>,
    endpoint: Arc<Endpoint>,
    peer: Arc<Peer>,
    ends: [SocketAddr; 2],
    manner: Manner,
) -> Result<Box<Upstream>, Failed> {
    let opening = async {
        if manner.h1_only {
            let stream = mesh::upgrade_stream(&links, &peer, ends[0], ends[1]).await?;
            let session = Http1Session::new(Box::new(Patient::new(stream)));
            return Ok((HttpSession::H1(session), false));
        }
        let (session, reused) = mesh::request_stream(&links, &peer).await?;
        Ok((HttpSession::H2(session), reused))
    };
    let limit = match manner.impatient {
        true => IMPATIENT,
        // The links have limits of their own.
        false => LONGEST_OPENING,
    };
    let opened = tokio::select! {
        biased;
        opened = timeout(limit, opening) => match opened {
            Ok(opened) => opened,
            Err(_) => {
                return Err(Failed {
                    failure: Failure::Connect { timed_out: true },
                    error: Error::explain(ErrorType::ConnectTimedout, "no stream to the node in time").into_up(),
                });
            }
        },
        () = left(&endpoint.live, manner.impatient) => {
            return Err(Failed {
                failure: Failure::Departed,
                error: Error::explain(ErrorType::ConnectError, "the node left").into_up(),
            });
        }
    };
    match opened {
        Ok((session, reused)) => Ok(Upstream::new(&pool, session, None, None, endpoint, reused)),
        Err(refused) => Err(meshed::failed(&refused)),
    }
}

/// Connects to the endpoint, trying its addresses in order.
pub(super) async fn connect(
    pool: Arc<Pool>,
    names: Arc<Names>,
    service: Arc<Service>,
    endpoint: Arc<Endpoint>,
    manner: Manner,
) -> Result<Box<Upstream>, Failed> {
    let unusable = |why: &str| Failed {
        failure: Failure::Connect { timed_out: false },
        error: Error::explain(ErrorType::ConnectError, why.to_owned()).into_up(),
    };
    let state = ServiceState::known(&service)
        .and_then(|state| state.of(&service, &endpoint))
        .ok_or_else(|| unusable("the endpoint is not the service's"))?;
    let addresses = state
        .addresses(&endpoint, &names)
        .await
        .map_err(|error| unusable(&format!("no address: {error}")))?;
    let mut failed = unusable("no address");
    let count = addresses.len();
    for (number, address) in addresses.into_iter().enumerate() {
        let key = state.key(address);
        if state.literal_key().is_none()
            && !manner.fresh
            && let Some(session) = pool.idle(key, manner.surely)
        {
            return Ok(Upstream::new(&pool, session, Some(key), None, endpoint, true));
        }
        let impatient = manner.impatient || number + 1 < count;
        let peer = state
            .peer(address, impatient, manner.h1_only)
            .map_err(|why| Failed {
                failure: Failure::Connect { timed_out: false },
                error: Error::explain(ErrorType::InvalidCert, why.to_string()).into_up(),
            })?;
        let connected = tokio::select! {
            biased;
            connected = pool.connect(&peer) => connected,
            () = left(&endpoint.live, manner.impatient) => {
                return Err(Failed {
                    failure: Failure::Departed,
                    error: Error::explain(ErrorType::ConnectError, "the endpoint left").into_up(),
                });
            }
        };
        match connected {
            Ok((session, reused)) => {
                let peer = matches!(session, HttpSession::H2(_)).then_some(peer);
                return Ok(Upstream::new(&pool, session, Some(key), peer, endpoint, reused));
            }
            Err(error) => {
                names.forget(&endpoint.host, endpoint.port);
                let timed_out = matches!(
                    error.etype(),
                    ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout
                );
                failed = Failed {
                    failure: Failure::Connect { timed_out },
                    error: error.into_up(),
                };
            }
        }
    }
    Err(failed)
}
