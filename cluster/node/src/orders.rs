//! What operators ask of a running node: about members, tokens, keys and leases.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use constellation_cluster::lease::LeaseKey;
use constellation_cluster::state::{ClientId, Command, Outcome, RosterCommand, RosterOutcome, Wish};
use constellation_identity::{JoinToken, NodeName, UnixSeconds};
use constellation_link::Service;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ask::{Ask, Reply, encode};
use crate::core::ApplyError;
use crate::node::Node;
use crate::{secrets, serve, upkeep};

/// How long something that an operator asked for may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an address may take to answer where a member is looked for.
const LOOKING: Duration = Duration::from_secs(1);

/// Why what an operator asked for was not done.
#[derive(Debug, Error)]
pub enum OrderError {
    /// Not agreed upon.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// No such member.
    #[error("there is no node {0} in this cluster: `constellation nodes` lists them")]
    UnknownNode(NodeName),
    /// There are too many.
    #[error("the cluster remembers as many join tokens as it can; wait for some to expire")]
    TokensFull,
    /// No randomness, no authority.
    #[error("{0}")]
    Failed(String),
}

impl Node {
    /// Says what is wanted of a member.
    ///
    /// # Errors
    /// When there is none of that name, or the cluster does not agree in time.
    pub async fn wish(&self, node: &NodeName, wish: Wish) -> Result<(), OrderError> {
        let command = RosterCommand::Wish {
            node: node.clone(),
            wish,
        };
        self.order(node, command).await
    }

    /// Takes a member out, whether it is there or not; what is sealed for gossip gets another key then.
    ///
    /// # Errors
    /// When there is none of that name, or the cluster does not agree in time.
    pub async fn remove(&self, node: &NodeName) -> Result<(), OrderError> {
        let core = &self.0.core;
        let heard = core.view().peers.get(node).map(|peer| peer.generation);
        let asked = core.read(|state| state.incarnation(state.roster().get(node)?.id));
        let generation = heard.max(asked).unwrap_or(0);
        let command = RosterCommand::Remove {
            node: node.clone(),
            generation,
        };
        self.order(node, command).await?;
        if *node != self.0.core.identity.node {
            let core = Arc::clone(&self.0.core);
            self.0.tasks.spawn(async move {
                if let Err(error) = upkeep::rotate_gossip(&core).await {
                    tracing::error!(
                        error,
                        "the gossip key that the removed node has is still in use: `constellation rotate gossip-key`"
                    );
                }
            });
        }
        Ok(())
    }

    /// Takes this node out, after [`Node::let_go`].
    ///
    /// # Errors
    /// When the cluster does not agree in time: it is a member still.
    pub async fn leave(&self) -> Result<(), OrderError> {
        let node = self.0.core.identity.node.clone();
        match self.remove(&node).await {
            // The answer could not come any more: whoever gave it does not talk to those who have left.
            Err(OrderError::Apply(ApplyError::Refused(reason))) => {
                tracing::debug!(reason, "has left");
                Ok(())
            }
            other => other,
        }
    }

    async fn order(&self, node: &NodeName, command: RosterCommand) -> Result<(), OrderError> {
        match self.0.core.apply(Command::Roster(command), PATIENCE).await? {
            Outcome::Roster(RosterOutcome::Unknown) => Err(OrderError::UnknownNode(node.clone())),
            _ => Ok(()),
        }
    }

    /// A one-time join token, good for so long.
    ///
    /// # Errors
    /// When the cluster does not agree in time.
    pub async fn issue_token(&self, lifetime: Duration) -> Result<Zeroizing<String>, OrderError> {
        let cluster = self.0.core.identity.cluster;
        let authority = self.0.core.read(|state| secrets::authority(state, cluster));
        let authority = authority.map_err(|error| OrderError::Failed(error.to_string()))?;
        let (token, record) = JoinToken::generate(cluster, authority.pin(), UnixSeconds::now(), lifetime)
            .map_err(|error| OrderError::Failed(error.to_string()))?;
        let command = Command::Roster(RosterCommand::IssueToken(record));
        match self.0.core.apply(command, PATIENCE).await? {
            Outcome::Roster(RosterOutcome::Done) => Ok(token.to_text()),
            _ => Err(OrderError::TokensFull),
        }
    }

    /// Gives the gossip a new key.
    ///
    /// # Errors
    /// In words, when another one does so too, or the cluster does not agree in time.
    pub async fn rotate_gossip(&self) -> Result<(), String> {
        upkeep::rotate_gossip(&self.0.core).await
    }

    /// Has this node's certificate renewed now.
    pub fn renew_certificate(&self) {
        self.0.renew_now.notify_one();
    }

    /// Has a lease handed over to a node, by whichever has it.
    ///
    /// # Errors
    /// In words, when it can't be or did not come to it.
    pub async fn hand_over(&self, key: &LeaseKey, to: &NodeName) -> Result<(), String> {
        let core = &self.0.core;
        let (entry, lease) =
            core.read(|state| (state.roster().get(to).cloned(), state.leases().get(key).cloned()));
        let entry = entry.ok_or_else(|| OrderError::UnknownNode(to.clone()).to_string())?;
        let Some(lease) = lease else {
            return Err(format!(
                "nobody holds {key} now; it goes to the best node by itself"
            ));
        };
        let incarnation = if entry.id == core.identity.id {
            core.client.incarnation
        } else {
            let view = core.view();
            let latest = core.read(|state| state.incarnation(entry.id));
            let peer = view
                .peers
                .get(to)
                .filter(|peer| latest.is_none_or(|latest| latest <= peer.generation))
                .ok_or_else(|| format!("node {to} is not heard of now, so it can't be given {key}"))?;
            peer.generation
        };
        let to = ClientId {
            node: entry.id,
            incarnation,
        };
        if lease.holder.node == core.identity.id {
            return serve::hand_over(&self.0.orders, key, to).await;
        }
        let ask = Ask::HandOver { key: key.clone(), to };
        match core.ask(lease.holder.node, &ask, PATIENCE).await {
            Ok(Reply::HandedOver(outcome)) => outcome,
            Ok(_) => Err("the holder answered something else: do both run the same release?".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Looks for members that are not heard of at addresses where they may be, asks whoever answers there as one of them to gossip,
    /// and says how many did. Nobody else is told anything: a link shows who is at its other end before it is used.
    pub async fn look_for_members(&self, at: &[IpAddr]) -> usize {
        let core = &self.0.core;
        let view = core.view();
        let missing: Vec<_> = core.read(|state| {
            let nodes = state.roster().nodes();
            let missing =
                nodes.filter(|(name, entry)| entry.id != core.identity.id && !view.peers.contains_key(*name));
            missing
                .map(|(name, entry)| (name.clone(), entry.member.clone()))
                .collect()
        });
        let port = |address: &str| {
            address
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok())
        };
        let mut found = 0;
        for (name, member) in missing {
            let (Some(links), Some(gossips)) = (port(&member.address), port(&member.gossip)) else {
                continue;
            };
            let Some(ask) = encode(&Ask::Presence) else {
                continue;
            };
            for ip in at {
                let address = [SocketAddr::new(*ip, links).to_string()];
                let answer = core
                    .links
                    .call(&name, &address, Service::Control, ask.clone(), LOOKING);
                if answer.await.is_err() {
                    continue;
                }
                tracing::info!(node = %name, %ip, "found");
                found += 1;
                if let Some(gossip) = core.gossip.get()
                    && let Some(gossip) = &*gossip.read().await
                {
                    gossip.greet(SocketAddr::new(*ip, gossips));
                }
                break;
            }
        }
        found
    }
}
