//! What the whole cluster keeps secret, as documents of the replicated state: the authority's key and the gossip keys.
//!
//! Every member has them on its disk, in its log of mode 0700: there is no node whose loss would end joining and renewal.
//! A member that is broken into can so certify names; it gains nobody's place, since who is accepted is known by name and
//! key ([`constellation_identity::Members`]).

use constellation_cluster::state::{Command, DocumentChange, State};
use constellation_gossip::{GossipKey, KeyError, KeyRing};
use constellation_identity::{Authority, AuthorityError, ClusterId, Trust, TrustError};
use thiserror::Error;

/// The authority that certifies, with its key.
pub(crate) const AUTHORITY: &str = "cluster/authority";
/// The authorities that are believed.
pub(crate) const TRUST: &str = "cluster/trust";
/// The gossip keys, a line each: the first seals, the second is accepted too.
pub(crate) const GOSSIP: &str = "cluster/gossip-keys";

/// Why a secret can't be used.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Not here yet.
    #[error(
        "the replicated state has no `{0}` here: this node has not caught up with the cluster yet, or the state is damaged"
    )]
    Missing(&'static str),
    /// Unreadable.
    #[error("the authority in the replicated state: {0}")]
    Authority(#[from] AuthorityError),
    /// Unbelievable.
    #[error("the authorities in the replicated state: {0}")]
    Trust(#[from] TrustError),
    /// No key.
    #[error("the gossip keys in the replicated state: {0}")]
    Gossip(#[from] KeyError),
    /// Not even text.
    #[error("`{0}` in the replicated state is not text")]
    Text(&'static str),
}

fn text<'s>(state: &'s State, name: &'static str) -> Result<&'s str, SecretError> {
    let document = state.documents().get(name).ok_or(SecretError::Missing(name))?;
    std::str::from_utf8(&document.content).map_err(|_| SecretError::Text(name))
}

/// The authority that certifies.
pub(crate) fn authority(state: &State, cluster: ClusterId) -> Result<Authority, SecretError> {
    Ok(Authority::from_pem(
        cluster,
        "the replicated state",
        text(state, AUTHORITY)?,
    )?)
}

/// Whom to believe.
pub(crate) fn trust(state: &State, cluster: ClusterId) -> Result<Trust, SecretError> {
    Ok(Trust::from_pem(cluster, text(state, TRUST)?)?)
}

/// What gossip is sealed with.
pub(crate) fn gossip(state: &State) -> Result<KeyRing, SecretError> {
    let mut keys = text(state, GOSSIP)?.lines().map(GossipKey::from_text);
    let seals = keys.next().ok_or(SecretError::Missing(GOSSIP))??;
    Ok(match keys.next().transpose()? {
        Some(also) => KeyRing::rotating(seals, also),
        None => KeyRing::new(seals),
    })
}

/// The revision of the gossip keys; 0: there are none.
pub(crate) fn gossip_revision(state: &State) -> u64 {
    state
        .documents()
        .get(GOSSIP)
        .map_or(0, |document| document.revision)
}

/// The revision of the believed authorities; 0: there are none.
pub(crate) fn trust_revision(state: &State) -> u64 {
    state
        .documents()
        .get(TRUST)
        .map_or(0, |document| document.revision)
}

fn put(name: &str, expected: Option<u64>, content: &str) -> Command {
    Command::Document(DocumentChange {
        name: name.to_owned(),
        expected,
        content: Some(content.as_bytes().to_vec()),
    })
}

/// What a cluster begins with.
pub(crate) fn first(authority: &Authority, trust: &Trust, key: &GossipKey) -> [Command; 3] {
    [
        put(AUTHORITY, Some(0), &authority.to_pem()),
        put(TRUST, Some(0), &trust.to_pem()),
        put(GOSSIP, Some(0), &key.to_text()),
    ]
}

/// The next step of a rotation of the gossip keys, from what is at that revision. Each is proposed once everybody has had
/// time for the one before.
pub(crate) fn gossip_step(ring: &KeyRing, revision: u64, step: RotationStep) -> Option<Command> {
    let lines = match (step, ring.also()) {
        (RotationStep::Accept(new), None) => format!("{}\n{}", *ring.seals().to_text(), *new.to_text()),
        (RotationStep::Seal, Some(also)) => format!("{}\n{}", *also.to_text(), *ring.seals().to_text()),
        (RotationStep::Drop, Some(_)) => ring.seals().to_text().to_string(),
        _ => return None,
    };
    Some(put(GOSSIP, Some(revision), &zeroize::Zeroizing::new(lines)))
}

/// A step of a rotation.
pub(crate) enum RotationStep {
    /// The new key is accepted too.
    Accept(GossipKey),
    /// It is the one to seal with.
    Seal,
    /// The old one is accepted no more.
    Drop,
}

#[cfg(test)]
mod tests {
    use constellation_cluster::state::{ClientId, NodeId, Request};
    use constellation_identity::UnixSeconds;

    use super::*;

    #[test]
    fn secrets_go_into_the_state_and_come_back() {
        let cluster = ClusterId::generate().unwrap();
        let authority = Authority::generate(cluster, UnixSeconds(1_800_000_000)).unwrap();
        let trust = Trust::new(cluster, vec![authority.certificate().clone()]).unwrap();
        let (old, new) = (GossipKey::generate().unwrap(), GossipKey::generate().unwrap());
        let client = ClientId {
            node: NodeId(1),
            incarnation: 1,
        };
        let mut state = State::default();
        assert!(matches!(gossip(&state), Err(SecretError::Missing(_))));
        let mut sequence = 0;
        let mut apply = |state: &mut State, command| {
            sequence += 1;
            let request = Request {
                client,
                sequence,
                command,
            };
            state.apply(sequence, &request);
        };
        for command in first(&authority, &trust, &old) {
            apply(&mut state, command);
        }
        assert_eq!(super::authority(&state, cluster).unwrap().pin(), authority.pin());
        assert_eq!(super::trust(&state, cluster).unwrap(), trust);
        assert_eq!(gossip(&state).unwrap(), KeyRing::new(old.clone()));
        let steps = [
            (
                RotationStep::Accept(new.clone()),
                KeyRing::rotating(old.clone(), new.clone()),
            ),
            (RotationStep::Seal, KeyRing::rotating(new.clone(), old.clone())),
            (RotationStep::Drop, KeyRing::new(new)),
        ];
        for (step, expected) in steps {
            let ring = gossip(&state).unwrap();
            let command = gossip_step(&ring, gossip_revision(&state), step).unwrap();
            apply(&mut state, command);
            assert_eq!(gossip(&state).unwrap(), expected);
        }
        let shown = format!("{state:?}");
        assert!(
            !shown.contains("PRIVATE") && !shown.contains(&*old.to_text()),
            "{shown}"
        );
    }
}
