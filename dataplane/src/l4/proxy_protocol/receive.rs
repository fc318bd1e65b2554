//! The header of a connection that was accepted.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Progress, ProxyHeader, begins, parse};
use crate::metrics::Refusal;

/// One read; a header without certificates fits, and most likely what follows it.
const READ: usize = 4096;

/// What came of it when there is no connection to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The client left.
    Left,
    /// The connection is to be closed, and counted.
    Refused(Refusal),
}

/// Reads the header that a trusted peer sends before anything else; `None`: the connection begins without one. What was
/// read behind it stays in `first`.
///
/// As in Traefik a trusted peer may leave it out: its health checks do. One that says nothing until the deadline has none.
pub(crate) async fn receive(
    socket: &mut TcpStream,
    first: &mut Vec<u8>,
    deadline: Instant,
) -> Result<Option<ProxyHeader>, Over> {
    loop {
        match parse(first) {
            Progress::Header { header, len } => {
                first.drain(..len);
                return Ok(Some(header));
            }
            Progress::Absent => return Ok(None),
            Progress::Malformed(fault) => {
                tracing::debug!(%fault, peer = ?socket.peer_addr(), "a PROXY protocol header is refused");
                return Err(Over::Refused(Refusal::ProxyProtocol));
            }
            Progress::More => {}
        }
        match more(socket, first, deadline).await? {
            true => {}
            false if first.is_empty() => return Ok(None),
            false => return Err(Over::Refused(Refusal::ProxyProtocol)),
        }
    }
}

/// Reads until it is clear that a peer which may not send a header sends none: the address in it would be believed by
/// whoever reads it behind us, or the connection would be no HTTP. What was read stays in `first`.
pub(crate) async fn rule_out(
    socket: &mut TcpStream,
    first: &mut Vec<u8>,
    deadline: Instant,
) -> Result<(), Over> {
    while parse(first) == Progress::More && !begins(first) {
        if !more(socket, first, deadline).await? {
            // Whatever it was to be.
            return Ok(());
        }
    }
    if begins(first) {
        tracing::debug!(
            peer = ?socket.peer_addr(),
            "a PROXY protocol header from a peer that proxyProtocol.trustedIPs does not name"
        );
        return Err(Over::Refused(Refusal::ProxyProtocol));
    }
    Ok(())
}

/// Reads once; `false`: nothing came in time.
async fn more(socket: &mut TcpStream, first: &mut Vec<u8>, deadline: Instant) -> Result<bool, Over> {
    first.reserve(READ);
    match timeout_at(deadline, socket.read_buf(first)).await {
        Ok(Ok(1..)) => Ok(true),
        Ok(Ok(0) | Err(_)) => Err(Over::Left),
        Err(_) => Ok(false),
    }
}
