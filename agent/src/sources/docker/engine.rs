//! One connection to the engine: subscribe, list, inspect, then follow events.
//!
//! Events are subscribed to before the list is read, and from a moment before it, so that nothing falls in between.
//! What an event says of a container that leaves is published at once ([`super::event`]). What an event names is
//! inspected again, nothing else; inspections run side by side and each has its own time limit,
//! so that one container the engine is stuck on holds up no other. Every [`DRIFT_CHECK`] the list is compared with what
//! is known, in case an event was lost.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime};

use bollard::Docker;
use bollard::errors::Error as ClientError;
use bollard::models::{ContainerInspectResponse, EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use constellation_config::DockerProvider;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{Stream, StreamExt};
use tokio::time::{MissedTickBehavior, timeout};

use super::container::Container;
use super::drift::differs;
use super::endpoint::Endpoint;
use super::event::Event;
use super::failure::{ConnectError, concerns_one};
use super::inventory::{Inventory, Now};
use super::policy::Policy;
use crate::sources::{Reload, publication::Publication};

/// How often the list is compared with what is known.
const DRIFT_CHECK: Duration = Duration::from_secs(10);

/// What a request may take when `httpClientTimeout` says nothing.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What one inspection may take. The engine answers within milliseconds unless it is stuck on that container.
const INSPECT_LIMIT: Duration = Duration::from_secs(5);

/// Inspections that run side by side.
const MAX_IN_FLIGHT: usize = 16;

/// After a publication the next one waits this long, so that a hundred containers that start together make a few
/// generations rather than a hundred. The first change after a rest is published at once.
const PUBLISH_GAP: Duration = Duration::from_millis(100);

/// How far before the list the event stream starts, for the engine's clock may be behind.
const OVERLAP: Duration = Duration::from_secs(2);

/// The events that can change a route. The others (every run of a health check makes three) are filtered by the engine.
const EVENTS: [&str; 14] = [
    "create",
    "start",
    "kill",
    "die",
    "oom",
    "stop",
    "pause",
    "unpause",
    "rename",
    "destroy",
    "update",
    "health_status",
    "connect",
    "disconnect",
];

type Inspection =
    Pin<Box<dyn Future<Output = (String, Result<ContainerInspectResponse, ClientError>)> + Send>>;

/// A connection that works.
pub(super) struct Engine {
    client: Docker,
    endpoint: Endpoint,
    limit: Duration,
}

/// What is being done on a connection.
struct Follow<'a> {
    engine: &'a Engine,
    inventory: &'a mut Inventory,
    policy: &'a Policy,
    publication: &'a mut Publication,
    /// To be inspected.
    dirty: BTreeSet<String>,
    in_flight: FuturesUnordered<Inspection>,
    /// Ids behind `in_flight`.
    inspecting: BTreeSet<String>,
    /// What is known has changed since the last publication.
    changed: bool,
    /// When the next publication may be.
    publish_from: Instant,
}

impl Engine {
    /// Connects and negotiates the API version.
    pub(super) async fn connect(provider: &DockerProvider) -> Result<Self, ConnectError> {
        let limit = provider
            .http_client_timeout
            .filter(|limit| !limit.is_zero())
            .unwrap_or(REQUEST_LIMIT);
        let runtime = std::env::var("XDG_RUNTIME_DIR").ok();
        let endpoint = Endpoint::resolve(provider, runtime, |path| path.exists())?;
        let client = endpoint.connect(limit).await?;
        Ok(Self {
            client,
            endpoint,
            limit,
        })
    }

