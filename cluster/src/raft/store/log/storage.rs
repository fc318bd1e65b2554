//! What openraft asks of the log. `append` waits for nothing, as it runs in openraft's core; what it promises is promised by
//! the callback.

use std::fmt::Debug;
use std::ops::RangeBounds;
use std::sync::PoisonError;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{Entry, ErrorSubject, ErrorVerb, LogId, OptionalSend, RaftLogReader, StorageError, Vote};

use super::super::super::Types;
use super::super::writer::{COMMITTED, PURGED, VOTE, Write};
use super::LogStore;
use crate::state::NodeId;

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        self.read(|store| store.entries((range.start_bound().cloned(), range.end_bound().cloned())))
    }

    /// As many of these as go into one call to a follower, one at least.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        self.read(|store| store.beginning(start, end))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<NodeId>> {
        self.read(Self::log_state)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Result<(), StorageError<NodeId>> {
        let sealed = self.seal(VOTE.as_bytes(), vote);
        self.write(
            |done| {
                Ok(Write::Record {
                    key: VOTE,
                    value: sealed?,
                    done,
                })
            },
            ErrorSubject::Vote,
        )
        .await?;
        self.shared.counting.voted(self.shared.node, vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, StorageError<NodeId>> {
        self.read(|store| store.record(VOTE))
    }

    async fn save_committed(&mut self, committed: Option<LogId<NodeId>>) -> Result<(), StorageError<NodeId>> {
        let sealed = self
            .shared
            .health
            .check()
            .and_then(|()| self.seal(COMMITTED.as_bytes(), &committed));
        let queued = sealed.and_then(|value| self.queue(Write::Committed { value }));
        queued.map_err(|failure| {
            self.shared
                .health
                .fail(failure)
                .for_raft(ErrorSubject::Logs, ErrorVerb::Write)
        })?;
        *self
            .shared
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<NodeId>>, StorageError<NodeId>> {
        self.read(|store| {
            Ok(*store
                .shared
                .committed
                .lock()
                .unwrap_or_else(PoisonError::into_inner))
        })
    }

    async fn append<I>(&mut self, entries: I, flushed: LogFlushed<Types>) -> Result<(), StorageError<NodeId>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let failed = |failure| {
            self.shared
                .health
                .fail(failure)
                .for_raft(ErrorSubject::Logs, ErrorVerb::Write)
        };
        self.shared.health.check().map_err(failed)?;
        let mut sealed = Vec::new();
        let round = {
            let mut waiting = self.shared.unwritten.lock();
            waiting.round += 1;
            let round = waiting.round;
            for entry in entries {
                let index = entry.log_id.index;
                sealed.push((index, self.seal(&index.to_le_bytes(), &entry).map_err(failed)?));
                waiting.entries.insert(index, (round, entry));
            }
            round
        };
        self.queue(Write::Append {
            round,
            entries: sealed,
            flushed,
        })
        .map_err(failed)
    }

    async fn truncate(&mut self, log_id: LogId<NodeId>) -> Result<(), StorageError<NodeId>> {
        self.shared.unwritten.lock().entries.split_off(&log_id.index);
        self.write(
            |done| {
                Ok(Write::Truncate {
                    from: log_id.index,
                    done,
                })
            },
            ErrorSubject::Log(log_id),
        )
        .await
    }

    async fn purge(&mut self, log_id: LogId<NodeId>) -> Result<(), StorageError<NodeId>> {
        {
            let mut waiting = self.shared.unwritten.lock();
            let kept = waiting.entries.split_off(&log_id.index.saturating_add(1));
            waiting.entries = kept;
        }
        let purged = self.seal(PURGED.as_bytes(), &log_id);
        let write = |done| {
            Ok(Write::Purge {
                upto: log_id.index,
                purged: purged?,
                done,
            })
        };
        self.write(write, ErrorSubject::Log(log_id)).await
    }
}
