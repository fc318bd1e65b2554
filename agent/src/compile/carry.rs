//! Walks a new document beside the one it replaces, so that what did not change is carried over instead of rebuilt.

use std::collections::{BTreeMap, btree_map};
use std::iter::{Peekable, Zip};
use std::vec;

/// The definitions of the last compile, in name order, each with what compile made of it.
pub(super) struct Previous<'a, D, E> {
    entries: Option<Peekable<Entries<'a, D, E>>>,
    gone: Vec<E>,
}

/// Every definition beside what was made of it.
type Entries<'a, D, E> = Zip<btree_map::Iter<'a, String, D>, vec::IntoIter<E>>;

impl<'a, D, E> Previous<'a, D, E> {
    /// `entries` is what the last compile made of `definitions`, one entry each, in the same order.
    pub(super) fn new(definitions: &'a BTreeMap<String, D>, entries: Vec<E>) -> Self {
        debug_assert_eq!(definitions.len(), entries.len());
        Self {
            entries: Some(definitions.iter().zip(entries).peekable()),
            gone: Vec::new(),
        }
    }

    /// Nothing was compiled before.
    pub(super) fn none() -> Self {
        Self {
            entries: None,
            gone: Vec::new(),
        }
    }

    /// The definition called `name` in the last compile. Names must be asked for in ascending order.
    pub(super) fn take(&mut self, name: &str) -> Option<(&'a D, E)> {
        let entries = self.entries.as_mut()?;
        while let Some((_, entry)) = entries.next_if(|((old, _), _)| old.as_str() < name) {
            self.gone.push(entry);
        }
        entries
            .next_if(|((old, _), _)| old.as_str() == name)
            .map(|((_, definition), entry)| (definition, entry))
    }

    /// What the last compile had and nobody took.
    pub(super) fn finish(mut self) -> Vec<E> {
        if let Some(entries) = self.entries {
            self.gone.extend(entries.map(|(_, entry)| entry));
        }
        self.gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_equals_and_reports_what_is_gone() {
        let definitions: BTreeMap<String, u8> = [("a", 1), ("c", 3), ("d", 4), ("f", 6)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let entries = vec!["A", "C", "D", "F"];
        let mut previous = Previous::new(&definitions, entries);
        assert_eq!(previous.take("b"), None);
        assert_eq!(previous.take("c"), Some((&3, "C")));
        assert_eq!(previous.take("e"), None);
        assert_eq!(previous.finish(), ["A", "D", "F"]);
        assert_eq!(Previous::<u8, u8>::none().take("a"), None);
    }
}
