//! From a target to the services that get a request: the one it goes to, those that follow, and those that get copies.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use smallvec::SmallVec;

use super::{Child, Failover, HighestRandomWeight, Mirror, Mirroring, Target, Weighted};
use crate::balance::{MAX_CANDIDATES, Standing, rendezvous};
use crate::{Candidates, RequestMeta, Service};

/// Most services that a decision offers, the first included.
pub(crate) const MAX_LEGS: usize = 4;

/// How a decision came to its service through kinds of services, and where the request may go after it.
#[derive(Debug)]
pub struct Via<'s> {
    /// The way to the service that the request goes to first.
    pub way: Way<'s>,
    /// Where it may go on when it failed at every candidate of the services before; at most three.
    pub further: Vec<Leg<'s>>,
    /// Mirrors on the way to the first service.
    pub mirrors: Vec<Mirrored<'s>>,
}

/// A service that can take the request, with its candidates.
#[derive(Debug)]
pub struct Leg<'s> {
    /// The service.
    pub service: &'s Arc<Service>,
    /// At least one endpoint. Nobody on probation is probed by a request that may never come.
    pub candidates: Candidates<'s>,
    /// The way to it.
    pub way: Way<'s>,
}

/// The way from a router's target to a service.
#[derive(Clone, Debug, Default)]
pub struct Way<'s> {
    /// Choices, from the target down.
    pub steps: SmallVec<[Step<'s>; 2]>,
    /// Values of `Set-Cookie` to be added when this service answers, the service's own
    /// ([`Service::set_cookie`]) not included.
    pub cookies: SmallVec<[HeaderValue; 1]>,
}

/// One choice on the way.
#[derive(Clone, Debug)]
pub enum Step<'s> {
    /// A weighted child.
    Weighted {
        /// Where.
        node: &'s Arc<Weighted>,
        /// Which.
        child: &'s Child,
        /// Its sticky cookie says so.
        held: bool,
    },
    /// Main or fallback.
    Failover {
        /// Where.
        node: &'s Arc<Failover>,
        /// The fallback.
        fallback: bool,
    },
    /// The one that answers.
    Mirroring {
        /// Where.
        node: &'s Arc<Mirroring>,
    },
    /// The client's child.
    HighestRandomWeight {
        /// Where.
        node: &'s Arc<HighestRandomWeight>,
        /// Which.
        child: &'s Child,
    },
}

/// A mirror on the way to the service.
#[derive(Debug)]
pub struct Mirrored<'s> {
    /// Says whether bodies are copied, and up to which size.
    pub node: &'s Arc<Mirroring>,
    /// The mirror.
    pub mirror: &'s Mirror,
    /// Whether this request is one of those that are copied.
    pub drawn: bool,
    /// Where the copy goes; `None` when it isn't drawn or no endpoint can serve.
    pub leg: Option<Leg<'s>>,
}

/// As `explain` shows it.
impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weighted { node, child, held } => {
                let why = if *held { ", named by its cookie" } else { "" };
                write!(f, "weighted {} ({}{why})", node.spec.name, child.name)
            }
            Self::Failover { node, fallback } => {
                let which = if *fallback { "fallback" } else { "main" };
                write!(f, "failover {} ({which})", node.spec.name)
            }
            Self::Mirroring { node } => write!(f, "mirroring {} (main)", node.spec.name),
            Self::HighestRandomWeight { node, child } => {
                write!(f, "highestRandomWeight {} ({})", node.spec.name, child.name)
            }
        }
    }
}

impl Way<'_> {
    /// Whether an answer with this status is to be left to the service that follows (Traefik's `failover.errors`).
    pub fn moves_on(&self, status: u16) -> bool {
        self.errors().any(|errors| errors.covers(status))
    }

    /// Most bytes of a request body that are kept so that it can move on; `None`: as many as the retry policy keeps.
    pub fn replay_bytes(&self) -> Option<u64> {
        self.errors()
            .filter_map(|errors| errors.max_request_body_bytes)
            .max()
    }

    fn errors(&self) -> impl Iterator<Item = &super::FailoverErrors> {
        self.steps.iter().filter_map(|step| match step {
            Step::Failover {
                node,
                fallback: false,
            } => node.spec.errors.as_ref(),
            _ => None,
        })
    }
}

/// What a walk found: the services that can serve, best first, and mirrors; or what speaks for a tree that can't.
pub(crate) struct Walked<'s> {
    pub(crate) legs: Vec<Leg<'s>>,
    pub(crate) mirrors: Vec<Mirrored<'s>>,
    /// The first service that was asked and can't serve.
    pub(crate) failed: Option<Leg<'s>>,
}

/// Walks a tree down for one request. `limit` bounds the candidates of each service.
pub(crate) fn walk<'s>(target: &'s Target, request: &RequestMeta<'_>, limit: usize) -> Walked<'s> {
    let mut walked = Walk::new(request, limit, MAX_LEGS).through(target);
    if let Some(first) = walked.legs.first() {
        walked.mirrors = mirrors(&first.way, request);
    }
    walked
}

struct Walk<'r, 's> {
    request: &'r RequestMeta<'r>,
    /// Most candidates of each service.
    limit: usize,
    /// Most services.
    most: usize,
    way: Way<'s>,
    walked: Walked<'s>,
    /// Services that would use what looks unhealthy: when another one can serve, they come after it.
    panicking: Vec<Leg<'s>>,
}

impl<'r, 's> Walk<'r, 's> {
    fn new(request: &'r RequestMeta<'r>, limit: usize, most: usize) -> Self {
        Self {
            request,
            limit,
            most,
            way: Way::default(),
            walked: Walked {
                legs: Vec::new(),
                mirrors: Vec::new(),
                failed: None,
            },
            panicking: Vec::new(),
        }
    }

