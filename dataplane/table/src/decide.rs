//! The decision: a pure function of one snapshot and one request.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{Endpoint, RequestMeta, Router, Service, Snapshot};

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

/// The endpoints of a service, in the order to try, and those left out. No allocation up to eight endpoints.
#[derive(Debug, Default)]
pub struct Candidates<'s> {
    /// Usable endpoints, best first.
    pub order: SmallVec<[Candidate<'s>; 8]>,
    /// Endpoints left out, with the reason.
    pub excluded: SmallVec<[(&'s Arc<Endpoint>, Exclusion); 4]>,
}

/// One usable endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'s> {
    /// The endpoint.
    pub endpoint: &'s Arc<Endpoint>,
}

/// Why an endpoint was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// Its [`crate::Condition`] says unavailable.
    Unavailable,
    /// Its weight is zero.
    NoWeight,
}

/// Decides one request. Pure but for the balancing cursor, which advances only with [`crate::Turn::Take`].
pub fn decide<'s>(_snapshot: &'s Snapshot, _request: &RequestMeta<'_>) -> Decision<'s> {
    Decision::NoRoute
}
