//! Who owns the pins of a network namespace: one process at a time, or two during a hand-over.
//!
//! The lock is a `flock` on the namespace's folder. It belongs to the open file, not to the process: it ends with the
//! last copy of its descriptor, also after SIGKILL, and a process that hands over gives a copy of it to its successor
//! together with its listeners, so that no third one can come between them.

use std::fs::{File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Namespace};

/// The right to change what is pinned. Cheap to clone; the lock is given up with the last clone, in this process and in
/// whichever got a copy of the descriptor.
#[derive(Clone, Debug)]
pub struct Lock {
    folder: Arc<File>,
    namespace: Namespace,
}

impl Lock {
    /// Takes the lock of a namespace.
    ///
    /// # Errors
    /// [`Error::Busy`] when another process holds it.
    pub fn take(namespace: &Namespace) -> Result<Self, Error> {
        let path = namespace.folder();
        let folder = File::open(path).map_err(|error| Error::file("open", path, error))?;
        Self::locked(folder, namespace)
    }

    /// Takes the lock over from the process that holds it and passed a copy of its descriptor on, as systemd's store of
    /// descriptors does, too.
    ///
    /// # Errors
    /// [`Error::ForeignLock`] when the descriptor is something else.
    pub fn inherit(namespace: &Namespace, descriptor: OwnedFd) -> Result<Self, Error> {
        let folder = File::from(descriptor);
        if !is_at(&folder, namespace.folder()) {
            return Err(Error::ForeignLock(namespace.folder().to_owned()));
        }
        Self::locked(folder, namespace)
    }

    /// The namespace that it belongs to.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn locked(folder: File, namespace: &Namespace) -> Result<Self, Error> {
        let path = namespace.folder();
        match folder.try_lock() {
            Ok(()) => Ok(Self {
                folder: Arc::new(folder),
                namespace: namespace.clone(),
            }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", path, error)),
        }
    }
}

/// To pass the lock on: a copy of this descriptor holds it as well.
impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

fn is_at(folder: &File, path: &Path) -> bool {
    match (folder.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
