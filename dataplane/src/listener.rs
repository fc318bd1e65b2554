//! Listening sockets: one per address and worker, with `SO_REUSEPORT`.
//!
//! The kernel spreads connections, and the clients of UDP, over the sockets of an address, so workers share nothing. All
//! sockets of all workers are bound before anything is accepted: a taken port is an error at start, not a half-started
//! edge.
//!
//! Sockets that another process bound before ([`Inherited`]) are used as they are: what waits in their queues is served,
//! and nobody is refused while a process replaces another.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use socket2::{Domain, Socket, Type};

use crate::l4::udp;
use crate::port_owner;
use crate::server::StartError;
use crate::settings::{EntryPoint, Protocol, Settings};

/// Connections the kernel completes before we accept them; it caps the number by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The sockets of one address, one per worker.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Position of the entry point in the settings.
    pub(crate) entry_point: usize,
    /// The address with its real port.
    pub(crate) address: SocketAddr,
    /// At least one socket per worker.
    pub(crate) sockets: Vec<Socket>,
}

/// Sockets that were bound before this process started, each with the name of its entry point: by the process that this
/// one replaces, or kept by the service manager.
///
/// What fits no entry point (another address or protocol by now) is closed when the data plane has started.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(Arc<str>, Socket)>);

impl Inherited {
    /// Takes over sockets. None of them has to be of use.
    pub fn new(sockets: impl IntoIterator<Item = (Arc<str>, OwnedFd)>) -> Self {
        let sockets = sockets.into_iter().map(|(name, fd)| (name, fd.into()));
        Self(sockets.collect())
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The sockets of one address of an entry point, and that address with its real port.
    fn take(&mut self, entry_point: &EntryPoint, asked: SocketAddr) -> Option<(SocketAddr, Vec<Socket>)> {
        let fits = |name: &str, socket: &Socket, address: &mut Option<SocketAddr>| {
            let local = local(socket, entry_point.protocol)?;
            let fits = name == &*entry_point.name && answers(asked, local);
            (fits && *address.get_or_insert(local) == local).then_some(())
        };
        let mut address = None;
        let (taken, left) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(name, socket)| fits(name, socket, &mut address).is_some());
        self.0 = left;
        let taken: Vec<(Arc<str>, Socket)> = taken;
        Some((address?, taken.into_iter().map(|(_, socket)| socket).collect()))
    }
}

/// Where a socket is bound, if it is one that takes what `protocol` brings.
fn local(socket: &Socket, protocol: Protocol) -> Option<SocketAddr> {
    let kind = socket.r#type().ok()?;
    let serves = match protocol {
        Protocol::Tcp => kind == Type::STREAM && socket.is_listener().ok()?,
        Protocol::Udp => kind == Type::DGRAM,
    };
    let address = socket.local_addr().ok()?.as_socket()?;
    serves.then_some(address)
}

/// Whether a socket bound to `local` is what an entry point at `asked` would have bound.
fn answers(asked: SocketAddr, local: SocketAddr) -> bool {
    let port = asked.port() == 0 || asked.port() == local.port();
    // Without IPv6 in the kernel the wildcard means IPv4.
    let wildcard = asked.ip().is_unspecified() && asked.is_ipv6() && local.ip().is_unspecified();
    port && (asked.ip() == local.ip() || wildcard)
}

/// Binds every address of every entry point for every worker, where no socket was inherited for it.
pub(crate) fn bind_all(settings: &Settings, mut inherited: Inherited) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for (position, entry_point) in settings.entry_points.iter().enumerate() {
        for address in &entry_point.addresses {
            let protocol = entry_point.protocol;
            let only_v6 = has_v4_twin(settings, protocol, *address);
            let workers = settings.workers.get();
            let bound = match inherited.take(entry_point, *address) {
                Some((address, sockets)) => join(protocol, address, only_v6, sockets, workers),
                None if entry_point.shared => bind_shared(protocol, *address, only_v6, workers),
                None => bind(protocol, *address, only_v6, workers),
            };
            let (address, sockets) = bound.map_err(|source| refused(entry_point, *address, source))?;
            listeners.push(Listener {
                entry_point: position,
                address,
                sockets,
            });
        }
    }
    Ok(listeners)
}

