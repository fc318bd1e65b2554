//! Real sockets, and what a client sees.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use constellation_ebpf_loader::steering::{Bind, Dest, Protocol};
use constellation_ebpf_loader::{BootTime, Lock, Namespace, Steering};

/// Far more than anything within the machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A grant that no test outlives.
pub(crate) fn for_long() -> BootTime {
    BootTime::now() + Duration::from_secs(3600)
}

/// Steering in this sandbox.
pub(crate) fn steering() -> Steering {
    let namespace = Namespace::current().unwrap();
    Steering::open(&Lock::take(&namespace).unwrap()).unwrap()
}

pub(crate) fn dest(number: u32) -> Dest {
    Dest::new(number).unwrap()
}

pub(crate) fn tcp(addresses: &str, port: u16, number: u32) -> Bind {
    Bind {
        protocol: Protocol::Tcp,
        addresses: addresses.parse().unwrap(),
        port,
        dest: dest(number),
    }
}

pub(crate) fn udp(addresses: &str, port: u16, number: u32) -> Bind {
    Bind {
        protocol: Protocol::Udp,
        ..tcp(addresses, port, number)
    }
}

/// A listener that says its name to whoever connects, when asked to accept.
pub(crate) struct Named {
    listener: TcpListener,
    name: &'static str,
}

impl Named {
    pub(crate) fn at(address: &str, name: &'static str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, name }
    }

    pub(crate) fn on(listener: TcpListener, name: &'static str) -> Self {
        listener.set_nonblocking(true).unwrap();
        Self { listener, name }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Accepts everything that waits, and says how many that were.
    pub(crate) fn serve(&self) -> usize {
        let mut served = 0;
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.write_all(self.name.as_bytes()).unwrap();
                    served += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return served,
                Err(error) => panic!("accepting: {error}"),
            }
        }
    }
}

/// Connects, lets everybody serve, and says who answered; or why nobody did.
pub(crate) fn ask(address: &str, servers: &[&Named]) -> Result<String, ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|error| error.kind())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    for server in servers {
        server.serve();
    }
    let mut name = String::new();
    stream.read_to_string(&mut name).map_err(|error| error.kind())?;
    Ok(name)
}

/// Sends a datagram from a connected socket: what comes back is the refusal, if there is one.
pub(crate) fn send(address: &str) -> io::Result<UdpSocket> {
    let address: SocketAddr = address.parse().unwrap();
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(address)?;
    socket.send(b"hello")?;
    Ok(socket)
}

/// Whether a datagram was refused (ICMP port unreachable): within this machine that is known when `send` returns.
pub(crate) fn refused(socket: &UdpSocket) -> bool {
    socket
        .take_error()
        .unwrap()
        .is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}
