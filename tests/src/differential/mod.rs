//! The same labels and files, the same requests: does the real binary what the real Traefik does?
//!
//! Configurations and requests come from a seed ([`generate`]). Both proxies read them from the same folder and the same
//! Docker engine ([`engine`]), and send to the same back ends ([`backend`]). What clients get and what back ends see is
//! compared ([`compare`]); what is meant to differ is listed ([`accepted`]). `docs/differential.md` tells how to read and
//! repeat a difference.

mod accepted;
mod backend;
mod batch;
mod case;
mod client;
mod compare;
mod engine;
mod generate;
mod pki;
mod reduce;
mod report;
mod side;
mod site;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

pub use generate::About;
pub use report::Report;
pub use side::Second;

use accepted::{Accepted, Pair};
use batch::{Bench, Outcomes};
use case::{Case, Expect, PLACES, Setting};
use compare::{Outcome, Part, compare};
use report::Difference;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// At least so many pairs.
    pub pairs: usize,
    /// Where everything comes from.
    pub seed: u64,
    /// What configurations are about.
    pub about: About,
    /// Only this case.
    pub case: Option<u64>,
    /// What Traefik is compared with.
    pub with: Second,
    /// So many differences are cut down and printed; without any, no logs are kept either.
    pub shown: usize,
    /// Differences are printed as they are, not cut down.
    pub whole: bool,
}

/// A case and its requests as text.
pub fn show(about: &About, seed: u64, number: u64) -> String {
    let case = generate::case(about, seed, number, 0);
    let setting = generate::setting(about, seed, number / PLACES);
    let requests = case.requests.iter().map(ToString::to_string);
    requests.fold(format!("{setting}{case}"), |all, request| all + &request)
}

/// Compares `traefik` and our binary.
///
/// # Panics
/// When one of them does not start, or does not take a configuration.
pub async fn run(traefik: &std::path::Path, plan: &Plan) -> Report {
    let setting = |case: u64| {
        let mut setting = generate::setting(&plan.about, plan.seed, case / PLACES);
        setting.certificate = setting.certificate.filter(|_| plan.with != Second::Provider);
        setting
    };
    let mut bench = Bench::start(traefik, plan.with, &setting(plan.case.unwrap_or(0))).await;
    let started = Instant::now();
    let mut report = Report {
        again: format!("--seed {} --kind {} --with {}", plan.seed, plan.about, plan.with),
        ..Report::default()
    };
    let mut next = plan.case.unwrap_or(0);
    loop {
        let end = match plan.case {
            Some(case) => case + 1,
            None => next + PLACES,
        };
        bench = bench.with(traefik, plan.with, &setting(next)).await;
        let mut cases: Vec<Case> = (next..end)
            .map(|number| generate::case(&plan.about, plan.seed, number, bench.site.number()))
            .collect();
        if plan.with == Second::Provider {
            // A node's document has no private keys: each Traefik has its own certificates.
            cases.iter_mut().for_each(|case| case.certificates.clear());
        }
        next = end;
        let outcomes = bench.run(&cases).await;
        for (case, outcomes) in cases.iter().zip(outcomes) {
            report.judge(case, outcomes, plan.shown, &bench.setting);
        }
        if report.pairs >= plan.pairs || plan.case.is_some() {
            break;
        }
    }
    report.took = started.elapsed();
    if !plan.whole {
        for difference in &mut report.differences {
            bench = bench.with(traefik, plan.with, &difference.setting).await;
            reduce::reduce(&bench, difference).await;
        }
    }
    if plan.shown > 0 && !report.holds() {
        report.kept = Some(bench.keep());
    }
    report
}

impl Report {
    fn judge(&mut self, case: &Case, outcomes: Vec<Outcomes>, shown: usize, setting: &Setting) {
        self.cases += 1;
        let same_shares = case.expect == Expect::Shares && shares(&outcomes, 0) == shares(&outcomes, 1);
        for (request, [theirs, ours]) in case.requests.iter().zip(outcomes) {
            self.pairs += 1;
            self.forwarded += usize::from(!theirs.received.is_empty());
            if let Ok(answer) = &theirs.answer {
                *self.statuses.entry(answer.status).or_default() += 1;
            }
            let pair = Pair {
                case,
                request,
                theirs: &theirs,
                ours: &ours,
            };
            let mut parts = compare(&theirs, &ours);
            let one_each = theirs.received.len() == 1 && ours.received.len() == 1;
            if same_shares || (case.expect == Expect::Somebody && one_each) {
                parts.retain(|part| *part != Part::Backends);
            }
            let (parts, accepted) = unmeant(&pair, parts);
            for name in accepted {
                *self.accepted.entry(name).or_default() += 1;
            }
            if parts.is_empty() {
                continue;
            }
            self.different += 1;
            let status = |outcome: &Outcome| {
                outcome
                    .status()
                    .map_or("none".to_owned(), |status| status.to_string())
            };
            let words: Vec<String> = parts.iter().map(ToString::to_string).collect();
            let kind = format!(
                "{}: {} for {}: {}",
                case.subject,
                status(&ours),
                status(&theirs),
                words.join(", ")
            );
            let (count, _) = self.kinds.entry(kind).or_insert((0, case.number));
            *count += 1;
            // One of each kind, so that many kinds can be seen.
            let kind = |theirs: &Outcome, ours: &Outcome, parts: &[Part]| {
                (theirs.status(), ours.status(), parts.to_vec())
            };
            let seen = self
                .differences
                .iter()
                .any(|other| kind(&other.theirs, &other.ours, &other.parts) == kind(&theirs, &ours, &parts));
            if self.differences.len() < shown && !seen {
                self.differences.push(Difference {
                    setting: setting.clone(),
                    case: case.clone(),
                    request: request.clone(),
                    theirs,
                    ours,
                    parts,
                });
            }
        }
    }
}

/// How many requests each back end got from one of the proxies.
fn shares(outcomes: &[Outcomes], side: usize) -> BTreeMap<SocketAddr, usize> {
    let mut shares = BTreeMap::new();
    for received in outcomes.iter().flat_map(|both| &both[side].received) {
        *shares.entry(received.backend).or_default() += 1;
    }
    shares
}

/// The parts of a difference that nobody meant, and the names of what is accepted.
fn unmeant(pair: &Pair<'_>, parts: Vec<Part>) -> (Vec<Part>, BTreeSet<&'static str>) {
    let mut names = BTreeSet::new();
    let mut left = Vec::new();
    for part in parts {
        match accepted::accepts(pair, &part) {
            Some(Accepted { name, .. }) => drop(names.insert(*name)),
            None => left.push(part),
        }
    }
    (left, names)
}
