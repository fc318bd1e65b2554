//! Disks that fail: what was acknowledged is there afterwards, and the failure ends the store for good, by name.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use constellation_cluster::raft::store::{LogStore, Machine};
use constellation_cluster::raft::{OnFailure, StoreFailure, Types};
use constellation_cluster::state::{ClientId, Command, DocumentChange, NodeId, Request};
use fastrand::Rng;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, RaftLogReader, RaftSnapshotBuilder, Vote};
use tempfile::TempDir;

use crate::disk::Disk;

const NODE: NodeId = NodeId(7);

/// Collects what the process would end with.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<StoreFailure>>>);

impl Told {
    fn hook(&self) -> OnFailure {
        let told = self.clone();
        Arc::new(move |failure| told.0.lock().expect("a list").push(failure.clone()))
    }

    fn all(&self) -> Vec<StoreFailure> {
        self.0.lock().expect("a list").clone()
    }
}

fn log_id(index: u64) -> LogId<NodeId> {
    LogId::new(CommittedLeaderId::new(1, NODE), index)
}

fn content(index: u64) -> Vec<u8> {
    format!("<content of entry {index}>").repeat(40).into_bytes()
}

fn entry(index: u64) -> Entry<Types> {
    let change = DocumentChange {
        name: format!("d{index}"),
        expected: None,
        content: Some(content(index)),
    };
    let client = ClientId {
        node: NODE,
        incarnation: 1,
    };
    let request = Request {
        client,
        sequence: index,
        command: Command::Document(change),
    };
    Entry {
        log_id: log_id(index),
        payload: EntryPayload::Normal(request),
    }
}

fn on_disk(disk: &Disk, told: &Told) -> LogStore {
    LogStore::open_backend(disk.clone(), Path::new("disk"), NODE, told.hook()).expect("a log")
}

/// The indices that are in the log, each checked to have what it was appended with.
async fn indices(log: &mut LogStore) -> Vec<u64> {
    let entries = log.try_get_log_entries(..).await.expect("entries");
    for found in &entries {
        assert_eq!(found.payload, entry(found.log_id.index).payload);
    }
    entries.iter().map(|found| found.log_id.index).collect()
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_durable_and_are_after_the_callback() {
    let (disk, told) = (Disk::default(), Told::default());
    let mut log = on_disk(&disk, &told);
    log.blocking_append((1..=100).map(entry)).await.expect("appended");
    assert_eq!(indices(&mut log).await, (1..=100).collect::<Vec<_>>());
    // Nothing of it is lost with the power.
    let mut log = on_disk(&disk.after_power_loss(&mut Rng::with_seed(1)), &told);
    assert_eq!(indices(&mut log).await, (1..=100).collect::<Vec<_>>());
    // Cut, written over, and purged.
    log.truncate(log_id(50)).await.expect("truncated");
    log.blocking_append((50..=60).map(entry)).await.expect("appended");
    log.purge(log_id(10)).await.expect("purged");
    assert_eq!(indices(&mut log).await, (11..=60).collect::<Vec<_>>());
    let state = log.get_log_state().await.expect("a state");
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(log_id(10)), Some(log_id(60)))
    );
    assert_eq!(told.all(), []);
}

#[tokio::test]
async fn a_full_disk_is_told_once_by_name_and_what_was_acknowledged_stays() {
    let (disk, told) = (Disk::default(), Told::default());
    let mut log = on_disk(&disk, &told);
    log.blocking_append((1..=10).map(entry)).await.expect("appended");
    disk.has_room_for(Some(disk.len()));
    let mut acknowledged = 10;
    while log.blocking_append([entry(acknowledged + 1)]).await.is_ok() {
        acknowledged += 1;
        assert!(acknowledged < 100_000, "it never ran full");
    }
    assert_eq!(told.all(), [StoreFailure::Full { path: "disk".into() }]);
    // Room again does not bring it back.
    disk.has_room_for(None);
    let error = log
        .save_vote(&Vote::new(2, NODE))
        .await
        .expect_err("a failed store");
    assert!(error.to_string().contains("no space is left"), "{error}");
    assert!(log.try_get_log_entries(..).await.is_err());
    assert_eq!(told.all().len(), 1);
    drop(log);
    let told = Told::default();
    let mut log = on_disk(&disk, &told);
    let found = indices(&mut log).await;
    assert!(
        found.len() as u64 >= acknowledged,
        "{} of {acknowledged} acknowledged",
        found.len()
    );
    log.blocking_append([entry(found.len() as u64 + 1)])
        .await
        .expect("appended");
    assert_eq!(told.all(), []);
}

#[tokio::test]
async fn a_failed_fsync_is_never_tried_again() {
    let (disk, told) = (Disk::default(), Told::default());
    let mut log = on_disk(&disk, &told);
    log.blocking_append([entry(1)]).await.expect("appended");
    disk.next_sync_fails();
    log.blocking_append([entry(2)]).await.expect_err("a failed fsync");
    let failures = told.all();
    assert!(
        matches!(&failures[..], [StoreFailure::Write { .. }]),
        "{failures:?}"
    );
    let used = disk.used();
    log.save_vote(&Vote::new(2, NODE))
        .await
        .expect_err("a failed store");
    log.blocking_append([entry(3)]).await.expect_err("a failed store");
    log.purge(log_id(1)).await.expect_err("a failed store");
    assert_eq!(disk.used(), used, "the disk was used after its fsync had failed");
    assert_eq!(told.all().len(), 1);
}

