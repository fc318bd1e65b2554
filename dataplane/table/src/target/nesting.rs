//! In which order definitions that refer to each other are built, and which of them never end.

use std::collections::{BTreeSet, HashMap};

use super::MAX_DEPTH;

/// Most names of a circle that an error lists.
const MAX_SHOWN: usize = 20;

/// A definition by its qualified name, and what it refers to.
#[derive(Clone, Debug)]
pub struct Definition<'n> {
    /// The qualified name.
    pub name: &'n str,
    /// Qualified names of what it is built of. Names that are not among the definitions end there: services, or
    /// names that don't exist.
    pub uses: Vec<&'n str>,
}

/// The answer of [`nesting`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nesting<'n> {
    /// Names in an order in which everything comes after what it is built of.
    pub order: Vec<&'n str>,
    /// Names that can't be built, with the reason.
    pub refused: Vec<(&'n str, NestingError)>,
}

/// Why definitions that refer to each other can't be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NestingError {
    /// It leads back to itself, or to something that does.
    #[error("it leads into a circle ({}): let one of them refer to another service", path.join(" -> "))]
    Circle {
        /// The circle, its first name again at the end.
        path: Vec<String>,
    },
    /// Too many levels.
    #[error(
        "it nests services more than {MAX_DEPTH} levels deep ({}): refer to the inner services directly",
        path.join(" -> ")
    )]
    TooDeep {
        /// The way down, up to the level that is one too many.
        path: Vec<String>,
    },
}

/// Orders definitions so that each comes after what it is built of; refuses those that lead into a circle or nest too
/// deep. Of several definitions of one name the last counts.
pub fn nesting<'n>(definitions: &[Definition<'n>]) -> Nesting<'n> {
    let by_name: Names<'_, 'n> = definitions
        .iter()
        .map(|definition| (definition.name, definition))
        .collect();
    // How many of what a name uses are still to be built, and who waits for it.
    let mut missing: HashMap<&str, usize> = HashMap::with_capacity(by_name.len());
    let mut waiting: HashMap<&str, Vec<&'n str>> = HashMap::with_capacity(by_name.len());
    for (name, definition) in &by_name {
        missing.insert(name, below(&by_name, definition).count());
        for used in below(&by_name, definition) {
            waiting.entry(used).or_default().push(name);
        }
    }
    let mut levels: HashMap<&str, usize> = HashMap::with_capacity(by_name.len());
    let mut nesting = Nesting::default();
    let mut ready: BTreeSet<&'n str> = missing
        .iter()
        .filter(|(_, missing)| **missing == 0)
        .filter_map(|(name, _)| Some(by_name.get(name)?.name))
        .collect();
    while let Some(name) = ready.pop_first() {
        missing.remove(name);
        let deepest = deepest(&by_name, &levels, name);
        let depth = 1 + deepest.map_or(1, |(_, depth)| depth);
        levels.insert(name, depth);
        if depth > MAX_DEPTH {
            let path = way_down(&by_name, &levels, name);
            nesting.refused.push((name, NestingError::TooDeep { path }));
        } else {
            nesting.order.push(name);
        }
        for waiter in waiting.remove(name).unwrap_or_default() {
            if let Some(count) = missing.get_mut(waiter) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(waiter);
                }
            }
        }
    }
    let mut circling: Vec<&'n str> = missing
        .keys()
        .filter_map(|name| Some(by_name.get(name)?.name))
        .collect();
    circling.sort_unstable();
    for name in circling {
        let path = circle(&by_name, &levels, name);
        nesting.refused.push((name, NestingError::Circle { path }));
    }
    nesting
}

type Names<'d, 'n> = HashMap<&'n str, &'d Definition<'n>>;

/// Those that a definition uses and that are definitions themselves.
fn below<'a, 'n>(
    by_name: &'a Names<'_, 'n>,
    definition: &'a Definition<'n>,
) -> impl Iterator<Item = &'n str> + 'a {
    let uses = definition.uses.iter().copied();
    uses.filter(|used| by_name.contains_key(used))
}

