//! What a node keeps of its cluster on disk, below its data folder.
//!
//! ```text
//! cluster/identity.json    which cluster, which node; written last, so that a node is a member or is not
//! cluster/node.pem         its key and certificate
//! cluster/authorities.crt  whom it believes
//! cluster/life             the number of its last life
//! cluster/heir             the number of the next one, where the process before this one has left it something
//! cluster/peers            what other nodes told last, for the next start
//! cluster/recovered        that this node went on alone, and the others are still to be taken out
//! raft/                    the replicated log
//! ```
//!
//! Nothing here is made because a file is missing: without `identity.json` a node is in no cluster and stays out of all,
//! and with it a log that is gone is an error, not a reason to begin another.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use constellation_cluster::raft::Role;
use constellation_cluster::state::NodeId;
use constellation_gossip::{GenerationError, next_generation};
use constellation_identity::files::{self, FileError, Secrecy};
use constellation_identity::tls::{Credentials, CredentialsError};
use constellation_identity::{ClusterId, NodeName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const IDENTITY: &str = "identity.json";
const LIFE: &str = "life";
const HEIR: &str = "heir";
const RECOVERED: &str = "recovered";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub node: NodeName,
    /// Its number in the log.
    pub id: NodeId,
    /// The address by which others reach it, as found when it joined.
    pub advertise: IpAddr,
    /// Whether it only votes.
    pub witness: bool,
}

impl Identity {
    /// What it is for.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.witness { Role::Witness } else { Role::Node }
    }
}

/// Why there is no identity to be had, or none to be made.
#[derive(Debug, Error)]
pub enum HomeError {
    /// Not read, not written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not what this release writes.
    #[error(
        "{path}: {reason}; restore it from a backup, or move its folder away and join again with a new token"
    )]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is a member already.
    #[error(
        "this node is {node} of cluster {cluster} already (in {folder}): `constellation leave` takes it out, or give another \
         node.dataDir"
    )]
    Member {
        /// Its name.
        node: NodeName,
        /// Its cluster.
        cluster: ClusterId,
        /// Where that is written.
        folder: PathBuf,
    },
    /// Of another time.
    #[error(
        "{path} is there, and this node is in no cluster: it is left from an earlier one; move it away first"
    )]
    Leftover {
        /// Which.
        path: PathBuf,
    },
    /// It was there.
    #[error(
        "this node is a member of a cluster and its replicated log {path} is gone: it must not begin another one. Restore it from \
         a backup, or have another node run `constellation remove`, move {folder} away, and join again"
    )]
    LogGone {
        /// Where it should be.
        path: PathBuf,
        /// Where the identity is.
        folder: PathBuf,
    },
    /// Not moved, not made.
    #[error("{action} {path}: {source}")]
    Folder {
        /// What was tried.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Key, certificate, authorities.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No next life.
    #[error(transparent)]
    Life(#[from] GenerationError),
}

/// The places below a data folder.
#[derive(Clone, Debug)]
pub struct Home {
    cluster: PathBuf,
    raft: PathBuf,
}

impl Home {
    /// Below that folder.
    #[must_use]
    pub fn below(data: &Path) -> Self {
        Self {
            cluster: data.join("cluster"),
            raft: data.join("raft"),
        }
    }

    /// Where the identity is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.cluster
    }

    /// Where the replicated log is.
    #[must_use]
    pub fn raft(&self) -> &Path {
        &self.raft
    }

    /// Who this node is; `None`: it is in no cluster.
    ///
    /// # Errors
    /// When that can't be told.
    pub fn identity(&self) -> Result<Option<Identity>, HomeError> {
        let path = self.cluster.join(IDENTITY);
        if !path.try_exists().unwrap_or(true) {
            return Ok(None);
        }
        let text = files::read(&path, Secrecy::Public)?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| HomeError::Content {
                path,
                reason: error.to_string(),
            })
    }

    /// Refuses what is a member, or has the log of an earlier membership.
    pub(crate) fn vacant(&self) -> Result<(), HomeError> {
        if let Some(identity) = self.identity()? {
            return Err(HomeError::Member {
                node: identity.node,
                cluster: identity.cluster,
                folder: self.cluster.clone(),
            });
        }
        let occupied = fs::read_dir(&self.raft).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            return Err(HomeError::Leftover {
                path: self.raft.clone(),
            });
        }
        Ok(())
    }

    /// Writes who this node is from now on: the identity last.
    pub(crate) fn settle(&self, identity: &Identity, credentials: &Credentials) -> Result<(), HomeError> {
        credentials.store(&self.cluster)?;
        let path = self.cluster.join(IDENTITY);
        let text = serde_json::to_string_pretty(identity).map_err(|error| HomeError::Content {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        files::write(&path, format!("{text}\n").as_bytes(), Secrecy::Public)?;
        Ok(())
    }

    /// Makes the folder of the log, which a node that joined fills later.
    pub(crate) fn make_raft(&self) -> Result<(), HomeError> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.raft)
            .map_err(|source| HomeError::Folder {
                action: "can't make",
                path: self.raft.clone(),
                source,
            })
    }

    /// The log of a member has to be there.
    pub(crate) fn check_raft(&self) -> Result<(), HomeError> {
        if self.raft.is_dir() {
            return Ok(());
        }
        Err(HomeError::LogGone {
            path: self.raft.clone(),
            folder: self.cluster.clone(),
        })
    }

    /// What the node shows to others.
    pub(crate) fn credentials(&self, cluster: ClusterId) -> Result<Credentials, HomeError> {
        Ok(Credentials::load(cluster, &self.cluster)?)
    }

    /// The number of the life that begins now, greater than all before; durable once it is returned. It is the heir's where
    /// the process before this one named one.
    pub(crate) fn begin_life(&self) -> Result<u64, HomeError> {
        let heir = self.cluster.join(HEIR);
        let named = match files::read(&heir, Secrecy::Public) {
            Ok(text) => text.trim().parse::<u64>().ok(),
            Err(_) => return self.next_life(),
        };
        // Before anybody acts under it: no second process may take it for its own.
        fs::remove_file(&heir)
            .and_then(|()| fs::File::open(&self.cluster)?.sync_all())
            .map_err(|source| HomeError::Folder {
                action: "can't remove",
                path: heir,
                source,
            })?;
        let last = fs::read_to_string(self.cluster.join(LIFE)).ok();
        let last = last.and_then(|text| text.trim().parse::<u64>().ok());
        match named {
            Some(life) if last == named => Ok(life),
            _ => self.next_life(),
        }
    }

    /// Names the life of the process that comes after this one.
    pub(crate) fn name_heir(&self) -> Result<u64, HomeError> {
        let life = self.next_life()?;
        files::write(
            &self.cluster.join(HEIR),
            format!("{life}\n").as_bytes(),
            Secrecy::Public,
        )?;
        Ok(life)
    }

    /// That all others are to be taken out, since this node went on alone.
    pub(crate) fn mark_recovered(&self) -> Result<(), HomeError> {
        Ok(files::write(&self.cluster.join(RECOVERED), b"", Secrecy::Public)?)
    }

    pub(crate) fn is_recovered(&self) -> bool {
        self.cluster.join(RECOVERED).exists()
    }

    pub(crate) fn unmark_recovered(&self) -> Result<(), HomeError> {
        let path = self.cluster.join(RECOVERED);
        fs::remove_file(&path).map_err(|source| HomeError::Folder {
            action: "can't remove",
            path,
            source,
        })
    }

    fn next_life(&self) -> Result<u64, HomeError> {
        Ok(next_generation(&self.cluster.join(LIFE), SystemTime::now())?)
    }

    /// What other nodes told before this process, for who serves before it has heard of anybody.
    #[must_use]
    pub fn remembered(&self) -> Vec<crate::PeerNode> {
        crate::memory::load(&self.cluster)
    }

    /// Writes that down.
    pub(crate) fn remember(&self, peers: &[crate::PeerNode]) {
        crate::memory::store(&self.cluster, peers);
    }

    /// What this node shows to others, for who talks to them before it runs.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn shown(&self, identity: &Identity) -> Result<Credentials, HomeError> {
        self.credentials(identity.cluster)
    }

    /// Puts everything aside: the node is in no cluster any more. Says where to.
    ///
    /// # Errors
    /// When a folder can't be moved.
    pub fn abandon(&self) -> Result<Vec<PathBuf>, HomeError> {
        let mut moved = Vec::new();
        // The identity first: without it the rest is nobody's.
        for folder in [&self.cluster, &self.raft] {
            if !folder.exists() {
                continue;
            }
            let aside = aside(folder);
            fs::rename(folder, &aside).map_err(|source| HomeError::Folder {
                action: "can't move away",
                path: folder.clone(),
                source,
            })?;
            moved.push(aside);
        }
        Ok(moved)
    }
}

