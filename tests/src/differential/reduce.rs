//! Cuts a case that differs down to what makes it differ.

use super::accepted::Pair;
use super::batch::Bench;
use super::case::Case;
use super::compare::{Part, compare};
use super::report::Difference;
use super::unmeant;

/// Most configurations that are tried for one difference.
const TRIES: usize = 30;

/// Leaves out of a difference's configuration whatever it does without, one thing after the other.
pub(super) async fn reduce(bench: &Bench, difference: &mut Difference) {
    let mut case = difference.case.clone();
    case.requests = vec![difference.request.clone()];
    if !fails(bench, &case, difference).await {
        // It takes what was sent before.
        return;
    }
    let mut tries = 0;
    loop {
        let mut smaller = None;
        for candidate in smaller_ones(&case) {
            tries += 1;
            if tries > TRIES {
                break;
            }
            if fails(bench, &candidate, difference).await {
                smaller = Some(candidate);
                break;
            }
        }
        match smaller {
            Some(candidate) => case = candidate,
            None => break,
        }
    }
    // With the outcomes of what is printed.
    fails(bench, &case, difference).await;
    difference.request = case.requests[0].clone();
    difference.case = case;
}

/// Whether it still differs in something that it differed in; the difference gets the new outcomes.
async fn fails(bench: &Bench, case: &Case, difference: &mut Difference) -> bool {
    let mut outcomes = bench.run(std::slice::from_ref(case)).await;
    let Some([theirs, ours]) = outcomes.pop().and_then(|mut all| all.pop()) else {
        return false;
    };
    let pair = Pair {
        case,
        request: &case.requests[0],
        theirs: &theirs,
        ours: &ours,
    };
    let parts: Vec<Part> = unmeant(&pair, compare(&theirs, &ours)).0;
    let same = parts.iter().any(|part| difference.parts.contains(part));
    if same {
        (difference.theirs, difference.ours, difference.parts) = (theirs, ours, parts);
    }
    same
}

/// The case without one thing.
fn smaller_ones(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    for (section, objects) in &case.http {
        for name in objects.as_object().into_iter().flat_map(|objects| objects.keys()) {
            let mut smaller = case.clone();
            smaller.section(section).remove(name);
            all.push(smaller);
        }
    }
    for index in 0..case.certificates.len() {
        let mut smaller = case.clone();
        smaller.certificates.remove(index);
        all.push(smaller);
    }
    for (name, options) in &case.options {
        for option in options.as_object().into_iter().flat_map(|options| options.keys()) {
            let mut smaller = case.clone();
            smaller.options[name]
                .as_object_mut()
                .map(|options| options.remove(option));
            all.push(smaller);
        }
    }
    for index in 0..case.containers.len() {
        let mut smaller = case.clone();
        smaller.containers.remove(index);
        all.push(smaller);
    }
    for (index, container) in case.containers.iter().enumerate() {
        for label in 0..container.labels.len() {
            let mut smaller = case.clone();
            smaller.containers[index].labels.remove(label);
            all.push(smaller);
        }
    }
    for header in 0..case.requests[0].headers.len() {
        let mut smaller = case.clone();
        let (name, _) = smaller.requests[0].headers.remove(header);
        if !name.eq_ignore_ascii_case("host") {
            all.push(smaller);
        }
    }
    all
}
