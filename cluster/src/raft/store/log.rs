//! The log and the vote, as openraft asks for them.
//!
//! Entries can be read from the moment that they are appended: those which the writer has not written yet are kept in
//! memory.

mod storage;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use openraft::storage::LogState;
use openraft::{Entry, EntryPayload, ErrorSubject, ErrorVerb, LogId, StorageError, Vote};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{oneshot, watch};

use super::super::Types;
use super::super::codec;
use super::super::failure::{Health, OnFailure, StoreFailure};
use super::super::figures::Counting;
use super::writer::{COMMITTED, Done, ENTRIES, META, PURGED, VOTE, Write, Writer};
use crate::state::{Command, NodeId, Request};

/// Of the records; a file with another one is refused.
const FORMAT: u32 = 1;
const OWNER: &str = "owner";

/// About so many bytes of entries go into one call: openraft gives a follower one heartbeat to have them and to answer, and
/// begins anew after that. With 50 ms this leaves time for the disks at 100 Mbit/s.
const CALL_BYTES: usize = 256 * 1024;
/// How many entries are looked at before more are read.
const READ_AT_ONCE: u64 = 8;

/// The log and the vote of one node. Its copies are the same store.
#[derive(Clone, Debug)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    database: Arc<Database>,
    path: PathBuf,
    /// Whose log it is.
    node: NodeId,
    counting: Arc<Counting>,
    health: Health,
    unwritten: Arc<Unwritten>,
    /// What was queued last, which may not be in the file yet.
    committed: Mutex<Option<LogId<NodeId>>>,
    /// Nothing once it is being closed.
    queue: Mutex<Option<Sender<Write>>>,
    writer: Option<thread::JoinHandle<()>>,
    /// The last field, so it is dropped when the file is closed.
    open: watch::Sender<()>,
}

/// What a log says of itself.
pub(super) struct Known {
    pub(super) vote: Option<Vote<NodeId>>,
    pub(super) purged: Option<LogId<NodeId>>,
    pub(super) committed: Option<LogId<NodeId>>,
}

/// Tells when the last copy of a store is gone and its file is free.
#[derive(Clone, Debug)]
pub struct Closed(watch::Receiver<()>);

impl Closed {
    /// Waits for that. Cancel safe.
    pub async fn wait(&mut self) {
        // Nothing is ever sent: this ends with the sender.
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Shared {
    /// Waits for what is queued, so that the file is free when this returns.
    fn drop(&mut self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.path.display(), "the thread that writes the log has panicked");
        }
    }
}

impl Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogStore")
            .field("path", &self.path)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

/// Entries that were appended and may not be in the file yet, with the round of `append` that they came with.
#[derive(Debug, Default)]
pub(super) struct Unwritten(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    round: u64,
    entries: BTreeMap<u64, (u64, Entry<Types>)>,
}

impl Unwritten {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are in the file. An index that was appended again since stays.
    pub(super) fn written(&self, round: u64, indices: impl Iterator<Item = u64>) {
        let mut waiting = self.lock();
        for index in indices {
            if waiting.entries.get(&index).is_some_and(|(of, _)| *of <= round) {
                waiting.entries.remove(&index);
            }
        }
    }
}

impl LogStore {
    /// Opens the log of `node` in this file, or makes it.
    ///
    /// # Errors
    /// If the file is in use, corrupt, another node's, or can't be written.
    pub fn open(path: &Path, node: NodeId, told: OnFailure) -> Result<Self, StoreFailure> {
        let database = Database::create(path).map_err(|error| StoreFailure::writing(path, error.into()))?;
        if let Some(folder) = path.parent() {
            super::snapshot::sync_folder(folder)?;
        }
        Self::with_database(database, path, node, told)
    }

    /// The log of `node` in something else than a file; `path` is what errors call it. For tests that let it fail.
    ///
    /// # Errors
    /// As for [`LogStore::open`].
    pub fn open_backend(
        backend: impl StorageBackend,
        path: &Path,
        node: NodeId,
        told: OnFailure,
    ) -> Result<Self, StoreFailure> {
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(|error| StoreFailure::writing(path, error.into()))?;
        Self::with_database(database, path, node, told)
    }

