//! The network namespace of the calling thread, and its folder in the BPF file system.
//!
//! ```text
//! /sys/fs/bpf/constellation/          0700, made once
//!   4026531840/                       inode of the network namespace; locked by its owner
//!     v1/                             version of the layouts (`abi::VERSION`)
//!       maps/STEER_GRANT …            the maps, by name
//!       links/edge_steer …            the attachments; removing one detaches the program
//! ```

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::Error;

/// Where systemd mounts the BPF file system.
const BPF_FILE_SYSTEM: &str = "/sys/fs/bpf";
const THREAD_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// A network namespace. Cheap to clone; holds the namespace open.
#[derive(Clone, Debug)]
pub struct Namespace {
    net: Arc<File>,
    folder: PathBuf,
}

impl Namespace {
    /// That of the calling thread. Makes its folder where it is missing.
    ///
    /// # Errors
    /// When the BPF file system is not mounted at `/sys/fs/bpf` or can't be written to.
    pub fn current() -> Result<Self, Error> {
        Self::below(Path::new(BPF_FILE_SYSTEM))
    }

    /// The same with the BPF file system at another place.
    ///
    /// # Errors
    /// As [`Self::current`].
    pub fn below(file_system: &Path) -> Result<Self, Error> {
        let namespace = Self::at(file_system)?;
        make_folder(&namespace.folder)?;
        Ok(namespace)
    }

    /// That of the calling thread, if a process has ever made its folder. Changes nothing.
    ///
    /// # Errors
    /// When `/proc` can't be read, or the folder can't be looked at.
    pub fn find() -> Result<Option<Self>, Error> {
        match Self::at(Path::new(BPF_FILE_SYSTEM)) {
            Ok(namespace) => match fs::metadata(&namespace.folder) {
                Ok(_) => Ok(Some(namespace)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(Error::file("look at", &namespace.folder, error)),
            },
            Err(Error::NoBpfFileSystem(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn at(file_system: &Path) -> Result<Self, Error> {
        let kind = statfs(file_system)
            .map_err(|error| Error::file("look at", file_system, error.into()))?
            .filesystem_type();
        if kind != BPF_FS_MAGIC {
            return Err(Error::NoBpfFileSystem(file_system.to_owned()));
        }
        let own = Path::new(THREAD_NAMESPACE);
        let net = File::open(own).map_err(|error| Error::file("open", own, error))?;
        let inode = net
            .metadata()
            .map_err(|error| Error::file("look at", own, error))?
            .ino();
        let folder = file_system.join("constellation").join(inode.to_string());
        Ok(Self {
            net: Arc::new(net),
            folder,
        })
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The namespace itself, to attach to.
    pub(crate) fn net(&self) -> &File {
        &self.net
    }

    /// The folder of one version of the layouts.
    pub(crate) fn version(&self, version: u32) -> PathBuf {
        self.folder.join(format!("v{version}"))
    }

    /// The folders of all versions of the layouts that there are.
    pub(crate) fn versions(&self) -> Result<Vec<PathBuf>, Error> {
        entries(&self.folder)
    }

    /// The folders of other namespaces.
    pub(crate) fn siblings(&self) -> Result<Vec<PathBuf>, Error> {
        let mut siblings = self.folder.parent().map_or_else(|| Ok(Vec::new()), entries)?;
        siblings.retain(|sibling| *sibling != self.folder);
        Ok(siblings)
    }
}

/// What is in a folder, in order.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(|error| Error::file("list", folder, error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths
        .collect::<Result<_, _>>()
        .map_err(|error| Error::file("list", folder, error))?;
    paths.sort();
    Ok(paths)
}

/// Makes a folder and those above it, for the owner only; one that is there already is fine.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(folder);
    made.map_err(|error| Error::file("make", folder, error))
}

/// Removes a folder or a pin with all that is below it. One that is gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| Error::file("remove", path, error)),
    }
}
