//! From addresses to a TLS stream: each is tried a little after the one before, the first that is through wins.

use std::sync::Arc;
use std::time::Duration;

use constellation_identity::tls::{self, Credentials, explain, server_name};
use constellation_identity::{NodeIdentity, NodeName};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::PEER_ALPN;
use crate::error::{LinkError, of_tls};
use crate::membership::{self, Membership};
use crate::socket;

/// How long an address has to itself before the next is tried beside it.
const AHEAD: Duration = Duration::from_millis(250);
/// How long one may take, TLS included.
const ATTEMPT: Duration = Duration::from_secs(5);

/// A connection to `node`, and to nobody else.
pub(super) async fn peer(
    node: &NodeName,
    addresses: &[String],
    credentials: &Credentials,
    members: &Membership,
) -> Result<(TlsStream<TcpStream>, NodeIdentity), LinkError> {
    let peer = super::peer(node);
    let config = credentials
        .client(node, PEER_ALPN)
        .map_err(|error| LinkError::Refused {
            peer: peer.clone(),
            reason: explain(&error),
        })?;
    let stream = any(&peer, addresses, &Arc::new(config)).await?;
    // The name is right; the key may be one that was removed before the name was given to another node.
    let admitted = tls::peer(stream.get_ref().1)
        .ok()
        .flatten()
        .filter(|identity| members.admits(identity));
    match admitted {
        Some(identity) => Ok((stream, identity)),
        None => Err(LinkError::Refused {
            reason: membership::not_a_member(node),
            peer,
        }),
    }
}

/// A connection to whoever of the addresses is through first.
pub(crate) async fn any(
    peer: &str,
    addresses: &[String],
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, LinkError> {
    let mut waiting = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut unreachable = Vec::new();
    let mut refused = None;
    loop {
        if attempts.is_empty() || !waiting.as_slice().is_empty() {
            match waiting.next() {
                Some(address) => attempts.push(limited(peer, address, config)),
                None => break,
            }
        }
        // The next one is tried at once if one has failed.
        let result = tokio::select! {
            Some(result) = attempts.next() => result,
            () = sleep(AHEAD), if !waiting.as_slice().is_empty() => continue,
        };
        match result {
            Ok(stream) => return Ok(stream),
            Err(LinkError::Unreachable { detail, .. }) => unreachable.push(detail),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| LinkError::Unreachable {
        peer: peer.to_owned(),
        detail: if unreachable.is_empty() {
            "no address of it is known".to_owned()
        } else {
            unreachable.join("; ")
        },
    }))
}

async fn limited(
    peer: &str,
    address: &str,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, LinkError> {
    timeout(ATTEMPT, one(peer, address, config))
        .await
        .unwrap_or_else(|_| {
            Err(LinkError::Unreachable {
                peer: peer.to_owned(),
                detail: format!("{address}: not through within {} s", ATTEMPT.as_secs()),
            })
        })
}

async fn one(
    peer: &str,
    address: &str,
    config: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, LinkError> {
    let unreachable = |error: std::io::Error| LinkError::Unreachable {
        peer: peer.to_owned(),
        detail: format!("{address}: {error}"),
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    socket::prepare(&stream).map_err(unreachable)?;
    TlsConnector::from(Arc::clone(config))
        .connect(server_name(), stream)
        .await
        .map_err(|error| match of_tls(peer, &error) {
            LinkError::Unreachable { .. } => unreachable(error),
            LinkError::Refused { peer, reason } => LinkError::Refused {
                peer,
                reason: format!("{address}: {reason}"),
            },
            other => other,
        })
}
