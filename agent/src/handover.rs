//! Handover: a process of the node takes over the listening sockets of another one, so that nobody is refused when the
//! node is upgraded or restarted.
//!
//! Sockets come from one of two places. **A predecessor** that runs: it starts the new process ([`replace`]), passes its
//! sockets over a Unix socket whose path stands in `CONSTELLATION_HANDOVER`, serves on until the new process says that it
//! serves too, and then drains. The lock of what is pinned travels with them, so that nobody can come in between. **The service manager**: systemd keeps copies ([`crate::systemd::keep`]) and passes them
//! to whatever process it starts next, also after a crash.
//!
//! Both share the same sockets for a moment, with one queue between them: a connection is accepted by one or the other,
//! and none is lost. A new process that does not come up changes nothing; the old one serves on.

mod receive;
mod send;
mod stored;
#[cfg(test)]
mod tests;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use constellation_dataplane::Inherited;

pub use receive::Predecessor;
pub use send::{Program, ReplaceError, Successor, replace};
pub use stored::from_service_manager;

/// Where a new process finds the Unix socket of its predecessor.
const VARIABLE: &str = "CONSTELLATION_HANDOVER";
/// Longest message: the name of a socket, or a version.
const MAX_MESSAGE: usize = 512;
/// What follows the last socket.
const END: &str = "end";
/// What a new process says once it serves; its version follows.
const SERVING: &str = "serving ";
/// What it is told then: it is the main process of the service.
const YOURS: &str = "yours";

/// Listening sockets, also that of the links between nodes, and the lock of what is pinned, with names that tell what they are for.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(String, OwnedFd)>);

impl Sockets {
    /// The sockets of a running node, and the lock that goes along with them.
    pub fn of_node(
        control: OwnedFd,
        kernel_lock: Option<OwnedFd>,
        links: Option<OwnedFd>,
        provider: Option<OwnedFd>,
        entry_points: Vec<(Arc<str>, OwnedFd)>,
    ) -> Self {
        let named = entry_points
            .into_iter()
            .map(|(name, socket)| (format!("{ENTRY_POINT}{name}"), socket));
        Self(
            std::iter::once((CONTROL.to_owned(), control))
                .chain(kernel_lock.map(|lock| (KERNEL_LOCK.to_owned(), lock)))
                .chain(links.map(|links| (LINKS.to_owned(), links)))
                .chain(provider.map(|provider| (PROVIDER.to_owned(), provider)))
                .chain(named)
                .collect(),
        )
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every name, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Every socket with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        use std::os::fd::AsFd as _;
        self.0
            .iter()
            .map(|(name, socket)| (name.as_str(), socket.as_fd()))
    }

    /// Takes out the lock of what the node before this one has pinned, if it came along.
    pub fn take_kernel_lock(&mut self) -> Option<OwnedFd> {
        let position = self.0.iter().position(|(name, _)| name == KERNEL_LOCK)?;
        Some(self.0.remove(position).1)
    }

    /// Takes out the listener of the links between nodes, if it came along.
    pub fn take_links(&mut self) -> Option<TcpListener> {
        let position = self.0.iter().position(|(name, _)| name == LINKS)?;
        Some(TcpListener::from(self.0.remove(position).1))
    }

    /// Takes out the listener where a Traefik polls, if it came along and is at `address`.
    pub fn take_provider(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let position = self.0.iter().position(|(name, _)| name == PROVIDER)?;
        let listener = TcpListener::from(self.0.remove(position).1);
        listener
            .local_addr()
            .is_ok_and(|local| fits(local, address))
            .then_some(listener)
    }

    /// The control listener, if there is one at `control`, and what entry points can use. The rest is closed.
    pub fn sort(self, control: SocketAddr) -> (Option<TcpListener>, Inherited) {
        let (mut listener, mut entry_points) = (None, Vec::new());
        for (name, socket) in self.0 {
            if name == CONTROL {
                let socket = TcpListener::from(socket);
                let here = socket.local_addr().is_ok_and(|local| fits(local, control));
                listener = here.then_some(socket);
            } else if let Some(name) = name.strip_prefix(ENTRY_POINT) {
                entry_points.push((name.into(), socket));
            }
        }
        (listener, Inherited::new(entry_points))
    }
}

/// Whether a socket at `local` is what would be bound for `asked`.
fn fits(local: SocketAddr, asked: SocketAddr) -> bool {
    local.ip() == asked.ip() && (asked.port() == 0 || asked.port() == local.port())
}

/// Name of the control listener.
const CONTROL: &str = "control";
/// Name of the lock of what is pinned, by the program that needed it first.
const KERNEL_LOCK: &str = "steering-lock";
/// Name of the listener of the links between nodes.
const LINKS: &str = "links";
/// Name of the listener where a Traefik polls.
const PROVIDER: &str = "provider";
/// Begins the name of every listener of an entry point. No colon: systemd's list of names is separated by them.
const ENTRY_POINT: &str = "entry-point.";
