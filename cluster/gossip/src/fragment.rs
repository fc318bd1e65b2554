//! Messages that are larger than a datagram: cut on one side, put together on the other.
//!
//! A message whose parts don't all arrive is dropped whole: gossip tells it again in the next round. What waits for its
//! rest is bounded in number; the oldest goes first. No clock is needed for that.

use std::collections::VecDeque;

use constellation_identity::NodeName;

use crate::envelope::{PARTS_LIMIT, Part, Sender, room};

/// How many unfinished messages are kept. Each is at most 64 parts of a datagram, by a member: 5 MB at the very worst.
const UNFINISHED_LIMIT: usize = 64;

/// Cuts a message into parts with consecutive sequence numbers. None if it is larger than chitchat ever makes one.
pub(crate) fn cut(sender: &Sender, first: u64, message: &[u8]) -> Option<Vec<Part>> {
    let chunks = message.chunks(room(sender));
    let count = u8::try_from(chunks.len())
        .ok()
        .filter(|count| (1..=PARTS_LIMIT).contains(count))?;
    let part = |(index, body): (u8, &[u8])| Part {
        sender: sender.clone(),
        sequence: first + u64::from(index),
        index,
        count,
        body: body.to_vec(),
    };
    Some((0..count).zip(chunks).map(part).collect())
}

struct Unfinished {
    name: NodeName,
    generation: u64,
    first: u64,
    parts: Vec<Option<Vec<u8>>>,
}

/// Puts parts together. Expects each part once: replays are dropped before.
#[derive(Default)]
pub(crate) struct Assembly(VecDeque<Unfinished>);

impl Assembly {
    /// Takes a part; gives the message when it was the last one missing.
    pub(crate) fn add(&mut self, part: Part) -> Option<Vec<u8>> {
        if part.count == 1 {
            return Some(part.body);
        }
        let first = part.sequence - u64::from(part.index);
        let same = |unfinished: &Unfinished| {
            unfinished.first == first
                && unfinished.generation == part.sender.generation
                && unfinished.name == part.sender.name
                && unfinished.parts.len() == usize::from(part.count)
        };
        let at = match self.0.iter().position(same) {
            Some(at) => at,
            None => {
                if self.0.len() == UNFINISHED_LIMIT {
                    self.0.pop_front();
                }
                self.0.push_back(Unfinished {
                    name: part.sender.name,
                    generation: part.sender.generation,
                    first,
                    parts: vec![None; usize::from(part.count)],
                });
                self.0.len() - 1
            }
        };
        let unfinished = self.0.get_mut(at)?;
        *unfinished.parts.get_mut(usize::from(part.index))? = Some(part.body);
        if unfinished.parts.iter().any(Option::is_none) {
            return None;
        }
        let whole = self.0.remove(at)?;
        Some(whole.parts.into_iter().flatten().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(name: &str) -> Sender {
        Sender {
            name: name.parse().unwrap(),
            generation: 1,
            address: "10.0.0.1:7946".parse().unwrap(),
        }
    }

    fn message(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn messages_of_every_size_in_any_order() {
        for size in [1, 100, 1080, 1200, 20_000, 65_507] {
            let mut parts = cut(&sender("a"), 10, &message(size)).unwrap();
            assert_eq!(parts.last().unwrap().sequence, 10 + parts.len() as u64 - 1);
            parts.reverse();
            let mut assembly = Assembly::default();
            let whole: Vec<_> = parts.into_iter().filter_map(|part| assembly.add(part)).collect();
            assert_eq!(whole, [message(size)]);
            assert!(assembly.0.is_empty());
        }
        assert!(cut(&sender("a"), 0, &[]).is_none());
        assert!(cut(&sender("a"), 0, &message(100_000)).is_none());
    }

    #[test]
    fn messages_are_not_mixed() {
        let (long, longer) = (message(3000), message(4000));
        let mut assembly = Assembly::default();
        let mut whole = Vec::new();
        let parts = [("a", 0, &long), ("b", 0, &longer), ("a", 3, &longer)]
            .map(|(name, first, message)| cut(&sender(name), first, message).unwrap());
        for index in 0..4 {
            whole.extend(
                parts
                    .iter()
                    .filter_map(|parts| assembly.add(parts.get(index)?.clone())),
            );
        }
        assert_eq!(whole, [long, longer.clone(), longer]);
    }

    #[test]
    fn what_never_ends_is_forgotten() {
        let mut assembly = Assembly::default();
        let parts = cut(&sender("a"), 0, &message(3000)).unwrap();
        assert_eq!(assembly.add(parts[0].clone()), None);
        for other in 1..=UNFINISHED_LIMIT as u64 {
            let first = cut(&sender("b"), other * 100, &message(3000))
                .unwrap()
                .swap_remove(0);
            assert_eq!(assembly.add(first), None);
        }
        assert_eq!(assembly.0.len(), UNFINISHED_LIMIT);
        let rest: Vec<_> = parts
            .into_iter()
            .skip(1)
            .filter_map(|part| assembly.add(part))
            .collect();
        assert_eq!(rest, Vec::<Vec<u8>>::new(), "its first part was the oldest");
    }
}
