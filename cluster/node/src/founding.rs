//! `constellation init`: makes a cluster, with this node as its only member, once and because an operator said so.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use constellation_cluster::raft::{
    Consensus as _, Member, ProposeError, RaftNode, StartError, StoreFailure, Timers, Transport,
    TransportError,
};
use constellation_cluster::state::{
    ClientId, Command, DocumentOutcome, NodeId, Outcome, Request, RosterCommand, RosterOutcome,
};
use constellation_gossip::{GossipKey, KeyError};
use constellation_identity::tls::{Credentials, CredentialsError};
use constellation_identity::{
    Authority, AuthorityError, ClusterId, CsrError, NODE_VALIDITY, NodeKey, NodeName, SigningRequest, Trust,
    TrustError, UnixSeconds,
};
use thiserror::Error;

use crate::home::{Home, HomeError, Identity};
use crate::secrets;

/// The number of the first node in the log. Others have the index of their admission, which is greater.
const FOUNDER: NodeId = NodeId(1);
/// How long a log of one node may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no cluster.
#[derive(Debug, Error)]
pub enum FoundingError {
    /// It is a member already, or its files can't be written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No randomness.
    #[error("the operating system gives no randomness")]
    Randomness,
    /// No authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Not believed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No key.
    #[error(transparent)]
    Key(#[from] CsrError),
    /// No gossip key.
    #[error(transparent)]
    Gossip(#[from] KeyError),
    /// No certificate.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The log did not begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its disk failed.
    #[error(transparent)]
    Store(StoreFailure),
    /// It did not take what it was given.
    #[error("the replicated log did not begin: {0}")]
    Log(String),
}

/// What the first node is called and where it is found.
#[derive(Clone, Debug)]
pub struct Founder {
    /// Its name.
    pub node: NodeName,
    /// By which address others reach it.
    pub advertise: IpAddr,
    /// Where its links will listen, HOST:PORT.
    pub address: String,
    /// Where it will gossip, HOST:PORT.
    pub gossip: String,
}

/// Makes a cluster. What it made is removed again should it fail.
///
/// # Errors
/// When the node is a member of one, or its disk does not take it.
pub async fn found(home: &Home, founder: &Founder) -> Result<Identity, FoundingError> {
    home.vacant()?;
    let now = UnixSeconds::now();
    let cluster = ClusterId::generate().ok_or(FoundingError::Randomness)?;
    let authority = Authority::generate(cluster, now)?;
    let trust = Trust::new(cluster, vec![authority.certificate().clone()])?;
    let key = NodeKey::generate()?;
    let request = SigningRequest::parse(&key.signing_request()?)?;
    let certificate = authority.certify(&founder.node, &request, now, NODE_VALIDITY)?;
    let public_key = key.public_key();
    let credentials = Credentials::new(certificate, key, trust.clone(), now)?;
    home.make_raft()?;
    let member = Member {
        name: founder.node.to_string(),
        address: founder.address.clone(),
        gossip: founder.gossip.clone(),
        ..Member::default()
    };
    let begin = RosterCommand::Found {
        id: FOUNDER,
        key: public_key,
        member: member.clone(),
    };
    let secrets = secrets::first(&authority, &trust, &GossipKey::generate()?);
    let commands = std::iter::once(Command::Roster(begin)).chain(secrets);
    let identity = Identity {
        cluster,
        node: founder.node.clone(),
        id: FOUNDER,
        advertise: founder.advertise,
        witness: false,
    };
    let founded = match write(home, member, commands).await {
        Ok(()) => home.settle(&identity, &credentials).map_err(FoundingError::from),
        Err(error) => Err(error),
    };
    if founded.is_err() {
        // Nobody's yet, and a second try must find room. The first error is the one to report.
        drop(std::fs::remove_dir_all(home.raft()));
    }
    founded.map(|()| identity)
}

/// Writes the first entries of the log, and closes it.
async fn write(
    home: &Home,
    member: Member,
    commands: impl Iterator<Item = Command>,
) -> Result<(), FoundingError> {
    let failure: Arc<Mutex<Option<StoreFailure>>> = Arc::default();
    let told = Arc::clone(&failure);
    let on_failure = Arc::new(move |failure: &StoreFailure| {
        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.clone());
    });
    let observer = Box::new(|_: u64, _: Option<&_>, _: &_| {});
    let log = RaftNode::start(
        FOUNDER,
        home.raft(),
        Timers::LAN,
        Arc::new(Nobody),
        observer,
        on_failure,
    )
    .await?;
    let written = tokio::time::timeout(PATIENCE, async {
        log.found(member).await?;
        let mut view = log.watch();
        if view.wait_for(|view| view.leading).await.is_err() {
            return Err(FoundingError::Log("it has ended".to_owned()));
        }
        // A life before the first one of the node that will run.
        let client = ClientId {
            node: FOUNDER,
            incarnation: 0,
        };
        for (sequence, command) in (1..).zip(commands) {
            let request = Request {
                client,
                sequence,
                command,
            };
            match log.propose(request).await {
                Ok(
                    Outcome::Roster(RosterOutcome::Admitted(_))
                    | Outcome::Document(DocumentOutcome::Changed { .. }),
                ) => {}
                Ok(other) => return Err(FoundingError::Log(format!("entry {sequence} came to {other:?}"))),
                Err(ProposeError::NotLeader { .. }) => {
                    return Err(FoundingError::Log("a log of one node has no leader".to_owned()));
                }
                Err(ProposeError::Stopped(reason)) => return Err(FoundingError::Log(reason)),
            }
        }
        Ok(())
    })
    .await
    .unwrap_or_else(|_| Err(FoundingError::Log(format!("it took more than {PATIENCE:?}"))));
    log.shut_down().await;
    match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(failure) => Err(FoundingError::Store(failure)),
        None => written,
    }
}

/// There is nobody to talk to.
struct Nobody;

impl Transport for Nobody {
    async fn call(&self, to: NodeId, _: &Member, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::Unreachable {
            node: to,
            detail: "the cluster has one node".to_owned(),
        })
    }
}
