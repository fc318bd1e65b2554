//! What ends the process: a store that can't keep what it promised.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use openraft::{ErrorSubject, ErrorVerb, StorageError, StorageIOError};
use thiserror::Error;

use crate::state::NodeId;

/// Why the store stopped. Each says what to do; none goes away by trying again in this process.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreFailure {
    /// No room.
    #[error(
        "{path}: no space is left on the device: free some and start the node again; nothing that was acknowledged is lost"
    )]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// A write or `fsync` failed: what is on the disk is not known until it is read again.
    #[error(
        "{path}: writing failed ({detail}): the process ends, since nobody knows what is on the disk now; check the device, then start the node again"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// It can't be read.
    #[error(
        "{path}: reading failed ({detail}): check the device and the permissions, then start the node again"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// It is not what was written.
    #[error(
        "{path}: corrupt ({detail}): keep a copy, remove the node from the cluster, empty its folder and let it join anew"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        detail: String,
    },
    /// Another process has it.
    #[error("{path}: another process has it open: stop that one, or give this one another folder")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is another node's, or of another version.
    #[error("{path}: {detail}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found, and what was expected.
        detail: String,
    },
}

/// Is called from whatever thread noticed when the log can't be kept, once, and when snapshots can't, once. It has to
/// stop the process: an edge that keeps its lease without keeping its log is what all this is there to prevent.
pub type OnFailure = Arc<dyn Fn(&StoreFailure) + Send + Sync>;

/// The first failure of a store, which all that comes later gets too.
#[derive(Clone)]
pub(super) struct Health {
    first: Arc<OnceLock<StoreFailure>>,
    told: OnFailure,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("first", &self.first.get())
            .finish_non_exhaustive()
    }
}

impl Health {
    pub(super) fn new(told: OnFailure) -> Self {
        Self {
            first: Arc::default(),
            told,
        }
    }

    /// Keeps the first failure and tells of it; gives that one back, whatever comes later.
    pub(super) fn fail(&self, failure: StoreFailure) -> StoreFailure {
        let mut is_first = false;
        let first = self.first.get_or_init(|| {
            is_first = true;
            failure
        });
        if is_first {
            tracing::error!(%first, "the store of the replicated log has failed");
            (self.told)(first);
        }
        first.clone()
    }

    pub(super) fn check(&self) -> Result<(), StoreFailure> {
        self.first.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

impl StoreFailure {
    /// What a failed write of a file means.
    pub(super) fn write(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Write {
                path,
                detail: error.to_string(),
            },
        }
    }

    /// What an error of redb while reading means.
    pub(super) fn reading(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::Read {
                path: path.to_owned(),
                detail: error.to_string(),
            },
            other => Self::of_database(path, other),
        }
    }

    /// What an error of redb while writing means.
    pub(super) fn writing(path: &Path, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => Self::write(path, &error),
            other => Self::of_database(path, other),
        }
    }

    fn of_database(path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse { path },
            redb::Error::Corrupted(detail) => Self::Corrupt { path, detail },
            redb::Error::TableTypeMismatch { .. } | redb::Error::RepairAborted => Self::Corrupt {
                path,
                detail: error.to_string(),
            },
            redb::Error::UpgradeRequired(version) => Self::Foreign {
                path,
                detail: format!("format {version} of redb: expected one that this version reads"),
            },
            other => Self::Write {
                path,
                detail: other.to_string(),
            },
        }
    }

    /// As openraft wants it; it stops at any.
    pub(super) fn for_raft(&self, subject: ErrorSubject<NodeId>, verb: ErrorVerb) -> StorageError<NodeId> {
        let error = io::Error::other(self.clone());
        StorageError::IO {
            source: StorageIOError::new(subject, verb, &error),
        }
    }
}
