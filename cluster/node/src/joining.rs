//! `constellation join`: asks a member to take this node in, and writes who it is from then on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use constellation_cluster::raft::Role;
use constellation_identity::{JoinError, JoinToken, Joining, NodeName, UnixSeconds};
use constellation_link::LinkError;
use thiserror::Error;

use crate::ask::{JoinCall, JoinFailure, Joined, decode, encode};
use crate::home::{Home, HomeError, Identity};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a request whose answer was lost is put again. It is the same admission each time.
const TRIES: usize = 3;

/// Who wants to join, and how others will find it.
#[derive(Clone, Debug)]
pub struct Joiner {
    /// The name that it wants.
    pub node: NodeName,
    /// By which address others reach it; `None`: the one from which it reaches them.
    pub advertise: Option<IpAddr>,
    /// Where its links will listen.
    pub raft_port: u16,
    /// Where it will gossip.
    pub gossip_port: u16,
    /// Whether it only votes.
    pub witness: bool,
}

/// Why it did not join. Nothing was written, and unless it says otherwise the token is still good.
#[derive(Debug, Error)]
pub enum JoiningError {
    /// It is a member of a cluster, or its files can't be written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Nobody there, or not whom the token vouches for.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Refused.
    #[error(transparent)]
    Refused(#[from] JoinFailure),
    /// What came is not to be believed.
    #[error(transparent)]
    Answer(#[from] JoinError),
    /// Something else came.
    #[error("{0} answered something else: does it run the same release?")]
    Protocol(String),
    /// No way there.
    #[error("{address} can't be reached from here: {reason}; give `--advertise IP`, or check the address")]
    Route {
        /// Where to.
        address: String,
        /// Why.
        reason: String,
    },
}

/// Joins by way of any member at one of these addresses (HOST:PORT of its Raft port).
///
/// # Errors
/// [`JoiningError`]; then nothing was written.
pub async fn join(
    home: &Home,
    addresses: &[String],
    token: JoinToken,
    joiner: &Joiner,
) -> Result<Identity, JoiningError> {
    home.vacant()?;
    let advertise = match joiner.advertise {
        Some(advertise) => advertise,
        None => address_towards(addresses).await?,
    };
    let cluster = token.cluster;
    let joining = Joining::new(token.clone(), joiner.node.clone())?;
    let joined = ask(addresses, &token, &joining, joiner, advertise).await?;
    let credentials = joining.finish(&joined.grant, UnixSeconds::now())?;
    let identity = Identity {
        cluster,
        node: joiner.node.clone(),
        id: joined.id,
        advertise,
        witness: joiner.witness,
    };
    home.make_raft()?;
    home.settle(&identity, &credentials)?;
    Ok(identity)
}

async fn ask(
    addresses: &[String],
    token: &JoinToken,
    joining: &Joining,
    joiner: &Joiner,
    advertise: IpAddr,
) -> Result<Joined, JoiningError> {
    let place = addresses.join(", ");
    let mut last = None;
    for _ in 0..TRIES {
        let call = JoinCall {
            request: joining.request(UnixSeconds::now()),
            address: SocketAddr::new(advertise, joiner.raft_port).to_string(),
            gossip: SocketAddr::new(advertise, joiner.gossip_port).to_string(),
            role: if joiner.witness { Role::Witness } else { Role::Node },
        };
        let body = encode(&call).ok_or_else(|| JoiningError::Protocol(place.clone()))?;
        match constellation_link::join(addresses, token, body, PATIENCE).await {
            Ok(answer) => match decode::<Result<Joined, JoinFailure>>(&answer) {
                Some(Ok(joined)) => return Ok(joined),
                Some(Err(failure @ JoinFailure::NotNow(_))) => last = Some(failure.into()),
                Some(Err(failure)) => return Err(failure.into()),
                None => return Err(JoiningError::Protocol(place)),
            },
            Err(error @ LinkError::NoAnswer { .. }) => last = Some(error.into()),
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(last.unwrap_or(JoiningError::Protocol(place)))
}

/// The address of this machine from which it reaches the first of these that it has a way to. Nothing is sent.
async fn address_towards(addresses: &[String]) -> Result<IpAddr, JoiningError> {
    let mut reason = "no address was given".to_owned();
    for address in addresses {
        let found = async {
            let targets = tokio::net::lookup_host(address).await?;
            let mut error = std::io::Error::other("the name has no address");
            for target in targets {
                match source_towards(target) {
                    Ok(ip) => return Ok(ip),
                    Err(failed) => error = failed,
                }
            }
            Err(error)
        };
        match found.await {
            Ok(ip) => return Ok(ip),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(JoiningError::Route {
        address: addresses.join(", "),
        reason,
    })
}

/// The address of this machine from which it would reach that one. Nothing is sent.
///
/// # Errors
/// When it has no way there.
pub fn source_towards(target: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}
