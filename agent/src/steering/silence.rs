//! Sockets that leave clients unanswered: in the place of the listeners while an address moves to another node.
//!
//! A client whose network does not know yet that the address has moved comes here once more. Refused, it would have failed;
//! without an answer its kernel asks again within a second, and by then it is the new holder that it asks. The socket
//! filter drops what comes before TCP sees it. Handshakes that have begun are not touched: they belong to the listener that
//! answered first.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd};

use constellation_config::Protocol;
use socket2::{Domain, SockFilter, Socket, Type};

/// `BPF_RET | BPF_K` with 0: none of the packet passes.
const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// A socket for each protocol.
#[derive(Debug)]
pub(super) struct Silence {
    tcp: Socket,
    udp: Socket,
}

impl Silence {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            tcp: socket(Type::STREAM)?,
            udp: socket(Type::DGRAM)?,
        })
    }

    pub(super) fn of(&self, protocol: Protocol) -> BorrowedFd<'_> {
        match protocol {
            Protocol::Tcp => self.tcp.as_fd(),
            Protocol::Udp => self.udp.as_fd(),
        }
    }
}

/// For both families where there are two. What comes to its own port is dropped as well.
fn socket(kind: Type) -> io::Result<Socket> {
    let bound = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        // Before it can get anything.
        socket.attach_filter(&[DROP_ALL])?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        if kind == Type::STREAM {
            socket.listen(1)?;
        }
        io::Result::Ok(socket)
    };
    // At an address of its own an IPv6 socket is for IPv6 alone, whatever was set.
    bound((Ipv6Addr::UNSPECIFIED, 0).into()).or_else(|_| bound((Ipv4Addr::LOCALHOST, 0).into()))
}
