//! Kinds of services: a router leads to a [`Target`], a service or a tree of kinds whose leaves are services.
//!
//! `compile` asks [`nesting`] for the order in which to build them and builds from the leaves up, so that a tree can't
//! contain itself. [`crate::decide`] walks a tree to the leaf that gets the request and to those that follow it when
//! all endpoints of that leaf fail.

use std::sync::Arc;

use crate::balance::{Cursor, Schedule, Sticky, rendezvous};
use crate::policy::StickyCookie;
use crate::{Service, Slot};

mod nesting;
mod walk;

pub use nesting::{Definition, Nesting, NestingError, nesting};
pub(crate) use walk::walk;
pub use walk::{Leg, Mirrored, Step, Via, Way};

/// Most levels of a tree, the service at the leaf included.
pub const MAX_DEPTH: usize = 8;

/// Most leaves of a tree; one that is reached in two ways counts twice.
pub const MAX_LEAVES: usize = 1000;

/// What a router forwards to. Cheap to clone; equal when it is the very same object.
#[derive(Clone, Debug)]
pub enum Target {
    /// A service with endpoints.
    Service(Arc<Service>),
    /// Children by weight.
    Weighted(Arc<Weighted>),
    /// One, and another when that one can't serve.
    Failover(Arc<Failover>),
    /// One that answers, and others that get copies.
    Mirroring(Arc<Mirroring>),
    /// The same client to the same child.
    HighestRandomWeight(Arc<HighestRandomWeight>),
}

/// Why a tree can't be built, in words for whoever wrote the definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is nothing below it.
    #[error("it names no services: write at least one under services")]
    Empty,
    /// Too many levels.
    #[error(
        "it nests services {depth} levels deep, at most {MAX_DEPTH} are allowed: refer to the inner services directly"
    )]
    TooDeep {
        /// Levels it would have.
        depth: usize,
    },
    /// Too many services.
    #[error(
        "it leads to {leaves} services (one that is reached in two ways counts twice), at most {MAX_LEAVES} are allowed"
    )]
    TooLarge {
        /// Leaves it would have.
        leaves: usize,
    },
}

/// A child with its share.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Its name as the definition writes it (`one`, `one@file`); sticky cookies name it by a hash of this, as Traefik's.
    pub name: Arc<str>,
    /// What it leads to.
    pub target: Target,
    /// Share of requests relative to its siblings; 0 gets none.
    pub weight: u32,
}

/// What `compile` says of a `weighted` service.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedSpec {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// The children in definition order.
    pub children: Vec<Child>,
    /// Keeps a client at its child.
    pub sticky: Option<StickyCookie>,
}

/// Smooth weighted round robin over children. A child that can't serve is left out, and its share spreads over the
/// others by their weights; when a request fails at every endpoint of its child, it may go on to the next one.
#[derive(Debug)]
pub struct Weighted {
    /// What `compile` said.
    pub spec: WeightedSpec,
    pub(crate) sticky: Option<Sticky>,
    pub(crate) schedule: Schedule,
    pub(crate) cursor: Arc<Cursor>,
    size: Size,
    /// What the data plane hangs on it.
    pub slot: Slot,
}

/// What `compile` says of a `failover` service.
#[derive(Clone, Debug, PartialEq)]
pub struct FailoverSpec {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// Serves as long as it can.
    pub main: Target,
    /// Serves when `main` can't.
    pub fallback: Target,
    /// Answers of `main` that the fallback is to give instead.
    pub errors: Option<FailoverErrors>,
}

/// Traefik's `failover.errors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverErrors {
    /// Ranges of statuses, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// Most bytes of a request body that are kept for the fallback; `None`: as many as the retry policy keeps.
    pub max_request_body_bytes: Option<u64>,
}

impl FailoverErrors {
    /// Whether an answer with this status is left to the fallback.
    pub fn covers(&self, status: u16) -> bool {
        self.statuses
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&status))
    }
}

/// `main`, and `fallback` while no endpoint of `main` can serve, or for a request that all of them failed.
#[derive(Debug)]
pub struct Failover {
    /// What `compile` said.
    pub spec: FailoverSpec,
    size: Size,
    /// What the data plane hangs on it.
    pub slot: Slot,
}

