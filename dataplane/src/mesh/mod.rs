//! Between nodes: what a node has no instance of is served by one that has.
//!
//! A connection between two nodes is TCP, TLS with certificates on both sides, and HTTP/2 in it, with prior knowledge. Each
//! stream is a request with the name of its service ([`head`]), or a tunnel that carries a connection or datagrams
//! ([`tunnel`]). [`links`] keeps a worker's connections to other nodes; [`inlet`] and [`arrival`] serve those of other nodes, and only by
//! instances that are this node's own, so that nothing ever goes round in circles. [`relay`] carries whole connections of
//! an entry point to the node that holds the edge.
//!
//! Who belongs to the cluster, with which certificates and at which addresses, is told from outside: [`View`].

mod arrival;
mod datagrams;
pub mod head;
mod inlet;
mod io;
mod links;
mod outlet;
mod pair;
mod relay;
mod tunnel;
pub mod unanswered;

use std::collections::HashMap;
use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::{ClientConfig, CommonState, ServerConfig};
use tokio::sync::{Mutex, Notify, mpsc, watch};

pub(crate) use datagrams::{bridge as bridge_datagrams, serve as serve_datagrams};
pub(crate) use inlet::{ENTRY_POINT, Inlet, NAME, entry_point};
pub(crate) use links::Links;
pub(crate) use outlet::{Refused, request_stream, tcp_stream, upgrade_stream};
pub(crate) use relay::{Arrived, relay};

/// The protocol between nodes, as TLS names it.
pub const ALPN: &[u8] = b"constellation-mesh/1";
/// Connections of other nodes that wait for a worker.
const WAITING: usize = 256;

/// Says which node a TLS session is with, from the certificate that the handshake has checked; `None`: of none that
/// belongs here.
pub type Admits = dyn Fn(&CommonState) -> Option<Arc<str>> + Send + Sync;

/// The other nodes, as of now.
#[derive(Clone)]
pub struct View {
    /// TLS towards nodes that connect; asks for certificates, and offers [`ALPN`].
    pub server: Arc<ServerConfig>,
    /// Whom it was. `None`: who belongs here is not known yet, and connections of other nodes wait until it is.
    pub admits: Option<Arc<Admits>>,
    /// The nodes that can be connected to, by name.
    pub nodes: HashMap<Arc<str>, Node>,
}

/// Another node.
#[derive(Clone, Debug)]
pub struct Node {
    /// TLS towards this node and no other; offers [`ALPN`].
    pub client: Arc<ClientConfig>,
    /// `HOST:PORT` of its port for other nodes, in the order to try.
    pub addresses: Arc<[String]>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("nodes", &self.nodes).finish()
    }
}

/// What connections at public entry points are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// This node serves them.
    #[default]
    Serve,
    /// That node serves them: each new TCP connection is carried there as it is.
    Relay {
        /// The node's name.
        node: Arc<str>,
    },
    /// Nobody: new connections are closed.
    Refuse,
    /// It is not known yet, as just after the start of a process that replaces another one: new connections wait for a
    /// moment.
    Undecided,
}

/// This node's place among the others. Clones share it. Alone, and serving what comes, until something else is said.
#[derive(Clone)]
pub struct Mesh(Arc<Shared>);

struct Shared {
    view: ArcSwapOption<View>,
    role: ArcSwap<Role>,
    role_changed: Notify,
    arrivals: mpsc::Sender<TcpStream>,
    /// Whether it is known who belongs here.
    admitting: watch::Sender<bool>,
    /// Workers take turns at waiting here.
    waiting: Mutex<mpsc::Receiver<TcpStream>>,
}

impl Default for Mesh {
    fn default() -> Self {
        let (arrivals, waiting) = mpsc::channel(WAITING);
        Self(Arc::new(Shared {
            view: ArcSwapOption::empty(),
            role: ArcSwap::default(),
            role_changed: Notify::new(),
            arrivals,
            admitting: watch::Sender::new(false),
            waiting: Mutex::new(waiting),
        }))
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("view", &*self.0.view.load())
            .field("role", &*self.0.role.load())
            .finish()
    }
}

impl Mesh {
    /// Goes by this view from now on; `None`: there are no others. Connections that are open stay open while their node
    /// is in the view.
    pub fn set_view(&self, view: Option<View>) {
        let admitting = view.as_ref().is_some_and(|view| view.admits.is_some());
        self.0.view.store(view.map(Arc::new));
        self.0.admitting.send_replace(admitting);
    }

    /// Goes by this role from now on; connections that are open stay where they are.
    pub fn set_role(&self, role: Role) {
        self.0.role.store(Arc::new(role));
        self.0.role_changed.notify_waiters();
    }

    /// Where connections of other nodes are handed in, before TLS. The workers take turns. A full queue means that none
    /// of them keeps up: what doesn't fit is better closed than kept.
    pub fn inlet(&self) -> mpsc::Sender<TcpStream> {
        self.0.arrivals.clone()
    }

    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.0.view.load_full()
    }

    /// What connections at public entry points are for now.
    pub fn role(&self) -> Arc<Role> {
        self.0.role.load_full()
    }

    /// Waits until the role is another one. Cancel safe.
    pub(crate) async fn role_other_than(&self, role: &Role) {
        loop {
            // What changes from here on wakes.
            let changed = self.0.role_changed.notified();
            if **self.0.role.load() != *role {
                return;
            }
            changed.await;
        }
    }

    /// The next connection of another node, for one of the workers, once it is known who belongs here. Cancel safe.
    pub(crate) async fn arrival(&self) -> Option<TcpStream> {
        let mut waiting = self.0.waiting.lock().await;
        self.admitting().await?;
        waiting.recv().await
    }

    /// The view, once it is known who belongs here.
    pub(crate) async fn admitting_view(&self) -> Option<Arc<View>> {
        self.admitting().await?;
        self.view()
    }

    async fn admitting(&self) -> Option<()> {
        let mut admitting = self.0.admitting.subscribe();
        admitting.wait_for(|admitting| *admitting).await.ok().map(drop)
    }

    /// What was handed in and no worker has taken. For a worker that takes no more: these have been accepted already.
    pub(crate) fn arrived(&self) -> Option<TcpStream> {
        // Whoever waits there takes what is there.
        self.0.waiting.try_lock().ok()?.try_recv().ok()
    }
}
