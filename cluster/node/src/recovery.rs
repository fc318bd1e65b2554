//! `constellation recover`: one node goes on alone when the majority of the voters is lost for good.
//!
//! The log is made over on disk while the node does not run ([`recover`]). When it runs it takes all others out of the roster
//! ([`finish`]): what they have may contradict what goes on here, and their certificates are refused from then on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use constellation_cluster::raft::{Consensus as _, Member, StoreFailure, store};
use constellation_cluster::state::{Command, RosterCommand};
use constellation_identity::NodeName;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::home::{Home, HomeError, Identity};
use crate::upkeep;

const PATIENCE: Duration = Duration::from_secs(10);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Who goes on.
    pub identity: Identity,
    /// Where the files are that were there before.
    pub kept: std::path::PathBuf,
    /// How many entries there were that this node did not know to be agreed upon, and that count from now on.
    pub uncertain: u64,
    /// Who is taken out when the node runs.
    pub others: Vec<String>,
}

/// Why it did not.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// Its files.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// In no cluster.
    #[error("this node is in no cluster: there is nothing to recover")]
    Alone,
    /// The log.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Makes this node the only voter of its cluster. It must not run, and whoever else had a vote must never run again with what
/// it has on disk.
///
/// # Errors
/// When it is in no cluster, runs, or its log can't be read or written; then nothing has changed.
pub fn recover(home: &Home, raft_port: u16, gossip_port: u16) -> Result<Recovered, RecoveryError> {
    let identity = home.identity()?.ok_or(RecoveryError::Alone)?;
    home.check_raft()?;
    let member = Member {
        name: identity.node.to_string(),
        address: SocketAddr::new(identity.advertise, raft_port).to_string(),
        gossip: SocketAddr::new(identity.advertise, gossip_port).to_string(),
        role: identity.role(),
    };
    // Before the log: a crash in between leaves a mark that does nothing, as long as there is a majority of others.
    home.mark_recovered()?;
    let recovered = store::recover(home.raft(), identity.id, member).inspect_err(|_| {
        // The first error is the one to report.
        drop(home.unmark_recovered());
    })?;
    let others = recovered.members.iter().filter(|(id, _)| **id != identity.id);
    Ok(Recovered {
        others: others.map(|(_, member)| member.name.clone()).collect(),
        kept: recovered.kept,
        uncertain: recovered.uncertain,
        identity,
    })
}

/// Takes all others out, once this node leads alone, and gives gossip another key. Until it is stopped.
pub(crate) async fn finish(core: Arc<Core>, home: Home, stop: CancellationToken) {
    if !home.is_recovered() {
        return;
    }
    let work = async {
        let mut view = core.raft.watch();
        let own = core.identity.id;
        let alone = view.wait_for(|view| {
            let mut voters = view.members.iter().filter(|(_, (_, voter))| *voter);
            view.leading && voters.all(|(id, _)| *id == own)
        });
        if alone.await.is_err() {
            return;
        }
        let others: Vec<NodeName> = core.read(|state| {
            let nodes = state.roster().nodes().filter(|(_, entry)| entry.id != own);
            nodes.map(|(name, _)| name.clone()).collect()
        });
        for node in others {
            tracing::warn!(%node, "taken out: this node went on alone");
            // Whatever life it had is over.
            let command = RosterCommand::Remove {
                node,
                generation: core.client.incarnation,
            };
            if let Err(error) = core.apply(Command::Roster(command), PATIENCE).await {
                tracing::error!(%error, "the others are taken out at the next start");
                return;
            }
        }
        if let Err(error) = upkeep::rotate_gossip(&core).await {
            tracing::error!(error, "gossip keeps its key: `constellation rotate gossip-key`");
        }
        if let Err(error) = home.unmark_recovered() {
            tracing::error!(%error, "this is done again at the next start");
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
