//! Moves the bytes of a connection in both directions until it ends, and passes on how it ends.
//!
//! - The end of one direction is the end of that direction alone: what was read is written, then the other side is told
//!   (FIN), and the other direction goes on.
//! - A side that breaks (reset, unreachable, TLS that is cut off) breaks the other: what it had sent before is
//!   delivered if it can be within [`GRACE`], then the other side is reset. A FIN would say that the stream is whole.
//! - A time limit, or an order to stop, resets both.
//!
//! Between two sockets bytes are copied, and spliced where they are many ([`lane`]); a stream with TLS is copied
//! ([`wrapped`]). One future drives both directions: a task per direction would cost twice the wake-ups.

mod bell;
mod course;
mod lane;
mod progress;
#[cfg(test)]
mod tests;
mod wrapped;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::socket;
use course::{Course, Events};
use lane::Lane;

pub(crate) use progress::Moved;
pub use progress::Progress;
pub(crate) use wrapped::{Io, Wrapped};

/// How long what a broken side has sent may take to reach the other one.
const GRACE: Duration = Duration::from_secs(2);

/// A side of a connection through us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Server,
}

impl Side {
    /// Both, the client first.
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A value for each side, or for the direction that comes from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Each<T> {
    pub(crate) client: T,
    pub(crate) server: T,
}

impl<T> Each<T> {
    pub(crate) fn of(&self, side: Side) -> &T {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    pub(crate) fn of_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

/// How bytes are moved between two sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// Copied, and spliced while there are many.
    #[default]
    Adaptive,
    /// Copied.
    Copy,
    /// Spliced, unless there are no pipes.
    Splice,
}

/// When a relay ends although its sides go on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Longest time without a byte in either direction; `None`: no limit.
    pub idle: Option<Duration>,
    /// Once one direction has ended: longest time without a byte in the other (Traefik's `terminationDelay`); `None`: no
    /// limit.
    pub half_open: Option<Duration>,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both directions have ended, and everything was written.
    Complete,
    /// That side broke, and the other one was reset.
    Broken(Side),
    /// No byte came for too long.
    Idle,
    /// One direction outlived the other one for too long.
    HalfOpen,
    /// It was told to stop.
    Stopped,
    /// The server ended or broke the connection before any byte was exchanged with it. The client was told nothing, so
    /// another server may be tried. Only with [`Begin::forgiving`].
    Unserved,
}

/// How a relay begins.
#[derive(Debug, Default)]
pub struct Begin {
    /// Bytes for the server that were read already.
    pub first: Vec<u8>,
    /// Up to when [`Ending::Unserved`] is of use; `None`: never.
    pub forgiving: Option<Instant>,
    /// How bytes are moved.
    pub pace: Pace,
}

/// Carries a connection between two sockets to its end. Whoever drops the future before cuts the connection: both
/// sockets are reset when they are closed.
pub async fn relay(
    client: &TcpStream,
    server: &TcpStream,
    begin: &mut Begin,
    limits: Limits,
    progress: &Progress,
    stop: impl Future<Output = ()>,
) -> Ending {
    let sockets = Each { client, server };
    let mut lanes = Plain {
        sockets,
        lanes: Each {
            client: Lane::new(std::mem::take(&mut begin.first), begin.pace),
            server: Lane::new(Vec::new(), begin.pace),
        },
    };
    let ending = carry(&mut lanes, sockets, begin, limits, progress, stop).await;
    if ending == Ending::Unserved {
        begin.first = lanes.lanes.client.unsent();
    }
    ending
}

/// Two directions between two sides.
pub(crate) trait Lanes {
    /// Moves bytes that come from a side. Ready when that side has ended its direction and everything is written.
    fn poll_lane(&mut self, from: Side, moved: &Moved, cx: &mut Context<'_>) -> Poll<Result<(), Fault>>;

    /// Tells a side that nothing more comes.
    fn poll_end(&mut self, to: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What went wrong in a direction.
#[derive(Debug)]
pub(crate) struct Fault {
    at: At,
    error: io::Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Source,
    Receiver,
}

impl Fault {
    fn from(error: io::Error) -> Self {
        Self {
            at: At::Source,
            error,
        }
    }

    fn to(error: io::Error) -> Self {
        Self {
            at: At::Receiver,
            error,
        }
    }

    fn is_of_source(&self) -> bool {
        self.at == At::Source
    }
}

/// Carries a connection over any two directions; `sockets` are what is below.
pub(crate) async fn carry(
    lanes: &mut impl Lanes,
    sockets: Each<&TcpStream>,
    begin: &Begin,
    limits: Limits,
    progress: &Progress,
    stop: impl Future<Output = ()>,
) -> Ending {
    // Until it is known how the connection ends, its end is a cut.
    let mut cut = Cut {
        sockets,
        reset: Each {
            client: true,
            server: true,
        },
    };
    let mut course = Course::new(limits, begin, progress);
    let ending = {
        let client = pin!(sockets.client.ready(Interest::ERROR));
        let server = pin!(sockets.server.ready(Interest::ERROR));
        let stop = pin!(stop);
        let mut events = Events::new(client, server, stop);
        poll_fn(|cx| course.poll(lanes, &mut events, cx)).await
    };
    cut.reset = match ending {
        Ending::Complete | Ending::Unserved => Each::default(),
        // Whose direction was over has got all there was.
        Ending::HalfOpen => course.unfinished(),
        Ending::Broken(_) | Ending::Idle | Ending::Stopped => cut.reset,
    };
    if let Some(until) = course.grace(Instant::now()) {
        for side in Side::BOTH {
            if *cut.reset.of(side) && ending != Ending::Broken(side) {
                deliver(sockets.of(side), until).await;
            }
        }
    }
    ending
}

/// Waits until the peer has what was written, up to a time.
async fn deliver(socket: &TcpStream, until: Instant) {
    let mut pause = Duration::from_millis(1);
    while socket::is_delivering(socket) && Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Resets sockets when it is dropped.
struct Cut<'s> {
    sockets: Each<&'s TcpStream>,
    reset: Each<bool>,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        for side in Side::BOTH {
            if *self.reset.of(side) {
                socket::reset_on_close(self.sockets.of(side));
            }
        }
    }
}

/// Two plain sockets.
struct Plain<'s> {
    sockets: Each<&'s TcpStream>,
    lanes: Each<Lane>,
}

impl Lanes for Plain<'_> {
    fn poll_lane(&mut self, from: Side, moved: &Moved, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let (source, receiver) = (self.sockets.of(from), self.sockets.of(from.other()));
        self.lanes.of_mut(from).poll(source, receiver, moved, cx)
    }

    fn poll_end(&mut self, to: Side, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket::end(self.sockets.of(to)))
    }
}
