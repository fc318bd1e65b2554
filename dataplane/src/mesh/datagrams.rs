//! Datagrams in a tunnel: each with its length in front of it, two bytes, network order.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use constellation_table::{Endpoint, Live, Peer, Service};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep_until};

use super::head::Kind;
use super::links::Links;
use super::outlet::open;
use super::tunnel::Tunnel;
use crate::departure::{self, Running};
use crate::http::Names;

/// Room for the longest datagram and its length.
const ROOM: usize = 2 + 65_535;

/// A socket that stands for a UDP service at a node: what `session` sends to it comes out there, as sent by `client`. It
/// ends when nothing was carried for `idle`.
pub(crate) fn bridge(
    links: &Arc<Links>,
    peer: &Arc<Peer>,
    ends: [SocketAddr; 2],
    idle: Duration,
) -> io::Result<(SocketAddr, impl FnOnce(SocketAddr) -> io::Result<()> + use<>)> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let (links, peer) = (links.clone(), peer.clone());
    let begin = move |session: SocketAddr| {
        // From here on the kernel lets nobody else send to it.
        socket.connect(session)?;
        let socket = UdpSocket::from_std(socket)?;
        // Ends when the session is over for long enough, and with this worker at the latest.
        tokio::spawn(async move {
            let kind = Kind::Udp((*peer.service).into());
            match open(&links, &peer.node, kind, ends[0], ends[1]).await {
                Ok(open) => carry(&socket, open, Some(idle)).await,
                // The socket closes, which the session hears with its next datagram.
                Err(refused) => tracing::debug!(node = %peer.node, %refused, "no tunnel for datagrams"),
            }
        });
        Ok(())
    };
    Ok((address, begin))
}

/// A socket towards a back end.
pub(super) async fn reach(service: &Service, endpoint: &Endpoint, names: &Names) -> io::Result<UdpSocket> {
    let limit = service.transport.timeouts.dial;
    let address = match endpoint.host.parse() {
        Ok(ip) => SocketAddr::new(ip, endpoint.port),
        Err(_) => {
            let found = names.lookup(&endpoint.host, endpoint.port, limit).await?;
            found.first().copied().ok_or(io::ErrorKind::NotFound)?
        }
    };
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Carries the datagrams of another node's client, until that node ends the tunnel or the back end has left.
pub(crate) async fn serve(socket: UdpSocket, tunnel: Tunnel, live: &Live) {
    tokio::select! {
        () = carry(&socket, tunnel, None) => {}
        () = departure::limit_of(live, Running::Upgraded) => {}
    }
}

/// Carries datagrams in both directions until one of them ends.
async fn carry(socket: &UdpSocket, tunnel: impl AsyncRead + AsyncWrite + Send, idle: Option<Duration>) {
    let (mut from, mut to) = tokio::io::split(tunnel);
    let last = std::sync::Mutex::new(Instant::now());
    let moved = || {
        if let Ok(mut last) = last.lock() {
            *last = Instant::now();
        }
    };
    let outward = async {
        let mut room = vec![0; ROOM];
        loop {
            let count = socket.recv(room.get_mut(2..).unwrap_or_default()).await?;
            moved();
            let length = u16::try_from(count).unwrap_or(u16::MAX);
            room.splice(0..2, length.to_be_bytes());
            to.write_all(room.get(..2 + count).unwrap_or_default()).await?;
        }
    };
    let inward = async {
        let mut room = vec![0; ROOM];
        while let Some(datagram) = next(&mut from, &mut room).await? {
            moved();
            match socket.send(datagram).await {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(error),
                // This one did not fit, or found no room: others may.
                Err(error) => tracing::trace!(%error, "a datagram was lost"),
            }
        }
        io::Result::Ok(())
    };
    let silence = async {
        let Some(idle) = idle else {
            return std::future::pending().await;
        };
        loop {
            let since = last.lock().map_or_else(|_| Instant::now(), |last| *last);
            if since.elapsed() >= idle {
                return;
            }
            sleep_until(since + idle).await;
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = outward => ended,
        ended = inward => ended,
        () = silence => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnel of datagrams ended");
    }
}

/// The next datagram; `None` at an end between two.
async fn next<'r>(from: &mut (impl AsyncRead + Unpin), room: &'r mut [u8]) -> io::Result<Option<&'r [u8]>> {
    let mut length = [0; 2];
    if from.read(length.get_mut(..1).unwrap_or_default()).await? == 0 {
        return Ok(None);
    }
    from.read_exact(length.get_mut(1..).unwrap_or_default()).await?;
    let datagram = room
        .get_mut(..usize::from(u16::from_be_bytes(length)))
        .unwrap_or_default();
    from.read_exact(datagram).await?;
    Ok(Some(datagram))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_are_told_apart() {
        let mut room = vec![0; ROOM];
        let mut wire: &[u8] = &[0, 2, b'a', b'b', 0, 0, 0, 1, b'c'];
        for expected in [&b"ab"[..], b"", b"c"] {
            assert_eq!(next(&mut wire, &mut room).await.unwrap(), Some(expected));
        }
        assert_eq!(next(&mut wire, &mut room).await.unwrap(), None);
    }

    #[tokio::test]
    async fn half_a_datagram_is_an_error() {
        let mut room = vec![0; ROOM];
        for wire in [&[0][..], &[0, 2, b'a']] {
            let mut wire = wire;
            assert!(next(&mut wire, &mut room).await.is_err());
        }
    }
}
