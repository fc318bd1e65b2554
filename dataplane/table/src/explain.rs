//! Why a request goes where it goes: the decision, told step by step.
//!
//! The walk is the one that serves requests, with an observer that writes down what each router said. The report owns
//! its text, so that a node can send it as JSON and the command line can print it; its size is bounded whatever the
//! size of the table.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::decide::{Observer, conclude, walk};
use crate::snapshot::Found;
use crate::{Decision, Endpoint, EntryPointId, Exclusion, RequestMeta, Router, Snapshot, Turn};

mod text;

/// Most routers listed as considered; the best ones are.
const MAX_CONSIDERED: usize = 50;
/// Most matchers named per router.
const MAX_REFUSALS: usize = 8;
/// Most near misses listed.
const MAX_NEAR_MISSES: usize = 10;
/// Most bytes of a value seen in the request.
const MAX_SEEN: usize = 200;

/// A decision with its reasons. `Display` writes it as text for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The generation that was asked.
    pub generation: u64,
    /// What was asked.
    pub request: AskedRequest,
    /// What happens to the request.
    pub outcome: Outcome,
    /// The router that won.
    pub router: Option<RouterLine>,
    /// Its service.
    pub service: Option<String>,
    /// The endpoints in the order they would be tried.
    pub candidates: Vec<EndpointLine>,
    /// The endpoints left out, with the reason.
    pub excluded: Vec<ExcludedLine>,
    /// The routers that were asked, best first; at most 50.
    pub considered: Vec<Considered>,
    /// How many more were asked and are not listed.
    pub considered_more: usize,
    /// How many routers of the same table can't match under this host and were not asked.
    pub other_hosts: usize,
    /// Routers that would take the request on another entry point, or with TLS, or without; at most 10.
    pub near_misses: Vec<NearMiss>,
}

/// The request as the decision saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AskedRequest {
    /// The entry point that would accept it.
    pub entry_point: EntryPointLine,
    /// Over TLS.
    pub tls: bool,
    /// The method.
    pub method: String,
    /// The canonical host.
    pub host: String,
    /// The routing path.
    pub path: String,
    /// The raw query.
    pub query: String,
    /// The client's address.
    pub client: String,
}

/// An entry point; the table knows numbers only, [`Explanation::name_entry_points`] adds the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryPointLine {
    /// Position in the static configuration.
    pub id: u16,
    /// Its name.
    pub name: Option<String>,
}

/// What happens to the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Outcome {
    /// It goes to the first candidate that works.
    Forward,
    /// 503: the route exists, and no endpoint can serve.
    Unavailable {
        /// Seconds of `Retry-After`.
        retry_after: u32,
    },
    /// The router redirects by itself.
    Redirect {
        /// Scheme of the new location.
        scheme: String,
        /// Port of the new location, if it names one.
        port: Option<u16>,
        /// 301 and 308 instead of 302 and 307.
        permanent: bool,
    },
    /// 404: no router matches.
    NoRoute,
}

/// A router in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterLine {
    /// `NAME@PROVIDER`.
    pub name: String,
    /// The rule as written.
    pub rule: String,
    /// Effective priority.
    pub priority: i64,
}

/// An endpoint in the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointLine {
    /// The container's name, or the server's URL.
    pub name: String,
    /// Where it is.
    pub url: String,
}

/// An endpoint that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExcludedLine {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: EndpointLine,
    /// Why.
    pub reason: String,
}

/// A router that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Considered {
    /// The router.
    #[serde(flatten)]
    pub router: RouterLine,
    /// What it said.
    pub verdict: Verdict,
}

/// What became of a router that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Verdict {
    /// It won.
    Won,
    /// It matches too, but another one comes first.
    Outranked {
        /// What put the winner first.
        by: Precedence,
    },
    /// Its rule does not match.
    Refused {
        /// The matchers that said no; at most 8.
        because: Vec<RefusalLine>,
    },
}

/// The first difference between the winner and another router that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Precedence {
    /// A higher priority.
    Priority,
    /// Equal priority, a longer rule.
    RuleLength,
    /// Equal length, exact hosts only.
    ExactHost,
    /// All equal: the name that sorts first.
    Name,
}

/// A matcher that said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusalLine {
    /// The matcher, with `!` in front when it is its match that hurt.
    pub matcher: String,
    /// What the request had instead.
    pub seen: String,
}

/// A router whose rule matches, in a table that was not asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NearMiss {
    /// The router.
    #[serde(flatten)]
    pub router: RouterLine,
    /// Where it answers.
    pub entry_points: Vec<EntryPointLine>,
    /// Whether it answers TLS only, or plain only.
    pub tls: bool,
    /// It is not on the request's entry point.
    pub wrong_entry_point: bool,
    /// It is for TLS and the request is not, or the reverse.
    pub wrong_tls: bool,
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
    let candidates = decision.candidates();
    let asked = transcript.asked.len();
    Explanation {
        generation: snapshot.generation(),
        outcome: Outcome::of(&decision),
        router: winner.map(RouterLine::of),
        service: decision.service().map(|service| service.name.to_string()),
        candidates: candidates
            .iter()
            .flat_map(|candidates| &candidates.order)
            .map(|candidate| EndpointLine::of(candidate.endpoint))
            .collect(),
        excluded: candidates
            .iter()
            .flat_map(|candidates| &candidates.excluded)
            .map(|(endpoint, exclusion)| ExcludedLine {
                endpoint: EndpointLine::of(endpoint),
                reason: exclusion.reason(endpoint).into(),
            })
            .collect(),
        considered: transcript.considered(winner, &request),
        considered_more: asked.saturating_sub(MAX_CONSIDERED),
        other_hosts: snapshot
            .table_len(request.entry_point, request.tls)
            .saturating_sub(asked),
        near_misses: near_misses(snapshot, &request),
        request: AskedRequest::of(&request),
    }
}

