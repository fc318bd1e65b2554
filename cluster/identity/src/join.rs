//! How a node joins, as requests, answers and pure decisions.
//!
//! 1. The joiner ([`Joining`]) opens TLS to any node with [`crate::tls::joining`], which believes only the authority
//!    that its token pins, and sends a [`JoinRequest`].
//! 2. That node, or the leader it passes the request to, calls [`decide`]. The [`Admission`] that comes out has no
//!    secret in it and goes into the replicated log.
//! 3. Applied there, [`Tokens::redeem`] checks again what another entry may have changed since: once for the cluster.
//! 4. Only then a holder of the authority's key certifies ([`Admission::signing_request`]) and answers a [`JoinGrant`],
//!    which the joiner checks before it writes anything.
//!
//! A request whose answer was lost is sent again: same token, name and key are the same admission. What was refused has
//! changed nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::certificate::{CertificateError, NodeCertificate, NodeIdentity, PublicKeyDigest};
use crate::csr::{CsrError, NodeKey, SigningRequest};
use crate::name::{ClusterId, NodeName};
use crate::time::UnixSeconds;
use crate::tls::{Credentials, CredentialsError};
use crate::token::{JoinToken, TokenId, TokenSecret, Tokens, usable};
use crate::trust::{AuthorityPin, Trust, TrustError};

/// The version of these types. Another one is refused: who joins runs the same release as whom it joins.
pub const PROTOCOL: u16 = 1;

/// How far clocks may be apart. Certificates, expiries and logs need no more than minutes; NTP gives milliseconds.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(120);

/// What the joiner sends, over TLS to a node that its token's pin vouches for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`PROTOCOL`].
    pub protocol: u16,
    /// The cluster that the token is for.
    pub cluster: ClusterId,
    /// Which token.
    pub token: TokenId,
    /// The proof.
    pub secret: TokenSecret,
    /// The name that the joiner wants.
    pub node: NodeName,
    /// What its clock says.
    pub clock: UnixSeconds,
    /// Its signing request, DER.
    pub csr: Vec<u8>,
}

/// What the joiner gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The authorities to believe, DER.
    pub authorities: Vec<Vec<u8>>,
}

impl JoinGrant {
    /// Of a certificate and what its node is to believe.
    pub fn new(certificate: &NodeCertificate, trust: &Trust) -> Self {
        Self {
            certificate: certificate.der().to_vec(),
            authorities: trust
                .authorities()
                .iter()
                .map(|authority| authority.to_vec())
                .collect(),
        }
    }
}

/// Why a node may not join, or not renew. Travels to the joiner, so it holds nothing that the joiner may not know.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Refusal {
    /// Another release.
    #[error(
        "the joiner speaks version {theirs} of the join protocol, this cluster version {ours}: install the same release"
    )]
    Protocol {
        /// Ours.
        ours: u16,
        /// The joiner's.
        theirs: u16,
    },
    /// Of another cluster.
    #[error(
        "this is cluster {ours}, the join token is for cluster {theirs}: check the address, or create a token here"
    )]
    WrongCluster {
        /// Ours.
        ours: ClusterId,
        /// The token's.
        theirs: ClusterId,
    },
    /// Never made, taken back, long forgotten, or with another secret: which of them is nobody's business.
    #[error(
        "join token {token} is not known here (it was revoked, or is older than the cluster remembers): create another \
             one with `constellation token create`"
    )]
    UnknownToken {
        /// Which.
        token: TokenId,
    },
    /// Too late.
    #[error(
        "join token {token} expired at {expired}, it is {now}: create another one with `constellation token create`"
    )]
    ExpiredToken {
        /// Which.
        token: TokenId,
        /// When.
        expired: UnixSeconds,
        /// The time seen.
        now: UnixSeconds,
    },
    /// Used by somebody else.
    #[error(
        "join token {token} was used at {at} by node {node}: a token is good for one node, create another one; if you did \
             not do that, remove node {node}"
    )]
    UsedToken {
        /// Which.
        token: TokenId,
        /// By whom.
        node: NodeName,
        /// When.
        at: UnixSeconds,
    },
    /// A clock is wrong.
    #[error("the joiner's clock says {joiner}, this node's {here}, {apart} s apart, at most {} s are accepted: set the clocks by \
             NTP (`timedatectl`) and try again, the token is still good", CLOCK_TOLERANCE.as_secs())]
    Clock {
        /// The joiner's.
        joiner: UnixSeconds,
        /// Ours.
        here: UnixSeconds,
        /// The difference in seconds.
        apart: u64,
    },
    /// The name is taken.
    #[error(
        "a node named {node} is in the cluster already, with another key: give this one another name, or remove the old \
             one first with `constellation remove {node}`; the token is still good"
    )]
    DuplicateNode {
        /// The name.
        node: NodeName,
    },
    /// The signing request is bad.
    #[error("{reason}")]
    SigningRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// No member, or no longer.
    #[error(
        "node {node} is not a member of this cluster (it was removed, or its name belongs to another key): join again with \
             a new token"
    )]
    NotAMember {
        /// Who asked.
        node: NodeName,
    },
}