    fn through(mut self, target: &'s Target) -> Walked<'s> {
        self.descend(target);
        self.walked.legs.append(&mut self.panicking);
        self.walked.legs.truncate(self.most);
        self.walked
    }

    fn is_full(&self) -> bool {
        self.walked.legs.len() >= self.most
    }

    /// Copies take nobody's turn and are nobody's probe.
    fn standing(&self) -> Standing {
        if self.walked.legs.is_empty() && self.most > 1 {
            Standing::First
        } else {
            Standing::Further
        }
    }

    fn descend(&mut self, target: &'s Target) {
        match target {
            Target::Service(service) => self.arrive(service),
            Target::Weighted(node) => self.weighted(node),
            Target::Failover(node) => {
                for (fallback, target) in [(false, &node.spec.main), (true, &node.spec.fallback)] {
                    self.step(Step::Failover { node, fallback }, None, target);
                }
            }
            Target::Mirroring(node) => self.step(Step::Mirroring { node }, None, &node.spec.main),
            Target::HighestRandomWeight(node) => {
                let children = &node.spec.children;
                let members = node.identities.iter().zip(children).enumerate();
                let members = members.map(|(place, (identity, child))| (place, *identity, child.weight));
                let key = rendezvous::key_of_address(self.request.client);
                for place in rendezvous::order(members, key, usize::MAX) {
                    if let Some(child) = children.get(place) {
                        self.step(Step::HighestRandomWeight { node, child }, None, &child.target);
                    }
                }
            }
        }
    }

    /// Goes one step further down, unless there are enough services.
    fn step(&mut self, step: Step<'s>, cookie: Option<HeaderValue>, target: &'s Target) {
        if self.is_full() {
            return;
        }
        let cookies = self.way.cookies.len();
        self.way.steps.push(step);
        self.way.cookies.extend(cookie);
        self.descend(target);
        self.way.steps.pop();
        self.way.cookies.truncate(cookies);
    }

    fn arrive(&mut self, service: &'s Arc<Service>) {
        let seen = |leg: &Leg<'_>| Arc::ptr_eq(leg.service, service);
        if self.walked.legs.iter().chain(&self.panicking).any(seen) {
            return;
        }
        let leg = Leg {
            service,
            candidates: service.candidates(self.request, self.limit, self.standing()),
            way: self.way.clone(),
        };
        if !leg.candidates.order.is_empty() && leg.candidates.panic {
            self.panicked(leg);
        } else if !leg.candidates.order.is_empty() {
            self.walked.legs.push(leg);
        } else if self.walked.failed.is_none() {
            self.walked.failed = Some(leg);
        }
    }

    /// A service in panic waits until all others had their chance, unless this request is to find out whether it is
    /// back.
    fn panicked(&mut self, mut leg: Leg<'s>) {
        let trial = match self.standing() {
            Standing::First => leg.service.trial(self.request),
            Standing::Further => None,
        };
        if let Some(trial) = trial {
            leg.candidates.order.clear();
            leg.candidates.order.push(trial);
            self.walked.legs.push(leg);
        } else if self.panicking.len() < self.most {
            self.panicking.push(leg);
        }
    }

    fn weighted(&mut self, node: &'s Arc<Weighted>) {
        let sticky = node.sticky.as_ref();
        let held = sticky.and_then(|sticky| sticky.held(self.request.headers));
        let child_of = |place: usize| node.spec.children.get(place).filter(|child| child.weight > 0);
        let position = node.cursor.position(self.request.turn, self.standing());
        let turns = node.schedule.turns(node.spec.children.len(), position);
        let first = held
            .map(|held| held.place)
            .filter(|place| child_of(*place).is_some());
        for place in first
            .into_iter()
            .chain(turns.filter(|place| Some(*place) != first))
        {
            if self.is_full() {
                return;
            }
            let Some(child) = child_of(place) else { continue };
            let kept = held.is_some_and(|held| held.place == place);
            let cookie = sticky.and_then(|sticky| sticky.set_cookie(place, held));
            let step = Step::Weighted {
                node,
                child,
                held: kept,
            };
            self.step(step, cookie, &child.target);
        }
    }
}

/// The mirrors on the way to the first service.
fn mirrors<'s>(way: &Way<'s>, request: &RequestMeta<'_>) -> Vec<Mirrored<'s>> {
    let nodes = way.steps.iter().filter_map(|step| match step {
        Step::Mirroring { node } => Some(*node),
        _ => None,
    });
    nodes
        .flat_map(|node| {
            let turn = node.cursor.position(request.turn, Standing::First);
            node.spec
                .mirrors
                .iter()
                .map(move |mirror| (node, mirror, is_drawn(turn, mirror.percent)))
        })
        .map(|(node, mirror, drawn)| Mirrored {
            node,
            mirror,
            drawn,
            leg: drawn.then(|| copy_to(&mirror.target, request)).flatten(),
        })
        .collect()
}

/// Where a copy goes. A mirror that is a mirroring service passes it to its main one alone.
fn copy_to<'s>(target: &'s Target, request: &RequestMeta<'_>) -> Option<Leg<'s>> {
    let copy = Walk::new(request, MAX_CANDIDATES, 1).through(target);
    copy.legs.into_iter().next()
}

/// Whether request number `turn` is one of `percent` in a hundred, spread evenly.
fn is_drawn(turn: u64, percent: u8) -> bool {
    let place = turn % 100;
    let share = |requests: u64| requests * u64::from(percent.min(100)) / 100;
    share(place + 1) > share(place)
}
