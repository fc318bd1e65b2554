//! What a node answers to the others, and to who wants to join.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use constellation_cluster::lease::LeaseKey;
use constellation_cluster::raft::{Consensus as _, Member};
use constellation_cluster::state::{ClientId, Command, MAX_MEMBERS, Outcome, RosterCommand, RosterOutcome};
use constellation_identity::{
    JoinGrant, NODE_VALIDITY, NodeIdentity, Refusal, RenewRequest, UnixSeconds, decide, decide_renewal,
};
use constellation_link::{Handler, Service};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::ask::{Ask, JoinCall, JoinFailure, Joined, NotApplied, Pull, Reply, decode, encode};
use crate::core::Core;
use crate::lease::Order;
use crate::pull::{Nudges, Own};
use crate::secrets;

/// How long taking somebody in may take.
const JOINING: Duration = Duration::from_secs(10);
/// How long a lease may take to change hands.
const HANDING_OVER: Duration = Duration::from_secs(10);

/// The orders that lease loops take, by lease; loops come and go.
pub(crate) type Orders = Arc<RwLock<BTreeMap<LeaseKey, mpsc::Sender<Order>>>>;

/// Answers.
pub(crate) struct Answers {
    pub(crate) core: Arc<Core>,
    pub(crate) orders: Orders,
    pub(crate) own: Arc<Own>,
    pub(crate) nudges: Arc<Nudges>,
}

impl Handler for Answers {
    async fn answer(&self, from: &NodeIdentity, service: Service, body: Vec<u8>) -> Option<Vec<u8>> {
        let core = &self.core;
        match service {
            Service::Raft => core.raft.serve(&body).await,
            Service::Bulk => self.own.answer(&decode::<Pull>(&body)?),
            Service::Control => encode(&self.reply(core, from, decode::<Ask>(&body)?).await?),
        }
    }

    async fn join(&self, body: Vec<u8>) -> Option<Vec<u8>> {
        let core = &self.core;
        let call = decode::<JoinCall>(&body)?;
        encode(&join(core, call).await)
    }
}

impl Answers {
    async fn reply(&self, core: &Arc<Core>, from: &NodeIdentity, ask: Ask) -> Option<Reply> {
        Some(match ask {
            Ask::Propose(request) => {
                // Nobody speaks for another one.
                let of = core.read(|state| state.roster().get(&from.node).map(|entry| entry.id));
                if of != Some(request.client.node) {
                    tracing::warn!(node = %from.node, client = %request.client, "a request in somebody else's name is refused");
                    return None;
                }
                Reply::Proposed(core.propose_for(request).await)
            }
            Ask::Join(call) => Reply::Joined(admit(core, call).await),
            Ask::Renew(request) => Reply::Renewed(renew(core, from, &request).await),
            Ask::HandOver { key, to } => Reply::HandedOver(hand_over(&self.orders, &key, to).await),
            Ask::Changed { version } => {
                self.nudges.put(from.node.clone(), version);
                Reply::Noted
            }
            Ask::Presence => Reply::Noted,
            Ask::ReadIndex => Reply::ReadIndex(core.read_index().await),
        })
    }
}

/// Has this node's loop hand a lease over, and waits until it has.
pub(crate) async fn hand_over(orders: &Orders, key: &LeaseKey, to: ClientId) -> Result<(), String> {
    let loop_of = orders
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .get(key)
        .cloned();
    let loop_of = loop_of.ok_or_else(|| format!("this node does not take part in the lease {key}"))?;
    let (answer, answered) = oneshot::channel();
    let handed = async {
        loop_of.send(Order::HandOver(to, answer)).await.ok()?;
        answered.await.ok()
    };
    match timeout(HANDING_OVER, handed).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err("the node stops".to_owned()),
        Err(_) => Err(format!(
            "nothing came of it within {HANDING_OVER:?}: see who holds it with `constellation lease`"
        )),
    }
}