    /// Where it is.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Reads everything, publishes, and follows until the connection fails. Cancellation safe: what was read before
    /// stays in `inventory`.
    pub(super) async fn follow(
        &self,
        inventory: &mut Inventory,
        policy: &Policy,
        publication: &mut Publication,
        reload: &Reload,
    ) -> ConnectError {
        let mut follow = Follow {
            engine: self,
            inventory,
            policy,
            publication,
            dirty: BTreeSet::new(),
            in_flight: FuturesUnordered::new(),
            inspecting: BTreeSet::new(),
            changed: false,
            publish_from: Instant::now(),
        };
        match follow.run(reload).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn events(&self, since: SystemTime) -> BoxStream<'static, Result<EventMessage, ClientError>> {
        let since = since
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let filters = HashMap::from([("type", vec!["container", "network"]), ("event", EVENTS.to_vec())]);
        let options = EventsOptionsBuilder::default()
            .since(&since.to_string())
            .filters(&filters);
        let client = self.client.clone();
        client.events(Some(options.build())).boxed()
    }

    async fn list(&self) -> Result<Vec<bollard::models::ContainerSummary>, ConnectError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        match timeout(self.limit, self.client.list_containers(Some(options))).await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(error)) => Err(ConnectError::from_client(&self.endpoint, &error)),
            Err(_) => Err(ConnectError::Silent {
                endpoint: self.endpoint.to_string(),
                limit: self.limit,
            }),
        }
    }

    fn inspect(&self, id: String) -> Inspection {
        let client = self.client.clone();
        let limit = self.limit.min(INSPECT_LIMIT);
        Box::pin(async move {
            let result = timeout(limit, client.inspect_container(&id, None)).await;
            (id, result.unwrap_or(Err(ClientError::RequestTimeoutError)))
        })
    }
}

/// What a connection that goes on for ever would end with.
enum Never {}

