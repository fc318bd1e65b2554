//! Readiness of many sockets in one epoll instance, which the runtime watches as one descriptor.
//!
//! Level-triggered: a socket that was not emptied is told of again, after the others had their turn.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::table::Id;

/// Most events that are fetched at once.
pub(super) const EVENTS: usize = 128;

/// Who can be received from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// A socket of the entry point.
    Clients(usize),
    /// The socket of a session.
    BackEnd(Id),
}

/// The epoll instance.
#[derive(Debug)]
pub(super) struct Poller(Epoll);

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    /// Watches a socket until it is closed.
    pub(super) fn watch(&self, socket: &impl AsFd, ready: Ready) -> io::Result<()> {
        let data = match ready {
            Ready::Clients(number) => u64::from(u32::try_from(number).unwrap_or(u32::MAX)),
            Ready::BackEnd(id) => id.to_bits(),
        };
        self.0
            .add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, data))?;
        Ok(())
    }

    /// Who is ready now. Never waits.
    pub(super) fn ready(&self, events: &mut [EpollEvent; EVENTS]) -> io::Result<usize> {
        Ok(self.0.wait(events, EpollTimeout::ZERO)?)
    }
}

/// Has the runtime watch the instance.
pub(super) fn watched(poller: Arc<Poller>) -> io::Result<AsyncFd<Arc<Poller>>> {
    #[expect(
        deprecated,
        reason = "its successor is `unsafe` for the sake of types that lie about their descriptor; this one is owned, \
                  and stays open as long as the `Arc` that is handed over"
    )]
    AsyncFd::with_interest(poller, Interest::READABLE)
}

impl Ready {
    pub(super) fn of(event: &EpollEvent) -> Self {
        match u32::try_from(event.data()) {
            Ok(number) => Self::Clients(number as usize),
            Err(_) => Self::BackEnd(Id::from_bits(event.data())),
        }
    }
}

impl AsRawFd for Poller {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}