impl From<CsrError> for Refusal {
    fn from(error: CsrError) -> Self {
        Self::SigningRequest {
            reason: error.to_string(),
        }
    }
}

/// Who belongs to the cluster and with which key: part of its replicated state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members(BTreeMap<NodeName, PublicKeyDigest>);

impl Members {
    /// Adds one: the first by `constellation init`, others by [`Tokens::redeem`].
    pub fn insert(&mut self, node: NodeName, key: PublicKeyDigest) {
        self.0.insert(node, key);
    }

    /// Removes one; true if it was there. Its certificate is no longer accepted where [`Members::admits`] is asked.
    pub fn remove(&mut self, node: &NodeName) -> bool {
        self.0.remove(node).is_some()
    }

    /// Whether this peer is a member, by name and key: to be asked for every connection that [`crate::tls`] accepted.
    pub fn admits(&self, peer: &NodeIdentity) -> bool {
        self.0.get(&peer.node) == Some(&peer.public_key)
    }

    fn free(&self, node: &NodeName, key: PublicKeyDigest) -> Result<(), Refusal> {
        match self.0.get(node) {
            Some(taken) if *taken != key => Err(Refusal::DuplicateNode { node: node.clone() }),
            _ => Ok(()),
        }
    }
}

/// Who may be certified: goes into the replicated log. Without the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// By which token.
    pub token: TokenId,
    /// As whom.
    pub node: NodeName,
    /// With which key.
    pub public_key: PublicKeyDigest,
    csr: Vec<u8>,
}

impl Admission {
    /// What to certify.
    pub fn signing_request(&self) -> Result<SigningRequest, CsrError> {
        SigningRequest::parse(&self.csr)
    }
}

/// Whether the joiner may join. `now` is the clock of who decides.
///
/// Nothing about the cluster is told to somebody without the secret of a token. Then comes what spoils the token, then
/// what the operator can mend with the token still good.
pub fn decide(
    request: &JoinRequest,
    cluster: ClusterId,
    tokens: &Tokens,
    members: &Members,
    now: UnixSeconds,
) -> Result<Admission, Refusal> {
    if request.protocol != PROTOCOL {
        return Err(Refusal::Protocol {
            ours: PROTOCOL,
            theirs: request.protocol,
        });
    }
    if request.cluster != cluster {
        return Err(Refusal::WrongCluster {
            ours: cluster,
            theirs: request.cluster,
        });
    }
    let unknown = || Refusal::UnknownToken { token: request.token };
    let record = tokens.get(request.token).ok_or_else(unknown)?;
    if !record.matches(&request.secret) {
        return Err(unknown());
    }
    let signing = SigningRequest::parse(&request.csr)?;
    usable(record, &request.node, signing.public_key(), now)?;
    if request.clock.apart(now) > CLOCK_TOLERANCE {
        let apart = request.clock.apart(now).as_secs();
        return Err(Refusal::Clock {
            joiner: request.clock,
            here: now,
            apart,
        });
    }
    members.free(&request.node, signing.public_key())?;
    Ok(Admission {
        token: request.token,
        node: request.node.clone(),
        public_key: signing.public_key(),
        csr: request.csr.clone(),
    })
}

