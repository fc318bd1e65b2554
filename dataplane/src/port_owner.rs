//! Who holds a port: what an operator needs to know when a listener can't be bound.
//!
//! Reads `/proc/net/tcp` and `/proc/net/tcp6` (or `udp` and `udp6`) for the listening socket and then the descriptors of
//! every process for that socket. Processes of other users are only visible with privileges, so the answer may be less than a name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use procfs::net::TcpState;
use procfs::process::FDTarget;

/// What could be found out about the process behind a listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortOwner {
    /// A process that can be seen from here.
    Process {
        /// Its short name, as the kernel has it.
        name: String,
        /// Its process id.
        pid: i32,
    },
    /// Something listens there, but its process belongs to another user or namespace.
    Hidden {
        /// The user id of the socket's owner.
        uid: u32,
    },
    /// No listening socket could be seen.
    Unknown,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { name, pid } => write!(f, "{name} (pid {pid})"),
            Self::Hidden { uid } => write!(f, "a process of user id {uid} that is not visible from here"),
            Self::Unknown => f.write_str("a process that is not visible from here"),
        }
    }
}

/// The owner of the listening TCP socket that conflicts with `address`.
///
/// Blocking, and only for the error path: it walks all of `/proc`.
pub fn tcp(address: SocketAddr) -> PortOwner {
    let tables = [procfs::net::tcp(), procfs::net::tcp6()];
    let socket = tables
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.state == TcpState::Listen && conflicts(entry.local_address, address));
    socket.map_or(PortOwner::Unknown, |socket| owner_of(socket.inode, socket.uid))
}

/// The owner of the UDP socket that conflicts with `address`.
///
/// Blocking, and only for the error path: it walks all of `/proc`.
pub fn udp(address: SocketAddr) -> PortOwner {
    let tables = [procfs::net::udp(), procfs::net::udp6()];
    let socket = tables
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| conflicts(entry.local_address, address));
    socket.map_or(PortOwner::Unknown, |socket| owner_of(socket.inode, socket.uid))
}

fn owner_of(inode: u64, uid: u32) -> PortOwner {
    match process_of(inode) {
        Some((name, pid)) => PortOwner::Process { name, pid },
        None => PortOwner::Hidden { uid },
    }
}

/// Two listeners conflict on the same port when an address is the same or either is the wildcard.
fn conflicts(held: SocketAddr, wanted: SocketAddr) -> bool {
    held.port() == wanted.port()
        && (canonical(held.ip()) == canonical(wanted.ip())
            || held.ip().is_unspecified()
            || wanted.ip().is_unspecified())
}

fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn process_of(inode: u64) -> Option<(String, i32)> {
    procfs::process::all_processes()
        .ok()?
        .flatten()
        .find_map(|process| {
            let mut descriptors = process.fd().ok()?.flatten();
            descriptors.find(|fd| matches!(fd.target, FDTarget::Socket(socket) if socket == inode))?;
            Some((process.stat().ok()?.comm, process.pid()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn names_the_process_that_listens() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        for asked in [address, wildcard] {
            assert!(
                matches!(tcp(asked), PortOwner::Process { pid, .. } if pid == me),
                "{asked}"
            );
        }
    }

    #[test]
    fn names_the_process_that_has_a_udp_socket() {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        let owner = udp(socket.local_addr().unwrap());
        assert!(
            matches!(owner, PortOwner::Process { pid, .. } if pid == me),
            "{owner}"
        );
    }

    #[test]
    fn says_so_when_nothing_listens() {
        let address = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            listener.local_addr().unwrap()
        };
        assert_eq!(tcp(address), PortOwner::Unknown);
    }

    #[test]
    fn reads_like_a_sentence() {
        let cases = [
            (
                PortOwner::Process {
                    name: "nginx".into(),
                    pid: 123,
                },
                "nginx (pid 123)",
            ),
            (
                PortOwner::Hidden { uid: 0 },
                "a process of user id 0 that is not visible from here",
            ),
            (PortOwner::Unknown, "a process that is not visible from here"),
        ];
        for (owner, text) in cases {
            assert_eq!(owner.to_string(), text);
        }
    }
}
