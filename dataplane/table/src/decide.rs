//! The decision: a pure function of one snapshot and one request.

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::balance::{MAX_CANDIDATES, Standing};
use crate::live::Probe;
use crate::service::Carried;
use crate::snapshot::Found;
use crate::target::{self, Target, Via};
use crate::{Action, Endpoint, Exclusion, RequestMeta, Router, Service, Snapshot};

/// What to do with a request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// Forward to the first candidate that works.
    Forward {
        /// The router that won.
        router: &'s Arc<Router>,
        /// Its service.
        service: &'s Arc<Service>,
        /// At least one endpoint, in the order to try.
        candidates: Candidates<'s>,
        /// The way through kinds of services, and where the request may go on; `None`: the router names the service.
        via: Option<Box<Via<'s>>>,
    },
    /// A route exists but nothing can serve it: 503 with `Retry-After`.
    Unavailable {
        /// The router that won.
        router: &'s Arc<Router>,
        /// Its service.
        service: &'s Arc<Service>,
        /// Every endpoint with the reason why it was left out.
        candidates: Candidates<'s>,
    },
    /// The router answers by itself.
    Redirect {
        /// The router that won.
        router: &'s Arc<Router>,
        /// Where to.
        redirect: &'s crate::Redirect,
    },
    /// No router matches: 404.
    NoRoute,
}

impl<'s> Decision<'s> {
    /// The router that won; `None` for 404.
    pub fn router(&self) -> Option<&'s Arc<Router>> {
        match self {
            Self::Forward { router, .. }
            | Self::Unavailable { router, .. }
            | Self::Redirect { router, .. } => Some(router),
            Self::NoRoute => None,
        }
    }

    /// The service of the router that won.
    pub fn service(&self) -> Option<&'s Arc<Service>> {
        match self {
            Self::Forward { service, .. } | Self::Unavailable { service, .. } => Some(service),
            Self::Redirect { .. } | Self::NoRoute => None,
        }
    }

    /// The way through kinds of services; `None` when there are none.
    pub fn via(&self) -> Option<&Via<'s>> {
        match self {
            Self::Forward { via, .. } => via.as_deref(),
            _ => None,
        }
    }

    /// The endpoints to try, and those left out.
    pub fn candidates(&self) -> Option<&Candidates<'s>> {
        match self {
            Self::Forward { candidates, .. } | Self::Unavailable { candidates, .. } => Some(candidates),
            Self::Redirect { .. } | Self::NoRoute => None,
        }
    }
}

/// The endpoints of a service, in the order to try, and those left out. No allocation up to eight endpoints.
#[derive(Debug, Default)]
pub struct Candidates<'s> {
    /// Usable endpoints, best first; at most [`MAX_CANDIDATES`].
    pub order: SmallVec<[Candidate<'s>; 8]>,
    /// Endpoints left out, with the reason.
    pub excluded: SmallVec<[(&'s Arc<Endpoint>, Exclusion); 4]>,
    /// The usable endpoint that the request's sticky cookie names.
    pub held: Option<&'s Arc<Endpoint>>,
    /// What the request's sticky cookie says.
    pub carried: Carried,
    /// Too few endpoints are healthy, so all that are there are candidates.
    pub panic: bool,
}

/// One usable endpoint.
#[derive(Debug)]
pub struct Candidate<'s> {
    /// The endpoint.
    pub endpoint: &'s Arc<Endpoint>,
    /// The endpoint is on probation and this request is its probe. Whoever makes the attempt keeps this until its outcome is recorded;
    /// dropped before, the next request may be the probe.
    pub probe: Option<Probe>,
}

/// Decides one request. Pure but for the balancing cursor, which advances only with [`crate::Turn::Take`].
pub fn decide<'s>(snapshot: &'s Snapshot, request: &RequestMeta<'_>) -> Decision<'s> {
    match walk(snapshot, request, &mut ()) {
        Some(found) => conclude(found, request, MAX_CANDIDATES),
        None => Decision::NoRoute,
    }
}

/// The service of that name with its endpoints, best first, for a proxy in front that has chosen it. `None`: there is no such
/// service.
pub fn decide_service<'s>(
    snapshot: &'s Snapshot,
    service: &str,
    request: &RequestMeta<'_>,
) -> Option<(&'s Arc<Service>, Candidates<'s>)> {
    let service = snapshot.service(service)?;
    let candidates = service.candidates(request, MAX_CANDIDATES, Standing::First);
    Some((service, candidates))
}

/// The service of that name with those of its endpoints that are this node's own, for what another node sends on:
/// endpoints of other nodes are never among them, so that nothing goes round in circles. `None`: there is no such service.
pub fn decide_here<'s>(
    snapshot: &'s Snapshot,
    service: &str,
    request: &RequestMeta<'_>,
) -> Option<(&'s Arc<Service>, Candidates<'s>)> {
    let service = snapshot.service(service)?;
    let mut candidates = service.candidates(request, service.endpoints.len(), Standing::First);
    candidates
        .order
        .retain(|candidate| candidate.endpoint.peer.is_none());
    candidates.order.truncate(MAX_CANDIDATES);
    candidates
        .excluded
        .retain(|(endpoint, _)| endpoint.peer.is_none());
    Some((service, candidates))
}