impl Tokens {
    /// Uses the token of an admission up and takes the node in, as the state machine applies it: in the order of the
    /// log, once for the whole cluster.
    ///
    /// `now` comes with the command. The same admission again (a joiner whose answer was lost asks twice, a command is
    /// proposed twice) is no error and changes nothing. A refusal changes nothing either.
    pub fn redeem(
        &mut self,
        admission: &Admission,
        members: &mut Members,
        now: UnixSeconds,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownToken {
            token: admission.token,
        };
        let record = self.get(admission.token).ok_or_else(unknown)?;
        usable(record, &admission.node, admission.public_key, now)?;
        if record.used.is_some() && !members.0.contains_key(&admission.node) {
            // It joined and was removed since: an old request must not bring it back.
            return Err(Refusal::NotAMember {
                node: admission.node.clone(),
            });
        }
        members.free(&admission.node, admission.public_key)?;
        members.insert(admission.node.clone(), admission.public_key);
        self.mark(admission, now);
        Ok(())
    }
}

/// What a member sends over mTLS for its next certificate, with the key it has: another key is another join, as members
/// are known by theirs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// Its signing request, DER.
    pub csr: Vec<u8>,
}

/// Whether `peer`, whom the connection authenticated, may have another certificate. For nobody but itself.
pub fn decide_renewal(
    request: &RenewRequest,
    peer: &NodeIdentity,
    cluster: ClusterId,
    members: &Members,
) -> Result<SigningRequest, Refusal> {
    if peer.cluster != cluster {
        return Err(Refusal::WrongCluster {
            ours: cluster,
            theirs: peer.cluster,
        });
    }
    if !members.admits(peer) {
        return Err(Refusal::NotAMember {
            node: peer.node.clone(),
        });
    }
    let signing = SigningRequest::parse(&request.csr)?;
    if signing.public_key() == peer.public_key {
        Ok(signing)
    } else {
        let reason = format!(
            "node {} asks to certify key {}, its connection is by key {}: a node with another key joins again with a token",
            peer.node,
            signing.public_key(),
            peer.public_key
        );
        Err(Refusal::SigningRequest { reason })
    }
}

/// Why the joiner does not accept what it got.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The answer is not for us.
    #[error(
        "the answer is a certificate for node {got} with key {key}, asked for {expected}: the node that answered is faulty"
    )]
    NotOurs {
        /// Asked for.
        expected: NodeName,
        /// Got.
        got: NodeName,
        /// Its key.
        key: PublicKeyDigest,
    },
    /// Not by whom the token pins.
    #[error(
        "the answer does not contain the authority that the join token pins ({pin}): its rotation may have ended, create \
             another token"
    )]
    Pin {
        /// The token's.
        pin: AuthorityPin,
    },
    /// Unreadable.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Unbelievable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No key, or no request.
    #[error(transparent)]
    Key(#[from] CsrError),
    /// The parts don't fit together.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
}

/// The joiner's side. Keep it until the answer is there: asking again with it is the same admission.
#[derive(Debug)]
pub struct Joining {
    token: JoinToken,
    node: NodeName,
    key: NodeKey,
    csr: Vec<u8>,
}

impl Joining {
    /// Makes the node's key.
    pub fn new(token: JoinToken, node: NodeName) -> Result<Self, JoinError> {
        let key = NodeKey::generate()?;
        let csr = key.signing_request()?;
        Ok(Self {
            token,
            node,
            key,
            csr,
        })
    }

    /// What to send.
    pub fn request(&self, now: UnixSeconds) -> JoinRequest {
        JoinRequest {
            protocol: PROTOCOL,
            cluster: self.token.cluster,
            token: self.token.id,
            secret: self.token.secret.clone(),
            node: self.node.clone(),
            clock: now,
            csr: self.csr.clone(),
        }
    }

    /// Checks the answer: our name, our key, our cluster, signed by an authority in it, the pinned one among them.
    pub fn finish(self, grant: &JoinGrant, now: UnixSeconds) -> Result<Credentials, JoinError> {
        let der = |bytes: &Vec<u8>| CertificateDer::from(bytes.clone());
        let trust = Trust::new(self.token.cluster, grant.authorities.iter().map(der).collect())?;
        if !trust.pins().any(|pin| pin == self.token.authority) {
            return Err(JoinError::Pin {
                pin: self.token.authority,
            });
        }
        let certificate = NodeCertificate::from_der(der(&grant.certificate))?;
        let got = certificate.identity();
        if got.node != self.node || got.public_key != self.key.public_key() {
            return Err(JoinError::NotOurs {
                expected: self.node,
                got: got.node.clone(),
                key: got.public_key,
            });
        }
        Ok(Credentials::new(certificate, self.key, trust, now)?)
    }
}