impl Follow<'_> {
    async fn run(&mut self, reload: &Reload) -> Result<Never, ConnectError> {
        let since = SystemTime::now()
            .checked_sub(OVERLAP)
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let mut events = self.engine.events(since);
        self.read_all(&mut events).await?;
        let mut drift = tokio::time::interval(DRIFT_CHECK);
        drift.set_missed_tick_behavior(MissedTickBehavior::Delay);
        drift.reset();
        loop {
            self.inspect_dirty();
            let publish = self.publish_at();
            // What is about to be published needs no second reason.
            let expiry = if self.changed {
                None
            } else {
                self.inventory.next_change(Now::read())
            };
            tokio::select! {
                event = events.next() => self.note(event)?,
                Some((id, result)) = self.in_flight.next() => self.take(&id, result)?,
                () = at(publish) => self.publish(),
                () = at(expiry) => {
                    self.dirty.extend(self.inventory.overdue(Now::read()));
                    self.changed = true;
                }
                _ = drift.tick() => self.check_drift().await?,
                () = reload.requested() => self.read_all(&mut events).await?,
            }
        }
    }

    /// Reads every container and publishes once, when all are read.
    async fn read_all(
        &mut self,
        events: &mut (impl Stream<Item = Result<EventMessage, ClientError>> + Unpin),
    ) -> Result<(), ConnectError> {
        let engine = self.engine;
        let mut list = std::pin::pin!(engine.list());
        // The event stream opens when it is first polled, so it is polled along with the list.
        let listed = loop {
            tokio::select! {
                biased;
                event = events.next() => self.note(event)?,
                listed = &mut list => break listed?,
            }
        };
        let ids: BTreeSet<String> = listed.into_iter().filter_map(|summary| summary.id).collect();
        self.inventory.reconcile(&ids, self.policy, Now::read());
        self.dirty.extend(ids);
        while !(self.dirty.is_empty() && self.in_flight.is_empty()) {
            self.inspect_dirty();
            if let Some((id, result)) = self.in_flight.next().await {
                self.take(&id, result)?;
            }
        }
        self.publish();
        Ok(())
    }

    async fn check_drift(&mut self) -> Result<(), ConnectError> {
        let listed = self.engine.list().await?;
        for summary in &listed {
            let Some(id) = &summary.id else { continue };
            if self.inventory.get(id).is_none_or(|known| differs(known, summary)) {
                self.dirty.insert(id.clone());
            }
        }
        let ids: BTreeSet<String> = listed.into_iter().filter_map(|summary| summary.id).collect();
        // What is gone from the list is inspected before it counts as removed: it may have been made a moment ago.
        self.dirty.extend(self.inventory.absent_from(&ids));
        self.publication.read_again();
        Ok(())
    }

    /// Takes note of an event: which container is to be inspected.
    fn note(&mut self, event: Option<Result<EventMessage, ClientError>>) -> Result<(), ConnectError> {
        let event = match event {
            None => return Err(ConnectError::EventsEnded(self.engine.endpoint.to_string())),
            Some(Err(ClientError::HyperResponseError { .. } | ClientError::IOError { .. })) => {
                return Err(ConnectError::EventsEnded(self.engine.endpoint.to_string()));
            }
            // A single line that can't be understood ends the stream in the client, so the connection starts anew.
            Some(Err(error)) => return Err(ConnectError::from_client(&self.engine.endpoint, &error)),
            Some(Ok(event)) => event,
        };
        let news = Event::of(&event);
        let Some(actor) = event.actor else { return Ok(()) };
        let id = match event.typ {
            Some(EventMessageTypeEnum::CONTAINER) => {
                if let (Some(id), Some(news)) = (&actor.id, news) {
                    self.hear(id, &news);
                }
                actor.id
            }
            Some(EventMessageTypeEnum::NETWORK) => actor
                .attributes
                .and_then(|mut attributes| attributes.remove("container")),
            _ => None,
        };
        self.dirty.extend(id.filter(|id| !id.is_empty()));
        Ok(())
    }

    /// A container that leaves is published at once, whatever else is under way.
    fn hear(&mut self, id: &str, event: &Event) {
        let now = Now::read();
        if self.inventory.hear(id, event, now) {
            tracing::debug!(container = id, news = ?event.news, "a container leaves");
            self.publication
                .publish_departure(self.inventory.contribution(self.policy, now));
        } else {
            self.changed = true;
        }
    }

    fn inspect_dirty(&mut self) {
        let free = MAX_IN_FLIGHT.saturating_sub(self.in_flight.len());
        let ready = self.dirty.iter().filter(|id| !self.inspecting.contains(*id));
        let ready: Vec<String> = ready.take(free).cloned().collect();
        for id in ready {
            self.dirty.remove(&id);
            self.inspecting.insert(id.clone());
            self.in_flight.push(self.engine.inspect(id));
        }
    }

    fn take(
        &mut self,
        id: &str,
        result: Result<ContainerInspectResponse, ClientError>,
    ) -> Result<(), ConnectError> {
        self.inspecting.remove(id);
        let now = Now::read();
        // An event came while the engine was asked, so it is asked again, and this answer may be older than the event.
        if self.dirty.contains(id) && result.is_ok() {
            return Ok(());
        }
        match result {
            Ok(inspect) => match Container::from_inspect(inspect) {
                Some(container) => self.inventory.observe(container, now),
                None => self
                    .inventory
                    .observe_unreadable(id, "the engine's answer has no id".to_owned()),
            },
            Err(ClientError::DockerResponseServerError { status_code: 404, .. }) => {
                self.inventory.remove(id, self.policy, now);
            }
            Err(error) if concerns_one(&error) => self.inventory.observe_unreadable(id, error.to_string()),
            Err(error) => return Err(ConnectError::from_client(&self.engine.endpoint, &error)),
        }
        self.changed = true;
        Ok(())
    }

    /// When to publish next. A container the engine is slow with doesn't hold up the others for long.
    fn publish_at(&self) -> Option<Instant> {
        let patience = if self.in_flight.is_empty() {
            Duration::ZERO
        } else {
            PUBLISH_GAP
        };
        self.changed.then(|| self.publish_from + patience)
    }

    fn publish(&mut self) {
        let now = Now::read();
        self.inventory.expire(now);
        self.publication
            .publish(self.inventory.contribution(self.policy, now));
        self.changed = false;
        self.publish_from = now.instant + PUBLISH_GAP;
    }
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
