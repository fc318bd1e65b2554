//! What systemd does for a service of type `notify`: hears its messages, and keeps the descriptors that come with them.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::eventually;

/// The end of the service manager. The kernel keeps about ten messages for it: who doesn't hear makes the service wait.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
    /// Every line that came.
    lines: Vec<String>,
    kept: Vec<(String, OwnedFd)>,
}

impl ServiceManager {
    /// Listens in `directory`.
    ///
    /// # Panics
    /// When that fails.
    pub fn listen(directory: &Path) -> Self {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            path,
            lines: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// What the service finds in `NOTIFY_SOCKET`.
    ///
    /// # Panics
    /// When the path is no text.
    pub fn address(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Hears what has come; every line so far.
    pub fn lines(&mut self) -> &[String] {
        while self.hear() {}
        &self.lines
    }

    /// The descriptors that it was asked to keep, as they are now.
    pub fn kept(&mut self) -> &mut Vec<(String, OwnedFd)> {
        while self.hear() {}
        &mut self.kept
    }

    /// Waits until it keeps so many, and takes them.
    pub async fn take(&mut self, count: usize) -> Vec<(String, OwnedFd)> {
        eventually("the sockets are kept", async || {
            let kept = self.kept();
            (kept.len() == count)
                .then(|| std::mem::take(kept))
                .ok_or(format!("{} kept", kept.len()))
        })
        .await
    }

    fn hear(&mut self) -> bool {
        let mut text = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let count = match received {
            Ok(message) => message.bytes,
            Err(Errno::AGAIN) => return false,
            Err(error) => panic!("{error}"),
        };
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            })
            .collect();
        let text = String::from_utf8_lossy(&text[..count]).into_owned();
        let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
        if let Some(name) = name {
            if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
                self.kept.retain(|(kept, _)| kept != name);
            }
            let named = descriptors
                .into_iter()
                .map(|descriptor| (name.to_owned(), descriptor));
            self.kept.extend(named);
        }
        self.lines.extend(text.lines().map(str::to_owned));
        true
    }
}
