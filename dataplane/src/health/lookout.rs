//! One loop per endpoint that is checked, started and stopped as generations come and go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use constellation_table::{Condition, Endpoint, Service, Snapshot};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::connection::Net;
use super::failure::Failure;
use super::schedule::{self, Found, Jitter};
use super::target::{self, Target};
use crate::Published;
use crate::http::Trust;
use crate::liveness::message;

/// Checks under way at once; further ones wait for their turn.
const AT_ONCE: usize = 256;
/// Idle connections kept between checks.
const KEPT: usize = 1024;
/// Back ends and what stands between close connections that are idle for longer.
const KEEP: Duration = Duration::from_secs(60);
/// A loop that ended in a panic starts again after this long.
const REPAIR: Duration = Duration::from_secs(10);

/// Whose state a check concerns, as the newest generation has it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) service: Arc<Service>,
    pub(crate) endpoint: Arc<Endpoint>,
}

/// Takes in what a check found, and says whether the endpoint counts as healthy now.
pub(crate) type Sink = Arc<dyn Fn(&Subject, &Result<(), Failure>) -> bool + Send + Sync>;

/// What all loops share.
struct Shared {
    net: Net,
    sink: Sink,
    /// One for each check under way.
    turns: Semaphore,
    /// One for each connection kept between checks.
    kept: Semaphore,
}

/// All loops.
pub(super) struct Lookout {
    shared: Arc<Shared>,
    loops: HashMap<Identity, Loop>,
    tasks: JoinSet<()>,
    jitter: Jitter,
}

/// A service's name, and the address of what its endpoint keeps through all generations; the loop holds it, so that no
/// other endpoint gets the address meanwhile.
type Identity = (Arc<str>, usize);

/// The checks of one endpoint.
struct Loop {
    target: Arc<Target>,
    subject: watch::Sender<Subject>,
    task: AbortHandle,
}

impl Lookout {
    pub(super) fn new(net: Net, sink: Sink) -> Self {
        Self {
            shared: Arc::new(Shared {
                net,
                sink,
                turns: Semaphore::new(AT_ONCE),
                kept: Semaphore::new(KEPT),
            }),
            loops: HashMap::new(),
            tasks: JoinSet::new(),
            jitter: Jitter::default(),
        }
    }

    /// Follows the published generation until it is dropped, which ends every check.
    pub(super) async fn follow(mut self, published: Published) {
        let mut changes = published.changes();
        loop {
            changes.mark_unchanged();
            self.update(&published.load_full().table);
            loop {
                tokio::select! {
                    // No error: `published` lives.
                    _ = changes.changed() => break,
                    Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                }
            }
        }
    }

    /// Starts what is new, stops what is gone, and leaves the others to themselves.
    fn update(&mut self, table: &Snapshot) {
        let mut wanted = HashSet::new();
        let mut fresh = Vec::new();
        for service in table.services() {
            let Some(check) = &service.policy.health_check else {
                continue;
            };
            // A node checks its own.
            let own = service
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.peer.is_none());
            for endpoint in own {
                // A stopped or leaving endpoint gets no request, whatever a check would find.
                if endpoint.condition != Condition::Ready || !target::can_be_checked(endpoint, check) {
                    continue;
                }
                let identity: Identity = (service.name.clone(), Arc::as_ptr(&endpoint.live).addr());
                if !wanted.insert(identity.clone()) {
                    continue;
                }
                let subject = Subject {
                    service: service.clone(),
                    endpoint: endpoint.clone(),
                };
                match self.loops.get(&identity) {
                    Some(running) if running.target.asks(service, endpoint, check) => {
                        running.subject.send_replace(subject);
                    }
                    _ => fresh.push((identity, subject, check)),
                }
            }
        }
        self.loops.retain(|identity, running| {
            let keep = wanted.contains(identity);
            if !keep {
                running.task.abort();
            }
            keep
        });
        let mut trusts = HashMap::new();
        let count = fresh.len();
        for (identity, subject, check) in fresh {
            let Subject { service, endpoint } = &subject;
            let trust = trusts
                .entry(Arc::as_ptr(&service.transport))
                .or_insert_with(|| Arc::new(Trust::new(&service.transport)))
                .clone();
            let target = Arc::new(Target::new(service, endpoint, check, trust));
            let wait = schedule::first(check, count, self.jitter.next());
            self.start(identity, target, subject, wait);
        }
    }

    fn start(&mut self, identity: Identity, target: Arc<Target>, subject: Subject, wait: Duration) {
        let (subject, current) = watch::channel(subject);
        let task = self
            .tasks
            .spawn(check(self.shared.clone(), target.clone(), current, wait));
        let started = Loop {
            target,
            subject,
            task,
        };
        if let Some(replaced) = self.loops.insert(identity, started) {
            replaced.task.abort();
        }
    }

    /// A loop ends by itself only in a panic: a defect of ours says nothing about the endpoint.
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let Err(error) = ended else { return };
        let found = self
            .loops
            .iter()
            .find(|(_, running)| running.task.id() == error.id());
        let (Ok(panic), Some((identity, running))) = (error.try_into_panic(), found) else {
            return;
        };
        let subject = running.subject.borrow().clone();
        tracing::error!(
            service = %subject.service.name, endpoint = %subject.endpoint.name,
            "a health check panicked: {}; it starts again in {REPAIR:?}", message(&*panic)
        );
        let (identity, target) = (identity.clone(), running.target.clone());
        self.start(identity, target, subject, REPAIR);
    }
}

/// Checks one endpoint for as long as it lives: one check at a time, and none is made up for.
async fn check(shared: Arc<Shared>, target: Arc<Target>, subject: watch::Receiver<Subject>, first: Duration) {
    let mut jitter = Jitter::default();
    let mut connection = None;
    let mut kept = None;
    tokio::time::sleep(first).await;
    // The semaphores are never closed.
    while let Ok(turn) = shared.turns.acquire().await {
        let began = Instant::now();
        let (result, rest) = target.ask(&mut connection, &shared.net).await;
        let good = result.is_ok();
        let current = subject.borrow().clone();
        let healthy = (shared.sink)(&current, &result);
        drop(current);
        if let Some(rest) = rest
            && !rest.settle().await
        {
            connection = None;
        }
        let pause = schedule::pause(&target.check, Found { good, healthy }, jitter.next());
        if pause > KEEP {
            connection = None;
        }
        kept = match connection {
            Some(_) => kept.or_else(|| shared.kept.try_acquire().ok()),
            None => None,
        };
        if kept.is_none() {
            connection = None;
        }
        drop(turn);
        // Slow answers do not make the checks of an endpoint follow each other without a pause.
        sleep_until((began + pause).max(Instant::now() + pause / 10)).await;
    }
}
