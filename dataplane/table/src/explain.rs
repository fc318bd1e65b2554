//! Why a request goes where it goes: the decision, told step by step.
//!
//! The walk is the one that serves requests, with an observer that writes down what each router said. The report owns
//! its text, so that a node can send it as JSON and the command line can print it; its size is bounded whatever the
//! size of the table.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::decide::{Observer, conclude, walk};
use crate::rule::Refusal;
use crate::snapshot::{Found, rank};
use crate::{Candidates, Decision, RequestMeta, Router, Service, Snapshot, Turn, Via};

mod balanced;
mod report;
mod stream;
mod text;

pub use report::{
    AskedRequest, Considered, EndpointLine, EntryPointLine, ExcludedLine, Explanation, FurtherLine,
    MirrorLine, NearMiss, Outcome, Precedence, RefusalLine, RouterLine, Verdict, WayLine,
};
pub use stream::{
    AskedConnection, HttpsLine, MiddlewareLine, MiddlewareVerdict, StreamExplanation, StreamKind,
    StreamOutcome, explain_tcp, explain_udp,
};

/// Most routers listed as considered; the best ones are.
const MAX_CONSIDERED: usize = 50;
/// Most matchers named per router.
const MAX_REFUSALS: usize = 8;
/// Most near misses listed.
const MAX_NEAR_MISSES: usize = 10;
/// Most bytes of a value seen in the request.
const MAX_SEEN: usize = 200;

/// The names of the middlewares of a router.
fn middlewares(router: &Arc<Router>) -> Vec<String> {
    let names = router.spec.middlewares.as_ref().map(|steps| steps.names());
    names
        .unwrap_or_default()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Explains what [`crate::decide`] would do. Only looks: the balancing cursor stays as it is.
pub fn explain(snapshot: &Snapshot, request: &RequestMeta<'_>) -> Explanation {
    let mut request = *request;
    if request.turn == Turn::Take {
        request.turn = Turn::Look;
    }
    let mut transcript = Transcript::default();
    let found = walk(snapshot, &request, &mut transcript);
    let winner = found.map(|found| found.router);
    let decision = found.map_or(Decision::NoRoute, |found| conclude(found, &request, usize::MAX));
    let via = decision.via();
    let reached = decision
        .service()
        .zip(decision.candidates())
        .map(|(service, candidates)| Reached::of(service, candidates, via, request.now))
        .unwrap_or_default();
    let asked = transcript.asked.len();
    Explanation {
        generation: snapshot.generation(),
        outcome: Outcome::of(&decision),
        router: winner.map(RouterLine::of),
        middlewares: winner.map(middlewares).unwrap_or_default(),
        service: reached.service,
        way: reached.way,
        balanced: reached.balanced,
        further: reached.further,
        mirrors: via
            .iter()
            .flat_map(|via| &via.mirrors)
            .map(MirrorLine::of)
            .collect(),
        panic: reached.panic,
        candidates: reached.candidates,
        excluded: reached.excluded,
        considered: transcript.considered(winner, &request),
        considered_more: asked.saturating_sub(MAX_CONSIDERED),
        other_hosts: snapshot
            .table_len(request.entry_point, request.tls)
            .saturating_sub(asked),
        near_misses: near_misses(snapshot, &request),
        request: AskedRequest::of(&request),
    }
}

/// Where a decision leads: what the reports of all kinds of routers have in common.
#[derive(Default)]
struct Reached {
    service: Option<String>,
    way: WayLine,
    balanced: Option<String>,
    further: Vec<FurtherLine>,
    panic: bool,
    candidates: Vec<EndpointLine>,
    excluded: Vec<ExcludedLine>,
}

impl Reached {
    fn of(service: &Service, candidates: &Candidates<'_>, via: Option<&Via<'_>>, now: Instant) -> Self {
        let line = |endpoint| EndpointLine::of(service, endpoint, now);
        Self {
            service: Some(service.name.to_string()),
            way: via.map(|via| WayLine::of(&via.way)).unwrap_or_default(),
            balanced: Some(balanced::by(service, candidates)),
            further: via
                .iter()
                .flat_map(|via| &via.further)
                .map(|leg| FurtherLine::of(leg, now))
                .collect(),
            panic: service.is_panic(now),
            candidates: candidates
                .order
                .iter()
                .map(|candidate| line(candidate.endpoint))
                .collect(),
            excluded: candidates
                .excluded
                .iter()
                .map(|(endpoint, exclusion)| ExcludedLine {
                    endpoint: line(endpoint),
                    fact: *exclusion,
                    reason: exclusion.reason(endpoint).into(),
                })
                .collect(),
        }
    }
}

/// Writes down who was asked, and lets the walk go on past the winner.
struct Transcript<'s, R> {
    asked: Vec<(&'s Arc<R>, bool)>,
}

impl<R> Default for Transcript<'_, R> {
    fn default() -> Self {
        Self { asked: Vec::new() }
    }
}