/// The deepest of what is below, with its levels.
fn deepest<'n>(
    by_name: &Names<'_, 'n>,
    levels: &HashMap<&str, usize>,
    name: &str,
) -> Option<(&'n str, usize)> {
    below(by_name, by_name.get(name)?)
        .filter_map(|used| Some((used, *levels.get(used)?)))
        .max_by_key(|(_, levels)| *levels)
}

/// The longest way down from a name, as far as it is short enough to be read.
fn way_down(by_name: &Names<'_, '_>, levels: &HashMap<&str, usize>, name: &str) -> Vec<String> {
    let step = |name: &&str| deepest(by_name, levels, name).map(|(used, _)| used);
    std::iter::successors(by_name.get(name).map(|definition| definition.name), step)
        .take(MAX_DEPTH + 1)
        .map(str::to_owned)
        .collect()
}

/// From a name that was never built down to the first name that comes again.
fn circle(by_name: &Names<'_, '_>, built: &HashMap<&str, usize>, name: &str) -> Vec<String> {
    let mut path: Vec<&str> = Vec::new();
    let mut next = by_name.get(name).map(|definition| definition.name);
    while let Some(name) = next {
        let again = path.contains(&name);
        path.push(name);
        if path.len() > MAX_SHOWN {
            path.push("...");
            break;
        }
        next = by_name
            .get(name)
            .filter(|_| !again)
            .and_then(|definition| below(by_name, definition).find(|used| !built.contains_key(used)));
    }
    path.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(definitions: &[(&'static str, &[&'static str])]) -> Nesting<'static> {
        let definitions: Vec<_> = definitions
            .iter()
            .map(|(name, uses)| Definition {
                name,
                uses: uses.to_vec(),
            })
            .collect();
        nesting(&definitions)
    }

    #[test]
    fn what_is_used_comes_first() {
        let nesting = ask(&[
            ("a", &["b", "c", "s"]),
            ("b", &["c"]),
            ("c", &["s", "t"]),
            ("d", &[]),
        ]);
        assert_eq!(nesting.order, ["c", "b", "a", "d"]);
        assert_eq!(nesting.refused, []);
    }

    #[test]
    fn used_twice_is_no_circle() {
        let nesting = ask(&[("a", &["b", "b"]), ("b", &["s", "s"])]);
        assert_eq!(nesting.order, ["b", "a"]);
    }

    #[test]
    fn circles_are_named_and_hurt_nobody_else() {
        let nesting = ask(&[
            ("a", &["b"]),
            ("b", &["s", "c"]),
            ("c", &["b"]),
            ("d", &["d"]),
            ("e", &["s"]),
        ]);
        assert_eq!(nesting.order, ["e"]);
        let refused: Vec<_> = nesting
            .refused
            .iter()
            .map(|(name, error)| (*name, error.to_string()))
            .collect();
        let want =
            |path: &str| format!("it leads into a circle ({path}): let one of them refer to another service");
        assert_eq!(
            refused,
            [
                ("a", want("a -> b -> c -> b")),
                ("b", want("b -> c -> b")),
                ("c", want("c -> b -> c")),
                ("d", want("d -> d"))
            ]
        );
    }

    #[test]
    fn a_long_chain_is_refused_from_where_it_is_too_deep() {
        let names: Vec<String> = (0..20_000).map(|n| format!("n{n:05}")).collect();
        let definitions: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(n, name)| Definition {
                name,
                uses: names.get(n + 1).map(String::as_str).into_iter().collect(),
            })
            .collect();
        let nesting = nesting(&definitions);
        // The last one refers to services only, which are a level too.
        assert_eq!(nesting.order.len(), MAX_DEPTH - 1);
        assert_eq!(nesting.refused.len(), 20_000 - (MAX_DEPTH - 1));
        let (name, error) = &nesting.refused[0];
        assert_eq!(*name, "n19992");
        assert!(matches!(error, NestingError::TooDeep { path } if path.len() == MAX_DEPTH));
    }
}