/// [`decide_service`] for a stream, of which only the client is known.
pub fn decide_stream<'s>(
    snapshot: &'s Snapshot,
    service: &str,
    client: std::net::IpAddr,
    now: std::time::Instant,
) -> Option<(&'s Arc<Service>, Candidates<'s>)> {
    let nowhere = crate::EntryPointId(u16::MAX);
    let request = crate::stream::connection_request(nowhere, client, now, crate::Turn::Take);
    decide_service(snapshot, service, &request)
}

/// [`decide_here`] for a stream, of which only the client is known.
pub fn decide_stream_here<'s>(
    snapshot: &'s Snapshot,
    service: &str,
    client: std::net::IpAddr,
    now: std::time::Instant,
) -> Option<(&'s Arc<Service>, Candidates<'s>)> {
    let nowhere = crate::EntryPointId(u16::MAX);
    let request = crate::stream::connection_request(nowhere, client, now, crate::Turn::Take);
    decide_here(snapshot, service, &request)
}

/// Sees the routers of a walk go by.
pub(crate) trait Observer<'s, R> {
    /// A router was asked and said whether it matches. `Break` ends the walk.
    fn asked(&mut self, router: &'s Arc<R>, matches: bool) -> ControlFlow<()>;
}

/// The serving path: nobody looks, and the first match ends the walk.
impl<'s, R> Observer<'s, R> for () {
    fn asked(&mut self, _: &'s Arc<R>, matches: bool) -> ControlFlow<()> {
        if matches {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Asks the routers that may match, best first, and returns the first that does.
pub(crate) fn walk<'s>(
    snapshot: &'s Snapshot,
    request: &RequestMeta<'_>,
    observer: &mut impl Observer<'s, Router>,
) -> Option<Found<'s>> {
    let mut winner = None;
    for found in snapshot.candidates(request.entry_point, request.tls, request.host) {
        let matches = found.rule.matches(request);
        if matches && winner.is_none() {
            winner = Some(found);
        }
        if observer.asked(found.router, matches).is_break() {
            break;
        }
    }
    winner
}

/// What follows from the winner, with at most `limit` candidates.
pub(crate) fn conclude<'s>(found: Found<'s>, request: &RequestMeta<'_>, limit: usize) -> Decision<'s> {
    let router = found.router;
    if let Some(service) = found.service {
        let candidates = service.candidates(request, limit, Standing::First);
        return if candidates.order.is_empty() {
            Decision::Unavailable {
                router,
                service,
                candidates,
            }
        } else {
            Decision::Forward {
                router,
                service,
                candidates,
                via: None,
            }
        };
    }
    match &router.spec.action {
        Action::Forward(target) => walk_kinds(router, target, request, limit),
        Action::Redirect(redirect) => Decision::Redirect { router, redirect },
    }
}

/// What follows from a tree of kinds.
fn walk_kinds<'s>(
    router: &'s Arc<Router>,
    target: &'s Target,
    request: &RequestMeta<'_>,
    limit: usize,
) -> Decision<'s> {
    let Choice {
        service,
        candidates,
        via,
    } = choose(target, request, limit);
    match via {
        Some(_) => Decision::Forward {
            router,
            service,
            candidates,
            via,
        },
        None => Decision::Unavailable {
            router,
            service,
            candidates,
        },
    }
}

/// A service and its endpoints in the order to try.
#[derive(Debug)]
pub struct Choice<'s> {
    /// The service.
    pub service: &'s Arc<Service>,
    /// The endpoints to try, and those left out.
    pub candidates: Candidates<'s>,
    /// The way through kinds of services, and where it may go on; `None`: the router names the service, or nothing
    /// behind the kinds can serve.
    pub via: Option<Box<Via<'s>>>,
}

/// Where a target leads by itself, for a request that no router sends there.
pub fn decide_target<'s>(target: &'s Target, request: &RequestMeta<'_>) -> Choice<'s> {
    choose(target, request, MAX_CANDIDATES)
}

/// Where a target leads, with at most `limit` candidates for each service.
pub(crate) fn choose<'s>(target: &'s Target, request: &RequestMeta<'_>, limit: usize) -> Choice<'s> {
    if let Some(service) = target.as_service() {
        return Choice {
            service,
            candidates: service.candidates(request, limit, Standing::First),
            via: None,
        };
    }
    let walked = target::walk(target, request, limit);
    let mut legs = walked.legs.into_iter();
    match legs.next() {
        Some(first) => Choice {
            service: first.service,
            candidates: first.candidates,
            via: Some(Box::new(Via {
                way: first.way,
                further: legs.collect(),
                mirrors: walked.mirrors,
            })),
        },
        None => Choice {
            service: walked
                .failed
                .as_ref()
                .map_or(target.first(), |failed| failed.service),
            candidates: walked.failed.map(|failed| failed.candidates).unwrap_or_default(),
            via: None,
        },
    }
}