#[tokio::test]
async fn torn_writes_leave_what_was_acknowledged() {
    let mut torn = 0;
    for seed in 0..300 {
        let mut rng = Rng::with_seed(seed);
        let (disk, told) = (Disk::default(), Told::default());
        let mut log = on_disk(&disk, &told);
        let voted = Vote::new(rng.u64(1..100), NODE);
        log.save_vote(&voted).await.expect("voted");
        disk.loses_power_after(rng.usize(1..120));
        let mut acknowledged = 0;
        while acknowledged < 60 && log.blocking_append([entry(acknowledged + 1)]).await.is_ok() {
            acknowledged += 1;
        }
        drop(log);
        torn += usize::from(acknowledged < 60);
        let found = disk.after_power_loss(&mut rng);
        let told = Told::default();
        let mut log = on_disk(&found, &told);
        let indices = indices(&mut log).await;
        let expected: Vec<_> = (1..=indices.len() as u64).collect();
        assert_eq!(indices, expected, "seed {seed}");
        assert!(
            indices.len() as u64 >= acknowledged,
            "seed {seed}: {} of {acknowledged}",
            indices.len()
        );
        assert_eq!(log.read_vote().await.expect("a vote"), Some(voted), "seed {seed}");
        assert_eq!(told.all(), [], "seed {seed}");
    }
    assert!(torn > 200, "only {torn} runs lost power");
}

#[tokio::test]
async fn a_changed_byte_in_an_entry_is_found_by_name() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("log.redb");
    let told = Told::default();
    let mut log = LogStore::open(&path, NODE, told.hook()).expect("a log");
    log.blocking_append((1..=20).map(entry)).await.expect("appended");
    drop(log);
    let mut bytes = fs::read(&path).expect("the file");
    // Copies of a page that are free by now may have it, too.
    let needle = content(13);
    let at: Vec<_> = (0..bytes.len() - needle.len())
        .filter(|at| bytes[*at..].starts_with(&needle))
        .collect();
    assert!(!at.is_empty());
    for at in at {
        bytes[at + 5] ^= 0x20;
    }
    fs::write(&path, bytes).expect("the file");
    let failure = match LogStore::open(&path, NODE, told.hook()) {
        Err(failure) => failure,
        Ok(mut log) => {
            log.try_get_log_entries(1..21).await.expect_err("a corrupt entry");
            told.all().remove(0)
        }
    };
    assert!(
        matches!(&failure, StoreFailure::Corrupt { path: named, .. } if *named == path),
        "{failure}"
    );
}

#[tokio::test]
async fn files_that_are_no_log_of_this_node_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("log.redb");
    let told = Told::default();
    let log = LogStore::open(&path, NODE, told.hook()).expect("a log");
    let twice = LogStore::open(&path, NODE, told.hook()).expect_err("in use");
    assert_eq!(twice, StoreFailure::InUse { path: path.clone() });
    drop(log);
    let other = LogStore::open(&path, NodeId(8), told.hook()).expect_err("another's");
    assert!(
        other
            .to_string()
            .contains("the log of node 7, expected that of node 8"),
        "{other}"
    );
    fs::write(&path, "no database ".repeat(1000)).expect("a file");
    let garbage = LogStore::open(&path, NODE, told.hook()).expect_err("garbage");
    assert!(garbage.to_string().contains("log.redb"), "{garbage}");
}

async fn machine_with_snapshot(folder: &Path, told: &Told) -> Machine {
    let mut machine = Machine::open(folder, Box::new(|_, _, _| {}), told.hook()).expect("a machine");
    machine.apply((1..=3).map(entry)).await.expect("applied");
    machine
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .expect("a snapshot");
    machine
}

#[tokio::test]
async fn a_snapshot_survives_a_restart_and_what_was_left_aside_is_not_looked_at() {
    let (folder, told) = (TempDir::new().expect("a folder"), Told::default());
    let before = machine_with_snapshot(folder.path(), &told).await;
    fs::write(folder.path().join("state.snapshot.new"), "half of").expect("a file");
    let mut after = Machine::open(folder.path(), Box::new(|_, _, _| {}), told.hook()).expect("a machine");
    assert_eq!(after.applied_state().await.expect("a state").0, Some(log_id(3)));
    let state = before.state().read(Clone::clone);
    assert_eq!(after.state().read(Clone::clone), state);
    assert_eq!(
        state.documents().get("d2").expect("a document").content,
        content(2)
    );
}

#[tokio::test]
async fn a_snapshot_that_is_not_as_it_was_written_is_refused() {
    let (folder, told) = (TempDir::new().expect("a folder"), Told::default());
    machine_with_snapshot(folder.path(), &told).await;
    let path = folder.path().join("state.snapshot");
    let good = fs::read(&path).expect("the file");
    let mut bad: Vec<Vec<u8>> = (0..good.len())
        .step_by(97)
        .map(|at| good[..at].to_vec())
        .collect();
    bad.extend((0..good.len()).step_by(61).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        bytes
    }));
    for bytes in bad {
        fs::write(&path, &bytes).expect("the file");
        let failure = Machine::open(folder.path(), Box::new(|_, _, _| {}), told.hook()).expect_err("corrupt");
        assert!(
            matches!(&failure, StoreFailure::Corrupt { path: named, .. } if *named == path),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn a_snapshot_that_cant_be_written_ends_the_process_and_leaves_the_one_before() {
    let (folder, told) = (TempDir::new().expect("a folder"), Told::default());
    let mut machine = machine_with_snapshot(folder.path(), &told).await;
    let before = fs::read(folder.path().join("state.snapshot")).expect("the file");
    fs::create_dir(folder.path().join("state.snapshot.new")).expect("a folder in the way");
    machine.apply([entry(4)]).await.expect("applied");
    machine
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .expect_err("no file");
    let failures = told.all();
    assert!(
        matches!(&failures[..], [StoreFailure::Write { .. }]),
        "{failures:?}"
    );
    assert_eq!(
        fs::read(folder.path().join("state.snapshot")).expect("the file"),
        before
    );
}
