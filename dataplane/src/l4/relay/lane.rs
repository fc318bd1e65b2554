//! One direction between two sockets: copied through a buffer, or spliced once it proves bulky.
//!
//! Nothing is read while something that was read waits to be written, so a direction holds at most one buffer, or one
//! pipe, and only while its receiver does not take it. An idle direction holds nothing.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use tokio::net::TcpStream;

use super::{Fault, Moved, Pace};
use crate::l4::socket;
use crate::l4::splice::Pipe;

/// One read. A thread has one buffer for all of its connections.
pub(super) const READ: usize = 32 * 1024;
/// Reads in a row that fill the buffer, after which a direction is spliced.
const FULL_READS: u8 = 3;
/// A pipe that gets less than this was not worth it (measured: two calls of `splice` cost about as much as copying
/// 8 KiB).
const SMALL: usize = 8 * 1024;
/// Small pipes in a row, after which a direction is copied again.
const SMALL_PIPES: u8 = 4;
/// Bytes that a direction moves before other connections of the thread have their turn.
pub(super) const TURN: usize = 512 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// Calls `use_it` with the thread's buffer.
pub(super) fn with_buffer<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}

/// What was read and not written yet.
#[derive(Debug, Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    Bytes {
        data: Vec<u8>,
        from: usize,
    },
    Pipe {
        pipe: Pipe,
        bytes: usize,
    },
}

impl Held {
    /// Bytes to be written.
    pub(super) fn bytes(data: Vec<u8>) -> Self {
        if data.is_empty() {
            Self::Nothing
        } else {
            Self::Bytes { data, from: 0 }
        }
    }
}

/// How a direction moves its bytes.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Through the buffer; so many reads in a row have filled it.
    Copy { full: u8 },
    /// Through a pipe; so many in a row got little.
    Splice { small: u8 },
    /// Through the buffer for good.
    CopyAlways,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    held: Held,
    way: Way,
    pace: Pace,
}

impl Lane {
    /// A direction that begins with bytes that were read already.
    pub(super) fn new(first: Vec<u8>, pace: Pace) -> Self {
        Self {
            held: Held::bytes(first),
            way: match pace {
                Pace::Adaptive => Way::Copy { full: 0 },
                Pace::Copy => Way::CopyAlways,
                Pace::Splice => Way::Splice { small: 0 },
            },
            pace,
        }
    }

    /// The bytes that were read and not written.
    pub(super) fn unsent(&mut self) -> Vec<u8> {
        match std::mem::take(&mut self.held) {
            Held::Bytes { mut data, from } => {
                data.drain(..from);
                data
            }
            Held::Nothing | Held::Pipe { .. } => Vec::new(),
        }
    }

    /// Moves bytes until the source has none, the receiver takes none, or it is the turn of others. Ready at the end of
    /// the source when everything is written.
    pub(super) fn poll(
        &mut self,
        from: &TcpStream,
        to: &TcpStream,
        moved: &Moved,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        let mut turn = 0;
        loop {
            ready!(self.poll_give(to, moved, cx)).map_err(Fault::to)?;
            if turn >= TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(from.poll_read_ready(cx)).map_err(Fault::from)?;
            match self.take(from, to, moved) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => turn += count,
                Err(fault) if fault.is_of_source() && would_block(&fault.error) => {}
                Err(fault) => return Poll::Ready(Err(fault)),
            }
        }
    }

    /// Writes what is held.
    fn poll_give(&mut self, to: &TcpStream, moved: &Moved, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let given = match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes { data, from } => {
                    let rest = data.get(*from..).unwrap_or_default();
                    socket::send(to, rest).map(|count| {
                        moved.copied(count);
                        *from += count;
                        *from == data.len()
                    })
                }
                Held::Pipe { pipe, bytes } => socket::drain(to, pipe, *bytes).map(|count| {
                    moved.spliced(count);
                    *bytes = bytes.saturating_sub(count);
                    *bytes == 0
                }),
            };
            match given {
                Ok(true) => {
                    if let Held::Pipe { pipe, .. } = std::mem::take(&mut self.held) {
                        pipe.put();
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(false) => {}
                Err(error) if would_block(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(to.poll_write_ready(cx))?;
        }
    }

    /// Reads once. 0 at the end of the source.
    fn take(&mut self, from: &TcpStream, to: &TcpStream, moved: &Moved) -> Result<usize, Fault> {
        if let Way::Splice { small } = self.way
            && let Some(pipe) = self.pipe()
        {
            match socket::fill(from, &pipe) {
                Ok(0) => {
                    pipe.put();
                    return Ok(0);
                }
                Ok(bytes) => {
                    moved.begin();
                    self.held = Held::Pipe { pipe, bytes };
                    self.way = match (self.pace, bytes < SMALL) {
                        (Pace::Adaptive, true) if small + 1 >= SMALL_PIPES => Way::Copy { full: 0 },
                        (Pace::Adaptive, true) => Way::Splice { small: small + 1 },
                        _ => Way::Splice { small: 0 },
                    };
                    return Ok(bytes);
                }
                Err(error) if is_unsupported(&error) => {
                    pipe.put();
                    self.way = Way::CopyAlways;
                }
                Err(error) => {
                    pipe.put();
                    return Err(Fault::from(error));
                }
            }
        }
        let count = with_buffer(|buffer| self.copy(buffer, from, to, moved))?;
        if let Way::Copy { full } = self.way {
            self.way = match (count == READ, full + 1 >= FULL_READS) {
                (true, true) => Way::Splice { small: 0 },
                (true, false) => Way::Copy { full: full + 1 },
                (false, _) => Way::Copy { full: 0 },
            };
        }
        Ok(count)
    }

    /// A pipe; without one the direction is copied for now.
    fn pipe(&mut self) -> Option<Pipe> {
        let pipe = Pipe::take();
        if pipe.is_none() && self.pace == Pace::Adaptive {
            self.way = Way::Copy { full: 0 };
        }
        pipe
    }

    /// Reads into the buffer and writes it at once, so that only what the receiver does not take needs memory.
    fn copy(
        &mut self,
        buffer: &mut [u8],
        from: &TcpStream,
        to: &TcpStream,
        moved: &Moved,
    ) -> Result<usize, Fault> {
        let count = socket::receive(from, buffer).map_err(Fault::from)?;
        let data = buffer.get(..count).unwrap_or_default();
        if data.is_empty() {
            return Ok(0);
        }
        moved.begin();
        let sent = match socket::send(to, data) {
            Ok(sent) => sent,
            Err(error) if would_block(&error) => 0,
            Err(error) => return Err(Fault::to(error)),
        };
        moved.copied(sent);
        self.held = Held::bytes(data.get(sent..).unwrap_or_default().to_vec());
        Ok(count)
    }
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// What the kernel says of a socket that can't be spliced.
fn is_unsupported(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    number == Some(Errno::EINVAL as i32) || number == Some(Errno::ENOSYS as i32)
}