    fn with_database(
        database: Database,
        path: &Path,
        node: NodeId,
        told: OnFailure,
    ) -> Result<Self, StoreFailure> {
        let database = Arc::new(database);
        own(&database, path, node)?;
        let health = Health::new(told);
        let unwritten = Arc::new(Unwritten::default());
        let committed = record::<Option<LogId<NodeId>>>(&database, path, COMMITTED)?.flatten();
        let (queue, writes) = mpsc::channel();
        let counting = Arc::new(Counting::default());
        let writer = Writer {
            database: Arc::clone(&database),
            path: path.to_owned(),
            health: health.clone(),
            unwritten: Arc::clone(&unwritten),
            counting: Arc::clone(&counting),
        };
        // Ends when the last copy of the store is dropped and what was queued is written.
        let writer = thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(&writes))
            .map_err(|error| StoreFailure::write(path, &error))?;
        let shared = Shared {
            database,
            path: path.to_owned(),
            node,
            counting,
            health,
            unwritten,
            committed: Mutex::new(committed),
            queue: Mutex::new(Some(queue)),
            writer: Some(writer),
            open: watch::Sender::new(()),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// To wait for the end of this store, its copies included.
    #[must_use]
    pub fn closed(&self) -> Closed {
        Closed(self.shared.open.subscribe())
    }

    /// Where votes and writes are counted.
    pub(in super::super) fn counting(&self) -> Arc<Counting> {
        Arc::clone(&self.shared.counting)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, StoreFailure>,
    ) -> Result<T, StorageError<NodeId>> {
        let result = self.shared.health.check().and_then(|()| read(self));
        result.map_err(|failure| {
            self.shared
                .health
                .fail(failure)
                .for_raft(ErrorSubject::Logs, ErrorVerb::Read)
        })
    }

    fn failure(&self, error: impl Into<redb::Error>) -> StoreFailure {
        StoreFailure::reading(&self.shared.path, error.into())
    }

    fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreFailure> {
        record(&self.shared.database, &self.shared.path, key)
    }

    fn entries(&self, range: (Bound<u64>, Bound<u64>)) -> Result<Vec<Entry<Types>>, StoreFailure> {
        // A range that redb and the standard library would not take.
        let empty = match range {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            _ => false,
        };
        if empty {
            return Ok(Vec::new());
        }
        // In this order: what leaves the first is in the second before.
        let waiting: Vec<_> = self
            .shared
            .unwritten
            .lock()
            .entries
            .range(range)
            .map(|(index, (_, entry))| (*index, entry.clone()))
            .collect();
        let mut entries = BTreeMap::new();
        let transaction = self
            .shared
            .database
            .begin_read()
            .map_err(|error| self.failure(error))?;
        let table = transaction
            .open_table(ENTRIES)
            .map_err(|error| self.failure(error))?;
        for stored in table.range(range).map_err(|error| self.failure(error))? {
            let (index, bytes) = stored.map_err(|error| self.failure(error))?;
            let index = index.value();
            let entry =
                codec::open(&index.to_le_bytes(), bytes.value()).map_err(|error| StoreFailure::Corrupt {
                    path: self.shared.path.clone(),
                    detail: format!("entry {index}: {error}"),
                })?;
            entries.insert(index, entry);
        }
        entries.extend(waiting);
        Ok(entries.into_values().collect())
    }

    fn log_state(&self) -> Result<LogState<Types>, StoreFailure> {
        let last_purged_log_id: Option<LogId<NodeId>> = self.record(PURGED)?;
        let waiting = self
            .shared
            .unwritten
            .lock()
            .entries
            .last_key_value()
            .map(|(_, (_, entry))| entry.log_id);
        let stored = match waiting {
            Some(_) => None,
            None => {
                let transaction = self
                    .shared
                    .database
                    .begin_read()
                    .map_err(|error| self.failure(error))?;
                let table = transaction
                    .open_table(ENTRIES)
                    .map_err(|error| self.failure(error))?;
                let last = table
                    .last()
                    .map_err(|error| self.failure(error))?
                    .map(|(index, _)| index.value());
                match last {
                    None => None,
                    Some(last) => {
                        let bound = (Bound::Included(last), Bound::Included(last));
                        self.entries(bound)?.first().map(|entry| entry.log_id)
                    }
                }
            }
        };
        Ok(LogState {
            last_purged_log_id,
            last_log_id: waiting.or(stored).or(last_purged_log_id),
        })
    }

    /// The first of these entries, no more than [`CALL_BYTES`] of them, one at least.
    fn beginning(&self, start: u64, end: u64) -> Result<Vec<Entry<Types>>, StoreFailure> {
        let (mut beginning, mut bytes) = (Vec::new(), 0);
        let mut next = start;
        while next < end {
            let step = next.saturating_add(READ_AT_ONCE).min(end);
            for entry in self.entries((Bound::Included(next), Bound::Excluded(step)))? {
                bytes += weight(&entry);
                if bytes > CALL_BYTES && !beginning.is_empty() {
                    return Ok(beginning);
                }
                beginning.push(entry);
            }
            next = step;
        }
        Ok(beginning)
    }

    /// What the records besides the entries say.
    pub(super) fn known(&self) -> Result<Known, StoreFailure> {
        Ok(Known {
            vote: self.record(VOTE)?,
            purged: self.record(PURGED)?,
            committed: self.record::<Option<LogId<NodeId>>>(COMMITTED)?.flatten(),
        })
    }

    /// All entries from an index on.
    pub(super) fn after(&self, first: u64) -> Result<Vec<Entry<Types>>, StoreFailure> {
        self.entries((Bound::Included(first), Bound::Unbounded))
    }

    /// Queues a write that tells when it is done.
    async fn write(
        &self,
        write: impl FnOnce(Done) -> Result<Write, StoreFailure>,
        subject: ErrorSubject<NodeId>,
    ) -> Result<(), StorageError<NodeId>> {
        let (done, written) = oneshot::channel();
        let queued = self
            .shared
            .health
            .check()
            .and_then(|()| write(done))
            .and_then(|write| self.queue(write));
        let result = match queued {
            Ok(()) => written.await.unwrap_or_else(|_| Err(self.gone())),
            Err(failure) => Err(failure),
        };
        result.map_err(|failure| {
            self.shared
                .health
                .fail(failure)
                .for_raft(subject, ErrorVerb::Write)
        })
    }

    fn queue(&self, write: Write) -> Result<(), StoreFailure> {
        let queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue
            .as_ref()
            .and_then(|queue| queue.send(write).ok())
            .ok_or_else(|| self.gone())
    }

    fn gone(&self) -> StoreFailure {
        let detail = "the thread that writes it has ended".to_owned();
        StoreFailure::Write {
            path: self.shared.path.clone(),
            detail,
        }
    }

    fn seal<T: Serialize>(&self, place: &[u8], value: &T) -> Result<Vec<u8>, StoreFailure> {
        codec::seal(place, value).map_err(|error| StoreFailure::Write {
            path: self.shared.path.clone(),
            detail: format!("a record that can't be written: {error}"),
        })
    }
}

/// About how long an entry is in a call.
fn weight(entry: &Entry<Types>) -> usize {
    /// Identities, numbers, names.
    const AROUND: usize = 256;
    match &entry.payload {
        EntryPayload::Normal(Request {
            command: Command::Document(change),
            ..
        }) => change.content.as_ref().map_or(0, Vec::len) + AROUND,
        EntryPayload::Normal(_) | EntryPayload::Blank | EntryPayload::Membership(_) => AROUND,
    }
}

/// Notes whose log this is, or checks it.
pub(super) fn own(database: &Database, path: &Path, node: NodeId) -> Result<(), StoreFailure> {
    let write = |error: redb::Error| StoreFailure::writing(path, error);
    let transaction = database.begin_write().map_err(|error| write(error.into()))?;
    transaction
        .open_table(ENTRIES)
        .map_err(|error| write(error.into()))?;
    {
        let mut meta = transaction
            .open_table(META)
            .map_err(|error| write(error.into()))?;
        if meta.get(OWNER).map_err(|error| write(error.into()))?.is_none() {
            let owner =
                codec::seal(OWNER.as_bytes(), &(FORMAT, node)).map_err(|error| StoreFailure::Write {
                    path: path.to_owned(),
                    detail: error.to_string(),
                })?;
            meta.insert(OWNER, owner.as_slice())
                .map_err(|error| write(error.into()))?;
        }
    }
    transaction.commit().map_err(|error| write(error.into()))?;
    match record::<(u32, NodeId)>(database, path, OWNER)? {
        Some((FORMAT, owner)) if owner == node => Ok(()),
        Some((FORMAT, owner)) => Err(StoreFailure::Foreign {
            path: path.to_owned(),
            detail: format!(
                "the log of node {owner}, expected that of node {node}: give each node a folder of its own"
            ),
        }),
        other => Err(StoreFailure::Foreign {
            path: path.to_owned(),
            detail: format!(
                "a log of format {:?}, expected {FORMAT}: start the version that wrote it",
                other.map(|(format, _)| format)
            ),
        }),
    }
}

fn record<T: DeserializeOwned>(
    database: &Database,
    path: &Path,
    key: &str,
) -> Result<Option<T>, StoreFailure> {
    let read = |error: redb::Error| StoreFailure::reading(path, error);
    let transaction = database.begin_read().map_err(|error| read(error.into()))?;
    let meta = transaction.open_table(META).map_err(|error| read(error.into()))?;
    let Some(bytes) = meta.get(key).map_err(|error| read(error.into()))? else {
        return Ok(None);
    };
    codec::open(key.as_bytes(), bytes.value())
        .map(Some)
        .map_err(|error| StoreFailure::Corrupt {
            path: path.to_owned(),
            detail: format!("`{key}`: {error}"),
        })
}
