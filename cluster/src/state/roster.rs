//! Who belongs to the cluster, by which token they came, and what an operator wants of each.
//!
//! A member is known by name and key ([`constellation_identity::Members`]), and by a number to the log: that of the founder is
//! given, that of everybody else is the index in the log of the admission, so none is ever used again. Who was removed
//! stays known with the last of its lives, so that nothing old brings it back.

use std::collections::BTreeMap;

use constellation_identity::{
    Admission, Members, NodeName, PublicKeyDigest, Refusal, TokenId, TokenRecord, Tokens, UnixSeconds,
};
use serde::{Deserialize, Serialize};

use super::NodeId;
use crate::raft::Member;

/// How many members there can be.
pub const MAX_MEMBERS: usize = 128;
/// How many join tokens are remembered.
pub const MAX_TOKENS: usize = 1024;
/// For how long a token is remembered after its end, since it explains refusals.
const TOKEN_MEMORY: std::time::Duration = std::time::Duration::from_secs(2 * 24 * 3600);

/// A change of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterCommand {
    /// The first member. Refused once there is one.
    Found {
        /// Its number, as its log was founded with.
        id: NodeId,
        /// Its key.
        key: PublicKeyDigest,
        /// Its name, address and role.
        member: Member,
    },
    /// Remembers a join token.
    IssueToken(TokenRecord),
    /// Takes one back.
    RevokeToken(TokenId),
    /// Uses a token up and takes its bearer in.
    Admit {
        /// What was decided about the request.
        admission: Admission,
        /// Name (the admission's counts), address and role.
        member: Member,
        /// The clock of who decided.
        now: UnixSeconds,
    },
    /// Takes a member out.
    Remove {
        /// Which.
        node: NodeName,
        /// The last of its lives that was seen: 0 if none was.
        generation: u64,
    },
    /// Says what is wanted of a member.
    Wish {
        /// Which.
        node: NodeName,
        /// What.
        wish: Wish,
    },
}

/// What an operator wants of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// Connections.
    #[default]
    Serve,
    /// No new ones, and no lease.
    Cordon,
    /// The same, and what it has ends.
    Drain,
}

/// What a change of the roster came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RosterOutcome {
    /// It is a member, under this number.
    Admitted(NodeId),
    /// Done.
    Done,
    /// It is no member any more; it was this one.
    Removed(NodeId),
    /// There is no such member, or no such token.
    Unknown,
    /// The cluster was founded already.
    Founded,
    /// There are [`MAX_MEMBERS`] or [`MAX_TOKENS`] already.
    Full,
    /// Not taken in.
    Refused(Refusal),
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number in the log.
    pub id: NodeId,
    /// Its name, address and role.
    pub member: Member,
    /// What is wanted of it.
    pub wish: Wish,
}

/// The roster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    nodes: BTreeMap<NodeName, Entry>,
    members: Members,
    tokens: Tokens,
    /// Of who was removed, the last life.
    former: BTreeMap<NodeName, u64>,
    /// Counts the changes of who is a member and what is wanted of it.
    revision: u64,
}

impl Roster {
    /// All members, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &Entry)> {
        self.nodes.iter()
    }

    /// A member.
    #[must_use]
    pub fn get(&self, node: &NodeName) -> Option<&Entry> {
        self.nodes.get(node)
    }

    /// The name of a member.
    #[must_use]
    pub fn name(&self, id: NodeId) -> Option<&NodeName> {
        self.nodes
            .iter()
            .find(|(_, entry)| entry.id == id)
            .map(|(name, _)| name)
    }

    /// Who is accepted, by name and key.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The tokens that are remembered.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who was removed, with the last life that was seen of each.
    pub fn former(&self) -> impl Iterator<Item = (&NodeName, u64)> {
        self.former.iter().map(|(node, generation)| (node, *generation))
    }

    /// Grows when somebody comes or goes, or something else is wanted of somebody.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn apply(&mut self, index: u64, command: &RosterCommand) -> RosterOutcome {
        let outcome = self.change(index, command);
        if !matches!(
            (command, &outcome),
            (RosterCommand::IssueToken(_) | RosterCommand::RevokeToken(_), _)
                | (
                    _,
                    RosterOutcome::Unknown
                        | RosterOutcome::Founded
                        | RosterOutcome::Full
                        | RosterOutcome::Refused(_)
                )
        ) {
            self.revision = index;
        }
        outcome
    }

    fn change(&mut self, index: u64, command: &RosterCommand) -> RosterOutcome {
        match command {
            RosterCommand::Found { id, key, member } => {
                if !self.nodes.is_empty() {
                    return RosterOutcome::Founded;
                }
                let Ok(name) = member.name.parse::<NodeName>() else {
                    return RosterOutcome::Unknown;
                };
                self.members.insert(name.clone(), *key);
                self.nodes.insert(name, Entry::new(*id, member.clone()));
                RosterOutcome::Admitted(*id)
            }
            RosterCommand::IssueToken(record) => {
                self.tokens.forget(record.created.minus(TOKEN_MEMORY));
                if self.tokens.iter().count() >= MAX_TOKENS {
                    return RosterOutcome::Full;
                }
                self.tokens.insert(record.clone());
                RosterOutcome::Done
            }
            RosterCommand::RevokeToken(id) => match self.tokens.revoke(*id) {
                true => RosterOutcome::Done,
                false => RosterOutcome::Unknown,
            },
            RosterCommand::Admit {
                admission,
                member,
                now,
            } => self.admit(index, admission, member, *now),
            RosterCommand::Remove { node, generation } => {
                let Some(entry) = self.nodes.remove(node) else {
                    return RosterOutcome::Unknown;
                };
                self.members.remove(node);
                let last = self.former.entry(node.clone()).or_insert(*generation);
                *last = generation.max(last).to_owned();
                RosterOutcome::Removed(entry.id)
            }
            RosterCommand::Wish { node, wish } => match self.nodes.get_mut(node) {
                Some(entry) => {
                    entry.wish = *wish;
                    RosterOutcome::Done
                }
                None => RosterOutcome::Unknown,
            },
        }
    }

    fn admit(
        &mut self,
        index: u64,
        admission: &Admission,
        member: &Member,
        now: UnixSeconds,
    ) -> RosterOutcome {
        if self.nodes.len() >= MAX_MEMBERS && !self.nodes.contains_key(&admission.node) {
            return RosterOutcome::Full;
        }
        if let Err(refusal) = self.tokens.redeem(admission, &mut self.members, now) {
            return RosterOutcome::Refused(refusal);
        }
        let member = Member {
            name: admission.node.to_string(),
            ..member.clone()
        };
        let entry = self
            .nodes
            .entry(admission.node.clone())
            .or_insert_with(|| Entry::new(NodeId(index), member.clone()));
        // The joiner asks again, maybe from elsewhere.
        entry.member = member;
        RosterOutcome::Admitted(entry.id)
    }
}

