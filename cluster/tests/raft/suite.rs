//! openraft's own tests of a store.

use std::path::Path;
use std::sync::Arc;

use constellation_cluster::raft::Types;
use constellation_cluster::raft::store::{LogStore, Machine};
use constellation_cluster::state::NodeId;
use openraft::StorageError;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<Types, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<NodeId>> {
        let folder = TempDir::new().expect("a folder");
        let (log, machine) = open(folder.path());
        Ok((folder, log, machine))
    }
}

fn open(folder: &Path) -> (LogStore, Machine) {
    let failed: constellation_cluster::raft::OnFailure = Arc::new(|failure| panic!("{failure}"));
    let log = LogStore::open(&folder.join("log.redb"), NodeId(0), Arc::clone(&failed)).expect("a log");
    let machine = Machine::open(folder, Box::new(|_, _, _| {}), failed).expect("a machine");
    (log, machine)
}

#[test]
fn the_store_passes_openrafts_suite() {
    Suite::test_all(Builder).expect("the suite");
}
