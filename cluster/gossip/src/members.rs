//! Who belongs to the cluster, as told from outside: by Raft in the end, by a file or a test until then.

use std::collections::{BTreeMap, BTreeSet};

use constellation_identity::NodeName;

/// Whom to believe. Unlike gossip itself this never comes from a peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    listed: Option<BTreeSet<NodeName>>,
    removed: BTreeMap<NodeName, u64>,
}

impl Members {
    /// Everybody with the key, until the list is known.
    pub fn anybody() -> Self {
        Self::default()
    }

    /// These and nobody else.
    pub fn listed(names: impl IntoIterator<Item = NodeName>) -> Self {
        Self {
            listed: Some(names.into_iter().collect()),
            removed: BTreeMap::new(),
        }
    }

    /// How many there are, if that is known.
    pub fn count(&self) -> Option<usize> {
        self.listed.as_ref().map(BTreeSet::len)
    }

    /// Adds one to the list. If a node of that name was removed, its former lives stay refused.
    pub fn add(&mut self, name: NodeName) {
        self.listed.get_or_insert_default().insert(name);
    }

    /// Removes one up to the life `generation` (`u64::MAX`: whatever its number): no such state of it is seen again.
    pub fn remove(&mut self, name: &NodeName, generation: u64) {
        if let Some(listed) = &mut self.listed {
            listed.remove(name);
        }
        let last = self.removed.entry(name.clone()).or_insert(generation);
        *last = generation.max(*last);
    }

    /// Whether this life of this node is a member.
    pub fn admits(&self, name: &NodeName, generation: u64) -> bool {
        self.listed.as_ref().is_none_or(|listed| listed.contains(name))
            && self.removed.get(name).is_none_or(|last| generation > *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_lives_stay_removed() {
        let name = |text: &str| text.parse::<NodeName>().unwrap();
        let (a, b) = (name("a"), name("b"));
        assert!(Members::anybody().admits(&a, 0));
        let mut members = Members::listed([a.clone(), b.clone()]);
        assert!(members.admits(&a, 5) && !members.admits(&name("c"), 5));
        members.remove(&a, 5);
        members.remove(&a, 3);
        assert!(!members.admits(&a, 5) && !members.admits(&a, 6) && members.admits(&b, 5));
        members.add(a.clone());
        assert!(!members.admits(&a, 5) && members.admits(&a, 6));
        let mut members = Members::anybody();
        members.remove(&b, u64::MAX);
        assert!(!members.admits(&b, u64::MAX) && members.admits(&a, 0));
    }
}
