//! The state machine: the state in memory, as far as it has been applied, and its snapshots.
//!
//! Nothing of an applied entry is written here. After a restart the state is the last snapshot's, and openraft applies what is
//! committed beyond it again.

use std::fmt;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use openraft::storage::RaftStateMachine;
use openraft::{
    Entry, EntryPayload, ErrorSubject, ErrorVerb, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot,
    SnapshotMeta, StorageError, StoredMembership,
};

use super::super::failure::{Health, OnFailure, StoreFailure};
use super::super::{Member, Types};
use super::snapshot::{self, Content};
use crate::lease::{LeaseKey, Leases};
use crate::state::{NodeId, Outcome, State};

/// Is told of every entry once it is applied: its term, the lease that it changed, and what there is since. Feeds the
/// leader's timer; called under the lock of the state, so it is short and asks for nothing.
pub type Observer = Box<dyn FnMut(u64, Option<&LeaseKey>, &Leases) + Send + Sync>;

/// The state, to be read by whoever has it. Its copies are the same.
#[derive(Clone, Debug, Default)]
pub struct SharedState(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    state: State,
    applied: Option<LogId<NodeId>>,
    membership: StoredMembership<NodeId, Member>,
}

impl SharedState {
    /// Reads it as this node has it, which may be behind; what has to be current is read after a barrier. Entries wait to
    /// be applied meanwhile.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner).state)
    }
}

/// The state machine of one node.
pub struct Machine {
    shared: SharedState,
    observer: Observer,
    snapshots: Snapshots,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// Builds and keeps snapshots. One is written at a time.
#[derive(Clone)]
pub struct Snapshots {
    shared: SharedState,
    folder: PathBuf,
    health: Health,
    /// The last one, as it is in the file.
    current: Arc<Mutex<Option<Kept>>>,
    writing: Arc<tokio::sync::Mutex<()>>,
    built: Arc<AtomicU64>,
}

/// A snapshot, with the bytes of its file.
type Kept = (SnapshotMeta<NodeId, Member>, Arc<Vec<u8>>);

impl Machine {
    /// The state from the last snapshot in this folder, or an empty one.
    ///
    /// # Errors
    /// If there is one that can't be read or is corrupt. It is not passed over: the log before it is gone.
    pub fn open(folder: &Path, observer: Observer, told: OnFailure) -> Result<Self, StoreFailure> {
        let shared = SharedState::default();
        let stored = snapshot::read(folder)?;
        let current = stored.map(|(content, bytes)| {
            let meta = content.meta.clone();
            shared.take(content);
            (meta, Arc::new(bytes))
        });
        let snapshots = Snapshots {
            shared: shared.clone(),
            folder: folder.to_owned(),
            health: Health::new(told),
            current: Arc::new(Mutex::new(current)),
            writing: Arc::default(),
            built: Arc::default(),
        };
        Ok(Self {
            shared,
            observer,
            snapshots,
        })
    }

    /// The state, to read.
    #[must_use]
    pub fn state(&self) -> SharedState {
        self.shared.clone()
    }
}

impl SharedState {
    fn take(&self, content: Content) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner {
            state: content.state,
            applied: content.meta.last_log_id,
            membership: content.meta.last_membership,
        };
    }
}

impl Snapshots {
    /// Writes it on a thread where that may take its time.
    async fn keep(
        &self,
        meta: SnapshotMeta<NodeId, Member>,
        bytes: Vec<u8>,
    ) -> Result<(), StorageError<NodeId>> {
        let bytes = Arc::new(bytes);
        let (folder, written) = (self.folder.clone(), Arc::clone(&bytes));
        let result = match self.health.check() {
            Err(failure) => Err(failure),
            Ok(()) => tokio::task::spawn_blocking(move || snapshot::write(&folder, &written))
                .await
                .unwrap_or_else(|error| {
                    Err(StoreFailure::Write {
                        path: snapshot::path(&self.folder),
                        detail: error.to_string(),
                    })
                }),
        };
        result.map_err(|failure| self.failed(failure, ErrorVerb::Write))?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta, bytes));
        Ok(())
    }

    fn failed(&self, failure: StoreFailure, verb: ErrorVerb) -> StorageError<NodeId> {
        self.health
            .fail(failure)
            .for_raft(ErrorSubject::Snapshot(None), verb)
    }
}

impl RaftSnapshotBuilder<Types> for Snapshots {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<NodeId>> {
        let _one_at_a_time = Arc::clone(&self.writing).lock_owned().await;
        let content = {
            let inner = self.shared.0.read().unwrap_or_else(PoisonError::into_inner);
            let applied = inner
                .applied
                .map_or_else(|| "none".to_owned(), |applied| applied.to_string());
            let meta = SnapshotMeta {
                last_log_id: inner.applied,
                last_membership: inner.membership.clone(),
                snapshot_id: format!("{applied}-{}", self.built.fetch_add(1, Ordering::Relaxed)),
            };
            Content {
                meta,
                state: inner.state.clone(),
            }
        };
        let bytes = content
            .to_bytes(&snapshot::path(&self.folder))
            .map_err(|failure| self.failed(failure, ErrorVerb::Write))?;
        self.keep(content.meta.clone(), bytes.clone()).await?;
        Ok(Snapshot {
            meta: content.meta,
            snapshot: Box::new(Cursor::new(bytes)),
        })
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Snapshots;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembership<NodeId, Member>), StorageError<NodeId>> {
        let inner = self.shared.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok((inner.applied, inner.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Option<Outcome>>, StorageError<NodeId>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.shared.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut outcomes = Vec::new();
        for entry in entries {
            inner.applied = Some(entry.log_id);
            let (mut outcome, mut touched) = (None, None);
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(request) => {
                    let applied = inner.state.apply(entry.log_id.index, request);
                    outcome = Some(applied.outcome);
                    touched = applied.lease;
                }
                EntryPayload::Membership(membership) => {
                    inner.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                }
            }
            (self.observer)(
                entry.log_id.leader_id.term,
                touched.as_ref(),
                inner.state.leases(),
            );
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Snapshots {
        self.snapshots.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<NodeId>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<NodeId, Member>,
        received: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<NodeId>> {
        let bytes = received.into_inner();
        let from = Path::new("the snapshot from the leader");
        let content = Content::from_bytes(from, &bytes)
            .map_err(|failure| self.snapshots.failed(failure, ErrorVerb::Read))?;
        let _one_at_a_time = Arc::clone(&self.snapshots.writing).lock_owned().await;
        self.snapshots.keep(meta.clone(), bytes).await?;
        self.shared.take(Content {
            meta: meta.clone(),
            state: content.state,
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<NodeId>> {
        let current = self
            .snapshots
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(current.map(|(meta, bytes)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(bytes.to_vec())),
        }))
    }
}