/// What `compile` says of a `mirroring` service.
#[derive(Clone, Debug, PartialEq)]
pub struct MirroringSpec {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// Answers.
    pub main: Target,
    /// Those that get copies.
    pub mirrors: Vec<Mirror>,
    /// Whether copies carry the request's body (Traefik `mirrorBody`, default true).
    pub mirror_body: bool,
    /// A request with a longer body is not mirrored (Traefik `maxBodySize`, default -1: no limit of its own).
    pub max_body_bytes: Option<u64>,
}

/// One that gets copies.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// Its name as the definition writes it.
    pub name: Arc<str>,
    /// Where copies go. When it is a mirroring service itself, only its main one gets them: copies are not copied.
    pub target: Target,
    /// Share of requests that are copied, 0 to 100.
    pub percent: u8,
}

/// One that answers, and others that get copies whose answers nobody sees.
#[derive(Debug)]
pub struct Mirroring {
    /// What `compile` said.
    pub spec: MirroringSpec,
    pub(crate) cursor: Arc<Cursor>,
    size: Size,
    /// What the data plane hangs on it.
    pub slot: Slot,
}

/// What `compile` says of a `highestRandomWeight` service.
#[derive(Clone, Debug, PartialEq)]
pub struct HighestRandomWeightSpec {
    /// The qualified name, `NAME@PROVIDER`.
    pub name: Arc<str>,
    /// The children in definition order.
    pub children: Vec<Child>,
}

/// The same client address to the same child, by weighted rendezvous hashing: a child that comes or goes moves only
/// its own clients. A child that can't serve is left out.
#[derive(Debug)]
pub struct HighestRandomWeight {
    /// What `compile` said.
    pub spec: HighestRandomWeightSpec,
    /// What stands for each child in hashing.
    pub(crate) identities: Box<[u64]>,
    size: Size,
    /// What the data plane hangs on it.
    pub slot: Slot,
}

/// How large the tree below and with an object is.
#[derive(Clone, Debug)]
struct Size {
    depth: usize,
    leaves: usize,
    /// Speaks for the tree when nothing in it can serve.
    first: Arc<Service>,
}

impl Size {
    fn of(target: &Target) -> Self {
        match target {
            Target::Service(service) => Self {
                depth: 1,
                leaves: 1,
                first: service.clone(),
            },
            Target::Weighted(node) => node.size.clone(),
            Target::Failover(node) => node.size.clone(),
            Target::Mirroring(node) => node.size.clone(),
            Target::HighestRandomWeight(node) => node.size.clone(),
        }
    }

    fn over<'t>(children: impl IntoIterator<Item = &'t Target>) -> Result<Self, TargetError> {
        let below = children.into_iter().map(Self::of).reduce(|a, b| Self {
            depth: a.depth.max(b.depth),
            leaves: a.leaves + b.leaves,
            first: a.first,
        });
        let below = below.ok_or(TargetError::Empty)?;
        let depth = below.depth + 1;
        if depth > MAX_DEPTH {
            return Err(TargetError::TooDeep { depth });
        }
        if below.leaves > MAX_LEAVES {
            return Err(TargetError::TooLarge { leaves: below.leaves });
        }
        Ok(Self { depth, ..below })
    }
}

impl Weighted {
    /// Builds it; `previous` is the same-named one of the last generation, whose cursor goes on.
    pub fn new(spec: WeightedSpec, previous: Option<&Self>) -> Result<Self, TargetError> {
        let size = Size::over(spec.children.iter().map(|child| &child.target))?;
        let names = || spec.children.iter().map(|child| &*child.name);
        Ok(Self {
            sticky: spec.sticky.as_ref().map(|cookie| Sticky::new(cookie, names())),
            schedule: Schedule::smooth(spec.children.iter().map(|child| child.weight)),
            cursor: previous
                .map(|previous| previous.cursor.clone())
                .unwrap_or_default(),
            size,
            slot: Slot::default(),
            spec,
        })
    }
}

impl Failover {
    /// Builds it.
    pub fn new(spec: FailoverSpec) -> Result<Self, TargetError> {
        let size = Size::over([&spec.main, &spec.fallback])?;
        Ok(Self {
            size,
            slot: Slot::default(),
            spec,
        })
    }
}