/// Writes down who was asked, and lets the walk go on past the winner.
#[derive(Default)]
struct Transcript<'s> {
    asked: Vec<(&'s Arc<Router>, bool)>,
}

impl<'s> Observer<'s> for Transcript<'s> {
    fn asked(&mut self, router: &'s Arc<Router>, matches: bool) -> ControlFlow<()> {
        self.asked.push((router, matches));
        ControlFlow::Continue(())
    }
}

impl Transcript<'_> {
    /// The first [`MAX_CONSIDERED`] routers; the winner takes the last place when it is not among them.
    fn considered(&self, winner: Option<&Arc<Router>>, request: &RequestMeta<'_>) -> Vec<Considered> {
        let won = |router: &Arc<Router>| winner.is_some_and(|winner| Arc::ptr_eq(winner, router));
        let mut listed: Vec<_> = self.asked.iter().take(MAX_CONSIDERED).collect();
        if let Some(late) = self
            .asked
            .iter()
            .skip(MAX_CONSIDERED)
            .find(|(router, _)| won(router))
        {
            listed.pop();
            listed.push(late);
        }
        let verdict = |router: &Arc<Router>, matches: bool| match winner {
            Some(winner) if won(router) => {
                debug_assert!(Arc::ptr_eq(winner, router));
                Verdict::Won
            }
            Some(winner) if matches => Verdict::Outranked {
                by: Precedence::between(winner, router),
            },
            _ => Verdict::Refused {
                because: router
                    .spec
                    .rule
                    .refusals(request)
                    .into_iter()
                    .take(MAX_REFUSALS)
                    .map(|refusal| RefusalLine {
                        matcher: refusal.matcher,
                        seen: shorten(refusal.seen),
                    })
                    .collect(),
            },
        };
        listed
            .into_iter()
            .map(|(router, matches)| Considered {
                router: RouterLine::of(router),
                verdict: verdict(router, *matches),
            })
            .collect()
    }
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
            entry_points: router
                .spec
                .entry_points
                .iter()
                .copied()
                .map(EntryPointLine::of)
                .collect(),
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

impl Precedence {
    fn between(winner: &Router, other: &Router) -> Self {
        let (winner, other) = (crate::snapshot::rank(winner), crate::snapshot::rank(other));
        if winner.0 != other.0 {
            Self::Priority
        } else if winner.1 != other.1 {
            Self::RuleLength
        } else if winner.2 != other.2 {
            Self::ExactHost
        } else {
            Self::Name
        }
    }
}

impl Outcome {
    fn of(decision: &Decision<'_>) -> Self {
        match decision {
            Decision::Forward { .. } => Self::Forward,
            Decision::Unavailable { service, .. } => Self::Unavailable {
                retry_after: service.retry_after,
            },
            Decision::Redirect { redirect, .. } => Self::Redirect {
                scheme: redirect.scheme.to_string(),
                port: redirect.port,
                permanent: redirect.permanent,
            },
            Decision::NoRoute => Self::NoRoute,
        }
    }
}

impl AskedRequest {
    fn of(request: &RequestMeta<'_>) -> Self {
        Self {
            entry_point: EntryPointLine::of(request.entry_point),
            tls: request.tls,
            method: request.method.to_owned(),
            host: request.host.to_owned(),
            path: request.path.to_owned(),
            query: request.query.to_owned(),
            client: request.client.to_string(),
        }
    }
}

impl EntryPointLine {
    fn of(id: EntryPointId) -> Self {
        Self { id: id.0, name: None }
    }
}

impl RouterLine {
    fn of(router: &Arc<Router>) -> Self {
        Self {
            name: router.spec.name.to_string(),
            rule: router.spec.rule.text().to_owned(),
            priority: router.spec.priority,
        }
    }
}

impl EndpointLine {
    fn of(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            name: endpoint.name.to_string(),
            url: endpoint.url(),
        }
    }
}

impl Exclusion {
    /// Why the endpoint was left out, in words.
    pub fn reason(self, endpoint: &Endpoint) -> &str {
        match (self, &endpoint.condition) {
            (Self::NoWeight, _) => "its weight is 0",
            (Self::Unavailable, crate::Condition::Unavailable(reason)) => reason,
            (Self::Unavailable, crate::Condition::Ready) => "unavailable",
        }
    }
}

impl Explanation {
    /// Adds the names of entry points, given in the order of the static configuration.
    pub fn name_entry_points(&mut self, names: &[impl AsRef<str>]) {
        let near = self
            .near_misses
            .iter_mut()
            .flat_map(|near| &mut near.entry_points);
        for line in near.chain([&mut self.request.entry_point]) {
            line.name = names
                .get(usize::from(line.id))
                .map(|name| name.as_ref().to_owned());
        }
    }
}