/// A name beside that is free.
fn aside(folder: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = folder.as_os_str().to_owned();
        name.push(format!(".left-{number}"));
        PathBuf::from(name)
    };
    let mut number = 1;
    while name(number).exists() && number < u32::MAX {
        number += 1;
    }
    name(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_heir_has_the_life_that_was_named_and_nobody_else_does() {
        let data = tempfile::tempdir().unwrap();
        let home = Home::below(data.path());
        fs::create_dir(home.folder()).unwrap();
        let first = home.begin_life().unwrap();
        let heir = home.name_heir().unwrap();
        assert!(heir > first);
        assert_eq!(home.begin_life().unwrap(), heir);
        assert!(home.begin_life().unwrap() > heir, "once");
        // One that was named, and somebody else came before.
        let late = home.name_heir().unwrap();
        let other = home.next_life().unwrap();
        assert!(other > late);
        assert!(home.begin_life().unwrap() > other);
    }

    #[test]
    fn a_node_is_a_member_or_is_not() {
        let data = tempfile::tempdir().unwrap();
        let home = Home::below(data.path());
        assert_eq!(home.identity().unwrap(), None);
        home.vacant().unwrap();
        assert!(matches!(home.check_raft(), Err(HomeError::LogGone { .. })));
        home.make_raft().unwrap();
        home.vacant().unwrap();
        fs::write(home.raft().join("log.redb"), "x").unwrap();
        assert!(matches!(home.vacant(), Err(HomeError::Leftover { .. })));
        fs::create_dir(home.folder()).unwrap();
        fs::write(home.folder().join(IDENTITY), "{}").unwrap();
        assert!(
            matches!(home.vacant(), Err(HomeError::Content { .. })),
            "never taken for none"
        );
        let first = home.abandon().unwrap();
        assert_eq!(first.len(), 2);
        home.make_raft().unwrap();
        assert_ne!(home.abandon().unwrap(), first);
        home.vacant().unwrap();
    }
}
