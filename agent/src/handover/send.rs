//! The side of the process that runs: starts its successor and hands everything over.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{END, MAX_MESSAGE, SERVING, Sockets, VARIABLE, YOURS};
use crate::systemd;

/// How long a new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked after meanwhile.
const GLANCE: Duration = Duration::from_millis(50);

/// How this process was started, to be started once more.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// Of this process. To be called at its start: later the file may have been replaced by a newer one, under whose path
    /// the kernel then says ` (deleted)`.
    pub fn of_this_process() -> io::Result<Self> {
        Ok(Self {
            path: std::env::current_exe()?,
            arguments: std::env::args_os().skip(1).collect(),
        })
    }

    #[cfg(test)]
    pub(super) fn new(path: &str, arguments: &[&str]) -> Self {
        Self {
            path: path.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        }
    }
}

/// The process that serves now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
}

/// Why this process serves on.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The end of this process would be the end of everything beside it.
    #[error(
        "this node is process 1 of its container, which ends with it: start a container with the new image instead"
    )]
    ProcessOne,
    /// The new process could not be started.
    #[error("cannot start {}: {source}; this process serves on", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The new process ended.
    #[error("the new process ended before it served ({0}); its log says why, and this process serves on")]
    Ended(ExitStatus),
    /// The new process is too slow.
    #[error(
        "the new process did not serve within {} s and was ended; this process serves on",
        PATIENCE.as_secs()
    )]
    Late,
    /// The sockets could not be passed.
    #[error("cannot hand over to the new process: {0}; this process serves on")]
    Pass(#[from] io::Error),
}

/// Starts `program` with the arguments of this process and hands `sockets` over. Returns once the new process serves;
/// after an error it is gone.
///
/// Blocks for up to 15 seconds. `directory` has to belong to this user; a directory is made in it for the time being.
pub fn replace(program: &Program, sockets: &Sockets, directory: &Path) -> Result<Successor, ReplaceError> {
    if std::process::id() == 1 {
        return Err(ReplaceError::ProcessOne);
    }
    let meeting = Meeting::arrange(directory)?;
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .env(VARIABLE, &meeting.path)
        // These speak of this process; the watchdog is for whoever is the main one.
        .env_remove("WATCHDOG_PID")
        .env_remove("LISTEN_PID");
    let mut child = command.spawn().map_err(|source| ReplaceError::Start {
        path: program.path.clone(),
        source,
    })?;
    let version = meeting
        .hand_over(&mut child, sockets)
        .inspect_err(|_| end(&mut child))?;
    Ok(Successor {
        pid: child.id(),
        version,
    })
}

/// Ends a process that did not come up.
fn end(child: &mut Child) {
    let ended = child.kill().and_then(|()| child.wait());
    if let Err(error) = ended {
        tracing::warn!(pid = child.id(), %error, "a new process that did not serve can't be ended");
    }
}

/// The Unix socket where the new process comes to, in a directory for this user alone.
struct Meeting {
    directory: PathBuf,
    path: PathBuf,
    socket: Socket,
}

impl Meeting {
    fn arrange(directory: &Path) -> io::Result<Self> {
        let directory = directory.join(format!("handover-{}", std::process::id()));
        // Of an earlier process with this id.
        std::fs::remove_dir_all(&directory).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        let path = directory.join("socket");
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        socket.bind(&SockAddr::unix(&path)?)?;
        socket.listen(1)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            directory,
            path,
            socket,
        })
    }

    /// Passes the sockets to the process that comes, and gives its version once it serves.
    fn hand_over(&self, child: &mut Child, sockets: &Sockets) -> Result<String, ReplaceError> {
        let deadline = Instant::now() + PATIENCE;
        let peer = wait(child, deadline, || match self.socket.accept() {
            Ok((peer, _)) => Ok(Some(peer)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        })?;
        peer.set_nonblocking(false)?;
        peer.set_write_timeout(Some(PATIENCE))?;
        for (name, socket) in sockets.iter() {
            send(&peer, name, Some(socket))?;
        }
        send(&peer, END, None)?;
        peer.set_read_timeout(Some(GLANCE))?;
        let version = wait(child, deadline, || hear(&peer))?;
        systemd::main_process(child.id());
        if let Err(error) = send(&peer, YOURS, None) {
            tracing::warn!(%error, "the new process serves, but does not listen to this one");
        }
        Ok(version)
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::debug!(directory = %self.directory.display(), %error, "a directory is left over");
        }
    }
}

/// Tries until there is an outcome, the process has ended, or it is too late.
fn wait<T>(
    child: &mut Child,
    deadline: Instant,
    mut attempt: impl FnMut() -> io::Result<Option<T>>,
) -> Result<T, ReplaceError> {
    loop {
        if let Some(outcome) = attempt()? {
            return Ok(outcome);
        }
        if let Some(status) = child.try_wait()? {
            return Err(ReplaceError::Ended(status));
        }
        if Instant::now() >= deadline {
            return Err(ReplaceError::Late);
        }
        std::thread::sleep(GLANCE / 10);
    }
}

/// What the new process says; `None`: nothing yet.
fn hear(peer: &Socket) -> io::Result<Option<String>> {
    let mut buffer = [0; MAX_MESSAGE];
    match io::Read::read(&mut &*peer, &mut buffer) {
        // It has gone; its end follows.
        Ok(0) => Ok(None),
        Ok(count) => {
            let text = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default());
            let version = text.strip_prefix(SERVING);
            version
                .map(|version| Some(version.to_owned()))
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("it said {text:?}")))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends one message, with a descriptor.
pub(super) fn send(peer: &Socket, text: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let raw: Vec<_> = descriptor
        .iter()
        .map(|descriptor| descriptor.as_raw_fd())
        .collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let bytes = [IoSlice::new(text.as_bytes())];
    sendmsg::<UnixAddr>(peer.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}
