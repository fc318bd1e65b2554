//! What other nodes told, remembered on disk: a node that starts serves through them at once, before it has heard of anybody,
//! and also when it hears of nobody.
//!
//! It is a memory and no more: what can't be read or written costs only that.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use constellation_cluster::state::NodeId;
use constellation_identity::NodeName;
use constellation_identity::files::{self, Secrecy};
use serde::{Deserialize, Serialize};

use crate::ask::{decode, encode};
use crate::pull::{Export, PeerNode};
use crate::telling::Services;

/// Below the folder of the membership.
const FILE: &str = "peers";
/// The most that is read back, in bytes.
const LIMIT: u64 = 256 * 1024 * 1024;
/// Two writers would take each other's unfinished file away.
static WRITING: Mutex<()> = Mutex::new(());
/// The format.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Remembered {
    version: u32,
    peers: Vec<One>,
}

#[derive(Serialize, Deserialize)]
struct One {
    name: NodeName,
    id: NodeId,
    addresses: Vec<String>,
    priority: u32,
    region: Option<String>,
    version: u64,
    bytes: Vec<u8>,
}

/// Writes down what is known.
pub(crate) fn store(folder: &Path, peers: &[PeerNode]) {
    let one = |peer: &PeerNode| {
        let export = peer.export.as_ref()?;
        Some(One {
            name: peer.name.clone(),
            id: peer.id,
            addresses: peer.addresses.clone(),
            priority: peer.priority,
            region: peer.region.clone(),
            version: export.version,
            bytes: export.bytes.to_vec(),
        })
    };
    let remembered = Remembered {
        version: VERSION,
        peers: peers.iter().filter_map(one).collect(),
    };
    let Some(bytes) = encode(&remembered) else { return };
    let _one = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = files::write(&folder.join(FILE), &bytes, Secrecy::Secret) {
        tracing::warn!(%error, "what other nodes told is not remembered over a restart");
    }
}

/// What was written down last, of nodes that are taken for alive until it is known better; nobody where there is nothing.
pub(crate) fn load(folder: &Path) -> Vec<PeerNode> {
    let path = folder.join(FILE);
    let mut bytes = Vec::new();
    let read = fs::File::open(&path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what other nodes told can't be read; they are asked again");
            return Vec::new();
        }
    }
    let remembered = decode::<Remembered>(&bytes).filter(|remembered| remembered.version == VERSION);
    let Some(remembered) = remembered else {
        tracing::warn!(path = %path.display(), "what other nodes told is damaged or of another release; they are asked again");
        return Vec::new();
    };
    let peer = |one: One| PeerNode {
        name: one.name,
        id: one.id,
        generation: 0,
        addresses: one.addresses,
        priority: one.priority,
        region: one.region,
        online: true,
        serving: true,
        export: Some(Export {
            version: one.version,
            bytes: one.bytes.into(),
        }),
        services: Services::default(),
    };
    remembered.peers.into_iter().map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_again_and_damage_costs_no_more_than_that() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()), []);
        let peer = |name: &str, export: Option<&[u8]>| PeerNode {
            name: name.parse().unwrap(),
            id: NodeId(7),
            generation: 0,
            addresses: vec!["10.0.0.7:8300".to_owned()],
            priority: 9,
            region: Some("eu".to_owned()),
            online: true,
            serving: true,
            export: export.map(|bytes| Export {
                version: 3,
                bytes: bytes.into(),
            }),
            services: Services::default(),
        };
        let known = [peer("a", Some(b"routes")), peer("b", None)];
        store(folder.path(), &known);
        assert_eq!(load(folder.path()), known[..1]);
        fs::write(folder.path().join(FILE), b"\xff\xff\xff\xff\xff\xff").unwrap();
        assert_eq!(load(folder.path()), []);
    }
}
