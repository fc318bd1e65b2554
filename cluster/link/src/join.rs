//! The joiner's side: one request to a node that its token vouches for.

use std::sync::Arc;
use std::time::Duration;

use constellation_identity::JoinToken;
use constellation_identity::tls::{explain, joining};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::error::{LinkError, of_tls};
use crate::frame::{Expect, JOIN_REQUEST_BYTES, Kind, Service};
use crate::io::{Outgoing, ReadError, read_body, read_header, write_frame};
use crate::links::any;

/// Sends a join request to the first of the addresses (HOST:PORT) at which the token's authority is shown, and brings the
/// answer back. What both mean is the caller's business.
///
/// # Errors
/// [`LinkError::Unreachable`] and [`LinkError::Refused`] mean that nothing was sent; after [`LinkError::NoAnswer`] it is sent
/// again.
pub async fn join(
    addresses: &[String],
    token: &JoinToken,
    body: Vec<u8>,
    within: Duration,
) -> Result<Vec<u8>, LinkError> {
    let peer = format!("the cluster at {}", addresses.join(", "));
    let (size, limit) = (body.len(), JOIN_REQUEST_BYTES);
    if size > limit {
        let service = Service::Control;
        return Err(LinkError::TooLarge { service, size, limit });
    }
    let config = joining(token).map_err(|error| LinkError::Refused {
        peer: peer.clone(),
        reason: explain(&error),
    })?;
    let sent = std::sync::atomic::AtomicBool::new(false);
    let joined = async {
        let mut stream = any(&peer, addresses, &Arc::new(config)).await?;
        sent.store(true, std::sync::atomic::Ordering::Relaxed);
        let frame = Outgoing {
            id: 0,
            service: Service::Control,
            kind: Kind::Request,
            body,
        };
        let asked = async {
            write_frame(&mut stream, &frame).await?;
            stream.flush().await?;
            let header = read_header(&mut stream, Expect::JoinAnswer).await?;
            let body = read_body(&mut stream, &header).await?;
            Ok::<_, ReadError>((header.kind, body))
        };
        let no_answer = |detail: String| LinkError::NoAnswer {
            peer: peer.clone(),
            detail,
        };
        match asked.await {
            Ok((Kind::Answer, body)) => Ok(body),
            Ok(_) => Err(no_answer("it dropped the request".to_owned())),
            Err(ReadError::Io(error)) => Err(match of_tls(&peer, &error) {
                LinkError::Unreachable { detail, .. } => no_answer(detail),
                other => other,
            }),
            Err(error) => Err(no_answer(error.to_string())),
        }
    };
    timeout(within, joined).await.unwrap_or_else(|_| {
        let (peer, detail) = (peer.clone(), format!("nothing came within {within:?}"));
        Err(match sent.load(std::sync::atomic::Ordering::Relaxed) {
            true => LinkError::NoAnswer { peer, detail },
            false => LinkError::Unreachable { peer, detail },
        })
    })
}
