//! The smooth weighted round-robin sequence.

use super::rendezvous::mix;

/// Longest sequence, unless there are more endpoints than this.
const MAX_LEN: u64 = 4096;

/// The smooth weighted round-robin sequence of a service: at position `n` the endpoint `schedule[n % len]` goes first.
///
/// Precomputed, so that a turn costs one index. Empty when no endpoint has a weight above zero.
///
/// One round is as long as the weights' sum after division by their greatest common divisor, and within it every
/// endpoint has exactly its weight's share of turns, spread as evenly as they go. Weights whose sum stays above 4096 are
/// scaled to a round of 4096 turns (or one per endpoint, when there are more endpoints than that): every endpoint
/// keeps at least one turn, and no share is off by more than one turn in 4096 for that, plus what those get that
/// would have had less than one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Sequence);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sequence {
    /// Endpoints 0 to n-1, one turn each: the common case, which needs no table.
    Even(u32),
    /// The endpoint of every turn.
    Table(Box<[u32]>),
}

/// The order of [`Schedule::turns`]. Not a chain of adapters, because every decision runs through it.
#[derive(Debug)]
pub(crate) struct Turns {
    first: Option<usize>,
    second: Option<usize>,
    /// How many of these two were given.
    given: u8,
    /// Where the rotation goes on.
    next: usize,
    /// Members that the rotation did not pass yet.
    left: usize,
    count: usize,
}

impl Iterator for Turns {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.given == 0 {
            self.given = 1;
            return self.first;
        }
        if self.given == 1 {
            self.given = 2;
            if self.second.is_some() {
                return self.second;
            }
        }
        while self.left > 0 {
            let member = self.next;
            self.left -= 1;
            self.next = if member + 1 >= self.count { 0 } else { member + 1 };
            if Some(member) != self.first && Some(member) != self.second {
                return Some(member);
            }
        }
        None
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self(Sequence::Even(0))
    }
}

impl Schedule {
    /// Spreads the endpoints evenly by weight.
    pub fn smooth(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut weights: Vec<(u32, u64)> = (0u32..)
            .zip(weights)
            .filter(|(_, weight)| *weight > 0)
            .map(|(i, w)| (i, w.into()))
            .collect();
        let even = (0u32..).zip(&weights).all(|(place, (index, weight))| {
            place == *index && weights.first().is_some_and(|first| first.1 == *weight)
        });
        if even && let Ok(count) = u32::try_from(weights.len()) {
            return Self(Sequence::Even(count));
        }
        reduce(&mut weights);
        Self(Sequence::Table(spread(&weights)))
    }

    /// The index of the endpoint whose turn `position` is.
    pub fn at(&self, position: u64) -> Option<usize> {
        let turn = usize::try_from(position.checked_rem(self.len())?).ok()?;
        match &self.0 {
            Sequence::Even(_) => Some(turn),
            Sequence::Table(table) => usize::try_from(*table.get(turn)?).ok(),
        }
    }

    /// How many full rounds lie before `position`.
    pub(crate) fn round(&self, position: u64) -> u64 {
        position.checked_div(self.len()).unwrap_or(0)
    }

    /// All of `count` members, each once: the one whose turn it is, then a second choice drawn by weight, then the
    /// others in a rotation that moves on with every turn. So when a member fails without anybody knowing yet, its
    /// requests spread over its siblings instead of all falling on one. Empty when nobody has a weight.
    #[inline]
    pub(crate) fn turns(&self, count: usize, position: u64) -> Turns {
        let first = self.at(position);
        let (mut second, mut start) = (None, 0);
        // With two, whoever is left comes second.
        if let Some(first) = first.filter(|_| count > 2) {
            second = (1..=4)
                .filter_map(|draw| self.at(scramble(position, draw)))
                .find(|second| *second != first);
            let turn = self.round(position).wrapping_add(position);
            start = u64::try_from(count)
                .ok()
                .and_then(|count| usize::try_from(turn.checked_rem(count)?).ok())
                .unwrap_or(0);
        }
        Turns {
            first,
            second,
            given: 0,
            next: start,
            left: if first.is_some() { count } else { 0 },
            count,
        }
    }

    /// Turns in a round.
    fn len(&self) -> u64 {
        match &self.0 {
            Sequence::Even(count) => u64::from(*count),
            Sequence::Table(table) => u64::try_from(table.len()).unwrap_or(u64::MAX),
        }
    }
}

