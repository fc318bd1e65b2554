//! The report of `explain` as data: what a node sends as JSON and the command line prints.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::{
    Decision, Endpoint, EntryPointId, Exclusion, Leg, Mirrored, RequestMeta, Router, Service, Standing, Way,
};

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
    /// What the router does with the request before that, and with the response after it; in the order in which
    /// requests meet them. Whether one of them answers is not foretold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<String>,
    /// Its service.
    pub service: Option<String>,
    /// The way to it through kinds of services, from the router down.
    pub way: WayLine,
    /// How its endpoints take turns, and what a sticky cookie says.
    pub balanced: Option<String>,
    /// Services where the request may go on when it failed at all candidates.
    pub further: Vec<FurtherLine>,
    /// Mirrors on the way, with those that would get a copy of this request.
    pub mirrors: Vec<MirrorLine>,
    /// Too few of its endpoints are healthy, so all that are there are used.
    pub panic: bool,
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
    /// The rule as written; empty for a UDP router, which has none.
    pub rule: String,
    /// Effective priority; 0 for a UDP router.
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
    /// What is known of it.
    pub standing: Standing,
    /// Where it is, when the service's endpoints are not all equally far away.
    pub distance: Option<String>,
}

/// The way to a service, choice by choice: `failover app@file (main)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WayLine(pub Vec<String>);

/// A service that follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FurtherLine {
    /// Its name.
    pub service: String,
    /// The way to it.
    pub way: WayLine,
    /// Its endpoints in the order they would be tried.
    pub candidates: Vec<EndpointLine>,
}

/// A mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorLine {
    /// Its name as the definition writes it.
    pub name: String,
    /// Share of requests that are copied.
    pub percent: u8,
    /// Whether this request would be.
    pub drawn: bool,
    /// The service that would get the copy; `None` when none can.
    pub service: Option<String>,
}

/// An endpoint that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExcludedLine {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: EndpointLine,
    /// The fact that keeps it from taking the request.
    pub fact: Exclusion,
    /// Why, in words.
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
    /// Of a TCP router: the connection is HTTPS's.
    Https,
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

impl Outcome {
    pub(super) fn of(decision: &Decision<'_>) -> Self {
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
    pub(super) fn of(request: &RequestMeta<'_>) -> Self {
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
    pub(super) fn of(id: EntryPointId) -> Self {
        Self { id: id.0, name: None }
    }

    pub(super) fn all(ids: &[EntryPointId]) -> Vec<Self> {
        ids.iter().copied().map(Self::of).collect()
    }

    /// Adds the names, given in the order of the static configuration.
    pub(super) fn name<'l>(lines: impl Iterator<Item = &'l mut Self>, names: &[impl AsRef<str>]) {
        for line in lines {
            line.name = names
                .get(usize::from(line.id))
                .map(|name| name.as_ref().to_owned());
        }
    }
}

impl RouterLine {
    pub(super) fn of(router: &Arc<Router>) -> Self {
        Self {
            name: router.spec.name.to_string(),
            rule: router.spec.rule.text().to_owned(),
            priority: router.spec.priority,
        }
    }
}

impl EndpointLine {
    pub(super) fn of(service: &Service, endpoint: &Endpoint, now: Instant) -> Self {
        Self {
            name: endpoint.name.to_string(),
            url: endpoint.url(),
            standing: service.standing(endpoint, now),
            distance: service
                .endpoints
                .iter()
                .any(|other| other.locality != endpoint.locality)
                .then(|| endpoint.locality.to_string()),
        }
    }
}

impl WayLine {
    pub(super) fn of(way: &Way<'_>) -> Self {
        Self(way.steps.iter().map(ToString::to_string).collect())
    }
}

impl FurtherLine {
    pub(super) fn of(leg: &Leg<'_>, now: Instant) -> Self {
        let order = leg.candidates.order.iter();
        Self {
            service: leg.service.name.to_string(),
            way: WayLine::of(&leg.way),
            candidates: order
                .map(|candidate| EndpointLine::of(leg.service, candidate.endpoint, now))
                .collect(),
        }
    }
}

impl MirrorLine {
    pub(super) fn of(mirrored: &Mirrored<'_>) -> Self {
        Self {
            name: mirrored.mirror.name.to_string(),
            percent: mirrored.mirror.percent,
            drawn: mirrored.drawn,
            service: mirrored.leg.as_ref().map(|leg| leg.service.name.to_string()),
        }
    }
}

impl Precedence {
    pub(super) fn between(
        winner: (Reverse<i64>, Reverse<usize>, bool),
        other: (Reverse<i64>, Reverse<usize>, bool),
    ) -> Self {
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

impl Explanation {
    /// Adds the names of entry points, given in the order of the static configuration.
    pub fn name_entry_points(&mut self, names: &[impl AsRef<str>]) {
        let near = self
            .near_misses
            .iter_mut()
            .flat_map(|near| &mut near.entry_points);
        EntryPointLine::name(near.chain([&mut self.request.entry_point]), names);
    }
}
