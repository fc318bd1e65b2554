//! The side of the new process.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, UnixAddr, recvmsg};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{END, MAX_MESSAGE, SERVING, Sockets, VARIABLE, YOURS, send, stored};

/// How long the predecessor may keep silent while it hands over.
const PATIENCE: Duration = Duration::from_secs(5);
/// More sockets than any node has: workers times addresses.
const MAX_SOCKETS: usize = 65_536;

/// The process that this one replaces. Dropped before [`Predecessor::serves`]: it serves on.
#[derive(Debug)]
pub struct Predecessor(Socket);

impl Predecessor {
    /// Meets the predecessor, if one has started this process, and takes its sockets over. Blocks for as long as they
    /// come, seconds at most.
    pub fn meet() -> io::Result<Option<(Self, Sockets)>> {
        let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        Self::meet_at(Path::new(&path)).map(Some)
    }

    pub(super) fn meet_at(path: &Path) -> io::Result<(Self, Sockets)> {
        let peer = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        peer.connect(&SockAddr::unix(path)?)?;
        peer.set_read_timeout(Some(PATIENCE))?;
        let mut sockets = Vec::new();
        loop {
            let (name, descriptor) = receive(&peer)?;
            match descriptor {
                Some(descriptor) if sockets.len() < MAX_SOCKETS => sockets.push((name, descriptor)),
                None if name == END => return Ok((Self(peer), Sockets(sockets))),
                _ => {
                    let text = format!("the predecessor sent {name:?}, which is none of its sockets");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
    }

    /// Says that this process serves: the predecessor tells the service manager, drains and ends. Blocks until it has
    /// told, seconds at most.
    pub fn serves(self, version: &str) -> io::Result<()> {
        send::send(&self.0, &format!("{SERVING}{version}"), None)?;
        let (told, _) = receive(&self.0)?;
        if told != YOURS {
            let text = format!("the predecessor said {told:?} instead of {YOURS:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(())
    }
}

/// Receives one message, with its descriptor.
fn receive(peer: &Socket) -> io::Result<(String, Option<OwnedFd>)> {
    let mut buffer = [0; MAX_MESSAGE];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut bytes = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<UnixAddr>(
        peer.as_raw_fd(),
        &mut bytes,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let count = message.bytes;
    let descriptor = stored::descriptor_of(&message)?;
    if count == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the predecessor ended before it had handed everything over",
        ));
    }
    let name = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
    Ok((name, descriptor))
}