/// A well mixed number from a position and a draw.
pub(crate) fn scramble(position: u64, draw: u64) -> u64 {
    mix(position.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

/// Divides by the greatest common divisor, then scales to the longest sequence if need be.
fn reduce(weights: &mut [(u32, u64)]) {
    let divisor = weights
        .iter()
        .fold(0, |divisor, (_, weight)| gcd(divisor, *weight));
    for (_, weight) in weights.iter_mut() {
        *weight /= divisor.max(1);
    }
    let sum: u64 = weights.iter().map(|(_, weight)| *weight).sum();
    let turns = MAX_LEN.max(u64::try_from(weights.len()).unwrap_or(u64::MAX));
    if sum <= turns {
        return;
    }
    // Largest remainders: everybody gets the whole part of the share, at least one turn; what is left goes to those
    // whose share was cut most. Weights are at most 2^32 and turns at most 2^32, so nothing overflows.
    let mut remainders: Vec<(u64, usize)> = Vec::with_capacity(weights.len());
    let mut given = 0;
    for (place, (_, weight)) in weights.iter_mut().enumerate() {
        let share = *weight * turns;
        *weight = (share / sum).max(1);
        given += *weight;
        if share >= sum {
            remainders.push((share % sum, place));
        }
    }
    remainders.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = usize::try_from(turns.saturating_sub(given)).unwrap_or(0);
    for (_, place) in remainders.into_iter().take(left) {
        if let Some((_, weight)) = weights.get_mut(place) {
            *weight += 1;
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Endpoints of one weight, taking turns within the turns of the group.
struct Group {
    weight: u64,
    members: Vec<u32>,
    next: usize,
    /// Credit: what the group was owed up to now less what it got.
    credit: i128,
}

/// Smooth weighted round robin: every step each group earns the weight of its members, and the group with the most
/// credit takes the turn and pays the whole sum. Groups rather than endpoints, because a round has few distinct
/// weights (their sum bounds their number) and may have many endpoints.
fn spread(weights: &[(u32, u64)]) -> Box<[u32]> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, weight) in weights {
        match groups.iter_mut().find(|group| group.weight == *weight) {
            Some(group) => group.members.push(*index),
            None => groups.push(Group {
                weight: *weight,
                members: vec![*index],
                next: 0,
                credit: 0,
            }),
        }
    }
    let earns = |group: &Group| i128::from(group.weight) * i128::try_from(group.members.len()).unwrap_or(0);
    let sum: i128 = groups.iter().map(earns).sum();
    let mut sequence = Vec::with_capacity(usize::try_from(sum).unwrap_or(0));
    for _ in 0..sum {
        for group in &mut groups {
            group.credit += earns(group);
        }
        // The first of equals, so that equal weights go in definition order.
        let Some(group) = groups
            .iter_mut()
            .reduce(|best, group| if group.credit > best.credit { group } else { best })
        else {
            break;
        };
        group.credit -= sum;
        sequence.extend(group.members.get(group.next));
        group.next = (group.next + 1) % group.members.len();
    }
    sequence.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(weights: &[u32]) -> Vec<u32> {
        let schedule = Schedule::smooth(weights.iter().copied());
        (0..schedule.len())
            .map(|position| u32::try_from(schedule.at(position).unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn sequences() {
        let cases: &[(&[u32], &[u32])] = &[
            (&[], &[]),
            (&[0, 0], &[]),
            (&[7], &[0]),
            (&[1, 1, 1], &[0, 1, 2]),
            (&[0, 3, 3], &[1, 2]),
            (&[2, 1], &[0, 1, 0]),
            (&[20, 10], &[0, 1, 0]),
            (&[3, 1], &[0, 0, 1, 0]),
            (&[5, 1, 1], &[0, 1, 0, 0, 0, 2, 0]),
            (&[1_000_000, 500_000], &[0, 1, 0]),
        ];
        for (weights, want) in cases {
            assert_eq!(round(weights), *want, "{weights:?}");
        }
    }

    #[test]
    fn two_to_one_is_twenty_to_ten_of_thirty() {
        let schedule = Schedule::smooth([2, 1]);
        let first = (0..30)
            .filter(|position| schedule.at(*position) == Some(0))
            .count();
        assert_eq!(first, 20);
    }

    #[test]
    fn silly_weights_keep_everybody_and_stay_short() {
        let sequence = round(&[u32::MAX, 1, 1_000_003]);
        assert!(sequence.len() <= 4098, "{}", sequence.len());
        assert!((0..3).all(|index| sequence.contains(&index)));
    }

    #[test]
    fn more_endpoints_than_sixteen_bits() {
        let sequence = round(&vec![1; 70_000]);
        assert_eq!(sequence.len(), 70_000);
        assert_eq!(sequence.last(), Some(&69_999));
    }

    proptest! {
        #[test]
        fn a_round_holds_every_weight_exactly(weights in prop::collection::vec(0u32..40, 0..20)) {
            let sequence = round(&weights);
            let divisor = weights.iter().fold(0, |d, w| gcd(d, u64::from(*w))).max(1);
            for (index, weight) in weights.iter().enumerate() {
                let turns = sequence.iter().filter(|i| **i as usize == index).count();
                prop_assert_eq!(turns as u64, u64::from(*weight) / divisor);
            }
        }

        #[test]
        fn scaled_shares_stay_close(weights in prop::collection::vec(1u32..=1_000_000, 1..40)) {
            let sequence = round(&weights);
            let sum: f64 = weights.iter().copied().map(f64::from).sum();
            let tiny = weights.iter().filter(|w| f64::from(**w) * 4096.0 < sum).count();
            for (index, weight) in weights.iter().enumerate() {
                let turns = sequence.iter().filter(|i| **i as usize == index).count();
                prop_assert!(turns > 0);
                let off = (turns as f64 / sequence.len() as f64 - f64::from(*weight) / sum).abs();
                prop_assert!(off <= (1.0 + tiny as f64) / 4096.0, "{weight}: off by {off}");
            }
        }
    }
}
