//! Calls to other nodes: one connection for each (node, [`Lane`]), opened when there is something to say, opened anew when it is
//! dead or made with credentials that have been replaced since.
//!
//! Who calls waits at most as long as it says; an attempt to connect goes on without it, for whoever calls next.

mod connection;
mod dial;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use constellation_identity::NodeName;
use constellation_identity::tls::Credentials;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::counters::Counters;
use crate::error::LinkError;
use crate::frame::Service;
use crate::membership::{self, Membership};
pub(crate) use dial::any;

use connection::Connection;

/// How long a node that could not be reached is left alone.
const BACKOFF: Duration = Duration::from_millis(50);
/// How long one is left alone that refused, or was refused: somebody has to do something about it first.
const REFUSED_BACKOFF: Duration = Duration::from_secs(1);

/// Calls that share a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// The replicated log alone: its heartbeats wait behind nothing that is large and none of theirs.
    Raft,
    /// All others.
    Other,
}

impl Lane {
    /// The one of a service.
    #[must_use]
    pub fn of(service: Service) -> Self {
        match service {
            Service::Raft => Self::Raft,
            Service::Control | Service::Bulk => Self::Other,
        }
    }
}

/// The way to all other nodes. Its copies are the same.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    credentials: watch::Receiver<Arc<Credentials>>,
    members: watch::Receiver<Membership>,
    counters: Arc<Counters>,
    ways: Mutex<HashMap<(NodeName, Lane), Way>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A connection that is there, or is to be, or could not be.
struct Way {
    /// Where the node was looked for.
    addresses: Vec<String>,
    state: State,
}

