//! A cluster in memory, and nodes of it that listen and call.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use constellation_identity::tls::Credentials;
use constellation_identity::{
    Authority, ClusterId, Members, NODE_VALIDITY, NodeIdentity, NodeKey, NodeName, SigningRequest, Trust,
    UnixSeconds,
};
use constellation_link::{Counters, Handler, LinkError, Links, Membership, Server, Service};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// So long that only a hang takes it.
pub(crate) const HANG: Duration = Duration::from_secs(60);

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not come"))
}

/// Waits until something is so that nobody tells of.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    soon(what, async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(crate) fn name(text: &str) -> NodeName {
    text.parse().expect("a name")
}

pub(crate) struct Cluster {
    pub(crate) id: ClusterId,
    pub(crate) authority: Authority,
    members: Mutex<Members>,
    pub(crate) tell: watch::Sender<Membership>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let id = ClusterId::generate().expect("randomness");
        Self {
            id,
            authority: Authority::generate(id, UnixSeconds::now()).expect("an authority"),
            members: Mutex::default(),
            tell: watch::Sender::new(Membership::Only(Arc::default())),
        }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust::new(self.id, vec![self.authority.certificate().clone()]).expect("a trust")
    }

    /// Of a member, certified at a time.
    pub(crate) fn credentials(&self, node: &str, at: UnixSeconds) -> Credentials {
        let key = NodeKey::generate().expect("a key");
        let request = SigningRequest::parse(&key.signing_request().expect("a request")).expect("a request");
        let certificate = self
            .authority
            .certify(&name(node), &request, at, NODE_VALIDITY)
            .expect("a certificate");
        let public = key.public_key();
        self.members.lock().expect("members").insert(name(node), public);
        self.publish();
        Credentials::new(certificate, key, self.trust(), at).expect("credentials")
    }

    pub(crate) fn remove(&self, node: &str) {
        self.remove_silently(node);
        self.publish();
    }

    /// Nobody is told yet.
    pub(crate) fn remove_silently(&self, node: &str) {
        assert!(self.members.lock().expect("members").remove(&name(node)));
    }

    pub(crate) fn publish(&self) {
        let members = self.members.lock().expect("members").clone();
        self.tell.send_replace(Membership::Only(Arc::new(members)));
    }

    pub(crate) async fn node(&self, node: &str) -> Node<Echo> {
        let credentials = self.credentials(node, UnixSeconds::now());
        self.node_with(node, credentials, Arc::default(), "127.0.0.1:0")
            .await
    }

    pub(crate) async fn node_with<H: Handler>(
        &self,
        node: &str,
        credentials: impl Into<Arc<Credentials>>,
        handler: Arc<H>,
        address: &str,
    ) -> Node<H> {
        let listener = listen(address).await;
        let address = listener.local_addr().expect("an address");
        let credentials = watch::Sender::new(credentials.into());
        let counters = Arc::new(Counters::default());
        let (mesh, streams) = mpsc::channel(1);
        let server = Server::new(
            listener,
            Arc::clone(&handler),
            credentials.subscribe(),
            self.tell.subscribe(),
            Some(mesh),
            Arc::clone(&counters),
        );
        let stop = CancellationToken::new();
        let outgoing = Arc::new(Counters::default());
        Node {
            name: name(node),
            address,
            links: Links::new(
                credentials.subscribe(),
                self.tell.subscribe(),
                Arc::clone(&outgoing),
            ),
            credentials,
            handler,
            counters,
            outgoing,
            streams,
            running: tokio::spawn(server.run(stop.clone())),
            stop,
        }
    }
}

/// The port may be another one's for a moment.
async fn listen(address: &str) -> TcpListener {
    soon("the port", async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
}

pub(crate) struct Node<H> {
    pub(crate) name: NodeName,
    pub(crate) address: SocketAddr,
    pub(crate) links: Links,
    pub(crate) credentials: watch::Sender<Arc<Credentials>>,
    pub(crate) handler: Arc<H>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) outgoing: Arc<Counters>,
    pub(crate) streams: mpsc::Receiver<std::net::TcpStream>,
    running: JoinHandle<()>,
    stop: CancellationToken,
}

impl<H> Node<H> {
    /// Stops its server, and returns when that has ended.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        soon("the end of the server", &mut self.running)
            .await
            .expect("a server that ends well");
    }

    /// Calls another node where it listens.
    pub(crate) async fn call<O>(
        &self,
        other: &Node<O>,
        service: Service,
        body: impl Into<Vec<u8>>,
    ) -> Result<Vec<u8>, LinkError> {
        self.call_at(&other.name, &other.address.to_string(), service, body)
            .await
    }

    pub(crate) async fn call_at(
        &self,
        node: &NodeName,
        address: &str,
        service: Service,
        body: impl Into<Vec<u8>>,
    ) -> Result<Vec<u8>, LinkError> {
        self.links
            .call(node, &[address.to_owned()], service, body.into(), HANG)
            .await
    }
}

/// Answers with who asked and what; some words it takes as orders.
pub(crate) struct Echo {
    gate: watch::Sender<bool>,
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            gate: watch::Sender::new(false),
            inside: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }
}

impl Echo {
    /// Lets those go that were told to wait.
    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }

    /// How many are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    /// The most that waited at a time.
    pub(crate) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

impl Handler for Echo {
    async fn answer(&self, from: &NodeIdentity, service: Service, body: Vec<u8>) -> Option<Vec<u8>> {
        if service == Service::Bulk {
            let length = std::str::from_utf8(&body).ok()?.parse().ok()?;
            return Some(vec![7; length]);
        }
        match &*body {
            b"drop" => return None,
            b"panic" => panic!("as it was told"),
            b"never" => std::future::pending().await,
            b"wait" => {
                let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(inside, Ordering::SeqCst);
                self.gate
                    .subscribe()
                    .wait_for(|open| *open)
                    .await
                    .expect("a gate");
                self.inside.fetch_sub(1, Ordering::SeqCst);
            }
            _ => {}
        }
        Some([from.node.as_str().as_bytes(), b": ", &body].concat())
    }

    async fn join(&self, body: Vec<u8>) -> Option<Vec<u8>> {
        (body != b"drop").then(|| [b"joined: ", &*body].concat())
    }
}

/// The answer of [`Echo`].
pub(crate) fn echoed<H>(from: &Node<H>, body: impl AsRef<[u8]>) -> Vec<u8> {
    [from.name.as_str().as_bytes(), b": ", body.as_ref()].concat()
}
