//! How the sockets of calls are set: no delay, and a peer that is gone is noticed within seconds.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long bytes that were sent may stay unacknowledged, and a silent peer without an answer to a probe.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// How long a connection is silent before it is probed.
const SILENCE: Duration = Duration::from_secs(4);
const PROBES: Duration = Duration::from_secs(1);

pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(SILENCE)
            .with_interval(PROBES)
            .with_retries(3),
    )?;
    // Linux 2.6.37. Counts for probes of a closed window and of keepalive, too.
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))
}