impl<'s, R> Observer<'s, R> for Transcript<'s, R> {
    fn asked(&mut self, router: &'s Arc<R>, matches: bool) -> ControlFlow<()> {
        self.asked.push((router, matches));
        ControlFlow::Continue(())
    }
}

impl<'s, R> Transcript<'s, R> {
    /// The first [`MAX_CONSIDERED`] routers; the winner takes the last place when it is not among them.
    fn listed(&self, winner: Option<&Arc<R>>) -> Vec<(&'s Arc<R>, bool)> {
        let won = |router: &Arc<R>| winner.is_some_and(|winner| Arc::ptr_eq(winner, router));
        let asked = || self.asked.iter().copied();
        let mut listed: Vec<_> = asked().take(MAX_CONSIDERED).collect();
        if let Some(late) = asked().skip(MAX_CONSIDERED).find(|(router, _)| won(router)) {
            listed.pop();
            listed.push(late);
        }
        listed
    }
}

impl Transcript<'_, Router> {
    fn considered(&self, winner: Option<&Arc<Router>>, request: &RequestMeta<'_>) -> Vec<Considered> {
        let won = |router: &Arc<Router>| winner.is_some_and(|winner| Arc::ptr_eq(winner, router));
        let verdict = |router: &Arc<Router>, matches: bool| match winner {
            Some(winner) if won(router) => {
                debug_assert!(Arc::ptr_eq(winner, router));
                Verdict::Won
            }
            Some(winner) if matches => Verdict::Outranked {
                by: Precedence::between(rank(winner), rank(router)),
            },
            _ => Verdict::Refused {
                because: refusal_lines(router.spec.rule.refusals(request)),
            },
        };
        self.listed(winner)
            .into_iter()
            .map(|(router, matches)| Considered {
                router: RouterLine::of(router),
                verdict: verdict(router, matches),
            })
            .collect()
    }
}

fn refusal_lines(refusals: Vec<Refusal>) -> Vec<RefusalLine> {
    refusals
        .into_iter()
        .take(MAX_REFUSALS)
        .map(|refusal| RefusalLine {
            matcher: refusal.matcher,
            seen: shorten(refusal.seen),
        })
        .collect()
}

/// Routers that match the request but for its entry point or TLS: the commonest mistake.
fn near_misses(snapshot: &Snapshot, request: &RequestMeta<'_>) -> Vec<NearMiss> {
    let mut found: Vec<&Arc<Router>> = Vec::new();
    for (entry_point, tls) in snapshot.table_ids() {
        if (entry_point, tls) == (request.entry_point, request.tls) {
            continue;
        }
        for Found { router, rule, .. } in snapshot.candidates(entry_point, tls, request.host) {
            if found.len() == MAX_NEAR_MISSES {
                break;
            }
            // A router on several entry points is near once, and not at all when it was asked already.
            let here =
                router.spec.tls == request.tls && router.spec.entry_points.contains(&request.entry_point);
            if !here && !found.iter().any(|seen| Arc::ptr_eq(seen, router)) && rule.matches(request) {
                found.push(router);
            }
        }
    }
    found
        .into_iter()
        .map(|router| NearMiss {
            router: RouterLine::of(router),
            entry_points: EntryPointLine::all(&router.spec.entry_points),
            tls: router.spec.tls,
            wrong_entry_point: !router.spec.entry_points.contains(&request.entry_point),
            wrong_tls: router.spec.tls != request.tls,
        })
        .collect()
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_SEEN {
        let end = (0..=MAX_SEEN)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
