//! Pipes through which the kernel moves bytes from one socket to another without copying them (`splice(2)`).
//!
//! A direction borrows a pipe for as long as there are bytes in it. Between two turns of a direction its pipe is back
//! with the thread that serves it, still warm for the next one; so there are about as many pipes as there are
//! receivers that can't keep up, however many connections there are. A pipe is only given back empty: one with bytes
//! in it is closed.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use tokio::net::TcpStream;

/// Bytes that a pipe is made for. 64 pages; measured against 64 KiB and 1 MiB: less needs more system calls, more
/// falls out of the processor's cache.
const SIZE: usize = 256 * 1024;
/// A smaller pipe is not worth its descriptors. The kernel gives one page when the user has too many
/// (`fs.pipe-user-pages-soft`).
const LEAST: usize = 64 * 1024;
/// Pipes at once in the whole process, two descriptors each. What finds none is copied.
const MOST: usize = 1024;
/// Empty pipes that a thread keeps.
const SPARE: usize = 16;

/// Pipes there are, used and spare.
static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of this process alone.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    size: usize,
}

impl Pipe {
    /// An empty pipe. `None` when there are as many as there may be, or the system has none to give.
    pub(super) fn take() -> Option<Self> {
        let spare = POOL.try_with(|pool| pool.try_borrow_mut().ok()?.pop());
        spare.ok().flatten().or_else(Self::open)
    }

    fn open() -> Option<Self> {
        if OPEN.fetch_add(1, Ordering::Relaxed) >= MOST {
            OPEN.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (read, write) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .inspect_err(|_| {
                OPEN.fetch_sub(1, Ordering::Relaxed);
            })
            .ok()?;
        // From here on its drop counts it off.
        let mut pipe = Self { read, write, size: 0 };
        let wanted = i32::try_from(SIZE).unwrap_or(i32::MAX);
        let size = fcntl(&pipe.write, FcntlArg::F_SETPIPE_SZ(wanted))
            .or_else(|_| fcntl(&pipe.write, FcntlArg::F_GETPIPE_SZ))
            .ok()?;
        pipe.size = usize::try_from(size).unwrap_or_default();
        (pipe.size >= LEAST).then_some(pipe)
    }

    /// Keeps the pipe for the next one who needs it. It must be empty.
    pub(super) fn put(self) {
        // A pipe that is not kept is closed.
        let kept = POOL.try_with(|pool| {
            if let Ok(mut pool) = pool.try_borrow_mut()
                && pool.len() < SPARE
            {
                pool.push(self);
            }
        });
        if kept.is_err() {
            tracing::trace!("the thread ends, and its pipes with it");
        }
    }

    /// Moves bytes of a socket into the pipe.
    pub(super) fn fill_from(&self, socket: &TcpStream) -> io::Result<usize> {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        Ok(splice(socket, None, &self.write, None, self.size, flags)?)
    }

    /// Moves up to `most` bytes out of the pipe into a socket.
    pub(super) fn drain_to(&self, socket: &TcpStream, most: usize) -> io::Result<usize> {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        Ok(splice(&self.read, None, socket, None, most, flags)?)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
