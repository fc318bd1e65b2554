//! The thread that writes the log. All that is queued goes into one transaction and one `fsync`; then those who wait are
//! told, in order. After the first failure nothing is written any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use openraft::storage::LogFlushed;
use redb::{Database, TableDefinition};
use tokio::sync::oneshot;

use super::super::Types;
use super::super::failure::{Health, StoreFailure};
use super::super::figures::Counting;
use super::log::Unwritten;

pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

pub(super) const VOTE: &str = "vote";
pub(super) const PURGED: &str = "purged";
pub(super) const COMMITTED: &str = "committed";

/// The most bytes of entries that go into one transaction, so that the first does not wait for all of a long queue.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

pub(super) type Done = oneshot::Sender<Result<(), StoreFailure>>;

pub(super) enum Write {
    /// Entries by index, and which round of `append` they came with.
    Append {
        round: u64,
        entries: Vec<(u64, Vec<u8>)>,
        flushed: LogFlushed<Types>,
    },
    /// Removes all from this index on.
    Truncate { from: u64, done: Done },
    /// Removes all up to this index, and notes what it was.
    Purge { upto: u64, purged: Vec<u8>, done: Done },
    /// How far the log is committed, for the next transaction: it may be lost, since it is found out again, and is not
    /// worth one of its own. Never written before the entries that were queued before it.
    Committed { value: Vec<u8> },
    /// A record that has to be on disk before it counts.
    Record {
        key: &'static str,
        value: Vec<u8>,
        done: Done,
    },
}

pub(super) struct Writer {
    pub(super) database: Arc<Database>,
    pub(super) path: PathBuf,
    pub(super) health: Health,
    pub(super) unwritten: Arc<Unwritten>,
    pub(super) counting: Arc<Counting>,
}

impl Writer {
    /// Until the last sender is gone. What is committed is noted once more then.
    pub(super) fn run(&self, queue: &Receiver<Write>) {
        let mut committed = None;
        while let Ok(first) = queue.recv() {
            let mut bytes = 0;
            let mut batch = Vec::new();
            let mut next = Some(first);
            while let Some(write) = next {
                bytes += write.bytes();
                match write {
                    Write::Committed { value } => committed = Some(value),
                    other => batch.push(other),
                }
                next = if bytes < BATCH_BYTES {
                    queue.try_recv().ok()
                } else {
                    None
                };
            }
            if batch.is_empty() {
                continue;
            }
            let result = self.durable(&batch, committed.take());
            for write in batch {
                self.tell(write, &result);
            }
        }
        if committed.is_some()
            && let Err(failure) = self.durable(&[], committed)
        {
            tracing::debug!(%failure, "how far the log is committed was not noted at the end");
        }
    }

    /// Writes all of it, unless a write before has failed.
    fn durable(&self, batch: &[Write], committed: Option<Vec<u8>>) -> Result<(), StoreFailure> {
        self.health.check()?;
        self.write(batch, committed)
            .map_err(|error| self.health.fail(StoreFailure::writing(&self.path, error)))
    }

    fn write(&self, batch: &[Write], committed: Option<Vec<u8>>) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        {
            let mut table = transaction.open_table(ENTRIES)?;
            let mut meta = transaction.open_table(META)?;
            if let Some(committed) = committed {
                meta.insert(COMMITTED, committed.as_slice())?;
            }
            for write in batch {
                match write {
                    Write::Append { entries, .. } => {
                        for (index, entry) in entries {
                            table.insert(index, entry.as_slice())?;
                        }
                    }
                    Write::Truncate { from, .. } => table.retain_in(*from.., |_, _| false)?,
                    Write::Purge { upto, purged, .. } => {
                        table.retain_in(..=*upto, |_, _| false)?;
                        meta.insert(PURGED, purged.as_slice())?;
                    }
                    Write::Record { key, value, .. } => {
                        meta.insert(*key, value.as_slice())?;
                    }
                    Write::Committed { value } => {
                        meta.insert(COMMITTED, value.as_slice())?;
                    }
                }
            }
        }
        let begun = Instant::now();
        transaction.commit()?;
        self.counting.wrote(begun.elapsed());
        Ok(())
    }

    fn tell(&self, write: Write, result: &Result<(), StoreFailure>) {
        match write {
            Write::Append {
                round,
                entries,
                flushed,
            } => {
                if result.is_ok() {
                    self.unwritten
                        .written(round, entries.iter().map(|(index, _)| *index));
                }
                flushed.log_io_completed(result.clone().map_err(std::io::Error::other));
            }
            Write::Truncate { done, .. } | Write::Purge { done, .. } | Write::Record { done, .. } => {
                if done.send(result.clone()).is_err() {
                    tracing::debug!("nobody waits for this write of the log any more");
                }
            }
            Write::Committed { .. } => {}
        }
    }
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Append { entries, .. } => entries.iter().map(|(_, entry)| entry.len()).sum(),
            _ => 0,
        }
    }
}
