//! The differences that are meant: each with the line of `docs/traefik-compatibility.md` that says so.
//!
//! A predicate is as narrow as it can be: what it does not recognise is a difference that fails the run.

use super::case::Request;
use super::compare::{Outcome, Part};

/// What a predicate looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) request: &'a Request,
    pub(super) theirs: &'a Outcome,
    pub(super) ours: &'a Outcome,
}

/// A difference that is meant.
pub(super) struct Accepted {
    /// A short name for the report.
    pub(super) name: &'static str,
    /// A piece of the line in the documentation.
    pub(super) line: &'static str,
    meant: fn(&Pair<'_>, &Part) -> bool,
}

/// All of them.
pub(super) const ACCEPTED: &[Accepted] = &[
    Accepted {
        name: "accept-encoding",
        line: "`Accept-Encoding: gzip` is added when the client sent none",
        meant: |pair, part| {
            *part == Part::ReceivedHeader("accept-encoding".into())
                && !pair
                    .request
                    .headers
                    .iter()
                    .any(|(name, _)| name.eq_ignore_ascii_case("accept-encoding"))
                && received(pair.ours, "accept-encoding").is_empty()
        },
    },
];

fn received<'o>(outcome: &'o Outcome, name: &str) -> Vec<&'o str> {
    let all = outcome.received.iter().filter_map(|one| one.headers.get(name));
    all.flatten().map(String::as_str).collect()
}

/// The one that covers a part of a difference.
pub(super) fn accepts(pair: &Pair<'_>, part: &Part) -> Option<&'static Accepted> {
    ACCEPTED.iter().find(|accepted| (accepted.meant)(pair, part))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_is_documented_and_has_a_name_of_its_own() {
        let text = include_str!("../../../docs/traefik-compatibility.md");
        let mut names = BTreeSet::new();
        for accepted in ACCEPTED {
            let lines = text.lines().filter(|line| line.contains(accepted.line)).count();
            assert_eq!(
                lines, 1,
                "{}: {:?} stands in {lines} lines",
                accepted.name, accepted.line
            );
            assert!(names.insert(accepted.name), "{} is there twice", accepted.name);
        }
    }
}