impl Mirroring {
    /// Builds it; `previous` is the same-named one of the last generation, whose count of copies goes on.
    pub fn new(spec: MirroringSpec, previous: Option<&Self>) -> Result<Self, TargetError> {
        let mirrors = spec.mirrors.iter().map(|mirror| &mirror.target);
        let size = Size::over([&spec.main].into_iter().chain(mirrors))?;
        Ok(Self {
            cursor: previous
                .map(|previous| previous.cursor.clone())
                .unwrap_or_default(),
            size,
            slot: Slot::default(),
            spec,
        })
    }
}

impl HighestRandomWeight {
    /// Builds it.
    pub fn new(spec: HighestRandomWeightSpec) -> Result<Self, TargetError> {
        let size = Size::over(spec.children.iter().map(|child| &child.target))?;
        let identities = spec
            .children
            .iter()
            .map(|child| rendezvous::identity(&child.name));
        Ok(Self {
            identities: identities.collect(),
            size,
            slot: Slot::default(),
            spec,
        })
    }
}

impl Target {
    /// The qualified name, `NAME@PROVIDER`.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Service(service) => &service.name,
            Self::Weighted(node) => &node.spec.name,
            Self::Failover(node) => &node.spec.name,
            Self::Mirroring(node) => &node.spec.name,
            Self::HighestRandomWeight(node) => &node.spec.name,
        }
    }

    /// The kind as Traefik writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Service(_) => "loadBalancer",
            Self::Weighted(_) => "weighted",
            Self::Failover(_) => "failover",
            Self::Mirroring(_) => "mirroring",
            Self::HighestRandomWeight(_) => "highestRandomWeight",
        }
    }

    /// The service, when it is one and not a kind built of others.
    pub fn as_service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Service(service) => Some(service),
            _ => None,
        }
    }

    /// What it is built of, each with the name that its definition uses.
    pub fn children(&self) -> Vec<(&str, &Target)> {
        match self {
            Self::Service(_) => Vec::new(),
            Self::Weighted(node) => named(&node.spec.children),
            Self::HighestRandomWeight(node) => named(&node.spec.children),
            Self::Failover(node) => vec![("service", &node.spec.main), ("fallback", &node.spec.fallback)],
            Self::Mirroring(node) => {
                let mirrors = node
                    .spec
                    .mirrors
                    .iter()
                    .map(|mirror| (&*mirror.name, &mirror.target));
                [("service", &node.spec.main)]
                    .into_iter()
                    .chain(mirrors)
                    .collect()
            }
        }
    }

    /// The services at the leaves, each once, in definition order.
    pub fn services(&self) -> Vec<&Arc<Service>> {
        let mut found: Vec<&Arc<Service>> = Vec::new();
        let mut open = vec![self];
        while let Some(target) = open.pop() {
            match target {
                Self::Service(service) if !found.iter().any(|seen| Arc::ptr_eq(seen, service)) => {
                    found.push(service);
                }
                Self::Service(_) => {}
                kind => open.extend(kind.children().into_iter().rev().map(|(_, child)| child)),
            }
        }
        found
    }

    /// The service that speaks for it when nothing in it can serve.
    pub(crate) fn first(&self) -> &Arc<Service> {
        match self {
            Self::Service(service) => service,
            Self::Weighted(node) => &node.size.first,
            Self::Failover(node) => &node.size.first,
            Self::Mirroring(node) => &node.size.first,
            Self::HighestRandomWeight(node) => &node.size.first,
        }
    }
}

fn named(children: &[Child]) -> Vec<(&str, &Target)> {
    children
        .iter()
        .map(|child| (&*child.name, &child.target))
        .collect()
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Service(a), Self::Service(b)) => Arc::ptr_eq(a, b),
            (Self::Weighted(a), Self::Weighted(b)) => Arc::ptr_eq(a, b),
            (Self::Failover(a), Self::Failover(b)) => Arc::ptr_eq(a, b),
            (Self::Mirroring(a), Self::Mirroring(b)) => Arc::ptr_eq(a, b),
            (Self::HighestRandomWeight(a), Self::HighestRandomWeight(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl From<Arc<Service>> for Target {
    fn from(service: Arc<Service>) -> Self {
        Self::Service(service)
    }
}