/// Takes a joiner in, or asks the leader to.
async fn join(core: &Arc<Core>, call: JoinCall) -> Result<Joined, JoinFailure> {
    let view = core.leader();
    match view.leader {
        _ if view.leading => admit(core, call).await,
        Some(leader) => match core.ask(leader, &Ask::Join(call), JOINING).await {
            Ok(Reply::Joined(joined)) => joined,
            Ok(_) => Err(JoinFailure::NotNow(format!(
                "node {leader} answered something else"
            ))),
            Err(error) => Err(JoinFailure::NotNow(error.to_string())),
        },
        None => Err(JoinFailure::NotNow(
            "it has no leader, as no majority of its voters answers".to_owned(),
        )),
    }
}

fn not_now(error: impl ToString) -> JoinFailure {
    JoinFailure::NotNow(error.to_string())
}

/// Takes a joiner in: decided here, made certain by the log, and certified only then.
async fn admit(core: &Core, call: JoinCall) -> Result<Joined, JoinFailure> {
    timeout(JOINING, core.raft.read_barrier())
        .await
        .map_err(|_| not_now("no majority of its voters answers"))?
        .map_err(not_now)?;
    let now = UnixSeconds::now();
    let cluster = core.identity.cluster;
    let admission = core
        .read(|state| {
            decide(
                &call.request,
                cluster,
                state.roster().tokens(),
                state.roster().members(),
                now,
            )
        })
        .map_err(JoinFailure::Refused)?;
    let signing = admission
        .signing_request()
        .map_err(|error| JoinFailure::Refused(error.into()))?;
    let node = admission.node.clone();
    let member = Member {
        name: node.to_string(),
        address: call.address,
        gossip: call.gossip,
        role: call.role,
    };
    let command = Command::Roster(RosterCommand::Admit {
        admission,
        member,
        now,
    });
    let id = match core.apply(command, JOINING).await.map_err(not_now)? {
        Outcome::Roster(RosterOutcome::Admitted(id)) => id,
        Outcome::Roster(RosterOutcome::Refused(refusal)) => return Err(JoinFailure::Refused(refusal)),
        Outcome::Roster(RosterOutcome::Full) => return Err(JoinFailure::Full(MAX_MEMBERS)),
        other => return Err(JoinFailure::NotNow(format!("the log answered {other:?}"))),
    };
    let grant = certify(core, &node, &signing, now)?;
    tracing::info!(%node, %id, "taken into the cluster");
    Ok(Joined { grant, id })
}

async fn renew(core: &Core, from: &NodeIdentity, request: &RenewRequest) -> Result<JoinGrant, JoinFailure> {
    let cluster = core.identity.cluster;
    let signing = core
        .read(|state| decide_renewal(request, from, cluster, state.roster().members()))
        .map_err(JoinFailure::Refused)?;
    certify(core, &from.node, &signing, UnixSeconds::now())
}

/// A certificate of the authority in the state as it is here.
pub(crate) fn certify(
    core: &Core,
    node: &constellation_identity::NodeName,
    signing: &constellation_identity::SigningRequest,
    now: UnixSeconds,
) -> Result<JoinGrant, JoinFailure> {
    let cluster = core.identity.cluster;
    let (authority, trust) =
        core.read(|state| (secrets::authority(state, cluster), secrets::trust(state, cluster)));
    let (authority, trust) = (authority.map_err(not_now)?, trust.map_err(not_now)?);
    let certificate = authority
        .certify(node, signing, now, NODE_VALIDITY)
        .map_err(not_now)?;
    Ok(JoinGrant::new(&certificate, &trust))
}

impl From<Refusal> for JoinFailure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl std::fmt::Display for NotApplied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotLeader(_) => f.write_str("another node leads"),
            Self::Stopped(reason) => f.write_str(reason),
            Self::Late => f.write_str("no majority answers"),
        }
    }
}
