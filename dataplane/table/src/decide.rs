//! The decision: a pure function of one snapshot and one request.

use std::ops::ControlFlow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::balance::MAX_CANDIDATES;
use crate::live::Probe;
use crate::snapshot::Found;
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

/// Sees the routers of a walk go by.
pub(crate) trait Observer<'s> {
    /// A router was asked and said whether it matches. `Break` ends the walk.
    fn asked(&mut self, router: &'s Arc<Router>, matches: bool) -> ControlFlow<()>;
}

/// The serving path: nobody looks, and the first match ends the walk.
impl<'s> Observer<'s> for () {
    fn asked(&mut self, _: &'s Arc<Router>, matches: bool) -> ControlFlow<()> {
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
    observer: &mut impl Observer<'s>,
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
    match (found.service, &router.spec.action) {
        (Some(service), _) | (None, Action::Forward(service)) => {
            let candidates = service.candidates(request, limit);
            if candidates.order.is_empty() {
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
                }
            }
        }
        (None, Action::Redirect(redirect)) => Decision::Redirect { router, redirect },
    }
}
