//! How much of the log goes into one call.

use std::sync::Arc;

use constellation_cluster::raft::Types;
use constellation_cluster::raft::store::LogStore;
use constellation_cluster::state::{Command, MAX_DOCUMENT_BYTES, NodeId};
use openraft::storage::RaftLogStorageExt;
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader};
use tempfile::TempDir;

use crate::testnet::write;

fn entry(index: u64, bytes: usize) -> Entry<Types> {
    let mut request = write(9, index, "a", 0);
    if let Command::Document(change) = &mut request.command {
        change.content = Some(vec![7; bytes]);
    }
    Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, NodeId(1)), index),
        payload: EntryPayload::Normal(request),
    }
}

#[tokio::test]
async fn a_call_has_few_large_entries_or_many_small_ones_and_always_one() {
    let folder = TempDir::new().expect("a folder");
    let failed = Arc::new(|failure: &_| panic!("{failure}"));
    let mut log = LogStore::open(&folder.path().join("log.redb"), NodeId(1), failed).expect("a log");
    let sizes = [
        vec![10; 100],
        vec![100_000; 5],
        vec![MAX_DOCUMENT_BYTES; 2],
        vec![10; 3],
    ]
    .concat();
    let entries = (1..).zip(&sizes).map(|(index, size)| entry(index, *size));
    log.blocking_append(entries).await.expect("appended");
    let mut calls = Vec::new();
    let (mut next, end) = (1, sizes.len() as u64 + 1);
    while next < end {
        let call = log.limited_get_log_entries(next, end).await.expect("entries");
        let indices: Vec<_> = call.iter().map(|entry| entry.log_id.index).collect();
        let expected: Vec<_> = (next..).take(indices.len()).collect();
        assert_eq!(indices, expected);
        calls.push(call.len());
        next += call.len() as u64;
    }
    assert_eq!(calls, [102, 2, 1, 1, 1, 3]);
    let none = log.limited_get_log_entries(5, 5).await.expect("entries");
    assert!(none.is_empty());
}
