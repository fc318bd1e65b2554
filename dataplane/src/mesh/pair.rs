//! Two ends of a TCP connection in this process: what is carried in a tunnel meets code that works on sockets.
//!
//! It costs a copy through the loopback interface, and what is behind it stays as it is: splicing, half-closed ends, resets.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};

use crate::l4::socket::reset_on_close;

/// Bytes that are on their way in one direction of a tunnel, outside of the windows of its HTTP/2.
pub(super) const BUFFER: usize = 32 * 1024;

/// Two sockets that are connected to each other.
pub(super) async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (near, far) = tokio::try_join!(TcpStream::connect(listener.local_addr()?), accept(&listener))?;
    let own = near.local_addr()?;
    let (mut far, mut peer) = far;
    // Another process of this host may have been quicker.
    while peer != own {
        (far, peer) = accept(&listener).await?;
    }
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, std::net::SocketAddr)> {
    listener.accept().await
}

/// Carries bytes between a socket and a tunnel until both directions have ended. An end is passed on as one, and what
/// breaks one side breaks the other.
pub(super) async fn carry(mut socket: TcpStream, mut tunnel: impl AsyncRead + AsyncWrite + Unpin) {
    let carried = copy_bidirectional_with_sizes(&mut socket, &mut tunnel, BUFFER, BUFFER).await;
    if let Err(error) = carried {
        tracing::debug!(%error, "a tunnel broke");
        // The tunnel is reset as well, when it is dropped without its end.
        reset_on_close(&socket);
    }
}