/// Whether the same port is also asked for on the IPv4 wildcard, so that the IPv6 one must leave it alone.
fn has_v4_twin(settings: &Settings, protocol: Protocol, address: SocketAddr) -> bool {
    let twin = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let mut same = settings.entry_points.iter().filter(|e| e.protocol == protocol);
    address.port() != 0 && same.any(|e| e.addresses.contains(&twin))
}

fn bind(
    protocol: Protocol,
    address: SocketAddr,
    only_v6: bool,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let address = match probe(protocol, address, only_v6) {
        Ok(()) => address,
        // Without IPv6 in the kernel the wildcard means IPv4, as it does for every `:80` elsewhere.
        Err(error) if is_without_ipv6(&error) && address.ip().is_unspecified() && address.is_ipv6() => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            probe(protocol, v4, false)?;
            v4
        }
        Err(error) => return Err(error),
    };
    let first = listen(protocol, address, only_v6, true)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    join(protocol, address, only_v6, vec![first], workers)
}

/// Binds a port that another program may have as well, if that one shares it.
fn bind_shared(
    protocol: Protocol,
    address: SocketAddr,
    only_v6: bool,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let first = listen(protocol, address, only_v6, true)?;
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    join(protocol, address, only_v6, vec![first], workers)
}

/// Binds as many sockets beside `sockets` as are missing for the workers.
fn join(
    protocol: Protocol,
    address: SocketAddr,
    only_v6: bool,
    mut sockets: Vec<Socket>,
    workers: usize,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    for socket in &sockets {
        socket.set_nonblocking(true)?;
    }
    while sockets.len() < workers {
        sockets.push(listen(protocol, address, only_v6, true)?);
    }
    Ok((address, sockets))
}

/// Whether somebody could listen for connections at an address that we don't listen at: listens there for a moment.
///
/// # Errors
/// What the kernel says against it.
pub fn try_address(address: SocketAddr) -> io::Result<()> {
    probe(Protocol::Tcp, address, false)
}

/// Binds once without `SO_REUSEPORT`: with it, two processes of one user could share a port without noticing.
fn probe(protocol: Protocol, address: SocketAddr, only_v6: bool) -> io::Result<()> {
    listen(protocol, address, only_v6, false).map(drop)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn listen(protocol: Protocol, address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<Socket> {
    match protocol {
        Protocol::Tcp => listen_tcp(address, only_v6, shared),
        Protocol::Udp => udp::listen(address, only_v6, shared),
    }
}

fn listen_tcp(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn refused(entry_point: &EntryPoint, address: SocketAddr, source: io::Error) -> StartError {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => {
            let owner = match entry_point.protocol {
                Protocol::Tcp => port_owner::tcp(address),
                Protocol::Udp => port_owner::udp(address),
            };
            format!("the port is held by {owner}")
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => "the kernel refused".to_owned(),
    };
    StartError::Bind {
        entry_point: entry_point.name.clone(),
        address,
        key: entry_point.key.clone(),
        hint,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

    #[test]
    fn workers_share_the_port_that_the_first_one_got() {
        for protocol in BOTH {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let (address, sockets) = bind(protocol, any, false, 3).unwrap();
            assert_ne!(address.port(), 0);
            assert_eq!(sockets.len(), 3);
            for socket in sockets {
                assert_eq!(socket.local_addr().unwrap().as_socket(), Some(address));
            }
        }
    }

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_too() {
        let any = "[::]:0".parse().unwrap();
        let (address, _sockets) = bind(Protocol::Tcp, any, false, 1).unwrap();
        let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        std::net::TcpStream::connect(v4).unwrap();
    }

    #[test]
    fn a_shared_port_of_somebody_else_is_taken_all_the_same() {
        for protocol in BOTH {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let (address, _held) = bind(protocol, any, false, 1).unwrap();
            let error = bind(protocol, address, false, 2).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{protocol}");
            // Unless that is asked for.
            let (same, _shared) = bind_shared(protocol, address, false, 2).unwrap();
            assert_eq!(same, address);
        }
    }

    #[test]
    fn a_port_that_somebody_has_alone_is_not_shared() {
        let held = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = bind_shared(Protocol::Tcp, held.local_addr().unwrap(), false, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_has_room_for_one_of_each_kind() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (address, _tcp) = bind(Protocol::Tcp, any, false, 1).unwrap();
        let (same, _udp) = bind(Protocol::Udp, address, false, 1).unwrap();
        assert_eq!(address, same);
    }
}
