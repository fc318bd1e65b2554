//! The accept loop of a fault back end, and its control port.
//!
//! Control speaks HTTP: `PUT /behaviour` with a [`Behaviour`] as JSON, `GET /state`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Behaviour;
use super::connection;
use super::inbound::Inbound;
use super::journal::{Entry, Writer};

/// The listen queue when it is not to be full.
const BACKLOG: u32 = 1024;

/// What connections and control share.
#[derive(Debug)]
pub(super) struct Shared {
    name: String,
    journal: Writer,
    behaviour: watch::Sender<Behaviour>,
    /// SIGTERM has come.
    leaving: AtomicBool,
    accepted: AtomicU64,
    open: AtomicU64,
    random: AtomicU64,
}

impl Shared {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn behaviour(&self) -> Behaviour {
        *self.behaviour.borrow()
    }

    pub(super) fn write(&self, entry: &Entry) {
        self.journal.write(entry);
    }

    pub(super) fn closes_idle(&self) -> bool {
        self.leaving.load(Ordering::Relaxed) || self.behaviour() == Behaviour::FullQueue
    }

    /// Waits until this is so, looking at every change.
    pub(super) async fn until(&self, mut so: impl FnMut(&Self) -> bool) {
        let mut changes = self.behaviour.subscribe();
        while !so(self) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn draw(&self) -> u64 {
        // A linear congruential generator: which connections close is not what a test is about.
        let step = |state: u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        self.random
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .unwrap_or(0)
            >> 33
    }
}

/// A back end that listens.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    control: TcpListener,
}

impl Server {
    /// Listens on this port of 127.0.0.1, 0 for a free one, and on a free port for control.
    pub async fn bind(name: &str, port: u16, journal: &Path) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(([127, 0, 0, 1], port).into())?;
        Ok(Self {
            shared: Arc::new(Shared {
                name: name.to_owned(),
                journal: Writer::open(journal)?,
                behaviour: watch::Sender::new(Behaviour::OK),
                leaving: AtomicBool::new(false),
                accepted: AtomicU64::new(0),
                open: AtomicU64::new(0),
                random: AtomicU64::new(u64::from(std::process::id())),
            }),
            listener: socket.listen(BACKLOG)?,
            control: TcpListener::bind(("127.0.0.1", 0)).await?,
        })
    }

    /// Where it listens: for requests, for control.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.listener.local_addr()?, self.control.local_addr()?))
    }

    /// Serves until `leave` is ready; then lets requests under way finish, with `Connection: close`.
    pub async fn serve(self, leave: impl Future<Output = ()>) {
        let Self {
            shared,
            listener,
            control,
        } = self;
        let mut connections = JoinSet::new();
        let accepting = async {
            loop {
                tokio::select! {
                    () = accept(&listener, &shared, &mut connections) => {}
                    _ = control_once(&control, &listener, &shared) => {}
                }
            }
        };
        tokio::select! {
            () = accepting => {}
            () = leave => {}
        }
        drop(listener);
        shared.leaving.store(true, Ordering::Relaxed);
        shared.behaviour.send_modify(|_| {});
        while connections.join_next().await.is_some() {}
    }
}

/// Takes connections until the behaviour forbids it.
async fn accept(listener: &TcpListener, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    loop {
        shared
            .until(|shared| shared.behaviour() != Behaviour::FullQueue)
            .await;
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                stream.set_nodelay(true).unwrap_or_default();
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed);
                let shared = Arc::clone(shared);
                connections.spawn(async move {
                    shared.open.fetch_add(1, Ordering::Relaxed);
                    connection::serve(stream, &shared, number).await;
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Some(_) = connections.join_next() => {}
            () = shared.until(|shared| shared.behaviour() == Behaviour::FullQueue) => {}
        }
    }
}

/// Serves one connection of the control port.
async fn control_once(
    control: &TcpListener,
    listener: &TcpListener,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    let (stream, _) = control.accept().await?;
    let mut inbound = Inbound::new(stream);
    let head = inbound.head().await?;
    let body = inbound.body(head.framing, u64::MAX).await;
    let (status, text) = match (head.method.as_str(), head.target.as_str()) {
        ("PUT", "/behaviour") => match serde_json::from_slice(&body.bytes) {
            Ok(behaviour) => {
                switch(behaviour, listener, shared).await?;
                (200, json!({}))
            }
            Err(error) => (400, json!({ "error": error.to_string() })),
        },
        ("GET", "/state") => (200, state(shared)),
        _ => (404, json!({ "error": "PUT /behaviour, GET /state" })),
    };
    let text = text.to_string();
    inbound
        .write(
            format!(
                "HTTP/1.1 {status} {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )
            .as_bytes(),
        )
        .await?;
    inbound.finish().await;
    Ok(())
}

fn state(shared: &Shared) -> Value {
    json!({
        "backend": shared.name,
        "behaviour": shared.behaviour(),
        "accepted": shared.accepted.load(Ordering::Relaxed),
        "open": shared.open.load(Ordering::Relaxed),
    })
}

/// Changes the behaviour; when this returns it holds.
async fn switch(behaviour: Behaviour, listener: &TcpListener, shared: &Shared) -> std::io::Result<()> {
    let queue = socket2::SockRef::from(listener);
    if behaviour == Behaviour::FullQueue {
        queue.listen(0)?;
    } else {
        queue.listen(i32::try_from(BACKLOG).unwrap())?;
    }
    shared.behaviour.send_replace(behaviour);
    if behaviour == Behaviour::FullQueue {
        // Others may come first; what counts is that one gets no answer. Those that fit stay in the queue until the
        // heal: their sockets are forgotten to the process, and closed with it.
        while let Ok(connected) = tokio::time::timeout(
            Duration::from_millis(100),
            TcpStream::connect(listener.local_addr()?),
        )
        .await
        {
            std::mem::forget(connected?);
        }
    }
    Ok(())
}
