//! Which learners become voters. Pure: the leader asks it after every change of members or of progress.

use std::collections::BTreeMap;

use super::{Member, Role};
use crate::state::NodeId;

/// More voters make every write wait for more disks, and outlive no more failures than an operator repairs.
pub const MAX_VOTERS: usize = 5;

/// How far a member has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Who it is.
    pub member: Member,
    /// Whether it votes already.
    pub voter: bool,
    /// The last index that is known to be on its disk.
    pub matched: Option<u64>,
}

/// The learners that should vote now: those which are at most `lag` entries behind `last`, a witness first, then by
/// identity, up to [`MAX_VOTERS`]. None if that would make an even number of voters out of an odd one, except for the
/// second: two voters survive nobody's failure, but a third can't come without them.
#[must_use]
pub fn promotable(members: &BTreeMap<NodeId, Progress>, last: u64, lag: u64) -> Vec<NodeId> {
    let voters = members.values().filter(|one| one.voter).count();
    let caught_up = |one: &Progress| {
        one.matched
            .is_some_and(|matched| matched.saturating_add(lag) >= last)
    };
    let mut ready: Vec<_> = members
        .iter()
        .filter(|(_, one)| !one.voter && caught_up(one))
        .collect();
    ready.sort_by_key(|(id, one)| (one.member.role != Role::Witness, **id));
    let room = MAX_VOTERS.saturating_sub(voters);
    let mut count = ready.len().min(room);
    let total = voters + count;
    if total.is_multiple_of(2) && total > 2 {
        count = count.saturating_sub(1);
    }
    ready.into_iter().take(count).map(|(id, _)| *id).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Member, NodeId, Progress, Role, promotable};

    fn members(members: &[(u64, bool, Option<u64>, Role)]) -> BTreeMap<NodeId, Progress> {
        let one = |(id, voter, matched, role): &(u64, bool, Option<u64>, Role)| {
            let member = Member {
                role: *role,
                ..Member::default()
            };
            (
                NodeId(*id),
                Progress {
                    member,
                    voter: *voter,
                    matched: *matched,
                },
            )
        };
        members.iter().map(one).collect()
    }

    #[test]
    fn learners_that_caught_up_vote_up_to_five_and_in_odd_numbers() {
        use Role::{Node, Witness};
        let voter = |id| (id, true, Some(100), Node);
        let ready = |id| (id, false, Some(98), Node);
        let behind = |id| (id, false, Some(97), Node);
        let new = |id| (id, false, None, Node);
        let cases: [(&str, Vec<_>, Vec<u64>); 8] = [
            ("the second", vec![voter(1), ready(2)], vec![2]),
            (
                "second and third at once",
                vec![voter(1), ready(2), ready(3)],
                vec![2, 3],
            ),
            ("the third", vec![voter(1), voter(2), ready(3)], vec![3]),
            (
                "no fourth alone",
                vec![voter(1), voter(2), voter(3), ready(4)],
                vec![],
            ),
            (
                "fourth and fifth",
                vec![voter(1), voter(2), voter(3), ready(4), ready(5), ready(6)],
                vec![4, 5],
            ),
            (
                "five are enough",
                vec![voter(1), voter(2), voter(3), voter(4), voter(5), ready(6)],
                vec![],
            ),
            (
                "not one that is behind or silent",
                vec![voter(1), behind(2), new(3)],
                vec![],
            ),
            (
                "a witness first",
                vec![voter(1), voter(2), ready(3), (4, false, Some(100), Witness)],
                vec![4],
            ),
        ];
        for (name, given, expected) in cases {
            let expected: Vec<_> = expected.into_iter().map(NodeId).collect();
            assert_eq!(promotable(&members(&given), 100, 2), expected, "{name}");
        }
    }
}
