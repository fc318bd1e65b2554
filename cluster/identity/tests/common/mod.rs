//! A cluster in memory: an authority, tokens and members as the replicated state would hold them.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::time::Duration;

use constellation_identity::tls::Credentials;
use constellation_identity::{
    Authority, ClusterId, JoinGrant, JoinToken, Joining, Members, NODE_VALIDITY, NodeCertificate, NodeKey,
    NodeName, Refusal, SigningRequest, Tokens, Trust, UnixSeconds, decide,
};

pub const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

pub struct Cluster {
    pub id: ClusterId,
    pub authority: Authority,
    pub tokens: Tokens,
    pub members: Members,
}

impl Cluster {
    pub fn new() -> Self {
        let id = ClusterId::generate().unwrap();
        let authority = Authority::generate(id, NOW).unwrap();
        Self {
            id,
            authority,
            tokens: Tokens::default(),
            members: Members::default(),
        }
    }

    pub fn trust(&self) -> Trust {
        Trust::new(self.id, vec![self.authority.certificate().clone()]).unwrap()
    }

    /// A member, certified at `at`.
    pub fn node_at(&mut self, node: &str, at: UnixSeconds) -> Credentials {
        let key = NodeKey::generate().unwrap();
        let certificate = self.certify(node, &key, at);
        self.members.insert(name(node), key.public_key());
        Credentials::new(certificate, key, self.trust(), at).unwrap()
    }

    pub fn node(&mut self, node: &str) -> Credentials {
        self.node_at(node, NOW)
    }

    pub fn certify(&self, node: &str, key: &NodeKey, at: UnixSeconds) -> NodeCertificate {
        let request = SigningRequest::parse(&key.signing_request().unwrap()).unwrap();
        self.authority
            .certify(&name(node), &request, at, NODE_VALIDITY)
            .unwrap()
    }

    pub fn token(&mut self) -> JoinToken {
        let (token, record) = JoinToken::generate(self.id, self.authority.pin(), NOW, HOUR).unwrap();
        self.tokens.insert(record);
        token
    }

    /// What the cluster does with a request: decide, apply, certify.
    pub fn join(
        &mut self,
        joining: &Joining,
        clock: UnixSeconds,
        now: UnixSeconds,
    ) -> Result<JoinGrant, Refusal> {
        let admission = decide(&joining.request(clock), self.id, &self.tokens, &self.members, now)?;
        self.tokens.redeem(&admission, &mut self.members, now)?;
        let request = admission.signing_request().unwrap();
        let certificate = self
            .authority
            .certify(&admission.node, &request, now, NODE_VALIDITY)
            .unwrap();
        Ok(JoinGrant::new(&certificate, &self.trust()))
    }
}
