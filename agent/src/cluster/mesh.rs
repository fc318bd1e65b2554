//! Between the node of the cluster and this node's routes and data plane: certificates and addresses of the others go to
//! the mesh, what they tell goes to the publisher, and what this node serves goes to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use constellation_config::Config;
use constellation_dataplane::mesh::{ALPN, Admits, Mesh, Node as MeshNode, View};
use constellation_identity::NodeName;
use constellation_identity::tls::{Credentials, peer};
use constellation_node::{Home, Identity, Node, PeerNode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::fitness::{self, Told};
use super::telling::Known;
use crate::peers::{Exchange, Export, Exported, Own, Peer, Standing};

/// How long the routes of a node that is gone stay, with 503 where no other node has them: as long as those of a container
/// that was removed, where nobody says otherwise.
const GRACE: Duration = Duration::from_secs(600);

/// What ties the publisher to the cluster, before and after the node of the cluster starts.
pub(super) struct Ties {
    peers: watch::Sender<Option<Arc<Vec<Peer>>>>,
    exported: watch::Receiver<Option<Exported>>,
    read: HashMap<NodeName, Read>,
}

/// The two ends: one for the publisher, one for [`run`]. Until that runs, the others are as the process before this one knew
/// them: the first generation has their routes, and the mesh the way there.
pub(super) fn tie(config: &Config, identity: &Identity, mesh: &Mesh) -> (Exchange, Ties) {
    let home = Home::below(&config.node.data_dir);
    let remembered = home.remembered();
    let shown = home.shown(identity).map_err(|error| error.to_string());
    let view = shown.and_then(|shown| view(&shown, &remembered, None).map_err(|error| error.to_string()));
    match view {
        Ok(view) => mesh.set_view(Some(view)),
        Err(error) => tracing::error!(
            error,
            "other nodes can't be reached before this one takes part in the cluster"
        ),
    }
    let mut read = HashMap::new();
    let told = remembered.iter().map(|peer| of(peer, &mut read)).collect();
    let (peers, peers_seen) = watch::channel(Some(Arc::new(told)));
    let (export, exported) = watch::channel(None);
    let text = |text: &str| Arc::<str>::from(text);
    let exchange = Exchange {
        own: Own {
            node: text(&config.node.name),
            region: text(&config.node.region),
            domain: text(&config.node.domain),
        },
        peers: peers_seen,
        export,
        grace: config
            .providers
            .docker
            .as_ref()
            .map_or(GRACE, |docker| docker.removed_grace_period),
    };
    let ties = Ties {
        peers,
        exported,
        read,
    };
    (exchange, ties)
}

/// What was read of a node's export, so that it is read once.
struct Read {
    version: u64,
    export: Arc<Export>,
    services: Vec<Told>,
}

/// Carries both ways until it is stopped; `known` hears what the others are told to be here.
pub(super) async fn run(
    node: Node,
    mesh: Mesh,
    mut ties: Ties,
    known: watch::Sender<Option<Known>>,
    stop: CancellationToken,
) {
    let (mut peers, mut credentials) = (node.peers(), node.credentials());
    let members = node.clone();
    let admits: Arc<Admits> = Arc::new(move |connection| {
        let identity = peer(connection).ok().flatten()?;
        members.admits(&identity).then(|| identity.node.as_str().into())
    });
    // What the node tells first is what it remembers, which is here already.
    loop {
        let (now, shown) = (
            peers.borrow_and_update().clone(),
            credentials.borrow_and_update().clone(),
        );
        match view(&shown, &now, Some(Arc::clone(&admits))) {
            Ok(view) => mesh.set_view(Some(view)),
            Err(error) => {
                tracing::error!(%error, "the other nodes' data planes can't be reached, nor can they reach this one")
            }
        }
        let told: Vec<Peer> = now.iter().map(|peer| of(peer, &mut ties.read)).collect();
        ties.peers.send_if_modified(|before| {
            let changed = before.as_ref().is_none_or(|before| **before != told);
            if changed {
                *before = Some(Arc::new(told));
            }
            changed
        });
        ties.read
            .retain(|name, _| now.iter().any(|peer| peer.name == *name));
        let exported = ties.exported.borrow_and_update().clone();
        if let Some(exported) = exported {
            match node.export(exported.bytes) {
                Ok(version) => tell(&known, version, &exported.services),
                Err(error) => tracing::error!(error),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = peers.changed() => if changed.is_err() { return },
            changed = credentials.changed() => if changed.is_err() { return },
            changed = ties.exported.changed() => if changed.is_err() { return },
        }
    }
}

fn tell(known: &watch::Sender<Option<Known>>, version: u64, services: &Arc<[Box<str>]>) {
    known.send_if_modified(|known| {
        let news = known.as_ref().is_none_or(|known| known.version != version);
        if news {
            *known = Some(Known {
                version,
                services: Arc::clone(services),
            });
        }
        news
    });
}

fn view(
    credentials: &Credentials,
    peers: &[PeerNode],
    admits: Option<Arc<Admits>>,
) -> Result<View, rustls::Error> {
    let server = Arc::new(credentials.server(&[ALPN])?);
    let nodes = peers
        .iter()
        .map(|peer| {
            let client = Arc::new(credentials.client(&peer.name, ALPN)?);
            let node = MeshNode {
                client,
                addresses: peer.addresses.clone().into(),
            };
            Ok((Arc::<str>::from(peer.name.as_str()), node))
        })
        .collect::<Result<_, rustls::Error>>()?;
    Ok(View {
        server,
        admits,
        nodes,
    })
}

fn of(peer: &PeerNode, read: &mut HashMap<NodeName, Read>) -> Peer {
    let export = match (&peer.export, read.get(&peer.name)) {
        (Some(export), Some(known)) if known.version == export.version => Arc::clone(&known.export),
        (Some(export), known) => match Export::decode(&export.bytes) {
            Ok(decoded) => {
                for what in &decoded.unread {
                    tracing::warn!(node = %peer.name, what, "something that runs there can't be read here");
                }
                let decoded = Arc::new(decoded);
                let fresh = Read {
                    version: export.version,
                    services: fitness::services(&decoded),
                    export: Arc::clone(&decoded),
                };
                read.insert(peer.name.clone(), fresh);
                decoded
            }
            Err(error) => {
                tracing::error!(node = %peer.name, %error, "what runs there can't be read: what was known of it stays");
                known.map(|known| Arc::clone(&known.export)).unwrap_or_default()
            }
        },
        (None, known) => known.map(|known| Arc::clone(&known.export)).unwrap_or_default(),
    };
    let fit = read
        .get(&peer.name)
        .map(|read| fitness::fit(&read.services, read.version, &peer.services));
    Peer {
        node: peer.name.as_str().into(),
        region: peer.region.as_deref().unwrap_or_default().into(),
        priority: peer.priority,
        addresses: peer.addresses.clone(),
        standing: match (peer.online, peer.serving) {
            (false, _) => Standing::Gone,
            (true, true) => Standing::Ready,
            (true, false) => Standing::Cordoned,
        },
        export,
        fit: fit.unwrap_or_default(),
    }
}