/// Where a connection stands.
enum State {
    /// Somebody opens it. What comes of it is in there.
    Connecting(watch::Receiver<Option<Result<Arc<Connection>, LinkError>>>),
    /// It is open, or was.
    Open(Arc<Connection>),
    /// It could not be opened then.
    Failed(Instant, LinkError),
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("stopped", &self.0.stop.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Links {
    /// With the credentials of this node. New ones are used for what is opened later; what is open goes on until the calls
    /// on it are answered. A connection to a node that is no member any more is cut.
    #[must_use]
    pub fn new(
        credentials: watch::Receiver<Arc<Credentials>>,
        members: watch::Receiver<Membership>,
        counters: Arc<Counters>,
    ) -> Self {
        Self(Arc::new(Inner {
            credentials,
            members,
            counters,
            ways: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Brings `body` to a service of `node`, and its answer back.
    ///
    /// `addresses` are HOST:PORT, tried in this order, each a little after the one before, when a connection has to be opened;
    /// names are resolved then. Whoever answers there has to be `node`. The future may be dropped: the request may have arrived.
    ///
    /// # Errors
    /// [`LinkError`] says whether the request may have arrived. Nothing is repeated here.
    pub async fn call(
        &self,
        node: &NodeName,
        addresses: &[String],
        service: Service,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Vec<u8>, LinkError> {
        let (size, limit) = (body.len(), service.request_limit());
        if size > limit {
            return Err(LinkError::TooLarge { service, size, limit });
        }
        let started = Instant::now();
        let connection = match timeout(within, self.connection(node, addresses, Lane::of(service))).await {
            Ok(connection) => connection?,
            Err(_) => {
                return Err(LinkError::Unreachable {
                    peer: peer(node),
                    detail: format!("no connection to {} within {within:?}", addresses.join(", ")),
                });
            }
        };
        let left = within.saturating_sub(started.elapsed());
        match timeout(left, connection.call(service, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(LinkError::NoAnswer {
                peer: peer(node),
                detail: format!("nothing came within {within:?}"),
            }),
        }
    }

    /// Ends every connection, and returns when all is ended. Calls in flight and later ones fail.
    pub async fn shut_down(&self) {
        {
            let _nothing_begins = self.lock();
            self.0.stop.cancel();
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(NodeName, Lane), Way>> {
        self.0.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(
        &self,
        node: &NodeName,
        addresses: &[String],
        lane: Lane,
    ) -> Result<Arc<Connection>, LinkError> {
        let mut attempt = match self.find(node, addresses, lane)? {
            Found::Open(connection) => return Ok(connection),
            Found::Connecting(attempt) => attempt,
        };
        let result = attempt.wait_for(Option::is_some).await;
        match result {
            Ok(result) => result.clone().unwrap_or(Err(LinkError::Stopped)),
            // Its task was dropped, with the runtime.
            Err(_) => Err(LinkError::Stopped),
        }
    }

    /// What there is, or an attempt that begins now.
    fn find(&self, node: &NodeName, addresses: &[String], lane: Lane) -> Result<Found, LinkError> {
        let latest = Arc::clone(&self.0.credentials.borrow());
        let mut ways = self.lock();
        if self.0.stop.is_cancelled() {
            return Err(LinkError::Stopped);
        }
        let key = (node.clone(), lane);
        if let Some(way) = ways.get(&key) {
            match &way.state {
                // Unless its task is gone and has said nothing.
                State::Connecting(attempt) if attempt.has_changed().is_ok() => {
                    return Ok(Found::Connecting(attempt.clone()));
                }
                State::Open(connection) if connection.is_of(&latest) => match connection.ended() {
                    None => return Ok(Found::Open(Arc::clone(connection))),
                    Some(end) if end.fruitless && way.rests(addresses, end.at, &end.error) => {
                        return Err(end.unsent());
                    }
                    Some(_) => {}
                },
                State::Failed(at, error) if way.rests(addresses, *at, error) => return Err(error.clone()),
                State::Connecting(_) | State::Open(_) | State::Failed(..) => {}
            }
        }
        let (tell, attempt) = watch::channel(None);
        let way = Way {
            addresses: addresses.to_vec(),
            state: State::Connecting(attempt.clone()),
        };
        ways.insert(key.clone(), way);
        // Under the lock, so that nothing begins after the end of the links.
        self.0
            .tasks
            .spawn(self.clone().open(key, addresses.to_vec(), latest, tell));
        drop(ways);
        Ok(Found::Connecting(attempt))
    }

    /// Opens a connection and serves it until its end.
    async fn open(
        self,
        key: (NodeName, Lane),
        addresses: Vec<String>,
        credentials: Arc<Credentials>,
        tell: watch::Sender<Option<Result<Arc<Connection>, LinkError>>>,
    ) {
        let dialled = tokio::select! {
            () = self.0.stop.cancelled() => Err(LinkError::Stopped),
            dialled = async {
                let members = self.0.members.borrow().clone();
                dial::peer(&key.0, &addresses, &credentials, &members).await
            } => dialled,
        };
        self.0.counters.connect(dialled.is_ok());
        let (result, stream) = match dialled {
            Ok((stream, identity)) => {
                let (connection, served) = Connection::new(peer(&key.0), credentials);
                (Ok(Arc::new(connection)), Some((stream, identity, served)))
            }
            Err(error) => (Err(error), None),
        };
        let state = match &result {
            Ok(connection) => State::Open(Arc::clone(connection)),
            Err(error) => State::Failed(Instant::now(), error.clone()),
        };
        // Together, so that nobody finds the one without the other.
        self.lock().insert(key, Way { addresses, state });
        tell.send_replace(Some(result));
        drop(tell);
        if let Some((stream, identity, served)) = stream {
            let removed = async {
                membership::removed(&self.0.members, &identity).await;
                membership::not_a_member(&identity.node)
            };
            served
                .serve(stream, removed, &self.0.counters, &self.0.stop)
                .await;
        }
    }
}

enum Found {
    Open(Arc<Connection>),
    Connecting(watch::Receiver<Option<Result<Arc<Connection>, LinkError>>>),
}

impl Way {
    /// Whether the node is left alone still. At other addresses it is looked for at once.
    fn rests(&self, addresses: &[String], since: Instant, error: &LinkError) -> bool {
        let rest = match error {
            LinkError::Refused { .. } => REFUSED_BACKOFF,
            _ => BACKOFF,
        };
        self.addresses == addresses && since.elapsed() < rest
    }
}

fn peer(node: &NodeName) -> String {
    format!("node {node}")
}