impl Entry {
    fn new(id: NodeId, member: Member) -> Self {
        Self {
            id,
            member,
            wish: Wish::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use constellation_identity::{Authority, ClusterId, JoinToken, Joining, TokenRecord, decide};

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    fn member(name: &str) -> Member {
        Member {
            name: name.to_owned(),
            address: format!("{name}:8300"),
            ..Member::default()
        }
    }

    fn founded() -> (ClusterId, Authority, Roster) {
        let cluster = ClusterId::generate().unwrap();
        let mut roster = Roster::default();
        let command = RosterCommand::Found {
            id: NodeId(1),
            key: PublicKeyDigest([1; 32]),
            member: member("a"),
        };
        assert_eq!(roster.apply(2, &command), RosterOutcome::Admitted(NodeId(1)));
        assert_eq!(roster.apply(3, &command), RosterOutcome::Founded, "once");
        (cluster, Authority::generate(cluster, NOW).unwrap(), roster)
    }

    fn token(cluster: ClusterId, authority: &Authority) -> (JoinToken, TokenRecord) {
        JoinToken::generate(cluster, authority.pin(), NOW, Duration::from_secs(3600)).unwrap()
    }

    #[test]
    fn a_token_takes_one_node_in_and_a_removed_one_stays_out() {
        let (cluster, authority, mut roster) = founded();
        let (token, record) = token(cluster, &authority);
        assert_eq!(
            roster.apply(4, &RosterCommand::IssueToken(record)),
            RosterOutcome::Done
        );
        let joining = Joining::new(token.clone(), name("b")).unwrap();
        let request = joining.request(NOW);
        let admission = decide(&request, cluster, roster.tokens(), roster.members(), NOW).unwrap();
        let admit = RosterCommand::Admit {
            admission,
            member: member("b"),
            now: NOW,
        };
        assert_eq!(roster.apply(9, &admit), RosterOutcome::Admitted(NodeId(9)));
        assert_eq!(
            roster.apply(12, &admit),
            RosterOutcome::Admitted(NodeId(9)),
            "an answer that was lost"
        );
        let before = roster.revision();
        let remove = RosterCommand::Remove {
            node: name("b"),
            generation: 77,
        };
        assert_eq!(roster.apply(13, &remove), RosterOutcome::Removed(NodeId(9)));
        assert_eq!(roster.apply(14, &remove), RosterOutcome::Unknown);
        assert_eq!(roster.revision(), 13);
        assert!(before < 13);
        assert!(matches!(
            roster.apply(15, &admit),
            RosterOutcome::Refused(Refusal::NotAMember { .. })
        ));
        assert_eq!(roster.former().collect::<Vec<_>>(), [(&name("b"), 77)]);
        assert_eq!(roster.name(NodeId(1)), Some(&name("a")));
    }

    #[test]
    fn a_wish_is_about_a_member() {
        let (_, _, mut roster) = founded();
        let wish = |node: &str, wish| RosterCommand::Wish {
            node: name(node),
            wish,
        };
        assert_eq!(roster.apply(5, &wish("x", Wish::Cordon)), RosterOutcome::Unknown);
        assert_eq!(roster.apply(6, &wish("a", Wish::Drain)), RosterOutcome::Done);
        assert_eq!(roster.get(&name("a")).map(|entry| entry.wish), Some(Wish::Drain));
    }
}
