//! The differences that are meant: each with the line of `docs/traefik-compatibility.md` that says so.
//!
//! A predicate is as narrow as it can be: what it does not recognise is a difference that fails the run.

mod bodies;
mod containers;
mod middlewares;
mod tls;
mod wire;

use std::collections::BTreeSet;

use super::case::{Case, Request};
use super::client::{Answered, Session};
use super::compare::{Outcome, Part};

/// What a predicate looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) case: &'a Case,
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
pub(super) fn all() -> impl Iterator<Item = &'static Accepted> {
    let parts = [
        wire::ACCEPTED,
        tls::ACCEPTED,
        containers::ACCEPTED,
        middlewares::ACCEPTED,
        bodies::ACCEPTED,
    ];
    parts.into_iter().flatten()
}

/// Whether a middleware of this kind stands several times in a chain.
fn twice(case: &Case, kind: &str) -> bool {
    let subject = &case.subject;
    let kinds = subject.split(", ").filter(|other| *other == kind).count();
    let repeats = |names: Vec<&str>| {
        let one: BTreeSet<&str> = names.iter().copied().collect();
        one.len() < names.len()
    };
    let routers = case.http.get("routers").and_then(|routers| routers.as_object());
    let mut file = routers.into_iter().flatten().map(|(_, router)| {
        let names = router["middlewares"].as_array().into_iter().flatten();
        names.filter_map(|name| name.as_str()).collect()
    });
    let labels = case.containers.iter().flat_map(|container| &container.labels);
    let mut labels = labels
        .filter(|(name, _)| name.to_ascii_lowercase().ends_with(".middlewares"))
        .map(|(_, names)| names.split(',').map(str::trim).collect());
    kinds > 1 || kinds == 1 && (file.any(repeats) || labels.any(repeats))
}

/// What TLS came to at one of them.
fn session(outcome: &Outcome) -> Option<&Session> {
    outcome.answer.as_ref().ok()?.session.as_ref()
}

/// Whether the client spoke HTTP/2.
fn in_two(pair: &Pair<'_>) -> bool {
    let agreed = session(pair.theirs).and_then(|session| session.protocol.as_deref());
    pair.request.prior || agreed == Some("h2")
}

fn received_header(name: &str) -> Part {
    Part::ReceivedHeader(name.to_owned())
}

fn both(pair: &Pair<'_>, status: u16) -> bool {
    [pair.theirs, pair.ours]
        .iter()
        .all(|outcome| outcome.status() == Some(status))
}

/// Whether we refused it for this reason.
fn refused(pair: &Pair<'_>, reason: &str) -> bool {
    let is_this = |answer: &Answered| {
        answer.status == 400 && (answer.body.trim_end() == reason || pair.request.method == "HEAD")
    };
    pair.ours.received.is_empty() && pair.ours.answer.as_ref().is_ok_and(is_this)
}

/// Whether it is about the text of an answer.
fn is_words(part: &Part) -> bool {
    match part {
        Part::Body => true,
        Part::Header(name) => ["content-length", "content-type", "x-content-type-options"].contains(&&**name),
        _ => false,
    }
}

fn received<'o>(outcome: &'o Outcome, name: &str) -> Vec<&'o str> {
    let all = outcome.received.iter().flat_map(|one| one.lines(name));
    all.map(String::as_str).collect()
}

/// The one that covers a part of a difference.
pub(super) fn accepts(pair: &Pair<'_>, part: &Part) -> Option<&'static Accepted> {
    all().find(|accepted| (accepted.meant)(pair, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_documented_and_has_a_name_of_its_own() {
        let text = include_str!("../../../../docs/traefik-compatibility.md");
        let mut names = BTreeSet::new();
        for accepted in all() {
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
